"""Streams frozen in tests/data decode to the same labels for ever.

``python tests/test_golden.py`` writes those that are missing; never write one again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import volume

import numcodecs_crackle as ck

DATA = Path(__file__).parent / "data"
OPTIONS = [
    (kind, dtype, markov)
    for kind in ("bricks", "noise", "single")
    for dtype in ("u1", "i2", "u4", "i8")
    for markov in (0, 3)
]


def golden(kind, dtype):
    a = volume(kind, np.random.default_rng(2026), (21, 17, 5))
    return np.asfortranarray((a - (40 if dtype[0] == "i" else 0)).astype(dtype))


def path(kind, dtype, markov):
    return DATA / f"{kind}-{dtype}-m{markov}.ckl"


@pytest.mark.parametrize("option", [1, 2])
@pytest.mark.parametrize("dtype", ["u1", "u4"])
def test_golden_pins(cpu, dtype, option):
    stream = (DATA / f"bricks-{dtype}-p{option}.ckl").read_bytes()
    np.testing.assert_array_equal(ck.decompress(stream), np.load(DATA / f"bricks-{dtype}.npy"))
    assert ck.header(stream).label_format == 2 and ck.ok(stream)


@pytest.mark.parametrize("name", ["bricks-u4-m0", "bricks-u4-m3", "bricks-u4-p1", "noise-u4-m0"])
@pytest.mark.parametrize("version", ["0.4.0", "0.16.0"])
def test_golden_version_0(cpu, version, name):
    """Streams that crackle-codec wrote before there was a format version 1."""
    stream = (DATA / "version0" / f"{version}-{name}.ckl").read_bytes()
    assert ck.header(stream).format_version == 0
    np.testing.assert_array_equal(ck.decompress(stream), np.load(DATA / f"{name[:-3]}.npy"))


@pytest.mark.parametrize(("kind", "dtype", "markov"), OPTIONS)
def test_golden(cpu, kind, dtype, markov):
    stream = path(kind, dtype, markov).read_bytes()
    expected = np.load(DATA / f"{kind}-{dtype}.npy")
    back = ck.decompress(stream)
    assert back.dtype == expected.dtype
    np.testing.assert_array_equal(back, expected)
    assert ck.ok(stream)


if __name__ == "__main__":
    for kind, dtype, markov in OPTIONS:
        a = golden(kind, dtype)
        target = path(kind, dtype, markov)
        if not target.exists():
            np.save(DATA / f"{kind}-{dtype}.npy", a)
            target.write_bytes(ck.compress(a, markov_model_order=markov))
    for dtype in ("u1", "u4"):
        for option in (1, 2):
            target = DATA / f"bricks-{dtype}-p{option}.ckl"
            if not target.exists():
                target.write_bytes(ck.compress(golden("bricks", dtype), allow_pins=option))
