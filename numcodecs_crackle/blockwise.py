"""Work that needs voxels, done a few slices at a time: operators and what else takes arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import limits
from numcodecs_crackle.edit import ascontiguousarray, asfortranarray
from numcodecs_crackle.stack import zstack
from numcodecs_crackle.stream import compress, decompress, opened

__all__ = ["apply_binary_mask", "binary_operator"]

# Voxels that are decoded at a time.
BLOCK_VOXELS = 1 << 22


def by_blocks(
    binaries: Sequence[Any],
    function: Callable[..., npt.NDArray[Any]],
    shape: tuple[int, int, int],
    parallel: int = 0,
) -> bytes:
    """Apply a function of arrays (x, y, z) to streams of equal shape, block by block in z.

    ``shape``: what the results make together. The memory order is that of the first stream.
    """
    heads = []
    for binary in binaries:
        stream, head = opened(binary)
        stream.allow(stream.slices)  # of all, whatever a block has
        heads.append(head)
    if any(head.shape != heads[0].shape for head in heads):
        raise ValueError(f"the shapes differ: {', '.join(str(h.shape) for h in heads)}")
    sx, sy, sz = heads[0].shape
    step = max(1, BLOCK_VOXELS // max(1, sx * sy))
    results = []
    for z in range(0, sz, step) if sx * sy else ():
        blocks = []
        for binary, head in zip(binaries, heads, strict=True):
            out = np.empty((sx, sy, min(step, sz - z)), head.dtype, order="F")
            blocks.append(
                decompress(binary, parallel=parallel, z_start=z, z_end=min(z + step, sz), out=out)
            )
        results.append(compress(np.asfortranarray(function(*blocks)), parallel=parallel))
    if not results:
        empty = [np.zeros((0, 0, 0), head.dtype) for head in heads]
        results = [compress(np.zeros(shape, function(*empty).dtype, order="F"))]
    with limits.max_voxels(limits.EXPECTED):  # what was just made
        stacked = zstack(results, parallel=parallel)
    return bytes((asfortranarray if heads[0].fortran_order else ascontiguousarray)(stacked))


def _comparison(ufunc: np.ufunc) -> Callable[..., npt.NDArray[Any]]:
    return lambda a, b: ufunc(a, b).view(np.uint8)


def _arithmetic(ufunc: np.ufunc) -> Callable[..., npt.NDArray[Any]]:
    def function(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
        dtype = np.result_type(a, b)
        if dtype.kind not in "iu":
            raise TypeError(f"no integer dtype holds both {a.dtype} and {b.dtype}")
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(ufunc(a, b, dtype=dtype))

    return function


# By crackle-codec's names of them.
OPERATORS: dict[str, np.ufunc] = {
    "=": np.equal, "!=": np.not_equal, ">": np.greater, ">=": np.greater_equal,
    "<": np.less, "<=": np.less_equal, "+": np.add, "-": np.subtract, "*": np.multiply,
    "/": np.floor_divide, "%": np.remainder, "<<": np.left_shift, ">>": np.right_shift,
    "|": np.bitwise_or, "&": np.bitwise_and, "^": np.bitwise_xor,
}  # fmt: skip
COMPARISONS = ("=", "!=", ">", ">=", "<", "<=")


def binary_operator(lvalue: Any, rvalue: Any, operator: str, parallel: int = 0) -> bytes:
    """Apply an operator to the voxels of two streams, a few slices at a time.

    Parameters
    ----------
    operator : str
        One of = != > >= < <= + - * / % << >> | & ^, where / rounds down.

    Returns
    -------
    bytes
        Of uint8, 0 and 1, for comparisons; else of the wider dtype, and what does not fit it
        wraps around. A division by 0 gives 0.

    Raises
    ------
    ValueError
        If the shapes differ.
    TypeError
        If no integer dtype holds both, such as uint64 and int64.
    """
    ufunc = OPERATORS[operator]
    function = _comparison(ufunc) if operator in COMPARISONS else _arithmetic(ufunc)
    return by_blocks([lvalue, rvalue], function, opened(lvalue)[1].shape, parallel)


def apply_binary_mask(input_binary: Any, mask_binary: Any, parallel: int = 0) -> bytes:
    """Set the voxels to 0 where a stream of the same shape is 0."""

    def function(labels: npt.NDArray[Any], mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.where(mask != 0, labels, labels.dtype.type(0))

    return by_blocks([input_binary, mask_binary], function, opened(input_binary)[1].shape, parallel)
