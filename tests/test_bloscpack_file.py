"""Parts of Bloscpack files; streams of labels in them."""

from __future__ import annotations

import gc
import io
import os
import pickle
import threading
from dataclasses import replace
from functools import partial

import fsspec
import numpy as np
import pytest
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st

import numcodecs_crackle as ck
from numcodecs_crackle import bloscpack as bp
from numcodecs_crackle import files, measure
from numcodecs_crackle.array import CrackleArray
from numcodecs_crackle.bloscpack_file import STREAM_CHUNK, BloscpackWriter
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.file_array import FileArray
from numcodecs_crackle.header import CrackleHeader

DATA = np.random.default_rng(0).integers(0, 9, 1000, dtype=np.uint8).tobytes()


class Counting:
    """A source with seek() and read() alone, which counts."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.bytes = self.calls = 0

    def seek(self, *place):
        return self._file.seek(*place)

    def tell(self):
        return self._file.tell()

    def read(self, size):
        data = self._file.read(size)
        self.bytes += len(data)
        self.calls += 1
        return data


SOURCES = [
    bp.pack_bytes(DATA, 100),
    bp.pack_bytes(DATA, 77, None, bp.BloscArgs(1), bp.BloscpackArgs(False, None)),
    bp.pack_bytes(DATA, "max", {"a": 1}),
]
# As one whose chunks have several sizes.
uneven = bytearray(SOURCES[1])
uneven[8:16] = b"\xff" * 8
SOURCES.append(bytes(uneven))


@settings(max_examples=80)
@given(
    st.sampled_from(SOURCES),
    st.lists(
        st.tuples(st.sampled_from(["read", "seek", "end", "step", "into"]), st.integers(-50, 1200)),
        max_size=12,
    ),
)
def test_it_is_as_the_file_it_holds(source, moves):
    plain, packed = io.BytesIO(DATA), bp.BloscpackFile(Counting(source))
    for move, n in moves:
        if move == "read":
            n = max(n, -1)
            assert packed.read(n) == plain.read(n)
        elif move == "into":
            a, b = bytearray(max(n, 0)), bytearray(max(n, 0))
            assert packed.readinto(a) == plain.readinto(b)
            assert a == b
        elif move == "seek":
            assert packed.seek(max(n, 0)) == plain.seek(max(n, 0))
        else:
            whence = io.SEEK_END if move == "end" else io.SEEK_CUR
            if (len(DATA) if move == "end" else plain.tell()) + n >= 0:
                assert packed.seek(n, whence) == plain.seek(n, whence)
        assert packed.tell() == plain.tell()
    assert packed.size == len(DATA)


def test_a_read_touches_its_chunks_alone():
    data = np.random.default_rng(1).integers(0, 256, 1_000_000, dtype=np.uint8).tobytes()
    args = bp.BloscpackArgs(max_app_chunks=0)
    source = Counting(bp.pack_bytes(data, 10_000, bloscpack_args=args))
    file = bp.BloscpackFile(source)
    assert source.bytes == 32
    file.seek(505_000)
    assert file.read(1000) == data[505_000:506_000]
    assert source.bytes < 12_000 and source.calls == 3
    file.seek(509_000)
    assert file.read(1000) == data[509_000:510_000]
    assert source.calls == 3  # the chunk is kept
    assert file.read(1) == data[510_000:510_001]
    assert source.calls == 4


def test_chunks_of_few_bytes():
    """However many are kept, the next costs no more."""
    args = bp.BloscpackArgs(False, None)
    file = bp.BloscpackFile(bp.pack_bytes(DATA * 50, 2, None, bp.BloscArgs(1, 0), args))
    decoded = []
    decode = file.chunks.decode
    file.chunks.decode = lambda i, out=None: decoded.append(i) or decode(i, out)
    assert b"".join(iter(partial(file.read, 1), b"")) == DATA * 50
    assert decoded == list(range(25_000))
    assert 1000 < len(file._kept) < 20_000 and file._kept_bytes <= 1 << 23
    file.seek(-2000, io.SEEK_END)
    assert file.read(1) == DATA[:1] and len(decoded) == 25_000


def test_file_is_a_file(tmp_path):
    path = tmp_path / "a.blp"
    path.write_bytes(SOURCES[0])
    with bp.BloscpackFile(path) as file:
        assert file.readable() and file.seekable() and not file.writable()
        assert file.metadata is None and file.header.nchunks == 10
        assert file.read1(5) == DATA[:5] and file.read1() == DATA[5:]
        for wrong in ((-1,), (0, 3)):
            with pytest.raises(ValueError):
                file.seek(*wrong)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"")
    for use in (file.read, file.tell, partial(file.seek, 0)):
        with pytest.raises(ValueError, match="closed"):
            use()
    bp.BloscpackFile(path)  # one that is dropped closes what it opened
    gc.collect()
    path.write_bytes(b"none")
    with pytest.raises(FormatError, match="begin with blpk"):
        bp.BloscpackFile(path)
    with open(path, "rb") as pipe, pytest.raises(io.UnsupportedOperation):
        bp.BloscpackFile(type("Pipe", (), {"read": pipe.read})())


def test_remote_file():
    fs = fsspec.filesystem("memory")
    fs.pipe("/blp/a.blp", SOURCES[0])
    with fs.open("/blp/a.blp", "rb", cache_type="none") as remote:
        file = bp.BloscpackFile(remote)
        file.seek(430)
        assert file.read(200) == DATA[430:630]


def test_threads_share_it():
    file = bp.BloscpackFile(bp.pack_bytes(DATA, 50))
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(100):
            i = int(rng.integers(0, 20))
            wrong.extend([i] if file.chunks.decode(i) != DATA[50 * i : 50 * i + 50] else [])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@settings(max_examples=40)
@given(st.lists(st.sampled_from([0, 1, 999, STREAM_CHUNK - 1, STREAM_CHUNK, 200_000]), max_size=5))
def test_writer_packs_what_it_is_given(sizes):
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 9, n, dtype=np.uint8) for n in sizes]
    target = io.BytesIO()
    with BloscpackWriter(target) as writer:
        for part in parts:
            assert writer.write(part) == len(part)
    data = b"".join(part.tobytes() for part in parts)
    assert bp.unpack_bytes(target.getvalue()) == (data, None)
    assert bp.BloscpackFile(target.getvalue()).chunks.header.offsets


# ---- streams ----


@pytest.fixture(scope="module")
def bricks():
    """Labels whose stream is of a few megabytes."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 5_000, (128, 128, 64), dtype=np.uint32)
    return np.asfortranarray(small.repeat(3, 0).repeat(4, 1))


