"""The stored chunks of a Zarr array: their bytes, or ranges of these, read and replaced.

A chunk is the unit that is coded by itself; it is stored as an object of its own, or with
others in a shard. Zarr's pipeline is passed by, so that ranges within a shard are read, and
chunks are rewritten without their voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.sync import sync

from numcodecs_crackle.chunks import check_bool, check_head
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.objects import Objects
from numcodecs_crackle.partial import Plan, Range
from numcodecs_crackle.shards import Form, ShardIndex

__all__ = ["Chunk", "ChunkStore"]

Chunk = tuple[int, ...]
# How a chunk is read: called for each attempt.
PlanMaker = Callable[[], Plan]

_REFUSED = (
    "the array is not coded by Crackle: copy it to one that is, e.g. zarr.create_array(..., "
    "data=array, serializer=CrackleCodec(), compressors=None)"
)


class ChunkStore(Objects):
    """How the chunks of an array coded by this package are stored.

    Parameters
    ----------
    array : zarr.Array
        Zarr 2 or 3, sharded or not. Behind Crackle there may be other codecs, before it
        transposition.
    verify : bool
        Whether of a chunk whose slices are read the label section is, too: see `slices_of`.

    Raises
    ------
    TypeError
        For other arrays, and for shards within or behind other codecs.
    """

    def __init__(self, array: Any, verify: bool = True) -> None:
        super().__init__(array.store_path)
        self.array = array
        self.verify = verify
        metadata = array.metadata
        self.shape: tuple[int, ...] = tuple(array.shape)
        try:
            self.chunks: tuple[int, ...] = tuple(array.chunks)
        except NotImplementedError:
            raise TypeError("chunks of different sizes are not supported") from None
        native = np.dtype(array.dtype)
        self.is_bool: bool = native.kind == "b"
        self.dtype: np.dtype[Any] = np.dtype(np.uint8) if self.is_bool else native.newbyteorder("=")
        fill = 0 if array.fill_value is None else array.fill_value
        self.fill: Any = np.asarray(fill).astype(self.dtype)[()]
        # The array's, as coded, the fastest last.
        self.axes: tuple[int, ...] = tuple(range(len(self.shape)))
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
        self.coded_shape: tuple[int, ...] = tuple(self.chunks[a] for a in self.axes)
        # Chunks of an object along each axis: those of a shard, or 1.
        self.per_object: tuple[int, ...] = (1,) * len(self.shape)
        if self.shard is not None:
            self.per_object = tuple(s // c for s, c in zip(array.shards, self.chunks, strict=True))

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

    def __reduce__(self) -> tuple[type[ChunkStore], tuple[Any, bool]]:
        return type(self), (self.array, self.verify)

    # ---- places ----

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks along each axis, those at the end that stand out of the array, too."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    def object_of(self, chunk: Chunk) -> Chunk:
        """The place of the object that has a chunk, in the grid of objects."""
        if self.shard is None:
            return chunk
        return tuple(c // n for c, n in zip(chunk, self.per_object, strict=True))

    def key(self, chunk: Chunk) -> str:
        """The key of the object that has a chunk, below the array's path."""
        return str(self.array.metadata.encode_chunk_key(self.object_of(chunk)))

    def check(self, head: CrackleHeader) -> None:
        """`FormatError` if a header is not that of a chunk."""
        check_head(head, self.coded_shape, self.dtype)

    def check_labels(self, labels: Any) -> None:
        """`FormatError` for labels, an array, that a chunk of bool can't have."""
        if self.is_bool:
            check_bool(labels)

    # ---- reading ----

    def read(
        self,
        wanted: Sequence[tuple[Chunk, PlanMaker]],
        indices: dict[Chunk, Any] | None = None,
    ) -> list[Any]:
        """Read chunks by plans, all at once.

        A plan that fails is made again once: ranges of a chunk that was replaced between two
        requests don't fit each other.

        Parameters
        ----------
        indices
            Takes the indices of shards, for calls that follow soon.

        Returns
        -------
        list
            The result of each plan, or the `FormatError` that it raised, which names the key.
        """
        indices = {} if indices is None else indices
        results = self._read_once(wanted, indices)
        failed = [i for i, result in enumerate(results) if isinstance(result, FormatError)]
        if failed:
            indices.clear()
            again = self._read_once([wanted[i] for i in failed], indices)
            for i, result in zip(failed, again, strict=True):
                results[i] = result
        return results

    def _read_once(
        self, wanted: Sequence[tuple[Chunk, PlanMaker]], indices: dict[Chunk, Any]
    ) -> list[Any]:
        if self.shard is not None:
            missing = {self.object_of(chunk) for chunk, _ in wanted} - indices.keys()
            indices |= self._shard_indices(missing)
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
            found = self._fetch([(r.key, *want) for r, want in asked])
            answers: dict[int, list[Any]] = {}
            for (r, _), data in zip(asked, found, strict=True):
                answers.setdefault(id(r), []).append(data)
            for r in waiting:
                r.answer(answers.get(id(r), []))
            waiting = [r for r in waiting if not r.done]
        return [r.result for r in readings]

    def _within(self, chunk: Chunk) -> Chunk:
        return tuple(c % n for c, n in zip(chunk, self.per_object, strict=True))

    def _shard_indices(self, objects: Iterable[Chunk]) -> dict[Chunk, Any]:
        """The index of each shard; None if it is not stored, or a FormatError."""
        places = list(objects)
        form = Form.of(self.shard, self.per_object)
        first = [tuple(o * n for o, n in zip(p, self.per_object, strict=True)) for p in places]
        want = (0, form.nbytes) if form.at_start else (-form.nbytes, None)
        found = self._fetch([(self.key(chunk), *want) for chunk in first])
        result: dict[Chunk, Any] = {}
        for place, chunk, data in zip(places, first, found, strict=True):
            try:
                result[place] = None if data is None else form.read(data)
            except FormatError as error:
                result[place] = _named(error, self.key(chunk))
        return result

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

    def rewritten(
        self,
        chunks: Sequence[Chunk],
        change: Callable[[Chunk, bytes | None], bytes | None],
        pack: bool = False,
    ) -> tuple[bytes | None, bytes | None]:
        """An object, and what it becomes when some of its chunks are changed.

        Parameters
        ----------
        chunks
            Of one object.
        change
            Called with each chunk and its stream, or None where it is not stored: the stream
            to store, or None to leave it as it is.
        pack
            Close up what a shard has: see `ShardIndex.rebuilt`.

        Returns
        -------
        The object's bytes, None if it is not stored; and the new ones, None to leave it.

        Raises
        ------
        FormatError
            For damage, which names the key.
        """
        key = self.key(chunks[0])
        old = self.get_object(key)
        try:
            if self.shard is not None:
                return old, self._rewritten_shard(old, change, chunks, pack)
            (chunk,) = chunks
            stream = change(chunk, None if old is None else self._unpacked(old))
            return old, None if stream is None else self.pack(stream)
        except FormatError as error:
            raise _named(error, key) from None

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
        change: Callable[[Chunk, bytes | None], bytes | None],
        chunks: Sequence[Chunk],
        pack: bool,
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
            changed = change(chunk, stream)
            if changed is not None:
                new[within] = self.pack(changed)
        return index.rebuilt(b"" if old is None else old, new, pack) if new else None


@dataclass
class _Reading:
    """One chunk that is being read: its plan, and what of it is in memory."""

    store: ChunkStore
    chunk: Chunk
    make: PlanMaker
    where: tuple[int, int] | FormatError | None  # in its shard

    def __post_init__(self) -> None:
        self.key = self.store.key(self.chunk)
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
        self.done, self.result = True, _named(error, self.key)

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
