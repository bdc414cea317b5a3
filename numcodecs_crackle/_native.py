"""The only room that sees cffi: owns every pointer, turns status codes into exceptions.

Nothing here checks what a caller may sensibly ask for; that is done above. What is done
here is done once: buffers, scratch memory and errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import limits
from numcodecs_crackle._crackle import ffi, lib
from numcodecs_crackle.errors import FormatError, UnsupportedError
from numcodecs_crackle.ranges import run_ranges

# Scratch memory waits here for the next call, whichever thread makes it. deque's
# append and pop are atomic. What grew large is given back to the system at once.
_idle: deque[Any] = deque()
_IDLE_MOST = 32
_IDLE_BYTES = 32 << 20

# The group of labels that take no part in a fold.
NO_GROUP = 0xFFFFFFFF

_new_error = ffi.typeof("struct crackle_error *")
_new_pointer = ffi.typeof("struct crackle_stream **")
_new_header = ffi.typeof("struct crackle_header *")


@contextmanager
def _workspace() -> Iterator[Any]:
    try:
        workspace = _idle.pop()
    except IndexError:
        workspace = lib.crackle_workspace_new()
        if not workspace:
            raise MemoryError("no memory for scratch space") from None
    try:
        yield workspace
    finally:
        if len(_idle) < _IDLE_MOST and lib.crackle_workspace_bytes(workspace) < _IDLE_BYTES:
            _idle.append(workspace)
        else:
            lib.crackle_workspace_free(workspace)


def idle_bytes() -> int:
    """Scratch memory that waits for the next call."""
    return sum(lib.crackle_workspace_bytes(workspace) for workspace in list(_idle))


def _raise(error: Any) -> None:
    reason = ffi.string(error.what).decode()
    if error.status == lib.CRACKLE_NO_MEMORY:
        raise MemoryError(reason)
    if error.status == lib.CRACKLE_BAD_ARGUMENT:
        raise ValueError(reason)
    kind = UnsupportedError if error.status == lib.CRACKLE_UNSUPPORTED else FormatError
    section = None
    if error.section != lib.CRACKLE_SECTION_NONE:
        section = ffi.string(lib.crackle_section_name(error.section)).decode()
    raise kind(reason, section, None if error.slice < 0 else error.slice)


def _pointer(kind: str, array: npt.NDArray[Any] | None, writable: bool = False) -> Any:
    """The memory of a contiguous array, or NULL."""
    if array is None:
        return ffi.NULL
    return ffi.from_buffer(kind, array, require_writable=writable)


def cpu_level() -> int:
    """The CPU level in use: 0 portable, 1 SSE4.2, 2 AVX2."""
    return int(lib.crackle_cpu_level())


def cpu_select(level: int) -> int:
    """Use a CPU level, or the highest below it; for tests. Returns the one in use."""
    return int(lib.crackle_cpu_select(level))


def crc8(data: bytes) -> int:
    return int(lib.crackle_crc8(data, len(data)))


def crc32c(data: bytes, crc: int = 0) -> int:
    return int(lib.crackle_crc32c(crc, ffi.from_buffer(data), len(data)))


def read_header(data: Any, ignore_crc: bool = False) -> Any:
    """The C struct of the header in the first bytes of a buffer."""
    header, error = ffi.new(_new_header), ffi.new(_new_error)
    buffer = ffi.from_buffer(data)
    if lib.crackle_header_read(buffer, len(buffer), ignore_crc, header, error):
        _raise(error)
    return header


class Stream:
    """An opened stream: its sections are checked, its slices not yet.

    With ``tolerant`` damage in the index and the labels is noted in ``damaged``, a set of
    section names, instead of raised.
    """

    __slots__ = ("_buffer", "_stream", "damaged", "header", "max_voxels")

    def __init__(self, data: Any, tolerant: bool = False) -> None:
        self._stream = ffi.NULL
        self.max_voxels: int | None = None
        pointer, error = ffi.new(_new_pointer), ffi.new(_new_error)
        self._buffer = ffi.from_buffer(data)  # keeps the bytes alive, and from moving
        self.damaged: set[str] = set()
        mask = ffi.new("uint32_t *") if tolerant else ffi.NULL
        failed = lib.crackle_open(self._buffer, len(self._buffer), pointer, mask, error)
        if failed and (not tolerant or error.status == lib.CRACKLE_NO_MEMORY):
            _raise(error)
        if tolerant:
            self.damaged = {
                ffi.string(lib.crackle_section_name(i)).decode()
                for i in range(lib.CRACKLE_SECTION_COMPONENTS + 1)
                if mask[0] >> i & 1
            }
        self._stream = pointer[0]
        # None if all is damaged, which only a tolerant caller sees.
        self.header: Any = None
        if self._stream != ffi.NULL:
            self.header = lib.crackle_stream_header(self._stream)

    # When Python ends the names of this module may be gone before its streams are.
    def __del__(self, _null: Any = ffi.NULL, _close: Any = lib.crackle_close) -> None:
        if self._stream != _null:
            _close(self._stream)

    @property
    def nbytes(self) -> int:
        """The length of the stream."""
        return len(self._buffer)

    @property
    def pixels(self) -> int:
        """Voxels of one slice."""
        return int(self.header.sx) * int(self.header.sy)

    @property
    def slices(self) -> int:
        """Slices with voxels: of an empty volume none, whatever its header says of sz."""
        return int(self.header.sz) if self.pixels else 0

    def allow(self, slices: int, most: int | None = None) -> None:
        """FormatError if so many slices have more voxels than the stream is believed to have.

        ``most``: voxels, if the caller says it. All that reads borders asks, but for `decode`:
        there those do who make the array; and `pin`, of what was made here.
        """
        limits.check(slices, self.pixels, self.nbytes, self.max_voxels if most is None else most)

    def unique(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
        """The table of labels, in stored width and order, and the background if any."""
        h = self.header
        kind = "i" if h.is_signed else "u"
        dtype = np.dtype(f"<{kind}{h.stored_width}")
        count, background = ffi.new("uint64_t *"), ffi.new("uint8_t **")
        pointer = lib.crackle_unique(self._stream, count, background)
        if pointer == ffi.NULL:
            return np.zeros(0, dtype), None
        table = np.frombuffer(ffi.buffer(pointer, count[0] * dtype.itemsize)[:], dtype)
        if background[0] == ffi.NULL:
            return table, None
        return table, np.frombuffer(ffi.buffer(background[0], dtype.itemsize)[:], dtype)

    def labels_in(self, z0: int, z1: int) -> tuple[npt.NDArray[np.bool_], bool]:
        """Which entries of the table components in [z0, z1) have; and if that is exact."""
        count, background = ffi.new("uint64_t *"), ffi.new("uint8_t **")
        lib.crackle_unique(self._stream, count, background)
        used = np.zeros(count[0], np.bool_)
        components, exact, error = ffi.new("uint64_t *"), ffi.new("int *"), ffi.new(_new_error)
        pointer = ffi.from_buffer("uint8_t[]", used, require_writable=True)
        if lib.crackle_labels_in(self._stream, z0, z1, pointer, components, exact, error):
            _raise(error)
        return used, bool(exact[0])

    def slices_with(self, label: int) -> tuple[npt.NDArray[np.bool_], bool]:
        """Which slices have a label; and if that is exact (else some may not)."""
        sz = self.slices
        flags = np.zeros(sz, np.bool_)
        exact, error = ffi.new("int *"), ffi.new(_new_error)
        pointer = ffi.from_buffer("uint8_t[]", flags, require_writable=True)
        wanted = label & 0xFFFFFFFFFFFFFFFF
        if lib.crackle_slices_with(self._stream, wanted, 0, sz, pointer, exact, error):
            _raise(error)
        return flags, bool(exact[0])

    def decode(
        self,
        out: npt.NDArray[Any],
        z0: int,
        z1: int,
        c_order: bool,
        label: int | None = None,
        parallel: int = 1,
    ) -> None:
        """Decode slices [z0, z1) into ``out``, a flat contiguous array of exactly them."""
        buffer = ffi.from_buffer(out, require_writable=True)
        wanted = ffi.NULL
        if label is not None:
            wanted = ffi.new("uint64_t *", label & 0xFFFFFFFFFFFFFFFF)

        def run(a: int, b: int) -> None:
            error = ffi.new(_new_error)
            with _workspace() as workspace:
                if lib.crackle_decode(
                    self._stream, workspace, z0 + a, z0 + b, wanted,
                    buffer, out.nbytes, z0, z1, c_order, error,
                ):  # fmt: skip
                    _raise(error)

        step = 64 // out.itemsize if c_order else 1
        run_ranges(run, z1 - z0, self.pixels, parallel, step)

    def check_slices(self, parallel: int = 0) -> npt.NDArray[np.bool_]:
        """Which slices are damaged."""
        self.allow(self.slices)

        def run(z0: int, z1: int) -> npt.NDArray[np.bool_]:
            error = ffi.new(_new_error)
            damaged = np.zeros(z1 - z0, np.bool_)
            pointer = ffi.from_buffer("uint8_t[]", damaged, require_writable=True)
            with _workspace() as workspace:
                if lib.crackle_check_slices(self._stream, workspace, z0, z1, pointer, error):
                    _raise(error)
            return damaged

        return np.concatenate(run_ranges(run, self.slices, self.pixels, parallel))

    def _fold(
        self,
        call: Callable[[int, int, Any, Any], int],
        z0: int,
        z1: int,
        parallel: int,
        walks: bool = True,
    ) -> None:
        """Call call(z0, z1, workspace, error) for ranges that cover [z0, z1), in threads.

        ``walks``: it reads borders; else it does not take long, and one thread does.
        """
        if walks:
            self.allow(z1 - z0)

        def run(a: int, b: int) -> None:
            error = ffi.new(_new_error)
            with _workspace() as workspace:
                if call(z0 + a, z0 + b, workspace, error):
                    _raise(error)

        run_ranges(run, z1 - z0, self.pixels, parallel if walks else 1)

    def measure(
        self,
        group: npt.NDArray[np.uint32],
        num_groups: int,
        *,
        boxes: bool = False,
        sums: bool = False,
        wanted: npt.NDArray[np.bool_] | None = None,
        parallel: int = 1,
    ) -> tuple[
        npt.NDArray[np.uint64], npt.NDArray[np.uint32] | None, npt.NDArray[np.uint64] | None
    ]:
        """By group: voxels; lowest and highest x, y, z, inclusive; sums of x, y, z.

        ``wanted``: the slices that are not skipped.
        """
        parts: list[Any] = []

        def call(z0: int, z1: int, workspace: Any, error: Any) -> int:
            count = np.zeros(num_groups, np.uint64)
            box = np.zeros((num_groups, 6), np.uint32) if boxes else None
            total = np.zeros((num_groups, 3), np.uint64) if sums else None
            parts.append((count, box, total))
            return int(
                lib.crackle_measure(
                    self._stream, workspace, z0, z1,
                    _pointer("uint8_t[]", None if wanted is None else wanted[z0:z1]),
                    _pointer("uint32_t[]", group), _pointer("uint64_t[]", count, True),
                    _pointer("uint32_t[]", box, True), _pointer("uint64_t[]", total, True), error,
                )
            )  # fmt: skip

        self._fold(call, 0, self.slices, parallel)
        count, box, total = parts[0]
        for more, more_box, more_total in parts[1:]:
            if box is not None:
                low, high = box[:, :3], box[:, 3:]
                new, both = (count == 0) & (more > 0), (count > 0) & (more > 0)
                box[new] = more_box[new]
                np.minimum(low, more_box[:, :3], out=low, where=both[:, None])
                np.maximum(high, more_box[:, 3:], out=high, where=both[:, None])
            if total is not None:
                total += more_total
            count += more
        return count, box, total

    def contacts(self, group: npt.NDArray[np.uint32], parallel: int = 1) -> list[npt.NDArray[Any]]:
        """Lists of `PAIR`: groups a < b, and their common faces across x, y, z."""
        lists: list[npt.NDArray[Any]] = []

        def call(z0: int, z1: int, workspace: Any, error: Any) -> int:
            pairs, count = ffi.new("struct crackle_pair **"), ffi.new("size_t *")
            status = lib.crackle_contacts(
                self._stream, workspace, z0, z1, _pointer("uint32_t[]", group), pairs, count, error
            )
            lists.append(_taken_pairs(pairs, count))
            return int(status)

        self._fold(call, 0, self.slices, parallel)
        return lists

    def overlay(
        self,
        other: Stream,
        group: npt.NDArray[np.uint32],
        other_group: npt.NDArray[np.uint32],
        different: bool = False,
        parallel: int = 1,
    ) -> list[npt.NDArray[Any]]:
        """Lists of `PAIR`: a here, b in the other stream; how many voxels in counts[2].

        ``different``: only unlike groups, of the first slice that is found to have some.
        """
        lists: list[npt.NDArray[Any]] = []
        self.allow(self.slices)

        def run(z0: int, z1: int) -> None:
            if different and any(map(len, lists)):
                return
            pairs, count = ffi.new("struct crackle_pair **"), ffi.new("size_t *")
            error = ffi.new(_new_error)
            with _workspace() as first, _workspace() as second:
                if lib.crackle_overlay(
                    self._stream, first, _pointer("uint32_t[]", group),
                    other._stream, second, _pointer("uint32_t[]", other_group),
                    z0, z1, different, pairs, count, error,
                ):  # fmt: skip
                    _raise(error)
            lists.append(_taken_pairs(pairs, count))

        run_ranges(run, self.header.sz, self.pixels, parallel)
        return lists

    def same_borders(
        self,
        other: Stream,
        group: npt.NDArray[np.uint32],
        other_group: npt.NDArray[np.uint32],
        parallel: int = 1,
    ) -> bool:
        """Whether two streams of one size have the same borders between groups."""
        answers: list[bool] = []
        self.allow(self.slices)

        def run(z0: int, z1: int) -> None:
            if not all(answers):
                return
            same, error = ffi.new("int *"), ffi.new(_new_error)
            with _workspace() as first, _workspace() as second:
                if lib.crackle_same_borders(
                    self._stream, first, _pointer("uint32_t[]", group),
                    other._stream, second, _pointer("uint32_t[]", other_group),
                    z0, z1, same, error,
                ):  # fmt: skip
                    _raise(error)
            answers.append(bool(same[0]))

        run_ranges(run, self.header.sz, self.pixels, parallel)
        return all(answers)

    def surface(
        self,
        group: npt.NDArray[np.uint32],
        num_groups: int,
        z0: int,
        z1: int,
        dtype: npt.DTypeLike,
        parallel: int = 1,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint64]]:
        """The surface voxels of slices [z0, z1): points (n, 3), and where each group's end."""
        cursors: dict[int, npt.NDArray[np.uint64]] = {}
        points: npt.NDArray[Any] | None = None
        width = np.dtype(dtype).itemsize

        def call(a: int, b: int, workspace: Any, error: Any) -> int:
            cursor = cursors.setdefault(a, np.zeros(num_groups, np.uint64))
            return int(
                lib.crackle_surface(
                    self._stream, workspace, a, b, _pointer("uint32_t[]", group),
                    _pointer("uint64_t[]", cursor, True),
                    ffi.NULL if points is None else ffi.from_buffer(points),
                    0 if points is None else len(points), width, error,
                )
            )  # fmt: skip

        self._fold(call, z0, z1, parallel)  # counts
        counts = np.array([cursors[a] for a in sorted(cursors)])
        ends = np.cumsum(counts.T).reshape(num_groups, len(counts)).astype(np.uint64)
        for i, a in enumerate(sorted(cursors)):
            cursors[a] = ends[:, i] - counts[i]
        points = np.empty((int(ends[-1, -1]) if ends.size else 0, 3), dtype)
        if len(points):
            self._fold(call, z0, z1, parallel)  # writes
        return points, ends[:, -1]

    def connectivity_graph(
        self,
        group: npt.NDArray[np.uint32],
        connectivity: int,
        out: npt.NDArray[np.uint8],
        parallel: int = 1,
    ) -> None:
        """The voxel connectivity graph to ``out``, a byte for each voxel, x fastest."""

        def call(z0: int, z1: int, workspace: Any, error: Any) -> int:
            part = out[z0 * self.pixels : z1 * self.pixels]
            return int(
                lib.crackle_connectivity_graph(
                    self._stream, workspace, z0, z1, _pointer("uint32_t[]", group),
                    connectivity, _pointer("uint8_t[]", part, True), part.nbytes, error,
                )
            )  # fmt: skip

        self._fold(call, 0, self.slices, parallel)

    def link(
        self,
        group: npt.NDArray[np.uint32],
        connectivity: int,
        parent: npt.NDArray[np.uint32],
        z0: int,
        z1: int,
    ) -> None:
        """Join in ``parent`` the components of [z0, z1) that are connected and of one group."""

        def call(z0: int, z1: int, workspace: Any, error: Any) -> int:
            return int(
                lib.crackle_link(
                    self._stream, workspace, z0, z1, _pointer("uint32_t[]", group), connectivity,
                    _pointer("uint32_t[]", parent, True), error,
                )
            )  # fmt: skip

        self._fold(call, z0, z1, 1)

    def first_components(self) -> npt.NDArray[np.uint64]:
        """The volume-wide id of each slice's first component, and their number."""
        pointer = lib.crackle_first_components(self._stream)
        sz = self.slices
        if pointer == ffi.NULL:
            return np.zeros(sz + 1, np.uint64)
        return np.frombuffer(ffi.buffer(pointer, 8 * (sz + 1))[:], np.uint64)

    def keys(self, parallel: int = 1) -> npt.NDArray[np.uint32]:
        """Each component's place in the table; the table's length for the background."""
        first = self.first_components()
        keys = np.empty(int(first[-1]), np.uint32)

        def call(z0: int, z1: int, workspace: Any, error: Any) -> int:
            part = keys[int(first[z0]) : int(first[z1])]
            pointer = _pointer("uint32_t[]", part, True)
            return int(lib.crackle_keys(self._stream, workspace, z0, z1, pointer, error))

        pinned = self.header.label_format != lib.CRACKLE_LABELS_FLAT
        self._fold(call, 0, self.slices, parallel, walks=pinned)
        return keys

    def keys_at(
        self, z: npt.NDArray[np.uint32], pixel: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.uint32]:
        """The same at voxels, pixel x + sx * y of slice z, by ascending z."""
        self.allow(len(np.unique(z)))
        keys = np.empty(len(z), np.uint32)
        error = ffi.new(_new_error)
        with _workspace() as workspace:
            if lib.crackle_points(
                self._stream, workspace, len(z), _pointer("uint32_t[]", z),
                _pointer("uint32_t[]", pixel), _pointer("uint32_t[]", keys, True), error,
            ):  # fmt: skip
                _raise(error)
        return keys

    def component_checksums(self, parallel: int = 1) -> npt.NDArray[np.uint32]:
        """Each slice's crc32c; made where the stream has none."""
        crcs = np.empty(self.slices, np.uint32)

        def call(z0: int, z1: int, workspace: Any, error: Any) -> int:
            pointer = _pointer("uint32_t[]", crcs[z0:z1], True)
            return int(
                lib.crackle_component_checksums(self._stream, workspace, z0, z1, pointer, error)
            )

        self._fold(call, 0, self.slices, parallel, walks=not self.header.version)
        return crcs


