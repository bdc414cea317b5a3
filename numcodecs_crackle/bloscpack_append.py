"""Appending to a Bloscpack file, so that it can be read wherever that is interrupted."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from numcodecs_crackle.bloscpack_args import BloscArgs, MetadataArgs
from numcodecs_crackle.bloscpack_chunks import Chunks, read_fully, sealed
from numcodecs_crackle.bloscpack_format import Header, metadata_section
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.extras import progress_bar
from numcodecs_crackle.fileio import atomic_write

__all__ = ["append", "append_to"]


def append(
    orig_file: Any,
    new_file: Any,
    blosc_args: Mapping[str, Any] | None = None,
    metadata: Any = None,
    progress: bool = False,
) -> None:
    """Append what a file holds to a Bloscpack file, in place.

    Parameters
    ----------
    orig_file : path
        Of the Bloscpack file.
    new_file : path
        Of what is appended; it is packed here.
    blosc_args : BloscArgs or dict, optional
        For what is appended; what is None, or not there, is the default, and of the typesize
        what the file has. The checksum is that of the file.
    metadata : anything that JSON has, optional
        In place of what is stored there, in the room that was kept for it. The file is then
        copied, and replaced as a whole.
    progress : bool
        Show a progress bar.

    Raises
    ------
    FormatError
        If the file is damaged where it has to be read: its header, its offsets and its last
        chunk.
    ValueError
        If the file has no table of offsets, or too little room in it, or for the metadata; or
        was packed when it was empty, as then no chunk size is known. Nothing has changed.
    OSError
        If a file can't be read or written, or ``new_file`` shrinks while it is read.

    Notes
    -----
    If it is interrupted, by an error, a signal or a loss of power, this package reads what
    the file held before, or all; and appending again does it all. bloscpack, which doesn't go
    by the offsets, reads it, too, but for the moment when the last chunk, which was not full,
    is written anew. Others may read meanwhile, and one may append.
    """
    with open(new_file, "rb", buffering=0) as source:
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        with _opened(orig_file, metadata) as file:
            append_to(file, source, size, blosc_args, progress)


@contextmanager
def _opened(path: Any, metadata: Any) -> Iterator[Any]:
    if metadata is None:
        with open(path, "r+b") as file:
            yield file
        return
    with open(path, "rb") as old, atomic_write(path) as file:
        shutil.copyfileobj(old, file, 1 << 20)
        file.flush()
        _replace_metadata(file, metadata)
        yield file


def _replace_metadata(file: Any, metadata: Any) -> None:
    head = Chunks(file).metadata_header
    if head is None:
        raise ValueError("there is no room for metadata in a file that was packed without")
    args = MetadataArgs(meta_checksum=head.meta_checksum.name, max_meta_size=head.max_meta_size)
    section = metadata_section(metadata, args)
    file.seek(Header.SIZE)
    file.write(section)
    file.flush()


def _settled(file: Any) -> None:
    """Have all that was written on the disk before anything else is."""
    file.flush()
    with suppress(io.UnsupportedOperation, AttributeError):  # a file in memory
        os.fsync(file.fileno())


def append_to(
    file: Any,
    source: Any,
    size: int,
    blosc_args: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> None:
    """Append ``size`` bytes of a file object to a Bloscpack file, open to read and write.

    Raises what `append` does.
    """
    _Append(file, source, size, blosc_args).run(progress)


class _Append:
    """One append: what is there, and where the new chunks go.

    The file is one chunk behind the other, as bloscpack reads it. If the last chunk is full,
    new ones go behind it, then their offsets into the unused part of the table, and then the
    part of the header that says how many there are: until that is written, nothing has
    changed. A last chunk that is not full is to be written anew, longer, at the same place:

    1. the chunks behind it are written where they will be;
    2. the old one is copied behind them, and its offset leads there;
    3. the new one is written to its place, and the offset leads to it; its first bytes are
       those of the old one, and the header says that these are all;
    4. the header is written, and the copy cut off.

    An offset (8 bytes) and the header's part (20) are each one write, taken to be done or not.
    """

    def __init__(self, file: Any, source: Any, size: int, args: Mapping[str, Any] | None) -> None:
        self.file, self.source, self.size = file, source, size
        self.chunks = chunks = Chunks(file)
        head = self.head = chunks.header
        given = {key: value for key, value in (args or {}).items() if value is not None}
        if head.typesize > 0:  # as bloscpack has it: all chunks are of elements of that size
            given.setdefault("typesize", head.typesize)
        self.args = BloscArgs(**given)
        self.args.check()
        if not head.offsets or head.nchunks < 1:
            raise ValueError("a file without offsets can't be appended to: pack it again")
        if head.chunk_size < 1 or head.last_chunk < 1:
            raise ValueError("a file without a chunk size can't be appended to: pack it again")
        self.last = head.nchunks - 1
        self.fill = min(head.chunk_size - head.last_chunk, size)
        self.added = -(-(size - self.fill) // head.chunk_size)
        if self.added > head.max_app_chunks:
            raise ValueError(
                f"there is room for {head.max_app_chunks} more chunks, not for {self.added}"
            )

    def run(self, progress: bool) -> None:
        if not self.size:
            return
        head = self.head
        live, copy, place = self._put_right()
        renewed = b""
        if self.fill:
            data = bytearray(self.chunks.decode(self.last))
            data += self._read(self.fill)
            renewed = b"".join(sealed(data, self.args, head.checksum))
            if self.added and len(renewed) < live:
                # The next ones would be written over the old one: a full chunk that is not
                # compressed is never shorter.
                renewed = b"".join(sealed(data, replace(self.args, clevel=0), head.checksum))
        end, offsets = self._put_chunks(place + (len(renewed) or live), progress)
        self._write(self._entry(head.nchunks), np.array(offsets, "<i8").tobytes())
        if self.fill:
            behind = max(end, place + live)
            self._write(behind, copy)
            _settled(self.file)
            self._write_offset(behind)
            self._write(place, renewed)
            _settled(self.file)
            self._write_offset(place)
        else:
            _settled(self.file)
        rest = self.size - self.fill
        last = (rest - 1) % head.chunk_size + 1 if rest else head.last_chunk + self.fill
        new = replace(
            head,
            last_chunk=last,
            nchunks=head.nchunks + self.added,
            max_app_chunks=head.max_app_chunks - self.added,
        )
        self._write(Header.TAIL, new.tobytes()[Header.TAIL :])
        _settled(self.file)
        self.file.truncate(end)

    def _put_right(self) -> tuple[int, bytes, int]:
        """The bytes of the last chunk in the file, a copy of it, and its place.

        What an interrupted append left is put right: a chunk that is elsewhere is written to
        its place; of one that is longer than it should be the copy has what counts.
        """
        chunks, last = self.chunks, self.last
        head, view = chunks.sealed(last)
        copy, place = bytes(view), chunks.following(last)
        at = chunks.place(last)
        if at != place:
            if abs(at - place) < len(copy):
                raise FormatError("it overlaps with the one before", f"chunk {last}")
            self._write(place, copy)
            _settled(self.file)
            self._write_offset(place)
        elif head.nbytes > self.head.last_chunk:
            copy = b"".join(sealed(chunks.decode(last), self.args, self.head.checksum))
        return len(view), copy, place

    def _put_chunks(self, at: int, progress: bool) -> tuple[int, list[int]]:
        """Write the new chunks. Where they end, and where each begins."""
        left = self.size - self.fill
        offsets = []
        self.file.seek(at)
        for _ in progress_bar(range(self.added), progress, "chunks"):
            n = min(left, self.head.chunk_size)
            offsets.append(at)
            for part in sealed(self._read(n), self.args, self.head.checksum):
                self.file.write(part)
                at += len(part)
            left -= n
        return at, offsets

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        if read_fully(self.source, data) < size:
            raise OSError("what is appended has become shorter while it was read")
        return data

    def _entry(self, i: int) -> int:
        return self.chunks.offsets_at + 8 * i

    def _write_offset(self, place: int) -> None:
        self._write(self._entry(self.last), place.to_bytes(8, "little"))
        _settled(self.file)

    def _write(self, at: int, data: bytes) -> None:
        self.file.seek(at)
        self.file.write(data)
