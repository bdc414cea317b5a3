"""Edits of labels and coding: what they decode to, byte identity, checksums."""

from __future__ import annotations

import io
from dataclasses import replace

import crackle
import numpy as np
import pytest
from conftest import CODINGS, coded, labels_of_any_kind, volume
from hypothesis import given, settings
from hypothesis import strategies as st

import numcodecs_crackle as ck
from numcodecs_crackle.sections import Sections


def check(stream, array, dtype=None):
    """The stream is whole, decodes to the array, here and there, and has its labels."""
    assert ck.ok(stream)
    assert ck.header(stream).format_version == 1
    back = ck.decompress(stream)
    np.testing.assert_array_equal(back, array)
    if dtype is not None:
        assert back.dtype == dtype
    if array.size:
        np.testing.assert_array_equal(ck.labels(stream), np.unique(array))
        if back.dtype.kind == "u":
            theirs = crackle.decompress(bytes(stream)).reshape(array.shape, order="A")
            np.testing.assert_array_equal(theirs, array)


def mapped(a, mapping):
    return np.vectorize(lambda v: mapping.get(int(v), int(v)), otypes=[object])(a)


@settings(max_examples=80, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.integers(0, 2**32))
def test_remap(a, coding, seed):
    rng = np.random.default_rng(seed)
    s = coded(a, coding)
    labels = np.unique(a).tolist()
    merge = {label: int(rng.integers(0, 4)) for label in labels}
    merged = mapped(a, merge)
    check(ck.remap(s, merge), merged, a.dtype)
    widen = {label: label + 300 for label in labels}
    result = ck.remap(s, widen)
    check(result, mapped(a, widen))
    assert ck.header(result).dtype == max(a.dtype, np.dtype(np.uint16))
    some = {labels[0]: 77, 10**15: 5}
    check(ck.remap(s, some, preserve_missing_labels=True), mapped(a, some), a.dtype)
    if len(labels) > 1:
        with pytest.raises(KeyError):
            ck.remap(s, some)
    check(ck.remap(ck.remap(s, merge), {0: 9}, True), mapped(merged, {0: 9}))


@settings(max_examples=80, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.integers(0, 2**32))
def test_recompress_is_compress(a, coding, seed):
    rng = np.random.default_rng(seed)
    s = coded(a, coding)
    merge = {label: int(rng.integers(0, 4)) for label in np.unique(a).tolist()}
    merged = mapped(a, merge).astype(a.dtype)
    result = ck.recompress(ck.remap(s, merge))
    check(result, merged, a.dtype)
    if coding != "pins":
        order = "F" if ck.header(s).fortran_order else "C"
        again = ck.compress(np.asarray(merged, order=order), ck.header(s).markov_model_order)
        assert result == again
    assert ck.array_equal(ck.remap(s, merge), result)
    assert ck.structure_equal(ck.remap(s, merge), result)
    assert ck.contacts(ck.remap(s, merge)) == ck.contacts(result)


@settings(max_examples=60, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS))
def test_masks_and_numbers(a, coding):
    s = coded(a, coding)
    labels = np.unique(a).tolist()
    some = labels[::2]
    check(ck.mask(s, some), np.where(np.isin(a, some), 0, a), a.dtype)
    check(ck.mask_except(s, some), np.where(np.isin(a, some), a, 0), a.dtype)
    check(ck.mask(s, [*some, 12345], value=6), np.where(np.isin(a, some), 6, a), a.dtype)
    for result in (ck.mask(s, some), ck.condense_unique(ck.remap(s, dict.fromkeys(labels, 3)))):
        assert ck.header(result).is_sorted
        assert ck.load_num_labels(io.BytesIO(result)) == ck.num_labels(result)
    numbered, mapping = ck.renumber(s, start=5)
    assert mapping == {label: i for i, label in enumerate(labels, 5)}
    check(numbered, mapped(a, mapping), np.uint8)
    refitted = ck.refit(s)
    check(refitted, a, np.min_scalar_type(int(a.max())))


