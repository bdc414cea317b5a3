"""Part of a stored stream, from the bytes that it needs: some slices, or the labels.

A plan says which byte ranges it wants next and is sent them, so that it can be driven by any
way to read: zarr's asynchronous stores, its synchronous ones, a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.edit import recoded
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader, LabelFormat
from numcodecs_crackle.sections import byte_width, crc_bytes
from numcodecs_crackle.stream import labels as labels_of_stream
from numcodecs_crackle.stream import labels_for_z_range

__all__ = [
    "FlatLabels",
    "Plan",
    "Range",
    "decode_slices",
    "fingerprint_of",
    "labels_of",
    "local",
    "slices_of",
]

# What is read first, in the hope that the table of labels ends within.
FIRST_BYTES = 2048
# Bytes between two wanted ranges that are read along rather than asked around.
_GAP = 1024
# What a stream says of its own sizes is asked for only up to this: bytes, and bytes a voxel,
# more than any takes. Beyond it is read whole, so that what is there decides.
_MOST_BYTES, _MOST_A_VOXEL = 1 << 20, 64

Range = tuple[int, int | None]  # [start, stop); (0, None) is all there is
Plan = Generator[list[Range], list[Any], Any]
Check = Callable[[CrackleHeader], None] | None
Slices = npt.NDArray[np.intp]  # ascending, each once


def local(plan: Plan, data: Any) -> Any:
    """The result of a plan for bytes that are there; None if there are none."""
    try:
        wanted = next(plan)
        while True:
            wanted = plan.send([None if data is None else data[a:b] for a, b in wanted])
    except StopIteration as end:
        return end.value


@dataclass
class FlatLabels:
    """A flat label section: which labels each slice has."""

    head: CrackleHeader
    data: bytes
    count: int  # labels in the table
    counts: npt.NDArray[Any]  # components of each slice
    ends: npt.NDArray[np.int64]  # those of all slices up to it
    keys: npt.NDArray[Any]  # each component's place in the table

    @classmethod
    def of(cls, data: bytes, head: CrackleHeader, nbytes: int | None = None) -> FlatLabels:
        """A section, or what of it is before the keys, if its ``nbytes`` are given."""
        if len(data) < 8:
            raise FormatError("there is no number of labels", "labels")
        count = int.from_bytes(data[:8], "little")
        table_end = 8 + count * head.stored_data_width
        pixels = head.sx * head.sy
        counts_end = table_end + head.sz * byte_width(pixels)
        if counts_end > len(data):
            raise FormatError("the table of labels is cut off", "labels")
        counts = np.frombuffer(data, f"<u{byte_width(pixels)}", head.sz, table_end)
        if int(counts.max()) > pixels:
            raise FormatError("a slice has more components than pixels", "labels")
        ends = np.cumsum(counts, dtype=np.int64)
        width = byte_width(count)
        if counts_end + int(ends[-1]) * width != (len(data) if nbytes is None else nbytes):
            raise FormatError("the keys are not one for each component", "labels")
        if nbytes is not None:
            return cls(head, data, count, counts, ends, np.zeros(0, f"<u{width}"))
        keys = np.frombuffer(data, f"<u{width}", offset=counts_end)
        if keys.size and int(keys.max()) >= count:
            raise FormatError("a component's key is not in the table of labels", "labels")
        return cls(head, data, count, counts, ends, keys)

    @property
    def table(self) -> npt.NDArray[Any]:
        """The table of labels, in the array's dtype."""
        table = np.frombuffer(self.data, self.head.stored_dtype, self.count, 8)
        return table.astype(self.head.dtype, copy=False)

    def keys_of(self, zs: Slices) -> npt.NDArray[Any]:
        """The keys of the components of some slices."""
        parts = [self.keys[self.ends[z] - self.counts[z] : self.ends[z]] for z in zs]
        return np.concatenate(parts) if parts else self.keys[:0]

    def labels(self, zs: Slices | None = None) -> npt.NDArray[Any]:
        """The labels of all slices or some, sorted, each once."""
        used = np.zeros(self.count, np.bool_)
        used[self.keys if zs is None else self.keys_of(zs)] = True
        return np.unique(self.table[used])

    def slices_with(self, labels: npt.NDArray[Any]) -> Slices:
        """The slices that have any of some labels."""
        hits = np.isin(self.table, labels)[self.keys]
        before = np.concatenate([[0], np.cumsum(hits)])
        return np.flatnonzero(before[self.ends] > before[self.ends - self.counts])

    @property
    def width(self) -> int:
        """Bytes of a key."""
        return self.keys.itemsize

    def cut(self, zs: Slices, keys: bytes | None = None) -> bytes:
        """A label section of some slices, with the whole table; their keys, if not here."""
        table = self.data[: 8 + self.count * self.head.stored_data_width]
        keys = self.keys_of(zs).tobytes() if keys is None else keys
        return b"".join((table, self.counts[zs].tobytes(), keys))


