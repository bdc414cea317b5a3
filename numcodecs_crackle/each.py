"""Labels as images, one by one or 255 at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import limits
from numcodecs_crackle.edit import astype, remap
from numcodecs_crackle.measure import totals
from numcodecs_crackle.stream import decompress, opened
from numcodecs_crackle.stream import labels as labels_of

__all__ = ["each"]

_AT_A_TIME = 255


T = TypeVar("T")
# A label and where it is; a label, its number, and the array of numbers.
Single = tuple[int, npt.NDArray[np.bool_]]
Shared = tuple[int, int, npt.NDArray[np.uint8]]


@overload
def each(
    binary: Any,
    parallel: int = 0,
    crop: bool = True,
    labels: Iterable[int] | None = None,
    multi: Literal[False] = False,
) -> Images[Single]: ...
@overload
def each(
    binary: Any,
    parallel: int = 0,
    crop: bool = True,
    labels: Iterable[int] | None = None,
    *,
    multi: Literal[True],
) -> Images[Shared]: ...
@overload
def each(
    binary: Any,
    parallel: int = 0,
    crop: bool = True,
    labels: Iterable[int] | None = None,
    multi: bool = False,
) -> Images[Any]: ...
def each(
    binary: Any,
    parallel: int = 0,
    crop: bool = True,
    labels: Iterable[int] | None = None,
    multi: bool = False,
) -> Images[Any]:
    """Iterate over the labels and where they are. The result has a length.

    Parameters
    ----------
    crop : bool
        Cut each image to the label's bounding box.
    labels : list of int, optional
        Only these, as far as they are there.
    multi : bool
        Decode 255 labels at a time, which is much faster where there are many; not cropped.

    Yields
    ------
    label, bool array
    label, number, uint8 array (with ``multi``)
        The label is where the array is ``number``; labels of other arrays are 0. The array is
        the same for up to 255 labels in turn.
    """
    every = labels_of(binary).tolist()
    if labels is not None:
        wanted = set(map(int, labels))
        every = [label for label in every if label in wanted]
    return Images(binary, every, parallel, crop, multi)


class Images(Generic[T]):
    """Labels, and where they are; as many as its length."""

    def __init__(
        self, binary: Any, labels: list[int], parallel: int, crop: bool, multi: bool
    ) -> None:
        self._binary, self._labels, self._parallel = binary, labels, parallel
        self._crop, self._multi = crop, multi

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[T]:
        return self._several() if self._multi else self._single()

    def _single(self) -> Iterator[Any]:
        boxes = {}
        if self._crop:
            found = totals(self._binary, boxes=True, parallel=self._parallel)
            assert found.boxes is not None
            boxes = dict(zip(found.labels.tolist(), found.boxes.tolist(), strict=True))
        for label in self._labels:
            if label not in boxes:  # not cropped, or of no voxel
                yield label, decompress(self._binary, label, self._parallel)
                continue
            x, y, z, x_last, y_last, z_last = boxes[label]
            image = decompress(self._binary, label, self._parallel, z_start=z, z_end=z_last + 1)[
                x : x_last + 1, y : y_last + 1
            ]
            yield label, image.copy(order="F" if image.strides[0] == 1 else "C")

    def _several(self) -> Iterator[Any]:
        others = dict.fromkeys(labels_of(self._binary).tolist(), 0)
        for i in range(0, len(self._labels), _AT_A_TIME):
            batch = self._labels[i : i + _AT_A_TIME]
            mapping = others | {label: number for number, label in enumerate(batch, 1)}
            stream, _ = opened(self._binary)
            stream.allow(stream.slices)
            image = decompress(
                astype(remap(self._binary, mapping), np.uint8),
                None,
                self._parallel,
                max_voxels=limits.EXPECTED,
            )
            for number, label in enumerate(batch, 1):
                yield label, number, image
