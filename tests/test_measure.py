"""Measures against numpy on the array, and against crackle-codec."""

from __future__ import annotations

import crackle
import numpy as np
import pytest
from conftest import CODINGS, KINDS, coded, labels_of_any_kind, volume
from hypothesis import given, settings
from hypothesis import strategies as st

import numcodecs_crackle as ck

POINTS = np.array([[0, 0, 0], [3, 2, 1], [1, 4, 2]])


def labels_and_stream(kind, coding, shape=(20, 17, 9), dtype="u4", order="F"):
    a = np.asarray(volume(kind, np.random.default_rng(1), shape), dtype, order=order)
    return a, coded(a, coding)


def boxes_of(a):
    found = {}
    for label in np.unique(a).tolist():
        at = np.argwhere(a == label)
        low, high = at.min(axis=0), at.max(axis=0) + 1
        found[label] = tuple(slice(int(p), int(q)) for p, q in zip(low, high, strict=True))
    return found


def contacts_of(a, anisotropy=(1, 1, 1)):
    wx, wy, wz = anisotropy
    found = {}
    for axis, area in enumerate((wy * wz, wx * wz, wx * wy)):
        rows = np.moveaxis(a, axis, 0)
        for p, q in zip(rows[:-1].ravel().tolist(), rows[1:].ravel().tolist(), strict=True):
            if p != q and p != 0 and q != 0:
                key = (min(p, q), max(p, q))
                found[key] = found.get(key, 0) + area
    return found


def neighbours(a, outside):
    """For each of the six faces the labels behind it; ``outside`` beyond the volume."""
    padded = np.pad(a.astype(object), 1, constant_values=outside)
    for axis in range(3):
        for step in (1, -1):
            yield np.roll(padded, -step, axis)[1:-1, 1:-1, 1:-1]


def surface_of(a):
    return np.logical_or.reduce([(n != a).astype(bool) for n in neighbours(a, None)])


def check_measures(a, s, parallel=1):
    labels, counts = np.unique(a, return_counts=True)
    labels, counts = labels.tolist(), counts.tolist()
    boxes = boxes_of(a)
    assert ck.voxel_counts(s, parallel=parallel) == dict(zip(labels, counts, strict=True))
    assert ck.bounding_boxes(s, parallel=parallel) == boxes
    centroids = ck.centroids(s, parallel=parallel)
    raw = ck.bounding_boxes(s, parallel=parallel, no_slice_conversion=True)
    assert list(centroids) == list(raw) == labels
    for label, count in zip(labels, counts, strict=True):
        mean = np.argwhere(a == label).mean(axis=0)
        np.testing.assert_allclose(centroids[label], mean, rtol=1e-12)
        np.testing.assert_array_equal(ck.centroids(s, label), centroids[label])
        assert ck.voxel_counts(s, label) == count
        assert ck.bounding_boxes(s, label) == boxes[label]
        low_high = [v.start for v in boxes[label]] + [v.stop - 1 for v in boxes[label]]
        assert raw[label].tolist() == low_high
        assert ck.z_range_for_label(s, label) == (boxes[label][2].start, boxes[label][2].stop)
    edges = [np.take(a, i, axis) for axis in range(3) for i in (0, -1)]
    assert ck.edge_labels(s) == set(np.concatenate([e.ravel() for e in edges]).tolist())


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_sizes_boxes_centroids(kind, coding, cpu):
    a, s = labels_and_stream(kind, coding)
    check_measures(a, s)


@settings(max_examples=60, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.integers(0, 2))
def test_any_volume(a, coding, parallel):
    s = coded(a, coding)
    check_measures(a, s, parallel)
    assert ck.contacts(s, (2.0, 3.0, 5.0), parallel) == contacts_of(a, (2, 3, 5))
    surface = surface_of(a)
    cloud = ck.point_cloud(s, skip_background=False, parallel=parallel)
    assert list(cloud) == np.unique(a[surface]).tolist()
    for label, points in cloud.items():
        at = np.argwhere((surface & (a == label)).transpose(2, 1, 0))[:, ::-1]
        np.testing.assert_array_equal(points, at)
        np.testing.assert_array_equal(ck.point_cloud(s, label), at)


