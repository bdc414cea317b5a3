"""Bloscpack files of strangers: damaged, cut off, lying."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest

from numcodecs_crackle import bloscpack as bp
from numcodecs_crackle.bloscpack_format import MetadataHeader
from numcodecs_crackle.errors import FormatError

DATA = np.random.default_rng(0).integers(0, 4, 500, dtype=np.uint8).tobytes()


def packed(checksum: str | None = "adler32", offsets: bool = True, metadata=None, **blosc) -> bytes:
    args = bp.BloscpackArgs(offsets, checksum, 2)
    return bp.pack_bytes(DATA, 200, metadata, bp.BloscArgs(1, **blosc), args)


def refused(data: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        bp.unpack_bytes(data)


def changed(data: bytes, at: int, form: str, *values) -> bytes:
    result = bytearray(data)
    struct.pack_into(form, result, at, *values)
    return bytes(result)


@pytest.mark.parametrize(
    "at, form, value, match",
    [
        (0, "4s", b"blpX", "begin with blpk"), (4, "B", 2, "version is 2"), (5, "B", 5, "reserved"),
        (6, "B", 9, "no checksum of number 9"), (8, "<i", -2, "-2 bytes"),
        (8, "<i", 2**31 - 1, "2147483647 bytes"), (8, "<i", 100, "chunk 0"),
        (12, "<i", 201, "201 bytes of 200"), (12, "<i", -2, "-2 bytes"), (12, "<i", 150, "chunk 2"),
        (12, "<i", 96, "chunk 2: it holds 100 bytes, not 96"), (16, "<q", 1, "chunk 0"),
        (16, "<q", 2**62, "no room"), (16, "<q", 2**63 - 1, "can't be"), (16, "<q", -2, "can't be"),
        (16, "<q", 30, "no room"), (16, "<q", 2, "first chunk begins"),
        (16, "<q", -1, "unknown number|no offsets"),
        (24, "<q", 2**62, "no room"), (24, "<q", -1, "can't be"), (24, "<q", 90, "no room"),
    ],
)  # fmt: skip
def test_headers_that_lie(at, form, value, match):
    refused(changed(packed(), at, form, value), match)


def test_room_without_offsets():
    refused(changed(packed(offsets=False), 24, "<q", 1), "no offsets")


@pytest.mark.parametrize("offset", [0, 31, 71, -2, 2**62, -(2**63)])
def test_offsets_that_lie(offset):
    refused(changed(packed(), 40, "<q", offset), "chunk 1: its offset")


def test_offsets_to_another_chunk():
    place = bp.BloscpackFile(packed()).chunks.place(2)
    refused(changed(packed(), 40, "<q", place), "chunk 1: it holds 100 bytes, not 200")


@pytest.mark.parametrize("checksum", [None, "crc32"])
@pytest.mark.parametrize(
    "at, form, value, match",
    [
        (0, "B", 1, "version 2"), (3, "B", 0, "no bytes"), (4, "<I", 2**31, "can't hold"),
        (4, "<I", 2**31 - 20, "can't hold"), (4, "<I", 100, "don't take|holds 100"),
        (4, "<I", 201, "holds 201|don't take"), (8, "<I", 0, "no bytes"),
        (12, "<I", 15, "can't have 15"),
        (12, "<I", 2**32 - 1, "can't have"), (12, "<I", 300, "don't take"),
    ],
)  # fmt: skip
def test_blosc_headers_that_lie(at, form, value, match, checksum):
    data = packed(checksum)
    place = bp.BloscpackFile(data).chunks.place(0)
    refused(changed(data, place + at, form, value), f"chunk 0: .*({match}|its crc32)")


def test_one_chunk_for_all_of_them():
    """Offsets that all lead to one chunk, which is then unpacked again and again."""
    zeros = bp.pack_bytes(
        bytes(1 << 22), 1 << 21, None, bp.BloscArgs(1, 9, False, "zstd"),
        bp.BloscpackArgs(True, None, 3000),
    )  # fmt: skip
    place = bp.BloscpackFile(zeros).chunks.place(0)
    for sizes in ((-1, -1), (1 << 21, 1 << 21)):
        lie = changed(zeros, 8, "<iiqq", *sizes, 3000, 2)
        lie = changed(lie, 32, "<3000q", *[place] * 3000) + bytes(60_000)
        with pytest.raises(FormatError, match="can't hold"):
            bp.BloscpackFile(lie).read(1)


def test_every_cut():
    for data in (packed(), packed(None, False), packed("md5", metadata={"a": 1})):
        for n in range(len(data)):
            with pytest.raises(FormatError):
                bp.unpack_bytes(data[:n])
        assert bp.unpack_bytes(data + b"behind")[0] == DATA


@pytest.mark.parametrize("checksum", ["adler32", "sha512"])
@pytest.mark.parametrize("offsets", [True, False])
def test_every_bit_with_checksums(checksum, offsets):
    data = packed(checksum, offsets, {"a": 1})
    for i in range(len(data)):
        for bit in range(8):
            bad = bytearray(data)
            bad[i] ^= 1 << bit
            try:
                found, metadata = bp.unpack_bytes(bad)
            except FormatError:
                continue
            except MemoryError:  # pragma: no cover
                pytest.fail(f"byte {i}")
            # Bits that mean nothing: typesize, level, room. Or metadata may be said to be none.
            assert found == DATA and metadata in (None, {"a": 1}), (i, bit)


# Without checksums damage reaches Blosc; in a process of its own, as it is C.
_DAMAGE = """
import sys, numpy as np
from numcodecs_crackle import bloscpack as bp
from numcodecs_crackle.errors import FormatError
data = np.random.default_rng(0).integers(0, 4, 1400, dtype=np.uint8).tobytes()
args = bp.BloscpackArgs(False, None)
for shuffle in (0, 1, 2):
    whole = bp.pack_bytes(data, 1000, None, bp.BloscArgs(4, 5, shuffle, sys.argv[1]), args)
    places = range(32, len(whole))
    for i in [*places[:60], *places[60::3]]:
        for change in (1, 16, 128, 255):
            bad = bytearray(whole)
            bad[i] ^= change
            try:
                found = bp.unpack_bytes(bytes(bad))[0]
            except FormatError:
                continue
            assert len(found) == len(data)
