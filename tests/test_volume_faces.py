"""Contacts and surfaces over the borders of chunks, against numpy on the whole array."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from stored import LAYOUTS, stored
from test_volume import regions

import numcodecs_crackle as ck
from numcodecs_crackle.volume import LabelVolume

FLAT = [name for name in LAYOUTS if name != "4D"]


@pytest.fixture(params=FLAT)
def both(request):
    a, z = stored(request.param)
    return a.view("u1") if a.dtype == bool else a, LabelVolume(z)


def contacts_of(a):
    """(smaller, larger) -> faces along each axis."""
    result = {}
    for axis in range(a.ndim):
        one, other = (a.take(range(*r), axis) for r in ((0, a.shape[axis] - 1), (1, a.shape[axis])))
        differ = (one != other) & (one != 0) & (other != 0)
        for x, y in zip(one[differ].tolist(), other[differ].tolist(), strict=True):
            pair = (min(x, y), max(x, y))
            result.setdefault(pair, np.zeros(a.ndim))[axis] += 1
    return result


def surface_of(a):
    """Voxels with another label, or the outside, behind a face."""
    mask = np.zeros(a.shape, bool)
    for axis in range(a.ndim):
        if a.shape[axis] == 1:
            continue
        part = np.moveaxis(mask, axis, 0)
        b = np.moveaxis(a, axis, 0)
        part[0] = part[-1] = True
        part[1:] |= b[1:] != b[:-1]
        part[:-1] |= b[1:] != b[:-1]
    return mask


def test_contacts(both):
    a, v = both
    for region in regions(a.shape, 5):
        part = a if region is None else a[region]
        expected = contacts_of(part)
        first, second, faces = v.contact_faces(region=region)
        assert list(zip(first.tolist(), second.tolist(), strict=True)) == sorted(expected)
        for pair, row in zip(sorted(expected), faces, strict=True):
            np.testing.assert_array_equal(row, expected[pair])
        some = np.unique(part)[1::3].tolist()
        sizes = np.arange(2, 2 + a.ndim).astype(float)
        weights = [np.prod(np.delete(sizes, axis)) for axis in range(a.ndim)]
        found = v.contacts(some, region, sizes)
        assert found == {
            pair: row @ weights for pair, row in expected.items() if set(pair) & set(some)
        }
    with pytest.raises(ValueError, match="anisotropy"):
        v.contacts(anisotropy=[1.0] * 7)


def test_point_cloud(both):
    a, v = both
    mask = surface_of(a)
    for region in regions(a.shape, 5):
        inside = np.zeros(a.shape, bool)
        inside[... if region is None else region] = True
        labels = np.unique(a[inside]).tolist()
        found = v.point_cloud(region=region, skip_background=False)
        expected = {label: np.argwhere(mask & inside & (a == label)) for label in labels}
        assert set(found) == {label for label, points in expected.items() if len(points)}
        for label, points in found.items():
            np.testing.assert_array_equal(points, expected[label])
            assert points.dtype == np.uint16
        assert 0 not in v.point_cloud(region=region)
        if not labels:
            continue
        some = labels[::4]
        clouds = v.point_cloud([*some, 9999], region)
        assert set(clouds) == {label for label in some if len(expected[label])}
        for label, points in clouds.items():
            np.testing.assert_array_equal(points, expected[label])
        np.testing.assert_array_equal(v.point_cloud(some[0], region), expected[some[0]])
    with pytest.raises(ValueError, match="Label 9999 not contained"):
        v.point_cloud(9999)


@pytest.mark.parametrize("shape", [(9, 1, 8), (1, 9, 8), (9, 8, 1), (9, 1, 1), (1, 1, 9)])
def test_point_cloud_of_axes_that_the_array_cuts_short(shape):
    a = np.ones(shape, np.uint8)
    a.flat[0] = 2
    z = zarr.create_array(
        {}, data=a, chunks=(4, 3, 5), serializer=ck.CrackleCodec(), compressors=None
    )
    surface = surface_of(a)
    for label, points in LabelVolume(z).point_cloud().items():
        np.testing.assert_array_equal(points, np.argwhere(surface & (a == label)))


def test_four_axes_are_refused():
    _, z = stored("4D")
    for ask in (LabelVolume(z).contacts, LabelVolume(z).point_cloud):
        with pytest.raises(ValueError, match="more than 3 axes"):
            ask()


def test_damage():
    a, z = stored("whole chunks")
    v = LabelVolume(z)
    stream = v._store.get_object("c/1/0/0")
    v._store.put_object("c/1/0/0", stream[:-3])
    for ask in (v.contacts, v.point_cloud):
        with pytest.raises(ck.FormatError, match="chunk c/1/0/0"):
            ask()
    lenient = LabelVolume(z, on_error="skip")
    with pytest.warns(UserWarning, match="left out"):
        found = lenient.contacts()
    a[8:, :6, :5] = 0
    assert found == {pair: row.sum() for pair, row in contacts_of(a).items()}
    with pytest.warns(UserWarning, match="left out"):
        clouds = lenient.point_cloud(skip_background=False)
    mask = surface_of(a)
    mask[8:, :6, :5] = False
    np.testing.assert_array_equal(
        np.concatenate(list(clouds.values())).shape, np.argwhere(mask).shape
    )
