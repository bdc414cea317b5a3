"""Real servers on this machine, that note what is asked of them: HTTP and S3."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Debian's nginx is where only root's PATH looks.
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

HTTP_SERVERS = [
    "aiohttp",
    pytest.param("nginx", marks=pytest.mark.skipif(NGINX is None, reason="there is no nginx")),
]


class Request(NamedTuple):
    """What was asked, and what was sent: bytes of the body."""

    method: str
    path: str
    range: str | None
    status: int
    bytes: int


class Noted:
    """A server's URL and the requests it has answered, in the order of their answers."""

    def __init__(self, url: str):
        self.url = url
        self._requests: list[Request] = []

    @property
    def requests(self) -> list[Request]:
        return list(self._requests)

    def clear(self) -> None:
        self._requests.clear()

    def bytes_sent(self, part: str = "") -> int:
        """Of paths that contain a text."""
        return sum(r.bytes for r in self.requests if part in r.path)


@contextlib.contextmanager
def http_server(folder: str | os.PathLike[str], kind: str = "aiohttp") -> Iterator[Noted]:
    """Serve a folder over HTTP, with byte ranges, by "aiohttp" or "nginx" (if it is there)."""
    with {"aiohttp": _aiohttp, "nginx": _nginx}[kind](Path(folder)) as server:
        yield server


@contextlib.contextmanager
def _aiohttp(folder: Path) -> Iterator[Noted]:
    from aiohttp import web

    noted = Noted("")
    up = threading.Event()
    failure: list[BaseException] = []
    stop: Any = None
    loop: Any = None

    async def note(request: Any, response: Any) -> None:
        # Before the body is sent, so that who has it all finds it noted.
        sent = 0 if request.method == "HEAD" else response.content_length or 0
        noted._requests.append(
            Request(
                request.method, request.path, request.headers.get("Range"), response.status, sent
            )
        )

    async def serve() -> None:
        nonlocal loop, stop
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.on_response_prepare.append(note)
        app.router.add_static("/", folder)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            noted.url = "http://{}:{}".format(*runner.addresses[0][:2])
            up.set()
            await stop.wait()
        finally:
            await runner.cleanup()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failure.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=run, name="aiohttp server")
    thread.start()
    up.wait()
    try:
        if failure:
            raise failure[0]
        yield noted
    finally:
        if not failure:
            loop.call_soon_threadsafe(stop.set)
        thread.join()


_NGINX_CONFIG = """
daemon off;
master_process off;
pid "{own}/pid";
error_log "{own}/error.log";
events {{ worker_connections 256; }}
http {{
    log_format noted "$request_method\t$uri\t$http_range\t$status\t$body_bytes_sent";
    access_log "{own}/access.log" noted;
    client_body_temp_path "{own}/body";
    proxy_temp_path "{own}/proxy";
    fastcgi_temp_path "{own}/fastcgi";
    uwsgi_temp_path "{own}/uwsgi";
    scgi_temp_path "{own}/scgi";
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        location / {{ root "{folder}"; }}
        location /-/ {{ return 204; }}
    }}
}}
"""


class _Nginx(Noted):
    """Requests from nginx's log.

    It writes a line after the answer is sent. As one process answers one event after the
    other, all lines of earlier answers are there once that of a marker is.
    """

    def __init__(self, port: int, log: Path):
        super().__init__(f"http://127.0.0.1:{port}")
        self._port, self._log, self._marks, self._seen = port, log, itertools.count(), 0

    def _mark(self) -> str:
        mark = f"/-/{next(self._marks)}"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", mark)
            connection.getresponse().read()
        finally:
            connection.close()
        return mark

    @property
    def requests(self) -> list[Request]:
        mark = self._mark()
        end = time.monotonic() + 5
        while f"\t{mark}\t" not in (text := self._log.read_text()):
            if time.monotonic() > end:
                raise TimeoutError("nginx has not written its log")
            time.sleep(0.002)
        lines = [line.split("\t") for line in text.splitlines()]
        return [
            Request(method, path, None if asked == "-" else asked, int(status), int(sent))
            for method, path, asked, status, sent in lines
            if not path.startswith("/-/")
        ][self._seen :]

    def clear(self) -> None:
        self._seen += len(self.requests)


@contextlib.contextmanager
def _nginx(folder: Path) -> Iterator[Noted]:
    if NGINX is None:
        raise FileNotFoundError("there is no nginx")
    with tempfile.TemporaryDirectory() as own:
        for _ in range(5):  # another may take the port meanwhile
            port = _free_port()
            config = Path(own, "nginx.conf")
            config.write_text(_NGINX_CONFIG.format(own=own, port=port, folder=folder.resolve()))
            process = subprocess.Popen(
                [NGINX, "-p", own, "-e", f"{own}/error.log", "-c", str(config)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                server = _Nginx(port, Path(own, "access.log"))
                if _answers(process, server):
                    yield server
                    return
            finally:
                process.terminate()
                process.wait()
        raise OSError(f"nginx does not start: {Path(own, 'error.log').read_text()}")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], server: _Nginx) -> bool:
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        try:
            server._mark()
        except OSError:
            time.sleep(0.01)
        else:
            return process.poll() is None
    return False


class S3(Noted):
    """A bucket, and what opens it."""

    bucket = "labels"
    _key, _secret, _region = "key", "secret", "us-east-1"

    @property
    def storage_options(self) -> dict[str, Any]:
        """For s3fs, and so for ``zarr.open_array(server.s3_url(path), storage_options=...)``."""
        return {
            "key": self._key,
            "secret": self._secret,
            "client_kwargs": {"endpoint_url": self.url, "region_name": self._region},
        }

    def s3_url(self, path: str) -> str:
        return f"s3://{self.bucket}/{path}"

    def obstore(self, path: str, read_only: bool = False) -> Any:
        """A store of zarr's over obstore's S3Store."""
        from obstore.store import S3Store
        from zarr.storage import ObjectStore

        store = S3Store(
            self.bucket, prefix=path, endpoint=self.url, region=self._region,
            access_key_id=self._key, secret_access_key=self._secret,
            client_options={"allow_http": True},
        )  # fmt: skip
        return ObjectStore(store, read_only=read_only)


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    """moto's S3 with an empty bucket."""
    from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            pass

    moto = DomainDispatcherApplication(create_backend_app)
    noted = S3("")

    def noting(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        status = ""

        def start(line: str, *rest: Any) -> Any:
            nonlocal status
            status = line
            return start_response(line, *rest)

        parts = moto(environ, start)
        try:
            # Taken whole before it is sent, so that who has it all finds it noted.
            body = b"".join(parts)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        noted._requests.append(
            Request(
                environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_RANGE"),
                int(status.split()[0]), len(body) if environ["REQUEST_METHOD"] != "HEAD" else 0,
            )
        )  # fmt: skip
        return [body]

    server = make_server("127.0.0.1", 0, noting, threaded=True, request_handler=Quiet)
    noted.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="S3 server")
    thread.start()
    try:
        _ask(server.server_port, "PUT", f"/{noted.bucket}")
        noted.clear()
        yield noted
    finally:
        # What moto keeps, it keeps for the whole process.
        _ask(server.server_port, "POST", "/moto-api/reset")
        server.shutdown()
        thread.join()


def _ask(port: int, method: str, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise OSError(f"{method} {path}: {answer.status}")
    finally:
        connection.close()
