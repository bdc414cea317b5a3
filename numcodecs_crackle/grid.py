"""Regions of an array, the chunks that they touch, and what of a chunk lies within."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import chain, groupby, product
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import partial
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.partial import FlatLabels, Range, Slices
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.stream import compress, decompress, label_groups, opened

__all__ = [
    "Axes",
    "ChunksIn",
    "ChunksOf",
    "Piece",
    "Window",
    "batches",
    "bounds",
    "in_array_axes",
    "objects_in",
    "origin_of",
    "piece_of",
    "voxels_of",
    "window_of",
]

Window = tuple[tuple[int, int], ...]  # [start, stop) along each axis


def bounds(region: Any, shape: Sequence[int]) -> Window:
    """A region as the range of each axis.

    Parameters
    ----------
    region
        None for all; else as numpy's basic indexing: integers, slices and an Ellipsis, in
        the array's axes. An integer is a range of one.

    Raises
    ------
    IndexError
        For too many axes, and integers outside of the array.
    TypeError, ValueError
        For anything else, such as steps.
    """
    entries = (
        () if region is None else tuple(region) if isinstance(region, (tuple, list)) else (region,)
    )
    dots = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    if dots:
        at = dots[0]
        missing = len(shape) - len(entries) + 1
        entries = entries[:at] + (slice(None),) * missing + entries[at + 1 :]
    if len(entries) > len(shape):
        raise IndexError(f"the region has {len(entries)} axes, and the array {len(shape)}")
    entries += (slice(None),) * (len(shape) - len(entries))
    result = []
    for entry, n in zip(entries, shape, strict=True):
        if isinstance(entry, slice):
            start, stop, step = entry.indices(n)
            if step != 1:
                raise ValueError("a region has no steps")
            result.append((start, max(start, stop)))
            continue
        try:
            if isinstance(entry, (bool, np.bool_)):
                raise TypeError
            place = index(entry)
        except TypeError:
            raise TypeError(f"a region is made of slices and integers, not {entry!r}") from None
        if not -n <= place < n:
            raise IndexError(f"index {place} is out of bounds for an axis of {n}")
        place %= n
        result.append((place, place + 1))
    return tuple(result)


def window_of(store: ChunkStore, chunk: Chunk, region: Window) -> Window:
    """What of a chunk lies in a region and in the array, relative to the chunk."""
    return tuple(
        (max(a - i * c, 0), max(0, min(b - i * c, c)))
        for i, c, (a, b) in zip(chunk, store.chunks, region, strict=True)
    )


def origin_of(store: ChunkStore, chunk: Chunk) -> tuple[int, ...]:
    """The first voxel of a chunk in the array."""
    return tuple(i * c for i, c in zip(chunk, store.chunks, strict=True))


class ChunksIn:
    """The chunks that a region touches, those of one object after each other."""

    def __init__(self, store: ChunkStore, region: Window) -> None:
        self._per_object = store.per_object
        self._ranges = _cells(region, store.chunks)

    def __len__(self) -> int:
        return math.prod(map(len, self._ranges))

    def __iter__(self) -> Iterator[Chunk]:
        return chain.from_iterable(self.blocks(self._per_object))

    def blocks(self, sizes: Sequence[int]) -> Iterator[Iterator[Chunk]]:
        """The chunks by blocks of so many along each axis."""
        if not len(self):
            return
        window = tuple((r.start, r.stop) for r in self._ranges)
        for place in product(*_cells(window, sizes)):
            yield product(*_in_block(self._ranges, sizes, place))


class ChunksOf(Sized, Iterable[Chunk]):
    """The chunks that a region touches in some objects: their places, in C order."""

    def __init__(self, store: ChunkStore, region: Window, objects: Sequence[Chunk]) -> None:
        self._objects, self._sizes = objects, store.per_object
        self._ranges = _cells(region, store.chunks)

    def _blocks(self) -> Iterator[list[range]]:
        return (_in_block(self._ranges, self._sizes, place) for place in self._objects)

    def __len__(self) -> int:
        return sum(math.prod(map(len, block)) for block in self._blocks())

    def __iter__(self) -> Iterator[Chunk]:
        return chain.from_iterable(product(*block) for block in self._blocks())


def objects_in(store: ChunkStore, region: Window) -> list[range]:
    """The objects that a region touches, along each axis."""
    return _cells(region, [c * n for c, n in zip(store.chunks, store.per_object, strict=True)])


def _cells(region: Window, sizes: Sequence[int]) -> list[range]:
    """The cells of a grid that a region touches, along each axis."""
    return [
        range(a // n, -(-b // n)) if a < b else range(0)
        for (a, b), n in zip(region, sizes, strict=True)
    ]


def _in_block(ranges: Sequence[range], sizes: Sequence[int], place: Chunk) -> list[range]:
    """What of ranges lies in a block, of so many along each axis."""
    return [
        range(max(r.start, p * n), min(r.stop, (p + 1) * n))
        for r, n, p in zip(ranges, sizes, place, strict=True)
    ]


def batches(
    store: ChunkStore, chunks: Iterable[Chunk], most: int, wide: bool = False
) -> Iterator[list[Chunk]]:
    """Chunks in lists of up to ``most``; those of one shard are not mixed with others.

    ``wide``: of a large shard more at a time, so that its index is not read ever again.
    """
    if wide:
        most = max(most, math.prod(store.per_object) // 16)
    batch: list[Chunk] = []
    groups: Iterable[tuple[Any, Iterable[Chunk]]] = [(None, chunks)]
    if store.shard is not None:
        groups = groupby(chunks, store.object_of)
    for _, group in groups:
        for chunk in group:
            batch.append(chunk)
            if len(batch) == most:
                yield batch
                batch = []
        if batch:
            yield batch
            batch = []


@dataclass
class Axes:
    """Which axes of the array those of a chunk's stream are."""

    x: int | None
    y: int | None
    slow: tuple[int, ...]  # folded into z, the last one fastest
    units: tuple[int, ...]  # dropped

    @classmethod
    def of(cls, store: ChunkStore) -> Axes:
        long = [a for a in store.axes if store.chunks[a] != 1]
        units = tuple(a for a in store.axes if store.chunks[a] == 1)
        x = long[-1] if long else None
        y = long[-2] if len(long) > 1 else None
        return cls(x, y, tuple(long[:-2]), units)

    def slices(self, store: ChunkStore, window: Window) -> Slices:
        """The slices of a chunk that a window touches."""
        z = np.zeros(1, np.intp)
        for a in self.slow:
            z = (z[:, None] * store.chunks[a] + np.arange(*window[a])).reshape(-1)
        return z

    def range_of(self, axis: int | None, window: Window) -> tuple[int, int]:
        return (0, 1) if axis is None else window[axis]