@settings(max_examples=40, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS))
def test_connectivity_graph(a, coding):
    s = coded(a, coding)
    same = [(n == a).astype(np.uint8) for n in neighbours(a, None)]
    for connectivity in (4, 6):
        graph = ck.voxel_connectivity_graph(s, connectivity)
        inside = np.zeros(a.shape, np.uint8)  # the bits that lead to a voxel
        wanted = np.zeros(a.shape, np.uint8)
        for bit, neighbour in enumerate(neighbours(np.ones(a.shape, np.uint8), 0)):
            if bit < connectivity:
                inside |= neighbour.astype(np.uint8) << bit
                wanted |= same[bit] << bit
        np.testing.assert_array_equal(graph & inside, wanted & inside)
        if coding != "false borders":  # the others are as crackle-codec's
            np.testing.assert_array_equal(graph, crackle.voxel_connectivity_graph(s, connectivity))
        assert graph.flags.f_contiguous
    with pytest.raises(ValueError, match="connected"):
        ck.voxel_connectivity_graph(s, 26)


@pytest.mark.parametrize("coding", ["reference", "markov"])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("kind", ["noise", "bricks", "blobs"])
def test_as_crackle_codec(kind, order, coding):
    a, s = labels_and_stream(kind, coding, (40, 33, 11), "u2", order)
    assert ck.voxel_counts(s) == crackle.voxel_counts(s)
    assert ck.bounding_boxes(s) == crackle.bounding_boxes(s)
    theirs = crackle.centroids(s)
    for label, mean in ck.centroids(s).items():
        np.testing.assert_allclose(mean, theirs[label])
    ours, theirs = ck.contacts(s, (4, 4, 40)), crackle.contacts(s, (4, 4, 40))
    assert ours.keys() == theirs.keys()
    assert all(ours[k] == pytest.approx(theirs[k]) for k in ours)
    assert ck.edge_labels(s) == crackle.edge_labels(s)
    np.testing.assert_array_equal(
        ck.scattered_points(s, POINTS),
        crackle.operations.scattered_points(s, POINTS.astype(np.uint32)),
    )
    theirs = crackle.point_cloud(s)
    ours = ck.point_cloud(s)
    assert ours.keys() == theirs.keys()
    for label, points in ours.items():  # theirs has some voxels twice, and some inner ones
        assert set(map(tuple, points.tolist())) <= set(map(tuple, theirs[label].tolist()))
    ours, theirs = ck.to_parquet(s), crackle.codec.to_parquet(s)
    assert ours.select(theirs.column_names).equals(theirs)
    for label in np.unique(a)[:3].tolist():
        inside = ck.select_enclosed_points(s, label, POINTS)
        np.testing.assert_array_equal(inside, a[tuple(POINTS.T)] == label)
        np.testing.assert_array_equal(inside, crackle.select_enclosed_points(s, label, POINTS))


def test_signed_labels():
    a = np.array([[-5, -5, 3], [-5, 0, 3]], np.int16)[:, :, None]
    s = ck.compress(np.asfortranarray(a))
    assert ck.voxel_counts(s) == {-5: 3, 0: 1, 3: 2}
    assert ck.contacts(s) == contacts_of(a)
    assert ck.scattered_points(s, [[1, 0, 0]]).tolist() == [-5]
    assert ck.bounding_boxes(s, -5) == (slice(0, 2), slice(0, 2), slice(0, 1))


def test_contacts_of_merged_labels():
    """crackle-codec finds a label beside itself where a merge left a border."""
    a = np.asfortranarray(np.array([1, 2, 3], np.uint8)[:, None, None])
    merged = ck.remap(ck.compress(a), {1: 3, 2: 3, 3: 3})
    assert (3, 3) in crackle.contacts(merged)
    assert ck.contacts(merged) == {}


def test_box_of_a_single_label():
    """crackle-codec's ends one behind the last voxel, in every axis."""
    s = ck.compress(np.full((4, 3, 2), 9, np.uint8, order="F"))
    assert ck.bounding_boxes(s, no_slice_conversion=True)[9].tolist() == [0, 0, 0, 3, 2, 1]
    assert ck.bounding_boxes(s) == {9: (slice(0, 4), slice(0, 3), slice(0, 2))}


@pytest.mark.parametrize("coding", CODINGS)
def test_labels_that_are_not_there(coding):
    _, s = labels_and_stream("bricks", coding, dtype="u2")
    for label in (999, 70_000, -1, 2**70):
        assert ck.z_range_for_label(s, label) == (-1, -1)
        for measure in (ck.voxel_counts, ck.centroids, ck.bounding_boxes, ck.point_cloud):
            with pytest.raises(ValueError, match="not contained"):
                measure(s, label)
        assert not ck.select_enclosed_points(s, label, POINTS).any()
        assert np.isinf(ck.signed_distance_to_boundary(s, label, POINTS)).all()


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 2, 0)])
def test_no_voxels(shape):
    s = ck.compress(np.zeros(shape, np.uint16, order="F"))
    assert ck.voxel_counts(s) == ck.centroids(s) == ck.bounding_boxes(s) == {}
    assert ck.contacts(s) == ck.point_cloud(s) == {}
    assert ck.voxel_connectivity_graph(s).shape == shape
    assert ck.array_equal(s, s)
    assert ck.structure_equal(s, s)
    assert ck.component_map(s, s) == {}
    assert ck.edge_labels(s) == set()
    assert ck.to_parquet(s).num_rows == 0


