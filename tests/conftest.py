"""Volumes to test on, and every CPU level to test at."""

from __future__ import annotations

import os

import numpy as np
import pytest

from numcodecs_crackle import _native, files

LEVELS = range(_native.cpu_level() + 1)


@pytest.fixture(params=LEVELS, ids=lambda n: f"cpu{n}")
def cpu(request):
    best = _native.cpu_level()
    _native.cpu_select(request.param)
    yield request.param
    _native.cpu_select(best)


def blobs(rng: np.random.Generator, shape, top=300, cell=6) -> np.ndarray:
    """Neighbourhoods of nearest seeds, like cells."""
    n = max(1, int(np.prod(shape)) // cell**3)
    seeds = np.stack([rng.uniform(0, s, n) for s in shape])
    best = np.full(shape, np.inf)
    label = np.zeros(shape, np.int64)
    grid = np.indices(shape)
    for i in range(n):
        d = sum((g - c) ** 2 for g, c in zip(grid, seeds[:, i], strict=True))
        closer = d < best
        best[closer] = d[closer]
        label[closer] = rng.integers(0, top)
    return label


def volume(kind: str, rng: np.random.Generator, shape) -> np.ndarray:
    if kind == "noise":
        return rng.integers(0, 200, shape)
    if kind == "binary":
        return rng.integers(0, 2, shape)
    if kind == "single":
        return np.full(shape, 7)
    if kind == "bricks":
        small = rng.integers(0, 90, tuple(-(-s // 3) for s in shape))
        for axis in range(len(shape)):
            small = small.repeat(3, axis)
        return small[tuple(slice(s) for s in shape)]
    return blobs(rng, shape)


KINDS = ("noise", "binary", "single", "bricks", "blobs")


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The current folder."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cells(empty_folder):
    """cells.npy and cells.ckl of the same labels, (40, 30, 12), which are returned."""
    array = volume("blobs", np.random.default_rng(3), (40, 30, 12)).astype("u4", order="F")
    array[:5, :5, 2:] = 0
    np.save("cells.npy", array)
    files.save(array, "cells.ckl")
    return array
