"""Connected components over the chunks of an array, into a new array."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial as bound
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.chunks import decode_flat, encode_flat
from numcodecs_crackle.components import check_connectivity, numbered
from numcodecs_crackle.grid import (
    Axes,
    Piece,
    batches,
    in_array_axes,
    piece_of,
    window_of,
)
from numcodecs_crackle.new_array import array_like, by_object, encoded, read_all, write_object
from numcodecs_crackle.partial import Range, slices_named
from numcodecs_crackle.sections import Sections
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.stream import check_dtype, decompress
from numcodecs_crackle.work import How, run

__all__ = ["connected_components"]

# Chunks of one piece of work.
_FEW = 8
# Pairs of components that wait for being joined, at least.
_PAIRS = 1 << 18

Way = tuple[int, ...]  # -1, 0 or 1 along each axis: from a chunk to a neighbour
Pairs = npt.NDArray[np.int64]  # (n, 2): numbers of components that are one


def connected_components(
    source: ChunkStore,
    store: Any,
    connectivity: int,
    dtype: npt.DTypeLike,
    binary_image: bool,
    options: dict[str, Any],
    how: How,
    batch: int = _FEW,
) -> Any:
    """See `LabelVolume.connected_components`. ``options``: those of the new array's place."""
    check_connectivity(connectivity)
    kind = np.dtype(dtype).newbyteorder("=")
    check_dtype(kind)
    if kind.kind == "b":
        raise TypeError("components are numbered: their dtype is one of integers, not bool")
    if sum(n > 1 for n in source.shape) > 3:
        raise ValueError(
            f"components are connected along up to 3 axes, and the array is {source.shape}: "
            "take those of arrays of its 3D parts"
        )
    result = array_like(source, store, how, dtype=kind, fill_value=0, **options)
    rule = _Rule(source, {6: 1, 18: 2, 26: 3}[connectivity], connectivity, binary_image)
    found = _Found(source.grid)
    chunks = [range(n) for n in source.grid]

    def work() -> Iterator[list[Chunk]]:
        return batches(source, product(*chunks), batch)

    count = sum(1 for _ in work())
    with (
        closing(
            run(bound(_edges, rule), work(), "Components", count, **how, threads=source.threads)
        ) as edges,
        closing(
            run(bound(_met, rule), _meetings(rule, found, edges), "", executor=how.get("executor"))
        ) as met,
    ):
        for pairs in met:
            found.join(pairs)
    numbers = found.finish(kind)
    filled = (
        [(chunk, *found.of(numbers, chunk)) for chunk in chunks if found.counts[chunk]]
        for chunks in by_object(source)
    )
    objects = sum(1 for _ in by_object(source))
    for _ in run(
        bound(_write, rule, result), filled, "Writing", objects, **how, threads=source.threads
    ):
        pass
    return result.array


@dataclass
class _Rule:
    """What is connected."""

    store: ChunkStore
    most: int  # axes along which connected voxels may differ
    connectivity: int
    binary_image: bool

    @property
    def ways(self) -> list[Way]:
        """To the chunks that may have connected voxels, in both directions."""
        steps = [(-1, 0, 1) if n > 1 else (0,) for n in self.store.grid]
        return [way for way in product(*steps) if 0 < np.count_nonzero(way) <= self.most]

    def numbered(
        self, chunk: Chunk
    ) -> Generator[list[Range], list[Any], tuple[Piece, npt.NDArray[Any]] | None]:
        """A plan for what of a chunk is in the array: its components, and the label of each.

        They are numbered from 1 on. None if all is background.
        """
        store = self.store
        window = window_of(store, chunk, tuple((0, n) for n in store.shape))
        piece = yield from piece_of(store, window)
        assert piece is not None
        axes = Axes.of(store)
        stream = piece.binary
        if stream is None:
            if store.fill == 0:
                return None
            voxels = np.full(piece.shape, store.fill)
        elif sum(piece.shape[a] > 1 for a in axes.slow) > 1:
            # A window that cuts other axes to one voxel: slices are not all above each other.
            with slices_named(piece.slices):
                voxels = in_array_axes(store, piece.window, decompress(stream, parallel=1))
            stream = None
        if stream is None:
            coded = np.ascontiguousarray(voxels.transpose(store.axes))
            stream = encode_flat(coded.reshape(-1), coded.shape, 0)
        with slices_named(piece.slices):
            result, labels, _ = numbered(stream, self.connectivity, self.binary_image, parallel=1)
        return (Piece(result, window), labels) if len(labels) else None


