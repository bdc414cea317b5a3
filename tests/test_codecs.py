"""The codecs in numcodecs, Zarr 2 and 3, xarray and dask."""

from __future__ import annotations

import array
import itertools
import json

import numcodecs
import numpy as np
import pytest
import zarr
from conftest import volume

import numcodecs_crackle as ck
from numcodecs_crackle import chunks

DTYPES = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


def labels(shape=(20, 30, 40), dtype="u4", seed=0):
    return volume("bricks", np.random.default_rng(seed), shape).astype(dtype)


# ---- numcodecs ----


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "?"])
@pytest.mark.parametrize("shape", [(7,), (6, 7), (5, 6, 7), (2, 3, 4, 5), (1, 5, 1, 6), ()])
@pytest.mark.parametrize("order", "CF")
def test_numcodecs_round_trip(dtype, shape, order):
    codec = ck.Crackle()
    a = np.asarray(labels(shape, dtype), order=order)
    encoded = codec.encode(a)
    decoded = codec.decode(encoded)
    assert decoded.dtype == a.dtype
    np.testing.assert_array_equal(decoded, a.reshape(-1, order="A"))
    out = np.empty_like(a)
    assert codec.decode(encoded, out=out) is out
    np.testing.assert_array_equal(out, a)
    raw = bytearray(a.nbytes)
    codec.decode(np.frombuffer(encoded, "u1"), out=raw)
    assert raw == a.tobytes("A")


def test_numcodecs_bytes_and_config():
    codec = ck.Crackle(markov_model_order=3)
    for data in (b"hello, hello", bytearray(b"abc"), array.array("b", b"abc")):
        assert bytes(codec.decode(codec.encode(data))) == bytes(data)
    assert numcodecs.get_codec(json.loads(json.dumps(codec.get_config()))) == codec
    assert repr(codec) == "Crackle(markov_model_order=3)"
    assert codec != "auto"


def test_numcodecs_refusals():
    codec = ck.Crackle()
    for bad in (np.array([object()]), np.zeros(3, "f4"), np.zeros(3, ">u4")):
        with pytest.raises(TypeError):
            codec.encode(bad)
    with pytest.raises(ValueError, match="contiguous"):
        codec.encode(np.zeros((4, 4), "u4")[::2, ::2])
    encoded = codec.encode(np.zeros(4, "u4"))
    with pytest.raises(TypeError):
        codec.decode(encoded, out=np.empty(4, object))
    with pytest.raises(ValueError, match="bytes"):
        codec.decode(encoded, out=np.empty(5, "u4"))
    with pytest.raises(ck.FormatError):
        codec.decode(encoded[:-1])


def test_axis_order():
    """A C-order chunk is crackle.compress of its transpose, byte for byte."""
    import crackle

    a = labels((5, 6, 7))
    assert ck.Crackle().encode(a) == crackle.compress(a.T, parallel=1)
    folded = a.reshape(1, 5, 1, 6, 7)
    assert ck.Crackle().encode(folded) == crackle.compress(a.T, parallel=1)
    many = labels((2, 3, 6, 7))
    assert ck.Crackle().encode(many) == crackle.compress(many.reshape(6, 6, 7).T, parallel=1)
    f = np.asfortranarray(a)
    assert ck.Crackle().encode(f) == crackle.compress(f, parallel=1)
    assert chunks.fold((6, 7)) == (7, 6, 1)


# ---- Zarr ----


