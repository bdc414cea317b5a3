"""Stored arrays over HTTP, as a Neuroglancer precomputed layer, straight from their store."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Self

from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.precomputed_info import INFO, info_of
from numcodecs_crackle.precomputed_source import GZIP, Edges, Source, sources_of

__all__ = ["PrecomputedServer", "serve"]

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
# Seconds that a connection may be idle, or a client may take to ask.
_PATIENCE = 60


def serve(
    array: Any,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    resolution: Sequence[float] | None = None,
    voxel_offset: Sequence[int] | None = None,
    edges: Edges = "clip",
    key: str | None = None,
    origin: str = "*",
    quiet: bool = True,
) -> PrecomputedServer:
    """Serve stored arrays as a Neuroglancer precomputed layer, in threads of its own.

    Nothing is copied: each chunk is read when it is asked for, so that changes are seen.

    Parameters
    ----------
    array, resolution, voxel_offset, edges, key
        As of `to_precomputed`.
    host : str
        By default only programs on this machine can ask.
    port : int
        0: one that is free.
    origin : str
        The web page that may read the layer, such as "https://neuroglancer-demo.appspot.com";
        by default any that a browser on this machine shows.
    quiet : bool
        Say nothing on stderr of requests that fail.

    Returns
    -------
    PrecomputedServer
        Its ``url`` is what Neuroglancer and cloud-volume take. Ends with ``close()``, or with
        its ``with`` block.

    Raises
    ------
    TypeError, ValueError
        As `to_precomputed`.
    OSError
        If the port is taken.

    Notes
    -----
    GET and HEAD of ``info`` and of chunks are answered, with byte ranges. Where chunks are
    gzip'ed behind Crackle they are sent so to who takes that. What is not stored is 404, which
    Neuroglancer shows as 0; for cloud-volume say ``fill_missing=True``. A damaged chunk is 500.
    """
    if "\r" in origin or "\n" in origin:
        raise ValueError("an origin is a single line")
    return PrecomputedServer(
        sources_of(array, resolution, voxel_offset, edges, key), host, port, origin, quiet
    )


class PrecomputedServer:
    """A running server: see `serve`.

    Attributes
    ----------
    host, port
        Where it answers.
    """

    def __init__(
        self, sources: Sequence[Source], host: str, port: int, origin: str, quiet: bool
    ) -> None:
        self._server = _Server(sources, host, port, origin, quiet)
        self.host: str = host
        self.port: int = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="precomputed", daemon=True
        )
        self._thread.start()

    @property
    def http_url(self) -> str:
        """Where the layer is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def url(self) -> str:
        """The same for Neuroglancer and cloud-volume."""
        return f"precomputed://{self.http_url}"

    def wait(self) -> None:
        """Wait until it is closed; KeyboardInterrupt comes through."""
        while self._thread.is_alive():
            self._thread.join(1)

    def close(self) -> None:
        """Stop it, and hang up on who is connected."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    block_on_close = False

    def __init__(
        self, sources: Sequence[Source], host: str, port: int, origin: str, quiet: bool
    ) -> None:
        self.sources = {source.scale.key: source for source in sources}
        self.info = info_of(sources[0].store.dtype, [source.scale for source in sources])
        self.origin, self.quiet = origin, quiet
        self.connections: set[socket.socket] = set()
        # A chunk may be large: not as many at once as there are connections.
        self.free = threading.BoundedSemaphore(2 * (os.cpu_count() or 1) + 6)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not as HTTPServer has it, which may ask a name server for the name of the host.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def hang_up(self) -> None:
        for connection in self.connections.copy():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away as they like."""
        if not self.quiet and not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "numcodecs-crackle"
    sys_version = ""
    timeout = _PATIENCE
    # Head and body go out apart: without waiting for the other side to say that it has one.
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_OPTIONS(self) -> None:
        """What a browser asks before it asks."""
        self.send_response(HTTPStatus.NO_CONTENT)
        self._allow()
        self.send_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        self.send_header("Access-Control-Allow-Headers", "Range")
        self.send_header("Access-Control-Max-Age", "86400")
        if self.headers.get("Access-Control-Request-Private-Network") == "true":
            self.send_header("Access-Control-Allow-Private-Network", "true")
        self.end_headers()

    def _allow(self) -> None:
        self.send_header("Access-Control-Allow-Origin", self.server.origin)
        self.send_header(
            "Access-Control-Expose-Headers",
            "Accept-Ranges, Content-Encoding, Content-Length, Content-Range",
        )

    def _answer(self, with_body: bool) -> None:
        try:
            kind, data = self._found()
        except FormatError as error:
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, with_body, str(error))
            return
        except Exception as error:  # whatever stores raise
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, with_body, "the store can't be read")
            self.log_error("%s: %r", self.path[:200], error)
            return
        if data is None:
            self._fail(HTTPStatus.NOT_FOUND, with_body, "there is no such object")
            return
        part = _part(self.headers.get("Range") if with_body else None, len(data))
        if part is None:
            self._send(HTTPStatus.OK, kind, data, with_body)
            return
        a, b = part
        if a >= b:
            headers = {"Content-Range": f"bytes */{len(data)}"}
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "", b"", with_body, headers)
            return
        headers = {"Content-Range": f"bytes {a}-{b - 1}/{len(data)}"}
        zipped = data[:2] == GZIP
        self._send(HTTPStatus.PARTIAL_CONTENT, kind, data[a:b], with_body, headers, zipped)

    def _found(self) -> tuple[str, bytes | None]:
        """The kind and the bytes of what is asked for; None if there is no such object.

        The path is compared with names, and opens nothing.
        """
        path = self.path.partition("?")[0]
        if path == f"/{INFO}":
            return "application/json", self.server.info
        key, _, name = path[1:].rpartition("/")
        source = self.server.sources.get(key)
        place = None if source is None or path[:1] != "/" else source.scale.place(name)
        if source is None or place is None:
            return "", None
        with self.server.free:
            zipped = source.gzipped and self._takes_gzip()
            (data,) = source.read([source.chunk(place)], zipped)
        return "application/octet-stream", data

    def _takes_gzip(self) -> bool:
        for entry in self.headers.get("Accept-Encoding", "").lower().split(","):
            name, _, quality = entry.replace(" ", "").partition(";")
            if name in ("gzip", "*") and quality not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
                return True
        return False

    def _fail(self, status: HTTPStatus, with_body: bool, text: str) -> None:
        if status is not HTTPStatus.NOT_FOUND:
            self.log_error("%s: %s", self.path[:200], text)
        self._send(status, "text/plain; charset=utf-8", text.encode(), with_body)

    def _send(
        self,
        status: HTTPStatus,
        kind: str,
        data: bytes,
        with_body: bool,
        headers: dict[str, str] | None = None,
        zipped: bool | None = None,
    ) -> None:
        self.send_response(status)
        self._allow()
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-cache")  # what is stored may change
        self.send_header("Vary", "Accept-Encoding")
        self.send_header("X-Content-Type-Options", "nosniff")
        if kind:
            self.send_header("Content-Type", kind)
        if data[:2] == GZIP if zipped is None else zipped:
            self.send_header("Content-Encoding", "gzip")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Not each of thousands."""

    def log_message(self, format: str, *args: Any) -> None:
        if not self.server.quiet:
            text = format % args
            print(text.translate(_CONTROL), file=sys.stderr)


_CONTROL = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0))}


def _part(asked: str | None, size: int) -> tuple[int, int] | None:
    """The range [a, b) of a Range header, empty if there is none of it; None for all.

    Several ranges, and what is no range, are answered by all, as HTTP has it.
    """
    match = _RANGE.fullmatch(asked or "")
    if match is None or match.group(1, 2) == ("", ""):
        return None
    first, last = match.group(1, 2)
    if not first:
        return max(0, size - int(last)), size if int(last) else 0
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