@settings(max_examples=40, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS))
def test_dtypes_and_orders(a, coding):
    s = coded(a, coding)
    for dtype in (np.uint8, np.int8, np.int16, np.uint64, np.int64):
        check(ck.astype(s, dtype), a.astype(dtype), dtype)
    assert ck.decompress(ck.asfortranarray(s)).flags.f_contiguous
    assert ck.decompress(ck.ascontiguousarray(s)).flags.c_contiguous
    check(ck.astype(s, a.dtype, order="C"), a)
    for function, ufunc in (
        (ck.add_scalar, np.add), (ck.subtract_scalar, np.subtract),
        (ck.multiply_scalar, np.multiply), (ck.floordiv_scalar, np.floor_divide),
    ):  # fmt: skip
        check(function(s, 3), ufunc(a, a.dtype.type(3)), a.dtype)
    with pytest.raises(ZeroDivisionError):
        ck.floordiv_scalar(s, 0)


@settings(max_examples=40, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.sampled_from([0, 1, 2, 5, "auto"]))
def test_reencode(a, coding, order):
    s = coded(a, coding)
    result = ck.reencode(s, order)
    check(result, a, a.dtype)
    if coding not in ("pins", "false borders"):
        stored = "F" if ck.header(s).fortran_order else "C"
        assert result == ck.compress(np.asarray(a, order=stored), order)
    if coding == "pins" and ck.header(s).label_format:
        assert ck.header(result).label_format == ck.header(s).label_format


def test_signed():
    a = np.array([[-300, -1], [0, 127]], np.int16)[:, :, None]
    s = ck.compress(a)
    check(ck.remap(s, {-300: 128, -1: -2}, True), np.array([[128, -2], [0, 127]])[:, :, None])
    check(ck.remap(s, {0: 40_000}, True), np.where(a == 0, 40_000, a.astype(np.int32)), np.int32)
    check(ck.refit(ck.remap(s, {-300: -128}, True)), np.where(a == -300, -128, a), np.int8)
    check(ck.astype(s, np.uint16), a.astype(np.uint16), np.uint16)
    check(ck.renumber(s, start=-1)[0], np.array([[-1, 0], [1, 2]])[:, :, None], np.int8)
    assert ck.min(s) == -300


def test_limits():
    a = np.array([0, 2**63, 2**64 - 1], np.uint64)[:, None, None]
    s = ck.compress(a)
    check(ck.remap(s, {2**64 - 1: 1}, True), np.where(a == 2**64 - 1, 1, a))
    check(ck.remap(s, {0: 2**64 - 2}, True), np.where(a == 0, 2**64 - 2, a))
    for bad in (-1, 2**64):
        with pytest.raises(OverflowError):
            ck.remap(s, {0: bad}, True)
    signed = ck.compress(np.zeros((2, 2, 1), np.int64))
    with pytest.raises(OverflowError):
        ck.remap(signed, {0: 2**63})
    with pytest.raises(OverflowError):
        ck.add_scalar(ck.compress(np.zeros((2, 2, 1), np.uint8)), 256)
    for bad in (1.5, "1"):
        with pytest.raises(TypeError):
            ck.add_scalar(s, bad)
        with pytest.raises(TypeError):
            ck.remap(s, {0: bad}, True)


def test_casting():
    s = ck.compress(np.full((2, 2, 1), 300, np.uint32))
    assert ck.header(ck.astype(s, np.uint16, casting="safe")).dtype == np.uint16
    with pytest.raises(TypeError, match="safe"):
        ck.astype(s, np.uint8, casting="safe")
    for casting in ("no", "equiv"):
        with pytest.raises(TypeError, match="Cannot cast"):
            ck.astype(s, np.uint16, casting=casting)
    with pytest.raises(TypeError, match="Cannot cast"):
        ck.astype(ck.astype(s, np.int32), np.uint32, casting="same_kind")
    with pytest.raises(TypeError, match="integer"):
        ck.astype(s, np.float32)
    with pytest.raises(ValueError, match="order"):
        ck.astype(s, np.uint16, order="X")


def test_in_place():
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (20, 10, 5)).astype("u2"))
    s = ck.compress(a)
    ours = bytearray(s)
    assert ck.remap(ours, {3: 4}, True, in_place=True) is ours
    check(bytes(ours), np.where(a == 3, 4, a))
    assert ck.decompress(s)[a == 3].tolist() == [3] * int((a == 3).sum())
    # Bytes can't be changed, and a wider table is longer: a new stream.
    with pytest.warns(UserWarning, match="in place"):
        assert ck.remap(s, {3: 4}, True, in_place=True) == ours
    np.testing.assert_array_equal(ck.decompress(s), a)
    wider = ck.remap(ours, {4: 70_000}, True, in_place=True)
    assert wider is not ours
    check(wider, np.where((a == 3) | (a == 4), 70_000, a.astype(np.uint32)))


