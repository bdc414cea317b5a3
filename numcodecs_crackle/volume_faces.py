"""Where labels of a `LabelVolume` touch, and their surfaces: over the borders of chunks, too.

Blocks of chunks are read together, and with them the planes of voxels around.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial as bound
from itertools import product
from typing import Any, NamedTuple, Unpack, overload

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.grid import (
    Axes,
    ChunksIn,
    Piece,
    Window,
    bounds,
    in_array_axes,
    origin_of,
    piece_of,
    voxels_of,
    window_of,
)
from numcodecs_crackle.measure import Points, contact_faces
from numcodecs_crackle.measure import point_cloud as point_cloud_of
from numcodecs_crackle.partial import Range, slices_named
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.stream import decompress
from numcodecs_crackle.stream import labels as labels_of_stream
from numcodecs_crackle.volume_lookup import VolumeLookup
from numcodecs_crackle.work import How, run

__all__ = ["Contacts", "VolumeFaces"]

# Chunks along each axis of a block: their common planes are read once.
_BLOCK = 3

Labels = npt.NDArray[Any]


class Contacts(NamedTuple):
    """Pairs of labels that touch, and over how many faces; ascending.

    Attributes
    ----------
    first, second : arrays (n,)
        The smaller label of each pair, and the larger one.
    faces : uint64 array (n, ndim)
        Faces between voxels that are neighbours along each axis of the array.
    """

    first: npt.NDArray[Any]
    second: npt.NDArray[Any]
    faces: npt.NDArray[np.uint64]


class VolumeFaces(VolumeLookup):
    """Contacts and surfaces of a `LabelVolume`. Its chunks have up to 3 axes longer than 1."""

    def contacts(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        anisotropy: Sequence[float] | None = None,
        **how: Unpack[How],
    ) -> dict[tuple[int, int], float]:
        """The area over which each two labels touch by faces. 0 is background and has none.

        Parameters
        ----------
        label : int or iterable of int, optional
            Only pairs with one of these.
        region
            Only faces between two voxels in it.
        anisotropy : float for each axis, optional
            The size of a voxel, in any unit; areas are in its square (in 3D). By default 1.

        Returns
        -------
        dict of (smaller label, larger label) to float

        Raises
        ------
        ValueError
            If chunks have more than 3 axes longer than 1.
        """
        first, second, faces = self.contact_faces(label, region, **how)
        sizes = np.ones(faces.shape[1]) if anisotropy is None else np.asarray(anisotropy, float)
        if sizes.shape != (faces.shape[1],):
            raise ValueError(
                f"anisotropy has {sizes.size} sizes, and the array {faces.shape[1]} axes"
            )
        areas = faces @ np.array([np.prod(np.delete(sizes, axis)) for axis in range(sizes.size)])
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        return dict(zip(pairs, areas.tolist(), strict=True))

    def contact_faces(
        self, label: int | Iterable[int] | None = None, region: Any = None, **how: Unpack[How]
    ) -> Contacts:
        """The same as arrays, with the number of faces along each axis."""
        window, wanted = self._asked(label, region)
        chunks = None
        if wanted is not None:  # whose neighbours touch it over their upper sides
            held = {c for found in self.chunks_with(wanted, region, **how).values() for c in found}
            below = product((0, 1), repeat=len(window))
            chunks = {
                tuple(i - d for i, d in zip(c, down, strict=True))
                for down in below if sum(down) <= 1 for c in held
            }  # fmt: skip
        parts = [_no_contacts(self._store)]
        rows = 0
        for part in self._blocks("Contacts", _contacts_of, window, chunks, how):
            if wanted is not None:
                keep = np.isin(part.first, wanted) | np.isin(part.second, wanted)
                part = Contacts(*(column[keep] for column in part))
            parts.append(part)
            rows += len(part.first)
            if rows > max(1 << 16, 2 * len(parts[0].first)):
                parts, rows = [_joined(parts)], 0
        return _joined(parts)

    @overload
    def point_cloud(
        self, label: int, region: Any = None, skip_background: bool = True, **how: Unpack[How]
    ) -> Points: ...
    @overload
    def point_cloud(
        self,
        label: Iterable[int] | None = None,
        region: Any = None,
        skip_background: bool = True,
        **how: Unpack[How],
    ) -> dict[int, Points]: ...
    def point_cloud(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        skip_background: bool = True,
        **how: Unpack[How],
    ) -> Any:
        """The voxels at the surface of labels: at another label, or at the array's border.

        Along an axis of length 1 there is neither.

        Parameters
        ----------
        label : int or iterable of int, optional
            Only these; those that are not there are left out.
        region
            Only voxels in it.
        skip_background : bool
            Leave out label 0, unless it is asked for by ``label``.

        Returns
        -------
        dict of int to array (n, ndim); that array if ``label`` is an int
            Places in the array, uint16, or uint32 if it is longer than 65536 voxels along any
            axis; in C order.

        Raises
        ------
        ValueError
            If there is no such label; if chunks have more than 3 axes longer than 1.
        """
        window, wanted = self._asked(label, region)
        chunks = None
        if wanted is not None:
            chunks = {
                c for found in self.chunks_with(wanted, region, **how).values() for c in found
            }
            if not chunks and isinstance(label, (int, np.integer)):
                raise ValueError(f"Label {label} not contained in image.")
        found: dict[int, list[npt.NDArray[Any]]] = {}
        task = bound(_surface_of, wanted=wanted, skip_background=skip_background)
        for part in self._blocks("Surfaces", task, window, chunks, how):
            for value, points in part:
                found.setdefault(value, []).append(points)
        clouds = {}
        for value in sorted(found):
            points = np.concatenate(found.pop(value))
            clouds[value] = points[np.lexsort(points.T[::-1])]
        if isinstance(label, (int, np.integer)):
            dtype = _place_dtype(self._store)
            return clouds.get(int(label), np.zeros((0, len(window)), dtype))
        return clouds

    def _asked(self, label: Any, region: Any) -> tuple[Window, Labels | None]:
        if len(Axes.of(self._store).slow) > 1:
            raise ValueError("chunks with more than 3 axes longer than 1 have no faces")
        window = bounds(region, self._store.shape)
        if label is None:
            return window, None
        one = isinstance(label, (int, np.integer))
        return window, self._known([label] if one else list(label))

    def _blocks(
        self,
        text: str,
        task: Callable[..., Any],
        window: Window,
        chunks: set[Chunk] | None,
        how: How,
    ) -> Iterator[Any]:
        """The results of a task for blocks of the chunks in a window, or of some of them."""
        every = ChunksIn(self._store, window)
        blocks = (
            [chunk for chunk in block if chunks is None or chunk in chunks]
            for block in every.blocks([_BLOCK] * len(window))
        )
        work = bound(_block, self._store, window, task)
        total = len(every) if chunks is None else None
        options, threads = self._options(how), self._store.threads
        for result, errors in run(
            work, filter(None, blocks), text, total, len, **options, threads=threads
        ):
            for error in errors:
                self._report(error)
            yield result


def _place_dtype(store: ChunkStore) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if max(store.shape, default=0) <= 1 << 16 else np.uint32


# ---- blocks ----


class Box(NamedTuple):
    """A plane of voxels of a chunk: its box within the chunk."""

    chunk: Chunk
    window: Window


class Known(NamedTuple):
    """What was read of a chunk of the block: what of it is asked for."""

    piece: Piece
    voxels: npt.NDArray[Any]


Found = tuple[Known | None, dict[Box, npt.NDArray[Any]]]


def _block(
    store: ChunkStore, region: Window, task: Callable[..., Any], chunks: list[Chunk]
) -> tuple[Any, list[FormatError]]:
    """A task for a block of chunks: it is called twice.

    First with each chunk: the boxes of others that it needs. Then with all that was read.
    """
    boxes: dict[Chunk, set[Box]] = {chunk: set() for chunk in chunks}
    for chunk in chunks:
        for box in task(store, region, chunk, None, None):
            boxes.setdefault(box.chunk, set()).add(box)
    inner = set(chunks)
    wanted = [
        (chunk, bound(_read_plan, store, chunk, region, chunk in inner, sorted(needed)))
        for chunk, needed in boxes.items()
    ]
    own: dict[Chunk, Known] = {}
    planes: dict[Box, npt.NDArray[Any]] = {}
    errors = []
    for (chunk, _), result in zip(wanted, store.read(wanted), strict=True):
        if isinstance(result, FormatError):
            errors.append(result)
            continue
        known, found = result
        planes.update(found)
        if known is not None:
            own[chunk] = known
    results = [task(store, region, chunk, known, planes) for chunk, known in own.items()]
    return task(store, region, None, results, None), errors


def _read_plan(
    store: ChunkStore, chunk: Chunk, region: Window, whole: bool, boxes: list[Box]
) -> Generator[list[Range], list[Any], Found]:
    """What of a chunk is in the region, and some boxes of it."""
    known = None
    window = window_of(store, chunk, region)
    if whole:
        piece = yield from piece_of(store, window)
        assert piece is not None
        if piece.binary is None:
            voxels = np.full(piece.shape, store.fill, store.dtype)
        else:
            with slices_named(piece.slices):
                flat = decompress(piece.binary, parallel=1)
            voxels = in_array_axes(store, window, flat)
        known = Known(piece, voxels)
    planes = {}
    for box in boxes:
        inside = all(a <= c and d <= b for (a, b), (c, d) in zip(window, box.window, strict=True))
        if known is not None and inside:
            place = tuple(
                slice(c - a, d - a) for (a, _), (c, d) in zip(window, box.window, strict=True)
            )
            planes[box] = known.voxels[place].copy()
            continue
        found = yield from voxels_of(store, box.window)
        assert found is not None
        size = [b - a for a, b in box.window]
        planes[box] = np.full(size, store.fill, store.dtype) if found[1] is None else found[1]
    return known, planes


def _place(store: ChunkStore, chunk: Chunk, region: Window) -> Window:
    """What of a chunk is in a region, in the array."""
    window = window_of(store, chunk, region)
    return tuple((o + a, o + b) for o, (a, b) in zip(origin_of(store, chunk), window, strict=True))


def _beside(store: ChunkStore, place: Window, axis: int, up: bool) -> Box:
    """The plane of voxels beside a box of the array, which is within one chunk."""
    at = place[axis][1] if up else place[axis][0] - 1
    places = [*place[:axis], (at, at + 1), *place[axis + 1 :]]
    chunk = tuple(a // c for (a, _), c in zip(places, store.chunks, strict=True))
    start = origin_of(store, chunk)
    return Box(chunk, tuple((a - o, b - o) for (a, b), o in zip(places, start, strict=True)))


# ---- contacts ----


def _contacts_of(
    store: ChunkStore, region: Window, chunk: Chunk | None, known: Any, planes: Any
) -> Any:
    """A task: the contacts within chunks, and of each with those above it."""
    if chunk is None:
        return _joined([_no_contacts(store), *known])
    place = _place(store, chunk, region)
    above = [axis for axis, (_, b) in enumerate(place) if b < region[axis][1]]
    if known is None:
        return [_beside(store, place, axis, True) for axis in above]
    ndim = len(place)
    parts = [_no_contacts(store)]
    if known.piece.binary is not None:
        with slices_named(known.piece.slices):
            first, second, counts = contact_faces(known.piece.binary, 1)
        axes = Axes.of(store)
        faces = np.zeros((len(first), ndim), np.uint64)
        for axis, column in zip((axes.x, axes.y, *axes.slow), counts.T, strict=False):
            if axis is not None:
                faces[:, axis] = column
        parts.append(Contacts(first, second, faces))
    for axis in above:
        other = planes.get(_beside(store, place, axis, True))
        if other is not None:  # else that chunk is damaged
            mine = known.voxels.take([-1], axis)
            parts.append(_across(mine, other, axis, ndim))
    return _joined(parts)


def _across(mine: Labels, other: Labels, axis: int, ndim: int) -> Contacts:
    """The contacts between two planes of voxels beside each other."""
    differ = (mine != other) & (mine != 0) & (other != 0)
    a, b = mine[differ], other[differ]
    faces = np.zeros((len(a), ndim), np.uint64)
    faces[:, axis] = 1
    return _joined([Contacts(np.minimum(a, b), np.maximum(a, b), faces)])


def _no_contacts(store: ChunkStore) -> Contacts:
    none = np.zeros(0, store.dtype)
    return Contacts(none, none, np.zeros((0, len(store.shape)), np.uint64))


def _joined(parts: Sequence[Contacts]) -> Contacts:
    """Several, each pair once, ascending."""
    first, second, faces = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    new = np.append(True, (first[1:] != first[:-1]) | (second[1:] != second[:-1]))[: len(first)]
    at = np.flatnonzero(new)
    if not len(at):
        return parts[0]
    return Contacts(first[at], second[at], np.add.reduceat(faces[order], at, axis=0))


# ---- surfaces ----


def _surface_of(
    store: ChunkStore,
    region: Window,
    chunk: Chunk | None,
    known: Any,
    planes: Any,
    wanted: Labels | None,
    skip_background: bool,
) -> Any:
    """A task: labels and their surface voxels. Those at a chunk's border need its neighbours."""
    if chunk is None:
        return [pair for pairs in known for pair in pairs]
    place = _place(store, chunk, region)
    sides = [
        (axis, up)
        for axis, (a, b) in enumerate(place)
        for up in (False, True)
        if (b < store.shape[axis] if up else a > 0)
    ]
    if known is None:
        return [_beside(store, place, axis, up) for axis, up in sides]
    axes = Axes.of(store)
    exact = known.piece.binary is not None and bool(axes.slow)
    exact = exact and all(store.shape[axis] == 1 for axis in axes.units)
    # Padding that is cropped may leave axes of 1, which have borders in a stream, not here.
    exact = exact and all(store.shape[a] > 1 for a in (axes.x, axes.y, *axes.slow) if a is not None)
    clouds = _clouds(store, known, wanted, skip_background, exact)
    around = np.zeros([n + 2 for n in known.voxels.shape], store.dtype)
    around[(slice(1, -1),) * around.ndim] = known.voxels
    for axis, up in sides:
        other = planes.get(_beside(store, place, axis, up))
        side = [slice(1, -1)] * around.ndim
        side[axis] = slice(-1, None) if up else slice(0, 1)
        if other is None:  # damaged: nothing is told of it, so it is another label
            other = ~known.voxels.take([-1 if up else 0], axis)
        around[tuple(side)] = other
    start = np.array([a for a, _ in place])
    result = []
    for label, points in clouds:
        kept = points[_at_surface(points, label, around, sides, store.shape, exact)]
        if len(kept):
            result.append((label, (kept + start).astype(_place_dtype(store))))
    return result


