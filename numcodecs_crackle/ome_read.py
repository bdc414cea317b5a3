"""OME-Zarr label images, found and opened. See `numcodecs_crackle.ome`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import zarr

from numcodecs_crackle import ngff
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.ngff import ImageLabel, Multiscale
from numcodecs_crackle.volume import LabelVolume

__all__ = [
    "LabelImage",
    "attributes_of",
    "label_images",
    "listed",
    "opened",
    "read_labels",
    "where_of",
]


@dataclass(frozen=True)
class LabelImage:
    """A label image of an OME-Zarr group.

    Attributes
    ----------
    group : zarr.Group
    name : str
        Its path in the group of label images.
    image : ngff.Multiscale
        Its version, axes and levels.
    arrays : tuple of zarr.Array
        Its levels, the finest first, whatever codec they have.
    labels : ngff.ImageLabel
        Colours and properties of labels, and the path of the source.
    """

    group: zarr.Group
    name: str
    image: Multiscale
    arrays: tuple[zarr.Array[Any], ...]
    labels: ImageLabel

    @property
    def version(self) -> str:
        """ "0.4" or "0.5"."""
        return self.image.version

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes."""
        return tuple(axis.name for axis in self.image.axes)

    @property
    def units(self) -> tuple[str | None, ...]:
        """The unit of each axis, by its full name."""
        return tuple(axis.unit for axis in self.image.axes)

    @property
    def scales(self) -> tuple[tuple[float, ...], ...]:
        """Of each level, the size of a voxel along each axis, in its unit."""
        return tuple(level.scale for level in self.image.levels)

    @property
    def translations(self) -> tuple[tuple[float, ...], ...]:
        """Of each level, where the centre of its first voxel is along each axis, in its unit."""
        return tuple(level.translation for level in self.image.levels)

    @property
    def colors(self) -> dict[int, tuple[int, int, int, int]]:
        """Red, green, blue and opacity of labels, 0 to 255."""
        return self.labels.colors

    @property
    def properties(self) -> dict[int, dict[str, Any]]:
        """What else is told of labels."""
        return self.labels.properties

    @property
    def source(self) -> str | None:
        """The path of the image that was labelled, from the label image's group."""
        return self.labels.source

    def volume(self, level: int = 0, **options: Any) -> LabelVolume:
        """A level as a `LabelVolume`, which takes ``options``. TypeError for other codecs.

        Edits are of this level alone: `write_labels` again, with this volume as its source
        and another name, makes the others anew.
        """
        return LabelVolume(self.arrays[level], **options)


def label_images(group: Any, *, storage_options: dict[str, Any] | None = None) -> list[str]:
    """The names of the label images of an image.

    Parameters
    ----------
    group : zarr.Group, path or URL
        The image, or its group "labels".
    storage_options : dict, optional
        With a URL: options for fsspec.

    Raises
    ------
    FormatError
        If they are not listed as specified.
    FileNotFoundError
        If there is no group.
    """
    return listed(_group(group, "r", storage_options))[1]


def read_labels(
    group: Any,
    name: str | None = None,
    *,
    mode: Literal["r", "r+"] = "r",
    storage_options: dict[str, Any] | None = None,
) -> LabelImage:
    """Open a label image.

    Parameters
    ----------
    group : zarr.Group, path or URL
        The image; its group "labels"; or, without a name, the label image itself.
    name : str, optional
        Of those that `label_images` lists; there it may be left out if it is the only one.
    mode : str
        With a path or URL: "r", or "r+" for edits by `LabelVolume`.
    storage_options : dict, optional
        With a URL: options for fsspec.

    Raises
    ------
    ValueError
        If there is no such label image, or several and no name.
    FormatError
        For metadata, or arrays, that are not as specified, which names the place.
    UnsupportedError
        For versions other than 0.4 and 0.5.
    """
    found = _group(group, mode, storage_options)
    labels, names = listed(found)
    if name is None:
        if not names and "image-label" in ngff.ome_attributes(attributes_of(found)):
            return opened(found, where_of(found).rpartition("/")[2])
        if not names:
            raise ValueError(f"{where_of(found)} has no label images")
        if len(names) != 1:
            raise ValueError(f"{where_of(found)} has the label images {names}: name one")
        (name,) = names
    place = None if labels is None else labels.get(ngff.check_name(name))
    if not isinstance(place, zarr.Group):
        raise ValueError(f"{where_of(found)} has no label image {name!r}; it has {names}")
    return opened(place, name)


def opened(group: zarr.Group, name: str, is_label: bool = True) -> LabelImage:
    """A label image, or another one of the same form."""
    where = where_of(group)
    attributes = attributes_of(group)
    images = ngff.multiscales(attributes, where)
    if not images:
        raise FormatError("there are no 'multiscales'", where)
    image = images[0]
    arrays = tuple(_level(group, level.path, where) for level in image.levels)
    _check_arrays(image, arrays, where)
    for level, array in zip(image.levels, arrays, strict=True):
        if is_label and array.dtype.kind not in "ui":
            at = f"{where}/{level.path}"
            raise FormatError(f"labels are integers, not {array.dtype}", at)
    labels = ngff.image_label(attributes, where) or ImageLabel()
    return LabelImage(group, name, image, arrays, labels)


def _level(group: zarr.Group, path: str, where: str) -> zarr.Array[Any]:
    found = group.get(path)
    if not isinstance(found, zarr.Array):
        raise FormatError(f"there is no array {path!r}", where)
    return found


def _check_arrays(image: Multiscale, arrays: Sequence[zarr.Array[Any]], where: str) -> None:
    """`FormatError` if arrays are not those that metadata tell of."""
    names = tuple(axis.name for axis in image.axes)
    before = None
    for level, array in zip(image.levels, arrays, strict=True):
        at = f"{where}/{level.path}"
        if array.ndim != len(names):
            raise FormatError(f"{array.ndim} axes, and the metadata have {names}", at)
        told = getattr(array.metadata, "dimension_names", None)
        if told is not None and any(a not in (None, b) for a, b in zip(told, names, strict=True)):
            raise FormatError(f"axes {told}, and the metadata have {names}", at)
        if before is not None and any(a > b for a, b in zip(array.shape, before, strict=True)):
            raise FormatError(f"{array.shape} after a level of {before}", at)
        before = array.shape


def _group(group: Any, mode: Any, storage_options: dict[str, Any] | None) -> zarr.Group:
    if isinstance(group, zarr.Group):
        return group
    return zarr.open_group(group, mode=mode, storage_options=storage_options)


def where_of(group: zarr.Group) -> str:
    return str(group.store_path)


def attributes_of(group: zarr.Group) -> dict[str, Any]:
    return dict(group.attrs.asdict())


def listed(group: zarr.Group) -> tuple[zarr.Group | None, list[str]]:
    """The group of label images, if there is one, and their names."""
    names = ngff.label_names(attributes_of(group), where_of(group))
    if names is not None:
        return group, names
    found = group.get("labels")
    if not isinstance(found, zarr.Group):
        return None, []
    return found, ngff.label_names(attributes_of(found), where_of(found)) or []
