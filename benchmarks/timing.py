"""Interleaved timing, and what is said about the times."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

Times = dict[str, list[float]]


def interleaved(runs: Mapping[str, Callable[[], Any]], seconds: float, rounds: int = 5) -> Times:
    """Seconds of each run, round by round, so that all see the machine in the same moods.

    A first round warms up and is not counted. At least ``rounds`` rounds, and on until
    ``seconds`` for each run are spent.
    """
    times: Times = {name: [] for name in runs}
    for run in runs.values():
        run()
    names = list(runs)
    enabled = gc.isenabled()
    gc.disable()
    try:
        begin, count = time.perf_counter(), 0
        while count < rounds or time.perf_counter() - begin < seconds * len(names):
            shift = count % len(names)  # nobody always follows the same neighbour
            for name in names[shift:] + names[:shift]:
                start = time.perf_counter()
                result = runs[name]()
                times[name].append(time.perf_counter() - start)
                del result
            count += 1
    finally:
        if enabled:
            gc.enable()
    return times


def ratio(times: Times, of: str, over: str) -> float:
    """How many times as fast ``of`` is as ``over``: the median of the rounds' ratios."""
    return median(b / a for a, b in zip(times[of], times[over], strict=True))


def summary(times: list[float], amount: float) -> dict[str, float]:
    """``amount`` a second at the median and at best, and the number of rounds."""
    return {"median": amount / median(times), "best": amount / min(times), "n": len(times)}
