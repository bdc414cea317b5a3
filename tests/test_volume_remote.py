"""LabelVolume over HTTP and on S3: requests and bytes counted; edits in a bucket."""

from __future__ import annotations

import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import zarr
from conftest import blobs
from servers import HTTP_SERVERS, http_server, s3_server
from stored import stored

import numcodecs_crackle as ck
from numcodecs_crackle import partial
from numcodecs_crackle.volume import LabelVolume

SHAPE, CHUNK = (128, 96, 70), (128, 48, 64)
FIRST = f"bytes=0-{partial.FIRST_BYTES - 1}"


@pytest.fixture(scope="module")
def labels():
    return blobs(np.random.default_rng(2), SHAPE, cell=16).astype("u4")


def create(store, labels, **options):
    z = zarr.create_array(
        store, shape=SHAPE, chunks=CHUNK, dtype="u4", serializer=ck.CrackleCodec(),
        compressors=None, **options,
    )  # fmt: skip
    z[...] = labels
    return z


@pytest.fixture(scope="module", params=HTTP_SERVERS)
def web(request, labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    create(folder / "plain.zarr", labels)
    create(folder / "shards.zarr", labels, shards=(128, 96, 128))
    with http_server(folder, request.param) as server:
        yield server


def check(v, labels, server, sharded=False):
    """Answers, and what is asked of the server for them. Four chunks, two cut by the edge."""
    index = 4 * 16 + 4 if sharded else 0

    def asked():
        found = [r for r in server.requests if r.method == "GET"]
        server.clear()
        return found

    asked()
    label = int(labels[60, 20, 20])
    held = v.chunks_with(label, np.s_[:, :, :64])
    expected = [
        (0, i, 0) for i in range(2) if (labels[:, 48 * i : 48 * i + 48, :64] == label).any()
    ]
    assert held == expected
    requests = asked()
    assert len(requests) == 2 + sharded
    assert sum(r.bytes for r in requests) == 2 * partial.FIRST_BYTES + index
    if not sharded:
        assert {r.range for r in requests} == {FIRST}
    np.testing.assert_array_equal(v.labels(np.s_[:, :, :64]), np.unique(labels[:, :, :64]))
    assert sum(r.bytes for r in asked()) == 2 * partial.FIRST_BYTES + index
    np.testing.assert_array_equal(v.read(77), labels[77:78])
    requests = asked()
    assert len(requests) <= 4 * 4 + sharded
    quick = LabelVolume(v.array, verify=False)
    np.testing.assert_array_equal(quick.read(np.s_[77, :48, :64]), labels[77:78, :48, :64])
    requests = asked()
    assert len(requests) <= 4 + sharded
    size = len(ck.compress(np.asfortranarray(labels[:, :48, :64].T)))
    assert sum(r.bytes for r in requests) < partial.FIRST_BYTES + size / 20 + index
    counts = dict(zip(*(x.tolist() for x in np.unique(labels, return_counts=True)), strict=True))
    assert v.voxel_counts() == counts
    assert len(asked()) == 4 + sharded  # each chunk once
    assert v.bounding_boxes(label) == LabelVolume(v.array).bounding_boxes(label)


@pytest.mark.parametrize("name", ["plain", "shards"])
def test_over_http(web, labels, name):
    v = LabelVolume(f"{web.url}/{name}.zarr", mode="r")
    check(v, labels, web, name == "shards")
    with pytest.raises(PermissionError, match="read only"):
        v.remap({1: 2})


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.mark.parametrize("client", ["s3fs", "obstore"])
@pytest.mark.parametrize("sharded", [False, True])
def test_in_a_bucket(s3, labels, client, sharded):
    path = f"{client}-{sharded}.zarr"
    if client == "s3fs":
        where = {"store": s3.s3_url(path), "storage_options": s3.storage_options}
    else:
        where = {"store": s3.obstore(path)}
    z = create(labels=labels, **where, **({"shards": (128, 96, 128)} if sharded else {}))
    v = LabelVolume(z)
    check(v, labels, s3, sharded)
    label = int(labels[60, 20, 20])
    other = int(labels[60, 80, 20])
    edited = labels.copy()
    for mapping in ({label: other}, {other: 5000, 5000: other, 3: 5000}):
        before = edited.copy()
        for old, new in mapping.items():
            edited[before == old] = new
        s3.clear()
        edit = v.remap(mapping)
        written = [r for r in s3.requests if r.method == "PUT" and "/c/" in r.path]
        assert len(written) == len({one.key for one in edit.chunks})
        np.testing.assert_array_equal(z[...], edited)
    assert v.resume() is None
    assert not [key for key in v._store.list_objects("") if "crackle-edit" in key]
    v.recompress()
    np.testing.assert_array_equal(z[...], edited)


class Whole(SimpleHTTPRequestHandler):
    """A server that knows no ranges, and sends all there is."""

    def log_message(self, *args):
        pass


@pytest.mark.parametrize("name", ["plain", "shards", "Zarr 2, Zstd"])
def test_a_server_without_ranges(tmp_path, name):
    a, z = stored(name, tmp_path / "x.zarr")
    local = LabelVolume(z)
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Whole(*args, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/x.zarr/seg"
        v = LabelVolume(url, mode="r")
        region = np.s_[3:5, 2:9]
        np.testing.assert_array_equal(v.labels(region), np.unique(a[region]))
        np.testing.assert_array_equal(v.read(region), a[region])
        assert v.voxel_counts(region=region) == local.voxel_counts(region=region)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
