"""Appending to Bloscpack files: as bloscpack does it, and interrupted at every place."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import blpk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numcodecs_crackle import bloscpack as bp
from numcodecs_crackle.bloscpack_append import append_to
from numcodecs_crackle.bloscpack_format import Header
from numcodecs_crackle.errors import FormatError

theirs = blpk.imported()


def content(n: int, seed: int = 0, top: int = 256) -> bytes:
    return np.random.default_rng(seed).integers(0, top, n, dtype=np.uint8).tobytes()


def packed(data: bytes, chunk_size: int, **options) -> bytes:
    metadata = options.pop("metadata", None)
    args = bp.BloscpackArgs(**options)
    return bp.pack_bytes(data, chunk_size, metadata, bp.BloscArgs(1), args)


def appended(whole: bytes, new: bytes, args=None) -> bytes:
    file = io.BytesIO(whole)
    append_to(file, io.BytesIO(new), len(new), args)
    return file.getvalue()


@settings(max_examples=150)
@given(
    st.integers(1, 300), st.lists(st.integers(0, 200), min_size=1, max_size=4),
    st.sampled_from([7, 64, 100]), st.sampled_from(["None", "adler32", "md5"]), st.booleans(),
    st.sampled_from([(7, 7), (0, 9), (9, 0)]), st.sampled_from([1, 256]),
)  # fmt: skip
def test_append_comes_to_what_bloscpack_makes(old, news, chunk, checksum, metadata, levels, top):
    data = content(old, 1, top)
    options = bp.BloscpackArgs(checksum=checksum, max_app_chunks=200)
    args = bp.BloscArgs(1, levels[0])
    whole = bp.pack_bytes(data, chunk, {"a": 1} if metadata else None, args, options)
    for i, n in enumerate(news):
        new = content(n, i, top)
        before = Header.frombytes(whole)
        whole = appended(whole, new, bp.BloscArgs(1, levels[1]))
        data += new
        head = Header.frombytes(whole)
        assert head.nchunks * head.chunk_size >= len(data) > (head.nchunks - 1) * head.chunk_size
        assert head.nchunks + head.max_app_chunks == before.nchunks + before.max_app_chunks
        wanted = (data, {"a": 1} if metadata else None)
        assert bp.unpack_bytes(whole) == wanted
        assert theirs.unpack_bytes_from_bytes(whole) == wanted
        chunks = bp.BloscpackFile(whole).chunks
        assert chunks.ranges.size == chunks.place(chunks.count - 1) + len(
            chunks.sealed(chunks.count - 1)[1]
        )


def test_append_by_both_in_turn(tmp_path):
    from bloscpack.append import append

    target, extra = tmp_path / "a.blp", tmp_path / "new"
    data = content(1000)
    target.write_bytes(packed(data, 300))
    for i, add in enumerate([append, bp.append, append, bp.append, append]):
        extra.write_bytes(content(250 + i, i))
        add(str(target), str(extra))
        data += content(250 + i, i)
        assert bp.unpack_bytes_from_file(target) == (data, None)
        assert theirs.unpack_bytes_from_file(str(target)) == (data, None)


@pytest.mark.parametrize("args", [None, {}, {"typesize": None, "cname": "zstd", "clevel": None}])
def test_what_is_appended_has_the_typesize_of_the_file(args):
    data = np.arange(3000, dtype="<u4").tobytes()
    whole = bp.pack_bytes(data, 1000, None, bp.BloscArgs(4))
    file = bp.BloscpackFile(appended(whole, data, args))
    found = [file.chunks.blosc_header(i) for i in range(file.chunks.count)]
    assert file.read() == data * 2 and {head.typesize for head in found} == {4}
    assert {head.named_flags()["codec"] for head in found[12:]} == {"zstd" if args else "blosclz"}
    unknown = bytearray(whole)
    unknown[7] = 0
    assert bp.unpack_bytes(appended(bytes(unknown), data, args))[0] == data * 2


class Interrupted(Exception):
    pass


class Failing(io.BytesIO):
    """A file that fails at its n-th write, of which some bytes are written."""

    def __init__(self, data: bytes, n: int, part: float) -> None:
        super().__init__(data)
        self.left, self.part, self.sizes = n, part, []

    def write(self, data):
        self.sizes.append(len(data))
        if not self.left:
            # An offset, and the header's part, are written or not.
            if len(data) not in (8, 20):
                super().write(bytes(data)[: int(len(data) * self.part)])
            raise Interrupted
        self.left -= 1
        return super().write(data)

    def truncate(self, size=None):
        if not self.left:
            raise Interrupted
        self.left -= 1
        return super().truncate(size)


def states(whole: bytes, new: bytes, args=None):
    """What is left of an append that is interrupted, at each of its writes."""
    for n in range(100):
        for part in (0, 0.01, 0.5, 0.99):
            file = Failing(whole, n, part)
            try:
                append_to(file, io.BytesIO(new), len(new), args)
            except Interrupted:
                yield file.getvalue()
            else:
                return
    raise AssertionError("it never ends")


@pytest.mark.parametrize("checksum", ["None", "sha1"])
@pytest.mark.parametrize("metadata", [None, {"a": 1}])
@pytest.mark.parametrize("n", [250, 300, 40])
@pytest.mark.parametrize("more", [20, 50, 270])
@pytest.mark.parametrize("level", [0, 9])
def test_interrupted_anywhere_it_holds_the_old_or_the_new(n, more, checksum, metadata, level):
    old, new = content(n, 0, 4), content(more, 1, 4)
    whole = bp.pack_bytes(
        old, 100, metadata, bp.BloscArgs(1, 9 - level), bp.BloscpackArgs(True, checksum, 30)
    )
    args = bp.BloscArgs(1, level)
    seen = set()
    for left in states(whole, new, args):
        found, note = bp.unpack_bytes(left)
        assert found in (old, old + new) and note == metadata
        seen.add(found)
        file = bp.BloscpackFile(left)
        file.seek(-20, io.SEEK_END)
        assert file.read() == found[-20:]
        # To append again finishes it; and an append to what an interrupted one left, too.
        if found == old:
            again = appended(left, new, args)
            assert bp.unpack_bytes(again) == (old + new, metadata)
            assert theirs.unpack_bytes_from_bytes(again) == (old + new, metadata)
            for twice in list(states(left, new + b"x" * 333, args))[::3]:
                assert bp.unpack_bytes(twice)[0] in (old, old + new + b"x" * 333)
    assert seen == {old, old + new}


def test_bloscpack_reads_it_but_while_the_last_chunk_is_written():
    old, new = content(250), content(270, 1)
    unreadable = 0
    for left in states(packed(old, 100), new):
        try:
            found = theirs.unpack_bytes_from_bytes(left)[0]
        except Exception:
            unreadable += 1
        else:  # while the header is old, the last chunk is longer than it says
            assert found in (old, old + new[:50], old + new)
    assert unreadable <= 4
    full = content(300)
    for left in states(packed(full, 100), new):
        assert theirs.unpack_bytes_from_bytes(left)[0] in (full, full + new)


def test_killed(tmp_path):
    """A process that is killed while it appends."""
    target, extra = tmp_path / "a.blp", tmp_path / "new"
    old, new = content(250_000, 0, 9), content(1_000_000, 1, 9)
    extra.write_bytes(new)
    whole = packed(old, 100_000, max_app_chunks=100)
    code = "import sys; from numcodecs_crackle import bloscpack as b; print(flush=True);"
    code += "b.append(sys.argv[1], sys.argv[2], b.BloscArgs(1, 9, True, 'zlib'))"
    ends = set()
    for wait in (0, 0.02, 0.06, 5):
        target.write_bytes(whole)
        command = [sys.executable, "-c", code, str(target), str(extra)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(wait) if wait < 1 else child.wait(60)
            child.send_signal(signal.SIGKILL)
        found = bp.unpack_bytes_from_file(target)[0]
        assert found in (old, old + new)
        ends.add(len(found))
    assert ends == {len(old), len(old) + len(new)}


def test_what_cannot_be_appended_to(tmp_path):
    cases = {
        "without offsets": packed(content(9), 4, offsets=False),
        "room for 2 more": packed(content(9), 4, max_app_chunks=2),
        "without a chunk size": packed(b"", 4),
    }
    for reason, whole in cases.items():
        with pytest.raises(ValueError, match=reason):
            appended(whole, bytes(12))
    unknown = bytearray(packed(content(9), 4))
    unknown[8:12] = b"\xff" * 4
    with pytest.raises(ValueError, match="without a chunk size"):
        appended(bytes(unknown), bytes(12))
    damaged = bytearray(packed(content(9), 4))
    damaged[-1] ^= 1
    with pytest.raises(FormatError, match="chunk 2"):
        appended(bytes(damaged), bytes(12))
    with pytest.raises(ValueError, match="clevel"):
        appended(packed(content(9), 4), bytes(12), bp.BloscArgs(clevel=10))
    assert appended(packed(content(9), 4), b"") == packed(content(9), 4)
    file = io.BytesIO(packed(content(9), 4))
    with pytest.raises(OSError, match="shorter"):
        append_to(file, io.BytesIO(bytes(5)), 12)
    assert bp.unpack_bytes(file.getvalue())[0] == content(9)


def test_metadata_is_replaced_in_its_room(tmp_path):
    target, extra = tmp_path / "a.blp", tmp_path / "new"
    target.write_bytes(packed(content(90), 40, metadata={"a": 1}))
    extra.write_bytes(content(50, 1))
    bp.append(target, extra, metadata={"a": [1, 2, 3]})
    wanted = (content(90) + content(50, 1), {"a": [1, 2, 3]})
    assert bp.unpack_bytes_from_file(target) == wanted
    assert theirs.unpack_bytes_from_file(str(target)) == wanted
    before = target.read_bytes()
    with pytest.raises(ValueError, match="max_meta_size"):
        bp.append(target, extra, metadata={"a": "".join(map(chr, range(40, 240)))})
    assert target.read_bytes() == before and sorted(os.listdir(tmp_path)) == ["a.blp", "new"]
    target.write_bytes(packed(content(90), 40))
    with pytest.raises(ValueError, match="no room for metadata"):
        bp.append(target, extra, metadata={"a": 1})
