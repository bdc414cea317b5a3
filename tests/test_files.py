"""Files: round trips of every format, blocks, counted reads, the sidecar."""

from __future__ import annotations

import gzip
import io
import itertools
import lzma
import mmap
import os
import sys
import tracemalloc
from pathlib import Path

import crackle
import numpy as np
import pytest
from conftest import as_version_0, volume

import numcodecs_crackle as ck
from numcodecs_crackle import _native, files

INTEGERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]
SHAPES = [(7, 6, 5), (5, 4, 1), (3, 6, 7), (6, 7, 3), (4, 4, 4), (1, 5, 6), (1, 1, 1), (5, 1, 1)]
STREAMS = [".ckl", "", ".bin", ".ckl.gz", ".ckl.xz", ".ckl.lzma", ".ckl.zst", ".CKL.GZ"]
NPYS = [".npy", ".npy.gz", ".npy.xz", ".npy.lzma", ".npy.zst"]
ARRAYS = [*NPYS, ".nrrd", ".nii", ".nii.gz", ".tif", ".tiff", ".cpso", ".cpso.gz", ".cpso.zst"]


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


class Held:
    """What has a stream, as a CrackleArray has."""

    def __init__(self, binary):
        self.binary = binary
        self.dtype = ck.header(binary).dtype


class Counted:
    """A file-like object that counts what is read of it."""

    def __init__(self, data, seekable=True, most=1 << 30):
        self.file, self.most, self.bytes = io.BytesIO(data), most, 0
        if seekable:
            self.seek = self.file.seek

    def read(self, size=-1):
        part = self.file.read(min(size, self.most) if size >= 0 else -1)
        self.bytes += len(part)
        return part


def labels_of(dtype, shape=(7, 6, 5), order="F"):
    """Labels with the extremes of their dtype among them."""
    info = np.iinfo(dtype)
    a = np.random.default_rng(0).integers(0, 4, shape).astype(dtype)
    a.flat[-1], a.flat[0] = info.min, info.max
    return np.asarray(a, order=order)


def check_same(got, expected):
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(got, expected)


def only(folder, *names):
    assert sorted(os.listdir(folder)) == sorted(names)


# Formats.


