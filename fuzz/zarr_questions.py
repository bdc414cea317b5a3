"""What zarr_chunk.py asks: small arrays of every layout, and what numpy says of each question."""

from __future__ import annotations

import asyncio
import atexit
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numcodecs import GZip, Zstd
from stored import sharded, stored
from zarr.buffer import default_buffer_prototype
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.storage import MemoryStore

import numcodecs_crackle as ck
from numcodecs_crackle import _native
from numcodecs_crackle.shards import Form
from numcodecs_crackle.volume import LabelVolume

_V3: dict[str, Any] = {"serializer": ck.CrackleCodec(), "compressors": None}
_V2: dict[str, Any] = {"zarr_format": 2, "compressors": ck.Crackle()}
# As of tests/stored.py, but each array has a few small chunks.
LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((8, 10, 6), (4, 5, 6), _V3),
    "edge": ((7, 9, 5), (4, 5, 5), {**_V3, "dtype": "u2"}),
    "zstd behind": ((8, 10, 6), (4, 5, 6), {**_V3, "compressors": ZstdCodec()}),
    "gzip behind": ((7, 10, 6), (4, 5, 6), {**_V3, "compressors": GzipCodec(level=1)}),
    "crc behind": ((8, 9, 6), (4, 5, 6), {**_V3, "compressors": Crc32cCodec()}),
    "shards": ((12, 10, 5), (3, 5, 5), {**_V3, "shards": (6, 10, 5)}),
    "shards at the edge": ((7, 8, 5), (3, 4, 5), {**_V3, "shards": (6, 8, 5), "dtype": "u2"}),
    "index first": (
        (8, 10, 5), (4, 5, 5),
        sharded((4, 5, 5), (4, 10, 5), "u4", "start", [BytesCodec()], [ZstdCodec()]),
    ),
    "big index": (
        (8, 10, 5), (4, 5, 5),
        sharded((4, 5, 5), (8, 10, 5), "u4", "start", [BytesCodec(endian="big"), Crc32cCodec()]),
    ),
    "transposed": ((8, 9, 6), (4, 5, 6), {**_V3, "filters": TransposeCodec(order=(1, 2, 0))}),
    "4D": ((2, 6, 5, 4), (2, 3, 5, 2), {**_V3, "dtype": "u2"}),
    "time": ((2, 6, 5, 4), (1, 3, 5, 4), _V3),
    "2D": ((13, 11), (7, 6), {**_V3, "dtype": "u1"}),
    "1D": ((30,), (11,), _V3),
    "bool": ((8, 1, 6, 5), (4, 1, 6, 5), {**_V3, "dtype": "bool"}),
    "big endian": ((8, 9, 5), (4, 5, 5), {**_V3, "dtype": ">i2"}),
    "u8": ((8, 9, 5), (4, 5, 5), {**_V3, "dtype": "u8"}),
    "fill": ((8, 10, 6), (2, 5, 6), {**_V3, "fill_value": 5}),
    "fill in shards": ((8, 10, 5), (2, 5, 5), {**_V3, "fill_value": 5, "shards": (4, 10, 5)}),
    "Zarr 2": ((8, 9, 6), (4, 5, 6), _V2),
    "Zarr 2, F": ((8, 9, 5), (4, 5, 5), {**_V2, "order": "F", "dtype": "i2"}),
    "Zarr 2, Zstd": (
        (8, 10, 5), (4, 5, 5),
        {"zarr_format": 2, "filters": [ck.Crackle()], "compressors": Zstd(), "fill_value": 5},
    ),
    "Zarr 2, GZip": (
        (8, 10, 5), (4, 5, 5),
        {"zarr_format": 2, "filters": [ck.Crackle()], "compressors": GZip(1), "dtype": "u1"},
    ),
}  # fmt: skip


class Inline(ThreadPoolExecutor):
    """Work done where it is asked for: to change threads takes longer than all of it."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


async def work_inline() -> None:
    """For zarr's own loop; not where others use it, too."""
    asyncio.get_running_loop().set_default_executor(Inline())