print("done")
"""


@pytest.mark.parametrize("codec", ["blosclz", "lz4", "lz4hc", "zlib", "zstd"])
def test_damage_without_checksums_ends_no_process(codec):
    done = subprocess.run(
        [sys.executable, "-c", _DAMAGE, codec], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr[-500:]


def peak(work) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_claims_allocate_nothing():
    head = packed(None, False)[:32]
    lies = [
        changed(head, 8, "<iiqq", 2**31 - 17, 2**31 - 17, 2**62, 0) + bytes(1000),
        changed(head, 8, "<iiqq", 2**31 - 17, 2**31 - 17, 1, 0)
        + struct.pack("<4BIII", 2, 1, 0x21, 1, 2**31 - 17, 2**31 - 17, 1000) + bytes(2000),
        changed(packed()[:32], 8, "<iiqq", 200, 100, 3, 2**60) + bytes(1000),
        changed(packed(metadata=1)[:64], 48, "<II", 2**32 - 1, 2**32 - 1) + bytes(1000),
        changed(packed(metadata=1)[:64], 44, "<I", 2**32 - 1) + bytes(1000),
    ]  # fmt: skip
    # Of a longer file a chunk of 2 GB could be true, by its length alone.
    lies[1] += bytes(1 << 17)

    def work():
        for lie in lies:
            with pytest.raises(FormatError):
                bp.unpack_bytes(lie)
            with pytest.raises(FormatError):
                bp.BloscpackFile(lie).read()
                bp.BloscpackFile(lie).metadata  # noqa: B018

    assert peak(work) < 3 << 20


def test_an_array_that_no_memory_has_room_for():
    """A megabyte may claim 30 GB: what is told is that they are not there."""
    each, n, packed_each = 2**31 - 17, 15, 70_000
    metadata = {"dtype": "'|u1'", "shape": [each * n], "order": "C", "container": "numpy"}
    whole = bytearray(
        bp.pack_bytes(b"", metadata=metadata, bloscpack_args=bp.BloscpackArgs(False, None))
    )
    struct.pack_into("<iiq", whole, 8, each, each, n)
    del whole[-16:]
    chunk = struct.pack("<4BIII", 2, 1, 0x81, 1, each, 1 << 18, packed_each)
    whole += chunk.ljust(packed_each, b"\0") * n
    with pytest.raises(FormatError, match="chunk 0: Blosc can't decode it"):
        bp.unpack_ndarray_from_bytes(whole)


def metadata_of(text: bytes, **fields) -> bytes:
    """A file with some metadata, and a header of it that may lie."""
    codec = fields.pop("codec", 0)
    size, most, comp = (fields.get(k, len(text)) for k in ("size", "most", "comp"))
    name = fields.get("name", b"JSON")
    head = struct.pack("<8s4BIII8s", name, 0, 0, codec, 6, size, most, comp, b"")
    plain = packed(None, False)
    return changed(plain[:32], 5, "B", 2) + head + text.ljust(min(most, 9999), b"\0") + plain[32:]


@pytest.mark.parametrize(
    "text, fields, match",
    [
        (b"{", {}, "no JSON"), (b"\xff", {}, "no JSON"), (b"[" * 100_000, {}, "no JSON|cut off"),
        (b"1" * 5000, {}, "no JSON"), (b"1", {"name": b"YAML"}, "not JSON"),
        (b"1", {"size": 2}, "can't be stored"), (b"1", {"comp": 2}, "not in room"),
        (b"1", {"codec": 2}, "no codec"), (b"12", {"codec": 1}, "zlib can't"),
        (zlib.compress(b"1"), {"codec": 1, "size": 2}, "2 bytes it says"),
        (zlib.compress(b"123"), {"codec": 1, "size": 2}, "2 bytes it says"),
        (zlib.compress(b" " * 10**6)[:-4], {"codec": 1, "size": 10**6}, "bytes it says"),
        (zlib.compress(b"1"), {"codec": 1, "size": 2**27}, "are the most"),
        (zlib.compress(b"1"), {"codec": 1, "size": 2**25}, "are the most"),
    ],
)  # fmt: skip
def test_metadata_that_lies(text, fields, match):
    refused(metadata_of(text, **fields), f"metadata: .*({match})")


def test_metadata_that_grows_is_bounded():
    bomb = zlib.compress(b" " * (50 << 20), 9)
    data = metadata_of(bomb, codec=1, size=1000, most=len(bomb))
    assert peak(lambda: refused(data, "1000 bytes it says|cut off")) < 2 << 20
    good = metadata_of(b'{"a": NaN}')
    assert str(bp.unpack_bytes(good)[1]) == "{'a': nan}"
    assert MetadataHeader.frombytes(good[32:64]).meta_size == 10


@pytest.mark.parametrize("value", [b"[]", b'{"a":[]}', b"1.5", b'"ab"'])
def test_metadata_takes_no_more_memory_than_it_earns(value):
    """64 KB would become lists of gigabytes."""
    text = b"[" + b",".join([value] * ((1 << 24) // (len(value) + 1) - 1)) + b"]"
    bomb = zlib.compress(text, 9)
    data = metadata_of(bomb, codec=1, size=len(text), most=len(bomb))
    assert len(data) < 100_000
    assert peak(lambda: refused(data, "values: .* are the most")) < (64 << 20) + 2 * len(data)
    with pytest.raises(ValueError, match=r"values: .* are the most"):
        bp.pack_bytes(b"", metadata=[0] * 500_000)
    ids = list(range(500_000))
    assert bp.unpack_bytes(bp.pack_bytes(b"", metadata=ids))[1] == ids


def test_errors_name_the_chunk():
    data = bytearray(packed())
    data[bp.BloscpackFile(data).chunks.place(1) + 20] ^= 1
    with pytest.raises(FormatError) as error:
        bp.unpack_bytes(data)
    assert error.value.section == "chunk 1" and "adler32" in error.value.reason
    file = bp.BloscpackFile(data)
    assert file.read(200) == DATA[:200]
    with pytest.raises(FormatError, match="chunk 1"):
        file.read(1)
    file.seek(400)
    assert file.read() == DATA[400:]
