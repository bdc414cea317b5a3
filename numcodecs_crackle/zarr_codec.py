"""The Zarr 3 codec: from arrays to bytes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin
from zarr.abc.store import RangeByteRequest

from numcodecs_crackle import chunks, partial
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.stream import check_dtype, check_markov_order

__all__ = ["CrackleCodec"]


@dataclass(frozen=True)
class CrackleCodec(ArrayBytesCodecPartialDecodeMixin, ArrayBytesCodec):
    """Labels as a bare Crackle stream: the ``serializer`` of a Zarr 3 array.

    Pass ``compressors=None`` beside it, or Zarr adds Zstd. Without, a read of some slices (of
    all axes but the last two) fetches the label section and the borders of these alone.

    Parameters
    ----------
    markov_model_order : int, 0 to 15, or "auto"
        See `compress`. "auto" is decided for each chunk.
    """

    is_fixed_size = False

    markov_model_order: int | Literal["auto"] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "markov_model_order", check_markov_order(self.markov_model_order))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        if data.get("name") != "crackle":
            raise ValueError(f"a codec named 'crackle' was expected, not {data.get('name')!r}")
        configuration = data.get("configuration") or {}
        unknown = set(configuration) - {"markov_model_order"}
        if unknown:
            raise ValueError(f"crackle has no option {sorted(unknown)}")
        return cls(**configuration)

    def to_dict(self) -> dict[str, Any]:
        configuration = {"markov_model_order": self.markov_model_order}
        return {"name": "crackle", "configuration": configuration}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        raise NotImplementedError

    def validate(self, *, shape: Any, dtype: Any, chunk_grid: Any) -> None:
        check_dtype(dtype.to_native_dtype())

    def evolve_from_array_spec(self, array_spec: Any) -> Self:
        # zarr 3.1 never validates codecs inside shards, but it evolves them.
        check_dtype(array_spec.dtype.to_native_dtype())
        return self

    def _encode_sync(self, chunk_array: Any, chunk_spec: Any) -> Any:
        dtype = _stream_dtype(chunk_spec)
        array = np.asarray(chunk_array.as_numpy_array())
        check_dtype(array.dtype)
        if array.dtype.kind == "b":
            array = array.view(np.uint8)
        # What arrives may be strided, flat, or of another byte order than the array's.
        array = np.ascontiguousarray(array, dtype=dtype).reshape(chunk_spec.shape)
        flat = np.require(array.reshape(-1), requirements="A")
        data = chunks.encode_flat(flat, chunk_spec.shape, self.markov_model_order)
        return chunk_spec.prototype.buffer.from_bytes(data)

    def _decode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        array = self._decoded(chunk_bytes.as_numpy_array(), chunk_spec)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(array)

    def _decoded(self, data: Any, chunk_spec: Any) -> npt.NDArray[Any]:
        flat = chunks.decode_flat(data, chunk_spec.shape, _stream_dtype(chunk_spec))
        return _native_array(flat.reshape(chunk_spec.shape), chunk_spec)

    def _selected(
        self, selection: Any, chunk_spec: Any
    ) -> Generator[list[partial.Range], list[Any], Any]:
        """A plan for part of a chunk: what numpy's indexing of the array gives."""
        zs = chunks.slices_in(selection, chunk_spec.shape)
        dtype = _stream_dtype(chunk_spec)
        if zs is not None:
            try:
                found = yield from partial.slices_of(
                    zs, lambda head: chunks.check_head(head, chunk_spec.shape, dtype)
                )
                if found is None:
                    return None
                # Memory that is never touched is not taken: the slices go to their places.
                flat = np.empty(math.prod(chunk_spec.shape), dtype)
                partial.decode_slices(found, flat)
                picked = np.array(flat.reshape(chunk_spec.shape)[selection])
                picked = _native_array(picked, chunk_spec)
                return chunk_spec.prototype.nd_buffer.from_numpy_array(picked)
            except FormatError:
                pass  # of parts of two states, if the chunk was replaced meanwhile: read at once
        (data,) = yield [(0, None)]
        if data is None:
            return None
        picked = self._decoded(data, chunk_spec)[selection]
        return chunk_spec.prototype.nd_buffer.from_numpy_array(np.asarray(picked))

    async def _decode_partial_single(
        self, byte_getter: Any, selection: Any, chunk_spec: Any
    ) -> Any:
        plan = self._selected(selection, chunk_spec)
        wanted, result = _step(plan, None)
        while wanted is not None:
            found = await asyncio.gather(
                *(byte_getter.get(chunk_spec.prototype, _request(r)) for r in wanted)
            )
            wanted, result = await asyncio.to_thread(_step, plan, _arrays(found))
        return result

    def _decode_partial_sync(self, byte_getter: Any, selection: Any, chunk_spec: Any) -> Any:
        plan = self._selected(selection, chunk_spec)
        wanted, result = _step(plan, None)
        while wanted is not None:
            found = [
                byte_getter.get_sync(prototype=chunk_spec.prototype, byte_range=_request(r))
                for r in wanted
            ]
            wanted, result = _step(plan, _arrays(found))
        return result

    async def _encode_single(self, chunk_array: Any, chunk_spec: Any) -> Any:
        return await asyncio.to_thread(self._encode_sync, chunk_array, chunk_spec)

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)


def _request(wanted: partial.Range) -> Any:
    start, stop = wanted
    return None if stop is None else RangeByteRequest(start, stop)


def _arrays(buffers: Any) -> list[Any]:
    return [None if buffer is None else buffer.as_numpy_array() for buffer in buffers]


def _native_array(array: npt.NDArray[Any], chunk_spec: Any) -> npt.NDArray[Any]:
    """Labels as the array's dtype has them: bool, or of another byte order."""
    native = chunk_spec.dtype.to_native_dtype()
    if native.kind == "b":
        chunks.check_bool(array)
        return array.view(np.bool_)
    result: npt.NDArray[Any] = array.astype(native, copy=False)
    return result


def _step(plan: partial.Plan, found: Any) -> tuple[list[partial.Range] | None, Any]:
    """Send a plan what it wanted: what it wants next, or None and its result."""
    try:
        return plan.send(found), None
    except StopIteration as end:
        return None, end.value


def _stream_dtype(chunk_spec: Any) -> np.dtype[Any]:
    dtype = chunk_spec.dtype.to_native_dtype()
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
