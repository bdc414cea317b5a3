"""The constant tables of the C library, derived again."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

CSRC = Path(__file__).parents[1] / "csrc"


def table(file, name):
    text = CSRC.joinpath(file).read_text().split(f"{name}[")[1].split("};")[0]
    return [int(v, 16) for v in re.findall(r"0x([0-9A-F]+)", text)]


def test_crc_table():
    first = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        first.append(crc)
    expected = list(first)
    for _ in range(7):
        last = expected[-256:]
        expected += [c >> 8 ^ first[c & 255] for c in last]
    assert table("tables.c", "crackle_crc_table") == expected


def test_lanes():
    expected = [
        sum((b >> 1 & (1 << j) - 1).bit_count() << 8 * j for j in range(8)) for b in range(256)
    ]
    assert table("tables.c", "crackle_lanes") == expected


def test_permutations():
    expected = [
        sum(code << 2 * rank for rank, code in enumerate(p))
        for p in itertools.permutations(range(4))
    ]
    assert table("moves.c", "crackle_permutations") == expected
