"""Stored arrays served as a precomputed layer: to cloud-volume, and what HTTP has of it."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from stored import labels_for
from test_precomputed import (
    PLACED,
    SHAPE,
    array_of,
    bytes_of,
    cloud_volume,
    ome,
    padded,
)
from zarr.storage import MemoryStore

import numcodecs_crackle as ck
from numcodecs_crackle.cli import main
from numcodecs_crackle.store import ChunkStore

WHOLE, EDGE, MISSING = "/1_1_1/0-16_0-16_8-16", "/1_1_1/32-37_16-30_16-20", "/1_1_1/0-16_0-16_0-8"


def ask(server, path, method="GET", **headers):
    """The status, the headers and the body of an answer."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    try:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@pytest.fixture
def plain():
    """Labels (z, y, x), their array, and its server."""
    a, z = array_of()
    with ck.serve(z) as server:
        yield a, z, server


@pytest.mark.parametrize(("chain", "edges"), [("plain", "pad"), ("gzip in shards", "clip")])
def test_cloud_volume_reads(chain, edges):
    a, z = array_of(chain, dtype="u8" if "shards" in chain else "u4")
    with ck.serve(z, edges=edges, **PLACED) as server:
        assert server.url == f"precomputed://http://127.0.0.1:{server.port}"
        vol = cloud_volume(server.url, fill_missing=True)
        assert vol.resolution.tolist() == [4, 4, 40] and vol.voxel_offset.tolist() == [10, -20, 3]
        expected = a.T if edges == "clip" else padded(a.T, (16, 16, 8))
        assert (np.asarray(vol[:, :, :])[..., 0] == expected).all()
        # What is changed is seen.
        z[3:9] = 11
        assert (np.asarray(vol[10:47, -20:10, 6:12])[..., 0] == 11).all()
        back = ck.from_precomputed(server.url, MemoryStore())
        assert (back[: SHAPE[0], : SHAPE[1], : SHAPE[2]] == z[...]).all()


def test_it_is_what_a_copy_has(tmp_path, plain):
    _, z, server = plain
    ck.to_precomputed(z, tmp_path / "layer")
    for path in (tmp_path / "layer").rglob("*"):
        if path.is_file():
            _, headers, body = ask(server, f"/{path.relative_to(tmp_path / 'layer').as_posix()}")
            assert body == path.read_bytes()
            assert headers["Content-Length"] == str(len(body))


def test_scales(tmp_path):
    a = labels_for((1, *SHAPE))
    group = zarr.create_group(tmp_path / "x.zarr")
    group.attrs.update(ome("0.5", [("0", [1, 40, 4, 4], [0] * 4), ("1", [1, 40, 8, 8], [0] * 4)],
                           "nanometer"))  # fmt: skip
    for name, labels in (("0", a), ("1", a[:, :, ::2, ::2])):
        group.create_array(
            name, data=labels, chunks=(1, 8, 16, 16), serializer=ck.CrackleCodec(), compressors=None
        )
    with ck.serve(tmp_path / "x.zarr") as server:
        for mip, labels in enumerate((a, a[:, :, ::2, ::2])):
            vol = cloud_volume(server.url, mip=mip)
            assert (np.asarray(vol[:, :, :])[..., 0] == labels[0].T).all()
        assert ask(server, "/8_8_40/0-16_0-15_0-8")[0] == 200
        assert ask(server, "/8_8_40/0-16_0-16_0-8")[0] == 404


def test_missing_chunks(plain):
    _, _, server = plain
    status, headers, body = ask(server, MISSING)
    assert status == 404 and headers["Access-Control-Allow-Origin"] == "*" and body
    # Where missing means another label they are made.
    a, z = array_of(fill_value=5, a=np.full(SHAPE, 5, "u4"))
    assert bytes_of(ChunkStore(z), (0, 0, 0)) is None
    with ck.serve(z) as server:
        assert (np.asarray(cloud_volume(server.url)[:, :, :])[..., 0] == a.T).all()


def test_info_and_headers(plain):
    _, _, server = plain
    status, headers, body = ask(server, "/info?x=1")
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert json.loads(body)["scales"][0]["key"] == "1_1_1"
    for name in ("Access-Control-Allow-Origin", "Vary", "Cache-Control", "Accept-Ranges"):
        assert headers[name]
    assert "Content-Range" in headers["Access-Control-Expose-Headers"]
    assert "Content-Encoding" not in headers
    status, headers, body = ask(
        server, WHOLE, "OPTIONS", Origin="https://x", Access_Control_Request_Headers="range",
        Access_Control_Request_Private_Network="true",
    )  # fmt: skip
    assert status == 204 and body == b""
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "GET" in headers["Access-Control-Allow-Methods"]
    assert headers["Access-Control-Allow-Headers"] == "Range"
    assert headers["Access-Control-Allow-Private-Network"] == "true"


