"""Which objects of an array are stored, by listing, where there are too many to ask for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from typing import Any

from zarr.core.sync import sync
from zarr.storage import (
    FsspecStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    ObjectStore,
    WrapperStore,
    ZipStore,
)

from numcodecs_crackle.grid import ChunksIn, ChunksOf, Window, objects_in
from numcodecs_crackle.objects import limited
from numcodecs_crackle.store import Chunk, ChunkStore

__all__ = ["LIST_FROM", "lists", "present", "stored_objects"]

# Chunks that a region has to touch: fewer are as soon asked for.
LIST_FROM = 10_000
# Fewer chunks of a folder are asked for.
_ROW = 16
# With more that are stored little is gained, and each takes memory.
_MOST = 1 << 20
_TOGETHER = 256  # folders that are listed before that is seen


def stored_objects(store: ChunkStore, ranges: Sequence[range]) -> list[Chunk] | None:
    """The objects of a box of the grid of objects that are stored, in C order.

    Folders are listed from the first axis on, and only those that the box touches: never more
    than one listing for each row of objects that has any, and none for short rows, of which
    all are taken to be there.

    Parameters
    ----------
    ranges
        The box: places along each axis.

    Returns
    -------
    list of tuple of int
        None where a listing can't be had, or not be relied on, or is too long.
    """
    backend, prefix = store.array.store_path.store, _folder(store)
    if prefix is None or not ranges or not lists(backend):
        return None
    files, weight = getattr(backend, "fs", None), math.prod(store.per_object)
    try:
        if files is not None:
            files.invalidate_cache()  # others may have written since
        found = sync(_walk(backend, store.prefix + prefix, list(ranges), weight))
    except Exception:  # who may read may not be allowed to list
        return None
    return None if found is None else sorted(found)


def present(store: ChunkStore, window: Window, chunks: ChunksIn) -> tuple[Any, list[Chunk] | None]:
    """The chunks of a region but for those that a listing does not have.

    And the objects that it has, where it leaves out any; None where all are to be asked.
    """
    if len(chunks) < LIST_FROM:
        return chunks, None
    ranges = objects_in(store, window)
    total = math.prod(map(len, ranges))
    found = stored_objects(store, ranges)
    if found is None or len(found) == total:
        return chunks, None
    return ChunksOf(store, window, found), found


def _folder(store: ChunkStore) -> str | None:
    """What keys begin with before a folder for each axis; None if they are made otherwise."""
    ndim, encode = len(store.shape), store.array.metadata.encode_chunk_key
    prefix = None
    for place in ((0,) * ndim, tuple(range(7, 7 + ndim))):
        key, tail = str(encode(place)), "/".join(map(str, place))
        if not key.endswith(tail) or prefix not in (None, key[: -len(tail)]):
            return None
        prefix = key[: -len(tail)]
    return prefix if not prefix or prefix.endswith("/") else None


def lists(backend: Any) -> bool:
    """Whether a store lists all that it has. A web server may, or may list a part."""
    while type(backend) is LoggingStore or type(backend) is WrapperStore:
        backend = backend._store
    if not backend.supports_listing:
        return False
    if type(backend) is FsspecStore:
        protocol = getattr(backend.fs, "protocol", ())
        names = {protocol} if isinstance(protocol, str) else set(protocol)
        return bool(names & {"s3", "s3a", "gs", "gcs", "abfs", "az", "file", "local", "memory"})
    if type(backend) is ObjectStore:
        return type(backend.store).__name__ != "HTTPStore"
    return type(backend) in (LocalStore, MemoryStore, ZipStore)


async def _walk(backend: Any, prefix: str, ranges: list[range], weight: int) -> list[Chunk] | None:
    """The places below a prefix, one axis after the other; None for too many."""
    if type(backend) in (MemoryStore, ZipStore):  # they look through all keys for one folder
        keys = [key.removeprefix(prefix) async for key in backend.list_prefix(prefix)]
        every = (_place(key.split("/"), ranges) for key in keys)
        places = [place for place in every if place is not None]
        return places if len(places) <= _MOST else None

    async def names(place: Chunk) -> list[str]:
        folder = prefix + "/".join(map(str, place))
        with suppress(FileNotFoundError):
            return [name async for name in backend.list_dir(folder.rstrip("/"))]
        return []

    places = [()]
    for axis, wanted in enumerate(ranges):
        rest = math.prod(map(len, ranges[axis:]))
        if rest * weight < _ROW:
            if len(places) * rest > _MOST:
                return None
            return [(*place, *more) for place in places for more in product(*ranges[axis:])]
        below: list[Chunk] = []
        for i in range(0, len(places), _TOGETHER):
            some = places[i : i + _TOGETHER]
            found = await limited([(names, place) for place in some])
            for place, entries in zip(some, found, strict=True):
                for entry in entries:
                    at = _place([entry.rstrip("/").rpartition("/")[2]], [wanted])
                    if at is not None:
                        below.append((*place, *at))
            if len(below) > _MOST:
                return None
        places = below
    return places


def _place(names: list[str], ranges: list[range]) -> Chunk | None:
    """Numbers as they are in keys, if they are places."""
    if len(names) != len(ranges) or not all(n.isascii() and n.isdigit() for n in names):
        return None
    place = tuple(int(n) for n in names if len(n) < 19)
    if tuple(map(str, place)) != tuple(names):
        return None
    return place if all(p in r for p, r in zip(place, ranges, strict=True)) else None
