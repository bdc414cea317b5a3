"""The Zarr 3 codec: from arrays to bytes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec

from numcodecs_crackle import chunks
from numcodecs_crackle.stream import check_dtype, check_markov_order

__all__ = ["CrackleCodec"]


@dataclass(frozen=True)
class CrackleCodec(ArrayBytesCodec):  # type: ignore[misc, type-arg]
    """Labels as a bare Crackle stream: the ``serializer`` of a Zarr 3 array.

    Pass ``compressors=None`` beside it, or Zarr adds Zstd.

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
        data = chunk_bytes.as_numpy_array()
        flat = chunks.decode_flat(data, chunk_spec.shape, _stream_dtype(chunk_spec))
        native = chunk_spec.dtype.to_native_dtype()
        if native.kind == "b":
            flat = flat.view(np.bool_)
        array = flat.astype(native, copy=False).reshape(chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(array)

    async def _encode_single(self, chunk_array: Any, chunk_spec: Any) -> Any:
        return await asyncio.to_thread(self._encode_sync, chunk_array, chunk_spec)

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)


def _stream_dtype(chunk_spec: Any) -> np.dtype[Any]:
    dtype = chunk_spec.dtype.to_native_dtype()
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
