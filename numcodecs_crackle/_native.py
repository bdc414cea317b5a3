"""The only room that sees cffi: owns every pointer, turns status codes into exceptions.

Nothing here checks what a caller may sensibly ask for; that is done above. What is done
here is done once: buffers, scratch memory, threads and errors.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from numcodecs_crackle._crackle import ffi, lib
from numcodecs_crackle.errors import FormatError, UnsupportedError

# Scratch memory waits here for the next call, whichever thread makes it. deque's
# append and pop are atomic. What grew large is given back to the system at once.
_idle: deque[Any] = deque()
_IDLE_MOST = 32
_IDLE_BYTES = 32 << 20

# Below this many voxels a second thread costs more than it brings.
_VOXELS_PER_THREAD = 1 << 20

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


def _run_ranges(
    run: Callable[[int, int], Any], sz: int, pixels: int, parallel: int, step: int = 1
) -> list[Any]:
    """Call run(z0, z1) for ranges that cover [0, sz), in threads; results in order.

    The first exception ends the call, after the ranges that had begun are done.
    """
    threads = parallel if parallel > 0 else os.cpu_count() or 1
    threads = min(threads, sz * pixels // _VOXELS_PER_THREAD, -(-sz // step))
    if threads <= 1:
        return [run(0, sz)]
    # More ranges than threads: dense slices take longer than empty ones.
    size = -(-sz // (4 * threads * step)) * step
    ranges = [(z, min(z + size, sz)) for z in range(0, sz, size)]
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(run, *r) for r in ranges]
        try:
            return [f.result() for f in futures]
        except BaseException:
            for f in futures:
                f.cancel()
            raise


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

    __slots__ = ("_buffer", "_stream", "damaged", "header")

    def __init__(self, data: Any, tolerant: bool = False) -> None:
        self._stream = ffi.NULL
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
        self.header = lib.crackle_stream_header(self._stream) if self._stream != ffi.NULL else None

    def __del__(self) -> None:
        if self._stream != ffi.NULL:
            lib.crackle_close(self._stream)

    @property
    def pixels(self) -> int:
        """Voxels of one slice."""
        return int(self.header.sx) * int(self.header.sy)

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
        flags = np.zeros(self.header.sz, np.bool_)
        exact, error = ffi.new("int *"), ffi.new(_new_error)
        pointer = ffi.from_buffer("uint8_t[]", flags, require_writable=True)
        wanted = label & 0xFFFFFFFFFFFFFFFF
        sz = self.header.sz
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
        _run_ranges(run, z1 - z0, self.pixels, parallel, step)

    def check_slices(self, parallel: int = 0) -> npt.NDArray[np.bool_]:
        """Which slices are damaged."""

        def run(z0: int, z1: int) -> npt.NDArray[np.bool_]:
            error = ffi.new(_new_error)
            damaged = np.zeros(z1 - z0, np.bool_)
            pointer = ffi.from_buffer("uint8_t[]", damaged, require_writable=True)
            with _workspace() as workspace:
                if lib.crackle_check_slices(self._stream, workspace, z0, z1, pointer, error):
                    _raise(error)
            return damaged

        return np.concatenate(_run_ranges(run, self.header.sz, self.pixels, parallel))


def pin(flat: bytes, effort: int, background: int | None) -> bytes:
    """A stream of flat labels with pins instead; itself where it can't have any."""
    stream = Stream(flat)
    wanted = ffi.NULL if background is None else ffi.new("uint64_t *", background)
    pointer, size, error = ffi.new("uint8_t **"), ffi.new("size_t *"), ffi.new(_new_error)
    with _workspace() as workspace:
        if lib.crackle_pin(stream._stream, workspace, effort, wanted, pointer, size, error):
            _raise(error)
    return flat if pointer[0] == ffi.NULL else _taken(pointer[0], size[0])


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
    sx, sy, sz = shape
    params = ffi.new("struct crackle_params *")
    params.sx, params.sy, params.sz = shape
    params.data_width = flat.itemsize
    params.is_signed = flat.dtype.kind == "i"
    params.c_order = c_order
    params.fortran_order = fortran_order
    params.markov_order = lib.CRACKLE_MARKOV_AUTO if markov_order == "auto" else markov_order
    labels = ffi.from_buffer(flat)
    permissible = lib.crackle_guess_permissible(params, labels)

    def run(z0: int, z1: int) -> Any:
        error = ffi.new(_new_error)
        with _workspace() as workspace:
            part = lib.crackle_encode_part(params, labels, z0, z1, permissible, workspace, error)
        if part == ffi.NULL:
            _raise(error)
        return ffi.gc(part, lib.crackle_part_free)

    step = 64 // flat.itemsize if c_order else 1
    pointer, size = ffi.new("uint8_t **"), ffi.new("size_t *")
    error = ffi.new(_new_error)
    for _ in range(2):
        parts = _run_ranges(run, sz, sx * sy, parallel, step)
        if lib.crackle_join(params, parts, len(parts), permissible, pointer, size, error):
            _raise(error)
        del parts  # their memory is free again before the stream is copied
        if pointer[0] != ffi.NULL:
            break
        permissible = 1 - permissible  # the guess was wrong
    return _taken(pointer[0], size[0])
