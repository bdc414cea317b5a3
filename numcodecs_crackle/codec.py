"""The numcodecs codec: Zarr 2's compressor or filter."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray, ensure_ndarray, ndarray_copy

from numcodecs_crackle import chunks
from numcodecs_crackle.stream import check_dtype, check_markov_order

__all__ = ["Crackle"]


class Crackle(Codec):  # type: ignore[misc]
    """Labels as a bare Crackle stream.

    Parameters
    ----------
    markov_model_order : int, 0 to 15, or "auto"
        See `compress`. "auto" is decided for each chunk.

    Notes
    -----
    Axes of a chunk that are 1 long drop out, and those before the last three fold into one.
    Plain bytes are taken as a row of uint8. Zarr 2 reads back the bytes of a chunk in the
    array's own byte order, which a stream doesn't have: big-endian arrays are refused.
    """

    codec_id = "crackle"

    def __init__(self, markov_model_order: int | Literal["auto"] = 0) -> None:
        self.markov_model_order = check_markov_order(markov_model_order)

    def encode(self, buf: Any) -> bytes:
        """Encode a C- or F-contiguous array of integers or bool, or bytes.

        Raises TypeError for other dtypes, ValueError for other strides.
        """
        array = ensure_ndarray(buf)
        check_dtype(array.dtype)
        if not array.dtype.isnative:
            raise TypeError(
                f"a Zarr 2 array of big-endian labels ({array.dtype}) can't be stored as "
                f"Crackle: use dtype {array.dtype.newbyteorder('=')}"
            )
        if array.dtype.kind == "b":
            array = array.view(np.uint8)
        if array.flags.c_contiguous:
            shape = array.shape
        elif array.flags.f_contiguous:
            shape = array.shape[::-1]
        else:
            raise ValueError("an array to encode must be contiguous")
        flat = array.reshape(-1, order="A")
        if not flat.flags.aligned:
            flat = flat.copy()
        return chunks.encode_flat(flat, shape, self.markov_model_order)

    def decode(self, buf: Any, out: Any = None) -> npt.NDArray[Any]:
        """The labels, flat, in the memory order that was encoded; or ``out``, filled.

        Raises `FormatError`, and ValueError if ``out`` has another size. ``out`` stays as it
        was if that comes before a slice is decoded: of its size, or of a damaged header, crack
        index or label section. After a slice that turns out to be damaged it is undefined.
        """
        data = ensure_contiguous_ndarray(buf)
        if out is None:
            return chunks.decode_flat(data)
        target = ensure_contiguous_ndarray(out)
        if target.flags.aligned and target.flags.writeable:
            chunks.decode_flat(data, out=target.view(np.uint8))
            return out  # type: ignore[no-any-return]
        return ndarray_copy(chunks.decode_flat(data), out)  # type: ignore[no-any-return]
