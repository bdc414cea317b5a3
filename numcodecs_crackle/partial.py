"""Some slices of a stream, from the bytes that they need.

A plan says which byte ranges it wants next and is sent them, so that it can be driven by any
way to read: zarr's asynchronous stores, its synchronous ones, a file.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader, LabelFormat
from numcodecs_crackle.sections import byte_width, crc_bytes

__all__ = ["Plan", "decode_slices", "slices_of"]

# What is read first, in the hope that the label section ends within.
FIRST_BYTES = 4096
# Bytes between two wanted ranges that are read along rather than asked around.
_GAP = 1024
# What a stream says of its own sizes is asked for only up to this: bytes, and bytes a voxel,
# more than any takes. Beyond it is read whole, so that what is there decides.
_MOST_BYTES, _MOST_A_VOXEL = 1 << 20, 64

Range = tuple[int, int | None]  # [start, stop); (0, None) is all there is
Plan = Generator[list[Range], list[Any], Any]
Found = tuple[bytes, npt.NDArray[np.intp]]  # a stream, and where in it each slice is


def slices_of(
    zs: npt.NDArray[np.intp], check: Any = None
) -> Generator[list[Range], list[Any], Found | None]:
    """A plan for the slices ``zs``, ascending, each once: a stream that has them.

    It wants the header, the index and the label section, then the crack codes of the slices
    and the checksums; a stream with pins, whose components don't name their labels, it wants
    whole. ``check`` is called with the header before more is read, and should know how large
    the volume may be.

    Returns
    -------
    bytes of a stream, and where in it each of the slices is
        None if what is to be read is not there.

    Raises
    ------
    FormatError
        For damage in what was read, but for the slices, which are verified when decoded.
    """
    (data,) = yield [(0, FIRST_BYTES)]
    if data is None:
        return None
    data = bytes(data)
    head = CrackleHeader.frombytes(data)
    if check is not None:
        check(head)
    most = _MOST_BYTES + _MOST_A_VOXEL * head.voxels()
    sizes = head.num_label_bytes + head.num_markov_model_bytes
    if head.label_format != LabelFormat.FLAT or head.voxels() == 0 or sizes > most:
        return (yield from _whole(zs))
    index_at = head.header_bytes
    labels_at = index_at + head.grid_index_bytes
    model_at = labels_at + head.num_label_bytes
    cracks_at = model_at + head.num_markov_model_bytes
    if len(data) < cracks_at:
        if len(data) == FIRST_BYTES:
            (more,) = yield [(FIRST_BYTES, cracks_at)]
            data += b"" if more is None else bytes(more)
        if len(data) < cracks_at:
            raise FormatError("the label section is cut off", "labels")
    index = np.frombuffer(data, "<u4", head.sz, index_at)
    if head.format_version:
        stored = int.from_bytes(data[labels_at - 4 : labels_at], "little")
        if _native.crc32c(data[index_at : labels_at - 4]) != stored:
            raise FormatError("the crack index does not match its crc32c", "crack index")
    ends = cracks_at + np.cumsum(index, dtype=np.int64)
    starts = ends - index
    tail_at = int(ends[-1])
    if tail_at - cracks_at > most:
        return (yield from _whole(zs))

    wanted = _joined_ranges(starts[zs], ends[zs])
    if head.format_version:
        wanted.append((tail_at, tail_at + 4 + 4 * (int(zs[-1]) + 1)))
    pieces = [(a, b) for a, b in wanted if b > len(data)]
    parts = (yield list(pieces)) if pieces else []
    have: dict[tuple[int, int], bytes] = {(0, len(data)): data} | {
        r: b"" if part is None else bytes(part) for r, part in zip(pieces, parts, strict=True)
    }

    def take(start: int, stop: int) -> bytes:
        for (a, b), part in have.items():
            if a <= start and stop <= b:
                found = part[start - a : stop - a]
                if len(found) == stop - start:
                    return found
        raise FormatError("the crack codes are cut off", "crack codes")

    labels = data[labels_at:model_at]
    codes = b"".join(take(int(starts[z]), int(ends[z])) for z in zs)
    crcs = np.zeros(0, np.uint32)
    if head.format_version:
        tail = take(tail_at, tail_at + 4 + 4 * (int(zs[-1]) + 1))
        if _native.crc32c(labels) != int.from_bytes(tail[:4], "little"):
            raise FormatError("the label section does not match its crc32c", "labels")
        crcs = np.frombuffer(tail, "<u4", offset=4)[zs]
    labels = _labels_of(labels, head, zs)
    part_index = index[zs].tobytes()
    few = replace(head, sz=len(zs), num_label_bytes=len(labels))
    model = data[model_at:cracks_at]
    at = np.arange(len(zs))
    if not head.format_version:
        return b"".join((few.tobytes(), part_index, labels, model, codes)), at
    stream = b"".join(
        (few.tobytes(), part_index, crc_bytes(part_index), labels, model, codes, crc_bytes(labels),
         crcs.astype("<u4").tobytes())
    )  # fmt: skip
    return stream, at


def _whole(zs: npt.NDArray[np.intp]) -> Generator[list[Range], list[Any], Found | None]:
    """The same by reading all that there is."""
    (data,) = yield [(0, None)]
    return None if data is None else (bytes(data), zs)


def decode_slices(found: Found, zs: npt.NDArray[np.intp], out: npt.NDArray[Any]) -> None:
    """Decode what `slices_of` gave to the places of the slices in a flat volume.

    FormatError names the slices of the volume.
    """
    data, at = found
    stream = _native.Stream(data)
    n = stream.pixels
    breaks = np.flatnonzero((np.diff(zs) != 1) | (np.diff(at) != 1)) + 1
    for run, place in zip(np.split(zs, breaks), np.split(at, breaks), strict=True):
        z0, z1 = int(place[0]), int(place[-1]) + 1
        try:
            stream.decode(out[int(run[0]) * n : (int(run[-1]) + 1) * n], z0, z1, False)
        except FormatError as error:
            z = None if error.slice is None else error.slice - z0 + int(run[0])
            raise type(error)(error.reason, error.section, z) from None


def _joined_ranges(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> list[Any]:
    """Ascending ranges, those that are next to each other as one; empty ones left out."""
    ranges: list[tuple[int, int]] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if ranges and start - ranges[-1][1] <= _GAP:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((start, end))
    return [(a, b) for a, b in ranges if b > a]


def _labels_of(labels: bytes, head: CrackleHeader, zs: npt.NDArray[np.intp]) -> bytes:
    """A flat label section with the table, and the counts and keys of some slices."""
    if len(labels) < 8:
        raise FormatError("there is no number of labels", "labels")
    count = int.from_bytes(labels[:8], "little")
    table_end = 8 + count * head.stored_data_width
    counts_end = table_end + head.sz * byte_width(head.sx * head.sy)
    if counts_end > len(labels):
        raise FormatError("the table of labels is cut off", "labels")
    dtype = f"<u{byte_width(head.sx * head.sy)}"
    counts = np.frombuffer(labels, dtype, head.sz, table_end)
    if int(counts.max()) > head.sx * head.sy:
        raise FormatError("a slice has more components than pixels", "labels")
    ends = np.cumsum(counts, dtype=np.int64)
    width = byte_width(count)
    if counts_end + int(ends[-1]) * width != len(labels):
        raise FormatError("the keys are not one for each component", "labels")
    keys = [
        labels[counts_end + int(ends[z] - counts[z]) * width : counts_end + int(ends[z]) * width]
        for z in zs
    ]
    return b"".join((labels[:table_end], counts[zs].tobytes(), *keys))
