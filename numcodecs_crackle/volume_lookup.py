"""Which labels a `LabelVolume` has, and where; and its voxels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial as bound
from itertools import chain
from typing import Any, Unpack, overload

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.chunk_lookup import holding_plan, labels_plan, mask_plan, voxels_plan
from numcodecs_crackle.store import Chunk
from numcodecs_crackle.volume_work import FEW, MANY, VolumeWork
from numcodecs_crackle.work import How

__all__ = ["VolumeLookup", "union"]


class VolumeLookup(VolumeWork):
    """Labels from the tables of chunks, and voxels of those that matter."""

    def labels(self, region: Any = None, **how: Unpack[How]) -> npt.NDArray[Any]:
        """The labels of the volume, or of a region: array (n,), sorted, each once."""
        window, known = self._covered(region, how)
        plan = bound(labels_plan, region=window)
        chunks, stored = self._present(window, known.chunks)
        fill = [] if stored is None else [self._fill]
        read = self._batches("Labels", plan, chunks, MANY, how, _union)
        return union(chain(fill, known.labels(), read), self.dtype)

    def num_labels(self, region: Any = None, **how: Unpack[How]) -> int:
        """The number of labels."""
        return len(self.labels(region, **how))

    def min(self, region: Any = None, **how: Unpack[How]) -> int:
        """The smallest label. ValueError if there are no voxels."""
        return self._extreme(0, region, how)

    def max(self, region: Any = None, **how: Unpack[How]) -> int:
        """The largest label. ValueError if there are no voxels."""
        return self._extreme(-1, region, how)

    def _extreme(self, which: int, region: Any, how: How) -> int:
        found = self.labels(region, **how)
        if not len(found):
            raise ValueError("there are no voxels")
        return int(found[which])

    def contains(self, label: int, region: Any = None, **how: Unpack[How]) -> bool:
        """Whether there is a label; stops at the first chunk that has it."""
        window, known = self._covered(region, how)
        wanted = self._known([label])
        if not len(wanted):
            return False
        plan = bound(holding_plan, region=window, labels=wanted)
        chunks, stored = self._present(window, known.chunks)
        if stored is not None and self._fill[0] in wanted:
            return True
        read = self._each("Search", plan, chunks, MANY, how)
        return any(True for _ in known.holding(wanted)) or any(len(held) for _, held in read)

    def __contains__(self, label: int) -> bool:
        return self.contains(label)

    @overload
    def chunks_with(self, label: int, region: Any = None, **how: Unpack[How]) -> list[Chunk]: ...
    @overload
    def chunks_with(
        self, label: Iterable[int], region: Any = None, **how: Unpack[How]
    ) -> dict[int, list[Chunk]]: ...
    def chunks_with(
        self, label: int | Iterable[int], region: Any = None, **how: Unpack[How]
    ) -> Any:
        """The chunks that have a label, or each of some labels.

        Returns
        -------
        list of tuple of int
            Places in the grid of chunks, C order (of shards after each other); with several
            labels a dict of such lists by label, of those that are there.
        """
        one = isinstance(label, (int, np.integer))
        window, known = self._covered(region, how)
        wanted = self._known([label] if one else list(label))  # type: ignore[arg-type]
        found: dict[int, list[Chunk]] = {}
        if len(wanted):
            plan = bound(holding_plan, region=window, labels=wanted)
            chunks = known.chunks
            if self._fill[0] not in wanted:
                chunks, _ = self._present(window, chunks)
            for chunk, held in self._each("Search", plan, chunks, MANY, how):
                for value in held.tolist():
                    found.setdefault(value, []).append(chunk)
            found = known.with_chunks(found, wanted)
        if one:
            return next(iter(found.values()), [])
        return dict(sorted(found.items()))

    def labels_by_chunk(
        self, region: Any = None, **how: Unpack[How]
    ) -> Iterator[tuple[Chunk, npt.NDArray[Any]]]:
        """The labels of each chunk, or of what of it lies in a region.

        Yields
        ------
        (place in the grid of chunks, array (n,) of labels, sorted)
        """
        self._options(how)  # a mistyped one is an error now
        window, chunks = self._chunks(region)
        plan = bound(labels_plan, region=window)
        return self._each("Labels", plan, chunks, MANY, how)

    # ---- voxels ----

    def mask(
        self, label: int, region: Any = None, **how: Unpack[How]
    ) -> tuple[tuple[int, ...], npt.NDArray[np.bool_]]:
        """Where a label is. Only chunks and slices that have it are read.

        Returns
        -------
        offset : tuple of int
            The first voxel of the label's bounding box.
        mask : bool array
            Of the bounding box.

        Raises
        ------
        ValueError
            If there is no such label.
        """
        window, known = self._covered(region, how)
        parts = []
        if len(wanted := self._known([label])):
            plan = bound(mask_plan, region=window, label=int(label))
            chunks = known.chunks_holding(wanted)
            if self._fill[0] not in wanted:
                chunks, _ = self._present(window, chunks)
            for _, part in self._each("Mask", plan, chunks, FEW, how):
                if part is not None:
                    parts.append(part)
        if not parts:
            raise ValueError(f"Label {label} not contained in image.")
        low = np.min([offset for offset, _ in parts], axis=0)
        high = np.max([np.add(offset, part.shape) for offset, part in parts], axis=0)
        result = np.zeros(tuple((high - low).tolist()), np.bool_)
        for offset, part in parts:
            place = tuple(
                slice(o - a, o - a + n)
                for o, a, n in zip(offset, low.tolist(), part.shape, strict=True)
            )
            result[place] = part
        return tuple(low.tolist()), result

    def read(
        self,
        region: Any = None,
        labels: int | Iterable[int] | None = None,
        **how: Unpack[How],
    ) -> npt.NDArray[Any]:
        """The voxels of a region; in shards, too, only the slices of it are read.

        Parameters
        ----------
        labels : int or iterable of int, optional
            Others become 0; what has none of these is not decoded.

        Returns
        -------
        array
            With all axes: an integer in ``region`` gives one of length 1.
        """
        window, chunks = self._chunks(region)
        result = np.zeros(tuple(b - a for a, b in window), self.dtype)
        wanted = None
        if labels is not None:
            one = isinstance(labels, (int, np.integer))
            wanted = self._known([labels] if one else list(labels))  # type: ignore[arg-type]
        fill = wanted is None or self._fill[0] in wanted
        chunks, stored = self._present(window, chunks)
        if fill and stored is not None:
            result[...] = self._fill[0]
        plan = bound(voxels_plan, region=window, labels=wanted)
        for _, found in self._each("Voxels", plan, chunks, FEW, how):
            if found is None:
                continue
            place, voxels = found
            here = tuple(slice(a - o, b - o) for (a, b), (o, _) in zip(place, window, strict=True))
            result[here] = self._store.fill if voxels is None else voxels
        if self._store.is_bool:
            return result.view(np.bool_)
        return result


def union(parts: Iterable[npt.NDArray[Any]], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The labels of many parts, sorted, each once; no more than a few times these are held."""
    found = np.zeros(0, dtype)
    waiting: list[npt.NDArray[Any]] = []
    rows = 0
    for part in parts:
        waiting.append(part)
        rows += len(part)
        if rows > max(1 << 16, 2 * len(found)):
            found, waiting, rows = _union([found, *waiting]), [], 0
    return _union([found, *waiting])


def _union(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if not parts:
        return np.zeros(0, np.uint8)
    # A stable sort merges what is sorted: of millions, far faster than numpy's unique.
    every: npt.NDArray[Any] = np.sort(np.concatenate(parts), kind="stable")
    first: npt.NDArray[np.bool_] = np.append(True, every[1:] != every[:-1])
    return every[first[: len(every)]]
