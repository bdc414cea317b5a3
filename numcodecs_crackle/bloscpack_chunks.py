"""The chunks of a Bloscpack file: where each is, and what it holds; and writing them."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numcodecs import blosc

from numcodecs_crackle.bloscpack_args import BloscArgs
from numcodecs_crackle.bloscpack_format import (
    BLOSC_HEADER,
    MOST_CHUNK,
    MOST_RATIO,
    BloscHeader,
    Checksum,
    Header,
    MetadataHeader,
    metadata_from,
)
from numcodecs_crackle.errors import FormatError

__all__ = ["Chunks", "Ranges", "in_order", "read_fully", "sealed"]

_PIECE = 1 << 24
# Up to this many bytes of a chunk, threads have chunks of their own: Blosc shares out only
# the blocks of one, which may be one block.
_MOST_SHARED = 1 << 25
_LEAST_SHARED = 1 << 20  # and below this many in all, threads cost more than they bring
R = TypeVar("R")


def in_order(jobs: Iterable[Callable[[], R]], size: int, chunk_size: int) -> Iterator[R]:
    """The results of jobs on the chunks of ``size`` bytes, on as many threads as Blosc may have.

    Jobs are taken from ``jobs`` a few ahead of the results. Where ``blosc.use_threads`` is False,
    as zarr sets it, that says nothing of these threads: each codes a chunk by itself.
    """
    threads = blosc.get_nthreads()
    if threads <= 1 or chunk_size > _MOST_SHARED or size < _LEAST_SHARED:
        for job in jobs:
            yield job()
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def read_fully(file: Any, buffer: Any) -> int:
    """Fill a writable buffer from a file as far as there is something; how far that is."""
    view = memoryview(buffer).cast("B")
    filled = 0
    readinto = getattr(file, "readinto", None)
    while filled < len(view):
        if readinto is not None:
            n = readinto(view[filled:]) or 0
        else:  # an object with read() alone
            part = file.read(min(len(view) - filled, _PIECE))
            n = len(part)
            view[filled : filled + n] = part
        if not n:
            break
        filled += n
    return filled


class Ranges:
    """Bytes at their places: of a buffer, or of a file that can seek, from its first byte.

    Of a file one thread at a time reads.
    """

    def __init__(self, source: Any) -> None:
        self._view: memoryview | None = None
        if hasattr(source, "read"):
            if not (hasattr(source, "seek") and getattr(source, "seekable", lambda: True)()):
                raise io.UnsupportedOperation("Bloscpack files are read from files that can seek")
            self._file = source
            self._lock = threading.Lock()
            end = source.seek(0, io.SEEK_END)
            self.size: int = source.tell() if end is None else end
        else:
            self._view = memoryview(source).cast("B")
            self.size = len(self._view)

    def at(self, start: int, size: int, section: str) -> Any:
        """``size`` bytes from ``start`` on. FormatError if they are not all there."""
        if start < 0 or size < 0 or start + size > self.size:
            raise FormatError("it is cut off", section)
        if self._view is not None:
            return self._view[start : start + size]
        data = np.empty(size, np.uint8).data
        with self._lock:
            self._file.seek(start)
            if read_fully(self._file, data) < size:
                raise FormatError("it is cut off", section)
        return data


def sealed(data: Any, args: BloscArgs, checksum: Checksum) -> tuple[bytes, bytes]:
    """A Blosc buffer of some bytes, and its checksum."""
    packed = args.pack(data)
    return packed, checksum.of(packed)


class Chunks:
    """The chunks of a Bloscpack file.

    Parameters
    ----------
    source : buffer, or file object that can seek

    Raises
    ------
    FormatError
        If header or offsets say what can't be; of a chunk when it is read.

    Notes
    -----
    Nothing is allocated that the length of the file does not back. Chunks are found by their
    offsets; where these are missing, or -1, by going from one to the next.
    """

    def __init__(self, source: Any) -> None:
        self.ranges: Ranges = Ranges(source)
        ranges = self.ranges
        head = Header.frombytes(ranges.at(0, min(Header.SIZE, ranges.size), ""))
        self.header: Header = head
        self.metadata_header: MetadataHeader | None = None
        self.offsets_at: int = Header.SIZE
        if head.metadata:
            data = ranges.at(Header.SIZE, MetadataHeader.SIZE, "metadata")
            self.metadata_header = MetadataHeader.frombytes(data)
            self.offsets_at += self.metadata_header.section_size
        self.first: int = self.offsets_at + 8 * head.noffsets
        if self.first > ranges.size:
            raise FormatError("there is no room for what the header says", "offsets")
        least = BLOSC_HEADER + head.checksum.size
        if head.nchunks > (ranges.size - self.first) // least:
            raise FormatError(f"there is no room for {head.nchunks} chunks", "bloscpack header")
        self._walked = [self.first]  # where chunks are, one behind the other
        self._offsets: npt.NDArray[np.int64] | None = None
        self._starts: npt.NDArray[np.int64] | None = None
        self._lock = threading.RLock()
        self.count: int = self._counted() if head.nchunks == -1 else head.nchunks
        self.is_uniform: bool = head.chunk_size != -1
        if self.is_uniform:
            self._check_total(self.size)

    @property
    def metadata(self) -> Any:
        """What the section of metadata holds; None if there is none. Raises `FormatError`."""
        head = self.metadata_header
        if head is None:
            return None
        start = Header.SIZE + MetadataHeader.SIZE
        data = self.ranges.at(start, head.meta_comp_size, "metadata")
        checksum = self.ranges.at(start + head.max_meta_size, head.meta_checksum.size, "metadata")
        return metadata_from(head, data, checksum)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """The offsets of the chunks, -1 where one is not known; none if there is no table."""
        if self._offsets is None:
            n = self.header.nchunks if self.header.offsets else 0
            data = self.ranges.at(self.offsets_at, 8 * n, "offsets")
            offsets = np.frombuffer(data, "<i8")
            # Header and table have no checksum; but chunks begin where the table ends.
            if n > 1 and offsets[0] not in (-1, self.first):
                raise FormatError("it does not end where the first chunk begins", "offsets")
            self._offsets = offsets
        return self._offsets

    def _check_total(self, size: int) -> None:
        """FormatError for more bytes than can be packed in the file."""
        if size > self.ranges.size * MOST_RATIO:
            raise FormatError(
                f"{self.ranges.size} bytes can't hold {size} bytes", "bloscpack header"
            )

    # ---- where chunks are ----

    def place(self, i: int) -> int:
        """Where a chunk begins in the file."""
        if self.header.offsets:
            offset = int(self.offsets[i])
            if offset != -1:
                if not self.first <= offset <= self.ranges.size - BLOSC_HEADER:
                    raise FormatError(f"its offset is {offset}", f"chunk {i}")
                return offset
        with self._lock:
            while len(self._walked) <= i:
                at = self._walked[-1]
                head = self._head_at(at, len(self._walked) - 1)
                self._walked.append(at + head.ctbytes + self.header.checksum.size)
            return self._walked[i]

    def _head_at(self, place: int, i: int) -> BloscHeader:
        section = f"chunk {i}"
        return BloscHeader.frombytes(self.ranges.at(place, BLOSC_HEADER, section), section)

    def blosc_header(self, i: int) -> BloscHeader:
        """The header of a chunk's Blosc buffer."""
        return self._head_at(self.place(i), i)

    def _counted(self) -> int:
        """The chunks up to the end of the file."""
        n = 0
        while self.place(n) < self.ranges.size:
            n += 1
        return n

    # ---- which bytes they hold ----

    def _expected(self, i: int) -> tuple[int, int]:
        """The fewest and the most bytes that a chunk may hold."""
        head = self.header
        most = MOST_CHUNK if head.chunk_size == -1 else head.chunk_size
        if i == self.count - 1 and head.last_chunk != -1:
            return head.last_chunk, head.last_chunk
        return (0 if -1 in (head.chunk_size, head.last_chunk) else most), most

    def _last_size(self) -> int:
        if self.header.last_chunk != -1:
            return self.header.last_chunk
        last = self.count - 1
        place = self.place(last)
        head = self._head_at(place, last)
        self._check_size(head, last, place)
        return head.nbytes

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where chunks of several sizes begin, and where the last ends: all headers are read."""
        if self._starts is None:
            sizes = [self.blosc_header(i).nbytes for i in range(self.count)]
            if sizes and self.header.last_chunk != -1:
                sizes[-1] = min(sizes[-1], self.header.last_chunk)
            self._check_total(sum(sizes))
            self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        return self._starts

    @cached_property
    def size(self) -> int:
        """The bytes of what is packed."""
        if not self.is_uniform:
            return int(self.starts[-1])
        return self.header.chunk_size * (self.count - 1) + self._last_size() if self.count else 0

    def span(self, i: int) -> tuple[int, int]:
        """Where the bytes of a chunk begin in what is packed, and where they end."""
        size = self.header.chunk_size
        if size == -1:
            return int(self.starts[i]), int(self.starts[i + 1])
        return i * size, self.size if i == self.count - 1 else i * size + size

    def __len__(self) -> int:
        return self.count

    # ---- reading ----

    def _check_size(self, head: BloscHeader, i: int, place: int) -> None:
        low, high = self._expected(i)
        if not low <= head.nbytes <= high and not self._is_being_appended_to(head, i, place):
            raise FormatError(f"it holds {head.nbytes} bytes, not {high}", f"chunk {i}")

    def following(self, i: int) -> int:
        """Where a chunk begins if it follows on the one before."""
        if not i:
            return self.first
        return self.place(i - 1) + self.blosc_header(i - 1).ctbytes + self.header.checksum.size

    def _is_being_appended_to(self, head: BloscHeader, i: int, place: int) -> bool:
        """Whether an append was interrupted when the last chunk was written anew.

        It is then longer than the header says, its first bytes are what it held before, and
        a copy of that is behind all.
        """
        return (
            self.header.offsets
            and i == self.count - 1
            and 0 <= self.header.last_chunk < head.nbytes <= self.header.chunk_size
            and place + head.ctbytes + self.header.checksum.size < self.ranges.size
            and place == self.following(i)
        )

    def sealed(self, i: int) -> tuple[BloscHeader, Any]:
        """A chunk's Blosc buffer and its checksum, which was verified.

        Raises
        ------
        FormatError
            Naming the chunk, if it is cut off, of another size, or damaged.
        """
        section, checksum = f"chunk {i}", self.header.checksum
        place = self.place(i)
        # All at once where the next one's offset, or the end of the file, says how much it is.
        guess = self._stop(i) - place
        most = MOST_CHUNK if self.header.chunk_size == -1 else self.header.chunk_size
        if not BLOSC_HEADER <= guess <= most + BLOSC_HEADER + checksum.size:
            guess = BLOSC_HEADER
        data = self.ranges.at(place, guess, section)
        head = BloscHeader.frombytes(data, section)
        self._check_size(head, i, place)
        size = head.ctbytes + checksum.size
        if size > len(data):
            data = self.ranges.at(place, size, section)
        view = memoryview(data)[:size]
        if checksum.of(view[: head.ctbytes]) != view[head.ctbytes :]:
            raise FormatError(f"it does not match its {checksum.name}", section)
        return head, view

    def _stop(self, i: int) -> int:
        """Where a chunk and its checksum end, if all is as it mostly is."""
        if i + 1 == self.count:
            return self.ranges.size
        if self.header.offsets:
            return int(self.offsets[i + 1])
        return self._walked[i + 1] if i + 1 < len(self._walked) else -1

    def decode(self, i: int, out: Any = None) -> Any:
        """The bytes of a chunk.

        Parameters
        ----------
        i : int
        out : writable memoryview of bytes, optional
            To decode into: of the chunk's size.

        Returns
        -------
        memoryview
            ``out`` if it was given.
        """
        head, view = self.sealed(i)
        size = head.nbytes
        if i == self.count - 1 and self.header.last_chunk != -1:
            size = self.header.last_chunk
        if out is not None and len(out) != size:
            raise FormatError(f"it holds {size} bytes, not {len(out)}", f"chunk {i}")
        direct = out is not None and size == head.nbytes
        whole = out if direct else np.empty(head.nbytes, np.uint8).data
        if head.nbytes:
            try:
                blosc.decompress(view[: head.ctbytes], whole)
            except RuntimeError as error:
                raise FormatError(f"Blosc can't decode it: {error}", f"chunk {i}") from error
        if out is None:
            return whole[:size]
        if not direct:
            out[:] = whole[:size]
        return out

    def __iter__(self) -> Iterator[Any]:
        """The bytes of each chunk, which are there until the next is asked for."""
        free: list[Any] = []  # fresh memory for each would cost as much as unpacking it

        def job(i: int) -> tuple[Any, Any]:
            start, stop = self.span(i)
            try:
                buffer = free.pop()
            except IndexError:
                buffer = memoryview(b"")
            if len(buffer) < stop - start:
                head = self.blosc_header(i)  # before memory is taken for what it says
                self._check_size(head, i, self.place(i))
                buffer = np.empty(stop - start, np.uint8).data
            return buffer, self.decode(i, buffer[: stop - start])

        jobs = (partial(job, i) for i in range(self.count))
        for buffer, data in in_order(jobs, self.size, self.header.chunk_size):
            yield data
            free.append(buffer)
