"""Labels of xarray's arrays that lie in Zarr: ``ds["seg"].crackle``.

``import numcodecs_crackle.accessor`` once, which registers it. xarray has no entry point that
would do this by itself.

    >>> import xarray as xr
    >>> import numcodecs_crackle.accessor
    >>> ds = xr.open_zarr("volume.zarr")  # or chunks=None, or xr.open_dataset(engine="zarr")
    >>> ds["seg"].crackle.labels(region={"z": slice(0, 64)})
    >>> ds["seg"].crackle.mask(1234).plot()

What the array was opened from is asked, not the array: nothing is loaded, and most answers
come from the label tables of the chunks. So it is for arrays as they were opened, and for
contiguous selections of these (without dask; with it, pass ``region``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr

from numcodecs_crackle.extras import required

if TYPE_CHECKING:
    import xarray

    from numcodecs_crackle.volume import LabelVolume

__all__ = ["CrackleAccessor", "source_of"]

Region = tuple[slice, ...]

# What xarray lays around an array without changing which values it has, or where.
_TRANSPARENT = {
    "MemoryCachedArray",
    "CopyOnWriteArray",
    "ImplicitToExplicitIndexingAdapter",
    "NativeEndiannessArray",
}
_BEFORE = "take .crackle of the array before"


class _Source(NamedTuple):
    """A Zarr array, the part of it that an array shows, and its axes that this has."""

    array: zarr.Array[Any]
    region: Region
    axes: tuple[int, ...]


def source_of(dataarray: xarray.DataArray) -> tuple[zarr.Array[Any], Region]:
    """Find the Zarr array behind lazy data, and which part of it the data are.

    Parameters
    ----------
    dataarray : xarray.DataArray
        Opened from Zarr, with dask or without, and not loaded. Without dask it may be a
        selection: of contiguous slices, and of single indices, which drop an axis.

    Returns
    -------
    array : zarr.Array
    region : tuple of slices
        In all axes of the Zarr array, with start and stop and without a step. That of an axis
        which a selection dropped has a length of one.

    Raises
    ------
    ValueError
        For a selection that is not a box, and any selection of a dask array.
    TypeError
        For data that are not those of a Zarr array: loaded, computed, transposed, rechunked,
        or decoded on opening (as are those with a ``_FillValue`` or a scale).
    """
    array, region, _ = _source_of(dataarray)
    return array, region


def _source_of(dataarray: xarray.DataArray) -> _Source:
    data: Any = dataarray.variable._data
    if hasattr(data, "dask"):
        data = _opened_by_dask(data)
    keys = []
    while True:
        name = type(data).__name__
        if isinstance(data, zarr.Array):
            break
        if isinstance(data, np.ndarray) or name == "NumpyIndexingAdapter":
            raise TypeError(
                "the array is in memory, and not the Zarr array that it may have been read from: "
                f"{_BEFORE} it is loaded or changed, or open with cache=False"
            )
        if not type(data).__module__.startswith("xarray."):
            raise TypeError(f"the array was not opened from Zarr, but is one of {name}")
        if name == "LazilyVectorizedIndexedArray":
            raise TypeError(f"the array is transposed, or picked by points: {_BEFORE} that")
        if name == "LazilyIndexedArray":
            keys.append(data.key.tuple)
            data = data.array
        elif name == "ZarrArrayWrapper":
            data = data._array
        elif name in _TRANSPARENT:
            data = data.array
        else:
            raise TypeError(
                f"the array is decoded by xarray ({name}): open it with mask_and_scale=False, "
                "or its Zarr array by LabelVolume"
            )
    source = _whole(data)
    for key in reversed(keys):  # those that were made first are the innermost
        source = _selected(source, key)
    shape = tuple(source.region[axis].stop - source.region[axis].start for axis in source.axes)
    if shape != dataarray.shape or (
        dataarray.dtype.newbyteorder("=") != data.dtype.newbyteorder("=")
    ):
        raise TypeError(
            f"the array is of shape {dataarray.shape} and {dataarray.dtype}, and what lies in "
            f"Zarr behind it of {shape} and {data.dtype}: {_BEFORE} it is changed"
        )
    return source


def _opened_by_dask(data: Any) -> Any:
    """What the blocks of a dask array are slices of."""
    name = data.name
    graph = data.dask
    opened = f"original-{name}"
    # Thus, and only thus, dask makes an array that takes its blocks from an object. It does
    # so for the whole of it. Once persisted or optimised, this is gone.
    if hasattr(graph, "layers") and graph.dependencies.get(name) == {opened}:
        found = dict(graph.layers[opened]).get(opened)
        if found is not None and found.shape == data.shape:
            return found
    if name.startswith("getitem-"):
        raise ValueError(
            f"the array is selected from a dask array: {_BEFORE} selecting, or pass region="
        )
    raise TypeError(
        f"the array is made by dask ({name.partition('-')[0]}), and not as it was opened from "
        f"Zarr: {_BEFORE} it is changed, rechunked or persisted"
    )


def _whole(array: zarr.Array[Any]) -> _Source:
    return _Source(array, tuple(slice(0, n) for n in array.shape), tuple(range(array.ndim)))


def _selected(source: _Source, key: Sequence[Any]) -> _Source:
    """The part that a key selects, which has an integer, slice or array for each axis."""
    region, axes = list(source.region), []
    for axis, entry in zip(source.axes, key, strict=True):
        start, stop = region[axis].start, region[axis].stop
        if isinstance(entry, slice):
            places = range(start, stop)[entry]
            if len(places) > 1 and places.step != 1:
                raise ValueError(f"axis {axis} is selected in steps: {_BEFORE} selecting")
            first = places[0] if places else start
            region[axis] = slice(first, first + len(places))
            axes.append(axis)
        elif isinstance(entry, (int, np.integer)):
            place = range(start, stop)[entry]
            region[axis] = slice(place, place + 1)
        else:
            raise ValueError(f"axis {axis} is selected by an array: {_BEFORE} selecting")
    return _Source(source.array, tuple(region), tuple(axes))


class CrackleAccessor:
    """Labels of an array that lies in Zarr: ``dataarray.crackle``.

    All methods raise the errors of `source_of`, and those of `LabelVolume`. Their ``region``
    is a part of the array, as a dict of dimensions to slices of positions (as ``isel`` takes
    them); all of it where it is None.
    """

    def __init__(self, dataarray: xarray.DataArray):
        # Nothing is looked for yet: an array in memory has the attribute, too.
        self._dataarray = dataarray
        self._volume: LabelVolume | None = None

    def _at(self, region: Mapping[Any, slice] | None) -> tuple[LabelVolume, _Source, _Source]:
        """The volume, what of it the array shows, and what of this is asked for."""
        from numcodecs_crackle.volume import LabelVolume

        # Looked for each time, as others may have taken the place of the data: those loaded.
        shown = _source_of(self._dataarray)
        if self._volume is None or self._volume.array is not shown.array:
            self._volume = LabelVolume(shown.array)
        dims = self._dataarray.dims
        region = {} if region is None else region
        unknown = set(region) - set(dims)
        if unknown:
            raise ValueError(f"the array has no dimension {sorted(map(str, unknown))}")
        for part in region.values():
            if not isinstance(part, slice):
                raise TypeError(f"a region is made of slices, not of {part!r}")
        asked = _selected(shown, [region.get(dim, slice(None)) for dim in dims])
        return self._volume, shown, asked

    @property
    def volume(self) -> LabelVolume:
        """The `LabelVolume` of the Zarr array: of all of it, in its own axes.

        As xarray opens arrays to be read, edits are for one that is opened without it.
        """
        return self._at(None)[0]

    def labels(self, region: Mapping[Any, slice] | None = None) -> npt.NDArray[Any]:
        """The labels, ascending, each once."""
        volume, _, asked = self._at(region)
        found: npt.NDArray[Any] = volume.labels(region=asked.region)
        return found

    def contains(self, label: int, region: Mapping[Any, slice] | None = None) -> bool:
        """Whether a label is there."""
        volume, _, asked = self._at(region)
        return bool(volume.contains(label, region=asked.region))

    def voxel_counts(
        self, label: int | None = None, region: Mapping[Any, slice] | None = None
    ) -> dict[int, int] | int:
        """The number of voxels of each label, as a dict, or that of one label."""
        volume, _, asked = self._at(region)
        counts: dict[int, int] | int = volume.voxel_counts(label, region=asked.region)
        return counts

    def mask(self, label: int, region: Mapping[Any, slice] | None = None) -> xarray.DataArray:
        """Where a label is, in the box around it.

        Returns
        -------
        xarray.DataArray of bool
            With the dimensions of the array, and its coordinates within the box.

        Raises
        ------
        ValueError
            If there is no such label.
        """
        volume, shown, asked = self._at(region)
        offset, mask = volume.mask(label, region=asked.region)
        box = {}
        for dim, axis in zip(self._dataarray.dims, shown.axes, strict=True):
            start = offset[axis] - shown.region[axis].start
            box[dim] = slice(start, start + mask.shape[axis])
        part = self._dataarray.isel(box)
        # Axes that a selection dropped have a length of one.
        result: xarray.DataArray = required("xarray", "xarray").DataArray(
            mask.reshape(part.shape), coords=part.coords, dims=part.dims, name=part.name
        )
        return result


required("xarray", "xarray").register_dataarray_accessor("crackle")(CrackleAccessor)
