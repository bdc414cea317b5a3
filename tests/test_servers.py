"""Arrays read over HTTP and from S3: what comes back, and what moves for it."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import numpy as np
import pytest
import zarr
from conftest import blobs
from servers import HTTP_SERVERS, http_server, s3_server
from test_partial import pipeline  # noqa: F401

import numcodecs_crackle as ck
from numcodecs_crackle import partial

SHAPE, CHUNK = (128, 90, 70), (128, 90, 64)


@pytest.fixture(scope="module")
def labels():
    return blobs(np.random.default_rng(2), SHAPE, cell=16).astype("u4")


def create(store, zarr_format=3, **options):
    if zarr_format == 3:
        options |= {"serializer": ck.CrackleCodec(), "compressors": None}
    else:
        options |= {"compressors": ck.Crackle()}
    return zarr.create_array(
        store, shape=SHAPE, chunks=CHUNK, dtype="u4", zarr_format=zarr_format, **options
    )


@pytest.fixture(scope="module")
def folder(labels, tmp_path_factory):
    """A folder with the labels as v2.zarr and v3.zarr."""
    folder = tmp_path_factory.mktemp("served")
    for zarr_format in (2, 3):
        create(folder / f"v{zarr_format}.zarr", zarr_format)[...] = labels
    return folder


@pytest.fixture(scope="module", params=HTTP_SERVERS)
def web(request, folder):
    with http_server(folder, request.param) as server:
        yield server


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


def asked_for(data, zs):
    """The ranges of a chunk that some of its slices take, and their bytes."""
    plan, ranges = partial.slices_of(np.array(zs, np.intp)), []
    wanted = next(plan)
    try:
        while True:
            ranges += wanted
            wanted = plan.send([data[a:b] for a, b in wanted])
    except StopIteration:
        return [(f"bytes={a}-{b - 1}", len(data[a:b])) for a, b in ranges]


def check_one_slice(z, labels, server, data):
    """Of the left chunk, whose bytes are given: reads what the plan says and no more."""
    table = ck.header(data).num_label_bytes
    assert len(data) > 6 * table
    for index, zs in (
        (77, [77]),
        (slice(30, 34), [30, 31, 32, 33]),
        (slice(0, 121, 60), [0, 60, 120]),
    ):
        server.clear()
        np.testing.assert_array_equal(z[index, 5:60, :50], labels[index, 5:60, :50])
        asked = server.requests
        assert {(r.method, r.path[-8:], r.status) for r in asked} == {("GET", "/c/0/0/0", 206)}
        assert sorted((r.range, r.bytes) for r in asked) == sorted(asked_for(data, zs))
        assert server.bytes_sent() < table + len(zs) * len(data) / 10


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_over_http(web, labels, folder, zarr_format):
    z = zarr.open_array(f"{web.url}/v{zarr_format}.zarr", mode="r")
    web.clear()
    np.testing.assert_array_equal(z[...], labels)
    chunks = ("c/0/0/0", "c/0/0/1") if zarr_format == 3 else ("0.0.0", "0.0.1")
    paths = [f"/v{zarr_format}.zarr/{chunk}" for chunk in chunks]
    sizes = [(folder / path[1:]).stat().st_size for path in paths]
    assert sorted(web.requests) == [
        ("GET", path, None, 200, size) for path, size in zip(paths, sizes, strict=True)
    ]


@pytest.mark.usefixtures("pipeline")
def test_one_slice_over_http(web, labels, folder):
    z = zarr.open_array(f"{web.url}/v3.zarr", mode="r")
    check_one_slice(z, labels, web, (folder / "v3.zarr/c/0/0/0").read_bytes())


def test_no_chunk_over_http(web, folder):
    create(folder / "empty.zarr", fill_value=9, overwrite=True)
    z = zarr.open_array(f"{web.url}/empty.zarr", mode="r")
    web.clear()
    assert (z[3, :, :20] == 9).all()
    assert [r[:4] for r in web.requests] == [
        ("GET", "/empty.zarr/c/0/0/0", f"bytes=0-{partial.FIRST_BYTES - 1}", 404)
    ]


def place(s3, client, path):
    """What opens a path of the bucket."""
    if client == "s3fs":
        return {"store": s3.s3_url(path), "storage_options": s3.storage_options}
    return {"store": s3.obstore(path)}


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize("client", ["s3fs", "obstore"])
def test_a_bucket(s3, labels, client):
    create(**place(s3, client, "a.zarr"), overwrite=True)[...] = labels
    z = zarr.open_array(**place(s3, client, "a.zarr"), mode="r")
    s3.clear()
    np.testing.assert_array_equal(z[...], labels)
    # s3fs asks for sizes besides.
    chunks = sorted(r for r in s3.requests if r.method == "GET")
    expected = [("GET", f"/labels/a.zarr/c/0/0/{i}", None, 200) for i in (0, 1)]
    assert [r[:4] for r in chunks] == expected
    data = ck.compress(np.asfortranarray(labels[..., :64].T))
    assert chunks[0].bytes == len(data)
    check_one_slice(z, labels, s3, data)


@pytest.mark.parametrize("client", ["s3fs", "obstore"])
def test_no_chunk_in_a_bucket(s3, client):
    z = create(**place(s3, client, "b.zarr"), overwrite=True, fill_value=9)
    assert (z[3, :, :20] == 9).all()


@pytest.fixture(params=[*HTTP_SERVERS, "s3"])
def any_server(request, tmp_path):
    """A server, and the path at which it has the bytes of range(200)."""
    (tmp_path / "x").write_bytes(bytes(range(200)))
    if request.param == "s3":
        with s3_server() as server:
            ask(
                server,
                "PUT",
                f"/{server.bucket}/x",
                body=bytes(range(200)),
                **{"x-amz-acl": "public-read"},
            )
            server.clear()
            yield server, f"/{server.bucket}/x"
    else:
        with http_server(tmp_path, request.param) as server:
            yield server, "/x"


def ask(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_what_is_noted(any_server):
    server, path = any_server
    assert server.requests == []
    whole = bytes(range(200))
    for asked, sent in (
        (None, whole),
        ("bytes=10-19", whole[10:20]),
        ("bytes=190-999", whole[190:]),
    ):
        headers = {} if asked is None else {"Range": asked}
        status = 200 if asked is None else 206
        assert ask(server, "GET", path, **headers) == (status, sent)
        assert server.requests[-1] == ("GET", path, asked, status, len(sent))
    assert len(server.requests) == 3
    assert server.bytes_sent() == server.bytes_sent("x") == 220
    assert server.bytes_sent("y") == 0
    server.clear()
    assert server.requests == []
    assert ask(server, "HEAD", path) == (200, b"")
    status, sent = ask(server, "GET", path + "y")
    assert status == 404
    status, beyond = ask(server, "GET", path, Range="bytes=200-300")
    assert status == 416
    assert server.requests == [
        ("HEAD", path, None, 200, 0),
        ("GET", path + "y", None, 404, len(sent)),
        ("GET", path, "bytes=200-300", 416, len(beyond)),
    ]


def test_servers_end(tmp_path):
    with http_server(tmp_path) as one, s3_server() as two:
        pass
    for server in (one, two):
        with pytest.raises(ConnectionRefusedError):
            ask(server, "GET", "/")
