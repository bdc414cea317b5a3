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
        numbers = np.frombuffer(data[:end], ">u8" if self.big_endian else "<u8").astype(np.uint64)
        entries = numbers.reshape(-1, 2)
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

    def rebuilt(self, shard: bytes, new: dict[tuple[int, ...], bytes], pack: bool = False) -> bytes:
        """The shard with other bytes for some chunks.

        All that the index names stays where it is, what is replaced, too, unless the new
        bytes are as many: a reader that has read this index finds what it names. New bytes go
        to where no chunk is, or behind all. With ``pack`` chunks close up instead, and what
        no chunk has is dropped. Raises `FormatError` for places outside of the shard, and for
        chunks that overlap.
        """
        first = self.form.nbytes if self.form.at_start else 0
        last = len(shard) if self.form.at_start else max(0, len(shard) - self.form.nbytes)
        entries = self.entries.copy()
        there = entries[~(entries == _MISSING).all(axis=1)].astype(np.int64)
        there = there[np.argsort(there[:, 0], kind="stable")]
        starts = np.append(there[:, 0], max(first, last))
        stops = np.append(first, there.sum(axis=1))
        if (stops > starts).any():
            raise FormatError("chunks overlap, or stand out of the shard", "shard index")
        holes = [[a, b] for a, b in zip(stops.tolist(), starts.tolist(), strict=True) if b > a]
        body = bytearray(shard[:last]).ljust(first, b"\0")
        if pack:
            body, holes = bytearray(first), []
            order = np.argsort(entries[:, 0], kind="stable")  # those that are missing last
            for place in order[: len(there)].tolist():
                offset, nbytes = map(int, entries[place])
                data = new.get(tuple(map(int, np.unravel_index(place, self.form.per_shard))))
                data = shard[offset : offset + nbytes] if data is None else data
                entries[place] = len(body), len(data)
                body += data
        for within, data in new.items():
            place = int(np.ravel_multi_index(within, self.form.per_shard)) if within else 0
            if int(entries[place, 1]) == len(data) and entries[place, 0] != _MISSING:
                at = int(entries[place, 0])
            else:
                hole = next((h for h in holes if h[1] - h[0] >= len(data)), None)
                at = len(body) if hole is None else hole[0]
                if hole is not None:
                    hole[0] += len(data)
            body[at : at + len(data)] = data
            entries[place] = at, len(data)
        index = self.form.write(entries)
        if self.form.at_start:
            body[:first] = index
            return bytes(body)
        return bytes(body) + index
