"""Neuroglancer's precomputed layers: stored arrays copied to them and from them, chunk by chunk.

A chunk of a C-order array (z, y, x) is the stream that a layer has for it, byte by byte. So
chunks are copied as they are stored; coded anew are those that the volume ends in, as Zarr
stores them whole, and layers what is in the volume.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial as bound
from itertools import groupby
from typing import Any, Literal, Unpack

import numpy as np
import zarr
from zarr.core.sync import sync
from zarr.storage._common import make_store_path

from numcodecs_crackle.chunks import decode_flat, fold
from numcodecs_crackle.codec import Crackle
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.grid import ChunksIn, batches, bounds
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.listing import LIST_FROM, lists, present
from numcodecs_crackle.new_array import by_object, check_apart, encoded, place_for, write_object
from numcodecs_crackle.objects import Objects
from numcodecs_crackle.partial import most_bytes
from numcodecs_crackle.precomputed_info import INFO, Scale, info_of, scale_in, scales_in
from numcodecs_crackle.precomputed_source import ATTRIBUTE, GZIP, Edges, Source, sources_of
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.work import How, options_of, run
from numcodecs_crackle.zarr_codec import CrackleCodec

__all__ = ["from_precomputed", "to_precomputed"]

_TOGETHER = 8  # chunks of one piece of work
_MOST_INFO = 1 << 24  # bytes
_MOST_ASKED = 1 << 32  # chunks of a layer that can't be listed
# What CloudFiles appends to names of compressed files, and this package does not read.
_OTHERS = (".br", ".zstd", ".xz", ".bz2")


def to_precomputed(
    array: Any,
    path: Any,
    *,
    resolution: Sequence[float] | None = None,
    voxel_offset: Sequence[int] | None = None,
    edges: Edges = "clip",
    key: str | None = None,
    gzip: bool | None = None,
    write_missing: bool = False,
    overwrite: bool = False,
    storage_options: dict[str, Any] | None = None,
    **how: Unpack[How],
) -> int:
    """Copy a stored array to a Neuroglancer precomputed layer of Crackle chunks.

    Chunks are copied as they are stored. Other codecs behind Crackle are undone, shards are
    taken apart. Neuroglancer newer than 2.41.2 and cloud-volume read the layer.

    Parameters
    ----------
    array : zarr.Array, zarr.Group, path, URL or store, or a list of these
        Coded by `Crackle` or `CrackleCodec`, Zarr 2 or 3, of unsigned labels or of bools. Its
        axes, as they are coded, are z, y, x, the fastest last; axes of length 1 before them
        drop out. Of an OME-NGFF multiscales group, or of a list, each array is a scale, the
        finest first.
    path : path, URL or store
        Of the layer; "precomputed://" may stand before it.
    resolution : 3 numbers, optional
        Nanometres a voxel, x, y, z, of the finest scale. By default as OME-NGFF metadata or
        xarray's coordinates say, else 1. If it is given faults of an array's metadata are no
        matter; those of a group tell which its arrays are, and must be right.
    voxel_offset : 3 integers, optional
        The first voxel of the finest scale, x, y, z. By default from the same metadata, in
        whole voxels, else 0; with a warning if there are some, with faults.
    edges : "clip" or "pad"
        At the volume's end Zarr's chunks stand out of it, and a layer's do not. "clip" cuts
        them: along z without decoding, along x and y decoded and coded anew. "pad" makes
        the layer larger, up to whole chunks, and all is a copy.
    key : str, optional
        The folder of a single scale; by default of its resolution, such as "4_4_40".
    gzip : bool, optional
        Write gzip'ed objects, with ".gz" behind their names, as cloud-volume has them in
        local folders. By default if the array's chunks are gzip'ed behind Crackle, and the
        layer is in such a folder: other stores have no place to note it. Serve a folder that
        plain web servers are to serve from plain objects: False.
    write_missing : bool
        Write chunks of label 0, which the array has not stored, too. Without them Neuroglancer
        shows 0, and cloud-volume wants ``fill_missing=True``. If the array's fill value is
        another, all are written.
    overwrite : bool
        Replace the layer that is there: its scales are removed before the work begins.
    storage_options : dict, optional
        Of the layer, as of ``zarr.create_array``.
    **how
        ``executor`` and ``progress``, as of `LabelVolume`.

    Returns
    -------
    int
        How many chunks were written.

    Raises
    ------
    TypeError
        For arrays that can't be copied; the message says why, and what to do.
    ValueError
        For metadata or arguments that make no sense, and a path within the array.
    FileExistsError
        If there is a layer, unless ``overwrite``.
    FormatError
        For damage that is seen in a chunk; the layer is then without ``info``.

    Notes
    -----
    Objects appear whole or not at all, and ``info`` when all others are there.
    """
    options = options_of(how)
    sources = sources_of(array, resolution, voxel_offset, edges, key)
    target = Objects(place_for(_path(path), options, storage_options=storage_options))
    for source in sources:
        check_apart(target.place, source.store.place)
    if gzip and not target.is_folder:
        raise ValueError("gzip'ed objects are for local folders: other stores can't note it")
    _make_room(target, [source.scale.key for source in sources], overwrite)
    count = 0
    for source in sources:
        zipped = source.gzipped and target.is_folder if gzip is None else gzip
        store = source.store
        window = bounds(None, store.shape)
        chunks: Any = ChunksIn(store, window)
        if store.fill == 0 and not write_missing:
            chunks, _ = present(store, window, chunks)
        for written in run(
            bound(_copy, source, target, zipped, write_missing),
            batches(store, chunks, _TOGETHER, wide=True),
            f"copying {source.scale.key}",
            len(chunks),
            len,
            **options,
            threads=max(store.threads, target.threads),
        ):
            count += written
    target.put_object(INFO, info_of(sources[0].store.dtype, [s.scale for s in sources]))
    return count


def _copy(source: Source, target: Objects, zipped: bool, every: bool, chunks: list[Chunk]) -> int:
    """Write some chunks to a layer; how many there are."""
    count = 0
    indices: dict[Chunk, Any] = {}
    for i in range(0, len(chunks), _TOGETHER):
        few = chunks[i : i + _TOGETHER]
        objects = {}
        for chunk, data in zip(few, source.read(few, zipped, every, indices), strict=True):
            if data is not None:
                name = source.scale.name(source.place(chunk))
                objects[f"{source.scale.key}/{name}{'.gz' if zipped else ''}"] = data
        target.put_objects(objects)
        count += len(objects)
    return count


def _make_room(target: Objects, keys: list[str], overwrite: bool) -> None:
    """Remove what is there, if that is wanted. FileExistsError if not."""
    info = target.get_object(INFO)
    if not overwrite:
        if info is not None or any(target.has_any(f"{key}/") for key in keys):
            raise FileExistsError(f"there is a layer at {target.place}: overwrite=True replaces it")
        return
    if info is not None:
        with suppress(FormatError):  # of another kind: its chunks are not known
            keys = [*keys, *(scale_in(entry).key for entry in scales_in(info)[1])]
        target.delete_object(INFO)
    for key in set(keys):
        target.delete_all(f"{key}/")


def _path(path: Any) -> Any:
    return path.removeprefix("precomputed://") if isinstance(path, str) else path


# ---- from a layer ----


def from_precomputed(
    path: Any,
    store: Any,
    *,
    scale: int | str = 0,
    name: str | None = None,
    zarr_format: Literal[2, 3] = 3,
    shards: Sequence[int] | None = None,
    overwrite: bool = False,
    storage_options: dict[str, Any] | None = None,
    **how: Unpack[How],
) -> Any:
    """Copy a scale of a Neuroglancer precomputed layer of Crackle chunks to a new Zarr array.

    Streams are copied as they are; those that the volume's end cuts are padded with 0,
    decoded and coded anew.

    Parameters
    ----------
    path : path, URL or store
        Of the layer; "precomputed://" may stand before it. Objects may be gzip'ed.
    store, name, overwrite
        Of the new array, as of ``zarr.create_array``. With ``overwrite`` what is there is removed
        before the work begins.
    scale : int or str
        Which, by its place in ``info``, or its key.
    zarr_format : 2 or 3
    shards : 3 integers, optional
        Voxels of a shard, z, y, x.
    storage_options : dict, optional
        Of the layer, as of ``zarr.open``.
    **how
        ``executor`` and ``progress``, as of `LabelVolume`.

    Returns
    -------
    zarr.Array
        (z, y, x), in chunks as the layer's, but no larger than the volume; its fill value is 0,
        and chunks that the layer has not are not stored. The resolution and the offset are in
        its attribute "precomputed", where `to_precomputed` finds them.

    Raises
    ------
    FileNotFoundError
        If there is no ``info``.
    KeyError, IndexError
        If there is no such scale.
    FormatError
        For an ``info`` that makes no sense, and chunks of another shape or dtype, or damaged,
        which it names; `UnsupportedError` for layers that are not of Crackle chunks, or whose
        chunks are in shards. Of chunks that are copied only the header is looked at.
    """
    options = options_of(how)
    layer = Objects(
        sync(make_store_path(_path(path), path="", mode="r", storage_options=storage_options))
    )
    dtype, found = _scale(layer, scale)
    total = math.prod(found.grid)
    listed = total >= LIST_FROM and lists(layer.place.store)
    if total > _MOST_ASKED and not listed:
        raise FormatError(f"scale {found.key} has {total} chunks, which can't be listed", INFO)
    place = place_for(store, options, name)
    check_apart(place, layer.place)
    size, chunk = found.size[::-1], found.chunk[::-1]
    noted = {"resolution": list(found.resolution), "voxel_offset": list(found.offset)}
    create: dict[str, Any] = {
        "shape": size,
        "chunks": tuple(min(c, max(1, n)) for c, n in zip(chunk, size, strict=True)),
        "shards": None if shards is None else tuple(shards),
        "dtype": dtype,
        "fill_value": 0,
        "overwrite": overwrite,
        "zarr_format": zarr_format,
        "attributes": {ATTRIBUTE: noted},
    }
    if zarr_format == 2:
        create["compressors"] = Crackle()
        create["attributes"]["_ARRAY_DIMENSIONS"] = ["z", "y", "x"]
    else:
        create |= {"serializer": CrackleCodec(), "compressors": None}
        create["dimension_names"] = ("z", "y", "x")
    array = zarr.create_array(store=place, **create)
    target = ChunkStore(array)
    work = by_object(target)
    if listed:
        total, work = _listed(layer, found, target)
    for _ in run(
        bound(_take, layer, found, target),
        work,
        f"copying {found.key}",
        total,
        len,
        **options,
        threads=max(layer.threads, target.threads),
    ):
        pass
    return array


def _scale(layer: Objects, wanted: int | str) -> tuple[np.dtype[Any], Scale]:
    """The dtype of a layer, and one of its scales."""
    data = layer.get_range(INFO, 0, _MOST_INFO)
    if data is None:
        raise FileNotFoundError(f"there is no layer at {layer.place}: it has no info")
    if data[:2] == GZIP:
        data = _unzipped(data, _MOST_INFO, INFO)
    if len(data) >= _MOST_INFO:
        raise FormatError(f"it has {_MOST_INFO} bytes or more", INFO)
    dtype, entries = scales_in(data)
    if not isinstance(wanted, str):
        if not 0 <= wanted < len(entries):
            raise IndexError(f"there are {len(entries)} scales, and no scale {wanted}")
        return dtype, scale_in(entries[wanted])
    for entry in entries:
        if isinstance(entry, dict) and entry.get("key") == wanted:
            return dtype, scale_in(entry)
    raise KeyError(f"there is no scale {wanted!r}")


def _listed(layer: Objects, scale: Scale, target: ChunkStore) -> tuple[int, Iterator[list[Chunk]]]:
    """How many chunks a layer has, and those of each object of the new array."""
    begin = len(scale.key) + 1
    names = {key[begin:].removesuffix(".gz") for key in layer.list_objects(f"{scale.key}/")}
    places = [scale.place(_plain(name)) for name in names]
    chunks = sorted({place[::-1] for place in places if place is not None}, key=_in_objects(target))
    groups = groupby(chunks, target.object_of)
    return len(chunks), (list(group) for _, group in groups)


def _in_objects(target: ChunkStore) -> Any:
    return lambda chunk: (target.object_of(chunk), chunk)


def _plain(name: str) -> str:
    """The name of a chunk without what says how it is compressed."""
    for suffix in _OTHERS:
        name = name.removesuffix(suffix)
    return name


def _take(layer: Objects, scale: Scale, target: ChunkStore, chunks: list[Chunk]) -> None:
    """Copy the chunks of one object of an array from a layer."""
    names = [f"{scale.key}/{scale.name((c[2], c[1], c[0]))}" for c in chunks]
    streams = {}
    for chunk, name, data in zip(chunks, names, _objects(layer, names), strict=True):
        if data is None:
            continue
        try:
            streams[chunk] = _stream(scale, target, chunk, data)
        except FormatError as error:
            raise type(error)(error.reason, error.section, error.slice, name) from None
    write_object(target, streams)


def _objects(layer: Objects, names: list[str]) -> list[bytes | None]:
    """Objects by name, or by the names that cloud-volume gives to compressed files."""
    found = layer.get_objects(names)
    if not layer.is_near:
        return found
    missing = [i for i, data in enumerate(found) if data is None]
    zipped = layer.get_objects([names[i] + ".gz" for i in missing])
    for i, data in zip(missing, zipped, strict=True):
        found[i] = data
    for i in missing:
        if found[i] is None:
            for suffix in _OTHERS:
                if layer.get_range(names[i] + suffix, 0, 1) is not None:
                    raise FormatError(
                        f"it is compressed as {suffix}: write the layer with gzip, or without",
                        key=names[i] + suffix,
                    )
    return found


def _stream(scale: Scale, target: ChunkStore, chunk: Chunk, data: bytes) -> bytes:
    """The stream of an array's chunk, from the object of a layer."""
    x, y, z = scale.extent((chunk[2], chunk[1], chunk[0]))
    if data[:2] == GZIP:
        data = _unzipped(data, most_bytes(x * y * z))
    head = CrackleHeader.frombytes(data)
    if head.shape != (x, y, z) or head.dtype != target.dtype:
        raise FormatError(
            f"it has {head.sx} x {head.sy} x {head.sz} voxels of {head.dtype}, and the chunk "
            f"{x} x {y} x {z} of {target.dtype}",
            "header",
        )
    if (z, y, x) == target.chunks and fold(target.chunks) == (x, y, z):
        return data
    flat = decode_flat(data, out=np.empty(x * y * z, target.dtype))
    return encoded(target, flat.reshape(z, y, x), 0)


def _unzipped(data: bytes, most: int, section: str | None = None) -> bytes:
    """Undo gzip. FormatError for damage, and for more bytes than there can be."""
    unzip = zlib.decompressobj(31)
    try:
        result = unzip.decompress(data, most)
    except zlib.error as error:
        raise FormatError(f"it is damaged as gzip: {error}", section) from None
    if not unzip.eof:
        raise FormatError(f"as gzip it is cut off, or has more than {most} bytes", section)
    return result
