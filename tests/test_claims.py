"""Small streams that claim much, and whose answers must not take long."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import numcodecs_crackle as ck
from numcodecs_crackle import _native

MOST = 2**32 - 1


def stream_of_pins(sz, pins, singles=(), background=9, labels=(7,)):
    """Volume (1, 1, sz) without cracks: pins (z, depth) and singles of each label in turn."""
    index_width = next(w for w in (1, 2, 4) if sz < 1 << 8 * w)
    section = bytes([background]) + len(labels).to_bytes(8, "little") + bytes(labels)
    section += bytes([1]) * sz + bytes([2 | 2 << 2 | 2 << 4])  # counts, depths, ids of 4 bytes
    for of_label, names in zip(pins, singles or [()] * len(labels), strict=True):
        at, depth = np.array(of_label, np.int64).reshape(-1, 2).T
        section += len(at).to_bytes(4, "little")
        section += np.diff(at, prepend=0).astype(f"<u{index_width}").tobytes()
        section += depth.astype("<u4").tobytes()
        section += len(names).to_bytes(4, "little")
        section += np.diff(np.array(names, np.int64), prepend=0).astype("<u4").tobytes()
    code = b"\1\0\0\0\0"  # nothing begins in any row
    index = np.full(sz, len(code), "<u4").tobytes()
    head = replace(
        ck.header(ck.compress(np.zeros((1, 1, sz), "u1"))),
        label_format=2,
        num_label_bytes=len(section),
    )
    one = _native.crc32c(bytes(4)).to_bytes(4, "little")
    sums = [_native.crc32c(part).to_bytes(4, "little") for part in (index, section)]
    return head.tobytes() + index + sums[0] + section + code * sz + sums[1] + one * sz


def test_pins_that_overlap():
    binary = stream_of_pins(10, [[(0, 3), (0, 6), (2, 1), (5, 3), (8, 0)]] * 1)
    expected = np.array([7] * 9 + [9], "u1")
    assert ck.decompress(binary).ravel().tolist() == expected.tolist()
    assert ck.voxel_counts(binary) == {7: 9, 9: 1}
    assert ck.z_range_for_label(binary, 7) == (0, 9)
    assert ck.decompress(binary, label=7).ravel().tolist() == (expected == 7).tolist()
    assert ck.labels_for_z_range(binary, 9, 10).tolist() == [9]


def test_pins_of_two_labels_that_overlap():
    binary = stream_of_pins(4, [[(0, 3), (0, 3)], [(2, 1)]], labels=(6, 7))
    with pytest.raises(ck.FormatError, match="two labels"):
        ck.decompress(binary)


def test_singles_named_twice():
    binary = stream_of_pins(4, [[], []], [(1, 3), (2, 3)], labels=(6, 7))
    assert ck.decompress(binary).ravel().tolist() == [9, 6, 7, 6]
    assert ck.decompress(binary, label=6).ravel().tolist() == [False, True, False, True]


@pytest.mark.parametrize("kind", ["all deep", "one deep", "singles"])
def test_many_pins(ends, kind):
    sz, n = 20_000, 60_000
    singles = [()]
    pins = [[(0, sz - 1 if kind == "all deep" or i == 0 else 0) for i in range(n)]]
    if kind == "singles":
        pins, singles = [[]], [(sz - 1,) * n]
    binary = stream_of_pins(sz, pins, singles)
    expected = {7: 1, 9: sz - 1} if kind == "singles" else {7: sz}
    assert ck.voxel_counts(binary) == expected
    assert ck.z_range_for_label(binary, 7) == ((sz - 1, sz) if kind == "singles" else (0, sz))
    assert (ck.decompress(binary) == 7).sum() == expected[7]


def test_no_voxels_in_many_slices(ends):
    head = ck.header(ck.compress(np.zeros((0, 5, 1), "u2")))
    binary = replace(head, sz=MOST).tobytes()
    tracemalloc.start()
    try:
        assert ck.ok(binary) and ck.check(binary)["z"] == []
        assert ck.decompress(binary, label=3).shape == (0, 5, MOST)
        assert ck.decompress(binary, label=3, crop=True).shape == (0, 0, 0)
        assert ck.z_range_for_label(binary, 3) == (-1, -1)
        assert not ck.contains(binary, 3) and ck.labels(binary).size == 0
        assert ck.voxel_counts(binary) == {} and ck.contacts(binary) == {}
        assert ck.header(ck.connected_components(binary)).shape == (0, 5, MOST)
        assert ck.CrackleArray(binary)[:, :, 5:MOST].shape == (0, 5, MOST - 5)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