# ---- components of chunks, and which of them meet ----


@dataclass
class _Edge:
    """The outermost voxels of a chunk, as their components' numbers, from 1 on."""

    shape: tuple[int, ...]
    labels: npt.NDArray[Any] | None  # of the components; None if all count as one
    planes: dict[int, bytes]  # by axis: a stream of the first and the last plane
    crc: int  # of all the chunk's components
    count: int
    first: int = 0  # what precedes its components, of those of the array

    def both(self, axis: int) -> npt.NDArray[Any]:
        """The two planes; their axes are the array's, this one of length 1."""
        shape = [n if a != axis else 1 for a, n in enumerate(self.shape)]
        return decode_flat(self.planes[axis]).reshape(2, *shape)


def _edge_plan(rule: _Rule, chunk: Chunk) -> Generator[list[Range], list[Any], _Edge | None]:
    """A plan for the edge of a chunk; None if it has no components."""
    found = yield from rule.numbered(chunk)
    if found is None:
        return None
    piece, labels = found
    assert piece.binary is not None
    planes = {}
    axes = [a for a, n in enumerate(rule.store.grid) if n > 1]
    if axes:
        voxels = in_array_axes(rule.store, piece.window, decompress(piece.binary, parallel=1))
    for axis in axes:
        both = np.ascontiguousarray(np.moveaxis(voxels.take([0, -1], axis), axis, 0))
        planes[axis] = encode_flat(both.reshape(-1), both.shape, 0)
    values = None if rule.binary_image else labels
    return _Edge(piece.shape, values, planes, _native.crc32c(piece.binary), len(labels))


def _edges(rule: _Rule, chunks: list[Chunk]) -> list[tuple[Chunk, _Edge | None]]:
    found = read_all(rule.store, [(chunk, bound(_edge_plan, rule, chunk)) for chunk in chunks])
    return list(zip(chunks, found, strict=True))


Meeting = tuple[_Edge, list[tuple[Way, _Edge]]]


def _meetings(
    rule: _Rule, found: _Found, edges: Iterable[list[tuple[Chunk, _Edge | None]]]
) -> Iterator[list[Meeting]]:
    """Each two neighbours once, when both are there; an edge is dropped after its last."""
    grid, ways = rule.store.grid, rule.ways
    here: dict[Chunk, _Edge | None] = {}
    left: dict[Chunk, int] = {}
    for batch in edges:
        meetings = []
        for chunk, edge in batch:
            found.add(chunk, edge)
            here[chunk] = edge
            left[chunk] = 0
            others = []
            for way in ways:
                there = tuple(c + w for c, w in zip(chunk, way, strict=True))
                if not all(0 <= t < n for t, n in zip(there, grid, strict=True)):
                    continue
                if there not in here:
                    left[chunk] += 1
                    continue
                other = here[there]
                if edge is not None and other is not None:
                    others.append((way, other))
                left[there] -= 1
                if not left[there]:
                    del here[there], left[there]
            if not left[chunk]:
                del here[chunk], left[chunk]
            if edge is not None and others:
                meetings.append((edge, others))
        if meetings:
            yield meetings