def most_bytes(voxels: int) -> int:
    """More than any section, or any stream, of so many voxels takes."""
    return _MOST_BYTES + _MOST_A_VOXEL * voxels


@dataclass
class _Layout:
    """Where the sections of a stream are, by its header."""

    head: CrackleHeader

    def __post_init__(self) -> None:
        self.index = self.head.header_bytes
        self.labels = self.index + self.head.grid_index_bytes
        self.model = self.labels + self.head.num_label_bytes
        self.cracks = self.model + self.head.num_markov_model_bytes
        self.most = most_bytes(self.head.voxels())

    @property
    def read_in_parts(self) -> bool:
        """Whether parts make sense: pins don't name the labels of a slice."""
        sizes = self.head.num_label_bytes + self.head.num_markov_model_bytes
        flat = self.head.label_format == LabelFormat.FLAT
        return flat and self.head.voxels() > 0 and sizes <= self.most

    def read_index(self, data: bytes) -> npt.NDArray[np.uint32]:
        """Bytes of each crack code, checked. ``data`` begins with the header and the index."""
        if len(data) < self.labels:
            raise FormatError("the crack index is cut off", "crack index")
        stop = self.index + 4 * self.head.sz
        if self.head.format_version:
            stored = int.from_bytes(data[stop : self.labels], "little")
            if _native.crc32c(data[self.index : stop]) != stored:
                raise FormatError("the crack index does not match its crc32c", "crack index")
        return np.frombuffer(data, "<u4", self.head.sz, self.index)


def _opened(data: Any, check: Check) -> tuple[bytes, _Layout]:
    """The bytes that were read first, and what their header tells."""
    data = bytes(data)
    head = CrackleHeader.frombytes(data)
    if check is not None:
        check(head)
    return data, _Layout(head)


def _check_labels(labels: bytes, crc: bytes) -> None:
    if _native.crc32c(labels) != int.from_bytes(crc, "little"):
        raise FormatError("the label section does not match its crc32c", "labels")


# ---- slices ----


