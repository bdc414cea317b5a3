"""Downsampling by the most frequent label."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.blockwise import by_blocks
from numcodecs_crackle.stream import opened

__all__ = ["mode_pooling_2x2x1", "modes"]


def mode_pooling_2x2x1(binary: Any, sparse: bool = False, parallel: int = 0) -> bytes:
    """Halve the volume in x and y: each 2 x 2 pixels become their most frequent label.

    Of labels that are equally frequent crackle-codec's choice is taken. Of a last row or
    column without a partner every second pixel is taken as it is.

    Parameters
    ----------
    sparse : bool
        Label 0 does not count where there is another.

    Returns
    -------
    bytes
        A stream of shape (ceil(sx / 2), ceil(sy / 2), sz).
    """
    _, head = opened(binary)
    shape = ((head.sx + 1) // 2, (head.sy + 1) // 2, head.sz)
    return by_blocks([binary], lambda block: _pooled(block, sparse), shape, parallel)


def _pooled(block: npt.NDArray[Any], sparse: bool) -> npt.NDArray[Any]:
    result = block[::2, ::2].copy(order="F")
    x, y = block.shape[0] & ~1, block.shape[1] & ~1  # what has partners
    a, b = block[0:x:2, 0:y:2], block[1:x:2, 0:y:2]
    c, d = block[0:x:2, 1:y:2], block[1:x:2, 1:y:2]
    # Two of the first three that agree have the vote, or tie it; else the fourth decides.
    agree_a, agree_b, last = (a == b) | (a == c), b == c, d
    if sparse:
        agree_a &= a != 0
        agree_b &= b != 0
        last = np.where(d != 0, d, np.where(a != 0, a, np.where(b != 0, b, c)))
    result[: x // 2, : y // 2] = np.where(agree_a, a, np.where(agree_b, b, last))
    return result


def modes(
    voxels: npt.NDArray[Any], factors: Sequence[int], sparse: bool = False
) -> npt.NDArray[Any]:
    """The most frequent label of each block of voxels.

    Of labels that are equally frequent it is the one that reaches its count first, in C order
    of the block; of a whole block whose voxels all differ (``sparse``: all that are not 0) it
    is the last voxel's, if that counts. Of a whole block of 2 x 2 that is crackle-codec's
    choice.

    Parameters
    ----------
    factors : sequence of 1 and 2
        The block's voxels along each axis; fewer where the array ends.
    sparse : bool
        Label 0 does not count where there is another.

    Returns
    -------
    array
        Of shape ceil(n / factor).
    """
    shape = [-(-n // f) for n, f in zip(voxels.shape, factors, strict=True)]
    result = np.empty(shape, voxels.dtype)
    pairs = list(zip(voxels.shape, factors, strict=True))
    for cut in product(*((False, True) if n % f else (False,) for n, f in pairs)):
        rows = [(c, n, f) for c, (n, f) in zip(cut, pairs, strict=True)]
        target = tuple(slice(n // f, None) if c else slice(n // f) for c, n, f in rows)
        source = tuple(slice(n - 1, n) if c else slice(n - n % f) for c, n, f in rows)
        steps = [1 if c else f for c, _, f in rows]
        if result[target].size:
            result[target] = _block_modes(voxels[source], steps, sparse, not any(cut))
    return result


def _block_modes(
    voxels: npt.NDArray[Any], steps: Sequence[int], sparse: bool, whole: bool
) -> npt.NDArray[Any]:
    """The same of blocks that are all there. ``whole``: no edge cuts them."""
    places = product(*(range(n) for n in steps))
    members = [
        voxels[tuple(slice(i, None, n) for i, n in zip(place, steps, strict=True))]
        for place in places
    ]
    result = members[0].copy()
    differ = np.zeros(result.shape, np.bool_)
    for member in members[1:]:
        differ |= member != result
    if differ.any():  # most blocks have one label
        rows = [member[differ] for member in members]
        result[differ] = _most_frequent(rows, sparse, whole)
    return result


def _most_frequent(rows: Sequence[npt.NDArray[Any]], sparse: bool, whole: bool) -> npt.NDArray[Any]:
    """The most frequent label of each column."""
    best = rows[0]
    most = (best != 0).astype(np.uint8) if sparse else np.ones(best.shape, np.uint8)
    for i, row in enumerate(rows[1:], 1):
        count = np.ones(row.shape, np.uint8)
        for before in rows[:i]:
            count += before == row
        if sparse:
            count[row == 0] = 0
        more = count > most
        best = np.where(more, row, best)
        np.maximum(most, count, out=most)
    if whole:
        alone = most == 1
        if sparse:
            alone &= rows[-1] != 0
        best = np.where(alone, rows[-1], best)
    return best