def _met(rule: _Rule, meetings: list[Meeting]) -> Pairs:
    """The components that are one over the borders of chunks."""
    result = [np.zeros((0, 2), np.int64)]
    decoded: dict[tuple[int, int], npt.NDArray[Any]] = {}

    def plane(edge: _Edge, axis: int, last: bool) -> npt.NDArray[Any]:
        if (id(edge), axis) not in decoded:
            decoded[id(edge), axis] = edge.both(axis)
        found: npt.NDArray[Any] = decoded[id(edge), axis][int(last)]
        return found

    for edge, others in meetings:
        for way, other in others:
            axis = next(a for a, w in enumerate(way) if w)
            last = way[axis] > 0
            a, b = plane(edge, axis, last), plane(other, axis, not last)
            for i, w in enumerate(way):
                if w and i != axis:  # edges and corners of the planes
                    a = a.take([-1 if w > 0 else 0], i)
                    b = b.take([0 if w > 0 else -1], i)
            pairs = _touching(a, b, edge.labels, other.labels, rule.most - sum(w != 0 for w in way))
            result.append(pairs + np.array([edge.first - 1, other.first - 1]))
    return np.concatenate(result)


def _touching(
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    labels_a: npt.NDArray[Any] | None,
    labels_b: npt.NDArray[Any] | None,
    most: int,
) -> Pairs:
    """Components of equal labels in planes that face each other, each pair once.

    ``most``: along how many axes connected voxels may be aside of each other.
    """
    of_a, of_b = _label_of(a, labels_a), _label_of(b, labels_b)
    hit = (of_a == of_b) & (a != 0) & (b != 0)
    codes = [_codes(a[hit], b[hit])]
    # What is hit needs no look aside: equal labels there are the same component.
    left = np.nonzero((a != 0) & ~hit)
    if most and len(left[0]):
        here, label = a[left], of_a[left]
        around = np.zeros([n + 2 for n in b.shape], b.dtype)
        around[(slice(1, -1),) * b.ndim] = b
        places = np.ravel_multi_index([at + 1 for at in left], around.shape)
        strides = np.array(around.strides) // around.itemsize
        for step in product(*((-1, 0, 1) if n > 1 else (0,) for n in b.shape)):
            if 0 < sum(s != 0 for s in step) <= most:
                there = around.reshape(-1)[places + int(strides @ step)]
                hit = (there != 0) & (_label_of(there, labels_b) == label)
                codes.append(_codes(here[hit], there[hit]))
    every = np.unique(np.concatenate(codes))
    low = every & np.uint64(0xFFFFFFFF)
    return np.stack([every >> np.uint64(32), low], axis=1).astype(np.int64)


