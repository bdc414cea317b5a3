"""Volumes to test on, and every CPU level to test at."""

from __future__ import annotations

import faulthandler
import os
import sys
from dataclasses import replace
from pathlib import Path

import crackle
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

import numcodecs_crackle as ck
from numcodecs_crackle import _native, files
from numcodecs_crackle.sections import Sections

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
from damaged import without_checksums as as_version_0

# The same volumes in every run; HYPOTHESIS_PROFILE=default looks for others.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

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
def ends():
    """What hangs, in C or in Python, ends the run with a traceback."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def with_false_borders(a: np.ndarray, rng: np.random.Generator) -> bytes:
    """A stream of these labels with borders between equal ones, and a table to match."""
    finer = (a.astype(np.uint64) * np.uint64(3) + rng.integers(0, 3, a.shape, np.uint64)).astype(
        np.uint64
    )
    parts = Sections.of(ck.compress(finer))
    parts.table = parts.table // np.uint64(3)
    parts.head = replace(parts.head, data_width=a.itemsize, is_remapped=True)
    return parts.tobytes()


CODINGS = ("flat", "reference", "markov", "pins", "version 0", "false borders")


def coded(a: np.ndarray, coding: str, seed: int = 0) -> bytes:
    """A stream of unsigned labels, coded in one of several ways."""
    if coding == "flat":
        return ck.compress(a)
    if coding == "reference":
        return crackle.compress(a)
    if coding == "markov":
        return crackle.compress(a, markov_model_order=2)
    if coding == "pins":
        return crackle.compress(a, allow_pins=1)
    if coding == "version 0":
        return as_version_0(ck.compress(a))
    return with_false_borders(a, np.random.default_rng(seed))


@st.composite
def labels_of_any_kind(draw, most: int = 12):
    """Small volumes: any unsigned dtype, noise to blocks, both orders; thin ones, too."""
    shape = tuple(draw(st.integers(1, most)) for _ in range(3))
    if draw(st.integers(0, 5)) == 0:
        shape = (draw(st.integers(60, 140)), shape[1] % 4 + 1, shape[2] % 3 + 1)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    a = rng.integers(0, draw(st.integers(1, 7)), shape)
    size = draw(st.sampled_from([1, 2, 3]))
    for axis in range(2):
        a = a.repeat(size, axis).take(range(shape[axis]), axis)
    a = a * draw(st.sampled_from([1, 13, 40])) + draw(st.integers(0, 2))
    dtype = draw(st.sampled_from(["u1", "u2", "u4", "u8"]))
    return np.asarray(a, dtype, order=draw(st.sampled_from("FC")))


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
