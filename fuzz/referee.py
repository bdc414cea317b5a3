"""A strict, slow decoder in plain Python, to judge others by: ``decode``.

It shares nothing with the package. What a stream says is believed only where it fits all the
rest: sections have just the length that their contents take, walks stay on the grid and end,
counts are those of the components that the borders make, and every checksum is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Refused", "decode"]

# What is larger takes too long here. Nothing that a few hundred bytes tell of is.
MOST_VOXELS = 1 << 16
UP, RIGHT, DOWN, LEFT = range(4)
STEPS = {UP: (0, -1), RIGHT: (1, 0), DOWN: (0, 1), LEFT: (-1, 0)}
RANKS = list(permutations(range(4)))


class Refused(Exception):
    """Bytes that are not a valid stream."""


def demand(condition: bool, what: str) -> None:
    if not condition:
        raise Refused(what)


def crc(data: bytes | bytearray, polynomial: int, start: int) -> int:
    """Reflected: the lowest bit goes out first."""
    value = start
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
    return value


def crc32c(data: bytes | bytearray) -> int:
    return crc(data, 0x82F63B78, 0xFFFFFFFF) ^ 0xFFFFFFFF


def width(n: int) -> int:
    return next(w for w in (1, 2, 4, 8, 16) if n < 1 << 8 * w)


class Bytes:
    """A section that is read from the front."""

    def __init__(self, data: bytes | bytearray, name: str) -> None:
        self.data, self.name, self.at = data, name, 0

    def take(self, size: int) -> bytes:
        demand(size <= len(self.data) - self.at, f"{self.name} is cut off")
        self.at += size
        return bytes(self.data[self.at - size : self.at])

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def numbers(self, count: int, size: int) -> list[int]:
        demand(count * size <= len(self.data) - self.at, f"{self.name} is cut off")
        return [self.number(size) for _ in range(count)]

    def end(self) -> None:
        demand(self.at == len(self.data), f"{self.name} is too long")


@dataclass
class Head:
    """What a header says."""

    version: int
    sx: int
    sy: int
    sz: int
    dtype: np.dtype[Any]
    stored_width: int
    open_cracks: bool
    pins: bool
    fortran: bool
    markov_order: int
    label_bytes: int

    @classmethod
    def of(cls, section: Bytes) -> Head:
        demand(section.take(4) == b"crkl", "magic number")
        version = section.number(1)
        demand(version in (0, 1), "version")
        flags = section.number(2)
        sx, sy, sz = section.numbers(3, 4)
        section.number(1)  # the size of a grid, of which there is one a slice
        label_bytes = section.number(8 if version else 4)
        if version:
            told = section.number(1)
            demand(crc(section.data[5:28], 0xE7, 0xFF) == told, "crc8 of the header")
        demand(flags >> 5 & 3 in (0, 2), "label format")
        demand(not flags >> 15, "reserved bit")
        kind = "i" if flags >> 8 & 1 else "u"
        dtype = np.dtype(f"<{kind}{1 << (flags & 3)}")
        return cls(
            version, sx, sy, sz, dtype, 1 << (flags >> 2 & 3), bool(flags >> 4 & 1),
            flags >> 5 & 3 == 2, bool(flags >> 7 & 1), flags >> 9 & 15, label_bytes,
        )  # fmt: skip

    @property
    def pixels(self) -> int:
        return self.sx * self.sy

    @property
    def voxels(self) -> int:
        return self.pixels * self.sz


def decode(stream: bytes) -> npt.NDArray[Any]:
    """The array of a stream, of either version. Raises `Refused`."""
    rest = Bytes(stream, "the stream")
    head = Head.of(rest)
    shape = (head.sx, head.sy, head.sz)
    if not head.voxels:
        rest.end()
        return np.zeros(shape, head.dtype)
    demand(head.voxels <= MOST_VOXELS, "too large for this decoder")
    index = rest.take(4 * head.sz)
    if head.version:
        demand(rest.number(4) == crc32c(index), "crc32c of the index")
    labels = rest.take(head.label_bytes)
    ranks, codes = crack_codes(head, index, rest)
    if head.version:
        demand(rest.number(4) == crc32c(labels), "crc32c of the labels")
    sums = rest.numbers(head.sz, 4) if head.version else []
    rest.end()

    slices, count, counts = [], 0, []
    for z, code in enumerate(codes):
        ids, n = components(head, borders(head, code, ranks))
        if head.version:
            demand(crc_of_ids(ids) == sums[z], f"crc32c of slice {z}")
        slices.append([i + count for i in ids])
        counts.append(n)
        count += n
    values = (pinned if head.pins else flat)(head, Bytes(labels, "labels"), counts, slices)
    # Of a table that is wider than the labels the low bytes count.
    stored = np.array(values, f"<u{head.stored_width}").view(
        f"<{head.dtype.kind}{head.stored_width}"
    )
    return stored.astype(head.dtype)[np.concatenate(slices)].reshape(shape, order="F")


def crack_codes(
    head: Head, index: bytes, rest: Bytes
) -> tuple[list[tuple[int, ...]] | None, list[bytes]]:
    """The Markov model, if there is one, and the code of each slice."""
    ranks = None
    if head.markov_order:
        ranks = markov_model(rest.take((5 * 4**head.markov_order + 7) // 8), head.markov_order)
    return ranks, [rest.take(n) for n in Bytes(index, "the index").numbers(head.sz, 4)]


def crc_of_ids(ids: list[int]) -> int:
    return crc32c(np.array(ids, "<u4").tobytes())


def markov_model(data: bytes, order: int) -> list[tuple[int, ...]]:
    bits = int.from_bytes(data, "little")
    numbers = [bits >> 5 * i & 31 for i in range(4**order)]
    demand(all(n < 24 for n in numbers), "rank order of the markov model")
    return [RANKS[n] for n in numbers]


class Codepoints:
    """The directions of a slice, one after the other."""

    def __init__(self, data: bytes, ranks: list[tuple[int, ...]] | None, order: int) -> None:
        self.data, self.ranks, self.order = data, ranks, order
        self.at = self.code = self.context = 0

    def bit(self) -> int:
        demand(self.at < 8 * len(self.data), "a walk does not end")
        self.at += 1
        return self.data[self.at - 1 >> 3] >> (self.at - 1 & 7) & 1

    def next(self) -> int:
        if self.ranks is None or self.at == 0:
            stored = self.bit() | self.bit() << 1
        else:
            rank = 0
            while rank < 3 and self.bit():
                rank += 1
            stored = self.ranks[self.context][rank]
        if self.order:
            self.context = (self.context >> 2) + (stored << 2 * (self.order - 1))
        self.code = self.code + stored & 3
        return self.code

    def end(self) -> None:
        demand(8 * len(self.data) - self.at < 8, "bytes behind the last chain")
        demand(not any(self.bit() for _ in range(-self.at % 8)), "bits behind the last chain")


def borders(
    head: Head, code: bytes, ranks: list[tuple[int, ...]] | None
) -> set[tuple[int, int, bool]]:
    """The sides that are drawn: of pixel (x, y) the left one, or the upper one (True)."""
    section = Bytes(code, "crack code")
    starts = chain_starts(head, Bytes(section.take(section.number(4)), "chain starts"))
    codes = Codepoints(code[section.at :], ranks, head.markov_order)
    drawn: set[tuple[int, int, bool]] = set()
    for x, y in starts:
        stack: list[tuple[int, int]] = []
        pending: int | None = None
        while True:
            c = codes.next()
            if pending is not None and c ^ pending == 2:
                pending = None
                if c in (DOWN, RIGHT):
                    stack.append((x, y))
                elif stack:
                    x, y = stack.pop()
                else:
                    break
                continue
            if pending is not None:
                dx, dy = STEPS[pending]
                side = (min(x, x + dx), min(y, y + dy), dx != 0)
                x, y = x + dx, y + dy
                inside = 0 < side[1] < head.sy if dx else 0 < side[0] < head.sx
                demand(inside, "a walk leaves the slice, or follows its edge")
                demand(0 <= x <= head.sx and 0 <= y <= head.sy, "a walk leaves the slice")
                drawn.add(side)
            pending = c
    codes.end()
    return drawn


def chain_starts(head: Head, section: Bytes) -> list[tuple[int, int]]:
    across, down = width(head.sx + 1), width(head.sy + 1)
    starts: list[tuple[int, int]] = []
    if len(section.data) < down:
        return starts
    y = 0
    for _ in range(section.number(down)):
        y, x = y + section.number(down), 0
        for _ in range(section.number(across)):
            x += section.number(across)
            demand(x <= head.sx and y <= head.sy, "a chain starts off the grid")
            starts.append((x, y))
    section.end()
    return starts


def components(head: Head, drawn: set[tuple[int, int, bool]]) -> tuple[list[int], int]:
    """The component of each pixel of a slice, and their number."""
    ids: list[int] = [-1] * head.pixels
    count = 0
    for first in range(head.pixels):
        if ids[first] >= 0:
            continue
        waiting = [first]
        ids[first] = count
        while waiting:
            y, x = divmod(waiting.pop(), head.sx)
            for nx, ny, side in (
                (x - 1, y, (x, y, False)), (x + 1, y, (x + 1, y, False)),
                (x, y - 1, (x, y, True)), (x, y + 1, (x, y + 1, True)),
            ):  # fmt: skip
                if not (0 <= nx < head.sx and 0 <= ny < head.sy):
                    continue
                at = nx + head.sx * ny
                if ids[at] < 0 and (side in drawn) == head.open_cracks:
                    ids[at] = count
                    waiting.append(at)
        count += 1
    return ids, count


def flat(head: Head, section: Bytes, counts: list[int], slices: list[list[int]]) -> list[int]:
    """The label of each component, from its key."""
    unique = section.number(8)
    table = section.numbers(unique, head.stored_width)
    told = section.numbers(head.sz, width(head.pixels))
    demand(told == counts, "numbers of components")
    keys = section.numbers(sum(counts), width(unique))
    section.end()
    demand(all(key < unique for key in keys), "a key is beyond the table")
    return [table[key] for key in keys]


def pinned(head: Head, section: Bytes, counts: list[int], slices: list[list[int]]) -> list[int]:
    """The label of each component, from pins through it, or that it is named by."""
    background = section.number(head.stored_width)
    unique = section.number(8)
    table = section.numbers(unique, head.stored_width)
    told = section.numbers(head.sz, width(head.pixels))
    demand(told == counts, "numbers of components")
    widths = section.number(1)
    n_width, d_width, i_width = (1 << (widths >> 2 * i & 3) for i in range(3))
    by_pin: dict[int, int] = {}
    by_id: dict[int, int] = {}
    for label in table:
        pins = section.number(n_width)
        steps = section.numbers(pins, width(head.voxels))
        at = 0
        for step, depth in zip(steps, section.numbers(pins, d_width), strict=True):
            at += step
            z, pixel = divmod(at, head.pixels)
            demand(z + depth < head.sz, "a pin leaves the volume")
            for ids in slices[z : z + depth + 1]:
                demand(by_pin.setdefault(ids[pixel], label) == label, "two pins differ")
        at = 0
        for step in section.numbers(section.number(n_width), i_width):
            at += step
            demand(at < sum(counts), "there is no such component")
            demand(by_id.setdefault(at, label) == label, "two labels of a component")
    section.end()
    return [by_pin.get(i, by_id.get(i, background)) for i in range(sum(counts))]
