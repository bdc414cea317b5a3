"""Where crackle-codec 0.53 is wrong and this package is not, side by side."""

from __future__ import annotations

import crackle
import numpy as np
import pytest
from conftest import volume

import numcodecs_crackle as ck


def cells(shape=(20, 17, 9), dtype="u2"):
    return np.asfortranarray(volume("bricks", np.random.default_rng(1), shape).astype(dtype))


def test_the_table_of_labels_is_checked():
    a = cells()
    damaged = bytearray(ck.compress(a))
    damaged[29 + 4 * 10 + 8] ^= 1  # the first label
    wrong = crackle.decompress(bytes(damaged))
    assert not np.array_equal(wrong, a)  # and nobody is told
    for question in (ck.decompress, ck.labels, ck.voxel_counts, ck.refit, ck.recompress):
        with pytest.raises(ck.FormatError, match="labels"):
            question(damaged)


def test_no_label_touches_itself():
    s = ck.compress(cells())
    one, other = next(iter(ck.contacts(s)))
    merged = ck.remap(s, {one: other}, preserve_missing_labels=True)
    assert any(a == b for a, b in crackle.contacts(merged))
    assert not any(a == b for a, b in ck.contacts(merged))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8"])
def test_signed_labels(dtype):
    a = cells(dtype="i8").astype(dtype) - 20
    with pytest.raises(TypeError):
        crackle.compress(a)
    s = ck.compress(a)
    assert (ck.labels(s) < 0).any()
    # The reference reads the table as unsigned.
    assert not np.array_equal(crackle.labels(s).astype(np.int64), ck.labels(s).astype(np.int64))
    np.testing.assert_array_equal(ck.decompress(ck.remap(s, {-20: -19}, True)), np.maximum(a, -19))
    assert set(ck.voxel_counts(s)) == set(np.unique(a).tolist())
    assert ck.compressa(a).min() == a.min()


def test_bool_labels():
    a = cells() > 40
    s = ck.compress(a)
    assert ck.header(s).dtype == np.uint8
    assert ck.voxel_counts(s) == {0: int((~a).sum()), 1: int(a.sum())}
    np.testing.assert_array_equal(ck.decompress(s, label=1), a)
    array = ck.zeros(a.shape, bool)
    array[a] = True
    assert array == ck.compressa(a)


def test_four_axes_are_refused():
    a = np.zeros((4, 3, 2, 2), np.uint8)
    assert crackle.decompress(crackle.compress(a)).size < a.size  # an axis is cut
    for function in (
        ck.compress,
        ck.compressa,
        lambda a: ck.zsplit(a, 0),
        lambda a: ck.zstack([a]),
    ):
        with pytest.raises(ValueError, match="3 axes"):
            function(a)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_both_ends_of_zsplit(depth):
    a = cells((20, 17, depth))
    s = ck.compress(a)
    for z in (0, depth - 1):
        with pytest.raises((ValueError, NameError)):
            crackle.zsplit(s, z)
        before, middle, after = ck.zsplit(s, z)
        assert [ck.header(part).sz for part in (before, middle, after)] == [z, 1, depth - z - 1]
        assert ck.zstack([before, middle, after]) == s


@pytest.mark.parametrize("shape", [(300, 5, 2), (5, 300, 2), (70_000, 2, 1)])
def test_blank_volumes_of_wide_slices(shape):
    """A slice's empty index takes as many bytes as its rows need; the reference writes one."""
    theirs, ours = crackle.zeros(shape, np.uint32).binary, ck.zeros(shape, np.uint32).binary
    assert ours == ck.ascontiguousarray(ck.compress(np.zeros(shape, np.uint32)))
    if shape[1] > 255:
        assert len(theirs) < len(ours)
    for s in (theirs, ours):  # both are read
        assert not ck.decompress(s).any()
        stacked = ck.zstack([s, np.ones(shape, np.uint32)])
        assert ck.decompress(stacked).sum() == np.prod(shape)
        assert ck.voxel_counts(s) == {0: int(np.prod(shape))}


def test_a_single_label():
    s = ck.compress(np.full((4, 3, 2), 9, np.uint8, order="F"))
    theirs = crackle.bounding_boxes(s)[9]
    assert theirs == (slice(0, 5), slice(0, 4), slice(0, 3))  # one voxel outside
    assert ck.bounding_boxes(s)[9] == (slice(0, 4), slice(0, 3), slice(0, 2))


def test_reflected_operators():
    theirs = crackle.CrackleArray(crackle.compress(np.full((2, 2, 1), 2, np.uint8)))
    ours = ck.compressa(np.full((2, 2, 1), 2, np.uint8))
    assert (5 - theirs).numpy().max() == 253  # 2 - 5
    assert (5 - ours).numpy().max() == 3
    assert (5 // ours).numpy().max() == 2
    assert (1 << ours).numpy().max() == 4


def test_z_ranges_of_labels():
    a = cells((30, 20, 40))
    s = ck.compress(a)
    exact = {v: np.flatnonzero((a == v).any(axis=(0, 1))) for v in np.unique(a).tolist()}
    exact = {v: (int(z[0]), int(z[-1]) + 1) for v, z in exact.items()}
    assert {v: ck.z_range_for_label(s, v) for v in exact} == exact


def test_mixed_stacks():
    """Noise is coded as open connections, cells as borders: the reference stacks no two such."""
    noise = np.random.default_rng(0).integers(0, 200, (20, 17, 3)).astype("u2")
    both = [cells(), noise]
    with pytest.raises(ValueError, match="crack formats"):
        crackle.zstack(both)
    np.testing.assert_array_equal(ck.decompress(ck.zstack(both)), np.concatenate(both, axis=2))
