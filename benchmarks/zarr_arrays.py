"""Whole Zarr arrays in a local store, written and read."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc, Zstd
from zarr.codecs import BloscCodec, ZstdCodec

import numcodecs_crackle as ck
from benchmarks.cases import Volume
from benchmarks.timing import interleaved, summary


def _ways() -> dict[str, dict[str, Any]]:
    shuffled: dict[str, Any] = {"cname": "zstd", "clevel": 5, "shuffle": "bitshuffle"}
    return {
        "Crackle, Zarr 2": {"zarr_format": 2, "compressors": ck.Crackle()},
        "Zstd(3), Zarr 2": {"zarr_format": 2, "compressors": Zstd(level=3)},
        "Blosc(lz4), Zarr 2": {"zarr_format": 2, "compressors": Blosc("lz4")},
        "Blosc(zstd, 5, bitshuffle), Zarr 2": {
            "zarr_format": 2, "compressors": Blosc("zstd", 5, Blosc.BITSHUFFLE),
        },
        "none, Zarr 2": {"zarr_format": 2, "compressors": None},
        "Crackle, Zarr 3": {"serializer": ck.CrackleCodec(), "compressors": None},
        "Crackle + Zstd(3), Zarr 3": {
            "serializer": ck.CrackleCodec(), "compressors": ZstdCodec(level=3),
        },
        "Zstd(3), Zarr 3": {"compressors": ZstdCodec(level=3)},
        "Blosc(lz4), Zarr 3": {"compressors": BloscCodec(cname="lz4", clevel=5)},
        "Blosc(zstd, 5, bitshuffle), Zarr 3": {"compressors": BloscCodec(**shuffled)},
        "none, Zarr 3": {"compressors": None},
    }  # fmt: skip


def measure(real: Volume, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Rows of bytes and speed for each way and chunk size. Axes are z, y, x."""
    volume = np.ascontiguousarray(real.T)
    rows = []
    for side in (64, 128):
        with tempfile.TemporaryDirectory() as folder:
            arrays = {
                name: zarr.create_array(
                    Path(folder) / str(i), shape=volume.shape, dtype=volume.dtype,
                    chunks=(side,) * 3, **{"zarr_format": 3, **how},
                )
                for i, (name, how) in enumerate(_ways().items())
            }  # fmt: skip

            def write(array: Any) -> None:
                array[:] = volume

            write_times = interleaved(
                {n: lambda a=a: write(a) for n, a in arrays.items()}, seconds, rounds
            )
            for name, array in arrays.items():
                if not np.array_equal(array[:], volume):
                    raise SystemExit(f"{name}: came back different")
            read_times = interleaved(
                {n: lambda a=a: a[:] for n, a in arrays.items()}, seconds, rounds
            )
            for i, name in zip(itertools.count(), arrays, strict=False):
                files = (Path(folder) / str(i)).rglob("*")
                rows.append(
                    {
                        "what": f"{name}, chunks {side}^3",
                        "bytes": sum(f.stat().st_size for f in files if f.is_file()),
                        "write": summary(write_times[name], volume.size / 1e6),
                        "read": summary(read_times[name], volume.size / 1e6),
                    }
                )
    return rows
