"""The index of a shard: where its chunks are. Of Zarr 3's ``sharding_indexed``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.errors import FormatError, UnsupportedError

__all__ = ["Form", "ShardIndex"]

_MISSING = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Form:
    """How an index is written."""

    per_shard: tuple[int, ...]
    at_start: bool
    big_endian: bool
    has_crc: bool

    @classmethod
    def of(cls, codec: Any, per_shard: tuple[int, ...]) -> Form:
        """That of a sharding codec. `UnsupportedError` for unusual codecs of the index."""
        codecs = [c.to_dict() for c in codec.index_codecs]
        names = [c["name"] for c in codecs]
        if names not in (["bytes"], ["bytes", "crc32c"]):
            raise UnsupportedError(f"an index coded by {names}", "shard index")
        location = getattr(codec.index_location, "value", codec.index_location)
        endian = codecs[0].get("configuration", {}).get("endian", "little")
        return cls(per_shard, location == "start", endian == "big", len(names) == 2)

    @property
    def count(self) -> int:
        return math.prod(self.per_shard)

    @property
    def nbytes(self) -> int:
        return 16 * self.count + 4 * self.has_crc

    def empty(self) -> ShardIndex:
        return ShardIndex(self, np.full((self.count, 2), _MISSING))

    def read(self, data: bytes) -> ShardIndex:
        """The index from its own bytes. Raises `FormatError`."""
        if len(data) != self.nbytes:
            raise FormatError("the index of the shard is cut off", "shard index")
        end = 16 * self.count
        if self.has_crc and _native.crc32c(data[:end]) != int.from_bytes(data[end:], "little"):
            raise FormatError("the index of the shard does not match its crc32c", "shard index")
        entries = np.frombuffer(data[:end], ">u8" if self.big_endian else "<u8").astype(np.uint64)
        entries = entries.reshape(-1, 2)
        there = ~(entries == _MISSING).all(axis=1)
        if (entries[there] >= np.uint64(2**62)).any():
            raise FormatError("a chunk has no place in any shard", "shard index")
        return ShardIndex(self, entries)

    def read_whole(self, shard: bytes) -> ShardIndex:
        """The index of a shard that is all there."""
        if len(shard) < self.nbytes:
            raise FormatError("the index of the shard is cut off", "shard index")
        at = 0 if self.at_start else len(shard) - self.nbytes
        return self.read(shard[at : at + self.nbytes])

    def write(self, entries: npt.NDArray[np.uint64]) -> bytes:
        data = entries.astype(">u8" if self.big_endian else "<u8").tobytes()
        return data + (_native.crc32c(data).to_bytes(4, "little") if self.has_crc else b"")


@dataclass
class ShardIndex:
    """Offset and bytes of each chunk of a shard, in C order."""

    form: Form
    entries: npt.NDArray[np.uint64]

    def range_of(self, within: tuple[int, ...]) -> tuple[int, int] | None:
        """[start, stop) of a chunk in the shard; None if it is not there."""
        place = int(np.ravel_multi_index(within, self.form.per_shard)) if within else 0
        offset, nbytes = self.entries[place]
        if offset == _MISSING and nbytes == _MISSING:
            return None
        return int(offset), int(offset) + int(nbytes)

    def rebuilt(self, shard: bytes, new: dict[tuple[int, ...], bytes]) -> bytes:
        """The shard with other bytes for some chunks; the order of the chunks stays.

        What no chunk has is dropped. Raises `FormatError` for places outside of the shard.
        """
        streams: dict[int, bytes] = {}
        there = np.flatnonzero(~(self.entries == _MISSING).all(axis=1))
        for place in there[np.argsort(self.entries[there, 0], kind="stable")].tolist():
            offset, nbytes = map(int, self.entries[place])
            if offset + nbytes > len(shard):
                raise FormatError("a chunk ends behind the shard", "shard index")
            streams[place] = shard[offset : offset + nbytes]
        if sum(map(len, streams.values())) > len(shard):
            raise FormatError("chunks overlap", "shard index")
        for within, data in new.items():
            streams[int(np.ravel_multi_index(within, self.form.per_shard)) if within else 0] = data
        entries = np.full((self.form.count, 2), _MISSING)
        at = self.form.nbytes if self.form.at_start else 0
        for place, data in streams.items():
            entries[place] = at, len(data)
            at += len(data)
        index = self.form.write(entries)
        body = b"".join(streams.values())
        return index + body if self.form.at_start else body + index
