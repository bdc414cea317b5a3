"""What crackle-codec takes and this package refuses."""

from __future__ import annotations

import crackle
import numpy as np
import pytest

import numcodecs_crackle as ck


@pytest.mark.parametrize("mapping", [{1: 2.0}, {np.float64(1): 2}])
def test_remap_by_whole_floats(mapping):
    # pandas gives such mappings; crackle-codec takes them, here it is a TypeError
    a = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    theirs = crackle.remap(crackle.compress(a), mapping, preserve_missing_labels=True)
    ours = ck.remap(ck.compress(a), mapping, preserve_missing_labels=True)
    np.testing.assert_array_equal(ck.decompress(ours), crackle.decompress(bytes(theirs)))


def test_remap_gives_what_can_be_edited_in_place():
    # crackle-codec gives a bytearray, so that remap(..., in_place=True) works on it; here bytes
    a = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    edited = ck.remap(ck.compress(a), {1: 2}, preserve_missing_labels=True)
    ck.remap(edited, {3: 4}, preserve_missing_labels=True, in_place=True)
    assert not ck.contains(edited, 3)


def test_labels_that_are_no_numbers_are_refused():
    # a label such as "5" is silently absent here; crackle-codec raises TypeError
    a = np.full((2, 3, 4), 5, np.uint8, order="F")
    a[0] = 1
    with pytest.raises(TypeError):
        crackle.decompress(crackle.compress(a), label="5")
    with pytest.raises(TypeError):
        ck.decompress(ck.compress(a), label="5")
