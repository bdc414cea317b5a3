"""How large voxels are, and where the first one is, by the metadata of OME-NGFF and of xarray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.storage import FsspecStore, LocalStore, StorePath

from numcodecs_crackle.ngff import multiscales, nanometres, ome_attributes

__all__ = ["Spacing", "multiscale", "names_of", "spacing_of"]

# Coordinates that are looked at one by one.
_MOST = 1 << 20


@dataclass(frozen=True)
class Spacing:
    """What is known of each axis of an array, in the array's order.

    Parameters
    ----------
    names
        "" where there is none.
    steps, starts
        From voxel to voxel, and of the first one, in nanometres; None where nothing says so.
    fault
        Why metadata that are there say nothing.
    """

    names: tuple[str, ...]
    steps: tuple[float, ...] | None = None
    starts: tuple[float, ...] | None = None
    fault: str | None = None


def _unit(unit: Any, what: str) -> float:
    """A unit in nanometres, which numbers without one are. ValueError for none of length."""
    if unit is None or unit == "":
        return 1.0
    text = str(unit)
    for name in (text, text.lower(), text.lower().replace("metre", "meter").removesuffix("s")):
        if (found := nanometres(name)) is not None:
            return found
    raise ValueError(f"the unit of {what} is {text!r:.80}, not one of length")


def spacing_of(array: Any) -> Spacing:
    """What is known of the axes of an array.

    From the OME-NGFF multiscales of the group that it is in, 0.4 or 0.5, else from xarray's
    coordinates beside it.

    Raises
    ------
    ValueError
        For metadata that make no sense, or have an unknown unit.
    """
    names = names_of(array)
    group, name = _parent(array)
    if group is None:
        return Spacing(names)
    if ome_attributes(group.attrs.asdict()).get("multiscales"):
        found = multiscale(group)
        if name in found and len(found[name].names) == array.ndim:
            return found[name]
    return _by_coordinates(group, names, array.shape) or Spacing(names)


def names_of(array: Any) -> tuple[str, ...]:
    """The names of axes, "" for none: by Zarr 3, or by what xarray notes in Zarr 2."""
    names: Any = getattr(array.metadata, "dimension_names", None)
    if names is None:
        names = array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, (list, tuple)) or len(names) != array.ndim:
        return ("",) * len(array.shape)
    return tuple("" if name is None else str(name) for name in names)


def _parent(array: Any) -> tuple[Any, str]:
    """The group that an array is in, None if there is none; and its name there."""
    place = array.store_path
    folder, _, name = place.path.rpartition("/")
    store = place.store
    if not place.path and isinstance(store, LocalStore):
        root = store.root.absolute()
        store, name = LocalStore(root.parent, read_only=True), root.name
    elif not place.path and isinstance(store, FsspecStore):
        above, _, name = store.path.rstrip("/").rpartition("/")
        store = FsspecStore(store.fs, read_only=True, path=above)
    elif not place.path:
        return None, ""
    try:
        parent = StorePath(store, folder)
        return zarr.open_group(parent, mode="r", zarr_format=array.metadata.zarr_format), name
    except Exception:  # stores differ in what they raise where there is none
        return None, name


# ---- OME-NGFF ----


def multiscale(group: Any) -> dict[str, Spacing]:
    """The arrays of a multiscale image, the finest first, by their paths in the group.

    Raises
    ------
    ValueError
        If the group has none, or a unit is unknown; `FormatError`, which is one, for metadata
        that are not as NGFF 0.4 and 0.5 have them.
    """
    found = multiscales(group.attrs.asdict(), str(group.store_path))
    if not found:
        raise ValueError(f"{group.store_path} is a group without OME multiscales: give its arrays")
    image = found[0]
    names = tuple(axis.name for axis in image.axes)
    units = [
        _unit(axis.unit, f"axis {axis.name}") if axis.type in (None, "space") else 1.0
        for axis in image.axes
    ]
    return {
        level.path: Spacing(
            names,
            tuple(a * unit for a, unit in zip(level.scale, units, strict=True)),
            tuple(a * unit for a, unit in zip(level.translation, units, strict=True)),
        )
        for level in image.levels
    }


# ---- xarray ----


def _by_coordinates(group: Any, names: Sequence[str], shape: Sequence[int]) -> Spacing | None:
    """By coordinates at regular steps; None if an axis of more than one voxel has none."""
    steps, starts = [], []
    for name, n in zip(names, shape, strict=True):
        found = _regular(group, name, n)
        if found is None and n > 1:
            return None
        step, start = found or (1.0, 0.0)
        steps.append(step)
        starts.append(start)
    return Spacing(tuple(names), tuple(steps), tuple(starts)) if steps else None


def _regular(group: Any, name: str, n: int) -> tuple[float, float] | None:
    """The step and the start of a coordinate, in nanometres."""
    if not name or "/" in name or n < 2:
        return None
    try:
        array = group.get(name)
    except (KeyError, ValueError):  # a name that can't be one of a node
        return None
    if not isinstance(array, zarr.Array) or array.shape != (n,):
        return None
    if array.dtype.kind not in "iuf" or "scale_factor" in array.attrs:
        return None
    some = n if n <= _MOST else 2
    values = np.asarray(array[:some]).astype(float)
    last = float(values[-1]) if some == n else float(np.asarray(array[n - 1 :])[0])
    start, step = float(values[0]), (last - float(values[0])) / (n - 1)
    right = start + step * np.arange(some)
    if not (math.isfinite(step) and step > 0) or not np.allclose(
        values, right, rtol=1e-9, atol=1e-3 * step
    ):
        return None
    unit = _unit(array.attrs.get("units"), f"coordinate {name}")
    return step * unit, start * unit