def _codes(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Pairs of components as one number each, most of those that repeat left out."""
    code = (a.astype(np.uint64) << np.uint64(32)) | b.astype(np.uint64)
    return code[:1] if len(code) < 2 else code[np.append(True, code[1:] != code[:-1])]


def _label_of(components: npt.NDArray[Any], labels: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = components != 0
    return found if labels is None else labels[np.maximum(components, 1) - 1]


# ---- one number for what is one component ----


class _Found:
    """The components of all chunks, and which are one: a forest, its roots the first of each."""

    def __init__(self, grid: tuple[int, ...]) -> None:
        self.counts = np.zeros(grid, np.int64)
        self._firsts = np.zeros(grid, np.int64)
        self._crcs = np.zeros(grid, np.uint32)
        self._parent = np.zeros(1024, np.int64)
        self._size = 0
        self._waiting: list[Pairs] = []
        self._pairs = 0

    def add(self, chunk: Chunk, edge: _Edge | None) -> None:
        """The components of the next chunk."""
        if edge is None:
            return
        edge.first = self._size
        self.counts[chunk] = edge.count
        self._firsts[chunk] = self._size
        self._crcs[chunk] = edge.crc
        self._size += edge.count
        if self._size > len(self._parent):
            more = max(self._size, len(self._parent) * 3 // 2) - len(self._parent)
            self._parent = np.concatenate([self._parent, np.zeros(more, np.int64)])
        self._parent[edge.first : self._size] = np.arange(edge.first, self._size)

    def join(self, pairs: Pairs) -> None:
        """Pairs of components that are one."""
        self._waiting.append(pairs)
        self._pairs += len(pairs)
        if self._pairs > max(_PAIRS, self._size // 4):
            self._join_all()

    def _join_all(self) -> None:
        pairs = np.concatenate(self._waiting) if self._waiting else np.zeros((0, 2), np.int64)
        self._waiting, self._pairs = [], 0
        parent = self._parent[: self._size]
        a, b = pairs[:, 0], pairs[:, 1]
        while True:
            a, b = parent[a], parent[b]
            differ = a != b
            if not differ.any():
                return
            a, b = np.minimum(a, b)[differ], np.maximum(a, b)[differ]
            # A root goes below the lowest that it meets; then all below theirs.
            np.minimum.at(parent, b, a)
            while True:
                above = parent[parent]
                if np.array_equal(above, parent):
                    break
                parent[:] = above

    def finish(self, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """The number of each component. OverflowError if they do not fit the dtype."""
        self._join_all()
        parent = self._parent[: self._size]
        is_root = np.empty(self._size, np.bool_)
        for i in range(0, self._size, 1 << 20):  # of little memory
            part = parent[i : i + (1 << 20)]
            is_root[i : i + len(part)] = part == np.arange(i, i + len(part))
        count = int(np.count_nonzero(is_root))
        if count > np.iinfo(dtype).max:
            fitting = np.min_scalar_type(count)
            raise OverflowError(f"{count} components do not fit {dtype}: use dtype={fitting}")
        number: npt.NDArray[Any] = np.cumsum(is_root, dtype=dtype)
        self._parent = self._parent[:0].copy()
        return number[parent]

    def of(self, numbers: npt.NDArray[Any], chunk: Chunk) -> tuple[npt.NDArray[Any], int]:
        """Those of a chunk, and the checksum of its components."""
        first = self._firsts[chunk]
        return numbers[first : first + self.counts[chunk]], int(self._crcs[chunk])


# ---- writing ----


def _final_plan(
    rule: _Rule, result: ChunkStore, chunk: Chunk, numbers: npt.NDArray[Any], crc: int
) -> Generator[list[Range], list[Any], bytes]:
    """A plan for the stream of a chunk's components with their numbers in the array."""
    found = yield from rule.numbered(chunk)
    binary = b"" if found is None else found[0].binary
    if found is None or binary is None or _native.crc32c(binary) != crc:
        raise RuntimeError(f"chunk {rule.store.key(chunk)} was changed meanwhile")
    piece, _ = found
    parts = Sections.of(binary)
    table = np.append(numbers[:1] * 0, numbers)[parts.table.astype(np.intp)]
    # Components of a chunk that are one don't touch in it: no border becomes a false one.
    parts.set_labels(parts.counts, table, parts.keys)
    parts.head = replace(
        parts.head, data_width=numbers.dtype.itemsize, signed=numbers.dtype.kind == "i"
    )
    stream = parts.tobytes()
    if piece.shape == result.chunks:
        return stream
    voxels = in_array_axes(rule.store, piece.window, decompress(stream, parallel=1))
    return encoded(result, voxels, 0)


def _write(
    rule: _Rule, result: ChunkStore, chunks: list[tuple[Chunk, npt.NDArray[Any], int]]
) -> None:
    """Write an object of the new array, if it has components."""
    streams = {}
    for i in range(0, len(chunks), _FEW):
        few = chunks[i : i + _FEW]
        plans = [(row[0], bound(_final_plan, rule, result, *row)) for row in few]
        found = read_all(rule.store, plans)
        streams.update({row[0]: stream for row, stream in zip(few, found, strict=True)})
    write_object(result, streams)