def test_points():
    a, s = labels_and_stream("blobs", "flat", order="C")
    rng = np.random.default_rng(0)
    points = np.stack([rng.integers(0, n, 100) for n in a.shape], axis=1)
    for dtype in (np.int64, np.uint16, np.uint8):
        found = ck.scattered_points(s, points.astype(dtype))
        assert found.dtype == a.dtype
        np.testing.assert_array_equal(found, a[tuple(points.T)])
    assert ck.scattered_points(s, np.zeros((0, 3), int)).shape == (0,)
    for bad in ([[0, 0, 9]], [[-1, 0, 0], [0, 0, 0]]):
        with pytest.raises(ValueError, match="out of range"):
            ck.scattered_points(s, bad)
    with pytest.raises(ValueError, match="shape"):
        ck.scattered_points(s, [1, 2, 3])
    with pytest.raises(ValueError, match="integers"):
        ck.scattered_points(s, [[0.5, 0, 0]])
    label = int(a[3, 4, 5])
    outside = [[3, 4, 5], [-1, 0, 0], [0, 0, 100], [3.5, 4.5, 5.5]]
    assert ck.select_enclosed_points(s, label, outside).tolist() == [True, False, False, True]


def test_signed_distance():
    a, s = labels_and_stream("blobs", "flat", (24, 20, 16))
    size = np.array([1.0, 2.0, 3.0])
    label = int(np.bincount(a.ravel()).argmax())
    points = np.argwhere(np.ones((6, 5, 4), bool)) * 4.0
    surface = np.argwhere(surface_of(a) & (a == label)) * size
    near = np.sqrt(((points[:, None] * size - surface[None]) ** 2).sum(axis=2)).min(axis=1)
    inside = a[tuple(points.astype(int).T)] == label
    wanted = np.where(inside, -(near + 1.0), near)
    for z_chunk in (3, 100):
        found = ck.signed_distance_to_boundary(s, label, points, size, z_chunk=z_chunk)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.sampled_from(CODINGS), st.data())
