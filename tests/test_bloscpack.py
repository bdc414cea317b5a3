"""Bloscpack files against bloscpack 0.16, both ways, over its options."""

from __future__ import annotations

import io
import json
import threading
import tracemalloc
import zlib

import blpk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc

from numcodecs_crackle import bloscpack as bp
from numcodecs_crackle.bloscpack_args import chunks_for
from numcodecs_crackle.bloscpack_chunks import in_order
from numcodecs_crackle.bloscpack_format import (
    CHECKSUMS,
    Header,
    MetadataHeader,
    metadata_section,
)
from numcodecs_crackle.errors import FormatError

theirs = blpk.imported()

NAMES = [checksum.name for checksum in CHECKSUMS]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    before = blosc.set_nthreads(request.param)
    yield request.param
    blosc.set_nthreads(before)


@st.composite
def options(draw, numpy: bool = False):
    """The arguments of both packages."""
    args = {
        "blosc_args": {
            "typesize": draw(st.sampled_from([1, 2, 3, 4, 8, 16, 255])),
            "clevel": draw(st.integers(0, 9)),
            "shuffle": draw(st.booleans()),
            "cname": draw(st.sampled_from(blosc.list_compressors())),
        },
        "bloscpack_args": {
            "offsets": draw(st.booleans()),
            "checksum": draw(st.sampled_from([*NAMES, None])),
            "max_app_chunks": draw(st.sampled_from([0, 1, 7, lambda n: 2 * n])),
        },
    }
    if numpy or draw(st.booleans()):
        args["metadata_args"] = {
            "meta_checksum": draw(st.sampled_from(NAMES)),
            "meta_codec": draw(st.sampled_from(["None", "zlib"])),
            "meta_level": draw(st.integers(0, 9)),
            "max_meta_size": draw(st.sampled_from([4000, lambda n: 3 * n + 20])),
        }
    kinds = {
        "blosc_args": "BloscArgs",
        "bloscpack_args": "BloscpackArgs",
        "metadata_args": "MetadataArgs",
    }
    return [
        {key: getattr(package, kinds[key])(**value) for key, value in args.items()}
        for package in (bp, theirs)
    ]


@st.composite
def contents(draw):
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    n = draw(st.integers(0, 3000))
    return rng.integers(0, draw(st.sampled_from([1, 4, 256])), n, dtype=np.uint8).tobytes()


CHUNK_SIZES = st.sampled_from([16, 100, 1000, 4096, "16B", "0.5K", "1K", "1M"])


@settings(max_examples=250)
@given(contents(), options(), CHUNK_SIZES, st.none() | JSON)
def test_bytes_both_ways(data, args, chunk_size, metadata):
    ours, others = args
    packed = bp.pack_bytes_to_bytes(data, chunk_size, metadata, **ours)
    reference = theirs.pack_bytes_to_bytes(data, chunk_size, metadata, **others)
    assert theirs.unpack_bytes_from_bytes(packed) == (data, metadata)
    assert bp.unpack_bytes_from_bytes(reference) == (data, metadata)
    assert bp.unpack_bytes_from_bytes(packed) == (data, metadata)
    # Headers, metadata and room are the same; Blosc may be another.
    assert packed[:32] == reference[:32]
    assert bp.BloscpackFile(packed).chunks.first == bp.BloscpackFile(reference).chunks.first


@st.composite
def arrays(draw):
    dtype = draw(
        st.sampled_from(
            ["u1", "<i2", ">i2", "f4", ">f8", "c16", "?", "S5", "U3", "M8[ns]", "m8[s]", "V5",
             [("a", "<i4", (2, 3)), ("b", "S3"), ("c", [("x", ">f4"), ("y", "U2")])]]
        )
    )  # fmt: skip
    shape = tuple(draw(st.lists(st.integers(0, 7), max_size=4)))
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    count = int(np.prod(shape))
    top = 2 if dtype.kind in "?cfSU" else 120
    raw = rng.integers(0, top, count * dtype.itemsize, dtype=np.uint8)
    if dtype.kind == "U" or dtype.names:
        raw[:] = 0
    array = raw.view(dtype).reshape(shape, order=draw(st.sampled_from("CF")))
    return array[::2] if array.ndim and draw(st.booleans()) else array


def same(a, b) -> bool:
    return (
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        and a.flags.f_contiguous == b.flags.f_contiguous
    )  # fmt: skip


