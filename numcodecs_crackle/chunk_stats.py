"""Sizes, boxes and centroids of labels: of parts of chunks, and put together."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.grid import (
    Axes,
    Piece,
    Window,
    objects_in,
    origin_of,
    piece_of,
    window_of,
)
from numcodecs_crackle.partial import Range, slices_named
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.stream import label_groups, opened

__all__ = ["Merger", "Statistics", "Sums", "absent", "measure_plan", "merged"]

# With more labels than this every slice is measured, rather than those that have any.
_FEW_LABELS = 8


class Statistics(NamedTuple):
    """Labels that have voxels, ascending, and a row for each; axes are the array's.

    Attributes
    ----------
    labels : array (n,)
    voxel_counts : uint64 array (n,)
    boxes : int64 array (n, 2 * ndim)
        The lowest voxel along each axis, then the highest, inclusive.
    centroids : float64 array (n, ndim)
        The mean of the voxels' places, in voxels.
    """

    labels: npt.NDArray[Any]
    voxel_counts: npt.NDArray[np.uint64]
    boxes: npt.NDArray[np.int64]
    centroids: npt.NDArray[np.float64]


@dataclass
class Sums:
    """The same as sums, which can be added up."""

    labels: npt.NDArray[Any]
    counts: npt.NDArray[np.uint64]
    lows: npt.NDArray[np.int64]  # (n, ndim)
    highs: npt.NDArray[np.int64]  # inclusive
    sums: npt.NDArray[np.float64]  # of the voxels' places: exact up to 2^53, no end beyond

    @classmethod
    def none(cls, dtype: np.dtype[Any], ndim: int) -> Sums:
        def empty(kind: Any) -> Any:
            return np.zeros((0, ndim), kind)

        counts = np.zeros(0, np.uint64)
        return cls(np.zeros(0, dtype), counts, empty(np.int64), empty(np.int64), empty(float))

    def rows(self, which: npt.NDArray[Any]) -> Sums:
        return Sums(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Sums]) -> Sums:
        """The rows of several after each other."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def grouped(self, order: npt.NDArray[Any], first: npt.NDArray[Any]) -> Sums:
        """The rows in some order, those from each ``first`` to the next added up."""
        if len(first) == len(order):
            return self.rows(order)
        return Sums(
            self.labels[order[first]],
            np.add.reduceat(self.counts[order], first),
            np.minimum.reduceat(self.lows[order], first, axis=0),
            np.maximum.reduceat(self.highs[order], first, axis=0),
            np.add.reduceat(self.sums[order], first, axis=0),
        )

    def statistics(self) -> Statistics:
        boxes = np.concatenate([self.lows, self.highs], axis=1)
        return Statistics(self.labels, self.counts, boxes, self.sums / self.counts[:, None])


def merged(parts: Sequence[Sums]) -> Sums:
    """Several, each label once, ascending."""
    every = Sums.joined(parts)
    order = np.argsort(every.labels, kind="stable")
    labels = every.labels[order]
    first = np.flatnonzero(np.append(True, labels[1:] != labels[:-1])[: len(labels)])
    return every.grouped(order, first)


class Merger:
    """Adds up many small parts, and holds no more than a few times the rows of the result."""

    def __init__(self, nothing: Sums) -> None:
        self._parts, self._rows, self._merged = [nothing], 0, 0

    def add(self, part: Sums) -> None:
        self._parts.append(part)
        self._rows += len(part.labels)
        if self._rows > max(1 << 16, 2 * self._merged):
            self.result()

    def result(self) -> Sums:
        total = merged(self._parts)
        self._parts, self._rows, self._merged = [total], len(total.labels), len(total.labels)
        return total


def measure_plan(
    store: ChunkStore, chunk: Chunk, region: Window, labels: npt.NDArray[Any] | None
) -> Generator[list[Range], list[Any], Sums]:
    """A plan that measures what of a chunk lies in a region; ``labels`` only, if given."""
    piece = yield from piece_of(store, window_of(store, chunk, region), labels)
    if piece is None:
        return Sums.none(store.dtype, len(store.shape))
    with slices_named(piece.slices):
        return measured(store, chunk, piece, labels)


