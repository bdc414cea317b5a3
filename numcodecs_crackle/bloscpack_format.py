"""The Bloscpack format, version 3: its headers, checksums and metadata, to and from bytes.

A file is a header, perhaps a section of metadata, perhaps a table of offsets with room to
grow, and chunks: Blosc buffers, each with a checksum of its bytes behind it.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numcodecs_crackle.bloscpack_args import MetadataArgs
from numcodecs_crackle.errors import FormatError, UnsupportedError

__all__ = [
    "BLOSC_HEADER", "CHECKSUMS", "CODECS", "MOST_CHUNK", "BloscHeader", "Checksum", "Header",
    "MetadataHeader", "checksum_named", "metadata_from", "metadata_section",
]  # fmt: skip

MOST_CHUNK = 2**31 - 1 - 16  # what Blosc takes at once
MOST_CHUNKS = 2**63 - 1
# Of metadata, which is in memory as a whole: bytes of JSON, and the values in it, of which each
# takes some tens of bytes; and how many more of them each byte that is stored brings.
MOST_METADATA = 1 << 26
_FREE_METADATA, _METADATA_A_BYTE = 1 << 24, 16
_FREE_VALUES, _VALUES_A_BYTE = 1 << 18, 1
# No codec of Blosc makes more of a byte: Zstd's blocks of one repeated byte.
MOST_RATIO = 1 << 15
MAGIC = b"blpk"
_VERSION = 3
_OFFSETS, _METADATA = 1, 2
_HEADER = struct.Struct("<4s4Biiqq")
_META = struct.Struct("<8s4BIII8s")
_BLOSC = struct.Struct("<4BIII")
BLOSC_HEADER = _BLOSC.size
# By the number in the flags of a Blosc buffer: lz4hc is read as lz4.
CODECS = ("blosclz", "lz4", "snappy", "zlib", "zstd")
_META_CODECS = ("None", "zlib")


@dataclass(frozen=True)
class Checksum:
    """A checksum of the bytes of a chunk, or of metadata."""

    name: str
    size: int
    of: Callable[[Any], bytes]


def _hashed(name: str) -> Checksum:
    def of(data: Any) -> bytes:
        return hashlib.new(name, data, usedforsecurity=False).digest()

    return Checksum(name, hashlib.new(name, usedforsecurity=False).digest_size, of)


# In the order of their numbers.
CHECKSUMS = (
    Checksum("None", 0, lambda data: b""),
    Checksum("adler32", 4, lambda data: zlib.adler32(data).to_bytes(4, "little")),
    Checksum("crc32", 4, lambda data: zlib.crc32(data).to_bytes(4, "little")),
    *map(_hashed, ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")),
)


def checksum_named(name: str | None) -> Checksum:
    """A checksum by its name; None is "None". ValueError if there is none."""
    for checksum in CHECKSUMS:
        if checksum.name == str(name):
            return checksum
    names = ", ".join(c.name for c in CHECKSUMS)
    raise ValueError(f"the checksum must be one of {names}, not {name!r}")


def _numbered(kinds: tuple[Any, ...], number: int, what: str, section: str) -> Any:
    if number >= len(kinds):
        raise FormatError(f"there is no {what} of number {number}", section)
    return kinds[number]


@dataclass(frozen=True)
class Header:
    """The header of a file, by Bloscpack's names; sizes in bytes, -1 where it is not known."""

    offsets: bool
    metadata: bool
    checksum: Checksum
    typesize: int
    chunk_size: int
    last_chunk: int
    nchunks: int
    max_app_chunks: int = 0

    SIZE = _HEADER.size
    VERSION = _VERSION
    TAIL = 12  # from here on is what an append changes

    def tobytes(self) -> bytes:
        """The 32 bytes."""
        return _HEADER.pack(
            MAGIC,
            _VERSION,
            _OFFSETS * self.offsets | _METADATA * self.metadata,
            CHECKSUMS.index(self.checksum),
            self.typesize,
            self.chunk_size,
            self.last_chunk,
            self.nchunks,
            self.max_app_chunks,
        )

    @classmethod
    def frombytes(cls, data: Any) -> Header:
        """Read the header in the first bytes of a file. Raises `FormatError`."""
        section = "bloscpack header"
        if bytes(data[:4]) != MAGIC:
            raise FormatError("it does not begin with blpk", section)
        if len(data) < cls.SIZE:
            raise FormatError("it is cut off", section)
        _, version, options, checksum, typesize, chunk, last, n, room = _HEADER.unpack(
            data[: cls.SIZE]
        )
        if version != _VERSION:
            raise UnsupportedError(f"the version is {version}, not {_VERSION}", section)
        if options > (_OFFSETS | _METADATA):
            raise FormatError(f"the options {options:#x} are reserved", section)
        kind = _numbered(CHECKSUMS, checksum, "checksum", section)
        has = (bool(options & _OFFSETS), bool(options & _METADATA))
        head = cls(*has, kind, typesize, chunk, last, n, room)
        if not -1 <= chunk <= MOST_CHUNK:
            raise FormatError(f"a chunk can't have {chunk} bytes", section)
        if not -1 <= last <= (MOST_CHUNK if chunk == -1 else chunk):
            raise FormatError(f"the last chunk can't have {last} bytes of {chunk}", section)
        if n < -1 or room < 0 or n + room > MOST_CHUNKS:
            raise FormatError(f"there can't be {n} chunks, and room for {room}", section)
        if room and not (head.offsets and n >= 0):
            raise FormatError("there is room for offsets, and no offsets", section)
        if head.offsets and n == -1:
            raise FormatError("there are offsets of an unknown number", section)
        return head

    @property
    def noffsets(self) -> int:
        """The entries of the table of offsets, used or not."""
        return self.nchunks + self.max_app_chunks if self.offsets else 0