@settings(max_examples=150)
@given(arrays(), options(numpy=True), st.integers(1, 40))
def test_arrays_both_ways(array, args, elements):
    ours, others = args
    chunk_size = elements * array.itemsize
    packed = bp.pack_ndarray_to_bytes(array, chunk_size, **ours)
    reference = theirs.pack_ndarray_to_bytes(array, chunk_size, **others)
    expected = theirs.unpack_ndarray_from_bytes(reference)
    assert same(bp.unpack_ndarray_from_bytes(reference), expected)
    assert same(bp.unpack_ndarray_from_bytes(packed), expected)
    assert same(theirs.unpack_ndarray_from_bytes(packed), expected)
    np.testing.assert_array_equal(expected, array)
    assert bp.BloscpackFile(packed).metadata == bp.BloscpackFile(reference).metadata


def test_arrays_that_bloscpack_has_trouble_with():
    wide = np.array([b"x" * 300, b"y"], "S300")
    aligned = np.zeros(5, np.dtype([("a", "u1"), ("b", "<u4")], align=True))
    aligned["b"] = 7
    awkward = np.zeros(400_000, [("a", "u1"), ("b", "u1", 6)])  # 7 bytes don't divide 1M
    empty = (np.zeros((3, 0, 2), "u1"), np.zeros(3, "V0"), np.zeros(3, [("a", "S0")])["a"])
    for array in (wide, aligned, awkward, *empty, np.array(5)):
        back = bp.unpack_ndarray_from_bytes(bp.pack_ndarray_to_bytes(array))
        assert same(back, array)
    assert same(theirs.unpack_ndarray_from_bytes(bp.pack_ndarray_to_bytes(wide)), wide)


def test_arrays_of_objects_are_refused():
    for array in (np.array([1, None]), np.zeros(2, [("a", "O")])):
        with pytest.raises(TypeError, match="objects"):
            bp.pack_ndarray_to_bytes(array)


@pytest.mark.parametrize(
    "what", ["'O'", "'(2,)i4'", "[('a', 'O')]", "1", "'f8' * 2", "(((", "()", "[()]"]
)
def test_dtypes_of_strangers(what):
    metadata = {"dtype": what, "shape": [1], "order": "C", "container": "numpy"}
    for text in (what, what.strip("'")):
        packed = bp.pack_bytes_to_bytes(bytes(8), metadata={**metadata, "dtype": text})
        with pytest.raises(FormatError, match="metadata"):
            bp.unpack_ndarray_from_bytes(packed)


@pytest.mark.parametrize(
    "changed",
    [{"shape": [2]}, {"shape": [-1]}, {"shape": [2**62, 2**62]}, {"shape": 1}, {"shape": [True]},
     {"order": "A"}, {"container": "list"}, {"dtype": 3}, {"dtype": "'f8'" * 99999}],
)  # fmt: skip
def test_arrays_of_liars(changed):
    metadata = {"dtype": "'<f8'", "shape": [1], "order": "C", "container": "numpy", **changed}
    packed = bp.pack_bytes_to_bytes(bytes(8), metadata=metadata)
    with pytest.raises(FormatError, match="metadata"):
        bp.unpack_ndarray_from_bytes(packed)


@pytest.mark.parametrize(
    "dtype, shape",
    [("'<f8'", [0, 2**62, 2**62]),
     ([["a"]], [0]), ([["a", "O"]], [0]), ([1], [0]), ([["a", "f8", [-1]]], [0]), ([[]], [0])],
)  # fmt: skip
def test_arrays_of_liars_without_bytes(dtype, shape):
    metadata = {"dtype": dtype, "shape": shape, "order": "C", "container": "numpy"}
    with pytest.raises(FormatError, match="metadata"):
        bp.unpack_ndarray_from_bytes(bp.pack_bytes_to_bytes(b"", metadata=metadata))


def test_older_names_of_dtypes():
    metadata = {"dtype": "float64", "shape": [1], "order": "C", "container": "numpy"}
    packed = bp.pack_bytes_to_bytes(bytes(8), metadata=metadata)
    assert same(bp.unpack_ndarray_str(packed), np.zeros(1))
    # And fields, which these wrote as JSON has them, and 0.16 reads.
    old = [["a", "<f8"], ["b", [["x", "<i2"], ["y", "|S2"]]], ["c", "<i4", 2]]
    packed = bp.pack_bytes_to_bytes(
        bytes(range(40)), metadata={**metadata, "dtype": old, "shape": [2]}
    )
    found = bp.unpack_ndarray_from_bytes(packed)
    assert same(found, theirs.unpack_ndarray_from_bytes(packed)) and found["c"].shape == (2, 2)
    old = [["c", "<i4", [1, 2]]]
    packed = bp.pack_bytes_to_bytes(bytes(8), metadata={**metadata, "dtype": old})
    assert bp.unpack_ndarray_from_bytes(packed)["c"].shape == (1, 1, 2)


