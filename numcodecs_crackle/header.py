"""The header of a Crackle stream."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from numcodecs_crackle import _native
from numcodecs_crackle.errors import FormatError

__all__ = ["CrackFormat", "CrackleHeader", "LabelFormat"]


class LabelFormat(IntEnum):
    """How components get their labels."""

    FLAT = 0
    PINS_FIXED_WIDTH = 1
    PINS_VARIABLE_WIDTH = 2


class CrackFormat(IntEnum):
    """Whether cracks are borders, or open connections."""

    IMPERMISSIBLE = 0
    PERMISSIBLE = 1


@dataclass(frozen=True)
class CrackleHeader:
    """The fields of a header, by crackle-codec's names; widths and sizes in bytes."""

    label_format: int
    crack_format: int
    data_width: int
    stored_data_width: int
    sx: int
    sy: int
    sz: int
    num_label_bytes: int
    fortran_order: bool
    grid_size: int
    signed: bool
    markov_model_order: int
    is_sorted: bool
    is_remapped: bool
    format_version: int = 1
    crc: int | None = None

    @classmethod
    def frombytes(cls, buffer: Any, ignore_crc_check: bool = False) -> CrackleHeader:
        """Read the header in the first bytes of a stream. Raises `FormatError`."""
        return cls._from_native(_native.read_header(buffer, ignore_crc_check))

    @classmethod
    def _from_native(cls, h: Any) -> CrackleHeader:
        if h.label_format > LabelFormat.PINS_VARIABLE_WIDTH:
            raise FormatError("the label format is reserved", "header")
        return cls(
            label_format=LabelFormat(h.label_format),
            crack_format=CrackFormat(h.permissible),
            data_width=h.data_width,
            stored_data_width=h.stored_width,
            sx=h.sx,
            sy=h.sy,
            sz=h.sz,
            num_label_bytes=h.label_bytes,
            fortran_order=bool(h.fortran_order),
            grid_size=2**h.grid_log2,
            signed=bool(h.is_signed),
            markov_model_order=h.markov_order,
            is_sorted=not h.unsorted,
            is_remapped=bool(h.remapped),
            format_version=h.version,
            crc=h.crc if h.version else None,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(sx, sy, sz) in voxels."""
        return self.sx, self.sy, self.sz

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's dtype, in native byte order."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.data_width}")

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The dtype of the table of labels."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.stored_data_width}")

    @property
    def header_bytes(self) -> int:
        """The size of the header."""
        return 29 if self.format_version else 24

    @property
    def grid_index_bytes(self) -> int:
        """The size of the crack index, with its checksum in version 1."""
        return 4 * (self.sz + 1 if self.format_version else self.sz)

    @property
    def num_markov_model_bytes(self) -> int:
        """The size of the Markov model; 0 if there is none."""
        return (5 * 4**self.markov_model_order + 7) // 8 if self.markov_model_order else 0

    def tobytes(self) -> bytes:
        """The header of a stream, with its crc8 in version 1."""
        format_field = (
            (self.data_width.bit_length() - 1)
            | (self.stored_data_width.bit_length() - 1) << 2
            | self.crack_format << 4
            | self.label_format << 5
            | self.fortran_order << 7
            | self.signed << 8
            | self.markov_model_order << 9
            | (not self.is_sorted) << 13
            | self.is_remapped << 14
        )
        sizes = (format_field, self.sx, self.sy, self.sz, self.grid_size.bit_length() - 1)
        if not self.format_version:
            return struct.pack("<4sBHIIIBI", b"crkl", 0, *sizes, self.num_label_bytes)
        fields = struct.pack("<HIIIBQ", *sizes, self.num_label_bytes)
        return b"crkl\1" + fields + bytes([_native.crc8(fields)])

    @property
    def nbytes(self) -> int:
        """The size of the decoded array in bytes."""
        return self.voxels() * self.data_width

    def voxels(self) -> int:
        """The number of voxels."""
        return self.sx * self.sy * self.sz
