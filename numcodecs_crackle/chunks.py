"""How an N-dimensional chunk of an array lies in a stream, and its labels in a store.

A C-order chunk (..., Z, Y, X) is the stream of the same memory read in Fortran order: X, Y
and Z become sx, sy and sz, unit axes drop out, and axes before them fold into sz. The
bytes are those of a Neuroglancer precomputed chunk.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.stream import labels

__all__ = ["chunk_labels"]


def fold(shape: Sequence[int]) -> tuple[int, int, int]:
    """(sx, sy, sz) of a C-order chunk; of an F-order one, pass its shape reversed."""
    if 0 in shape:
        return (0, 0, 0)
    axes = [n for n in shape if n != 1]
    axes = [1] * (3 - len(axes)) + axes if len(axes) < 3 else axes
    # Fewer than 3 axes stand at the fast end: (Y, X) is one slice.
    return axes[-1], axes[-2], math.prod(axes[:-2])


def encode_flat(
    flat: npt.NDArray[Any], shape: Sequence[int], markov_order: int | Literal["auto"]
) -> bytes:
    """Encode a chunk's memory, flat, whose axes are ``shape``, the last one fastest."""
    return _native.encode(flat, fold(shape), False, True, markov_order)


def check_head(
    head: CrackleHeader, shape: Sequence[int] | None, dtype: np.dtype[Any] | None
) -> None:
    """`FormatError` if a stream is not that of a chunk of this shape and dtype."""
    if shape is not None and head.shape != fold(shape) and 0 not in shape:
        raise FormatError(
            f"the volume is {head.sx} x {head.sy} x {head.sz}, and the chunk {tuple(shape)}",
            "header",
        )
    if dtype is not None and head.dtype != dtype:
        raise FormatError(f"the labels are {head.dtype}, and the chunk is {dtype}", "header")
    if shape is not None and head.voxels() != math.prod(shape):
        raise FormatError("the volume has another number of voxels than the chunk", "header")


def decode_flat(
    data: Any,
    shape: Sequence[int] | None = None,
    dtype: np.dtype[Any] | None = None,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """The memory of a chunk, flat, in stream order.

    With ``shape`` and ``dtype`` (or ``out``, a flat array of bytes) the stream must be
    that of such a chunk, before anything is allocated. Raises `FormatError` if not.
    """
    stream = _native.Stream(data)
    head = CrackleHeader._from_native(stream.header)
    check_head(head, shape, dtype)
    if out is None:
        out = np.empty(head.voxels(), head.dtype)
    elif out.nbytes != head.nbytes:
        raise ValueError(f"out has {out.nbytes} bytes, and the array {head.nbytes}")
    if out.size:
        stream.decode(out.view(head.dtype), 0, head.sz, False)
    return out


def slices_in(selection: Any, shape: Sequence[int]) -> npt.NDArray[np.intp] | None:
    """The slices that a selection of a C-order chunk touches, ascending; None for all.

    ``selection`` has an entry for each axis: an integer, a slice, or an array of integers or
    of bools for this axis.
    """
    if not isinstance(selection, tuple) or len(selection) != len(shape) or 0 in shape:
        return None
    slow = [i for i, n in enumerate(shape) if n != 1][:-2]
    held = []
    for i in slow:
        entry = selection[i]
        if isinstance(entry, slice):
            held.append(np.arange(shape[i])[entry])
            continue
        entry = np.asarray(entry)
        if entry.dtype.kind == "b":
            if entry.shape != (shape[i],):
                return None
            entry = np.flatnonzero(entry)
        if entry.dtype.kind not in "iu":
            return None
        held.append(np.unique(entry))
    if not held or any(len(h) == 0 for h in held):
        return None
    z = held[0]
    for i, h in zip(slow[1:], held[1:], strict=True):
        z = (z[:, None] * shape[i] + h).reshape(-1)
    return None if len(z) == math.prod(shape[i] for i in slow) else z.astype(np.intp)


def chunk_labels(array: Any) -> Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]]:
    """The labels of every chunk of a Zarr array, from its bytes and without its voxels.

    Parameters
    ----------
    array : zarr.Array
        Zarr 2 or 3, sharded or not, coded by this package, alone or with bytes-to-bytes
        codecs (Zarr 2: a compressor) behind it.

    Yields
    ------
    (coordinates, labels)
        The chunk's place in the grid of (inner) chunks, C order, and its labels, sorted. A
        chunk that is not stored has the fill value. Padding of chunks at the array's edge
        counts as stored.

    Raises
    ------
    TypeError
        If the array is not coded by this package.
    FormatError
        If a chunk is damaged; the message names it.
    """
    from zarr.core.sync import sync

    read = _chunk_reader(array)
    grid = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
    dtype = array.dtype.newbyteorder("=")
    fill = np.asarray([0 if array.fill_value is None else array.fill_value], dtype)
    batch: list[tuple[int, ...]] = []

    async def fetch(wanted: list[tuple[int, ...]]) -> list[Any]:
        return await asyncio.gather(*(read(c) for c in wanted))

    def flush() -> Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]]:
        for coordinates, data in zip(batch, sync(fetch(batch)), strict=True):
            if data is None:
                yield coordinates, fill
                continue
            try:
                yield coordinates, labels(data).astype(dtype, copy=False)
            except FormatError as e:
                raise FormatError(f"chunk {coordinates}: {e.reason}", e.section, e.slice) from None

    for coordinates in product(*(range(n) for n in grid)):
        batch.append(coordinates)
        if len(batch) == 16:
            yield from flush()
            batch = []
    if batch:
        yield from flush()