def test_files_both_ways(tmp_path, threads):
    data = np.random.default_rng(0).integers(0, 9, 300_000, dtype=np.uint8).tobytes()
    plain, packed, out = tmp_path / "a.dat", tmp_path / "a.blp", tmp_path / "a.out"
    plain.write_bytes(data)
    for packer, unpacker in ((bp, theirs), (theirs, bp), (bp, bp)):
        packer.pack_file_to_file(str(plain), str(packed), "10K", {"a": 1})
        assert unpacker.unpack_bytes_from_file(str(packed)) == (data, {"a": 1})
        assert unpacker.unpack_file_from_file(str(packed), str(out)) == {"a": 1}
        assert out.read_bytes() == data
        packer.pack_bytes_to_file(data, str(packed))
        assert unpacker.unpack_bytes_from_file(str(packed)) == (data, None)
        array = np.asfortranarray(np.frombuffer(data, "u4").reshape(300, -1))
        packer.pack_ndarray_to_file(array, str(packed), chunk_size=10_000)
        # bloscpack's own function for that leaves the file open.
        assert same(unpacker.unpack_ndarray_from_bytes(packed.read_bytes()), array)
    assert same(bp.unpack_ndarray_from_file(packed), array)


@pytest.mark.parametrize("use_threads", [None, False])
def test_as_many_threads_as_set(threads, use_threads, monkeypatch):
    """zarr, too, tells numcodecs' Blosc to use none of its own."""
    monkeypatch.setattr(blosc, "use_threads", use_threads)
    here = {threading.get_ident()}
    who = set()

    def job():
        who.add(threading.get_ident())
        return 7

    assert list(in_order([job] * 9, 1 << 21, 1 << 18)) == [7] * 9
    assert (who == here) == (threads == 1)


def test_names_of_0_16_and_older_ones():
    import inspect

    for name in dir(theirs):
        if name.startswith(("pack_", "unpack_")):
            wanted = list(inspect.signature(getattr(theirs, name)).parameters)
            got = list(inspect.signature(getattr(bp, name)).parameters)
            assert got[: len(wanted)] == wanted or len(wanted) == 2, name
    for name in ("BloscArgs", "BloscpackArgs", "MetadataArgs"):
        ours, reference = getattr(bp, name)(), getattr(theirs, name)()
        assert list(ours) == list(reference)
        for key in ours:
            same_default = ours[key] == reference[key]
            assert same_default or ours[key](7) == reference[key](7), key


def test_args_are_mappings():
    args = bp.BloscArgs(cname="lz4")
    assert dict(args)["cname"] == "lz4" and len(args) == 4
    other = args.copy()
    other["clevel"] = 3
    assert (other.clevel, args.clevel) == (3, 7)
    for bad in (lambda: args["nope"], lambda: args.__setitem__("nope", 1)):
        with pytest.raises(KeyError):
            bad()
    with pytest.raises(TypeError):
        del args["clevel"]


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.sampled_from([1, 7, 1000, "1K", "0.3K", "1M", 2**31 - 17]))
def test_chunks_are_cut_as_there(size, chunk_size):
    from bloscpack.args import calculate_nchunks

    assert chunks_for(size, chunk_size) == calculate_nchunks(size, chunk_size)


def test_chunk_sizes():
    assert chunks_for(10, "max") == (1, 10, 10)
    assert chunks_for(2**31, "max", 8) == (2, 2**31 - 24, 24)
    assert chunks_for(100, 41, 4) == (3, 40, 20)
    assert chunks_for(100, 3, 4) == (25, 4, 4)
    for bad in (0, -1, 2**31 - 16, "x", "", "1X", "nan", "inf", "-1K"):
        with pytest.raises(ValueError):
            chunks_for(10, bad)
    with pytest.raises(TypeError):
        chunks_for(10, 1.5)


@pytest.mark.parametrize(
    "args",
    [{"typesize": 0}, {"typesize": 256}, {"clevel": 10}, {"clevel": -1}, {"cname": "none"},
     {"shuffle": 3}],
)  # fmt: skip
def test_wrong_blosc_args(args):
    with pytest.raises(ValueError, match=next(iter(args))):
        bp.pack_bytes_to_bytes(b"abc", blosc_args=bp.BloscArgs(**args))