def pin(flat: bytes, effort: int, background: int | None) -> bytes:
    """A stream of flat labels with pins instead; itself where it can't have any.

    It was just made, of an array or of a stream that was believed: nobody is asked again.
    """
    stream = Stream(flat)
    wanted = ffi.NULL if background is None else ffi.new("uint64_t *", background)
    pointer, size, error = ffi.new("uint8_t **"), ffi.new("size_t *"), ffi.new(_new_error)
    with _workspace() as workspace:
        if lib.crackle_pin(stream._stream, workspace, effort, wanted, pointer, size, error):
            _raise(error)
    return flat if pointer[0] == ffi.NULL else _taken(pointer[0], size[0])


# struct crackle_pair.
PAIR = np.dtype([("a", np.uint32), ("b", np.uint32), ("counts", np.uint64, (3,))])


def _taken_pairs(pairs: Any, count: Any) -> npt.NDArray[Any]:
    """A list of pairs that C made, which is freed."""
    return np.frombuffer(_taken(pairs[0], count[0] * PAIR.itemsize), PAIR)


def _taken(pointer: Any, size: int) -> bytes:
    """The bytes of a stream that C made, which is freed."""
    try:
        return bytes(ffi.buffer(pointer, size))
    finally:
        lib.crackle_free(pointer)