def test_a_slice_reads_under_a_tenth(bricks, tmp_path):
    path = tmp_path / "x.ckl.blp"
    files.save(bricks, path)
    stored = path.read_bytes()
    for z in (0, 17, 40, -1):
        source = Counting(stored)
        array = files.aload(bp.BloscpackFile(source))
        np.testing.assert_array_equal(array[:, :, z], bricks[:, :, z])
        assert source.bytes < len(stored) / 10, z
    source = Counting(stored)
    array = files.aload(bp.BloscpackFile(source))
    np.testing.assert_array_equal(array.labels(), np.unique(bricks))
    assert array.max() == bricks.max() and int(bricks[0, 0, 0]) in array and 5_001 not in array
    assert array.min() == bricks.min() and array.num_labels() == len(np.unique(bricks))
    assert source.bytes < len(stored) / 4
    assert files.load_header(path).shape == bricks.shape
    assert files.load_num_labels(path) == len(np.unique(bricks))
    source = Counting(stored)
    assert files.load_num_labels(bp.BloscpackFile(source)) == len(np.unique(bricks))
    assert source.bytes < len(stored) / 10


@pytest.fixture
def labels():
    return blobs(np.random.default_rng(0), (40, 30, 12)).astype("u4", order="F")


@pytest.fixture(params=["flat", "pins", "C", "empty"])
def pair(request, labels, tmp_path):
    """An array from a file, and one of the same stream in memory."""
    if request.param == "C":
        labels = np.ascontiguousarray(labels)
    elif request.param == "empty":
        labels = labels[:, :0]
    binary = ck.compress(labels, allow_pins=request.param == "pins")
    path = tmp_path / "x.ckl.blp"
    files.save(binary, path)
    return files.aload(path), CrackleArray(binary)


