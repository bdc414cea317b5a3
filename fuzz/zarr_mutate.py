"""Mutations of the inputs of zarr_chunk.py: lies whose checksums are right.

As those of mutate.c are: a section of the stream is changed, and the sizes that go with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from numcodecs_crackle import _native
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.sections import crc_bytes
from numcodecs_crackle.stream import compress

HEAD = 20  # bytes of choices before those of an object
EXTREMES = (
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63,
    2**64 - 1,
)
# Where numbers of the header are, and their bytes.
FIELDS = ((5, 2), (7, 4), (11, 4), (15, 4), (19, 1), (20, 8), (4, 1), (6, 1))


@dataclass
class Parts:
    """A stream of version 1 by its sections."""

    head: bytearray
    sizes: list[int]  # of the crack codes, as the index has them
    labels: bytearray
    model: bytearray
    codes: list[bytearray]
    crcs: bytes  # of the components

    @classmethod
    def of(cls, stream: bytes) -> Parts | None:
        """None where sizes don't fit the stream."""
        try:
            head = CrackleHeader.frombytes(stream, ignore_crc_check=True)
        except FormatError:
            return None
        if head.format_version == 0 or head.sz > len(stream) // 4:
            return None
        at = head.header_bytes
        index = stream[at : at + 4 * head.sz]
        sizes = [int.from_bytes(index[i : i + 4], "little") for i in range(0, len(index), 4)]
        ends = [at + head.grid_index_bytes]
        for size in (head.num_label_bytes, head.num_markov_model_bytes, *sizes):
            ends.append(ends[-1] + size)
        if len(stream) != ends[-1] + 4 + 4 * head.sz:
            return None
        pieces = [bytearray(stream[a:b]) for a, b in pairwise(ends)]
        crcs = stream[ends[-1] + 4 :]
        return cls(bytearray(stream[:at]), sizes, pieces[0], pieces[1], pieces[2:], crcs)

    def tobytes(self, components: bool) -> bytes:
        """The stream, its checksums right; those of components if they are to be."""
        self.head[28] = _native.crc8(bytes(self.head[5:28]))
        index = b"".join((size & 0xFFFFFFFF).to_bytes(4, "little") for size in self.sizes)
        cracks = b"".join((self.model, *self.codes))
        crcs = self.crcs
        if components:
            # By way of the version that has none; those that can't be told stay as they are.
            plain = b"crkl\0" + self.head[5:24] + index + self.labels + cracks
            try:
                head = CrackleHeader.frombytes(plain)
                if head.voxels() < 1 << 16 and head.sz == len(self.sizes):
                    crcs = _native.Stream(plain).component_checksums(1).astype("<u4").tobytes()
            except FormatError:
                pass
        sections = (self.head, index, crc_bytes(index), self.labels, cracks)
        return b"".join((*sections, crc_bytes(bytes(self.labels)), crcs))

    def mutate(self, rng: random.Random, bytes_of: Callable[[bytes], bytes]) -> None:
        """Change one thing."""
        z = rng.randrange(len(self.codes)) if self.codes else 0
        which = rng.randrange(13)
        if which == 0:
            mutate_number(self.head, *rng.choice(FIELDS), rng)
        elif which == 1 and self.sizes:
            if rng.random() < 0.5 and z + 1 < len(self.sizes):
                by = rng.randrange(-4, 5)
                self.sizes[z] += by
                self.sizes[z + 1] -= by
            else:
                self.sizes[z] = rng.choice((*EXTREMES, self.sizes[z] + 1, self.sizes[z] * 2))
        elif which in (2, 3) and len(self.labels) >= 8:
            at = 0 if rng.random() < 0.4 else rng.randrange(len(self.labels) - 7)
            mutate_number(self.labels, at, rng.choice((1, 2, 4, 8)), rng)
        elif which in (4, 5):
            self.labels = bytearray(bytes_of(bytes(self.labels)))
            self.head[20:28] = len(self.labels).to_bytes(8, "little")
        elif which == 6 and self.model:
            self.model = bytearray(bytes_of(bytes(self.model))[: len(self.model)])
        elif which in (9, 10, 11) and len(self.labels) > 8:  # mostly another label, or key
            self.labels[rng.randrange(8, len(self.labels))] = rng.randrange(9)
        elif self.codes:
            code = self.codes[z]
            if len(code) >= 8 and rng.random() < 0.25:
                mutate_number(code, rng.choice((0, 4)), 4, rng)
            else:
                self.codes[z] = bytearray(bytes_of(bytes(code)))
                self.sizes[z] = len(self.codes[z])