@dataclass(frozen=True)
class MetadataHeader:
    """The header of the section of metadata, by Bloscpack's names; sizes in bytes."""

    magic_format: bytes
    meta_options: int
    meta_checksum: Checksum
    meta_codec: str
    meta_level: int
    meta_size: int
    max_meta_size: int
    meta_comp_size: int
    user_codec: bytes = b""

    SIZE = _META.size

    def tobytes(self) -> bytes:
        """The 32 bytes."""
        return _META.pack(
            self.magic_format,
            self.meta_options,
            CHECKSUMS.index(self.meta_checksum),
            _META_CODECS.index(self.meta_codec),
            self.meta_level,
            self.meta_size,
            self.max_meta_size,
            self.meta_comp_size,
            self.user_codec,
        )

    @classmethod
    def frombytes(cls, data: Any) -> MetadataHeader:
        """Read the header of the section. Raises `FormatError`."""
        if len(data) < cls.SIZE:
            raise FormatError("it is cut off", "metadata")
        name, options, checksum, codec, level, size, most, packed, user = _META.unpack(
            data[: cls.SIZE]
        )
        if options:
            raise FormatError(f"the options {options:#x} are reserved", "metadata")
        kind = _numbered(CHECKSUMS, checksum, "checksum", "metadata")
        codec = _numbered(_META_CODECS, codec, "codec", "metadata")
        head = cls(
            name.rstrip(b"\0 "), options, kind, codec, level, size, most, packed, user.rstrip(b"\0")
        )
        if level > 9:
            raise FormatError(f"there is no level {level}", "metadata")
        if packed > most:
            raise FormatError(f"{packed} bytes are not in room for {most}", "metadata")
        if codec == "None" and packed != size:
            raise FormatError(f"{size} bytes can't be stored as {packed}", "metadata")
        return head

    @property
    def section_size(self) -> int:
        """The bytes of the whole section."""
        return self.SIZE + self.max_meta_size + self.meta_checksum.size


def _excess(size: int, stored: int, text: bytes = b"") -> str:
    """What is too much about metadata of so many bytes, by those that it is stored in."""
    most = min(MOST_METADATA, _FREE_METADATA + _METADATA_A_BYTE * stored)
    if size > most:
        return f"it has {size} bytes: {most} are the most"
    values = text.count(b",") + text.count(b"[") + text.count(b"{")
    most = _FREE_VALUES + _VALUES_A_BYTE * stored
    return f"it has {values} values: {most} are the most" if values > most else ""