def test_array_in_a_file_is_as_one_in_memory(pair):
    there, here = pair
    assert isinstance(there, FileArray) and there.shape == here.shape and there.dtype == here.dtype
    for index in (
        np.s_[:, :, 3], np.s_[:, :, -1], np.s_[2:5, ::-1, 3:9:2], np.s_[:, :, 9:2:-3],
        np.s_[:, :, 5:5], np.s_[..., 4], np.s_[3], np.s_[:, :, np.int8(2)],
    ):  # fmt: skip
        a, b = there[index], here[index]
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    for z in (None, 3, -1, slice(2, 9), slice(9, 2, -2), slice(3, 3)):
        np.testing.assert_array_equal(there.labels(z), here.labels(z))
    for z in (12, -13):
        with pytest.raises(IndexError):
            there[:, :, z]
        with pytest.raises(IndexError):
            there.labels(z)
    assert (there.min(), there.max(), there.num_labels()) == (
        here.min(), here.max(), here.num_labels(),
    )  # fmt: skip
    for label in (0, 5, -1, 10**12, 1.5):
        assert (label in there) == (label in here)
    with pytest.raises(TypeError):
        "5" in there  # noqa: B015
    assert "FileArray" in repr(there)
    back = pickle.loads(pickle.dumps(there))
    assert back.binary == here.binary == there.binary
    assert len(there) == len(here) and there.voxel_counts() == here.voxel_counts()
    np.testing.assert_array_equal(there.numpy(), here.numpy())
    np.testing.assert_array_equal(back[:, :, 3], here[:, :, 3])


def test_an_array_is_closed(labels, tmp_path):
    files.save(labels, tmp_path / "x.ckl.blp")
    array, whole = (files.aload(tmp_path / "x.ckl.blp") for _ in range(2))
    counts = whole.voxel_counts()
    array.close()
    whole.close()
    with pytest.raises(ValueError, match="closed"):
        array[:, :, 3]
    assert (whole[:, :, 3] == labels[:, :, 3]).all() and whole.voxel_counts() == counts


def test_changes_stay_in_memory(labels, tmp_path):
    path = tmp_path / "x.ckl.blp"
    files.save(labels, path)
    before = path.read_bytes()
    array = files.aload(path)
    array[:, :, 3] = 7
    changed = labels.copy()
    changed[:, :, 3] = 7
    np.testing.assert_array_equal(array[:, :, 2:5], changed[:, :, 2:5])
    np.testing.assert_array_equal(array.labels(3), [7])
    assert 7 in array and path.read_bytes() == before
    other = files.aload(path).remap({int(labels[0, 0, 0]): 900}, preserve_missing_labels=True)
    assert 900 in other


def test_without_checksums_the_streams_own_are_verified(labels):
    binary = ck.compress(labels)
    for checksum in ("crc32", None):
        args = bp.BloscpackArgs(True, checksum, 0)
        packed = bytearray(bp.pack_bytes(binary, 64, None, bp.BloscArgs(1, 0), args))
        array = FileArray(bp.BloscpackFile(packed))
        np.testing.assert_array_equal(array[:, :, 5], labels[:, :, 5])
        at = packed.index(binary[40:64])  # the crack index
        packed[at + 3] ^= 1
        with pytest.raises(FormatError, match="crack index" if checksum is None else "chunk 0"):
            FileArray(bp.BloscpackFile(packed))[:, :, 5]


