"""What a label index answers of a region, and what is left to be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.chunk_stats import Sums
from numcodecs_crackle.grid import ChunksIn, Window
from numcodecs_crackle.index import LabelIndex
from numcodecs_crackle.index_parts import Ids, Rows
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.work import How

__all__ = ["Covered", "covered"]

Chunks = list[Chunk] | ChunksIn


class Covered:
    """What an index answers of a window, and the chunks that it does not.

    Attributes
    ----------
    chunks : collection of tuple of int
        Those that are cut by the window, or not in the index: they are to be read.
    """

    def __init__(
        self, index: LabelIndex | None, mask: npt.NDArray[np.bool_] | None, chunks: Chunks
    ) -> None:
        self._index, self._mask = index, mask
        self.chunks: Chunks = chunks

    def _columns(
        self, labels: npt.NDArray[Any] | None, names: list[str], chunks: bool
    ) -> Iterator[dict[str, npt.NDArray[Any]]]:
        if self._index is None or self._mask is None:
            return
        yield from self._index.columns(self._mask, labels, names, chunks)

    def _in_memory(self, labels: npt.NDArray[Any] | None) -> Rows | None:
        if self._index is None or self._mask is None:
            return None
        return self._index.in_memory(self._mask, labels)

    def labels(self) -> Iterator[npt.NDArray[Any]]:
        """The labels, in parts, sorted, each once in each."""
        for columns in self._columns(None, ["label"], False):
            found = columns["label"]
            yield found[np.append(True, found[1:] != found[:-1])[: len(found)]]
        if (rows := self._in_memory(None)) is not None:
            yield np.unique(rows.sums.labels)

    def sums(self, labels: npt.NDArray[Any] | None) -> Iterator[Sums]:
        """The sums, in parts, of some labels (sorted) or all."""
        if self._index is None:
            return
        layout = self._index.layout
        for columns in self._columns(labels, ["label", *layout.sum_columns], False):
            yield layout.sums_in(columns)
        if (rows := self._in_memory(labels)) is not None:
            yield rows.sums

    def holding(self, labels: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], Ids]]:
        """Which of some labels (sorted) which chunks have, in parts: labels, chunk numbers."""
        if self._index is None:
            return
        for columns in self._columns(labels, ["label"], True):
            if len(columns["label"]):
                yield columns["label"], self._index.layout.chunks_in(columns)
        if (rows := self._in_memory(labels)) is not None and len(rows.chunks):
            yield rows.sums.labels, rows.chunks

    def with_chunks(
        self, found: dict[int, list[Chunk]], labels: npt.NDArray[Any]
    ) -> dict[int, list[Chunk]]:
        """Lists of chunks by label, those of the index added, in order."""
        parts = list(self.holding(labels))
        if self._index is None or not parts:
            return found
        index, dtype = self._index, self._index.layout.dtype
        for label, chunks in found.items():
            ids = index.ids_of(chunks)
            parts.append((np.full(len(ids), label, dtype), ids))
        every = np.concatenate([part[0] for part in parts])
        ids = np.concatenate([part[1] for part in parts])
        order = index.order(ids)
        order = order[np.argsort(every[order], kind="stable")]
        every, chunks = every[order], index.chunks_of(ids[order])
        first = np.flatnonzero(np.append(True, every[1:] != every[:-1])).tolist()
        ends = [*first[1:], len(chunks)]
        return {int(every[a]): chunks[a:b] for a, b in zip(first, ends, strict=True)}

    def chunks_holding(self, labels: npt.NDArray[Any]) -> Chunks:
        """The chunks to be read for some labels: those of the index that have any, too."""
        ids = [ids for _, ids in self.holding(labels)]
        if self._index is None or not ids:
            return self.chunks
        every = np.unique(np.concatenate([*ids, self._index.ids_of(list(self.chunks))]))
        return self._index.chunks_of(every[self._index.order(every)])


def covered(index: LabelIndex | None, store: ChunkStore, window: Window, how: How) -> Covered:
    """What of a window of an array its index answers, if it has one."""
    if index is None:
        return Covered(None, None, ChunksIn(store, window))
    index.ready(how)
    index = index.snapshot()
    grid = index.layout.grid
    mask, asked = np.zeros(grid, np.bool_), np.zeros(grid, np.bool_)
    if all(a < b for a, b in window):
        axes = list(zip(window, store.chunks, store.shape, strict=True))
        asked[tuple(slice(a // c, -(-b // c)) for (a, b), c, _ in axes)] = True
        # A chunk at the edge is whole if all of it is there that the array has.
        whole = tuple(slice(-(-a // c), -(-b // c) if b == n else b // c) for (a, b), c, n in axes)
        mask[whole] = index.usable.reshape(grid)[whole]
    asked &= ~mask
    others = np.flatnonzero(asked)
    return Covered(index, mask.reshape(-1), index.chunks_of(others[index.order(others)]))
