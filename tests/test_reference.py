"""Against crackle-codec, both ways, at every CPU level."""

from __future__ import annotations

import crackle
import numpy as np
import pytest
from conftest import KINDS, volume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import numcodecs_crackle as ours

SHAPES = [(1, 1, 1), (1, 9, 2), (9, 1, 3), (64, 5, 2), (65, 33, 4), (130, 40, 3), (300, 7, 2)]


def reference(array, **options):
    """crackle-codec takes unsigned arrays only."""
    return crackle.compress(array, parallel=1, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
def test_same_bytes(cpu, kind, order, dtype):
    rng = np.random.default_rng(3)
    for shape in SHAPES:
        a = np.asarray(volume(kind, rng, shape).astype(dtype), order=order)
        stream = reference(a)
        assert ours.compress(a) == stream, shape
        back = ours.decompress(stream)
        assert back.dtype == a.dtype
        assert back.flags.f_contiguous == a.flags.f_contiguous
        np.testing.assert_array_equal(back, a)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 80), st.integers(1, 20), st.integers(1, 9)),
    top=st.sampled_from([1, 2, 3, 40, 70000]),
    order=st.sampled_from("CF"),
    markov=st.sampled_from([0, 0, 1, 4]),
    repeat=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_any_shape(shape, top, order, markov, repeat, seed):
    small = tuple(-(-s // repeat) for s in shape)
    a = np.random.default_rng(seed).integers(0, top, small)
    a = a.repeat(repeat, 0).repeat(repeat, 1)[: shape[0], : shape[1]].repeat(repeat, 2)
    a = np.asarray(a[:, :, : shape[2]].astype("u4"), order=order)
    stream = reference(a, markov_model_order=markov)
    assert ours.compress(a, markov_model_order=markov) == stream
    np.testing.assert_array_equal(ours.decompress(stream), a)


def test_threads_give_the_same_bytes():
    a = np.asfortranarray(volume("bricks", np.random.default_rng(5), (256, 256, 48)).astype("u4"))
    stream = reference(a)
    for order in "FC":
        b = np.asarray(a, order=order)
        assert ours.compress(b, parallel=2)[29:] == stream[29:]
        np.testing.assert_array_equal(ours.decompress(ours.compress(b), parallel=2), a)


@pytest.mark.parametrize("pins", [1, 2])
@pytest.mark.parametrize("markov", [0, 3])
def test_pins(cpu, pins, markov):
    rng = np.random.default_rng(6)
    for kind in ("bricks", "blobs", "single"):
        a = np.asfortranarray(volume(kind, rng, (50, 40, 12)).astype("u4"))
        stream = reference(a, allow_pins=pins, markov_model_order=markov)
        assert ours.header(stream).label_format == ours.LabelFormat.PINS_VARIABLE_WIDTH
        np.testing.assert_array_equal(ours.decompress(stream), a)
        np.testing.assert_array_equal(ours.decompress(stream, z_start=3, z_end=9), a[:, :, 3:9])
        np.testing.assert_array_equal(ours.labels(stream), np.unique(a))
        for label in np.unique(a)[::5]:
            np.testing.assert_array_equal(ours.decompress(stream, label=label), a == label)
            cropped = ours.decompress(stream, label=label, crop=True)
            z = np.flatnonzero((a == label).any((0, 1)))
            np.testing.assert_array_equal(cropped, (a == label)[:, :, z[0] : z[-1] + 1])


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8"])
def test_signed(cpu, dtype):
    a = np.asfortranarray(volume("blobs", np.random.default_rng(7), (40, 30, 6)) - 150)
    a = a.clip(-120, 120).astype(dtype)
    for b in (a, abs(a)):
        stream = ours.compress(b)
        np.testing.assert_array_equal(crackle.decompress(stream), b)
        np.testing.assert_array_equal(ours.decompress(stream), b)
        np.testing.assert_array_equal(ours.labels(stream), np.unique(b))
        label = int(b[0, 0, 0])
        np.testing.assert_array_equal(ours.decompress(stream, label=label), b == label)


@pytest.mark.parametrize(
    "top", [127, 128, 200, 255, 256, 40000, 2**31, -128, -129, -40000, -(2**40)]
)
def test_signed_widths(top):
    """Readers extend the sign of stored labels: 200 takes two bytes."""
    for dtype in ("i1", "i2", "i4", "i8"):
        info = np.iinfo(dtype)
        if not info.min <= top <= info.max:
            continue
        a = np.full((4, 4, 2), top, dtype, order="F")
        a[0] = 3
        stream = ours.compress(a)
        np.testing.assert_array_equal(ours.decompress(stream), a)
        np.testing.assert_array_equal(crackle.decompress(stream), a)
        np.testing.assert_array_equal(ours.labels(stream), np.unique(a))
        np.testing.assert_array_equal(ours.decompress(stream, label=top), a == top)


def test_questions():
    a = np.asfortranarray(volume("blobs", np.random.default_rng(8), (60, 50, 9)).astype("u4"))
    s = ours.compress(a)
    for name in ("labels", "num_labels", "min", "max", "nbytes"):
        np.testing.assert_array_equal(getattr(ours, name)(s), getattr(crackle, name)(s))
    for label in (int(a[0, 0, 0]), 5000, -1, 2**70):
        assert ours.contains(s, label) == bool(crackle.contains(s, label))
    np.testing.assert_array_equal(ours.contains_range(s, 5, 40), crackle.contains_range(s, 5, 40))
    np.testing.assert_array_equal(
        ours.labels_for_z_range(s, 2, 4), crackle.labels_for_z_range(s, 2, 4)
    )
    fields = vars(crackle.header(s))
    assert {k: getattr(ours.header(s), k) for k in fields} == fields


def test_remapped_streams():
    a = np.asfortranarray(volume("blobs", np.random.default_rng(9), (40, 30, 6)).astype("u4"))
    one, two = (int(v) for v in np.unique(a)[[1, 4]])
    s = crackle.remap(ours.compress(a), {one: 99999, two: 99999}, preserve_missing_labels=True)
    b = np.where((a == one) | (a == two), 99999, a)
    np.testing.assert_array_equal(ours.decompress(s), b)
    np.testing.assert_array_equal(ours.labels(s), np.unique(b))
    np.testing.assert_array_equal(ours.decompress(s, label=99999), b == 99999)
    assert ours.num_labels(s) == np.unique(b).size
    assert ours.max(s) == 99999


@pytest.mark.parametrize("order", "CF")
def test_full(order):
    from crackle import operations

    for shape in ((3, 4, 2), (300, 4, 2), (1, 1, 1)):
        s = operations.full(shape, 9, dtype=np.uint16, order=order).binary
        np.testing.assert_array_equal(ours.decompress(s), np.full(shape, 9, np.uint16))


@pytest.mark.parametrize("order", "CF")
def test_more_labels_than_16_bits_count(order):
    """Keys are kept in 16 bits until, some slices on, there are too many labels."""
    a = np.arange(128 * 128 * 10).reshape((128, 128, 10), order="F") // 2
    a[:, :, :2] = np.random.default_rng(0).integers(0, 50, (128, 128, 2))
    a = np.array(a.astype("u4"), order=order)
    assert len(np.unique(a)) > 2**16
    stream = ours.compress(a)
    assert stream == reference(a)
    np.testing.assert_array_equal(ours.decompress(stream), a)
