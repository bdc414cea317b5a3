"""Questions and edits over the stored chunks of a volume, and what they read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import cc3d
import crackle
import fastremap
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

import numcodecs_crackle as ck
from benchmarks.cases import Volume
from benchmarks.timing import interleaved, ratio
from tests.servers import NGINX, http_server, s3_server

OURS, DECODED, ZSTD = "LabelVolume", "crackle-codec, decoded", "numpy over Zstd"
SIDE = 128
Row = dict[str, Any]


class Chunks:
    """The chunks of a volume as files of streams, and as Zstd chunks of a Zarr array."""

    def __init__(self, volume: Volume, folder: Path) -> None:
        self.array = zarr.create_array(
            folder / "crackle.zarr", shape=volume.shape, chunks=(SIDE,) * 3, dtype=volume.dtype,
            serializer=ck.CrackleCodec(), compressors=None,
        )  # fmt: skip
        self.zstd = zarr.create_array(
            folder / "zstd.zarr", shape=volume.shape, chunks=(SIDE,) * 3, dtype=volume.dtype,
            compressors=ZstdCodec(level=3),
        )  # fmt: skip
        for array in (self.array, self.zstd):
            array[:] = volume
        self.folder = folder
        self.places = list(np.ndindex(*(-(-n // SIDE) for n in volume.shape)))

    def path(self, place: tuple[int, ...]) -> Path:
        return self.folder / "crackle.zarr" / "c" / "/".join(map(str, place))

    def decoded(self, place: tuple[int, ...]) -> Volume:
        voxels: Volume = crackle.decompress(self.path(place).read_bytes(), parallel=1)
        return voxels

    def block(self, place: tuple[int, ...]) -> Volume:
        voxels: Volume = self.zstd.blocks[place]
        return voxels


def _extent(voxels: Volume, place: tuple[int, ...], order: int) -> dict[int, Any]:
    """Voxels and box of each label; axes of decoded streams come the other way around."""
    small, labels = fastremap.renumber(voxels, preserve_zero=False, in_place=False)
    names = {new: old for old, new in labels.items()}
    found = cc3d.statistics(small, no_slice_conversion=True)
    shift = np.array(place) * SIDE
    result = {}
    for i in range(1, len(found["voxel_counts"])):
        box = found["bounding_boxes"][i].astype(np.int64)
        low, high = box[::2][::order] + shift, box[1::2][::order] + shift
        result[names[i]] = (int(found["voxel_counts"][i]), low, high)
    return result


def _joined(parts: list[dict[int, Any]]) -> dict[int, Any]:
    total: dict[int, Any] = {}
    for part in parts:
        for label, (count, low, high) in part.items():
            if label in total:
                n, a, b = total[label]
                count, low, high = count + n, np.minimum(low, a), np.maximum(high, b)
            total[label] = count, low, high
    return total


def _check(answers: list[Any], what: str) -> None:
    first = answers[0]
    for other in answers[1:]:
        if not np.array_equal(np.asarray(first), np.asarray(other)):
            raise SystemExit(f"{what}: the answers differ")


def measure(real: Volume, seconds: float, rounds: int) -> list[Row]:
    """Rows of milliseconds and ratios, one thread each, in a local store. Axes are z, y, x."""
    volume = np.ascontiguousarray(real.T)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(1) as one:
        chunks = Chunks(volume, Path(name))
        v = ck.LabelVolume(chunks.array, executor=one)
        found = v.statistics()
        order = np.argsort(found.voxel_counts)
        middling = order[[len(order) // 2, len(order) * 3 // 4]]
        label, second = (int(n) for n in found.labels[middling])
        large = [int(n) for n in found.labels[order[[-20, -21]]]]
        middle = volume.shape[0] // 2
        rows = [
            _row("all labels", seconds, rounds, {
                OURS: v.labels,
                DECODED: lambda: np.unique(np.concatenate(
                    [fastremap.unique(chunks.decoded(p)) for p in chunks.places])),
                ZSTD: lambda: np.unique(np.concatenate(
                    [np.unique(chunks.block(p)) for p in chunks.places])),
            }),
            _row("the chunks with one label", seconds, rounds, {
                OURS: lambda: v.chunks_with(label),
                DECODED: lambda: [p for p in chunks.places if (chunks.decoded(p) == label).any()],
                ZSTD: lambda: [p for p in chunks.places if (chunks.block(p) == label).any()],
            }),
            _row("counts and boxes of all labels", seconds, rounds, {
                OURS: lambda: _rows_of(v.statistics()),
                DECODED: lambda: _listed(_joined(
                    [_extent(chunks.decoded(p), p, -1) for p in chunks.places])),
                ZSTD: lambda: _listed(_joined(
                    [_extent(chunks.block(p), p, 1) for p in chunks.places])),
            }),
            _row("counts and box of one label", seconds, rounds, {
                OURS: lambda: _rows_of(v.statistics(label)),
                DECODED: lambda: _box_of(chunks.decoded, chunks.places, label, -1),
                ZSTD: lambda: _box_of(chunks.block, chunks.places, label, 1),
            }),
            _row("one z slice", seconds, rounds, {
                OURS: lambda: v.read(middle)[0],
                DECODED: lambda: _slice(chunks, middle),
                ZSTD: lambda: chunks.zstd[middle],
            }),
            _edit_row(chunks, v, label, second, "two labels", seconds, rounds),
            _edit_row(chunks, v, *large, "two of the largest labels", seconds, rounds),
        ]  # fmt: skip
    return rows


def _rows_of(found: Any) -> list[list[int]]:
    return np.column_stack([found.labels, found.voxel_counts, found.boxes]).astype(int).tolist()


def _listed(found: dict[int, Any]) -> list[list[int]]:
    return [
        [label, count, *low.tolist(), *high.tolist()]
        for label, (count, low, high) in sorted(found.items())
    ]


def _box_of(
    read: Callable[[Any], Volume], places: list[tuple[int, ...]], label: int, order: int
) -> list[list[int]]:
    parts = []
    for place in places:
        at = np.nonzero(read(place) == label)[::order]
        if len(at[0]):
            shift = np.array(place) * SIDE
            low, high = (np.array([f(a) for a in at]) + shift for f in (np.min, np.max))
            parts.append({label: (len(at[0]), low, high)})
    return _listed(_joined(parts))


def _slice(chunks: Chunks, z: int) -> Volume:
    result = np.empty(chunks.array.shape[1:], chunks.array.dtype)
    for place in chunks.places:
        if place[0] == z // SIDE:
            y, x = (i * SIDE for i in place[1:])
            result[y : y + SIDE, x : x + SIDE] = chunks.decoded(place)[:, :, z % SIDE].T
    return result


def _edit_row(
    chunks: Chunks, v: Any, first: int, second: int, what: str, seconds: float, rounds: int
) -> Row:
    """Two labels get other names, and their old ones back."""
    top = int(v.max()) + 1
    there = {first: top, second: top + 1}
    ways = [there, {new: old for old, new in there.items()}]
    folder = chunks.folder / "crackle.zarr"
    apart = {name: cycle(ways) for name in (OURS, DECODED, ZSTD)}

    def ours() -> None:
        v.remap(next(apart[OURS]))

    def decoded() -> None:
        mapping = next(apart[DECODED])
        for place in chunks.places:
            voxels = chunks.decoded(place)
            if any((voxels == label).any() for label in mapping):
                voxels = fastremap.remap(voxels, mapping, preserve_missing_labels=True)
                data = crackle.compress(np.asfortranarray(voxels), parallel=1)
                path = chunks.path(place)
                path.with_suffix(".new").write_bytes(data)
                path.with_suffix(".new").replace(path)

    def numpy_over_zstd() -> None:
        mapping = next(apart[ZSTD])
        for place in chunks.places:
            voxels = chunks.block(place)
            if any((voxels == label).any() for label in mapping):
                chunks.zstd.blocks[place] = fastremap.remap(
                    voxels, mapping, preserve_missing_labels=True
                )

    before = v.read()
    for edit in (ours, decoded, numpy_over_zstd):
        edit()
        after = chunks.zstd[:] if edit is numpy_over_zstd else v.read()
        if not np.array_equal(after, fastremap.remap(before, there, preserve_missing_labels=True)):
            raise SystemExit(f"{edit.__name__}, {folder}: another result")
        edit()
    count = len(v.remap(there, dry_run=True).chunks)
    return _row(
        f"{what} changed in the store, {count} of {len(chunks.places)} chunks", seconds, rounds,
        {OURS: ours, DECODED: decoded, ZSTD: numpy_over_zstd},
    )  # fmt: skip


def _row(what: str, seconds: float, rounds: int, runs: dict[str, Callable[[], Any]]) -> Row:
    _check([run() for run in runs.values()], what)
    times = interleaved(runs, seconds, rounds)
    return {
        "what": what,
        "ms": {name: 1000 * median(t) for name, t in times.items()},
        "ratios": {name: ratio(times, OURS, name) for name in (DECODED, ZSTD)},
    }


# ---- over a network ----


def remote(real: Volume) -> list[Row]:
    """Requests and bytes over HTTP and S3, from servers on this machine."""
    volume = np.ascontiguousarray(real.T)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        chunks = Chunks(volume, Path(name))
        found = ck.LabelVolume(chunks.array).statistics()
        label = int(found.labels[np.argsort(found.voxel_counts)[len(found.labels) // 2]])
        with http_server(name, "nginx" if NGINX else "aiohttp") as web:
            kind = f"HTTP, {'nginx' if NGINX else 'aiohttp'}"
            rows += _asked(kind, web, f"{web.url}/crackle.zarr", f"{web.url}/zstd.zarr", {}, label)
        with s3_server() as s3:
            for array in (chunks.array, chunks.zstd):
                path = Path(str(array.store_path.store.root)).name
                there = zarr.create_array(
                    s3.s3_url(path), storage_options=s3.storage_options, shape=array.shape,
                    chunks=array.chunks, dtype=array.dtype, serializer=array.serializer,
                    compressors=array.compressors,
                )  # fmt: skip
                there[:] = volume
            places = (s3.s3_url("crackle.zarr"), s3.s3_url("zstd.zarr"))
            rows += _asked("S3, moto", s3, *places, s3.storage_options, label)
    return rows


def _asked(
    kind: str, server: Any, ours: str, zstd: str, options: dict[str, Any], label: int
) -> list[Row]:
    keywords = {"storage_options": options} if options else {}
    array = zarr.open_array(ours, mode="r", **keywords)
    other = zarr.open_array(zstd, mode="r", **keywords)
    v, quick = ck.LabelVolume(array), ck.LabelVolume(array, verify=False)
    whole: Callable[[], Any] = lambda: other[:]  # noqa: E731
    z = array.shape[0] // 2 + 10
    questions: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "all labels": (v.labels, whole),
        "the chunks with one label": (lambda: v.chunks_with(label), whole),
        "counts and box of one label": (lambda: v.statistics(label), whole),
        "one z slice": (lambda: v.read(z), lambda: other[z]),
        "one z slice, through zarr": (lambda: array[z], lambda: other[z]),
        "one z slice, verify=False": (lambda: quick.read(z), lambda: other[z]),
    }
    rows = []
    for what, (ask, decode) in questions.items():
        row: Row = {"what": f"{what}, {kind}"}
        for name, run in ((OURS, ask), (ZSTD, decode)):
            server.clear()
            run()
            asked = [r for r in server.requests if "/c/" in r.path and r.method == "GET"]
            row[name] = {"requests": len(asked), "bytes": sum(r.bytes for r in asked)}
        rows.append(row)
    return rows
