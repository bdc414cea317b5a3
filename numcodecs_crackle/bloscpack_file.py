"""A Bloscpack file as what it holds: a file that is read, and one that is written."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from numcodecs_crackle.bloscpack_args import BloscArgs
from numcodecs_crackle.bloscpack_chunks import Chunks, sealed
from numcodecs_crackle.bloscpack_format import CHECKSUMS, Header

__all__ = ["BloscpackFile", "BloscpackWriter"]

_KEPT_BYTES = 1 << 23
_KEPT_EACH = 1 << 9  # what Python takes for a chunk, besides its bytes
# Of files that are read in parts: small enough that a part is one, or a few.
STREAM_CHUNK = 1 << 15
STREAM_ARGS = BloscArgs(typesize=1, clevel=5, shuffle=False, cname="zstd")
_PIECE = 1 << 20


class BloscpackFile(io.BufferedIOBase):
    """What a Bloscpack file holds, as a file that is read from any place.

    Parameters
    ----------
    source : path, buffer, or file object that can seek
        An object is read with ``seek()`` and ``read()`` from its first byte; it stays open.

    Raises
    ------
    FormatError
        If the header is damaged; when a chunk is read, if that is: it is named.

    Notes
    -----
    A read decodes the chunks that it touches, and verifies their checksums. The chunks read
    last are kept, up to 8 MiB and at least one. Threads take turns.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self._owned: Any = None
        if isinstance(source, (str, os.PathLike)):
            source = self._owned = open(source, "rb", buffering=0)  # noqa: SIM115
        self._at = 0
        self._lock = threading.RLock()
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._kept_bytes = 0
        try:
            self.chunks: Chunks = Chunks(source)
        except BaseException:
            self.close()
            raise

    @property
    def header(self) -> Header:
        """The header."""
        return self.chunks.header

    @property
    def metadata(self) -> Any:
        """What was stored beside the data; None if nothing was."""
        return self.chunks.metadata

    @property
    def size(self) -> int:
        """Bytes of what the file holds."""
        return self.chunks.size

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; as of other files, that may be behind the end."""
        self._check_open()
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        with self._lock:
            base = (0, self._at, self.size if whence == io.SEEK_END else 0)[whence]
            if base + offset < 0:
                raise ValueError(f"there is no place {base + offset}")
            self._at = base + offset
            return self._at

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _decoded(self, i: int) -> Any:
        if i in self._kept:
            self._kept.move_to_end(i)
            return self._kept[i]
        chunk = self._kept[i] = self.chunks.decode(i)
        self._kept_bytes += len(chunk) + _KEPT_EACH
        while len(self._kept) > 1 and self._kept_bytes > _KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1]) + _KEPT_EACH
        return chunk

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as there is something to read. Raises `FormatError`."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        with self._lock:
            n = max(0, min(len(view), self.size - self._at))
            done = 0
            while done < n:
                done += len(self._next(n - done, view[done:n]))
            return done

    def _next(self, n: int, out: Any = None) -> Any:
        """Up to ``n`` of the next bytes, those of one chunk; in ``out`` if that is given."""
        i, start, stop = self._where(self._at)
        if start == self._at and stop - start <= n and i not in self._kept:
            part = self.chunks.decode(i, None if out is None else out[: stop - start])
        else:
            part = self._decoded(i)[self._at - start :][:n]
            if out is not None:
                out[: len(part)] = part
        self._at += len(part)
        return part

    def _where(self, place: int) -> tuple[int, int, int]:
        """The chunk with a byte, and where its bytes begin and end."""
        if self.chunks.is_uniform:
            i = place // self.header.chunk_size
        else:
            i = int(np.searchsorted(self.chunks.starts, place, "right")) - 1
        return i, *self.chunks.span(i)

    def readinto1(self, buffer: Any) -> int:
        """As `readinto`."""
        return self.readinto(buffer)

    def read(self, size: int | None = -1) -> bytes:
        """``size`` bytes, or all that is left; fewer where the file ends."""
        self._check_open()
        with self._lock:
            left = max(0, self.size - self._at)
            n = left if size is None or size < 0 else min(size, left)
            parts = []
            while n:  # memory is taken chunk by chunk, as far as there are chunks
                parts.append(self._next(n))
                n -= len(parts[-1])
            return b"".join(parts)

    def read1(self, size: int = -1) -> bytes:
        """As `read`, but by default some bytes rather than all."""
        return self.read(_PIECE if size < 0 else size)

    def close(self) -> None:
        """Close it, and the source if that was a path."""
        if not self.closed:
            self._kept.clear()
            if self._owned is not None:
                self._owned.close()
        super().close()


class BloscpackWriter(io.BufferedIOBase):
    """Packs what is written to it, however much that will be.

    Parameters
    ----------
    file : file object that is read and written, and can seek
        Empty; it stays open.

    Notes
    -----
    The table of offsets stands before the chunks, and how long it is is known at the end: they
    are then moved to make room for it.
    """

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file
        self._checksum = CHECKSUMS[1]
        self._buffer = bytearray()
        self._offsets: list[int] = []
        self._end = Header.SIZE
        self._last = 0
        file.seek(self._end)

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any) -> int:
        """Pack bytes. Returns how many they are."""
        view = memoryview(data).cast("B")
        at = 0
        if self._buffer:
            at = min(STREAM_CHUNK - len(self._buffer), len(view))
            self._buffer += view[:at]
            if len(self._buffer) == STREAM_CHUNK:
                self._put(self._buffer)
                self._buffer = bytearray()
        while len(view) - at >= STREAM_CHUNK:
            self._put(view[at : at + STREAM_CHUNK])
            at += STREAM_CHUNK
        self._buffer += view[at:]
        return len(view)

    def _put(self, data: Any) -> None:
        packed, checksum = sealed(data, STREAM_ARGS, self._checksum)
        self._file.write(packed)
        self._file.write(checksum)
        self._offsets.append(self._end)
        self._end += len(packed) + len(checksum)
        self._last = len(data)

    def _shift(self, by: int) -> None:
        """Move all behind the header, from the last piece to the first."""
        at = self._end
        while at > Header.SIZE:
            size = min(_PIECE, at - Header.SIZE)
            at -= size
            self._file.seek(at)
            piece = self._file.read(size)
            self._file.seek(at + by)
            self._file.write(piece)

    def finish(self) -> None:
        """Write what is left, and what stands before the chunks."""
        if self._buffer or not self._offsets:
            self._put(self._buffer)
        n = len(self._offsets)
        size = STREAM_CHUNK if n > 1 else self._last
        self._shift(8 * n)
        head = Header(True, False, self._checksum, STREAM_ARGS.typesize, size, self._last, n)
        self._file.seek(0)
        self._file.write(head.tobytes() + (np.array(self._offsets, "<i8") + 8 * n).tobytes())

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self.finish()
        super().__exit__(*error)