def _clouds(
    store: ChunkStore, known: Known, wanted: Labels | None, skip_background: bool, exact: bool
) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """By label the voxels of a piece that may be at its surface, their places in the piece.

    With ``exact`` those within are, and at the border of the piece all are named; else, where
    a chunk's stream has not all of the array's axes, all there are.
    """
    piece = known.piece
    labels = np.array([store.fill], store.dtype)
    if piece.binary is not None:
        labels = labels_of_stream(piece.binary)
    if wanted is not None:
        labels = np.intersect1d(wanted, labels)
    elif skip_background:
        labels = labels[labels != 0]
    if not len(labels):
        return []
    if not exact:
        flat = known.voxels.reshape(-1)
        order = np.argsort(flat, kind="stable")
        first = np.searchsorted(flat[order], labels)
        last = np.searchsorted(flat[order], labels, side="right")
        places = np.stack(np.unravel_index(order, known.voxels.shape), axis=1)
        rows = zip(labels.tolist(), first.tolist(), last.tolist(), strict=True)
        return [(label, places[a:b]) for label, a, b in rows]
    with slices_named(piece.slices):
        found = point_cloud_of(piece.binary, labels.tolist(), 1)
    axes = Axes.of(store)
    result = []
    for label, points in found.items():
        places = np.zeros((len(points), len(piece.shape)), np.int64)
        for axis, column in zip((axes.x, axes.y, *axes.slow), points.T, strict=True):
            places[:, axis] = column
        result.append((label, places))
    return result


def _at_surface(
    points: npt.NDArray[np.int64],
    label: int,
    around: Labels,
    sides: list[tuple[int, bool]],
    shape: tuple[int, ...],
    exact: bool,
) -> npt.NDArray[np.bool_]:
    """Which of these voxels of a piece are at the surface, by what is around the piece.

    ``sides``: where the array goes on. ``exact``: within the piece all are.
    """
    low, high = points == 0, points == np.array(around.shape) - 3
    long = [axis for axis, n in enumerate(shape) if n > 1]
    kept = np.zeros(len(points), np.bool_)
    if exact:
        kept = ~(low | high)[:, long].any(axis=1)
    for side, up in ((low, False), (high, True)):
        ends = [axis for axis in long if (axis, up) not in sides]
        kept |= side[:, ends].any(axis=1)
    rest = np.flatnonzero(~kept)
    at = points[rest] + 1
    differs = np.zeros(len(rest), np.bool_)
    for axis in long:
        for step in (-1, 1):
            at[:, axis] += step
            differs |= around[tuple(at.T)] != label
            at[:, axis] -= step
    kept[rest] = differs
    return kept
