"""Arrays made from arrays: stored alike, and written an object at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.sync import sync
from zarr.storage._common import make_store_path

from numcodecs_crackle.chunks import encode_flat
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.grid import ChunksIn, bounds
from numcodecs_crackle.objects import is_of_one_process, whereabouts
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.work import How, in_process

__all__ = [
    "array_like", "by_object", "check_apart", "check_place", "encoded", "place_for", "read_all",
    "write_object",
]  # fmt: skip


def array_like(
    source: ChunkStore,
    store: Any,
    how: How,
    *,
    name: str | None,
    overwrite: bool,
    storage_options: dict[str, Any] | None,
    dtype: Any,
    fill_value: Any,
    shape: tuple[int, ...] | None = None,
    chunks: tuple[int, ...] | None = None,
) -> ChunkStore:
    """An empty array with the Zarr format, codecs, chunks, shards and axis names of another.

    Parameters
    ----------
    store, name, overwrite, storage_options
        As of ``zarr.create_array``.
    how
        Where the work on it will be done.
    chunks : optional
        Others than the source's; a shard has as many as the source's.

    Raises
    ------
    ValueError
        If ``executor`` is of other processes and they can't write to the store, and for a
        place within the source, or around it.
    """
    place = place_for(store, how, name, storage_options)
    check_apart(place, source.place)
    array = source.array
    metadata = array.metadata
    chunks = source.chunks if chunks is None else chunks
    options: dict[str, Any] = {"zarr_format": metadata.zarr_format, "chunks": chunks}
    if metadata.zarr_format == 2:
        separator = metadata.dimension_separator
        options |= {
            "filters": metadata.filters,
            "compressors": metadata.compressor,
            "order": metadata.order,
            "chunk_key_encoding": {"name": "v2", "separator": separator},
        }
    else:
        options |= {
            "filters": array.filters or None,
            "serializer": source.coder,
            "compressors": array.compressors or None,
            "chunk_key_encoding": metadata.chunk_key_encoding,
            "dimension_names": metadata.dimension_names,
        }
    if source.shard is not None:
        # Given so, the shards' index is coded as the source's, too.
        options |= {
            "chunks": tuple(c * n for c, n in zip(chunks, source.per_object, strict=True)),
            "filters": None,
            "serializer": replace(source.shard, chunk_shape=chunks),
            "compressors": None,
        }
    result = zarr.create_array(
        store=place,
        shape=source.shape if shape is None else shape,
        dtype=dtype,
        fill_value=fill_value,
        overwrite=overwrite,
        **options,
    )
    return ChunkStore(result)


def place_for(
    store: Any,
    how: How,
    name: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Any:
    """Where to write. ValueError if those who do the work can't write there."""
    place = sync(make_store_path(store, path=name or "", mode="a", storage_options=storage_options))
    check_place(place, how)
    return place


def check_place(place: Any, how: How) -> None:
    """ValueError if the processes that do the work can't write to a store's path."""
    if is_of_one_process(place.store) and not in_process(how.get("executor")):
        raise ValueError(
            f"{type(place.store).__name__} can't be written by other processes, as those of "
            "this executor: write to a path or URL, or use threads"
        )


def check_apart(place: Any, source: Any) -> None:
    """ValueError if a place to write to is within what is read, or around it."""
    here, there = whereabouts(place), whereabouts(source)
    if here.startswith(there) or there.startswith(here):
        raise ValueError(f"{place} is not outside of the array that is read: give another name")


def by_object(store: ChunkStore) -> Iterator[list[Chunk]]:
    """The chunks of each object of an array."""
    for chunks in ChunksIn(store, bounds(None, store.shape)).blocks(store.per_object):
        yield list(chunks)


def read_all(store: ChunkStore, wanted: Sequence[Any]) -> list[Any]:
    """The results of plans, as `ChunkStore.read`, whose first error is raised."""
    found = store.read(wanted)
    for result in found:
        if isinstance(result, FormatError):
            raise result
    return found


def encoded(store: ChunkStore, voxels: npt.NDArray[Any], fill: Any) -> bytes:
    """The stream of a chunk from its voxels in the array's axes, padded where they end."""
    if voxels.shape != store.chunks:
        whole = np.full(store.chunks, fill, voxels.dtype)
        whole[tuple(map(slice, voxels.shape))] = voxels
        voxels = whole
    flat = np.ascontiguousarray(voxels.transpose(store.axes)).reshape(-1)
    return encode_flat(flat, store.coded_shape, store.coder.markov_model_order)


def write_object(store: ChunkStore, streams: dict[Chunk, bytes]) -> None:
    """Write the chunks of one object, those that are to be stored."""
    if streams:
        chunks = list(streams)
        _, data = store.rewritten(chunks, lambda chunk, _: streams[chunk])
        assert data is not None
        store.put_object(store.key(chunks[0]), data)