def metadata_section(metadata: Any, args: MetadataArgs) -> bytes:
    """A section of metadata. TypeError or ValueError for what is no JSON, or has no room."""
    text = json.dumps(metadata, separators=(",", ":")).encode()
    if args.magic_format != b"JSON":
        raise ValueError(f"metadata is JSON, not {args.magic_format!r}")
    if str(args.meta_codec) not in _META_CODECS:
        raise ValueError(f"the codec of metadata must be None or zlib, not {args.meta_codec!r}")
    if not 0 <= args.meta_level <= 9:
        raise ValueError(f"the level must be 0 to 9, not {args.meta_level}")
    data, codec = text, "None"
    if args.meta_codec == "zlib":
        packed = zlib.compress(text, args.meta_level)
        if len(packed) < len(text):
            data, codec = packed, "zlib"
    if excess := _excess(len(text), len(data), text):
        raise ValueError(f"metadata can't be stored: {excess}")
    most = args.effective_max_meta_size(len(text))
    if not len(data) <= most < 1 << 32:
        raise ValueError(f"max_meta_size is {most}: the metadata takes {len(data)}")
    checksum = checksum_named(args.meta_checksum)
    head = MetadataHeader(b"JSON", 0, checksum, codec, args.meta_level, len(text), most, len(data))
    return head.tobytes() + data.ljust(most, b"\0") + checksum.of(data)


def metadata_from(head: MetadataHeader, data: Any, checksum: Any) -> Any:
    """What a section holds: its bytes that are used, and its checksum. Raises `FormatError`."""
    if head.magic_format != b"JSON":
        raise UnsupportedError(f"it is {head.magic_format!r}, not JSON", "metadata")
    if head.meta_checksum.of(data) != bytes(checksum):
        raise FormatError(f"it does not match its {head.meta_checksum.name}", "metadata")
    if excess := _excess(head.meta_size, len(data)):
        raise UnsupportedError(excess, "metadata")
    text = bytes(data)
    if head.meta_codec == "zlib":
        unpacker = zlib.decompressobj()
        try:  # a byte more than there should be, to see that there is none
            text = unpacker.decompress(text, head.meta_size + 1)
        except zlib.error as error:
            raise FormatError(f"zlib can't decode it: {error}", "metadata") from error
        if len(text) != head.meta_size or not unpacker.eof:
            raise FormatError(f"it does not have the {head.meta_size} bytes it says", "metadata")
    if excess := _excess(len(text), len(data), text):
        raise UnsupportedError(excess, "metadata")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"it is no JSON: {error}", "metadata") from error


@dataclass(frozen=True)
class BloscHeader:
    """The header of a Blosc buffer, by Bloscpack's names; sizes in bytes."""

    version: int
    versionlz: int
    flags: int
    typesize: int
    nbytes: int
    blocksize: int
    ctbytes: int

    @classmethod
    def frombytes(cls, data: Any, section: str) -> BloscHeader:
        """Read the header of a Blosc buffer, as far as it can be told to be right.

        Blosc itself is not told how long the buffer is, and goes by what stands here.
        """
        if len(data) < BLOSC_HEADER:
            raise FormatError("it is cut off", section)
        head = cls(*_BLOSC.unpack(data[:BLOSC_HEADER]))
        if head.version != 2:
            raise FormatError(f"it is no Blosc buffer of version 2, but {head.version}", section)
        if head.ctbytes < BLOSC_HEADER or head.ctbytes > MOST_CHUNK + BLOSC_HEADER:
            raise FormatError(f"a Blosc buffer can't have {head.ctbytes} bytes", section)
        if head.nbytes > min(MOST_CHUNK, (head.ctbytes - BLOSC_HEADER) * MOST_RATIO):
            raise FormatError(
                f"{head.ctbytes} bytes of Blosc can't hold {head.nbytes} bytes", section
            )
        if not head.typesize or not head.blocksize:
            raise FormatError("the type or the blocks have no bytes", section)
        most = head.nbytes + BLOSC_HEADER
        if head.ctbytes > most or (head.is_copy and head.ctbytes < most):
            raise FormatError(f"{head.nbytes} bytes don't take {head.ctbytes} of Blosc", section)
        return head

    @property
    def is_copy(self) -> bool:
        """Whether the bytes are not compressed."""
        return bool(self.flags & 2)

    def named_flags(self) -> dict[str, Any]:
        """The flags by Bloscpack's names."""
        codec = self.flags >> 5
        return {
            "byte_shuffle": bool(self.flags & 1),
            "pure_memcpy": self.is_copy,
            "bit_shuffle": bool(self.flags & 4),
            "split_blocks": bool(self.flags & 16),
            "codec": CODECS[codec] if codec < len(CODECS) else str(codec),
        }