@dataclass
class Piece:
    """A box of a chunk, as a stream of its own."""

    binary: bytes | None  # None: not stored, all is the fill value
    window: Window  # of the chunk
    slices: Slices | None = None  # of the chunk that it has; None for all

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in self.window)


Cut = tuple[bytes | None, Window, Slices | None, bool]


def _cut(
    store: ChunkStore, window: Window, labels: npt.NDArray[Any] | None
) -> Generator[list[Range], list[Any], Cut | None]:
    """A plan for the slices of a box, as a stream.

    The stream, None if the chunk is not stored; the box; the slices, None for all; and
    whether the stream has more of each slice than the box.
    """
    axes = Axes.of(store)
    zs = axes.slices(store, window)
    whole = all(window[a] == (0, store.chunks[a]) for a in (axes.x, axes.y) if a is not None)
    every = math.prod(store.chunks[a] for a in axes.slow)
    if labels is None and len(zs) == every:
        (data,) = yield [(0, None)]
        if data is not None:
            data = bytes(data)
            store.check(CrackleHeader.frombytes(data))
            _check_bool(store, data)
        return data, window, None, not whole

    def pick(section: FlatLabels) -> Slices:
        nonlocal window
        assert labels is not None
        held = np.intersect1d(zs, section.slices_with(labels))
        if not len(held):
            return held
        window = _around(store, axes, window, held)
        return axes.slices(store, window)

    found = yield from partial.slices_of(
        zs if labels is None else pick, store.check, verify=store.verify, needs=labels
    )
    if found is None:
        return (
            None if labels is not None and store.fill not in labels else (None, window, None, False)
        )
    data, zs = found
    if not len(zs):
        return None
    _check_bool(store, data)
    return data, window, zs, not whole


def _check_bool(store: ChunkStore, data: bytes) -> None:
    """`FormatError` for a stream of a chunk of bool that has other labels."""
    if store.is_bool:
        stream, head = opened(data)
        store.check_labels(label_groups(stream, head.dtype)[0])


def _cropped(store: ChunkStore, cut: Cut, label: int | None = None) -> npt.NDArray[Any]:
    """The voxels (x, y, z) of a box, or where a label is."""
    data, window, zs, more = cut
    with partial.slices_named(zs):
        voxels = decompress(data, label, parallel=1)
    if not more:
        return voxels
    axes = Axes.of(store)
    x, y = axes.range_of(axes.x, window), axes.range_of(axes.y, window)
    return voxels[slice(*x), slice(*y)]


def piece_of(
    store: ChunkStore, window: Window, labels: npt.NDArray[Any] | None = None
) -> Generator[list[Range], list[Any], Piece | None]:
    """A plan for a box of a chunk: a stream that has its voxels and no others.

    All of the chunk is read whole; if it is cut along slices their bytes are, and if slices
    are cut they are decoded, and coded anew.

    Parameters
    ----------
    window
        The box, not empty.
    labels : array, sorted, optional
        Only slices from the first to the last with any of these are wanted: the box may be
        smaller. None if none has any.
    """
    cut = yield from _cut(store, window, labels)
    if cut is None:
        return None
    data, window, zs, more = cut
    if data is None or not more:
        return Piece(data, window, zs)
    return Piece(compress(np.asfortranarray(_cropped(store, cut)), parallel=1), window)


def voxels_of(
    store: ChunkStore,
    window: Window,
    labels: npt.NDArray[Any] | None = None,
    label: int | None = None,
) -> Generator[list[Range], list[Any], tuple[Window, npt.NDArray[Any] | None] | None]:
    """A plan for the voxels of a box of a chunk, in the array's axes, or where a label is.

    The box and ``labels`` are as for `piece_of`. None instead of an array where all is the
    fill value, and None alone where no slice has any of the labels.
    """
    cut = yield from _cut(store, window, labels)
    if cut is None:
        return None
    if cut[0] is None:
        return cut[1], None
    return cut[1], in_array_axes(store, cut[1], _cropped(store, cut, label))


def in_array_axes(store: ChunkStore, window: Window, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The voxels (x, y, z) of a box of a chunk, as its stream has them, in the array's axes."""
    coded = voxels.T.reshape([window[a][1] - window[a][0] for a in store.axes])
    return coded.transpose(np.argsort(store.axes))


def _around(store: ChunkStore, axes: Axes, window: Window, zs: Slices) -> Window:
    """The window, but along slow axes no wider than some slices."""
    shape = [store.chunks[a] for a in axes.slow]
    if not shape:
        return window
    result = list(window)
    for a, places in zip(axes.slow, np.unravel_index(zs, shape), strict=True):
        result[a] = int(np.min(places)), int(np.max(places)) + 1
    return tuple(result)
