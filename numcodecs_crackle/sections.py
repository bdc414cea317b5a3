"""A stream taken apart into its sections, and put together again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.stream import fits, opened


def raw(binary: Any) -> Any:
    """The bytes of a stream, or of what has one as its ``binary``."""
    return getattr(binary, "binary", binary)


@dataclass
class Sections:
    """A stream of format version 1, taken apart."""

    head: CrackleHeader
    index: npt.NDArray[np.uint32]  # bytes of each crack code
    table: npt.NDArray[Any]  # in the array's dtype
    background: Any  # of pins, else None
    rest: Any  # the bytes of the label section behind the table
    cracks: Any  # the Markov model and the crack codes
    crcs: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, binary: Any, parallel: int = 0) -> Sections:
        stream, head = opened(binary)
        data = memoryview(raw(binary)).cast("B")
        table, background = stream.unique()
        if head.voxels() == 0:
            none = np.zeros(0, np.uint32)
            return cls(replace(head, format_version=1), none, table, None, b"", b"", none)
        begin = head.header_bytes
        labels = begin + head.grid_index_bytes
        skip = 8 + table.nbytes + (0 if background is None else table.itemsize)
        end = labels + head.num_label_bytes
        index = np.frombuffer(data[begin : begin + 4 * head.sz], "<u4")
        cracks_end = len(data) - (4 * head.sz + 4 if head.format_version else 0)
        return cls(
            head=replace(head, format_version=1),
            index=index,
            table=table.astype(head.dtype, copy=False),
            background=None if background is None else background.astype(head.dtype)[0],
            rest=data[labels + skip : end],
            cracks=data[end:cracks_end],
            crcs=np.frombuffer(data[cracks_end + 4 :], "<u4")
            if head.format_version
            else stream.component_checksums(parallel),
        )

    def tobytes(self) -> bytes:
        """The stream."""
        return b"".join(self._pieces())

    def tobytearray(self) -> bytearray:
        """The same, to be edited in place."""
        return bytearray().join(self._pieces())

    def _pieces(self) -> tuple[Any, ...]:
        """The stream; its stored width and number of label bytes are found anew."""
        if self.head.voxels() == 0:
            return (replace(self.head, stored_data_width=1, num_label_bytes=0).tobytes(),)
        every = self.table if self.background is None else np.append(self.table, self.background)
        stored = stored_dtype(every.astype(self.head.dtype, copy=False))
        labels = b"".join(
            (
                b"" if self.background is None else np.asarray(self.background, stored).tobytes(),
                len(self.table).to_bytes(8, "little"),
                self.table.astype(stored).tobytes(),
                self.rest,
            )
        )
        head = replace(
            self.head,
            stored_data_width=stored.itemsize,
            num_label_bytes=len(labels),
            is_sorted=bool((self.table[:-1] <= self.table[1:]).all()),
        )
        index = self.index.astype("<u4").tobytes()
        crcs = self.crcs.astype("<u4").tobytes()
        return head.tobytes(), index, crc_bytes(index), labels, self.cracks, crc_bytes(labels), crcs

    @property
    def counts(self) -> npt.NDArray[Any]:
        """The number of components of each slice. Of flat labels, as are the keys."""
        width = byte_width(self.head.sx * self.head.sy)
        return np.frombuffer(self.rest, f"<u{width}", self.head.sz)

    @property
    def keys(self) -> npt.NDArray[Any]:
        """Each component's place in the table, checked."""
        width = byte_width(len(self.table))
        keys = np.frombuffer(self.rest, f"<u{width}", offset=self.counts.nbytes)
        if keys.size and int(keys.max()) >= len(self.table):
            raise FormatError("a component's key is not in the table of labels", "labels")
        return keys

    @property
    def model(self) -> bytes:
        """The Markov model, with which the crack codes begin."""
        return bytes(self.cracks[: self.head.num_markov_model_bytes])

    def set_labels(
        self, counts: npt.NDArray[Any], labels: npt.NDArray[Any], keys: npt.NDArray[Any]
    ) -> None:
        """Take these labels, by ``keys`` to them, sorted and each once; unused ones go."""
        used = np.zeros(len(labels), np.bool_)
        used[keys] = True
        self.table, place = np.unique(labels[used], return_inverse=True)
        rank = np.zeros(len(labels), f"<u{byte_width(len(self.table))}")
        rank[used] = place.reshape(-1)
        self.rest = counts.tobytes() + rank[keys].tobytes()


def crc_bytes(data: bytes) -> bytes:
    """The crc32c of a section, as streams store it."""
    return _native.crc32c(data).to_bytes(4, "little")


def byte_width(number: int) -> int:
    """The smallest of 1, 2, 4, 8 bytes that holds a number."""
    return next(w for w in (1, 2, 4, 8) if int(number) < 1 << 8 * w)


def stored_dtype(labels: npt.NDArray[Any]) -> np.dtype[Any]:
    """The narrowest dtype of the labels' kind that holds them, little-endian."""
    kind = labels.dtype.kind
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    for width in (1, 2, 4):
        dtype = np.dtype(f"<{kind}{width}")
        if fits(low, dtype) and fits(high, dtype):
            return dtype
    return np.dtype(f"<{kind}8")
