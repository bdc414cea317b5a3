"""What single chunks answer: their labels, where one is, their voxels. Plans for a `ChunkStore`."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import partial
from numcodecs_crackle.edit import places_in
from numcodecs_crackle.grid import Axes, Window, origin_of, piece_of, voxels_of, window_of
from numcodecs_crackle.partial import Range
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.stream import labels as labels_of_stream

__all__ = ["holding_plan", "labels_plan", "mask_plan", "stored_labels_plan", "voxels_plan"]

Labels = npt.NDArray[Any]


def stored_labels_plan(
    store: ChunkStore, chunk: Chunk
) -> Generator[list[Range], list[Any], Labels | None]:
    """The labels that a chunk has as it is stored, padding and all; None without a chunk."""
    return (yield from _labels_of(store))


def _labels_of(
    store: ChunkStore, zs: partial.Slices | None = None
) -> Generator[list[Range], list[Any], Labels | None]:
    found = yield from partial.labels_of(zs, store.check)
    if found is not None:
        store.check_labels(found)
    return found


def labels_plan(
    store: ChunkStore, chunk: Chunk, region: Window
) -> Generator[list[Range], list[Any], Labels]:
    """The labels of what of a chunk lies in a region, sorted.

    From the table if that is all of the chunk; of some slices from the keys; else decoded.
    """
    window = window_of(store, chunk, region)
    axes = Axes.of(store)
    zs: Any = None
    if _slices_cut(store, axes, window):
        found = yield from _labels_of(store)
        if found is not None and len(found) > 1:
            piece = yield from piece_of(store, window)
            assert piece is not None
            if piece.binary is not None:
                return labels_of_stream(piece.binary)
            found = None
    else:
        if math.prod(b - a for a, b in window) < math.prod(store.chunks):
            zs = axes.slices(store, window)
        found = yield from _labels_of(store, zs)
    return np.array([store.fill], store.dtype) if found is None else found


def _slices_cut(store: ChunkStore, axes: Axes, window: Window) -> bool:
    """Whether a window has less than whole slices of a chunk."""
    return any(a is not None and window[a] != (0, store.chunks[a]) for a in (axes.x, axes.y))


def holding_plan(
    store: ChunkStore, chunk: Chunk, region: Window, labels: Labels
) -> Generator[list[Range], list[Any], Labels]:
    """Those of some labels that what of a chunk lies in a region has."""
    found = yield from _labels_of(store)
    if found is None:
        return np.intersect1d(labels, store.fill)
    held = labels[places_in(found, labels)[1]]  # few are looked for in many
    if len(held) and window_of(store, chunk, region) != tuple((0, c) for c in store.chunks):
        held = np.intersect1d(held, (yield from labels_plan(store, chunk, region)))
    return held


def mask_plan(
    store: ChunkStore, chunk: Chunk, region: Window, label: int
) -> Generator[list[Range], list[Any], tuple[tuple[int, ...], npt.NDArray[np.bool_]] | None]:
    """Where a label is in a chunk: an offset in the array and a cropped mask, or None."""
    window = window_of(store, chunk, region)
    wanted = np.array([label], store.dtype)
    found = yield from voxels_of(store, window, wanted, label)
    if found is None:
        return None
    window, mask = found
    start = np.array(origin_of(store, chunk)) + np.array([a for a, _ in window], np.intp)
    if mask is None:
        return tuple(start.tolist()), np.ones([b - a for a, b in window], np.bool_)
    if not mask.ndim:
        return ((), mask) if mask else None
    box = []
    for axis in range(mask.ndim):
        held = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        if not len(held):
            return None
        box.append(slice(int(held[0]), int(held[-1]) + 1))
    start += np.array([b.start for b in box], np.intp)
    return tuple(start.tolist()), np.ascontiguousarray(mask[tuple(box)])


def voxels_plan(
    store: ChunkStore, chunk: Chunk, region: Window, labels: Labels | None
) -> Generator[list[Range], list[Any], tuple[Window, npt.NDArray[Any] | None] | None]:
    """The voxels of a chunk in a region: where they are in the array, and an array.

    None for the array if all are the fill value; None alone if none has any of ``labels``.
    """
    found = yield from voxels_of(store, window_of(store, chunk, region), labels)
    if found is None:
        return None
    window, voxels = found
    origin = origin_of(store, chunk)
    place = tuple((o + a, o + b) for o, (a, b) in zip(origin, window, strict=True))
    if labels is not None and voxels is not None:
        voxels = np.where(np.isin(voxels, labels), voxels, store.dtype.type(0))
    return place, voxels