def test_edits_are_small():
    """No edit of labels touches the crack codes."""
    a = np.asfortranarray(volume("blobs", np.random.default_rng(0), (64, 64, 16)).astype("u4"))
    s = ck.compress(a)
    cracks = s[29 + 4 * 17 + ck.header(s).num_label_bytes : -4 * 17]
    assert len(cracks) > 1000
    for edited in (ck.remap(s, {5: 6}, True), ck.mask(s, [5]), ck.renumber(s)[0],
                   ck.astype(s, "u8"), ck.add_scalar(s, 1)):  # fmt: skip
        assert cracks in edited


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 2, 0)])
def test_no_voxels(shape):
    a = np.zeros(shape, np.uint16, order="F")
    s = ck.compress(a)
    for result in (
        ck.remap(s, {1: 2}), ck.renumber(s)[0], ck.mask(s, [1]), ck.recompress(s),
        ck.condense_unique(s), ck.reencode(s, 2), ck.add_scalar(s, 3), ck.ascontiguousarray(s),
    ):  # fmt: skip
        check(result, a)
    assert ck.header(ck.astype(s, np.int64)).dtype == np.int64


def test_damaged_streams_are_refused():
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (20, 10, 5)).astype("u2"))
    s = ck.compress(a)
    for at in (60, len(s) - 21):  # in the labels, and their checksum
        damaged = bytearray(s)
        damaged[at] ^= 1
        for edit in (ck.refit, ck.renumber, ck.condense_unique, ck.recompress, ck.zshatter):
            with pytest.raises(ck.FormatError, match="labels"):
                edit(bytes(damaged))


@pytest.mark.parametrize("pins", [0, 1])
def test_tables_wider_than_the_array(pins):
    """crackle-codec narrows the array and leaves the table; labels are cut off when read."""
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (20, 10, 6)).astype("u4"))
    a = a * 300 + 70_000
    s = crackle.compress(a, allow_pins=pins)
    for dtype in (np.uint8, np.uint16):
        narrowed = crackle.astype(s, dtype)
        assert ck.header(narrowed).stored_data_width == 4
        wanted = a.astype(dtype)
        np.testing.assert_array_equal(crackle.decompress(narrowed), wanted)
        np.testing.assert_array_equal(ck.decompress(narrowed), wanted)
        np.testing.assert_array_equal(ck.labels(narrowed), np.unique(wanted))
        labels, counts = np.unique(wanted, return_counts=True)
        found = ck.voxel_counts(narrowed)
        assert found == dict(zip(labels.tolist(), counts.tolist(), strict=True))
        label = int(labels[0])
        np.testing.assert_array_equal(ck.decompress(narrowed, label=label), wanted == label)
        check(ck.recompress(narrowed), wanted, dtype)
        assert ck.load_num_labels(io.BytesIO(narrowed)) == len(labels)


@pytest.mark.parametrize("order", [0, 3])
def test_tables_with_unused_labels(order):
    """Labels of the table that no voxel has are in nobody's way."""
    a = volume("bricks", np.random.default_rng(0), (12, 10, 8)).astype("u2") % 7
    parts = Sections.of(ck.compress(a, order))
    parts.table = np.append(parts.table, np.uint16(999))
    parts.head = replace(parts.head, is_remapped=True)
    s = parts.tobytes()
    assert ck.ok(s)
    assert ck.labels(s).tolist() == np.unique(a).tolist()
    mapping = {v: v + 1 for v in ck.labels(s).tolist()}
    check(ck.remap(s, mapping), a + np.uint16(1))
    numbered, mapping = ck.renumber(s)
    assert mapping == {v: i for i, v in enumerate(np.unique(a).tolist())}
    np.testing.assert_array_equal(np.array(list(mapping))[ck.decompress(numbered)], a)
    for label, number, image in ck.each(s, multi=True):
        np.testing.assert_array_equal(image == number, a == label)
    check(ck.refit(s), a.astype("u1"))
    check(ck.astype(s, "u1", casting="safe"), a.astype("u1"))
    with pytest.raises(ValueError, match="not contained"):
        ck.point_cloud(s, 999)