def test_wrong_args():
    for args in ({"checksum": "sha3"}, {"max_app_chunks": -1}, {"max_app_chunks": 2**63}):
        with pytest.raises(ValueError):
            bp.pack_bytes_to_bytes(b"abc", bloscpack_args=bp.BloscpackArgs(**args))
    with pytest.raises(TypeError):
        bp.pack_bytes_to_bytes(b"abc", bloscpack_args=bp.BloscpackArgs(max_app_chunks=1.5))
    for args in (
        {"max_meta_size": 3}, {"max_meta_size": 2**32}, {"meta_codec": "lzma"},
        {"meta_level": 10}, {"magic_format": b"YAML"}, {"meta_checksum": "sha3"},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            metadata_section({"a": 1}, bp.MetadataArgs(**args))
    with pytest.raises(TypeError):
        bp.pack_bytes_to_bytes(b"abc", metadata={"a": b"no JSON"})


def test_packing_and_unpacking_take_few_chunks(tmp_path, threads):
    plain, packed = tmp_path / "a.dat", tmp_path / "a.blp"
    chunk = 1 << 18
    with open(plain, "wb") as file:
        for i in range(64):
            file.write(np.random.default_rng(i).integers(0, 9, chunk, dtype=np.uint8).tobytes())
    tracemalloc.start()
    try:
        bp.pack_file_to_file(plain, packed, chunk)
        bp.unpack_file_from_file(packed, tmp_path / "out")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out").read_bytes() == plain.read_bytes()
    assert most < (6 if threads == 1 else 16) * chunk


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    target = tmp_path / "a.blp"
    target.write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        bp.pack_file_to_file(tmp_path / "none", target)
    with pytest.raises(FormatError):
        bp.unpack_file_from_file(target, target)
    packed = bytearray(bp.pack_bytes_to_bytes(bytes(range(200)) * 50, 1000))
    packed[-1] ^= 1
    (tmp_path / "bad.blp").write_bytes(packed)
    with pytest.raises(FormatError, match="chunk 9: it does not match its adler32"):
        bp.unpack_file_from_file(tmp_path / "bad.blp", target)
    assert target.read_bytes() == b"old"


def test_bytes_need_not_be_bytes():
    array = np.arange(100, dtype="u4")
    for data in (array, memoryview(array), bytearray(array)):
        assert bp.unpack_bytes(bp.pack_bytes(data)) == (array.tobytes(), None)
    assert bp.unpack_bytes(memoryview(bytearray(bp.pack_bytes(b"abc"))))[0] == b"abc"
    assert bp.unpack_bytes(bp.pack_bytes(array.reshape(2, -1)[:0])) == (b"", None)
    sink = io.BytesIO(b"before ")
    sink.seek(7)
    bp.pack_bytes_to_file(b"abc" * 9, sink, 4)
    assert bp.unpack_bytes(sink.getvalue()[7:]) == (b"abc" * 9, None)


def test_metadata_is_compressed_where_that_helps():
    def stored(metadata, **args):
        section = metadata_section(metadata, bp.MetadataArgs(**args))
        return MetadataHeader.frombytes(section), section

    long = {"a": "x" * 500}
    head, section = stored(long)
    assert head.meta_codec == "zlib" and head.meta_comp_size < 50 and head.meta_size == 508
    assert head.max_meta_size == 5080 and len(section) == head.section_size
    assert json.loads(zlib.decompress(section[32 : 32 + head.meta_comp_size])) == long
    assert stored({"a": 1})[0].meta_codec == "None"
    assert stored(long, meta_codec="None")[0].meta_comp_size == 508
    assert stored(long, meta_codec=None, meta_checksum=None)[0].meta_checksum.name == "None"


def test_header_comes_back():
    head = Header(True, True, CHECKSUMS[8], 255, 100, 7, 3, 2**63 - 4)
    assert Header.frombytes(head.tobytes()) == head and len(head.tobytes()) == 32
    assert theirs.headers.BloscpackHeader.decode(head.tobytes()).max_app_chunks == 2**63 - 4


def test_unknown_sizes_are_found_out():
    data = bytes(range(100))
    args = {"blosc_args": bp.BloscArgs(1), "bloscpack_args": bp.BloscpackArgs(offsets=False)}
    packed = bp.pack_bytes_to_bytes(data, 40, **args)
    with_offsets = bp.pack_bytes_to_bytes(data, 40)
    fields = ((8, 4, with_offsets), (12, 4, packed), (8, 8, packed), (16, 8, packed))
    for start, size, whole in fields:
        unknown = bytearray(whole)
        unknown[start : start + size] = b"\xff" * size
        assert bp.unpack_bytes(unknown) == (data, None)
        file = bp.BloscpackFile(unknown)
        file.seek(-45, io.SEEK_END)
        assert file.read(30) == data[55:85]
    lost = bytearray(with_offsets)
    lost[32:56] = b"\xff" * 24
    assert bp.unpack_bytes(lost) == (data, None)
