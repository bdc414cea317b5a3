"""The stream functions where crackle-codec is silent, wrong, or not the measure."""

from __future__ import annotations

import contextlib
import pickle

import numpy as np
import pytest
from conftest import as_version_0, volume

import numcodecs_crackle as ck
from numcodecs_crackle import _native


@pytest.mark.parametrize("shape", [(), (0,), (5,), (5, 4), (1, 0), (0, 3, 4), (5, 4, 0)])
@pytest.mark.parametrize("order", "CF")
def test_ranks_and_empty(shape, order):
    a = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape).astype("u2"), order=order)
    s = ck.compress(a)
    b = ck.decompress(s)
    assert b.shape == a.shape + (1,) * (3 - a.ndim)
    np.testing.assert_array_equal(b.reshape(a.shape), a)
    assert ck.ok(s)
    np.testing.assert_array_equal(ck.labels(s), np.unique(a))


def test_strided_and_byte_order():
    a = np.arange(5 * 6 * 7, dtype="u4").reshape(5, 6, 7) // 3
    for b in (a[::-1], a[:, ::2], a.transpose(1, 0, 2), a.astype(">u4"), a[::2, 1:, ::-3]):
        back = ck.decompress(ck.compress(b))
        assert back.dtype.isnative
        np.testing.assert_array_equal(back, b)


def test_bool():
    a = np.random.default_rng(0).random((9, 8, 7)) < 0.3
    back = ck.decompress(ck.compress(a))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, a)


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (np.zeros((2, 2, 2, 1), "u1"), ValueError),
        (np.zeros((2, 2), "f4"), TypeError),
        (np.zeros(2, "M8[s]"), TypeError),
        (np.array([None]), TypeError),
        ([[1, 2]], TypeError),
    ],
)
def test_refused(labels, error):
    with pytest.raises(error):
        ck.compress(labels)


def test_z_ranges_and_out():
    a = np.asfortranarray(volume("blobs", np.random.default_rng(2), (40, 30, 20)).astype("u4"))
    for b in (a, np.ascontiguousarray(a)):
        s = ck.compress(b)
        for z0, z1 in ((0, 20), (3, 4), (5, 18), (7, 7), (None, 4), (16, None)):
            np.testing.assert_array_equal(ck.decompress(s, z_start=z0, z_end=z1), a[:, :, z0:z1])
            np.testing.assert_array_equal(ck.decompress_range(s, z0, z1), a[:, :, z0:z1])
            found = ck.labels_for_z_range(s, z0, z1)
            np.testing.assert_array_equal(found, np.unique(a[:, :, z0:z1]))
        for order in "CF":
            out = np.zeros(a.shape, a.dtype, order=order)
            assert ck.decompress(s, out=out) is out
            np.testing.assert_array_equal(out, a)
        for z0, z1 in ((-1, 3), (0, 21), (5, 4)):
            with pytest.raises(IndexError):
                ck.decompress(s, z_start=z0, z_end=z1)
        with pytest.raises(ValueError, match="out is"):
            ck.decompress(s, out=np.zeros(a.shape, "u8"))


def test_label_masks(cpu):
    a = np.asfortranarray(volume("blobs", np.random.default_rng(3), (70, 30, 9)).astype("u8"))
    for b in (a, np.ascontiguousarray(a)):
        s = ck.compress(b)
        for label in (*np.unique(a)[::9], 2**40):
            np.testing.assert_array_equal(ck.decompress(s, label=label), a == label)
        assert ck.decompress(s, label=2**40, crop=True).shape == (0, 0, 0)
        assert not ck.decompress(s, label=-1).any()


def test_buffers():
    a = np.ones((3, 4, 5), "u1")
    s = ck.compress(a)
    for b in (bytearray(s), memoryview(s), np.frombuffer(s, "u1")):
        np.testing.assert_array_equal(ck.decompress(b), a)


def streams():
    rng = np.random.default_rng(4)
    a = np.asfortranarray(rng.integers(0, 9, (4, 3, 3)).repeat(2, 0).repeat(2, 1).astype("u2"))
    noise = np.asfortranarray(rng.integers(0, 99, (6, 5, 2)).astype("u2"))
    import crackle

    return {
        "flat": (a, ck.compress(a)),
        "markov": (a, ck.compress(a, markov_model_order=2)),
        "permissible": (noise, ck.compress(noise)),
        "pins": (a.astype("u4"), crackle.compress(a.astype("u4"), allow_pins=1, parallel=1)),
        "empty": (np.zeros((0, 2, 2), "u1"), ck.compress(np.zeros((0, 2, 2), "u1"))),
    }


