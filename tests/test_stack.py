"""Slices put together and taken apart; new volumes."""

from __future__ import annotations

import crackle
import numpy as np
import pytest
from conftest import CODINGS, coded, labels_of_any_kind, volume
from hypothesis import given, settings
from hypothesis import strategies as st
from test_edit import check

import numcodecs_crackle as ck


@settings(max_examples=60, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS))
def test_split_and_stack(a, coding):
    s = coded(a, coding)
    slices = ck.zshatter(s)
    assert len(slices) == a.shape[2]
    for z, one in enumerate(slices):
        check(one, a[:, :, z : z + 1], a.dtype)
    again = ck.zstack(slices)
    check(again, a, a.dtype)
    if coding in ("flat", "reference"):
        assert again == s
    for z in {0, a.shape[2] // 2, a.shape[2] - 1}:
        before, middle, after = ck.zsplit(s, z)
        check(before, a[:, :, :z], a.dtype)
        check(middle, a[:, :, z : z + 1], a.dtype)
        check(after, a[:, :, z + 1 :], a.dtype)
        check(ck.zstack([before, middle, after]), a, a.dtype)
    for z in (-1, a.shape[2]):
        with pytest.raises(ValueError, match="outside"):
            ck.zsplit(s, z)


@settings(max_examples=60, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.sampled_from([None, 0, 3]), st.data())
def test_any_mix(a, coding, order, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    noise = rng.integers(0, 3, (*a.shape[:2], 2)).astype(np.uint16)
    blank = np.zeros((*a.shape[:2], 3), np.uint8, order="F")
    images = [
        (coded(a, coding), a),
        (noise, noise),
        (ck.CrackleArray(crackle.compress(noise, markov_model_order=2)), noise),
        (crackle.compress(blank, allow_pins=1), blank),
        (noise[:, :, 0], noise[:, :, :1]),
        (b"", noise[:, :, :0]),
    ]
    picked = [images[0], *data.draw(st.permutations(images[1:]))]
    result = ck.zstack([image for image, _ in picked] + [None], order)
    wanted = np.concatenate([array for _, array in picked], axis=2)
    check(result, wanted, wanted.dtype)
    assert ck.header(result).fortran_order == ck.header(images[0][0]).fortran_order
    if order is not None:
        assert ck.header(result).markov_model_order in (order, 0)


def test_kept_as_they_are():
    rng = np.random.default_rng(0)
    a = np.asfortranarray(volume("blobs", rng, (40, 30, 12)).astype("u4"))
    for order in (0, 3):
        s = ck.compress(a, order)
        before, middle, after = ck.zsplit(s, 5)
        assert ck.header(middle).markov_model_order == order
        assert ck.zstack([before, middle, after]) == s  # the same model: nothing is coded anew
    pins = crackle.compress(a, allow_pins=1)
    assert ck.header(ck.zstack([pins, pins])).label_format == 2
    assert ck.header(ck.zsplit(pins, 5)[2]).label_format == 2
    two = ck.zstack([ck.compress(a, 3), ck.compress(np.asfortranarray(a[::-1]), 3)])
    assert ck.header(two).markov_model_order == 3
    check(two, np.concatenate([a, a[::-1]], axis=2))
    assert ck.zstack([s]) == s


def test_bytes_as_if_compressed_at_once():
    """Stacked slices are the stream that the whole array gives."""
    a = np.asfortranarray(volume("blobs", np.random.default_rng(1), (40, 30, 12)).astype("u8"))
    parts = [np.asfortranarray(a[:, :, z : z + 3]) for z in range(0, 12, 3)]
    assert ck.zstack(parts) == ck.compress(a) == crackle.compress(a)


def test_refused():
    a = np.zeros((3, 4, 1), np.uint8)
    with pytest.raises(ValueError, match="width and height"):
        ck.zstack([a, np.zeros((4, 3, 1), np.uint8)])
    with pytest.raises(ValueError, match="sign"):
        ck.zstack([a, a.astype(np.int8)])
    with pytest.raises(ValueError, match="nothing"):
        ck.zstack([])
    with pytest.raises(ck.FormatError):
        ck.zstack([a, b"not a stream"])
    with pytest.raises(ValueError, match="3 axes"):
        ck.zstack([np.zeros((3, 4, 1, 2), np.uint8)])


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize(
    "shape", [(5, 4, 3), (300, 2, 2), (2, 300, 2), (70_000, 1, 1), (0, 4, 3), (4, 3, 0), (7, 5), 6]
)
@pytest.mark.parametrize("fill", [0, 1, 255, 300, 2**40])
def test_full(shape, order, fill):
    dtype = np.uint64 if fill > 255 else np.uint8
    array = ck.full(shape, fill, dtype=dtype, order=order)
    sizes = shape if isinstance(shape, tuple) else (shape,)
    wanted = np.full(sizes + (1,) * (3 - len(sizes)), fill, dtype, order=order)
    check(array.binary, wanted, dtype)
    stored = ck.asfortranarray if order == "F" else ck.ascontiguousarray
    assert array.binary == stored(ck.compress(wanted)) or not array.size


def test_zeros_and_ones():
    assert ck.zeros((3, 2, 1)).dtype == np.uint64
    assert ck.full((3, 2, 1), -4).dtype == np.int64
    assert ck.ones((3, 2, 1), np.int16).numpy().tolist() == np.ones((3, 2, 1)).tolist()
    assert ck.ones((3, 2, 1), bool).dtype == np.uint8
    big = ck.zeros([5000, 5000, 5000], dtype=np.uint64, order="F")
    assert len(big.binary) < 100_000
    assert big.nbytes == 5000**3 * 8
    assert 0 in big
    for bad in ((1, 2, 3, 4), (-1, 2, 3)):
        with pytest.raises(ValueError, match="axes"):
            ck.zeros(bad)
    with pytest.raises(OverflowError):
        ck.full((2, 2, 2), 300, np.uint8)
    with pytest.raises(TypeError):
        ck.zeros((2, 2, 2), np.float32)


def test_crackle_codec_can_split_what_we_stack():
    rng = np.random.default_rng(3)
    a = np.asfortranarray(volume("blobs", rng, (40, 30, 12)).astype("u4"))
    ours = ck.zstack(ck.zshatter(ck.compress(a)))
    theirs = crackle.zsplit(ours, 5)
    for one, other in zip(theirs, ck.zsplit(ours, 5), strict=True):
        np.testing.assert_array_equal(crackle.decompress(one), ck.decompress(other))


def test_full_of_numpy_integers():
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64):
        array = ck.full((3, 2, 2), dtype(5))
        assert array.dtype == dtype == crackle.full((3, 2, 2), dtype(5)).dtype
    assert ck.full((3, 2, 2), np.int8(-5)).dtype == np.int8
    assert ck.full((3, 2, 2), 2**63).dtype == np.uint64
