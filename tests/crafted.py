"""Streams made by hand, of which any part may lie; their checksums are valid all the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from numcodecs_crackle import CrackleHeader, _native
from numcodecs_crackle.sections import byte_width

MOVES = {"u": 0, "r": 1, "d": 2, "l": 3}


def number(n: int, width: int) -> bytes:
    return int(n).to_bytes(width, "little")


def chains(rows: Iterable[tuple[int, Sequence[int]]], sx: int, sy: int) -> bytes:
    """The index of where chains begin: (dy, [dx, ...]) for each row."""
    yw, xw = byte_width(sy + 1), byte_width(sx + 1)
    rows = list(rows)
    made = number(len(rows), yw)
    for dy, dxs in rows:
        made += number(dy, yw) + number(len(dxs), xw) + b"".join(number(dx, xw) for dx in dxs)
    return made


def packed(path: str) -> bytes:
    """Codepoints, such as "rrd" and "du" for the end of a chain, as they are stored."""
    codes = [MOVES[c] for c in path]
    steps = [(c - p) & 3 for c, p in zip(codes, [0, *codes], strict=False)]
    steps += [0] * (-len(steps) % 4)
    four = np.array(steps, np.uint8).reshape(-1, 4) << np.array([0, 2, 4, 6], np.uint8)
    return four.sum(1, dtype=np.uint8).tobytes()


def code(index: bytes, moves: bytes = b"") -> bytes:
    """The crack code of a slice."""
    return number(len(index), 4) + index + moves


def blank(sy: int) -> bytes:
    """That of a slice without cracks."""
    return code(number(0, byte_width(sy + 1)))


def blank_crc(pixels: int) -> int:
    """The checksum of so many zeros of 32 bits."""
    crc, zeros = 0, bytes(1 << 20)
    for n in range(0, 4 * pixels, 1 << 20):
        crc = _native.crc32c(zeros[: min(1 << 20, 4 * pixels - n)], crc)
    return crc


@dataclass(frozen=True)
class Crafted:
    """A stream of flat labels; ``head`` says more of the header, ``labels`` is said instead."""

    shape: tuple[int, int, int]
    codes: list[bytes]
    unique: tuple[int, ...] = (7,)
    counts: tuple[int, ...] | None = None  # components of each slice
    keys: tuple[int, ...] | None = None  # of each component
    crcs: tuple[int, ...] | None = None  # of the components of each slice
    dtype: str = "u1"
    model: bytes = b""
    labels: bytes | None = None
    lengths: tuple[int, ...] | None = None  # of the crack codes
    head: dict[str, object] = field(default_factory=dict)

    def with_(self, **fields: object) -> Crafted:
        return replace(self, **fields)  # type: ignore[arg-type]

    def label_section(self) -> bytes:
        if self.labels is not None:
            return self.labels
        sx, sy, sz = self.shape
        width = np.dtype(self.dtype).itemsize
        counts = (1,) * sz if self.counts is None else self.counts
        keys = (0,) * sum(counts) if self.keys is None else self.keys
        section = number(len(self.unique), 8) + b"".join(number(v, width) for v in self.unique)
        section += np.array(counts, f"<u{byte_width(sx * sy)}").tobytes()
        return section + np.array(keys, f"<u{byte_width(len(self.unique))}").tobytes()

    def tobytes(self) -> bytes:
        sx, sy, sz = self.shape
        width = np.dtype(self.dtype).itemsize
        section = self.label_section()
        lengths = [len(c) for c in self.codes] if self.lengths is None else self.lengths
        index = np.array(lengths, "<u4").tobytes()
        crcs = self.crcs
        if crcs is None:
            crcs = (blank_crc(sx * sy),) * sz
        fields = {
            "label_format": 0, "crack_format": 0, "data_width": width,
            "stored_data_width": width, "sx": sx, "sy": sy, "sz": sz,
            "num_label_bytes": len(section), "fortran_order": True, "grid_size": 2**31,
            "signed": False, "markov_model_order": 0, "is_sorted": True, "is_remapped": False,
            "format_version": 1, "crc": None,
        }  # fmt: skip
        head = CrackleHeader(**(fields | self.head)).tobytes()
        made = head + index + number(_native.crc32c(index), 4) + section + self.model
        made += b"".join(self.codes) + number(_native.crc32c(section), 4)
        return made + np.array(crcs, "<u4").tobytes()
