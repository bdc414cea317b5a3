"""Markov models: the reference's bytes at every order, and the order "auto" chooses."""

from __future__ import annotations

import json

import crackle
import numcodecs
import numpy as np
import pytest
import zarr
from conftest import KINDS, as_version_0, blobs, volume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_stream import same_or_error

import numcodecs_crackle as ours
from numcodecs_crackle import _native


def real_like(shape=(150, 140, 11), seed=0):
    """Cells with rough borders: moves that high orders tell more of than low ones."""
    rng = np.random.default_rng(seed)
    cells = blobs(rng, tuple(-(-n // 5) for n in shape), cell=2)
    for axis in range(3):
        cells = cells.repeat(5, axis)
    cells = cells[tuple(slice(n) for n in shape)]
    shifted = np.roll(cells, 1, 0)
    return np.asfortranarray(np.where(rng.random(shape) < 0.1, shifted, cells).astype("u4"))


def code_bytes(stream):
    """The bytes of the slices' crack codes, as (begin, end) in the stream."""
    head = ours.header(stream)
    order = head.markov_model_order
    checked = 4 if head.format_version else 0
    begin = head.header_bytes + 4 * head.sz + checked + head.num_label_bytes
    begin += -(-5 * 4**order // 8) if order else 0
    sizes = np.frombuffer(stream, "<u4", head.sz, head.header_bytes).astype(np.int64)
    ends = begin + np.cumsum(sizes)
    return list(zip(ends - sizes, ends, strict=True))


@pytest.mark.parametrize(
    ("kind", "order"),
    [(kind, order) for order in range(1, 9) for kind in KINDS]
    + [("blobs", 9), ("noise", 10), ("bricks", 11)],
)
def test_same_bytes(kind, order):
    a = np.asfortranarray(volume(kind, np.random.default_rng(4), (40, 30, 5)).astype("u4"))
    stream = crackle.compress(a, markov_model_order=order, parallel=1)
    assert ours.compress(a, markov_model_order=order) == stream
    np.testing.assert_array_equal(ours.decompress(stream), a)


def test_order_12():
    a = np.asfortranarray(volume("blobs", np.random.default_rng(4), (40, 30, 5)).astype("u4"))
    stream = ours.compress(a, markov_model_order=12)
    assert ours.header(stream).markov_model_order == 12
    np.testing.assert_array_equal(ours.decompress(stream), a)


@pytest.mark.parametrize("order", range(1, 10))
def test_same_bytes_many_moves(order):
    """Enough moves for every table that is made only where it pays, and long slices."""
    a = real_like()
    stream = crackle.compress(a, markov_model_order=order, parallel=1)
    assert ours.compress(a, markov_model_order=order) == stream
    np.testing.assert_array_equal(ours.decompress(stream), a)
    np.testing.assert_array_equal(ours.decompress(stream, z_start=3, z_end=5), a[:, :, 3:5])
    np.testing.assert_array_equal(ours.decompress(as_version_0(stream)), a)


@pytest.mark.parametrize("order", [2, 5, 9])
def test_slices_of_all_lengths(order):
    """Slices are read several at once, whatever their lengths, and some are empty."""
    rng = np.random.default_rng(5)
    a = np.zeros((90, 80, 23), "u2", order="F")
    for z, n in enumerate(rng.permutation(np.r_[0, 0, 0, np.geomspace(1, 80, 20).astype(int)])):
        a[: n + 10, :n, z] = rng.integers(0, 3, (n + 10, n))
    stream = crackle.compress(a, markov_model_order=order, parallel=1)
    assert ours.compress(a, markov_model_order=order) == stream
    np.testing.assert_array_equal(ours.decompress(stream), a)
    for z in range(a.shape[2]):
        one = ours.decompress(stream, z_start=z, z_end=z + 1)
        np.testing.assert_array_equal(one, a[:, :, z : z + 1])


@pytest.mark.parametrize("order", [1, 4, 9])
def test_label_masks_read_some_slices(order):
    a = real_like((60, 50, 19))
    a[:, :, ::3] += 1000
    stream = ours.compress(a, markov_model_order=order)
    assert ours.check(stream)["z"] == []
    for label in np.unique(a)[::40]:
        np.testing.assert_array_equal(ours.decompress(stream, label=label), a == label)


@pytest.mark.parametrize("order", [1, 3, 6, 9])
def test_the_first_bad_slice_is_named(order):
    a = real_like((60, 50, 12))
    stream = ours.compress(a, markov_model_order=order)
    bad = bytearray(stream)
    for z in (3, 5, 6, 10):
        begin, end = code_bytes(stream)[z]
        bad[(begin + end) // 2] ^= 0x55
        bad[end - 1] ^= 0x3C
    with pytest.raises(ours.FormatError) as caught:
        ours.decompress(bad, parallel=1)
    assert caught.value.slice == 3
    assert ours.check(bad)["z"] == [3, 5, 6, 10]
    # What was read ahead of a failure is not taken for the next stream's.
    np.testing.assert_array_equal(ours.decompress(stream, parallel=1), a)
    np.testing.assert_array_equal(ours.decompress(bad, z_start=7, z_end=10), a[:, :, 7:10])


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("order", [1, 5, 9])
def test_damage(order, version):
    a = real_like((50, 40, 7))
    stream = ours.compress(a, markov_model_order=order)
    if version == 0:
        stream = as_version_0(stream)
    places = code_bytes(stream)
    rng = np.random.default_rng(order)
    for _ in range(300):
        bad = bytearray(stream)
        for _ in range(rng.integers(1, 4)):
            # Half of them in the moves, half in the model before them.
            low = places[0][0] - (-(-5 * 4**order // 8) if rng.random() < 0.5 else 0)
            at = rng.integers(low, places[-1][1])
            bad[at] = rng.choice([0, 255, bad[at] ^ 1 << rng.integers(8)])
        if version:
            same_or_error(bad, a)
            continue
        try:
            got = ours.decompress(bad)
        except ours.FormatError:
            continue
        assert got.shape == a.shape


def test_model_must_hold_permutations():
    a = real_like((50, 40, 2))
    for order in (1, 4, 9):
        stream = bytearray(ours.compress(a, markov_model_order=order))
        stream[code_bytes(stream)[0][0] - 2] = 255
        with pytest.raises(ours.FormatError, match="permutation") as caught:
            ours.decompress(stream)
        assert caught.value.section == "markov model"


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 80), st.integers(1, 40), st.integers(1, 9)),
    top=st.sampled_from([1, 2, 3, 40]),
    order=st.integers(1, 9),
    repeat=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_any_volume(shape, top, order, repeat, seed):
    small = tuple(-(-s // repeat) for s in shape)
    a = np.random.default_rng(seed).integers(0, top, small)
    for axis in range(3):
        a = a.repeat(repeat, axis)
    a = np.asfortranarray(a[tuple(slice(s) for s in shape)].astype("u2"))
    stream = crackle.compress(a, markov_model_order=order, parallel=1)
    assert ours.compress(a, markov_model_order=order) == stream
    np.testing.assert_array_equal(ours.decompress(stream), a)
    assert_smallest(a, 7)


# ---- "auto" ----


def assert_smallest(a, highest):
    """ "auto" gives the smallest of the streams up to an order, of the lowest such order."""
    streams = [ours.compress(a, markov_model_order=k) for k in range(highest + 1)]
    stream = ours.compress(a, markov_model_order="auto")
    best = min(range(len(streams)), key=lambda k: len(streams[k]))
    assert len(stream) == len(streams[best])
    assert stream == streams[best]
    return best


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 7, 40), (70, 60, 5), (200, 190, 3)])
def test_auto_is_smallest(kind, shape):
    if kind == "blobs" and shape[0] == 200:
        shape = (120, 90, 3)
    a = np.asfortranarray(volume(kind, np.random.default_rng(6), shape).astype("u4"))
    assert_smallest(a, 10)


def test_auto_reaches_every_order():
    """Moves that repeat after n steps need an order near n to be foretold."""
    rng = np.random.default_rng(7)
    found = set()
    for period in range(1, 9):
        edge = np.tile(rng.integers(-1, 2, period).cumsum() % 4, 4000 // period)
        a = np.zeros((edge.size, 60, 3), "u1", order="F")
        for y in range(6, 60, 12):
            a[np.arange(60) >= y + edge[:, None]] += 1
        found.add(assert_smallest(a, 9))
    found.add(assert_smallest(real_like(), 9))
    assert len(found) >= 4


def test_auto_of_no_moves_is_order_0():
    for shape in ((3, 4, 5), (0, 3, 2)):
        stream = ours.compress(np.zeros(shape, "u1"), markov_model_order="auto")
        assert ours.header(stream).markov_model_order == 0


def test_auto_in_threads_gives_the_same_bytes():
    a = np.asfortranarray(volume("bricks", np.random.default_rng(8), (256, 256, 48)).astype("u4"))
    one = ours.compress(a, markov_model_order="auto", parallel=1)
    assert ours.compress(a, markov_model_order="auto", parallel=2) == one
    assert ours.header(one).markov_model_order > 0
    np.testing.assert_array_equal(ours.decompress(one, parallel=2), a)
    np.testing.assert_array_equal(crackle.decompress(one), a)


def test_auto_in_codecs():
    a = np.ascontiguousarray(real_like((60, 50, 8)).T)
    stream = ours.compress(a.T, markov_model_order="auto")
    codec = ours.Crackle(markov_model_order="auto")
    assert codec.encode(a) == stream
    config = json.loads(json.dumps(codec.get_config()))
    assert config["markov_model_order"] == "auto"
    assert numcodecs.get_codec(config) == codec
    v3 = ours.CrackleCodec(markov_model_order="auto")
    given = json.loads(json.dumps(v3.to_dict()))
    assert given["configuration"] == {"markov_model_order": "auto"}
    assert ours.CrackleCodec.from_dict(given) == v3
    store = zarr.storage.MemoryStore()
    z = zarr.create_array(
        store, shape=a.shape, dtype=a.dtype, chunks=a.shape, serializer=v3, compressors=None
    )
    z[:] = a
    back = zarr.open_array(store)
    np.testing.assert_array_equal(back[:], a)
    assert stream in [bytes(v.to_bytes()) for v in store._store_dict.values()]


@pytest.mark.parametrize(
    ("order", "error"),
    [(16, ValueError), (255, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError),
     ("Auto", TypeError), (None, TypeError)],
)  # fmt: skip
def test_bad_orders(order, error):
    with pytest.raises(error):
        ours.compress(np.zeros((2, 2, 2), "u1"), markov_model_order=order)
    with pytest.raises(error):
        ours.Crackle(order)
    with pytest.raises(error):
        ours.CrackleCodec(order)


def test_the_library_refuses_other_orders():
    flat = np.zeros(8, "u1")
    with pytest.raises(ValueError, match="order"):
        _native.encode(flat, (2, 2, 2), False, True, 16)