def mutate_number(data: bytearray, at: int, width: int, rng: random.Random) -> None:
    """To an extreme one, by one, by a bit, or by a factor."""
    value = int.from_bytes(data[at : at + width], "little")
    bit = 1 << rng.randrange(8 * width)
    value = rng.choice((rng.choice(EXTREMES), value + 1, value - 1, value ^ bit, value * 2))
    data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")


def mutate_index(body: bytearray, rng: random.Random) -> None:
    """A number in what may be the index of a shard, at either end of it."""
    count = min(len(body) // 8, 8)
    if not count:
        return
    first = 0 if rng.random() < 0.5 else max(0, len(body) - 4 * (rng.random() < 0.8) - 8 * count)
    at = first + 8 * rng.randrange(count)
    other = first + 8 * rng.randrange(count)
    if rng.random() < 0.3:  # as another chunk has it: one number, or both
        n = rng.choice((8, 16))
        body[at : at + n] = body[other : other + n].ljust(n, b"\0")
    elif rng.random() < 0.2:
        body[at : at + 8] = b"\xff" * 8
    elif at + 8 <= len(body):
        mutate_number(body, at, 8, rng)


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Another input of one."""
    from atheris import Mutate

    rng = random.Random(seed)
    if len(data) < HEAD or rng.random() < 0.25:
        return bytes(Mutate(data, max_size))
    head, body = bytearray(data[:HEAD]), bytearray(data[HEAD:])
    room = max(0, max_size - len(data))
    if rng.random() < 0.3:
        head[rng.randrange(8)] = rng.randrange(256)
        if rng.random() < 0.5:
            head[rng.randrange(8, HEAD)] = rng.randrange(16)
        if rng.random() < 0.5:
            return bytes(head + body)
    form = head[2] % 3
    if form == 1 and rng.random() < 0.15:
        body = bytearray(another(bytes(body), rng))
    elif form == 1 and (parts := Parts.of(bytes(body))) is not None:
        for _ in range(rng.choice((1, 1, 2, 3))):
            parts.mutate(rng, lambda part: bytes(Mutate(part, len(part) + room)))
        body = bytearray(parts.tobytes(rng.random() < 0.75))
        if rng.random() < 0.03 and (whole := Parts.of(bytes(body))) is not None:
            body = bytearray(without_checksums(whole))
    elif form == 2 and rng.random() < 0.7:
        mutate_index(body, rng)
    else:
        body = bytearray(Mutate(bytes(body), len(body) + room))
    return bytes(head + body)[: max(max_size, HEAD)]


def another(stream: bytes, rng: random.Random) -> bytes:
    """A valid stream, of other labels, of the same shape and dtype."""
    try:
        head = CrackleHeader.frombytes(stream, ignore_crc_check=True)
    except FormatError:
        return stream
    if not 0 < head.voxels() < 4096:
        return stream
    info = np.iinfo(head.dtype)
    few = [*range(7), info.max, info.min, rng.randrange(info.max)][: rng.randrange(1, 11)]
    made = np.random.default_rng(rng.randrange(2**32))
    labels = made.choice(np.array(few, head.dtype), head.shape)
    if rng.random() < 0.7:  # calmer
        labels = labels[np.arange(head.sx) // 3][:, np.arange(head.sy) // 2]
    order, pins = rng.choice((0, 0, 0, 1, 2, 5)), rng.choice((0, 0, 2))
    return compress(np.asfortranarray(labels), order, parallel=1, allow_pins=pins)


def without_checksums(parts: Parts) -> bytes:
    """The stream in version 0."""
    index = b"".join(size.to_bytes(4, "little") for size in parts.sizes)
    codes = b"".join(parts.codes)
    return b"crkl\0" + parts.head[5:24] + index + parts.labels + parts.model + codes
