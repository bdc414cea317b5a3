"""Damaged and lying streams, as a strict decoder in plain Python judges them."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import damaged
import numpy as np
import pytest
import referee
from conftest import CODINGS, coded, labels_of_any_kind
from hypothesis import given
from hypothesis import strategies as st

import numcodecs_crackle as ck

ROOT = Path(__file__).parents[1]

ORIGINALS = damaged.originals()


def same(a, b) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


def agree(stream: bytes) -> bool:
    """Whether there is an array; the referee has the same one if so."""
    try:
        found = ck.decompress(stream, parallel=1)
    except ck.FormatError:
        return False
    assert same(found, referee.decode(stream))  # or it is refused, and that is raised
    return True


@given(labels_of_any_kind(), st.sampled_from(CODINGS))
def test_the_referee(a, coding):
    """It reads whatever is valid."""
    stream = coded(a, coding)
    if ck.header(stream).voxels() <= referee.MOST_VOXELS:
        np.testing.assert_array_equal(referee.decode(stream), a)


@pytest.mark.parametrize("i", range(len(ORIGINALS)))
def test_lies(i):
    """Nothing is believed that the referee refuses; what is another stream is read as that."""
    every = [agree(lie) for _, lie in islice(damaged.lies(ORIGINALS[i]), i % 3, None, 3)]
    assert 0 < sum(every) < len(every) * 2 // 3


@pytest.mark.parametrize("i", range(len(ORIGINALS)))
def test_damage_without_checksums(i):
    """An array is only made of what is a valid stream, by accident."""
    stream = damaged.without_checksums(ORIGINALS[i])
    cases = (made for _, made in damaged.damaged(stream))
    every = [agree(made) for made in islice(cases, i % 3, None, 3)]
    assert sum(every) < len(every) * 2 // 3


def test_the_tables():
    """Of version 1 and of lies nothing here is wrong, crashes or hangs."""
    page = ROOT.joinpath("docs/damage.md").read_text()
    for name, rows in (("version 1", 5), ("version 0", 5), ("lies", 12)):
        _, text, _ = re.split(f"<!-- {name}: (?:begin|end) -->", page)
        ours = [row.split("|")[4:9] for row in text.splitlines() if "numcodecs-crackle" in row]
        assert len(ours) == rows
        for _, _, wrong, crash, hang in ours:
            assert {crash.strip(), hang.strip()} == {"0"}
            assert wrong.strip() == "0" or name == "version 0"