_LOOP = asyncio.new_event_loop()
_LOOP.set_default_executor(Inline())
atexit.register(_LOOP.close)


class Stored:
    """The array of a layout, in memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.objects: dict[str, Any] = {}
        _, self.array = stored(name, MemoryStore(self.objects), layouts=LAYOUTS)
        self.sound = self.array[...]
        self.volume = LabelVolume(self.array, executor=Inline())
        self.quick = LabelVolume(self.array, executor=Inline(), verify=False)
        self.skipping = LabelVolume(self.array, executor=Inline(), on_error="skip")
        self.store = self.volume._store
        places = list(np.ndindex(*self.store.grid))
        self.chunks = [c for c in places if "seg/" + self.store.key(c) in self.objects]
        self.snapshot = dict(self.objects)
        self.dtype = self.store.dtype

    def read(self, place: Any = ...) -> np.ndarray:
        """What zarr reads, in this thread."""
        result: np.ndarray = _LOOP.run_until_complete(self.array.async_array.getitem(place))
        return result

    def restore(self) -> None:
        self.objects.clear()
        self.objects.update(self.snapshot)

    def put(self, key: str, data: bytes) -> None:
        self.objects["seg/" + key] = default_buffer_prototype().buffer.from_bytes(data)

    def sound_bytes(self, key: str) -> bytes:
        return bytes(self.snapshot["seg/" + key].to_bytes())

    def region_of(self, chunk: tuple[int, ...]) -> tuple[slice, ...]:
        """What of the array is in the object that has a chunk."""
        store = self.store
        sizes = [c * n for c, n in zip(store.chunks, store.per_object, strict=True)]
        place = store.object_of(chunk)
        return tuple(
            slice(i * n, min((i + 1) * n, s))
            for i, n, s in zip(place, sizes, store.shape, strict=True)
        )

    def streams_in(self, data: bytes, chunk: tuple[int, ...]) -> list[bytes] | None:
        """The streams of an object; None where they can't be had."""
        store = self.store
        try:
            if store.shard is None:
                return [store.unpack(data)]
            index = Form.of(store.shard, store.per_object).read_whole(data)
            ranges = [index.range_of(c) for c in np.ndindex(*store.per_object)]
            if any(r is not None and r[1] > len(data) for r in ranges):
                return None
            return [store.unpack(data[r[0] : r[1]]) for r in ranges if r is not None]
        except Exception:
            return None


layout = cache(Stored)


def object_of_input(at: Stored, chunk: tuple[int, ...], form: str, body: bytes) -> bytes:
    """The bytes to store for those of an input."""
    store = at.store
    if form == "stream":
        packed = store.pack(body)
        if store.shard is None:
            return packed
        old = at.sound_bytes(store.key(chunk))
        index = Form.of(store.shard, store.per_object).read_whole(old)
        return index.rebuilt(old, {store._within(chunk): packed}, pack=True)
    if form == "shard" and store.shard is not None:
        shape = Form.of(store.shard, store.per_object)
        if shape.has_crc and len(body) >= shape.nbytes:
            first = 0 if shape.at_start else len(body) - shape.nbytes
            crc = _native.crc32c(body[first : first + shape.nbytes - 4])
            last = first + shape.nbytes
            return body[: last - 4] + crc.to_bytes(4, "little") + body[last:]
    return body


# ---- questions ----


@dataclass
class Asked:
    """A question's particulars, by the head of an input."""

    at: Stored
    volume: LabelVolume
    region: tuple[slice, ...]
    label: int
    other: int
    options: int

    @property
    def labels(self) -> list[int]:
        return [self.label, self.other]


def labels_of(a: np.ndarray) -> np.ndarray:
    """An array as `LabelVolume` has its labels."""
    return a.view(np.uint8) if a.dtype.kind == "b" else a.astype(a.dtype.newbyteorder("="))


def _cut(a: np.ndarray, asked: Asked) -> np.ndarray:
    return labels_of(a)[asked.region]