def measured(
    store: ChunkStore, chunk: Chunk, piece: Piece, labels: npt.NDArray[Any] | None
) -> Sums:
    """The sums of a piece, its places those of the array."""
    start = [o + a for o, (a, _) in zip(origin_of(store, chunk), piece.window, strict=True)]
    if piece.binary is None:
        return _filled(store, start, piece.shape, labels)
    stream, head = opened(piece.binary)
    values, group = label_groups(stream, head.dtype)
    wanted = np.ones(head.sz, np.bool_)
    if labels is not None:
        keep = np.isin(values, labels)
        place = np.append(np.where(keep, np.cumsum(keep) - 1, _native.NO_GROUP), _native.NO_GROUP)
        group = place[np.minimum(group, len(values))].astype(np.uint32)
        values = values[keep]
        if len(values) <= _FEW_LABELS:
            wanted[:] = False
            for value in values.tolist():
                wanted |= stream.slices_with(value)[0]
    axes = Axes.of(store)
    depth = piece.shape[axes.slow[-1]] if axes.slow else 1
    leading = [range(piece.shape[a]) for a in axes.slow[:-1]]
    parts = []
    last = axes.slow[-1] if axes.slow else None
    for i, first in enumerate(product(*leading)):
        here = wanted.copy()
        here[: i * depth] = False
        here[(i + 1) * depth :] = False
        counts, boxes, sums = stream.measure(group, len(values), boxes=True, sums=True, wanted=here)
        assert boxes is not None and sums is not None
        held = counts > 0
        shape = (int(held.sum()), len(store.shape))
        low, high = np.empty(shape, np.int64), np.empty(shape, np.int64)
        total = np.empty(shape)
        counts = counts[held]
        low[:], high[:] = start, start
        total[:] = counts[:, None] * np.array(start, np.float64)
        for a, at in zip(axes.slow[:-1], first, strict=True):
            low[:, a] += at
            high[:, a] += at
            total[:, a] += counts * float(at)
        for axis, j, skip in ((axes.x, 0, 0), (axes.y, 1, 0), (last, 2, i * depth)):
            if axis is not None:
                low[:, axis] += boxes[held, j].astype(np.int64) - skip
                high[:, axis] += boxes[held, 3 + j].astype(np.int64) - skip
                total[:, axis] += sums[held, j] - counts * float(skip)
        parts.append(Sums(values[held], counts, low, high, total))
    return merged(parts)


def _filled(
    store: ChunkStore, start: list[int], shape: tuple[int, ...], labels: npt.NDArray[Any] | None
) -> Sums:
    """The sums of a box of the fill value."""
    if labels is not None and store.fill not in labels:
        return Sums.none(store.dtype, len(shape))
    count = math.prod(shape)
    last = [a + n - 1 for a, n in zip(start, shape, strict=True)]
    total = [count * (a + b) / 2 for a, b in zip(start, last, strict=True)]
    return _of_fill(store, count, start, last, total)


def _of_fill(
    store: ChunkStore, count: int, low: list[int], high: list[int], total: list[float]
) -> Sums:
    """The sums of the fill value alone."""
    return Sums(
        np.array([store.fill], store.dtype),
        np.array([count], np.uint64),
        np.array([low], np.int64),
        np.array([high], np.int64),
        np.array([total], np.float64),
    )


def absent(store: ChunkStore, region: Window, stored: Sequence[Chunk]) -> Sums:
    """The sums of what of a region lies in objects that are not stored, of which there are some."""
    ranges = objects_in(store, region)
    places = np.array(stored, np.intp).reshape(len(stored), len(ranges))
    counts, totals, lows, highs = [], [], [], []
    for axis, (held, (a, b), c, n) in enumerate(
        zip(ranges, region, store.chunks, store.per_object, strict=True)
    ):
        start = np.maximum(np.array(held, np.int64) * (c * n), a)
        stop = np.minimum(np.append(start[1:], b), b)
        counts.append(stop - start)
        totals.append((start + stop - 1) * counts[-1] // 2)
        others = math.prod(len(r) for r in ranges) // len(held)
        there = np.bincount(places[:, axis] - held.start, minlength=len(held))
        missing = np.flatnonzero(there < others)
        lows.append(int(start[missing[0]]))
        highs.append(int(stop[missing[-1]]) - 1)
    size = math.prod(b - a for a, b in region)
    # What of the region is stored is taken away.
    each = [n[places[:, i] - r.start] for i, (n, r) in enumerate(zip(counts, ranges, strict=True))]
    of_axis = [
        n[places[:, i] - r.start] for i, (n, r) in enumerate(zip(totals, ranges, strict=True))
    ]
    count = size - int(np.prod(each, axis=0).sum())
    sums = []
    for i, (a, b) in enumerate(region):
        factors = [*each[:i], of_axis[i], *each[i + 1 :]]
        sums.append(size * (a + b - 1) / 2 - float(np.prod(factors, axis=0, dtype=float).sum()))
    return _of_fill(store, count, lows, highs, sums)
