"""Arrays of labels, stored in every way that a volume may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from conftest import volume
from numcodecs import Zstd
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.storage import MemoryStore

import numcodecs_crackle as ck


def sharded(chunks, shards, dtype, index_location="end", index_codecs=None, behind=()):
    """Shards with options that create_array does not have."""
    options = {} if index_codecs is None else {"index_codecs": index_codecs}
    return {
        "chunks": shards,
        "serializer": ShardingCodec(
            chunk_shape=chunks, codecs=(ck.CrackleCodec(), *behind),
            index_location=index_location, **options,
        ),
        "compressors": None,
    }  # fmt: skip


_V3: dict[str, Any] = {"serializer": ck.CrackleCodec(), "compressors": None}
# shape, chunks, options of zarr.create_array
LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((20, 15, 13), (8, 7, 13), _V3),
    "whole chunks": ((16, 12, 10), (8, 6, 5), _V3),
    "zstd behind": ((20, 15, 13), (8, 7, 13), {**_V3, "compressors": ZstdCodec()}),
    "crc behind": ((9, 15, 13), (8, 7, 13), {**_V3, "compressors": Crc32cCodec()}),
    "shards": ((24, 30, 13), (4, 8, 7), {**_V3, "shards": (12, 16, 14)}),
    "index first": (
        (24, 16, 13), (4, 8, 7),
        sharded((4, 8, 7), (12, 16, 14), "u4", "start", [BytesCodec()], [ZstdCodec()]),
    ),
    "transposed": ((20, 15, 13), (8, 7, 5), {**_V3, "filters": TransposeCodec(order=(1, 2, 0))}),
    "4D": ((6, 9, 8, 7), (3, 4, 8, 5), _V3),
    "time": ((3, 9, 8, 7), (1, 4, 8, 5), _V3),
    "2D": ((15, 13), (8, 7), _V3),
    "1D": ((40,), (7,), _V3),
    "bool": ((20, 1, 15, 13), (8, 1, 7, 13), {**_V3, "dtype": "bool"}),
    "big endian": ((20, 15, 13), (8, 7, 13), {**_V3, "dtype": ">i2"}),
    "u8": ((20, 15, 13), (8, 7, 13), {**_V3, "dtype": "u8"}),
    "names": ((20, 15, 13), (8, 7, 13), {**_V3, "dimension_names": ("z", "y", "x")}),
    "fill": ((20, 15, 13), (8, 7, 13), {**_V3, "fill_value": 5}),
    "fill in shards": ((20, 15, 13), (4, 7, 7), {**_V3, "fill_value": 5, "shards": (8, 14, 14)}),
    "Zarr 2": ((20, 15, 13), (8, 7, 13), {"zarr_format": 2, "compressors": ck.Crackle()}),
    "Zarr 2, F": (
        (20, 15, 13), (8, 7, 13), {"zarr_format": 2, "compressors": ck.Crackle(), "order": "F"},
    ),
    "Zarr 2, Zstd": (
        (20, 15, 13), (8, 7, 13),
        {"zarr_format": 2, "filters": [ck.Crackle()], "compressors": Zstd(), "fill_value": 5},
    ),
}  # fmt: skip


def labels_for(shape: tuple[int, ...], dtype: str = "u4", kind: str = "bricks") -> np.ndarray:
    """Bricks of labels, whole stretches of 5, negative ones where there are."""
    a = volume(kind, np.random.default_rng(5), shape)
    if np.dtype(dtype).kind == "b":
        return a % 2 == 1
    a = np.where(a % 3 == 0, 5, a)
    a[: shape[0] * 2 // 5] = 5
    a[-1] = volume("noise", np.random.default_rng(6), (1, *shape[1:]))[0] % 20
    return (a - 7 if np.dtype(dtype).kind == "i" else a).astype(dtype)


def stored(
    name: str, store: Any = None, path: str = "seg", layouts: Any = LAYOUTS
) -> tuple[np.ndarray, zarr.Array]:
    """An array of labels, and the same stored as a layout says."""
    shape, chunks, options = layouts[name]
    options = {"dtype": "u4", "chunks": chunks, **options}
    a = labels_for(shape, options["dtype"])
    z = zarr.create_array(
        store=MemoryStore() if store is None else store, name=path, shape=shape, **options
    )
    z[...] = a
    return a.astype(a.dtype.newbyteorder("=")), z