def _chunk_reader(array: Any) -> Any:
    """A coroutine function: chunk coordinates -> the bytes of its stream, or None."""
    from zarr.buffer import default_buffer_prototype
    from zarr.core.array_spec import ArrayConfig, ArraySpec

    prototype = default_buffer_prototype()
    refuse = TypeError("the array is not coded by Crackle: write it with this package's codec")

    if array.metadata.zarr_format == 2:
        chain = [*(array.metadata.filters or ()), array.metadata.compressor]
        chain = [c for c in chain if c is not None]
        if not chain or getattr(chain[0], "codec_id", None) != "crackle":
            raise refuse

        async def read_v2(coordinates: tuple[int, ...]) -> Any:
            path = array.store_path / array.metadata.encode_chunk_key(coordinates)
            buffer = await path.get(prototype=prototype)
            if buffer is None:
                return None
            data = buffer.to_bytes()
            for codec in reversed(chain[1:]):
                data = codec.decode(data)
            return data

        return read_v2

    codecs = array.metadata.codecs
    lone_shard = len(codecs) == 1 and hasattr(codecs[0], "index_codecs")
    inner = codecs[0].codecs if lone_shard else codecs
    at = [i for i, c in enumerate(inner) if c.to_dict()["name"] == "crackle"]
    if not at:
        raise refuse
    behind = tuple(inner[at[0] + 1 :])
    spec = ArraySpec(
        shape=array.chunks,
        dtype=array.metadata.dtype,
        fill_value=array.fill_value,
        config=ArrayConfig.from_dict({}),
        prototype=prototype,
    )

    async def undo(buffer: Any) -> Any:
        for codec in reversed(behind):
            buffer = next(iter(await codec.decode([(buffer, spec)])))
        return buffer.to_bytes()

    if not lone_shard:

        async def read(coordinates: tuple[int, ...]) -> Any:
            path = array.store_path / array.metadata.encode_chunk_key(coordinates)
            buffer = await path.get(prototype=prototype)
            return None if buffer is None else await undo(buffer)

        return read

    per_shard = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))

    async def read_in_shard(coordinates: tuple[int, ...]) -> Any:
        shard = tuple(c // n for c, n in zip(coordinates, per_shard, strict=True))
        local = tuple(c % n for c, n in zip(coordinates, per_shard, strict=True))
        path = array.store_path / array.metadata.encode_chunk_key(shard)
        index = await codecs[0]._load_shard_index_maybe(path, per_shard)
        where = None if index is None else index.get_chunk_slice(local)
        if where is None:
            return None
        from zarr.abc.store import RangeByteRequest

        buffer = await path.get(prototype=prototype, byte_range=RangeByteRequest(*where))
        return None if buffer is None else await undo(buffer)

    return read_in_shard
