"""Downsampling by the most frequent label."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.blockwise import by_blocks
from numcodecs_crackle.stream import opened

__all__ = ["mode_pooling_2x2x1"]


def mode_pooling_2x2x1(binary: Any, sparse: bool = False, parallel: int = 0) -> bytes:
    """Halve the volume in x and y: each 2 x 2 pixels become their most frequent label.

    Of labels that are equally frequent crackle-codec's choice is taken. A last row or column
    without a partner counts twice.

    Parameters
    ----------
    sparse : bool
        Label 0 does not count, but where there is no other.

    Returns
    -------
    bytes
        A stream of shape (ceil(sx / 2), ceil(sy / 2), sz).
    """
    _, head = opened(binary)
    shape = ((head.sx + 1) // 2, (head.sy + 1) // 2, head.sz)
    return by_blocks([binary], lambda block: _pooled(block, sparse), shape, parallel)


def _pooled(block: npt.NDArray[Any], sparse: bool) -> npt.NDArray[Any]:
    odd = [(0, block.shape[0] % 2), (0, block.shape[1] % 2), (0, 0)]
    if any(after for _, after in odd):
        block = np.pad(block, odd, mode="edge")
    a, b = block[0::2, 0::2], block[1::2, 0::2]
    c, d = block[0::2, 1::2], block[1::2, 1::2]
    # Two of the first three that agree have the vote, or tie it; else the fourth decides.
    if not sparse:
        return np.where((a == b) | (a == c), a, np.where(b == c, b, d))
    last = np.where(d != 0, d, np.where(a != 0, a, np.where(b != 0, b, c)))
    agree_a = ((a == b) | (a == c)) & (a != 0)
    return np.where(agree_a, a, np.where((b == c) & (b != 0), b, last))
