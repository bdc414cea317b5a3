"""Sizes, boxes and centroids of the labels of a `LabelVolume`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial as bound
from itertools import chain
from typing import Any, Unpack, overload

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.chunk_stats import Merger, Statistics, Sums, absent, measure_plan, merged
from numcodecs_crackle.extras import required
from numcodecs_crackle.measure import Floats
from numcodecs_crackle.volume_work import FEW, VolumeWork
from numcodecs_crackle.work import How

__all__ = ["VolumeStatistics"]


Boxes = tuple[slice, ...]


class VolumeStatistics(VolumeWork):
    """Statistics, from borders."""

    def statistics(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        **how: Unpack[How],
    ) -> Statistics:
        """Voxel counts, bounding boxes and centroids as arrays.

        Parameters
        ----------
        label : int or iterable of int, optional
            Only these, of which those that are not there are left out. Chunks, and slices of
            chunks, without them are not read.
        region
            Only voxels in it; places are still those in the array.
        """
        return self._sums(label, region, how).statistics()

    def _sums(self, label: Any, region: Any, how: How) -> Sums:
        window, known = self._covered(region, how)
        nothing = Sums.none(self.dtype, len(self.shape))
        labels = None
        if label is not None:
            one = isinstance(label, (int, np.integer))
            labels = self._known([label] if one else list(label))
            if not len(labels):
                return nothing
        merger, added = Merger(nothing), bound(_merged_with, nothing)
        plan = bound(measure_plan, region=window, labels=labels)
        chunks, stored = self._present(window, known.chunks)
        if stored is not None and (labels is None or self._fill[0] in labels):
            merger.add(absent(self._store, window, stored))
        read = self._batches("Statistics", plan, chunks, FEW, how, added)
        for part in chain(known.sums(labels), read):
            merger.add(part)
        return merger.result()

    def table(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """The same as a pyarrow table, one row a label, ascending.

        Columns: ``label``, ``voxel_count``, and for each axis ``min_``, ``max_`` (inclusive)
        and ``centroid_`` with its name, or its number where axes have no names. ImportError
        without pyarrow.
        """
        pa = required("pyarrow", "index")
        return pa.table(self._columns(self.statistics(label, region, **how)))

    def _columns(self, found: Statistics) -> dict[str, npt.NDArray[Any]]:
        n = len(self.shape)
        columns = {"label": found.labels, "voxel_count": found.voxel_counts}
        for i, name in enumerate(self.axis_names):
            columns[f"min_{name}"] = found.boxes[:, i]
            columns[f"max_{name}"] = found.boxes[:, n + i]
        for i, name in enumerate(self.axis_names):
            columns[f"centroid_{name}"] = found.centroids[:, i]
        return columns

    @overload
    def voxel_counts(self, label: int, region: Any = None, **how: Unpack[How]) -> int: ...
    @overload
    def voxel_counts(
        self, label: Iterable[int] | None = None, region: Any = None, **how: Unpack[How]
    ) -> dict[int, int]: ...
    def voxel_counts(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """Voxels by label.

        Returns
        -------
        dict of int to int; an int if ``label`` is one

        Raises
        ------
        ValueError
            If there is no such label.
        """
        found = self.statistics(label, region, **how)
        return self._by_label(found, found.voxel_counts.tolist(), label)

    @overload
    def bounding_boxes(self, label: int, region: Any = None, **how: Unpack[How]) -> Boxes: ...
    @overload
    def bounding_boxes(
        self, label: Iterable[int] | None = None, region: Any = None, **how: Unpack[How]
    ) -> dict[int, Boxes]: ...
    def bounding_boxes(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """The bounding box of each label: a tuple of slices, for each axis one.

        Of millions of labels `statistics` gives them as an array, in a fraction of the time.

        Returns
        -------
        dict of int to such tuples; a tuple if ``label`` is one

        Raises
        ------
        ValueError
            If there is no such label.
        """
        found = self.statistics(label, region, **how)
        n = len(self.shape)
        boxes = [
            tuple(slice(a, b + 1) for a, b in zip(row[:n], row[n:], strict=True))
            for row in found.boxes.tolist()
        ]
        return self._by_label(found, boxes, label)

    @overload
    def centroids(self, label: int, region: Any = None, **how: Unpack[How]) -> Floats: ...
    @overload
    def centroids(
        self, label: Iterable[int] | None = None, region: Any = None, **how: Unpack[How]
    ) -> dict[int, Floats]: ...
    def centroids(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """The mean place of each label's voxels, in voxels: float64 array (ndim,).

        Returns
        -------
        dict of int to such arrays; an array if ``label`` is one

        Raises
        ------
        ValueError
            If there is no such label.
        """
        found = self.statistics(label, region, **how)
        return self._by_label(found, list(found.centroids), label)

    def _by_label(self, found: Statistics, rows: list[Any], label: Any) -> Any:
        if not isinstance(label, (int, np.integer)):
            return dict(zip(found.labels.tolist(), rows, strict=True))
        if not rows:
            raise ValueError(f"Label {label} not contained in image.")
        return rows[0]


def _merged_with(nothing: Sums, parts: list[Sums]) -> Sums:
    return merged([nothing, *parts])
