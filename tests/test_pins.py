"""Labels as pins: read by crackle-codec and by us, no larger than its own."""

from __future__ import annotations

import crackle
import numpy as np
import pytest
from conftest import KINDS, blobs, volume
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import numcodecs_crackle as ours

PINS = 2


def both_read(stream, a):
    back = ours.decompress(stream)
    assert back.dtype == a.dtype
    np.testing.assert_array_equal(back, a)
    np.testing.assert_array_equal(crackle.decompress(stream), a)
    assert ours.ok(stream)


def columns(rng, shape):
    """Boxes that are long in z, over each other."""
    a = np.zeros(shape, np.int64)
    for _ in range(12):
        low = [int(rng.integers(0, s)) for s in shape]
        size = [*rng.integers(1, 9, 2), int(rng.integers(1, shape[2] + 1))]
        a[tuple(slice(b, b + n) for b, n in zip(low, size, strict=True))] = rng.integers(0, 200)
    return a


@pytest.mark.parametrize("option", [1, 2])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
def test_read_by_both(cpu, dtype, order, option):
    rng = np.random.default_rng(4)
    for kind in KINDS:
        a = np.asarray(volume(kind, rng, (40, 33, 12)).astype(dtype), order=order)
        stream = ours.compress(a, allow_pins=option)
        both_read(stream, a)
        assert len(stream) <= len(crackle.compress(a, allow_pins=option)), kind


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 20), st.integers(2, 40)),
    order=st.sampled_from("CF"),
    option=st.sampled_from([1, 2]),
    markov=st.sampled_from([0, 0, 2]),
    background=st.one_of(st.none(), st.integers(0, 200)),
    seed=st.integers(0, 2**32),
)
@example((5, 4, 600), "F", 2, 0, None, 1)  # deeper than a byte says
@example((5, 4, 600), "C", 1, 0, 0, 2)
def test_any_volume(shape, order, option, markov, background, seed):
    a = np.asarray(columns(np.random.default_rng(seed), shape).astype("u2"), order=order)
    stream = ours.compress(a, markov, allow_pins=option, bgcolor=background)
    both_read(stream, a)
    np.testing.assert_array_equal(ours.labels(stream), np.unique(a))
    low = shape[2] // 3
    part = ours.decompress_range(stream, low, shape[2] - 1)
    np.testing.assert_array_equal(part, a[:, :, low:-1])
    label = int(a[0, 0, -1])
    np.testing.assert_array_equal(ours.decompress(stream, label), a == label)
    assert ours.contains(stream, label) and crackle.contains(stream, label)


@pytest.mark.parametrize("option", [1, 2])
def test_no_larger_than_the_reference(option):
    rng = np.random.default_rng(8)
    for shape in ((60, 50, 20), (33, 64, 40), (20, 20, 300)):
        for a in (columns(rng, shape), blobs(rng, shape, cell=8)):
            a = np.asfortranarray(a.astype("u4"))
            assert len(ours.compress(a, allow_pins=option)) <= len(crackle.compress(a, option))


def test_the_better_option_is_no_larger():
    a = np.asfortranarray(blobs(np.random.default_rng(6), (48, 48, 32)).astype("u4"))
    flat, fast, slow = (len(ours.compress(a, allow_pins=n)) for n in (0, 1, 2))
    assert slow <= fast < flat


def test_threads_give_the_same_bytes():
    a = np.asfortranarray(volume("bricks", np.random.default_rng(5), (256, 256, 48)).astype("u4"))
    for option in (1, 2):
        one = ours.compress(a, parallel=1, allow_pins=option)
        assert ours.compress(a, parallel=3, allow_pins=option) == one


@pytest.mark.parametrize(
    "a",
    [
        np.arange(12, dtype="u4").reshape(4, 3, 1) // 5,  # a single slice
        np.arange(24, dtype="i4").reshape(4, 3, 2) // 9,  # signed
        np.arange(240, dtype="u4").reshape(4, 6, 10),  # neighbours differ
        np.zeros((0, 3, 4), "u4"),
    ],
)
def test_ignored_where_there_are_none(a):
    assert ours.compress(a, allow_pins=1) == ours.compress(a)
    assert ours.header(ours.compress(a, allow_pins=2)).label_format != PINS


def test_background():
    a = np.zeros((16, 16, 8), "u1", order="F")
    a[3:9, 2:7] = 5
    a[10:, 8:, 2:] = 7
    streams = {b: ours.compress(a, allow_pins=1, bgcolor=b) for b in (None, 0, 5, 7, 9)}
    for stream in streams.values():
        both_read(stream, a)
        assert ours.header(stream).label_format == PINS
        assert ours.labels(stream).tolist() == [0, 5, 7]
    assert len(streams[None]) == min(map(len, streams.values()))
    assert streams[9] == streams[None]  # no voxel has it
    assert streams[5] != streams[7]
    for wrong in (-1, 256):
        with pytest.raises(ValueError, match="bgcolor"):
            ours.compress(a, allow_pins=1, bgcolor=wrong)
    with pytest.raises(ValueError, match="allow_pins"):
        ours.compress(a, allow_pins=3)