def test_damage_names_the_chunk(labels, tmp_path):
    path = tmp_path / "x.ckl.blp"
    files.save(labels, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for read in (files.load, files.aload, files.load_header, files.bload):
        with pytest.raises(FormatError, match="chunk 0"):
            read(path)
    path.write_bytes(data[:20])
    with pytest.raises(FormatError, match="bloscpack header"):
        files.load(path)


def test_slices_that_are_not_there(labels):
    """A header may claim 2^32 of them: they are not counted up."""
    head = CrackleHeader.frombytes(ck.compress(labels))
    lies = [replace(head, sz=2**32 - 1, crc=None).tobytes() + bytes(100)]
    lies.append(replace(head, sx=2**32 - 1, sy=2**32 - 1, sz=2**32 - 1, crc=None).tobytes())
    for lie in lies:
        for array in (FileArray(bp.BloscpackFile(bp.pack_bytes(lie))), CrackleArray(lie)):
            for ask in (
                lambda a: a[:, :, 3], lambda a: a[:, :, ::-2], lambda a: a[:, :, 2:2],
                lambda a: a.labels(3), lambda a: a.labels(slice(5, 1, -1)),
                lambda a: a.__setitem__(np.s_[0, 0, 0], 3),
            ):  # fmt: skip
                with pytest.raises(FormatError):
                    ask(array)


def test_a_slice_is_believed_by_all_bytes_of_the_stream():
    """As in memory: not by those of the slice alone."""
    side = 11_600  # more than 2^27 voxels
    array = np.full((side, side, 2), 7, "u1", order="F")
    array[:400, :400, 1] = np.random.default_rng(0).integers(0, 9, (400, 400))
    binary = ck.compress(array)
    there = FileArray(bp.BloscpackFile(bp.pack_bytes(binary)))
    assert there[:, :, 0][::99, ::99].min() == CrackleArray(binary)[:, :, 0][::99, ::99].max() == 7


def test_2_32_slices_without_voxels():
    head = CrackleHeader.frombytes(ck.compress(np.zeros((0, 5, 1), "u2")))
    empty = replace(head, sz=2**32 - 1, crc=None).tobytes()
    for array in (FileArray(bp.BloscpackFile(bp.pack_bytes(empty))), CrackleArray(empty)):
        assert array[:, :, ::2].shape == (0, 5, 2**31) and array[:, :, 3].shape == (0, 5)
        assert array.labels(slice(None, None, 2)).size == 0 and array.labels(7).size == 0


def test_measures_beside_the_file(labels, tmp_path, monkeypatch):
    path = tmp_path / "x.ckl.blp"
    files.save(labels, path)
    files.cache_meta(ck.compress(labels), files.sidecar_path(path))
    assert files.sidecar_path(path) == str(tmp_path / "x.ckl.meta.parquet")
    array = files.aload(path)
    array[:, :, 3]
    assert array._whole is None
    monkeypatch.setattr(measure, "totals", None)
    values, counts = np.unique(labels, return_counts=True)
    assert array.voxel_counts() == dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_every_kind_behind_blp(labels, tmp_path):
    for name in ("x.ckl.blp", "x.npy.blp", "x.cpso.blp"):
        path = tmp_path / name
        files.save(labels, path)
        np.testing.assert_array_equal(np.asarray(files.load_any(path)), labels)
    np.testing.assert_array_equal(files.load(tmp_path / "x.ckl.blp"), labels)
    label = int(labels[5, 5, 5])
    np.testing.assert_array_equal(files.load(tmp_path / "x.ckl.blp", label), labels == label)
    assert files.bload(tmp_path / "x.ckl.blp", allow_mmap=True) == ck.compress(labels)
    for name in ("x.nii.blp", "x.nrrd.blp"):
        with pytest.raises(ValueError, match="not compressed as"):
            files.save(labels, tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["x.ckl.blp", "x.cpso.blp", "x.npy.blp"]
