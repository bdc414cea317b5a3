"""OME-Zarr label images: pyramids of labels in Zarr, with what their axes and labels mean.

>>> from numcodecs_crackle import ome
>>> image = ome.write_labels(labels, "image.zarr", "cells", scale=(40, 4, 4), units="nanometer")
>>> ome.label_images("image.zarr")
['cells']
>>> ome.read_labels("image.zarr", "cells").volume().voxel_counts()
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial as bound
from operator import index
from typing import Any, Literal, Unpack

import numpy as np
import zarr

from numcodecs_crackle import __version__, ngff
from numcodecs_crackle.extras import required
from numcodecs_crackle.grid import origin_of
from numcodecs_crackle.new_array import by_object, check_apart, check_place
from numcodecs_crackle.ngff import Axis, ImageLabel, Multiscale
from numcodecs_crackle.ome_plan import (
    PerAxis,
    array_options,
    axes_of,
    colors_of,
    factors_of,
    finest,
    levels_of,
)
from numcodecs_crackle.ome_read import (
    LabelImage,
    attributes_of,
    label_images,
    listed,
    opened,
    read_labels,
    where_of,
)
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.stream import check_dtype
from numcodecs_crackle.volume import LabelVolume
from numcodecs_crackle.work import How, options_of, run

__all__ = ["LabelImage", "label_images", "read_labels", "write_labels"]


def write_labels(
    labels: Any,
    group: Any,
    name: str = "labels",
    *,
    version: Literal["0.4", "0.5"] | None = None,
    axes: str | Sequence[str | Axis] | None = None,
    scale: PerAxis | None = None,
    units: str | PerAxis | None = None,
    translation: PerAxis | None = None,
    levels: int | Sequence[PerAxis] | None = None,
    chunks: PerAxis | None = None,
    shards: PerAxis | None = None,
    colors: Mapping[int, Sequence[int]] | None = None,
    properties: Mapping[int, Mapping[str, Any]] | None = None,
    source: str | None = None,
    overwrite: bool = False,
    storage_options: dict[str, Any] | None = None,
    **how: Unpack[How],
) -> LabelImage:
    """Write labels as a label image of an OME-Zarr group, with levels by the most frequent label.

    What is per axis is a sequence in their order, or a dict by their names. What is left out is
    taken from the group's image, if it is one, for axes of the same name.

    Parameters
    ----------
    labels : array, `LabelVolume`, zarr.Array or dask array
        Integers, or bool, which becomes uint8. What is not in memory is read by parts.
    group : zarr.Group, path or URL
        Mostly an image; made if need be. The label image is its "labels/<name>".
    name : str
        Other label images stay, and are listed beside it.
    version : "0.4" or "0.5", optional
        As the group, which has Zarr 2 or 3; "0.5" for a new one.
    axes : str or sequence, optional
        As "zyx". By default the names that a Zarr array has, or the image's, or the end of
        "zyx".
    scale, translation : per axis, optional
        The size of a voxel, and where the centre of the first one is; 1 and 0 by default.
    units : str or per axis, optional
        Full names, as "nanometer"; a single one is of all axes of space.
    levels : int or sequence, optional
        How many, the finest counted; or the factors, 1 or 2 per axis, by which each next one
        is smaller than that before. By default as many as the image has, by the same factors;
        else until no axis of the image plane (the last two) is longer than 256. Then the
        plane is halved, and z, too, where ``scale`` tells that its voxels are less than twice
        as long as those of the plane.
    chunks, shards : per axis, optional
        Of the finest level; by default chunks are those of a `LabelVolume`, else 256 along x
        and y, 64 along z, and 1. Those of other levels are as long, or as the level.
    colors : dict of int to sequence of int, optional
        Red, green, blue, and opacity (255 if left out) of labels, 0 to 255.
    properties : dict of int to dict, optional
        What else is to be told of labels, as JSON has it.
    source : str, optional
        The path of the image from the label image's group; by default the group, if it is an
        image.
    overwrite : bool
        Remove a label image of this name first. A dask array that reads from it is not noticed.
    **how
        ``executor`` and ``progress``, see `numcodecs_crackle.work.How`. What is no Zarr array
        is copied by threads, and a dask array by dask.

    Returns
    -------
    LabelImage

    Raises
    ------
    TypeError
        For labels that are no integers.
    ValueError
        For options that don't fit the labels or the specification, and for a place within the
        array that is read, or around it.
    FileExistsError
        If there is something of this name, without ``overwrite``.
    FormatError
        For metadata of the group that are not as specified, and damaged chunks of the source.

    Notes
    -----
    Each level is made of that before by `LabelVolume.downsample`. Its voxels are 2 times as
    long where it is halved, also where the last one is cut, and the first one's centre is half
    a (finer) voxel further. The specification demands of label images the image's number of
    levels.

    The group lists a new label image when all is written. After an error, call again with
    ``overwrite=True``. Metadata that were consolidated are so again; those of groups around
    ``group`` are not.
    """
    how = options_of(how)
    array = labels.array if isinstance(labels, LabelVolume) else labels
    dtype, shape = _checked_array(array)
    parent, consolidated = _made(group, version, storage_options)
    form = _version(parent, version)
    where = where_of(parent)
    images = ngff.multiscales(attributes_of(parent), where)
    image = opened(parent, parent.basename, is_label=False) if images else None
    _, names = listed(parent)
    _check_name(name, names)

    every = axes_of(array, axes, units, image, len(shape))
    first = finest(every, scale, translation, image)
    by = factors_of(every, first.scale, shape, levels, image, scale is not None)
    if source is None and images:
        source = "../" * (2 + name.count("/"))
    told = ImageLabel(
        colors_of(colors or {}),
        {index(k): dict(v) for k, v in (properties or {}).items()},
        source,
    )
    multiscale = Multiscale(form, name, every, levels_of(first, by))
    attributes = ngff.label_attributes(multiscale, told, _METHOD)
    options = array_options(labels, form, every, shape, chunks, shards)

    path = f"labels/{name}"
    place = parent.store_path / path
    check_place(place, how)
    if isinstance(array, zarr.Array):
        check_apart(place, array.store_path)
    if path in parent and not overwrite:
        raise FileExistsError(f"{place} is there already: overwrite=True replaces it")
    new = parent.create_group(path, overwrite=overwrite)
    target = new.create_array("0", shape=shape, dtype=dtype, fill_value=0, **options)
    _copy(array, target, how)
    _pyramid(new, LabelVolume(target), by, how)
    new.attrs.update(attributes)
    every_label: Any = parent["labels"]
    names = [*names, *({name} - set(names))]
    every_label.attrs.update(ngff.names_attributes(form, names, attributes_of(every_label)))
    if consolidated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Zarr 3 has not specified it yet
            zarr.consolidate_metadata(parent.store, path=parent.path or None)
    return opened(new, name)


_METHOD = (
    "mode",
    {
        "description": "the most frequent label of 2 voxels along each halved axis",
        "method": "numcodecs_crackle.LabelVolume.downsample",
        "version": __version__,
    },
)


def _checked_array(array: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The dtype that labels are stored as, and their shape."""
    dtype = np.dtype(array.dtype)
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
    check_dtype(dtype)
    shape = tuple(map(int, array.shape))
    if 0 in shape:
        raise ValueError(f"there are no voxels in an array of {shape}")
    return dtype, shape