def slices_of(
    pick: Slices | Callable[[FlatLabels], Slices],
    check: Check = None,
    whole: bool = False,
    verify: bool = True,
    needs: npt.NDArray[Any] | None = None,
) -> Generator[list[Range], list[Any], tuple[bytes, Slices] | None]:
    """A plan for some slices: a stream of them alone.

    It wants the header, the index and the label section, then the crack codes of the slices
    and the checksums; a stream with pins, whose components don't name their labels, it wants
    whole, and codes it anew.

    Parameters
    ----------
    pick
        The slices, or what tells them by the labels of each.
    check
        Is called with the header before more is read, and should know how large the volume
        may be.
    whole
        All is there: sizes need not be doubted before they are asked for.
    verify
        False to read of the label section only the table and the keys of the slices, where
        ``pick`` says which: a fraction, but the section's checksum is of all of it.
    needs
        Labels: if the table that was read first has none of them, no slices are picked.

    Returns
    -------
    bytes of a stream, and the slices that it has
        None if what is to be read is not there; b"" if no slices are picked.

    Raises
    ------
    FormatError
        For damage in what was read, but for the slices, which are verified when decoded.
    """
    (data,) = yield [(0, FIRST_BYTES)]
    if data is None:
        return None
    data, at = _opened(data, check)
    head = at.head
    if not (at.read_in_parts or (whole and head.label_format == LabelFormat.FLAT)):
        return (yield from _slices_of_whole(pick, check))
    have = _Have()
    have.add(0, data)
    if needs is not None and _lacks(data, at, needs):
        return b"", np.zeros(0, np.intp)
    some = None if verify or callable(pick) else pick  # of which slices keys are read
    yield from have.more(at.cracks if some is None else at.labels + 8)
    if some is not None:
        count = int.from_bytes(have.take(at.labels, at.labels + 8, "labels"), "little")
        keys_at = at.labels + 8 + count * head.stored_data_width
        keys_at += head.sz * byte_width(head.sx * head.sy)
        if keys_at > at.model:
            raise FormatError("the table of labels is cut off", "labels")
        yield from have.more(keys_at)
    index = at.read_index(have.take(0, at.labels, "crack index"))
    ends = at.cracks + np.cumsum(index, dtype=np.int64)
    starts = ends - index
    tail = int(ends[-1])
    if tail - at.cracks > at.most and not whole:
        return (yield from _slices_of_whole(pick, check))
    wanted: list[tuple[int, int]] = []
    if some is None:
        section = have.take(at.labels, at.model, "labels")
        labels = FlatLabels.of(section, head)
        zs = pick(labels) if callable(pick) else pick
    else:
        section = have.take(at.labels, keys_at, "labels")
        labels = FlatLabels.of(section, head, at.model - at.labels)
        zs = some
    if len(zs) and int(zs[-1]) >= head.sz:
        raise FormatError(f"there are {head.sz} slices, and no slice {int(zs[-1])}", "header")
    if some is not None:
        first, last = (
            keys_at + labels.width * x[zs] for x in (labels.ends - labels.counts, labels.ends)
        )
        wanted += _joined_ranges(first, last)
        wanted.append((at.model, at.cracks))
    wanted += _joined_ranges(starts[zs], ends[zs])
    if head.format_version and some is None:
        wanted.append((tail, tail + 4 + (4 * (int(zs[-1]) + 1) if len(zs) else 0)))
    elif head.format_version:
        wanted += _joined_ranges(tail + 4 + 4 * zs, tail + 8 + 4 * zs)
    yield from have.read(wanted)
    if head.format_version and some is None:
        _check_labels(section, have.take(tail, tail + 4, "crack codes"))
    if not len(zs):
        return b"", zs
    if some is None:
        section = labels.cut(zs)
    else:
        keys = [have.take(int(a), int(b), "labels") for a, b in zip(first, last, strict=True)]
        section = labels.cut(zs, b"".join(keys))
    codes = [have.take(int(starts[z]), int(ends[z]), "crack codes") for z in zs]
    crcs = []
    if head.format_version:
        crcs = [
            have.take(tail + 4 + 4 * z, tail + 8 + 4 * z, "component checksums")
            for z in zs.tolist()
        ]
    part_index = index[zs].tobytes()
    # The table may now have labels that no voxel has.
    edited = head.is_remapped or len(zs) < head.sz
    few = replace(head, sz=len(zs), num_label_bytes=len(section), is_remapped=edited).tobytes()
    model = have.take(at.model, at.cracks, "markov model")
    if not head.format_version:
        return b"".join((few, part_index, section, model, *codes)), zs
    return b"".join(
        (few, part_index, crc_bytes(part_index), section, model, *codes, crc_bytes(section), *crcs)
    ), zs


def _lacks(data: bytes, at: _Layout, labels: npt.NDArray[Any]) -> bool:
    """Whether a table that is all there has none of some labels."""
    if len(data) < at.labels + 8:
        return False
    count = int.from_bytes(data[at.labels : at.labels + 8], "little")
    end = at.labels + 8 + count * at.head.stored_data_width
    if end > min(len(data), at.model):
        return False
    table = np.frombuffer(data[at.labels + 8 : end], at.head.stored_dtype)
    return not np.isin(table.astype(at.head.dtype), labels).any()