def arrays(dtype, shape=(20, 30, 40), part=(8, 16, 16)):
    """Every way to store an array, by name."""
    v2 = {"zarr_format": 2, "chunks": part}
    v3 = {"zarr_format": 3, "chunks": part, "serializer": ck.CrackleCodec()}
    ways = {
        "v2": {**v2, "compressors": ck.Crackle()},
        "v2 F": {**v2, "compressors": ck.Crackle(), "order": "F"},
        "v2 filter": {**v2, "filters": [ck.Crackle()], "compressors": numcodecs.Zstd()},
        "v3": {**v3, "compressors": None},
        "v3 markov": {**v3, "serializer": ck.CrackleCodec(4), "compressors": None},
        "v3 gzip": {**v3, "compressors": zarr.codecs.GzipCodec()},
        "v3 zstd": {**v3, "compressors": zarr.codecs.ZstdCodec()},
        "v3 shards": {**v3, "compressors": None, "shards": tuple(2 * p for p in part)},
        "v3 shards zstd": {
            **v3,
            "compressors": zarr.codecs.ZstdCodec(),
            "shards": tuple(2 * p for p in part),
        },
        "v3 transpose": {
            **v3,
            "compressors": None,
            "filters": zarr.codecs.TransposeCodec(order=(2, 0, 1)),
        },
    }
    for name, options in ways.items():
        if dtype == "?" and name.startswith("v2"):
            continue
        yield (
            name,
            zarr.create_array(
                zarr.storage.MemoryStore(), shape=shape, dtype=dtype, fill_value=0, **options
            ),
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_zarr_round_trip(dtype):
    a = labels(dtype=dtype)
    for name, z in arrays(dtype):
        z[:] = a
        np.testing.assert_array_equal(z[:], a, err_msg=name)
        z[3, 5:20, ::3] = a[4, 5:20, ::3]
        np.testing.assert_array_equal(z[3, 5:20, ::3], a[4, 5:20, ::3], err_msg=name)
        again = zarr.open_array(z.store, mode="r")
        np.testing.assert_array_equal(again[2:9], z[2:9], err_msg=name)
        assert again.dtype == a.dtype


def test_zarr_odd_input():
    a = labels()
    for _, z in arrays("u4"):
        for b in (a.astype(">u4"), np.asfortranarray(a), np.broadcast_to(a[:1], a.shape)):
            if z.metadata.zarr_format == 2 and b.dtype.byteorder == ">":
                continue
            z[:] = b
            np.testing.assert_array_equal(z[:], b)
    big = zarr.create_array(
        zarr.storage.MemoryStore(), shape=a.shape, dtype=">u4", chunks=(8, 16, 16),
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    big[:] = a
    np.testing.assert_array_equal(big[:], a)


def test_zarr_refusals():
    def create(**options):
        z = zarr.create_array(zarr.storage.MemoryStore(), shape=(8,), chunks=(8,), **options)
        z[:] = np.ones(8)

    codec = {"serializer": ck.CrackleCodec(), "compressors": None}
    with pytest.raises(TypeError, match="integer labels"):
        create(dtype="f4", **codec)
    with pytest.raises(TypeError, match="integer labels"):
        create(dtype="c8", **codec)
    with pytest.raises(TypeError, match="big-endian"):
        create(dtype=">u4", zarr_format=2, compressors=ck.Crackle())
    with pytest.raises(ValueError, match="no option"):
        ck.CrackleCodec.from_dict({"name": "crackle", "configuration": {"level": 3}})
    assert ck.CrackleCodec.from_dict({"name": "crackle"}) == ck.CrackleCodec()


def test_zarr_wrong_stream_in_a_chunk():
    store = zarr.storage.MemoryStore()
    z = zarr.create_array(
        store, shape=(8, 8, 8), chunks=(8, 8, 8), dtype="u4",
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    from zarr.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    for bad in (np.ones((8, 8, 4), "u4"), np.ones((8, 8, 8), "u2")):
        data = default_buffer_prototype().buffer.from_bytes(ck.compress(bad))
        sync(store.set("c/0/0/0", data))
        with pytest.raises(ck.FormatError):
            z[:]
        with pytest.raises(ck.FormatError):
            z[0, 0, 0] = 1


# ---- labels of chunks ----


def test_chunk_labels():
    a = labels()
    for name, z in arrays("u4"):
        z[:16] = a[:16]
        whole = z[:]
        found = dict(ck.chunk_labels(z))
        grid = [-(-n // c) for n, c in zip(z.shape, z.chunks, strict=True)]
        assert set(found) == set(itertools.product(*(range(g) for g in grid)))
        for at, have in found.items():
            box = tuple(slice(i * c, (i + 1) * c) for i, c in zip(at, z.chunks, strict=True))
            expected = np.unique(whole[box])
            if whole[box].shape == z.chunks:
                np.testing.assert_array_equal(have, expected, err_msg=name)
            else:  # padded with the fill value, 0
                assert set(expected) <= set(have) <= {*expected, 0}, name


def test_chunk_labels_refuses_and_names():
    z = zarr.create_array(zarr.storage.MemoryStore(), shape=(8,), chunks=(8,), dtype="u4")
    with pytest.raises(TypeError, match="not coded by Crackle"):
        list(ck.chunk_labels(z))


# ---- xarray and dask ----


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_xarray_and_dask(tmp_path, zarr_format):
    dask_array = pytest.importorskip("dask.array")
    xr = pytest.importorskip("xarray")
    a = labels((16, 32, 32), "u8")
    seg = xr.DataArray(
        dask_array.from_array(a, chunks=(8, 16, 16)), dims=("z", "y", "x"), name="seg"
    )
    encoding = {"chunks": (8, 16, 16)}
    if zarr_format == 2:
        encoding["compressors"] = ck.Crackle()
    else:
        encoding |= {"serializer": ck.CrackleCodec(), "compressors": None}
    seg.to_dataset().to_zarr(
        tmp_path / "a.zarr", zarr_format=zarr_format, encoding={"seg": encoding}, consolidated=False
    )
    back = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)["seg"]
    np.testing.assert_array_equal(back.values, a)
    assert back.dtype == a.dtype
    np.testing.assert_array_equal(back.isel(z=3).values, a[3])
    stored = zarr.open_array(tmp_path / "a.zarr" / "seg", mode="r")
    assert len(dict(ck.chunk_labels(stored))) == 8


def test_labels_that_are_no_bools():
    """Of any other byte than 0 and 1 numpy makes a bool that is equal to neither."""
    z = zarr.create_array(
        zarr.storage.MemoryStore(), shape=(4, 5, 6), chunks=(4, 5, 6), dtype="bool",
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    z[...] = np.ones(z.shape, np.bool_)
    volume = ck.LabelVolume(z)
    for other in (
        np.full((6, 5, 4), 7, "u1", order="F"),
        np.asfortranarray(np.arange(120).reshape(6, 5, 4) % 3, "u1"),
    ):
        volume._store.put_object("c/0/0/0", ck.compress(other))
        for ask in (
            lambda: z[...], lambda: z[1:3], volume.read, lambda: volume.read(np.s_[1:3]),
            volume.labels, volume.statistics, volume.point_cloud, lambda: volume.remap({1: 0}),
        ):  # fmt: skip
            with pytest.raises(ck.FormatError, match="neither 0 nor 1"):
                ask()
