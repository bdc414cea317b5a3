"""The stored chunks of a Zarr array: their bytes, or ranges of these, read and replaced.

A chunk is the unit that is coded by itself; it is stored as an object of its own, or with
others in a shard. Zarr's pipeline is passed by, so that ranges within a shard are read, and
chunks are rewritten without their voxels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from numcodecs_crackle.chunks import check_head
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.partial import Plan, Range
from numcodecs_crackle.shards import Form, ShardIndex

__all__ = ["ChunkStore"]

Chunk = tuple[int, ...]
# How a chunk is read: called for each attempt.
PlanMaker = Callable[[], Plan]

_REFUSED = (
    "the array is not coded by Crackle: copy it to one that is, e.g. zarr.create_array(..., "
    "data=array, serializer=CrackleCodec(), compressors=None)"
)


class ChunkStore:
    """How the chunks of an array coded by this package are stored.

    Parameters
    ----------
    array : zarr.Array
        Zarr 2 or 3, sharded or not. Behind Crackle there may be other codecs, before it
        transposition.

    Raises
    ------
    TypeError
        For other arrays, and for shards within or behind other codecs.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        metadata = array.metadata
        self.shape: tuple[int, ...] = tuple(array.shape)
        try:
            self.chunks: tuple[int, ...] = tuple(array.chunks)
        except NotImplementedError:
            raise TypeError("chunks of different sizes are not supported") from None
        native = np.dtype(array.dtype)
        self.dtype = np.dtype(np.uint8) if native.kind == "b" else native.newbyteorder("=")
        fill = 0 if array.fill_value is None else array.fill_value
        self.fill = np.asarray(fill).astype(self.dtype)[()]
        self.axes = tuple(range(len(self.shape)))  # the array's, as coded, the fastest last
        self.shard: Any = None  # the sharding codec
        if metadata.zarr_format == 2:
            chain = [c for c in (*(metadata.filters or ()), metadata.compressor) if c is not None]
            if not chain or getattr(chain[0], "codec_id", None) != "crackle":
                raise TypeError(_REFUSED)
            self.coder: Any = chain[0]
            self.behind: tuple[Any, ...] = tuple(chain[1:])
            if metadata.order == "F":
                self.axes = self.axes[::-1]
        else:
            self._read_codecs(tuple(metadata.codecs))
        self.coded_shape = tuple(self.chunks[a] for a in self.axes)
        self._prototype = default_buffer_prototype()
        self._is_sync = _is_sync(array.store_path.store)

    def _read_codecs(self, codecs: tuple[Any, ...]) -> None:
        if len(codecs) == 1 and hasattr(codecs[0], "index_codecs"):
            self.shard = codecs[0]
            codecs = tuple(self.shard.codecs)
        names = [codec.to_dict()["name"] for codec in codecs]
        if "crackle" not in names:
            if "sharding_indexed" in names:
                raise TypeError("shards within shards, or behind other codecs, are not supported")
            raise TypeError(_REFUSED)
        at = names.index("crackle")
        for codec in codecs[:at]:
            if codec.to_dict()["name"] != "transpose":
                raise TypeError(f"labels that pass through {codec} are none any more")
            self.axes = tuple(self.axes[i] for i in codec.order)
        self.coder, self.behind = codecs[at], codecs[at + 1 :]

    def __reduce__(self) -> tuple[type[ChunkStore], tuple[Any]]:
        return type(self), (self.array,)

    # ---- places ----

    @property
    def per_object(self) -> tuple[int, ...]:
        """Chunks of an object along each axis: those of a shard, or 1."""
        if self.shard is None:
            return (1,) * len(self.shape)
        return tuple(s // c for s, c in zip(self.array.shards, self.chunks, strict=True))

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks along each axis, those at the end that stand out of the array, too."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    def object_of(self, chunk: Chunk) -> Chunk:
        """The place of the object that has a chunk, in the grid of objects."""
        return tuple(c // n for c, n in zip(chunk, self.per_object, strict=True))

    def key(self, chunk: Chunk) -> str:
        """The key of the object that has a chunk, below the array's path."""
        return str(self.array.metadata.encode_chunk_key(self.object_of(chunk)))

    def check(self, head: CrackleHeader) -> None:
        """`FormatError` if a header is not that of a chunk."""
        check_head(head, self.coded_shape, self.dtype)

    # ---- reading ----

    def read(self, wanted: Sequence[tuple[Chunk, PlanMaker]]) -> list[Any]:
        """Read chunks by plans, several at a time.

        A plan that fails is made again once: ranges of a chunk that was replaced between two
        requests don't fit each other.

        Returns
        -------
        list
            The result of each plan, or the `FormatError` that it raised, which names the key.
        """
        results = self._read_once(wanted)
        failed = [i for i, result in enumerate(results) if isinstance(result, FormatError)]
        if failed:
            again = self._read_once([wanted[i] for i in failed])
            for i, result in zip(failed, again, strict=True):
                results[i] = result
        return results

    def _read_once(self, wanted: Sequence[tuple[Chunk, PlanMaker]]) -> list[Any]:
        indices = self._shard_indices({self.object_of(chunk) for chunk, _ in wanted})
        readings = []
        for chunk, make in wanted:
            where: Any = None
            if self.shard is not None:
                where = indices[self.object_of(chunk)]
                if isinstance(where, ShardIndex):
                    where = where.range_of(self._within(chunk))
            readings.append(_Reading(self, chunk, make, where))
        waiting = [r for r in readings if not r.done]
        while waiting:
            asked = [(r, want) for r in waiting for want in r.requests()]
            found = self._fetch([(r.path, *want) for r, want in asked])
            answers: dict[int, list[Any]] = {}
            for (r, _), data in zip(asked, found, strict=True):
                answers.setdefault(id(r), []).append(data)
            for r in waiting:
                r.answer(answers.get(id(r), []))
            waiting = [r for r in waiting if not r.done]
        return [r.result for r in readings]

    def _path(self, chunk: Chunk) -> Any:
        return self.array.store_path / self.key(chunk)

    def _within(self, chunk: Chunk) -> Chunk:
        return tuple(c % n for c, n in zip(chunk, self.per_object, strict=True))

    def _shard_indices(self, objects: Iterable[Chunk]) -> dict[Chunk, Any]:
        """The index of each shard; None if it is not stored, or a FormatError."""
        if self.shard is None:
            return {}
        places = list(objects)
        form = Form.of(self.shard, self.per_object)
        first = [tuple(o * n for o, n in zip(p, self.per_object, strict=True)) for p in places]
        want = (0, form.nbytes) if form.at_start else (-form.nbytes, None)
        found = self._fetch([(self._path(chunk), *want) for chunk in first])
        result: dict[Chunk, Any] = {}
        for place, chunk, data in zip(places, first, found, strict=True):
            try:
                result[place] = None if data is None else form.read(data)
            except FormatError as error:
                result[place] = _named(error, self.key(chunk))
        return result

    def _fetch(self, requests: list[tuple[Any, int, int | None]]) -> list[bytes | None]:
        """[start, stop) of each object: all of it for (0, None), its end for (-n, None)."""
        if self._is_sync:
            return [self._get_now(*request) for request in requests]

        async def get_all() -> list[bytes | None]:
            return await asyncio.gather(*(self._get(*request) for request in requests))

        result: list[bytes | None] = sync(get_all())
        return result

    # Stores differ in what they raise for a range beyond the end: then all is read.

    def _get_now(self, path: Any, start: int, stop: int | None) -> bytes | None:
        get, wanted = path.store.get_sync, _byte_range(start, stop)
        try:
            return _part(get(path.path, prototype=self._prototype, byte_range=wanted), start, stop)
        except Exception:
            if wanted is None:
                raise
            return _part(get(path.path, prototype=self._prototype), start, stop, True)

    async def _get(self, path: Any, start: int, stop: int | None) -> bytes | None:
        wanted = _byte_range(start, stop)
        try:
            return _part(await path.get(self._prototype, wanted), start, stop)
        except Exception:
            if wanted is None:
                raise
            return _part(await path.get(self._prototype), start, stop, True)

    # ---- codecs behind ----

    def _spec(self) -> ArraySpec:
        return ArraySpec(
            shape=self.chunks,
            dtype=self.array.metadata.dtype,
            fill_value=self.array.fill_value,
            config=ArrayConfig.from_dict({}),
            prototype=self._prototype,
        )

    def unpack(self, data: bytes) -> bytes:
        """Undo the codecs behind Crackle."""
        return self._through(data, reversed(self.behind), "decode")

    def pack(self, data: bytes) -> bytes:
        """Apply the codecs behind Crackle."""
        return self._through(data, self.behind, "encode")

    def _through(self, data: bytes, codecs: Iterable[Any], way: str) -> bytes:
        if not self.behind:
            return data
        if self.array.metadata.zarr_format == 2:
            for codec in codecs:
                data = getattr(codec, way)(data)
            return bytes(data)
        spec = self._spec()

        async def run() -> bytes:
            buffer = self._prototype.buffer.from_bytes(data)
            for codec in codecs:
                buffer = next(iter(await getattr(codec, way)([(buffer, spec)])))
            return bytes(buffer.to_bytes())

        return sync(run())

    # ---- writing ----

    def rewrite(
        self,
        place: Chunk,
        changes: Callable[[Chunk, bytes | None], bytes | None],
        chunks: Sequence[Chunk],
        before: Callable[[str, bytes | None, bytes], bool] | None = None,
    ) -> bool:
        """Replace an object whole, with some of its chunks changed.

        Parameters
        ----------
        place
            The object's, in the grid of objects.
        changes
            Called with each of ``chunks`` and its stream, or None where it is not stored:
            the stream to store, or None to leave it as it is.
        before
            Called with the key, the object's bytes or None, and the new ones before they are
            written; False to leave the object as it is.

        Returns
        -------
        bool
            Whether something was written.

        Raises
        ------
        FormatError
            For damage, which names the key; nothing is written then.
        """
        path, key = self._path(chunks[0]), self.key(chunks[0])
        (old,) = self._fetch([(path, 0, None)])
        try:
            if self.shard is None:
                (chunk,) = chunks
                stream = changes(chunk, None if old is None else self._unpacked(old))
                new = None if stream is None else self.pack(stream)
            else:
                new = self._rewritten_shard(old, changes, chunks)
        except FormatError as error:
            raise _named(error, key) from None
        if new is None or (before is not None and not before(key, old, new)):
            return False
        self.put(path, new)
        return True

    def _unpacked(self, data: bytes) -> bytes:
        try:
            return self.unpack(data)
        except FormatError:
            raise
        except Exception as error:  # whatever codecs raise for damage
            raise FormatError(f"a codec behind Crackle can't decode it: {error}") from error

    def _rewritten_shard(
        self,
        old: bytes | None,
        changes: Callable[[Chunk, bytes | None], bytes | None],
        chunks: Sequence[Chunk],
    ) -> bytes | None:
        form = Form.of(self.shard, self.per_object)
        index = form.empty() if old is None else form.read_whole(old)
        new: dict[Chunk, bytes] = {}
        for chunk in chunks:
            within = self._within(chunk)
            at = index.range_of(within)
            stream = None
            if at is not None and old is not None:
                if at[1] > len(old):
                    raise FormatError(f"chunk {chunk} ends behind the shard", "shard index")
                stream = self._unpacked(old[at[0] : at[1]])
            changed = changes(chunk, stream)
            if changed is not None:
                new[within] = self.pack(changed)
        return index.rebuilt(b"" if old is None else old, new) if new else None

    def put(self, path: Any, data: bytes) -> None:
        """Write an object; stores make it appear whole or not at all."""
        buffer = self._prototype.buffer.from_bytes(data)
        sync(path.set(buffer))

    def get_object(self, key: str) -> bytes | None:
        """An object below the array's path."""
        return self._fetch([(self.array.store_path / key, 0, None)])[0]

    def put_object(self, key: str, data: bytes) -> None:
        self.put(self.array.store_path / key, data)

    def delete_object(self, key: str) -> None:
        sync((self.array.store_path / key).delete())

    def list_objects(self, below: str) -> list[str]:
        """The keys below one that ends with a slash, sorted, relative to the array's path."""
        prefix = f"{self.array.store_path.path}/" if self.array.store_path.path else ""

        async def every() -> list[str]:
            found = self.array.store_path.store.list_prefix(prefix + below)
            return [key[len(prefix) :] async for key in found]

        return sorted(sync(every()))


@dataclass
class _Reading:
    """One chunk that is being read: its plan, and what of it is in memory."""

    store: ChunkStore
    chunk: Chunk
    make: PlanMaker
    where: tuple[int, int] | FormatError | None  # in its shard

    def __post_init__(self) -> None:
        self.path = self.store._path(self.chunk)
        self.done = False
        self.result: Any = None
        self._plan = self.make()
        self._wanted: list[Range] = []
        if isinstance(self.where, FormatError):
            self._fail(self.where)
            return
        self._step(None)
        if self.store.shard is not None and self.where is None:
            self._unpack(None)  # not in its shard

    def _fail(self, error: FormatError) -> None:
        self.done, self.result = True, _named(error, self.store.key(self.chunk))

    def _step(self, answer: list[Any] | None) -> None:
        try:
            self._wanted = self._plan.send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            self.done, self.result = True, end.value
        except FormatError as error:
            self._fail(error)

    def _in_object(self, wanted: Range) -> tuple[int, int | None]:
        """A range of the chunk as one of its object."""
        start, end = self.where if isinstance(self.where, tuple) else (0, None)
        a, b = wanted
        stop = end if b is None else start + b if end is None else min(start + b, end)
        return start + a, stop

    def requests(self) -> list[tuple[int, int | None]]:
        """The ranges of the object that are wanted next."""
        if self.store.behind:  # packed: all of it
            return [self._in_object((0, None))]
        ranges = map(self._in_object, self._wanted)
        # Stores are not to be asked for nothing.
        return [(start, stop) for start, stop in ranges if stop is None or start < stop]

    def answer(self, found: list[bytes | None]) -> None:
        """Go on with what was read, and with what needs no more to be read."""
        parts = dict(zip(self.requests(), found, strict=True))
        if self.store.behind:
            self._unpack(found[0])
            return
        self._step([parts.get(self._in_object(want), b"") for want in self._wanted])

    def _unpack(self, data: bytes | None) -> None:
        """Answer all from a packed chunk."""
        try:
            whole = None if data is None else self.store._unpacked(data)
        except FormatError as error:
            self._fail(error)
            return
        while not self.done:
            self._step([None if whole is None else whole[a:b] for a, b in self._wanted])


def _named(error: FormatError, key: str) -> FormatError:
    """The error, with the key of the chunk."""
    if error.key is not None:
        return error
    return type(error)(error.reason, error.section, error.slice, key)


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


def _is_sync(store: Any) -> bool:
    """Whether reading needs no event loop."""
    if isinstance(store, WrapperStore) and hasattr(store, "get_sync"):
        return _is_sync(store._store)
    return isinstance(store, (LocalStore, MemoryStore))