def encode(
    flat: npt.NDArray[Any],
    shape: tuple[int, int, int],
    c_order: bool,
    fortran_order: bool,
    markov_order: int | Literal["auto"],
    parallel: int = 1,
) -> bytes:
    """Encode a flat, aligned, native-endian array of sx * sy * sz integers.

    ``c_order``: its fastest axis is z, not x. ``fortran_order``: the flag to write.
    """
    params = _params(shape, flat.itemsize, flat.dtype.kind == "i", fortran_order, markov_order)
    params.c_order = c_order
    labels = ffi.from_buffer(flat)
    permissible = lib.crackle_guess_permissible(params, labels)

    def make(z0: int, z1: int, permissible: int, workspace: Any, error: Any) -> Any:
        return lib.crackle_encode_part(params, labels, z0, z1, permissible, workspace, error)

    step = 64 // flat.itemsize if c_order else 1
    return _joined(params, make, permissible, parallel, step)


def recode(
    stream: Stream,
    labels: npt.NDArray[np.uint64],
    group: npt.NDArray[np.uint32],
    dtype: np.dtype[Any],
    *,
    by_component: bool = False,
    drop_borders: bool = False,
    permissible: bool | None = None,
    fortran_order: bool | None = None,
    markov_order: int | Literal["auto"] = 0,
    parallel: int = 1,
) -> bytes:
    """A stream of ``stream``'s slices, traced anew, with other labels.

    ``labels``: of each group, once, as 64 bits; ``group``: of each entry of the table and the
    background behind them, or of each component. ``permissible`` None takes the crack format
    that an array of these voxels would take, which holds with ``drop_borders`` only.
    """
    stream.allow(stream.slices)
    head = stream.header
    shape = (head.sx, head.sy, head.sz)
    fortran = bool(head.fortran_order) if fortran_order is None else fortran_order
    params = _params(shape, dtype.itemsize, dtype.kind == "i", fortran, markov_order)
    params.remapped = not drop_borders and (head.remapped or by_component)
    params.any_format = permissible is not None
    how = ffi.new("struct crackle_recode *")
    keep = (_pointer("uint64_t[]", labels), _pointer("uint32_t[]", group))
    how.labels, how.group = keep
    how.by_component, how.drop_borders = by_component, drop_borders

    def make(z0: int, z1: int, permissible: int, workspace: Any, error: Any) -> Any:
        return lib.crackle_recode_part(
            params, stream._stream, how, z0, z1, permissible, workspace, error
        )

    first = head.permissible if permissible is None else permissible
    return _joined(params, make, int(first), parallel, 1)