def test_origin():
    _, z = array_of()
    with ck.serve(z, origin="https://here") as server:
        assert ask(server, "/info")[1]["Access-Control-Allow-Origin"] == "https://here"
    with pytest.raises(ValueError, match="single line"):
        ck.serve(z, origin="a\r\nSet-Cookie: b")


@pytest.mark.parametrize("chain", ["plain", "gzip"])
@pytest.mark.parametrize("path", ["/info", WHOLE, EDGE])
def test_head_and_ranges(chain, path):
    with ck.serve(array_of(chain)[1]) as server:
        for more in ({}, {"Accept_Encoding": "gzip"}):
            _, full, body = ask(server, path, **more)
            n = len(body)
            assert full["Content-Length"] == str(n) and n > 40
            status, headers, nothing = ask(server, path, "HEAD", **more)
            assert status == 200 and nothing == b""
            assert {k: v for k, v in headers.items() if k != "Date"} == {
                k: v for k, v in full.items() if k != "Date"
            }
            for text, a, b in (
                ("0-9", 0, 10), ("5-", 5, n), ("-7", n - 7, n), (f"{n - 1}-{n + 50}", n - 1, n),
                (f"-{n + 5}", 0, n), ("0-0", 0, 1),
            ):  # fmt: skip
                status, headers, part = ask(server, path, Range=f"bytes={text}", **more)
                assert status == 206 and part == body[a:b], text
                assert headers["Content-Range"] == f"bytes {a}-{b - 1}/{n}"
                assert headers.get("Content-Encoding") == full.get("Content-Encoding")
            for text in (f"{n}-", f"{n + 5}-{n + 9}", "-0"):
                status, headers, part = ask(server, path, Range=f"bytes={text}", **more)
                assert status == 416 and part == b"" and headers["Content-Range"] == f"bytes */{n}"
            for text in ("9-5", "-", "0-1,4-5", "x", "1 - 2", "9" * 40 + "-"):
                status, _, part = ask(server, path, Range=f"bytes={text}", **more)
                assert status == 200 and part == body, text


def test_gzip():
    _, z = array_of("gzip")
    store = ChunkStore(z)
    stream = bytes_of(store, (1, 0, 0))
    store.behind = ()
    packed = bytes_of(store, (1, 0, 0))
    with ck.serve(z) as server:
        for accept in ("gzip", "deflate, gzip;q=0.5", "*", "GZIP, br"):
            _, headers, body = ask(server, WHOLE, Accept_Encoding=accept)
            assert headers["Content-Encoding"] == "gzip" and body == packed
            _, headers, body = ask(server, EDGE, Accept_Encoding=accept)
            assert headers["Content-Encoding"] == "gzip"
            assert ck.header(gzip.decompress(body)).shape == (5, 14, 4)
        for more in ({}, {"Accept_Encoding": "identity"}, {"Accept_Encoding": "br, gzip;q=0"}):
            _, headers, body = ask(server, WHOLE, **more)
            assert "Content-Encoding" not in headers and body == stream


def test_other_paths_are_404(plain):
    for path in (
        "/", "/info/", "/./info", "/../info", "/%69nfo", "/info%00", "info", "/INFO",
        "/zarr.json", "/c/0/0/0", "/1_1_1", "/1_1_1/", "/1_1_1/../info", "/1_1_1/zarr.json",
        "/1_1_1//0-16_0-16_8-16", "/1_1_1/0-16_0-16_8-16/", "/1_1_1/0-16_0-16_8-16.gz",
        "/1_1_1/00-16_0-16_8-16", "/1_1_1/0-16_0-16_8-17", "/1_1_1/1-17_0-16_8-16",
        "/1_1_1/-16-0_0-16_8-16", "/1_1_1/48-64_0-16_8-16", "/1_1_1/0-16_0-16_24-32",
        "/1_1_1/0-16_0-16_8-16%20", "/1_1_1/" + "9" * 19 + "-16_0-16_8-16",
        "/1_1_1/" + "9" * 5000, "/2_1_1/0-16_0-16_8-16", "/x/1_1_1/0-16_0-16_8-16",
        "http://127.0.0.1/info", "*", "/1_1_1/0-16_0-16_8-1%D9%A6",
    ):  # fmt: skip
        status, headers, body = ask(plain[2], path)
        assert status == 404 and b"/" not in body, path
        assert headers["Access-Control-Allow-Origin"] == "*"


def test_other_methods(plain):
    _, z, server = plain
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "X" * 100):
        assert ask(server, WHOLE, method)[0] == 501
    assert bytes_of(ChunkStore(z), (1, 0, 0)) is not None


def test_what_is_no_http(plain):
    server = plain[2]
    for data in (b"\r\n\r\n", b"\0" * 100 + b"\r\n", b"GET /" + b"a" * 70_000, b"GET\r\n\r\n"):
        with socket.create_connection((server.host, server.port), 5) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert ask(server, "/info")[0] == 200


