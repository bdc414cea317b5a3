"""Connected components against cc3d."""

from __future__ import annotations

import cc3d
import numpy as np
import pytest
from conftest import CODINGS, coded, labels_of_any_kind, volume
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from test_edit import check

import numcodecs_crackle as ck


def reference(a, connectivity, binary_image=False):
    """cc3d's components; scipy's where cc3d gives up: lines of voxels as a binary image."""
    try:
        return cc3d.connected_components(
            np.asfortranarray(a), connectivity=connectivity, binary_image=binary_image
        )
    except RuntimeError:
        assert binary_image and sorted(a.shape)[1] == 1
        return ndimage.label(a != 0, np.ones((3, 3, 3)))[0]


def same_partition(x, y):
    """Whether the numbers of two volumes are each other's, one by one."""
    pairs = np.unique(np.stack([x.ravel().astype(np.int64), y.ravel().astype(np.int64)]), axis=1)
    return pairs.shape[1] == len(np.unique(x)) == len(np.unique(y))


@settings(max_examples=80, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.sampled_from([6, 18, 26]), st.booleans())
def test_as_cc3d(a, coding, connectivity, binary_image):
    s = coded(a, coding)
    result, mapping = ck.connected_components(
        s, connectivity=connectivity, binary_image=binary_image, return_mapping=True
    )
    found = ck.decompress(result)
    check(result, found)
    assert same_partition(found, reference(a, connectivity, binary_image))
    np.testing.assert_array_equal(found == 0, a == 0)
    assert sorted(mapping) == np.unique(found).tolist()
    first = found.ravel(order="F")  # numbered as their first voxels come
    numbers, at = np.unique(first, return_index=True)
    assert (np.diff(at[numbers > 0]) > 0).all()
    assert numbers[numbers > 0].tolist() == list(range(1, (numbers > 0).sum() + 1))
    if binary_image:
        assert {k: v for k, v in mapping.items() if k == 0} == ({0: 0} if (a == 0).any() else {})
    else:
        np.testing.assert_array_equal(np.vectorize(mapping.get, otypes=[a.dtype])(found), a)
    order = "F" if ck.header(s).fortran_order else "C"
    assert result == ck.compress(
        np.asarray(found, order=order), ck.header(result).markov_model_order
    )


def test_of_a_larger_volume(cpu):
    a = np.asfortranarray(
        volume(
            "blobs",
            np.random.default_rng(2),
            (70, 60, 40),
        ).astype("u4")
        % 4
    )
    for connectivity in (6, 18, 26):
        found = ck.decompress(ck.connected_components(ck.compress(a), connectivity))
        assert found.dtype == np.uint16
        assert same_partition(found, reference(a, connectivity))


def test_corners_and_edges():
    a = np.zeros((3, 3, 3), np.uint8, order="F")
    for at in ((0, 0, 0), (1, 1, 0), (2, 2, 1), (2, 2, 2)):
        a[at] = 1
    count = {n: ck.num_labels(ck.connected_components(ck.compress(a), n)) - 1 for n in (6, 18, 26)}
    assert count == {6: 3, 18: 2, 26: 1}
    with pytest.raises(ValueError, match="connectivity"):
        ck.connected_components(ck.compress(a), 8)


def test_many_components_are_uint32():
    a = np.asfortranarray(np.arange(300 * 300, dtype=np.uint32).reshape(300, 300)[:, :, None])
    assert ck.header(ck.connected_components(ck.compress(a + 1))).dtype == np.uint32


def test_without_voxels_or_foreground():
    for a in (np.zeros((0, 3, 2), np.uint8), np.zeros((4, 3, 2), np.uint8)):
        result, mapping = ck.connected_components(ck.compress(a), return_mapping=True)
        check(result, a)
        assert mapping == ({0: 0} if a.size else {})


def test_method_and_progress(capfd):
    a = np.asfortranarray(volume("bricks", np.random.default_rng(2), (20, 20, 20)).astype("u4"))
    array = ck.compressa(a)
    found, mapping = array.connected_components(progress=True, return_mapping=True)
    assert "Connected components" in capfd.readouterr().err
    assert found == array.connected_components()
    assert ck.component_map(found, array) == mapping
