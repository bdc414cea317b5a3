"""The main job on one volume: ``python -m numcodecs_crackle.demo [volume.ckl.gz|.ckl|.npy]``.

Writes Zarr arrays to ``demo-out/``, reads them back, prints sizes and speeds beside Zstd and
Blosc; finds labels, measures them and merges two in the stored chunks; and draws a PNG of a
slice with its borders.
"""

from __future__ import annotations

import gzip
import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import Blosc, Zstd
from zarr.abc.store import Store
from zarr.codecs import ZstdCodec
from zarr.storage import WrapperStore

import numcodecs_crackle as ck
from numcodecs_crackle.picture import draw

OUT = Path("demo-out")


def make_volume(shape: tuple[int, int, int] = (96, 384, 384)) -> npt.NDArray[np.uint32]:
    """Cells: in each slice every pixel has the label of its nearest seed, which drifts."""
    rng = np.random.default_rng(0)
    seeds = rng.uniform(0, shape[1], (220, 2))
    drift = rng.normal(0, 0.5, seeds.shape)
    ids = rng.choice(2**31, len(seeds), replace=False).astype(np.uint32)
    y, x = np.mgrid[: shape[1], : shape[2]].astype(np.float32)
    volume = np.empty(shape, np.uint32)
    for z in range(shape[0]):
        best = np.full(shape[1:], np.inf, np.float32)
        for (sy, sx), label in zip(seeds + drift * z, ids, strict=True):
            d = (y - np.float32(sy)) ** 2 + (x - np.float32(sx)) ** 2
            closer = d < best
            best[closer] = d[closer]
            volume[z][closer] = label
    return volume


class CountingStore(WrapperStore):  # type: ignore[type-arg]
    """A store of zarr's that counts the bytes that are read and written.

    Parameters
    ----------
    store : zarr.abc.store.Store

    Attributes
    ----------
    requests, read, writes, written : int
        How many objects, or ranges of these, were read, and their bytes; how many objects were
        written, and their bytes.
    """

    # Newer zarr's, where the wrapped store would be asked past `get` and `set`.
    _supports_sync_io = False
    get_ranges: Any = getattr(Store, "get_ranges", None)

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.reset()

    def reset(self) -> None:
        """Count from nothing."""
        self.requests = self.read = self.writes = self.written = 0

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        data = await super().get(key, prototype, byte_range)
        self.requests += 1
        self.read += 0 if data is None else len(data)
        return data

    async def set(self, key: str, value: Any) -> None:
        await super().set(key, value)
        self.writes += 1
        self.written += len(value)


def load(path: str | None) -> npt.NDArray[Any]:
    """A C-order array (z, y, x) of labels."""
    if path is None:
        print("making a volume of cells (give DATA=file.ckl.gz or .npy for your own) ...")
        return make_volume()
    print(f"reading {path} ...")
    if path.endswith(".npy"):
        return np.ascontiguousarray(np.load(path))
    data = Path(path).read_bytes()
    if path.endswith(".gz"):
        data = gzip.decompress(data)
    return np.ascontiguousarray(ck.decompress(data).T)


def ways() -> dict[str, dict[str, Any]]:
    """How to store the array, by name: arguments of zarr.create_array."""
    crackle: dict[str, Any] = {"serializer": ck.CrackleCodec(), "compressors": None}
    return {
        "Crackle, Zarr 3": {"zarr_format": 3, **crackle},
        "Crackle, Zarr 3 sharded": {"zarr_format": 3, **crackle, "shards": "shards"},
        "Crackle + Zstd, Zarr 3": {
            "zarr_format": 3, **crackle, "compressors": ZstdCodec(level=3),
        },
        "Crackle, Zarr 2": {"zarr_format": 2, "compressors": ck.Crackle()},
        "Zstd(3), Zarr 2": {"zarr_format": 2, "compressors": Zstd(level=3)},
        "Blosc(zstd 5, bitshuffle), Zarr 2": {
            "zarr_format": 2, "compressors": Blosc("zstd", 5, Blosc.BITSHUFFLE),
        },
        "Blosc(lz4), Zarr 2": {"zarr_format": 2, "compressors": Blosc("lz4")},
    }  # fmt: skip