def test_damage_is_told(tmp_path, capfd):
    array_of(store=tmp_path / "z")
    (tmp_path / "z/c/1/0/0").write_bytes(b"crkl\1" + bytes(60))
    (tmp_path / "z/c/2/1/2").write_bytes(b"")
    for quiet in (True, False):
        with ck.serve(tmp_path / "z", quiet=quiet) as server:
            for path, key in ((WHOLE, b"c/1/0/0"), (EDGE, b"c/2/1/2")):
                status, _, body = ask(server, path)
                assert status == 500 and key in body
                assert ask(server, path, "HEAD")[0] == 500
            assert ask(server, "/1_1_1/16-32_0-16_8-16")[0] == 200
        said = capfd.readouterr().err
        assert ("c/1/0/0" in said) is not quiet
    # A store that fails does not say where it is.
    (tmp_path / "z/c/1/0/0").unlink()
    (tmp_path / "z/c/1/0/0").mkdir()
    with ck.serve(tmp_path / "z") as server:
        status, _, body = ask(server, WHOLE)
        assert status in (404, 500) and str(tmp_path).encode() not in body


def test_many_at_once(plain):
    from concurrent.futures import ThreadPoolExecutor

    a, _, server = plain
    paths = [WHOLE, EDGE, "/info", MISSING] * 30
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda path: ask(server, path)[0], paths))
    assert answers == [200, 200, 200, 404] * 30
    # Several on one connection.
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    for path, status in ((WHOLE, 200), (MISSING, 404), (EDGE, 200)):
        for method in ("HEAD", "GET"):
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == status and bool(body) == (method == "GET")
    assert (ck.decompress(body) == a.T[32:, 16:, 16:]).all()
    # It is hung up on when the server ends.
    server.close()
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.request("GET", WHOLE)
        connection.getresponse()
    connection.close()
    with pytest.raises(OSError):
        ask(server, "/info")


def test_refused():
    with pytest.raises(TypeError, match="not coded by Crackle"):
        ck.serve(zarr.create_array(MemoryStore(), shape=SHAPE, dtype="u4"))
    with ck.serve(array_of()[1]) as server, pytest.raises(OSError):
        ck.serve(array_of()[1], port=server.port)


# The commands.


def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a, _ = array_of("gzip", store="z.zarr")
    placed = ["--resolution", "4", "4", "40", "--voxel-offset", "10", "-20", "3"]
    assert main(["export", "z.zarr", "-o", "layer", *placed]) == 0
    assert capsys.readouterr().err == "layer: 17 chunks\n"
    assert (Path("layer/4_4_40") / "26-42_-20--4_11-19.gz").exists()
    assert main(["export", "z.zarr", "-o", "layer"]) == 1
    assert capsys.readouterr().err.endswith("layer exists: use --force to replace it\n")
    options = ["--no-gzip", "--edges", "pad", "--key", "k", "--write-missing", "-j", "2", "-q"]
    assert main(["export", "-f", "z.zarr", "-o", "layer", *options]) == 0
    assert capsys.readouterr().err == "" and len(list(Path("layer/k").iterdir())) == 18
    assert main(["import", "layer", "-o", "back.zarr"]) == 0
    assert capsys.readouterr().err == "back.zarr: 24 x 32 x 48 uint32\n"
    assert (zarr.open_array("back.zarr", mode="r")[:20, :30, :37] == a).all()
    assert main(["import", "layer", "-o", "back.zarr"]) == 1
    assert "back.zarr exists: use --force" in capsys.readouterr().err
    more = ["--scale", "k", "--zarr-format", "2", "-j", "1"]
    assert main(["import", "-f", "layer", "-o", "back.zarr", *more]) == 0
    assert zarr.open_array("back.zarr", mode="r").metadata.zarr_format == 2
    assert main(["import", "-f", "layer", "-o", "x", "--shards", "16", "32", "32"]) == 0
    assert zarr.open_array("x", mode="r").shards == (16, 32, 32)
    assert main(["import", "layer", "-o", "y", "--scale", "nine"]) == 1
    assert main(["export", "nothing", "-o", "y"]) == 1
    assert main(["export", "z.zarr"]) == 2
    assert main(["serve", "nothing"]) == 1


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_serve_command(tmp_path):
    a, _ = array_of(store=tmp_path / "z.zarr")
    with subprocess.Popen(
        [sys.executable, "-m", "numcodecs_crackle", "serve", "z.zarr", "--resolution", "4", "4",
         "40"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        # What a shell runs in the background ignores it, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        try:
            url = process.stdout.readline().strip()
            assert re.fullmatch(r"precomputed://http://127\.0\.0\.1:\d+", url)
            back = ck.from_precomputed(url, MemoryStore())
            assert (back[...] == a).all()
            assert back.attrs["precomputed"]["resolution"] == [4, 4, 40]
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0 and out == "" and err.strip() == ""