@pytest.mark.parametrize("suffix", STREAMS)
def test_streams(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    for dtype, order in itertools.product(INTEGERS, "CF"):
        a = labels_of(dtype, order=order)
        files.save(a, path, markov_model_order=2)
        binary = ck.compress(a, 2)
        assert files.bload(path) == binary
        back = files.load(str(path), parallel=1)
        check_same(back, a)
        assert back.flags.f_contiguous == (order == "F")
        check_same(files.load(os.fsencode(path), label=2), a == 2)
        assert files.load_header(path) == ck.header(binary)
        assert files.load_num_labels(path) == np.unique(a).size
        for held in (binary, bytearray(binary), memoryview(binary), Held(binary)):
            files.save(held, path)
            assert files.bload(path) == binary
    only(tmp_path, path.name)


@pytest.mark.parametrize("suffix", ARRAYS)
def test_arrays(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    for dtype, order in itertools.product(INTEGERS, "CF"):
        a = labels_of(dtype, order=order)
        binary = ck.compress(a)
        for held in (a, binary, Held(binary)):
            if ".cpso" in suffix and dtype[0] == "i":
                with pytest.raises(TypeError, match="unsigned"):
                    files.save(held, path)
                continue
            files.save(held, str(path))
            check_same(files.load_any(path), a)
    only(tmp_path, path.name)


@pytest.mark.parametrize("suffix", [".npy", ".nrrd", ".nii", ".tif", ".cpso"])
def test_shapes(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    for shape, dtype, order in itertools.product(SHAPES, ("u1", "u2", "u8"), "CF"):
        a = labels_of(dtype, shape, order)
        files.save(ck.compress(a), path)
        check_same(files.load_any(path), a)
    flat = np.arange(6, dtype="u2").reshape(2, 3)
    files.save(flat, path)
    check_same(files.load_any(path), flat if suffix == ".npy" else flat[..., None])
    files.save(labels_of(">u4"), path)
    np.testing.assert_array_equal(files.load_any(path), labels_of("u4"))
    empty = np.zeros((4, 0, 3), "u2")
    for held in (empty, ck.compress(empty)):
        if suffix in (".nii", ".tif"):
            with pytest.raises(ValueError, match="without voxels"):
                files.save(held, path)
        else:
            files.save(held, path)
            check_same(files.load_any(path), empty)


def test_long_axis_in_nifti(tmp_path):
    a = (np.arange(40000, dtype="u4") // 9).reshape(1, -1, 1)
    files.save_nii(a, tmp_path / "x.nii")
    check_same(files.load_any(tmp_path / "x.nii"), a)


def test_options(tmp_path):
    import nibabel
    import nrrd
    import tifffile

    a = labels_of("u4")
    affine = np.diag([4.0, 4.0, 40.0, 1.0])
    files.save(a, tmp_path / "x.nii", affine=affine)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "x.nii").affine, affine)
    for compress in ("raw", "gzip", "bzip2"):
        files.save_nrrd(a, tmp_path / "x.nrrd", compress)
        assert nrrd.read_header(str(tmp_path / "x.nrrd"))["encoding"] == compress
        check_same(files.load_any(tmp_path / "x.nrrd"), a)
    for compression in (None, "lzma"):
        files.save_tiff(a, tmp_path / "x.tif", compression)
        check_same(files.load_any(tmp_path / "x.tif"), a)
    rgb = labels_of("u1", (5, 6, 3))
    files.save_tiff(rgb, tmp_path / "x.tif")
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISBLACK
    with pytest.raises(ValueError, match="compress must be"):
        files.save_nrrd(a, tmp_path / "x.nrrd", "zip")


def test_big_tiff(tmp_path, monkeypatch):
    import tifffile

    for most, big in ((7 * 6 * 5 - 1, True), (7 * 6 * 5, False)):
        monkeypatch.setattr(files, "_TIFF_MOST", most)
        files.save_tiff(labels_of("u1"), tmp_path / "x.tif")
        with tifffile.TiffFile(tmp_path / "x.tif") as file:
            assert file.is_bigtiff == big
        check_same(files.load_any(tmp_path / "x.tif"), labels_of("u1"))


def test_refused(tmp_path):
    a = labels_of("u4")
    for labels, error in (
        (b"not a stream, though long enough", ck.FormatError),
        (b"", ck.FormatError),
        ("crkl", TypeError),
        ([[1, 2]], TypeError),
        (None, TypeError),
        (a.astype("f4"), TypeError),
        (np.zeros((1, 1, 1, 1), "u1"), ValueError),
    ):
        with pytest.raises(error):
            files.save(labels, tmp_path / "x.ckl")
    for labels, error in ((a.astype("f4"), TypeError), (np.zeros((1,) * 4, "u1"), ValueError)):
        for suffix in (".nrrd", ".nii", ".tif", ".cpso"):
            with pytest.raises(error):
                files.save(labels, tmp_path / f"x{suffix}")
    with pytest.raises(ValueError, match="Object arrays"):
        files.save(np.array([None]), tmp_path / "x.npy")
    for name in ("x.nrrd.gz", "x.tif.xz", "x.nii.zst"):
        with pytest.raises(ValueError, match="not compressed as"):
            files.save(a, tmp_path / name)
    with pytest.raises(TypeError, match="saved as it is: no use for markov_model_order"):
        files.save(ck.compress(a), tmp_path / "x.ckl", markov_model_order=3)
    with pytest.raises(TypeError, match="unexpected keyword"):
        files.save(a, tmp_path / "x.npy", markov_model_order=3)
    with pytest.raises(TypeError, match="a path or an open"):
        files.save(a, 3)
    with pytest.raises(ValueError, match="block_size"):
        files.save_numpy(a, tmp_path / "x.npy", 0)
    only(tmp_path)
    (tmp_path / "x.bin").write_bytes(b"something else, of more than 29 bytes")
    with pytest.raises(ck.FormatError, match="not a Crackle stream"):
        files.load_any(tmp_path / "x.bin")


MISSING = {
    "x.nrrd": "nrrd", "x.nii": "nibabel", "x.tif": "tifffile", "x.cpso": "compresso",
    "x.ckl.zst": "zstandard", "x.npy.zst": "zstandard",
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_missing_libraries(tmp_path, monkeypatch, name):
    files.save(labels_of("u1"), tmp_path / name)
    before = (tmp_path / name).read_bytes()
    monkeypatch.setitem(sys.modules, MISSING[name], None)
    hint = MISSING[name] + r': pip install "numcodecs-crackle\[files\]"'
    with pytest.raises(ImportError, match=hint):
        files.save(labels_of("u1"), tmp_path / name)
    with pytest.raises(ImportError, match=hint):
        files.load_any(tmp_path / name)
    only(tmp_path, name)
    assert (tmp_path / name).read_bytes() == before


def test_file_objects():
    a = labels_of("i4")
    file = io.BytesIO(b"before")
    file.seek(6)
    files.save(a, file)
    assert file.getvalue() == b"before" + ck.compress(a)
    for load in (files.load, lambda f: ck.decompress(files.bload(f, allow_mmap=True))):
        file.seek(6)
        check_same(load(file), a)
    for count in (files.load_num_labels, lambda f: files.load_header(f).sx):
        file.seek(6)
        assert count(file) == (np.unique(a).size if count is files.load_num_labels else 7)
    for save in (a, ck.compress(a)):
        file = io.BytesIO()
        files.save_numpy(save, file, 100)
        file.seek(0)
        check_same(files.load_numpy(file), a)


def test_short_writes(tmp_path):
    class Raw(io.RawIOBase):
        data = b""

        def writable(self):
            return True

        def write(self, part):
            self.data += bytes(part[:7])
            return len(bytes(part[:7]))

    a = labels_of("u4")
    for save, load in ((files.save, files.load), (files.save_numpy, files.load_numpy)):
        raw = Raw()
        save(a, raw)
        check_same(load(io.BytesIO(raw.data)), a)
        assert not raw.closed


@pytest.mark.parametrize("suffix", [*STREAMS[3:7], *NPYS[1:]])
def test_damaged_compression(tmp_path, suffix):
    a = np.random.default_rng(1).integers(0, 1000, (20, 20, 20)).astype("u4")
    path = tmp_path / f"x{suffix}"
    files.save(a, path)
    data = bytearray(path.read_bytes())
    load = files.load_numpy if ".npy" in suffix else files.load
    flipped = data[:500] + bytes([data[500] ^ 1]) + data[501:]
    garbled = data[:-40] + b"\x55" * 40
    for damaged in (data[:-40], data[:300], garbled, flipped, data[:300] + data[301:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError):  # FormatError, or numpy's of a file that ends early
            load(path)


def test_concatenated_compression(tmp_path):
    import zstandard

    binary = ck.compress(labels_of("u4"))
    for suffix, compress in (
        ("gz", gzip.compress), ("xz", lzma.compress), ("zst", zstandard.compress),
        ("lzma", lambda data: lzma.compress(data, lzma.FORMAT_ALONE)),
    ):  # fmt: skip
        path = tmp_path / f"x.ckl.{suffix}"
        path.write_bytes(compress(binary[:50]) + compress(binary[50:]))
        assert files.bload(path) == binary
        assert files.load_num_labels(path) == ck.num_labels(binary)


def test_mapped(tmp_path):
    a = labels_of("u4")
    for name, kind in (("x.ckl", mmap.mmap), ("x.ckl.gz", bytes)):
        files.save(a, tmp_path / name)
        binary = files.bload(tmp_path / name, allow_mmap=True)
        assert isinstance(binary, kind)
        check_same(ck.decompress(binary), a)
        files.save(binary, tmp_path / name)  # onto itself
        check_same(files.load(tmp_path / name), a)
    (tmp_path / "empty.ckl").touch()
    assert files.bload(tmp_path / "empty.ckl", allow_mmap=True) == b""
    for load in (files.load, files.load_header, files.load_num_labels):
        with pytest.raises(ck.FormatError):
            load(tmp_path / "empty.ckl")


def test_crackle_arrays(tmp_path):
    array = pytest.importorskip("numcodecs_crackle.array")
    a = labels_of("u4")
    binary = ck.compress(a)
    for name in ("x.ckl", "x.ckl.gz", "x"):
        files.save(array.CrackleArray(binary), tmp_path / name)
        for allow_mmap in (False, True):
            held = files.aload(tmp_path / name, allow_mmap)
            assert isinstance(held, array.CrackleArray)
            check_same(held.decompress(), a)
        check_same(files.load_any(tmp_path / name).decompress(), a)
    files.save(held, tmp_path / "x.npy")
    check_same(np.load(tmp_path / "x.npy"), a)


# Blocks of .npy.


@pytest.mark.parametrize("order", "CF")
def test_npy_in_blocks(tmp_path, order):
    for dtype, shape in itertools.product(("u1", "i8"), ((7, 6, 5), (1, 6, 9), (6, 1, 1))):
        a = labels_of(dtype, shape, order)
        binary, slice_bytes = ck.compress(a), a.nbytes // shape[2]
        for block, suffix in itertools.product((1, slice_bytes, 2 * slice_bytes + 1, 10**6), NPYS):
            path = tmp_path / f"x{suffix}"
            files.save_numpy(binary, path, block)
            back = files.load_numpy(path)
            check_same(back, a)
            several = block < a.nbytes
            flag = back.flags.f_contiguous if order == "F" or several else back.flags.c_contiguous
            assert flag
            if suffix == ".npy":
                check_same(np.load(path, mmap_mode="r"), a)


@pytest.mark.parametrize("order", "CF")
def test_npy_takes_the_memory_of_a_block(tmp_path, monkeypatch, order):
    a = np.asarray(volume("bricks", np.random.default_rng(0), (128, 128, 64)).astype("u8"))
    binary = ck.compress(np.asarray(a, order=order))
    block, sizes, decompress = 4 * 128 * 128 * 8, [], ck.decompress

    def watched(*args, **kwargs):
        sizes.append(kwargs["out"].nbytes)
        return decompress(*args, **kwargs)

    monkeypatch.setattr(files.stream, "decompress", watched)
    for name in ("x.npy", "x.npy.gz"):
        sizes.clear()
        tracemalloc.start()
        files.save_numpy(binary, tmp_path / name, block + 99)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sizes == [block] * 16
        assert most < 2 * block < a.nbytes / 6
    check_same(files.load_numpy(tmp_path / "x.npy"), a)
    check_same(files.load_numpy(tmp_path / "x.npy.gz"), a)


# Numbers of labels.


def with_one_label_less(binary):
    """The same stream, remapped so that its second label is its first."""
    head = ck.header(binary)
    width, labels = head.stored_data_width, 33 + 4 * head.sz
    first = labels + 8 + (width if head.label_format else 0)
    after = labels + head.num_label_bytes
    data = bytearray(binary)
    data[6] |= 1 << 6
    data[28] = _native.crc8(bytes(data[5:28]))
    data[first + width : first + 2 * width] = data[first : first + width]
    crc = _native.crc32c(bytes(data[labels:after])).to_bytes(4, "little")
    data[-4 * head.sz - 4 : len(data) - 4 * head.sz] = crc
    return bytes(data)


def counted_streams():
    a = volume("blobs", np.random.default_rng(5), (40, 30, 20)).astype("u4")
    flat, pins = ck.compress(a), ck.compress(a, allow_pins=1)
    assert ck.header(pins).label_format == ck.LabelFormat.PINS_VARIABLE_WIDTH
    one, two = (int(n) for n in ck.labels(flat)[[3, 5]])
    mapping = {one: 99999, two: 99999}
    yield "flat", flat, 29 + 8
    yield "pins", pins, 29 + 8 + ck.header(pins).stored_data_width
    yield "one label", ck.compress(np.zeros((9, 9, 9), "i8")), 29 + 8
    yield "one slice", ck.compress(a[:, :, :1]), 29 + 8
    yield "pins of one", ck.compress(np.full((9, 9, 9), 5, "u8"), allow_pins=1), 29 + 8 + 1
    yield "empty", ck.compress(np.zeros((0, 3, 3), "u8")), 29
    for name, binary in (("flat", flat), ("pins", pins)):
        remapped = with_one_label_less(binary)
        table = ck.header(binary).stored_data_width * np.unique(a).size
        yield f"remapped {name}", remapped, 29 + 8 + table
        yield f"version 0 {name}", as_version_0(remapped), 24 + 8 + table
    remapped = crackle.remap(flat, mapping, preserve_missing_labels=True)
    table = ck.header(remapped).stored_data_width * np.unique(a).size
    yield "remapped by the reference", remapped, 29 + 8 + table
    slice_0 = as_version_0(ck.compress(np.zeros((3, 3, 1), "u1")))
    yield "smallest of version 0", slice_0, 24 + 8 + 1


COUNTED = {name: (binary, size) for name, binary, size in counted_streams()}


@pytest.mark.parametrize("name", COUNTED)
def test_num_labels(tmp_path, name):
    binary, size = COUNTED[name]
    number = ck.num_labels(binary)
    assert number == np.unique(ck.decompress(binary)).size
    for most in (1, 7, 1 << 20):
        file = Counted(binary, most=most)
        assert files.load_num_labels(file) == number
        assert file.bytes == size
    head = ck.header(binary)
    index = head.voxels() and 4 * head.sz + 4 * head.format_version
    file = Counted(binary, seekable=False)
    assert files.load_num_labels(file) == number
    assert file.bytes == size + index
    file = Counted(binary)
    assert files.load_header(file) == head
    assert file.bytes == head.header_bytes
    for suffix in ("ckl", "ckl.gz", "ckl.xz", "ckl.zst"):
        files.save(binary, tmp_path / f"x.{suffix}")
        assert files.load_num_labels(tmp_path / f"x.{suffix}") == number
        assert files.load_header(tmp_path / f"x.{suffix}") == head


@pytest.mark.parametrize("name", COUNTED)
def test_num_labels_of_damaged_streams(name):
    binary, size = COUNTED[name]
    head = ck.header(binary)
    if not head.voxels():
        return
    index = head.header_bytes + 4 * head.sz + 4 * head.format_version
    for end in range(index + size - head.header_bytes):
        for seekable in (True, False):
            with pytest.raises(ck.FormatError):
                files.load_num_labels(Counted(binary[:end], seekable))
    pins = head.label_format != ck.LabelFormat.FLAT
    at = index + (head.stored_data_width if pins else 0)
    for count in (2**64 - 1, 2**63, 2**32, head.num_label_bytes, *([] if pins else [0])):
        damaged = binary[:at] + count.to_bytes(8, "little") + binary[at + 8 :]
        with pytest.raises(ck.FormatError):
            files.load_num_labels(io.BytesIO(damaged))
    if head.format_version:
        damaged = binary[:9] + b"\1" + binary[10:]
        for load in (files.load_num_labels, files.load_header):
            with pytest.raises(ck.FormatError, match="crc8"):
                load(io.BytesIO(damaged))
        assert files.load_header(io.BytesIO(damaged), ignore_crc_check=True).sx > head.sx


def test_num_labels_that_lie():
    every = ck.compress(np.arange(512).reshape(16, 16, 2).astype("u1"))
    at = 29 + 4 * 2 + 4
    for count in range(250, 270):  # keys of 2 bytes from 256 on
        lie = every[:at] + count.to_bytes(8, "little") + every[at + 8 :]
        if count < 256 or count % 2 == 0:
            assert files.load_num_labels(io.BytesIO(lie)) == count
            assert count == 256 or not ck.ok(lie)  # who reads on will see
        else:
            with pytest.raises(ck.FormatError, match="no room"):
                files.load_num_labels(io.BytesIO(lie))
    # 4 GB of labels are announced: memory is for what there is.
    binary = as_version_0(every)
    at, most = 24 + 4 * 2, 2**32 - 1
    lie = binary[:20] + most.to_bytes(4, "little") + binary[24:at]
    lie += (most - 8 - 2 * 2 - 16).to_bytes(8, "little") + binary[at + 8 :]
    asked = []

    class Asked(io.BytesIO):
        def read(self, size):
            asked.append(size)
            return super().read(size)

    with pytest.raises(ck.FormatError, match="table is cut off"):
        files.load_num_labels(Asked(lie))
    assert max(asked) <= 1 << 20


# The reference.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its use of nibabel
@pytest.mark.parametrize("order", "CF")
def test_reference_loads_ours(tmp_path, order):
    for dtype, suffix in itertools.product(("u1", "u4", "u8"), (*STREAMS, *ARRAYS)):
        if suffix.endswith((".zst", ".GZ", ".cpso.gz")):
            continue  # which it lacks
        a = labels_of(dtype, (7, 6, 5), order)
        path = str(tmp_path / f"x{suffix}")
        files.save(ck.compress(a), path)
        if suffix in STREAMS:
            check_same(crackle.load(path), a)
            assert crackle.util.load_num_labels(path) == files.load_num_labels(path)
        else:
            check_same(crackle.util.load_any(path), a)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its use of nibabel
@pytest.mark.parametrize("order", "CF")
def test_reference_saves(tmp_path, order):
    for dtype, suffix in itertools.product(("u1", "u4", "u8"), (*STREAMS, *ARRAYS)):
        if suffix.endswith((".zst", ".GZ")):
            continue
        a = labels_of(dtype, (7, 6, 5), order)
        path = str(tmp_path / f"x{suffix}")
        held = crackle.CrackleArray(crackle.compress(a))
        if suffix in STREAMS:
            crackle.save(held, path)
            check_same(files.load(path), a)
        else:
            save = {
                ".nrrd": crackle.util.save_nrrd, ".nii": crackle.util.save_nii,
                ".tif": crackle.util.save_tiff, ".cpso": crackle.util.save_compresso,
                ".npy": crackle.util.save_numpy, ".npy.gz": crackle.util.save_numpy,
            }.get(suffix)  # fmt: skip
            if save is None or (suffix == ".nii" and dtype == "u8"):
                continue  # which fails in nibabel
            save(held, path)
            check_same(files.load_any(path), a)


# The sidecar.


def test_sidecar_paths():
    for name in ("a/x.ckl", "a/x.ckl.gz", "a/x.ckl.xz", "a/x.ckl.lzma", "a/x.ckl.zst"):
        assert files.sidecar_path(name) == "a/x.ckl.meta.parquet"
    assert files.sidecar_path(Path("x.y.ckl")) == "x.y.ckl.meta.parquet"
    assert files.sidecar_path("x.bin") == "x.bin.ckl.meta.parquet"


def test_sidecar(tmp_path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "x.ckl.gz"
    binary, other = (ck.compress(labels_of("u4", order=order)) for order in "CF")
    files.save(binary, path)
    table = pyarrow.table({"label": np.arange(9, dtype="u8")}).replace_schema_metadata({"a": "b"})
    beside = Path(files.sidecar_path(path))
    assert files.load_sidecar(path, binary) is None
    files.save_table(table, beside, binary)
    only(tmp_path, "x.ckl.gz", "x.ckl.meta.parquet")
    for held in (binary, Held(binary), bytearray(binary)):
        back = files.load_sidecar(path, held)
        assert back.equals(table)
        assert back.schema.metadata[b"a"] == b"b"
    assert pyarrow.parquet.ParquetFile(beside).metadata.row_group(0).column(0).compression == "ZSTD"
    assert len(other) == len(binary)
    for changed in (other, binary + b"\0", binary[:-1]):
        assert files.load_sidecar(path, changed) is None
    good = beside.read_bytes()
    for at in range(len(good)):
        for damaged in (good[:at], good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :]):
            beside.write_bytes(damaged)
            back = files.load_sidecar(path, binary)
            if back is not None:  # nothing guards the names and types of columns
                assert back.column(0).to_pylist() in (list(range(9)), [None] * 9)
    for key in (None, b"3", b"{}", b"\xff", b"not json", b'{"format": 2, "length": 1}'):
        notes = {} if key is None else {b"numcodecs_crackle": key}
        files.save_table(table.replace_schema_metadata(notes), beside)
        assert files.load_sidecar(path, binary) is None
    files.save_table(table, beside, binary)

    def failing(*args, **kwargs):
        args[1].write(b"half")
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(pyarrow.parquet, "write_table", failing)
        with pytest.raises(InterruptedError):
            files.save_table(table, beside, other)
    assert files.load_sidecar(path, binary).equals(table)
    only(tmp_path, "x.ckl.gz", "x.ckl.meta.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match="pip install"):
        files.load_sidecar(path, binary)