class _Have:
    """What was read of a stream so far."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, bytes]] = []

    def add(self, start: int, data: Any) -> None:
        if data is not None and len(data):
            self._parts.append((start, bytes(data)))

    def more(self, stop: int) -> Generator[list[Range], list[Any], None]:
        """Read on from the beginning, up to ``stop``, unless the stream ended before."""
        start, data = self._parts[0]
        if len(data) < stop and len(data) >= FIRST_BYTES:
            (rest,) = yield [(len(data), stop)]
            self._parts[0] = start, data + (b"" if rest is None else bytes(rest))

    def read(self, wanted: list[tuple[int, int]]) -> Generator[list[Range], list[Any], None]:
        """Read ranges that are not all there."""
        begun = len(self._parts[0][1])
        wanted = [(a, b) for a, b in wanted if b > begun and b > a]
        if wanted:
            for (start, _), data in zip(wanted, (yield list(wanted)), strict=True):
                self.add(start, data)

    def take(self, start: int, stop: int, section: str) -> bytes:
        """Bytes that were read. FormatError if they are not there."""
        for at, data in self._parts:
            if at <= start and stop <= at + len(data):
                return data[start - at : stop - at]
        if start == stop:
            return b""
        raise FormatError("it is cut off", section)


def _slices_of_whole(
    pick: Slices | Callable[[FlatLabels], Slices], check: Check
) -> Generator[list[Range], list[Any], tuple[bytes, Slices] | None]:
    """The same by reading all that there is."""
    (data,) = yield [(0, None)]
    if data is None:
        return None
    data, at = _opened(data, check)
    if at.cracks > len(data):
        raise FormatError("the label section is cut off", "labels")
    if at.head.label_format != LabelFormat.FLAT:
        data = recoded(data, parallel=1)
    result: tuple[bytes, Slices] = local(slices_of(pick, check, whole=True), data)
    return result


@contextmanager
def slices_named(zs: Slices | None) -> Iterator[None]:
    """FormatError of a stream of some slices names the slice of the whole."""
    try:
        yield
    except FormatError as error:
        if error.slice is None or zs is None:
            raise
        raise type(error)(error.reason, error.section, int(zs[error.slice])) from None


def decode_slices(found: tuple[bytes, Slices], out: npt.NDArray[Any]) -> None:
    """Decode what `slices_of` gave to the places of the slices in a flat volume."""
    data, zs = found
    stream = _native.Stream(data)
    n = stream.pixels
    breaks = np.flatnonzero(np.diff(zs) != 1) + 1
    with slices_named(zs):
        for run in np.split(np.arange(len(zs)), breaks):
            a, b = int(run[0]), int(run[-1]) + 1
            place = out[int(zs[a]) * n : (int(zs[b - 1]) + 1) * n]
            stream.decode(place, a, b, False)


def _joined_ranges(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> list[Any]:
    """Ascending ranges, those that are next to each other as one; empty ones left out."""
    ranges: list[tuple[int, int]] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if ranges and start - ranges[-1][1] <= _GAP:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((start, end))
    return [(a, b) for a, b in ranges if b > a]


# ---- labels ----


def labels_of(
    zs: Slices | None = None, check: Check = None
) -> Generator[list[Range], list[Any], npt.NDArray[Any] | None]:
    """A plan for the labels of a stream, or of some of its slices.

    The labels of a stream are in its table, which mostly ends in the first few kilobytes; else
    all up to its end is read again at once, so that it is of one state of the chunk. That
    table alone can't be verified by a checksum, but for a small stream that was read whole.
    For slices, and for an edited stream, whose table may hold labels that no voxel has, the
    label section is read, and verified.

    Returns
    -------
    array
        Sorted, each once; None if what is to be read is not there.
    """
    stop = FIRST_BYTES
    (data,) = yield [(0, stop)]
    # Sizes change only if the chunk is replaced meanwhile.
    for _ in range(4):
        if data is None:
            return None
        data, at = _opened(data, check)
        head = at.head
        if not at.read_in_parts:
            break
        section = zs is not None or head.is_remapped
        need = at.model if section else at.labels + 8
        if not section and len(data) >= need:
            count = int.from_bytes(data[at.labels : need], "little")
            need += count * head.stored_data_width
            if need > at.model:
                raise FormatError("the table of labels is cut off", "labels")
        if len(data) >= need:
            return (yield from _labels_read(data, at, zs, need))
        if len(data) < stop:
            raise FormatError("the label section is cut off", "labels")
        stop = max(need, min(at.labels + FIRST_BYTES, at.model))
        (data,) = yield [(0, stop)]
    (data,) = yield [(0, None)]
    if data is None:
        return None
    data, at = _opened(data, check)
    if zs is None or not len(zs):
        every = labels_of_stream(data)
        return every if zs is None else every[:0]
    bounds = np.append(np.flatnonzero(np.diff(zs) != 1) + 1, len(zs))
    first = np.append(0, bounds[:-1])
    runs = [(int(zs[a]), int(zs[b - 1]) + 1) for a, b in zip(first, bounds, strict=True)]
    return np.unique(np.concatenate([labels_for_z_range(data, *run) for run in runs]))


def _labels_read(
    data: bytes, at: _Layout, zs: Slices | None, end: int
) -> Generator[list[Range], list[Any], npt.NDArray[Any]]:
    """Labels from all that stands before ``end``: the table, or the label section."""
    head = at.head
    index = at.read_index(data)
    tail = at.cracks + int(index.sum(dtype=np.int64))
    crc = data[tail : tail + 4] if head.format_version else b""
    if len(crc) == 4:
        _check_labels(data[at.labels : at.model], crc)
    if end < at.model or (zs is None and not head.is_remapped):
        table = np.frombuffer(data[at.labels + 8 : end], head.stored_dtype)
        if head.is_sorted and (table[1:] < table[:-1]).any():
            raise FormatError("the table of labels is not sorted as it says", "labels")
        table = table.astype(head.dtype, copy=False)
        return table if (table[1:] > table[:-1]).all() else np.unique(table)
    labels = FlatLabels.of(data[at.labels : at.model], head)
    if head.format_version and len(crc) < 4:
        if tail - at.cracks <= at.most:
            (more,) = yield [(tail, tail + 4)]
            crc = b"" if more is None else bytes(more)
        if len(crc) < 4:
            raise FormatError("the crack codes are cut off", "crack codes")
        _check_labels(data[at.labels : at.model], crc)
    return labels.labels(zs)


def fingerprint_of(check: Check = None) -> Generator[list[Range], list[Any], int | None]:
    """A plan for a number that changes with the labels of a stream, of 63 bits.

    Of the stream's header and its checksums, which tell all else; of version 0, which has
    none, of all its bytes.
    """
    (data,) = yield [(0, FIRST_BYTES)]
    if data is None:
        return None
    data, at = _opened(data, check)
    if at.head.format_version == 0 or not at.read_in_parts:
        (data,) = yield [(0, None)]
        return None if data is None else _digest(bytes(data))
    if len(data) < at.labels:
        (data,) = yield [(0, at.labels)]
        if data is None:
            return None
        data, at = _opened(data, check)
    index = at.read_index(data)
    tail = at.cracks + int(index.sum(dtype=np.int64))
    if tail - at.cracks > at.most:
        (data,) = yield [(0, None)]
        return None if data is None else _digest(bytes(data))
    stop = tail + 4 + 4 * at.head.sz
    crcs = data[tail:stop]
    if len(crcs) < stop - tail:
        (crcs,) = yield [(tail, stop)]
        if crcs is None or len(crcs) < stop - tail:
            raise FormatError("the checksums are cut off", "component checksums")
    return _digest(data[: at.labels] + bytes(crcs))


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1
