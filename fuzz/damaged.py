"""Damaged streams, and streams that lie though their checksums are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import referee

import numcodecs_crackle as ck

__all__ = ["damaged", "lies", "originals", "without_checksums"]


def originals() -> list[bytes]:
    """Small streams of each kind that crackle-codec reads, too."""
    rng = np.random.default_rng(4)
    a = rng.integers(0, 9, (4, 3, 3)).repeat(2, 0).repeat(2, 1).astype("u2")
    noise = rng.integers(0, 99, (6, 5, 2)).astype("u2")
    wide = rng.integers(0, 2**33, (3, 3, 2)).repeat(3, 0).repeat(3, 1).astype("u8")
    columns = np.repeat(rng.integers(0, 4, (4, 4, 1)), 6, 2).repeat(2, 0).repeat(2, 1).astype("u4")
    arrays = [np.asfortranarray(x) for x in (a, noise, wide)]
    made = [ck.compress(x) for x in arrays]
    made += [ck.compress(arrays[0], 2), ck.compress(np.ascontiguousarray(a))]
    made += [ck.compress(np.asfortranarray(columns), allow_pins=1)]
    assert [ck.header(s).label_format for s in made] == [0, 0, 0, 0, 0, 2]
    return made


def without_checksums(stream: bytes) -> bytes:
    """The same stream in format version 0, before checksums. Not of an empty volume."""
    sz = ck.header(stream).sz
    end = 29 + 4 * sz
    return b"crkl\0" + stream[5:24] + stream[29:end] + stream[end + 4 : -4 - 4 * sz]


def sections(stream: bytes) -> list[bytearray]:
    """Header, crack index, labels, model and crack codes, checksums."""
    head = ck.header(stream)
    at = [0, head.header_bytes, head.header_bytes + head.grid_index_bytes]
    at += [at[-1] + head.num_label_bytes, len(stream) - (4 * head.sz + 4) * head.format_version]
    return [bytearray(stream[a:b]) for a, b in zip(at, [*at[1:], len(stream)], strict=True)]


def damaged(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """What may become of a stream by accident, by kind of damage."""
    for i, byte in enumerate(stream):
        for bit in range(8):
            yield "one bit flipped", stream[:i] + bytes([byte ^ 1 << bit]) + stream[i + 1 :]
        for value in sorted({0, 255} - {byte}):
            yield "a byte set to 00 or FF", stream[:i] + bytes([value]) + stream[i + 1 :]
    for n in range(len(stream)):
        yield "cut off", stream[:n]
    parts = sections(stream)
    for i in range(1, len(parts)):
        for j in range(1, i):
            order = list(parts)
            order[i], order[j] = order[j], order[i]
            if b"".join(order) != stream:
                yield "two sections swapped", b"".join(order)
    rng = np.random.default_rng(len(stream))
    for _ in range(300):
        made = bytearray(stream)
        at, n = rng.integers(5, len(stream)), rng.integers(2, 33)
        made[at : at + n] = rng.bytes(len(made[at : at + n]))
        if made != stream:
            yield "2 to 32 bytes of noise", bytes(made)


def fields(stream: bytes) -> Iterator[tuple[str, int, int, int]]:
    """What a stream says, where it does: a name, the section, begin and end in it."""
    head, parts = ck.header(stream), sections(stream)
    yield "formats", 0, 5, 7
    yield "sizes", 0, 7, 19
    yield "length of the label section", 0, 20, 28
    yield "lengths of crack codes", 1, 0, 4 * head.sz
    pins = head.label_format != 0
    table = pins * head.stored_data_width
    unique = int.from_bytes(parts[2][table : table + 8], "little")
    yield "number of labels", 2, table, table + 8
    at = table + 8 + unique * head.stored_data_width
    yield "labels", 2, table + 8, at
    counts = at + head.sz * referee.width(head.sx * head.sy)
    yield "numbers of components", 2, at, counts
    yield ("pins" if pins else "keys"), 2, counts, len(parts[2])
    begin = (5 * 4**head.markov_model_order + 7) // 8 if head.markov_model_order else 0
    if begin:
        yield "Markov model", 3, 0, begin
    for z in range(head.sz):
        length = int.from_bytes(parts[1][4 * z : 4 * z + 4], "little")
        starts = int.from_bytes(parts[3][begin : begin + 4], "little")
        yield "chain starts", 3, begin, begin + 4 + starts
        yield "moves", 3, begin + 4 + starts, begin + length
        begin += length


def lies(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """Streams that say something else, with valid checksums, by what it is."""
    rng = np.random.default_rng(len(stream))
    for name, section, begin, end in fields(stream):
        values: list[Callable[[int], int]] = [
            lambda _: 0, lambda _: 1, lambda _: 127, lambda _: 128, lambda _: 255,
            lambda b: b + 1, lambda b: b - 1, lambda b: b ^ int(rng.integers(1, 256)),
        ]  # fmt: skip
        changes = [{i: value} for i in range(begin, end) for value in values]
        for _ in range(min(40, 4 * (end - begin))):  # several bytes at once
            places = rng.integers(begin, end, 3).tolist()
            changes.append({i: values[int(rng.integers(len(values)))] for i in places})
        for change in changes:
            parts = sections(stream)
            for i, value in change.items():
                parts[section][i] = value(parts[section][i]) & 255
            # Sums of slices that are as they were are right.
            made = repaired(parts, borders=section != 2)
            if made != stream:
                yield name, made


def repaired(parts: list[bytearray], borders: bool) -> bytes:
    """The stream of these sections with right checksums.

    ``borders``: those of slices, too, where they can be walked.
    """
    head, index, labels, rest, sums = map(bytearray, parts)
    head[28] = referee.crc(head[5:28], 0xE7, 0xFF)
    index[-4:] = referee.crc32c(index[:-4]).to_bytes(4, "little")
    sums[:4] = referee.crc32c(labels).to_bytes(4, "little")
    try:
        says = referee.Head.of(referee.Bytes(bytes(head), "header"))
        if borders and says.voxels <= referee.MOST_VOXELS:
            ranks, codes = referee.crack_codes(
                says, bytes(index[:-4]), referee.Bytes(rest, "codes")
            )
            for z, code in enumerate(codes):
                ids, _ = referee.components(says, referee.borders(says, code, ranks))
                sums[4 + 4 * z : 8 + 4 * z] = referee.crc_of_ids(ids).to_bytes(4, "little")
    except referee.Refused:
        pass
    return bytes(head + index + labels + rest + sums)
