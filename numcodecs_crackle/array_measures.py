"""What a `CrackleArray` measures of its labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import measure
from numcodecs_crackle.each import Images, Shared, Single, each

__all__ = ["ArrayMeasures"]


class ArrayMeasures:
    """Measures, of the stream or of a table beside its file."""

    binary: Any
    parallel: int
    _meta: Any  # a binary, and a table of its measures

    def totals(self, label: int | None, **wanted: bool) -> measure.Totals:
        """What the measures are made of; from the table beside the file if there is one."""
        meta = self._meta
        if meta is not None and meta[0] is self.binary:
            return measure.from_parquet(meta[1], label)
        return measure.totals(self, label, parallel=self.parallel, **wanted)

    def use_measures(self, table: Any) -> None:
        """Answer from a table of `to_parquet`, of this stream; None to measure again."""
        self._meta = None if table is None else (self.binary, table)

    @overload
    def voxel_counts(self, label: None = None) -> dict[int, int]: ...
    @overload
    def voxel_counts(self, label: int) -> int: ...
    def voxel_counts(self, label: int | None = None) -> Any:
        """Voxels by label, or of one: see `numcodecs_crackle.voxel_counts`."""
        found = self.totals(label)
        return measure.by_label(found, found.counts.tolist(), label)

    @overload
    def centroids(self, label: None = None) -> dict[int, measure.Floats]: ...
    @overload
    def centroids(self, label: int) -> measure.Floats: ...
    def centroids(self, label: int | None = None) -> Any:
        """Mean x, y, z by label, or of one: see `numcodecs_crackle.centroids`."""
        found = self.totals(label, means=True)
        return measure.by_label(found, list(found.means), label)  # type: ignore[arg-type]

    @overload
    def bounding_boxes(
        self, label: None = None, no_slice_conversion: Literal[False] = False
    ) -> dict[int, measure.Box]: ...
    @overload
    def bounding_boxes(
        self, label: int, no_slice_conversion: Literal[False] = False
    ) -> measure.Box: ...
    @overload
    def bounding_boxes(
        self, label: None = None, *, no_slice_conversion: Literal[True]
    ) -> dict[int, measure.Corners]: ...
    @overload
    def bounding_boxes(self, label: int, no_slice_conversion: Literal[True]) -> measure.Corners: ...
    @overload
    def bounding_boxes(
        self, label: int | None = None, no_slice_conversion: bool = False
    ) -> Any: ...
    def bounding_boxes(self, label: int | None = None, no_slice_conversion: bool = False) -> Any:
        """Boxes by label, or of one: see `numcodecs_crackle.bounding_boxes`."""
        boxes: Any = (found := self.totals(label, boxes=True)).boxes
        rows = list(boxes) if no_slice_conversion else measure.box_slices(boxes)
        return measure.by_label(found, rows, label)

    @overload
    def point_cloud(
        self, label: int, skip_background: bool = True, z_start: int = -1, z_end: int = -1
    ) -> measure.Points: ...
    @overload
    def point_cloud(
        self,
        label: Iterable[int] | None = None,
        skip_background: bool = True,
        z_start: int = -1,
        z_end: int = -1,
    ) -> dict[int, measure.Points]: ...
    def point_cloud(
        self,
        label: int | Iterable[int] | None = None,
        skip_background: bool = True,
        z_start: int = -1,
        z_end: int = -1,
    ) -> Any:
        """Surface voxels by label, or of one: see `numcodecs_crackle.point_cloud`."""
        return measure.point_cloud(self, label, self.parallel, z_start, z_end, skip_background)

    def contacts(
        self, anisotropy: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ) -> dict[tuple[int, int], float]:
        """Areas by pair of labels: see `numcodecs_crackle.contacts`."""
        return measure.contacts(self, anisotropy, self.parallel)

    def voxel_connectivity_graph(self, connectivity: int = 4) -> npt.NDArray[np.uint8]:
        """Bits of neighbours: see `numcodecs_crackle.voxel_connectivity_graph`."""
        return measure.voxel_connectivity_graph(self, connectivity, self.parallel)

    def edge_labels(self) -> set[int]:
        """The labels at the border of the volume."""
        return measure.edge_labels(self, self.parallel)

    def select_enclosed_points(self, label: int, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether points (n, 3) of x, y, z lie in a label."""
        return measure.select_enclosed_points(self, label, points, self.parallel)

    def signed_distance_to_boundary(
        self, label: int, points: npt.ArrayLike, progress: bool = False
    ) -> npt.NDArray[np.float32]:
        """See `numcodecs_crackle.signed_distance_to_boundary`."""
        return measure.signed_distance_to_boundary(
            self, label, points, parallel=self.parallel, progress=progress
        )

    @overload
    def each(
        self,
        crop: bool = True,
        labels: Iterable[int] | None = None,
        multi: Literal[False] = False,
    ) -> Images[Single]: ...
    @overload
    def each(
        self, crop: bool = True, labels: Iterable[int] | None = None, *, multi: Literal[True]
    ) -> Images[Shared]: ...
    @overload
    def each(
        self, crop: bool = True, labels: Iterable[int] | None = None, multi: bool = False
    ) -> Images[Any]: ...
    def each(
        self, crop: bool = True, labels: Iterable[int] | None = None, multi: bool = False
    ) -> Images[Any]:
        """Iterate over labels and where they are: see `numcodecs_crackle.each`."""
        return each(self, self.parallel, crop, labels, multi)

    def array_equal(self, other: Any) -> bool:
        """Whether another stream has the same shape and labels."""
        return measure.array_equal(self, other, self.parallel)

    def to_parquet(self) -> Any:
        """Counts, boxes and centroids as a pyarrow table."""
        return measure.to_parquet(self, self.parallel)

    def cache_meta(self, filelike: Any) -> Any:
        """Write the table of `to_parquet` to a file, and return it."""
        from numcodecs_crackle import files

        return files.cache_meta(self, filelike, self.parallel)