def same_or_error(damaged, array):
    try:
        got = ck.decompress(damaged)
    except ck.FormatError:
        return
    # A bit that names the rendering order, say, is caught by crc8; the version byte is not.
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("name", ["flat", "markov", "permissible", "pins", "empty"])
def test_truncation_and_bit_flips(name):
    array, stream = streams()[name]
    for n in range(len(stream)):
        with pytest.raises(ck.FormatError):
            ck.decompress(stream[:n])
    with pytest.raises(ck.FormatError):
        ck.decompress(stream + b"\0")
    for i in range(len(stream)):
        for bit in range(8):
            damaged = bytearray(stream)
            damaged[i] ^= 1 << bit
            same_or_error(damaged, array)
        for value in (0, 255):
            damaged = bytearray(stream)
            damaged[i] = value
            same_or_error(damaged, array)


def test_check_names_the_damage():
    _, stream = streams()["flat"]
    head = ck.header(stream)
    index = head.header_bytes
    labels = index + 4 * head.sz + 4
    cracks = labels + head.num_label_bytes

    def damage(at):
        bad = bytearray(stream)
        bad[at] ^= 1
        assert not ck.ok(bad)
        return ck.check(bad)

    clean = {"header": True, "crack_index": True, "labels": True, "z": []}
    assert ck.check(stream) == clean
    assert ck.ok(stream)
    assert damage(8)["header"] is False
    assert damage(index)["crack_index"] is False
    assert damage(labels + 9)["labels"] is False
    assert damage(cracks + 9) == clean | {"z": [0]}
    assert damage(len(stream) - 1) == clean | {"z": [head.sz - 1]}
    assert not ck.ok(b"")
    assert not ck.ok(stream[:-1])


def test_error_says_where():
    _, stream = streams()["flat"]
    bad = bytearray(stream)
    bad[-1] ^= 1
    with pytest.raises(ck.FormatError, match="slice 2") as caught:
        ck.decompress(bad)
    assert caught.value.slice == 2
    assert caught.value.section == "component checksums"
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_checksums(cpu):
    assert _native.crc32c(b"123456789") == 0xE3069283
    data = np.random.default_rng(5).bytes(10_000)
    at = [_native.crc32c(data[:n]) for n in range(0, 10_001, 100)]  # in steps too short for blocks
    crc = 0
    for n, wanted in zip(range(0, 10_001, 100), at, strict=True):
        assert crc == wanted
        assert _native.crc32c(data[n:], crc) == at[-1]
        crc = _native.crc32c(data[n : n + 100], crc)


@pytest.mark.parametrize("name", ["flat", "markov", "permissible", "pins"])
def test_version_0(name):
    array, stream = streams()[name]
    old = as_version_0(stream)
    assert ck.header(old).format_version == 0
    np.testing.assert_array_equal(ck.decompress(old), array)
    np.testing.assert_array_equal(ck.labels(old), np.unique(array))
    assert ck.check(old) == {"header": True, "crack_index": None, "labels": None, "z": []}
    assert ck.ok(old)
    for n in range(len(old)):
        with pytest.raises(ck.FormatError):
            ck.decompress(old[:n])
    # Without checksums a flipped bit may give other labels, but nothing worse.
    for i in range(20, len(old)):
        for bit in range(8):
            damaged = bytearray(old)
            damaged[i] ^= 1 << bit
            with contextlib.suppress(ck.FormatError):
                assert ck.decompress(damaged).shape == array.shape


def test_slices_of_narrowed_labels():
    """Labels that became equal when the array was narrowed are listed once."""
    crackle = pytest.importorskip("crackle")
    a = np.zeros((6, 5, 4), np.uint32, order="F")
    a[2:], a[4:] = 1, 257
    narrowed = crackle.astype(crackle.compress(a), np.uint8)
    assert ck.labels_for_z_range(narrowed, 0, 2).tolist() == [0, 1]


def test_what_has_a_stream():
    array = ck.ones((4, 3, 2), np.uint16)
    assert ck.header(array) == ck.header(array.binary)
    assert ck.nbytes(array) == 48
    assert ck.ok(array)
    assert ck.check(array) == ck.check(array.binary)