def test_two_streams(a, one, other, data):
    s, t = coded(a, one), coded(a, other)
    assert ck.array_equal(s, t)
    assert ck.structure_equal(s, t)
    assert ck.component_map(s, t) == {v: v for v in np.unique(a).tolist()}
    wide = ck.compress(a.astype(np.int64) if a.dtype != np.uint64 else a)
    assert ck.array_equal(s, wide)
    changed = a.copy()
    at = tuple(data.draw(st.integers(0, n - 1)) for n in a.shape)
    changed[at] += 1
    assert not ck.array_equal(s, ck.compress(changed))
    assert ck.array_equal(s, t) == crackle.array_equal(ck.compress(a), crackle.compress(a))
    coarse = a // 2
    assert ck.component_map(s, ck.compress(coarse)) == {v: v // 2 for v in np.unique(a).tolist()}


def test_structure():
    a = np.asfortranarray(np.array([[1, 1, 2], [3, 3, 2]], np.uint8)[:, :, None])
    b = a + 10
    assert ck.structure_equal(ck.compress(a), ck.compress(b))
    b[0, 2, 0] = 0
    assert not ck.structure_equal(ck.compress(a), ck.compress(b))
    assert not ck.structure_equal(ck.compress(a), ck.compress(a[:1]))
    assert not ck.array_equal(ck.compress(a), ck.compress(a[:1]))
    mostly = np.asfortranarray(np.array([5, 6, 6], np.uint8)[:, None, None])
    assert ck.component_map(ck.compress(mostly * 0), ck.compress(mostly)) == {0: 6}
    with pytest.raises(ValueError, match="shapes"):
        ck.component_map(ck.compress(a), ck.compress(a[:1]))


def test_equal_numbers_of_other_sign():
    high = np.full((2, 2, 1), 2**64 - 1, np.uint64)
    low = np.full((2, 2, 1), -1, np.int64)
    assert not ck.array_equal(ck.compress(high), ck.compress(low))
    assert ck.array_equal(ck.compress(high * 0), ck.compress(low * 0))


def test_point_cloud_options():
    a, s = labels_and_stream("bricks", "flat")
    a = a.copy()
    a[a % 3 == 0] = 0
    s = ck.compress(a)
    assert 0 not in ck.point_cloud(s)
    assert 0 in ck.point_cloud(s, skip_background=False)
    assert len(ck.point_cloud(s, 0))
    some = np.unique(a)[1:3].tolist()
    every = ck.point_cloud(s)
    picked = ck.point_cloud(s, some)
    assert list(picked) == some
    for label in some:
        np.testing.assert_array_equal(picked[label], every[label])
    for label, points in ck.point_cloud(s, z_start=2, z_end=5).items():
        z = every[label][:, 2]
        np.testing.assert_array_equal(points, every[label][(z >= 2) & (z < 5)])
    assert ck.point_cloud(s)[some[0]].dtype == np.uint16
    long = np.zeros((70_000, 1, 1), np.uint8, order="F")
    long[-1] = 1
    assert ck.point_cloud(ck.compress(long))[1].tolist() == [[69_999, 0, 0]]
    for z in ((-2, 3), (5, 2), (0, 99)):
        with pytest.raises(ValueError, match="z range"):
            ck.point_cloud(s, z_start=z[0], z_end=z[1])


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("order", "CF")
def test_each(coding, order):
    a, s = labels_and_stream("bricks", coding, order=order)
    boxes = boxes_of(a)
    images = ck.each(s)
    assert len(images) == len(boxes)
    for label, image in images:
        assert image.dtype == bool
        np.testing.assert_array_equal(image, (a == label)[boxes[label]])
    some = np.unique(a)[[1, 4]].tolist()
    assert [label for label, _ in ck.each(s, labels=[*some, 12345, -7])] == some
    for label, image in ck.each(s, crop=False, labels=some):
        np.testing.assert_array_equal(image, a == label)
    for label, number, image in ck.each(s, multi=True):
        np.testing.assert_array_equal(image == number, a == label)


def test_each_of_more_than_255():
    a, s = labels_and_stream("blobs", "flat", (30, 30, 20), "u4")
    a = np.arange(600, dtype=np.uint32).reshape(20, 30, order="F")[:, :, None]
    s = ck.compress(a)
    seen = [(v, n, image) for v, n, image in ck.each(s, multi=True)]
    assert len({id(image) for *_, image in seen}) == 3
    for label, number, image in seen:
        np.testing.assert_array_equal(image == number, a == label)


def test_damage_is_found():
    _, s = labels_and_stream("bricks", "flat")
    damaged = bytearray(s)
    damaged[-30] ^= 1  # the checksum of a slice
    for measure in (
        ck.voxel_counts, ck.centroids, ck.bounding_boxes, ck.contacts, ck.point_cloud,
        ck.voxel_connectivity_graph, ck.edge_labels, ck.connected_components,
    ):  # fmt: skip
        with pytest.raises(ck.FormatError, match="crc32c"):
            measure(damaged)
    with pytest.raises(ck.FormatError, match="crc32c"):
        ck.array_equal(s, damaged)


@pytest.mark.parametrize("coding", CODINGS)
def test_in_many_ranges(coding, monkeypatch):
    """Threads take ranges of slices, also where a volume is too small to be worth it."""
    monkeypatch.setattr("numcodecs_crackle.ranges.VOXELS_PER_THREAD", 1)
    a, s = labels_and_stream("blobs", coding, (20, 17, 23))
    check_measures(a, s, parallel=3)
    assert ck.contacts(s, parallel=3) == ck.contacts(s, parallel=1) == contacts_of(a)
    ours, wanted = ck.point_cloud(s, parallel=3), ck.point_cloud(s, parallel=1)
    assert ours.keys() == wanted.keys()
    assert all(np.array_equal(ours[k], wanted[k]) for k in ours)
    np.testing.assert_array_equal(
        ck.voxel_connectivity_graph(s, parallel=3), ck.voxel_connectivity_graph(s, parallel=1)
    )
    again = ck.recompress(s, parallel=3)
    assert again == ck.recompress(s, parallel=1)
    for p in (1, 3):
        assert ck.array_equal(s, again, p)
        assert ck.structure_equal(s, again, p)
        assert ck.component_map(s, again, p) == {v: v for v in np.unique(a).tolist()}
        assert ck.connected_components(s, parallel=p) == ck.connected_components(again)
        assert ck.reencode(s, 2, p) == ck.reencode(s, 2)
    changed = a.copy()
    changed[3, 4, 20] += 1
    assert not ck.array_equal(s, ck.compress(changed), 3)
