"""Objects of a Zarr store below a path: bytes, or ranges of these, read, replaced and listed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

import zarr
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, WrapperStore, ZipStore

__all__ = ["Objects", "is_of_one_process", "limited", "whereabouts"]


class Objects:
    """The objects below a ``StorePath`` of zarr's."""

    def __init__(self, place: Any) -> None:
        self.place = place
        self._prototype = default_buffer_prototype()
        self._backend = place.store
        self.prefix: str = f"{place.path}/" if place.path else ""
        # Of these alone it is known that nothing is lost by going past asyncio.
        self._is_sync = type(self._backend) in (LocalStore, MemoryStore)

    @property
    def is_near(self) -> bool:
        """Whether asking for what is not there costs next to nothing."""
        return self.is_folder or isinstance(_unwrapped(self._backend), (MemoryStore, ZipStore))

    @property
    def is_folder(self) -> bool:
        """Whether objects are files of this machine."""
        store = _unwrapped(self._backend)
        return isinstance(store, LocalStore) or not {"file", "local"}.isdisjoint(_protocols(store))

    @property
    def threads(self) -> int:
        """How many threads may wait for the store, or be busy, at once."""
        cores = os.cpu_count() or 1
        return cores if self._is_sync else max(8, cores)

    # ---- reading ----

    def _fetch(self, requests: list[tuple[str, int, int | None]]) -> list[bytes | None]:
        """[start, stop) of objects by key: all for (0, None), the end for (-n, None)."""
        if self._is_sync:
            return [self._get_now(*request) for request in requests]
        result: list[bytes | None] = sync(limited([(self._get, *r) for r in requests]))
        return result

    # Stores differ in what they raise for a range beyond the end: then all is read.

    def _get_now(self, key: str, start: int, stop: int | None) -> bytes | None:
        get, key, wanted = self._backend.get_sync, self.prefix + key, _byte_range(start, stop)
        try:
            return _part(get(key, prototype=self._prototype, byte_range=wanted), start, stop)
        except Exception:
            if wanted is None:
                raise
            return _part(get(key, prototype=self._prototype), start, stop, True)

    async def _get(self, key: str, start: int, stop: int | None) -> bytes | None:
        get, key, wanted = self._backend.get, self.prefix + key, _byte_range(start, stop)
        try:
            return _part(await get(key, self._prototype, wanted), start, stop)
        except Exception:
            if wanted is None:
                raise
            return _part(await get(key, self._prototype), start, stop, True)

    # ---- writing ----

    def check_writable(self) -> None:
        """PermissionError or TypeError if objects can't be replaced."""
        store = self._backend
        if store.read_only:
            raise PermissionError("the array was opened to be read only")
        if not (store.supports_writes and store.supports_deletes):
            raise TypeError(f"a {type(store).__name__} can't replace what it has: edit a copy")

    def get_object(self, key: str) -> bytes | None:
        """An object below the path."""
        return self._fetch([(key, 0, None)])[0]

    def get_range(self, key: str, start: int, stop: int) -> bytes | None:
        """The bytes [start, stop) of an object, or those that there are."""
        return self._fetch([(key, start, stop)])[0]

    def get_objects(self, keys: Sequence[str]) -> list[bytes | None]:
        """Objects below the path."""
        return self._fetch([(key, 0, None) for key in keys])

    def put_objects(self, objects: Mapping[str, bytes]) -> None:
        """Write objects below the path; each appears whole or not at all."""
        make = self._prototype.buffer.from_bytes
        if self._is_sync and hasattr(self._backend, "set_sync"):
            for key, data in objects.items():
                self._backend.set_sync(self.prefix + key, make(data))
            return
        put = [(self._backend.set, self.prefix + key, make(data)) for key, data in objects.items()]
        sync(limited(put))

    def put_object(self, key: str, data: bytes) -> None:
        """Write one object."""
        self.put_objects({key: data})

    def delete_object(self, key: str) -> None:
        """Remove an object; nothing if it is not there."""
        sync(self._backend.delete(self.prefix + key))

    def delete_all(self, below: str) -> None:
        """Remove the objects below one that ends with a slash."""
        sync(self._backend.delete_dir((self.prefix + below).rstrip("/")))

    def has_any(self, below: str) -> bool:
        """Whether there is an object below one that ends with a slash."""

        async def first() -> bool:
            async for _ in self._backend.list_prefix(self.prefix + below):
                return True
            return False

        return bool(sync(first()))

    def list_objects(self, below: str) -> list[str]:
        """The keys below one that ends with a slash, sorted, relative to the path."""

        async def every() -> list[str]:
            found = self._backend.list_prefix(self.prefix + below)
            return [key[len(self.prefix) :] async for key in found]

        return sorted(sync(every()))


def _byte_range(start: int, stop: int | None) -> Any:
    if start < 0:
        return SuffixByteRequest(-start)
    return None if stop is None else RangeByteRequest(start, stop)


def _part(buffer: Any, start: int, stop: int | None, is_all: bool = False) -> bytes | None:
    """The bytes of a range; also where a server that knows no ranges sent all there is."""
    if buffer is None:
        return None
    data: bytes = buffer.to_bytes()
    most = -start if start < 0 else len(data) if stop is None else stop - start
    return data[start:stop] if is_all or len(data) > most else data


async def limited(calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The results of coroutine functions with arguments, as many at a time as zarr allows."""
    free = asyncio.Semaphore(zarr.config.get("async.concurrency"))

    async def one(function: Any, *arguments: Any) -> Any:
        async with free:
            return await function(*arguments)

    return await asyncio.gather(*(one(*call) for call in calls))


def is_of_one_process(store: Any) -> bool:
    """Whether what other processes write to a store is lost, or breaks it."""
    store = _unwrapped(store)
    return isinstance(store, (MemoryStore, ZipStore)) or "memory" in _protocols(store)


def whereabouts(place: Any) -> str:
    """What tells a path in a store from others, ending with a slash; of files the real path."""
    store = _unwrapped(place.store)
    protocols = _protocols(store)
    root = str(store.root if isinstance(store, LocalStore) else getattr(store, "path", ""))
    if isinstance(store, LocalStore) or "file" in protocols:
        return os.path.join(os.path.realpath(os.path.join(root, place.path)), "")
    if protocols:
        return f"{protocols[0]}://{root.strip('/')}/{place.path}".rstrip("/") + "/"
    return f"{place}/"


def _unwrapped(store: Any) -> Any:
    while isinstance(store, WrapperStore):
        store = store._store
    return store


def _protocols(store: Any) -> tuple[str, ...]:
    """Those of a store of fsspec."""
    files = getattr(store, "fs", None)
    found = getattr(getattr(files, "sync_fs", files), "protocol", ())
    return (found,) if isinstance(found, str) else tuple(found)
