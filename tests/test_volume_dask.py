"""Work sent to processes of a real dask cluster."""

from __future__ import annotations

import numpy as np
import pytest
from stored import stored

from numcodecs_crackle.volume import LabelVolume

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("layout", ["plain", "shards", "Zarr 2, Zstd"])
def test_a_cluster(client, tmp_path, layout):
    a, z = stored(layout, tmp_path / "x.zarr")
    here = LabelVolume(z)
    v = LabelVolume(z, executor=client.get_executor())
    np.testing.assert_array_equal(v.labels(), np.unique(a))
    label = int(np.unique(a)[3])
    assert v.chunks_with(label) == here.chunks_with(label)
    for one, other in zip(v.statistics(), here.statistics(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert v.contacts() == here.contacts()
    np.testing.assert_array_equal(v.point_cloud(label), here.point_cloud(label))
    for one, other in zip(v.mask(label), here.mask(label), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(v.read(np.s_[2:11]), a[2:11])
    swap = {label: 3, 3: label, 5: 4}
    edit = v.remap(swap)
    assert edit.chunks
    b = a.copy()
    for old, new in swap.items():
        b[a == old] = new
    np.testing.assert_array_equal(z[...], b)
    v.recompress()
    np.testing.assert_array_equal(z[...], b)


def test_an_index_and_new_arrays(client, tmp_path):
    _, z = stored("shards", tmp_path / "x.zarr")
    here = LabelVolume(z)
    v = LabelVolume(z, executor=client.get_executor())
    assert v.build_index(tmp_path / "index") == 6 * 4 * 2
    for one, other in zip(v.statistics(), here.statistics(), strict=True):
        np.testing.assert_array_equal(one, other)
    for make in ("connected_components", "downsample"):
        found = getattr(v, make)(tmp_path / f"{make}.zarr")
        expected = getattr(here, make)(tmp_path / f"{make}-here.zarr")
        np.testing.assert_array_equal(found[...], expected[...])


def test_an_array_in_memory(client):
    """Is sent along; its edits would be lost."""
    a, z = stored("plain")
    v = LabelVolume(z, executor=client.get_executor())
    np.testing.assert_array_equal(v.labels(), np.unique(a))
    with pytest.raises(ValueError, match="in memory can't be edited by other processes"):
        v.remap({5: 6})