def _params(
    shape: tuple[int, int, int],
    width: int,
    is_signed: bool,
    fortran_order: bool,
    markov_order: int | Literal["auto"],
) -> Any:
    params = ffi.new("struct crackle_params *")
    params.sx, params.sy, params.sz = shape
    params.data_width = width
    params.is_signed = is_signed
    params.fortran_order = fortran_order
    params.markov_order = lib.CRACKLE_MARKOV_AUTO if markov_order == "auto" else markov_order
    return params


def _joined(
    params: Any,
    make: Callable[[int, int, int, Any, Any], Any],
    permissible: int,
    parallel: int,
    step: int,
) -> bytes:
    """The stream of the parts that ``make`` makes of ranges of slices."""

    def run(z0: int, z1: int) -> Any:
        error = ffi.new(_new_error)
        with _workspace() as workspace:
            part = make(z0, z1, permissible, workspace, error)
        if part == ffi.NULL:
            _raise(error)
        return ffi.gc(part, lib.crackle_part_free)

    pointer, size = ffi.new("uint8_t **"), ffi.new("size_t *")
    error = ffi.new(_new_error)
    for _ in range(2):
        parts = run_ranges(run, params.sz, params.sx * params.sy, parallel, step)
        if lib.crackle_join(params, parts, len(parts), permissible, pointer, size, error):
            _raise(error)
        del parts  # their memory is free again before the stream is copied
        if pointer[0] != ffi.NULL:
            break
        permissible = 1 - permissible  # the guess was wrong
    return _taken(pointer[0], size[0])
