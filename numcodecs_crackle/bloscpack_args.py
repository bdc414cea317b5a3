"""The options of Bloscpack, by its names, and how an input is cut into chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from numcodecs import blosc

__all__ = ["BloscArgs", "BloscpackArgs", "MetadataArgs", "chunks_for", "size_in_bytes"]

_UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
A = TypeVar("A", bound="_Args")


def _tenfold(n: int) -> int:
    return 10 * n


class _Args(MutableMapping[str, Any]):
    """Options as attributes, and as a mapping from their names."""

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self:
            raise KeyError(name)
        setattr(self, name, value)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} can be set, not removed")

    def __contains__(self, name: object) -> bool:
        return name in tuple(self)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(fields(self))  # type: ignore[arg-type]

    def copy(self: A) -> A:
        """Options with the same values."""
        return replace(self)  # type: ignore[type-var]


@dataclass
class BloscArgs(_Args):
    """How Blosc compresses.

    Parameters
    ----------
    typesize : int
        Bytes of an element, which ``shuffle`` goes by; 1 to 255.
    clevel : int
        0, which copies, to 9.
    shuffle : bool
        Put the first bytes of all elements together, then the second ones, and so on.
    cname : str
        blosclz, lz4, lz4hc, zlib or zstd.
    """

    typesize: int = 8
    clevel: int = 7
    shuffle: bool | int = True
    cname: str = "blosclz"

    def check(self) -> None:
        """ValueError for options that Blosc doesn't take."""
        if not 1 <= self.typesize <= blosc.MAX_TYPESIZE:
            raise ValueError(f"typesize must be 1 to {blosc.MAX_TYPESIZE}, not {self.typesize}")
        if not 0 <= self.clevel <= 9:
            raise ValueError(f"clevel must be 0 to 9, not {self.clevel}")
        if self.shuffle not in (blosc.NOSHUFFLE, blosc.SHUFFLE, blosc.BITSHUFFLE):
            raise ValueError(f"shuffle must be False, True or 2 for bits, not {self.shuffle!r}")
        if self.cname not in blosc.list_compressors():
            names = ", ".join(blosc.list_compressors())
            raise ValueError(f"cname must be one of {names}, not {self.cname!r}")

    def pack(self, data: Any) -> bytes:
        """A Blosc buffer of some bytes."""
        packed: bytes = blosc.compress(
            data, self.cname.encode(), self.clevel, int(self.shuffle), 0, self.typesize
        )
        return packed


@dataclass
class BloscpackArgs(_Args):
    """What is stored with the chunks.

    Parameters
    ----------
    offsets : bool
        A table of where they are, without which nothing can be appended.
    checksum : str or None
        Of each chunk: None, adler32, crc32, md5, sha1, sha224, sha256, sha384 or sha512.
    max_app_chunks : int, or function from the number of chunks to an int
        Room in that table for chunks that are appended later.
    """

    offsets: bool = True
    checksum: str | None = "adler32"
    max_app_chunks: int | Callable[[int], int] = _tenfold

    def room(self, nchunks: int) -> int:
        """The chunks that can be appended to as many."""
        if not self.offsets:
            return 0
        most = self.max_app_chunks
        room = most(nchunks) if callable(most) else most
        if not isinstance(room, int):
            raise TypeError(f"max_app_chunks must be an int or a function, not {room!r}")
        if not 0 <= room < 2**63 - nchunks:
            raise ValueError(f"max_app_chunks can't be {room}")
        return room


@dataclass
class MetadataArgs(_Args):
    """How metadata is stored.

    Parameters
    ----------
    magic_format : bytes
        b"JSON".
    meta_checksum : str
        As of chunks.
    meta_codec : str
        zlib, where it makes the metadata smaller, or None.
    meta_level : int
        0 to 9.
    max_meta_size : int, or function from the bytes of the metadata to an int
        Bytes that are kept for it, so that it can grow.
    """

    magic_format: bytes = b"JSON"
    meta_checksum: str | None = "adler32"
    meta_codec: str | None = "zlib"
    meta_level: int = 6
    max_meta_size: int | Callable[[int], int] = _tenfold

    def effective_max_meta_size(self, meta_size: int) -> int:
        """The bytes that are kept for metadata of so many."""
        return self.max_meta_size(meta_size) if callable(self.max_meta_size) else self.max_meta_size


def size_in_bytes(text: str) -> int:
    """Bytes of a size such as 1M, 0.5G or 4096. ValueError for other texts."""
    number, unit = (text[:-1], text[-1]) if text[-1:].upper() in _UNITS else (text, "B")
    try:
        return int(float(number) * _UNITS[unit.upper()])
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a size such as 1M, 512K or max") from None


def chunks_for(size: int, chunk_size: int | str, typesize: int = 1) -> tuple[int, int, int]:
    """How many chunks an input has, their size, and that of the last; all in bytes.

    Parameters
    ----------
    size : int
        Of the input.
    chunk_size : int or str
        As wanted: bytes, or a text such as "1M" or "max".
    typesize : int
        Chunks are some whole elements of so many bytes.

    Raises
    ------
    ValueError
        For a chunk size that Blosc doesn't take.
    """
    most: int = blosc.MAX_BUFFERSIZE
    if isinstance(chunk_size, str):
        wanted = most if chunk_size == "max" else size_in_bytes(chunk_size)
    else:
        wanted = chunk_size
    if not isinstance(wanted, int):
        raise TypeError(f"chunk_size must be an int or a str, not {wanted!r}")
    if not 1 <= wanted <= most:
        raise ValueError(f"chunk_size must be 1 to {most} bytes, not {wanted}")
    wanted = max(wanted // typesize, 1) * typesize
    if wanted >= size:
        return 1, size, size
    nchunks = -(-size // wanted)
    return nchunks, wanted, size - wanted * (nchunks - 1)