def _made(
    group: Any, version: str | None, storage_options: dict[str, Any] | None
) -> tuple[zarr.Group, bool]:
    """A group, made if need be; and whether its metadata are consolidated."""
    if version not in (None, *ngff.FORMATS):
        raise ValueError(f'version is "0.4" or "0.5", not {version!r}')
    if not isinstance(group, zarr.Group):
        try:
            group = zarr.open_group(group, mode="r+", storage_options=storage_options)
        except FileNotFoundError:
            form: Any = ngff.FORMATS[version or "0.5"]
            group = zarr.open_group(
                group, mode="a", zarr_format=form, storage_options=storage_options
            )
    consolidated = group.metadata.consolidated_metadata is not None
    if consolidated:  # what is made now would not be seen
        group = zarr.open_group(group.store_path, mode="r+", use_consolidated=False)
    return group, consolidated


def _version(group: zarr.Group, version: str | None) -> str:
    """The version for a group's Zarr format. ValueError if it is not the one asked for."""
    form = group.metadata.zarr_format
    right = next(v for v, f in ngff.FORMATS.items() if f == form)
    if version not in (None, right):
        raise ValueError(f"{where_of(group)} has Zarr {form}, in which there is {right}")
    return right


def _check_name(name: str, others: Sequence[str]) -> None:
    """ValueError for a name that leads out of the group, or into another label image."""
    ngff.check_name(name)
    for other in others:
        if name.startswith(f"{other}/") or other.startswith(f"{name}/"):
            raise ValueError(f"one of {name!r} and the label image {other!r} is within the other")


def _copy(source: Any, target: zarr.Array[Any], how: How) -> None:
    """Write the finest level, an object at a time."""
    if hasattr(source, "rechunk"):
        size = target.shards or target.chunks
        blocks = source.astype(target.dtype).rechunk(size)
        required("dask.array", "dask").store(blocks, target, lock=False)
        return
    store = ChunkStore(target)
    count = sum(1 for _ in by_object(store))
    task = bound(_copy_object, source, store)
    if not isinstance(source, zarr.Array):  # it would be sent with each piece of work
        how = {**how, "executor": None}
    for _ in run(task, by_object(store), "Labels", count, **how, threads=store.threads):
        pass


def _copy_object(source: Any, store: ChunkStore, chunks: list[Chunk]) -> None:
    start = origin_of(store, chunks[0])
    stop = [a + c * n for a, c, n in zip(start, store.chunks, store.per_object, strict=True)]
    region = tuple(slice(a, min(b, n)) for a, b, n in zip(start, stop, store.shape, strict=True))
    store.array[region] = np.asarray(source[region]).astype(store.array.dtype, copy=False)


def _pyramid(
    group: zarr.Group, finest: LabelVolume, by: Sequence[tuple[int, ...]], how: How
) -> None:
    """Make each level of that before."""
    volume = finest
    for number, factors in enumerate(by, 1):
        sizes = [-(-n // f) for n, f in zip(volume.shape, factors, strict=True)]
        chunks = [min(c, n) for c, n in zip(volume.array.chunks, sizes, strict=True)]
        place = group.store_path / str(number)
        volume = LabelVolume(volume.downsample(place, factors, chunks=chunks, **how))