def ask(volume: npt.NDArray[Any]) -> None:
    """Labels, a statistics table and a merge of two labels, from the stored chunks."""
    stored = ck.LabelVolume(OUT / "Crackle,_Zarr_3.zarr")
    found, took = timed(stored.labels)
    expected, slow = timed(lambda: np.unique(volume))
    same(found, expected)
    chunks = math.prod(-(-n // c) for n, c in zip(volume.shape, stored.array.chunks, strict=True))
    print(f"{found.size} labels in {chunks} chunks, found in {took:.0f} ms")
    print(f"(numpy.unique over the array in memory: {slow:.0f} ms)")
    rows, took = timed(stored.statistics)
    print(f"their sizes, boxes and centroids in {took:.0f} ms; the largest:")
    print(f"{'label':>12}{'voxels':>12}  {'z':>11}{'y':>11}{'x':>11}  centroid")
    largest = np.argsort(rows.voxel_counts)[::-1][:5]
    for i in largest:
        low, high = rows.boxes[i].reshape(2, -1)
        box = "".join(f"{f'{a}-{b}':>11}" for a, b in zip(low, high, strict=True))
        place = " ".join(f"{x:.1f}" for x in rows.centroids[i])
        print(f"{rows.labels[i]:>12}{rows.voxel_counts[i]:>12,}  {box}  {place}")
    first, second = (int(rows.labels[i]) for i in largest[[0, min(1, len(largest) - 1)]])
    where, took = timed(lambda: stored.chunks_with(second))
    print(f"label {second} is in {len(where)} chunks, found in {took:.0f} ms")
    edit, took = timed(lambda: stored.remap({second: first}))
    print(f"merged into {first}: {len(edit.chunks)} chunks changed in {took:.0f} ms")
    same(stored.read(), np.where(volume == second, first, volume))


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """A result, and the milliseconds that it took."""
    begin = time.perf_counter()
    result = run()
    return result, 1000 * (time.perf_counter() - begin)


def same(found: Any, expected: Any) -> None:
    if not np.array_equal(found, expected):
        raise SystemExit("the stored chunks tell something else than the array")


def main(path: str | None = None) -> None:
    from matplotlib.image import imsave
    from tqdm import tqdm

    volume = load(path)
    volume = volume.reshape((1,) * (3 - volume.ndim) + volume.shape)
    chunks = tuple(min(64, n) for n in volume.shape)
    shards = tuple(2 * n for n in chunks)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    print(f"{volume.shape} {volume.dtype}, {volume.nbytes / 1e6:.0f} MB, chunks {chunks}\n")
    rows = []
    for name, options in tqdm(ways().items(), desc="storing", leave=False):
        if options.get("shards"):
            options["shards"] = shards
        place = OUT / (name.replace(" ", "_") + ".zarr")
        array = zarr.create_array(
            place, shape=volume.shape, dtype=volume.dtype, chunks=chunks, **options
        )
        begin = time.perf_counter()
        array[:] = volume
        wrote = time.perf_counter() - begin
        array[:]  # the first read of a process is slow, whatever it reads
        begin = time.perf_counter()
        back = array[:]
        read = time.perf_counter() - begin
        if not np.array_equal(back, volume):
            raise SystemExit(f"{name}: came back different")
        size = sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
        rows.append((name, size, volume.size / 1e6 / wrote, volume.size / 1e6 / read))
    print(f"{'':36}{'bytes':>12}{'ratio':>8}{'write MVx/s':>13}{'read MVx/s':>12}")
    for name, size, wrote, read in rows:
        print(f"{name:36}{size:>12,}{volume.nbytes / size:>8.0f}{wrote:>13.0f}{read:>12.0f}")
    print("all came back equal\n")

    ask(volume)
    array = zarr.open_array(OUT / "Crackle,_Zarr_3.zarr", mode="r")
    picture = draw(np.asarray(array[volume.shape[0] // 2]), borders=True)
    imsave(OUT / "slice.png", picture)
    print(f"a slice with its borders: {OUT / 'slice.png'}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