def _boxes(a: np.ndarray, asked: Asked, labels: Any = None) -> tuple[Any, ...]:
    """What `statistics` gives."""
    part = _cut(a, asked)
    found, inverse, counts = np.unique(part, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    n, start = len(found), [s.start for s in asked.region]
    places = np.indices(part.shape).reshape(part.ndim, -1)
    boxes, centroids = np.zeros((n, 2 * part.ndim), np.int64), np.zeros((n, part.ndim))
    for i, axis in enumerate(places):
        low, high = np.full(n, part.size), np.full(n, -1)
        np.minimum.at(low, inverse, axis)
        np.maximum.at(high, inverse, axis)
        boxes[:, i], boxes[:, part.ndim + i] = low + start[i], high + start[i]
        centroids[:, i] = np.bincount(inverse, axis, n) / counts + start[i]
    keep = np.full(n, True) if labels is None else np.isin(found, labels)
    return found[keep], counts[keep].astype(np.uint64), boxes[keep], centroids[keep]


def _mask(a: np.ndarray, asked: Asked) -> Any:
    where = _cut(a, asked) == asked.label
    if not where.any():
        return None
    places = np.argwhere(where)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    cropped = where[tuple(slice(x, y) for x, y in zip(low, high, strict=True))]
    start = [s.start for s in asked.region]
    return tuple(int(x) + s for x, s in zip(low, start, strict=True)), cropped


def _contacts(a: np.ndarray, asked: Asked) -> tuple[np.ndarray, ...]:
    part = _cut(a, asked)
    pairs: dict[tuple[int, int], list[int]] = {}
    for axis in range(part.ndim):
        n = part.shape[axis]
        first = part.take(range(max(n - 1, 0)), axis).ravel()
        second = part.take(range(min(1, n), n), axis).ravel()
        touch = (first != second) & (first != 0) & (second != 0)
        low, high = np.minimum(first, second)[touch], np.maximum(first, second)[touch]
        for pair in zip(low.tolist(), high.tolist(), strict=True):
            pairs.setdefault(pair, [0] * part.ndim)[axis] += 1
    rows = sorted(pairs)
    columns = [np.array([p[i] for p in rows], part.dtype) for i in (0, 1)]
    faces = np.array([pairs[p] for p in rows], np.uint64).reshape(len(rows), part.ndim)
    return (*columns, faces)


def _cloud(a: np.ndarray, asked: Asked) -> dict[int, np.ndarray]:
    every = labels_of(a)
    surface = np.zeros(every.shape, np.bool_)
    for axis, n in enumerate(every.shape):
        if n == 1:
            continue
        lines, hit = np.moveaxis(every, axis, 0), np.moveaxis(surface, axis, 0)
        differ = lines[1:] != lines[:-1]
        hit[1:] |= differ
        hit[:-1] |= differ
        hit[[0, -1]] = True
    part, points = every[asked.region], surface[asked.region]
    start = np.array([s.start for s in asked.region])
    found = {int(v): np.argwhere(points & (part == v)) + start for v in np.unique(part[points])}
    return {v: p.astype(np.uint16) for v, p in found.items() if v}


def _chunks_with(a: np.ndarray, asked: Asked) -> dict[int, list[tuple[int, ...]]]:
    every = labels_of(a)
    store, found = asked.at.store, {}
    for value in sorted(set(asked.labels)):
        held = []
        for chunk in np.ndindex(*store.grid):
            place = tuple(
                slice(max(s.start, i * c), max(s.start, min(s.stop, (i + 1) * c)))
                for s, i, c in zip(asked.region, chunk, store.chunks, strict=True)
            )
            if (every[place] == value).any():
                held.append(chunk)
        if held:
            found[value] = held
    return found


def _sorted_chunks(found: dict[int, list[tuple[int, ...]]]) -> dict[int, list[tuple[int, ...]]]:
    return {value: sorted(held) for value, held in found.items()}


def _kept(a: np.ndarray, asked: Asked) -> np.ndarray:
    part = asked_as(a, asked)
    return np.where(np.isin(_cut(a, asked), asked.labels), part, part.dtype.type(0))


def asked_as(a: np.ndarray, asked: Asked) -> np.ndarray:
    """A region as `read` gives it: of native byte order."""
    return a[asked.region].astype(a.dtype.newbyteorder("="))


Answer = Callable[[Asked], Any]
Truth = Callable[[np.ndarray, Asked], Any]
# How each is asked, and what numpy says of the array.
QUESTIONS: dict[str, tuple[Answer, Truth]] = {
    "zarr": (lambda q: q.at.array[q.region], lambda a, q: a[q.region]),
    "read": (lambda q: q.volume.read(q.region), asked_as),
    "read labels": (lambda q: q.volume.read(q.region, q.labels), _kept),
    "labels": (lambda q: q.volume.labels(q.region), lambda a, q: np.unique(_cut(a, q))),
    "contains": (
        lambda q: q.volume.contains(q.label, q.region),
        lambda a, q: bool((_cut(a, q) == q.label).any()),
    ),
    "chunks_with": (
        lambda q: _sorted_chunks(q.volume.chunks_with(q.labels, q.region)), _chunks_with,
    ),
    "statistics": (lambda q: tuple(q.volume.statistics(None, q.region)), _boxes),
    "statistics of some": (
        lambda q: tuple(q.volume.statistics(q.labels, q.region)),
        lambda a, q: _boxes(a, q, q.labels),
    ),
    "voxel_counts": (
        lambda q: q.volume.voxel_counts(None, q.region),
        lambda a, q: dict(
            zip(*(x.tolist() for x in np.unique(_cut(a, q), return_counts=True)), strict=True)
        ),
    ),
    "mask": (lambda q: _found(lambda: q.volume.mask(q.label, q.region)), _mask),
    "contacts": (lambda q: tuple(q.volume.contact_faces(None, q.region)), _contacts),
    "point_cloud": (lambda q: q.volume.point_cloud(None, q.region), _cloud),
}  # fmt: skip


def _found(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except ValueError as error:
        if "not contained" not in str(error):
            raise
        return None


# Those whose answer names labels that a table has, and no voxel.
BY_TABLES = ("labels", "contains", "chunks_with")
FACES = ("contacts", "point_cloud")


def same(found: Any, right: Any, values: bool = True) -> bool:
    """Whether answers are equal, or, without ``values``, of one kind."""
    if type(found) is not type(right):
        return found is None or right is None if not values else False
    if isinstance(right, np.ndarray):
        if found.dtype != right.dtype or found.ndim != right.ndim:
            return False
        if not values:
            return True
        if right.dtype.kind == "f":
            return found.shape == right.shape and np.allclose(found, right, rtol=1e-12)
        return np.array_equal(found, right)
    if isinstance(right, tuple):
        return len(found) == len(right) and all(map(same, found, right, [values] * len(right)))
    if isinstance(right, dict):
        if values and found.keys() != right.keys():
            return False
        return all(same(found[k], right[k], values) for k in found.keys() & right.keys())
    return found == right if values else True


# What zarr and the codecs behind Crackle raise for their own damage. Of zarr 3.4 a checksum, too,
# is a ValueError.
ZARR_ERRORS: dict[str, tuple[type[Exception], ...]] = {
    "zstd": (RuntimeError,),
    "gzip": (zlib.error, EOFError, OSError),
    "crc32c": (ValueError,),
    "sharding_indexed": (ValueError,),
    "Zarr 2": (ValueError, TypeError),
}


def allowed(at: Stored) -> tuple[type[Exception], ...]:
    """What zarr may raise for a damaged object, beside FormatError."""
    store, names = at.store, []
    if store.array.metadata.zarr_format == 2:
        names = ["Zarr 2", *(c.codec_id for c in store.behind)]
    else:
        names = [c.to_dict()["name"] for c in store.behind]
        if store.shard is not None:
            names.append("sharding_indexed")
    kinds = {kind for name in names for kind in ZARR_ERRORS[name]}
    return ck.FormatError, *kinds
