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
