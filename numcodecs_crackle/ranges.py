"""Slices shared out to threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# Below this many voxels a second thread costs more than it brings.
VOXELS_PER_THREAD = 1 << 20


def run_ranges(
    run: Callable[[int, int], Any], sz: int, pixels: int, parallel: int, step: int = 1
) -> list[Any]:
    """Call run(z0, z1) for ranges that cover [0, sz), in threads; results in order.

    The first exception ends the call, after the ranges that had begun are done.
    """
    threads = parallel if parallel > 0 else os.cpu_count() or 1
    threads = min(threads, sz * pixels // VOXELS_PER_THREAD, -(-sz // step))
    if threads <= 1:
        return [run(0, sz)]
    # More ranges than threads: dense slices take longer than empty ones.
    size = -(-sz // (4 * threads * step)) * step
    ranges = [(z, min(z + size, sz)) for z in range(0, sz, size)]
    results = []
    with ThreadPoolExecutor(threads) as pool:
        futures = deque(pool.submit(run, *r) for r in ranges)
        try:
            # None is given a name here: an exception knows this frame, and its future knows the
            # exception. In such a ring the caller's buffer stays until garbage is collected.
            while futures:
                results.append(futures.popleft().result())
        finally:
            while futures:
                futures.popleft().cancel()
    return results
