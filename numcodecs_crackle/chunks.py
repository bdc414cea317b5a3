"""How an N-dimensional chunk of an array lies in a stream.

A C-order chunk (..., Z, Y, X) is the stream of the same memory read in Fortran order: X, Y
and Z become sx, sy and sz, unit axes drop out, and axes before them fold into sz. The
bytes are those of a Neuroglancer precomputed chunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader


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


def check_bool(labels: npt.NDArray[Any]) -> None:
    """`FormatError` if labels are not all 0 or 1: of anything else numpy makes no bool."""
    if labels.max(initial=0) > 1:
        raise FormatError("a label is neither 0 nor 1, and the chunk is bool", "labels")


def decode_flat(
    data: Any,
    shape: Sequence[int] | None = None,
    dtype: np.dtype[Any] | None = None,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """The memory of a chunk, flat, in stream order.

    With ``shape`` and ``dtype`` (or ``out``, a flat array of bytes) the stream must be
    that of such a chunk, before anything is allocated. Raises `FormatError` if not; without
    them, if it claims more than `set_max_voxels` allows.
    """
    stream = _native.Stream(data)
    head = CrackleHeader._from_native(stream.header)
    check_head(head, shape, dtype)
    if out is not None and out.nbytes != head.nbytes:
        raise ValueError(f"out has {out.nbytes} bytes, and the array {head.nbytes}")
    if out is None:
        if shape is None:
            stream.allow(stream.slices)
        out = np.empty(head.voxels(), head.dtype)
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
