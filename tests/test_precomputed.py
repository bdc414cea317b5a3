"""Neuroglancer precomputed layers, written and read; what is a copy, and what is refused."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from conftest import coded, volume
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import http_server
from stored import labels_for, stored
from zarr.codecs import Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore

import numcodecs_crackle as ck
from numcodecs_crackle import _native, listing, precomputed
from numcodecs_crackle.errors import UnsupportedError
from numcodecs_crackle.grid import ChunksIn, bounds
from numcodecs_crackle.objects import Objects
from numcodecs_crackle.precomputed_source import sources_of
from numcodecs_crackle.store import ChunkStore

SHAPE, CHUNKS = (20, 30, 37), (8, 16, 16)
PLACED = {"resolution": (4, 4, 40), "voxel_offset": (10, -20, 3)}
V3 = {"serializer": ck.CrackleCodec(), "compressors": None}
CHAINS = {
    "plain": V3,
    "gzip": {**V3, "compressors": GzipCodec()},
    "zstd": {**V3, "compressors": ZstdCodec()},
    "crc": {**V3, "compressors": Crc32cCodec()},
    "gzip and crc": {**V3, "compressors": (GzipCodec(), Crc32cCodec())},
    "shards": {**V3, "shards": (16, 32, 32)},
    "gzip in shards": {**V3, "shards": (16, 32, 32), "compressors": GzipCodec()},
    "Zarr 2": {"zarr_format": 2, "compressors": ck.Crackle()},
    "Zarr 2, gzip": {
        "zarr_format": 2, "filters": [ck.Crackle()], "compressors": numcodecs.GZip(),
    },
    "Zarr 2, blosc": {
        "zarr_format": 2, "filters": [ck.Crackle()], "compressors": numcodecs.Blosc(),
    },
}  # fmt: skip


def array_of(chain="plain", a=None, store=None, dtype="u4", **more):
    """Labels, of which the first chunk is 0, and the same stored."""
    if a is None:
        a = labels_for(SHAPE, dtype)
        a[:8, :16, :16] = 0
    options = {"shape": a.shape, "dtype": a.dtype, "chunks": CHUNKS, **CHAINS[chain], **more}
    z = zarr.create_array(MemoryStore() if store is None else store, **options)
    z[...] = a
    return a, z


def objects_in(path):
    """The files of a layer."""
    return {str(p.relative_to(path)): p.read_bytes() for p in Path(path).rglob("*") if p.is_file()}


def bytes_of(store, chunk):
    """A chunk as it is stored, None if it is not."""

    def plan():
        (data,) = yield [(0, None)]
        return data

    (data,) = store.read([(chunk, plan)])
    return data


def read_by_hand(path, scale=0):
    """The volume (x, y, z) of a layer, by its documents, and the streams that are missing."""
    files = objects_in(path)
    entry = json.loads(files["info"])["scales"][scale]
    out = np.zeros(entry["size"], json.loads(files["info"])["data_type"])
    missing = 0
    steps = [range(0, n, c) for n, c in zip(entry["size"], entry["chunk_sizes"][0], strict=True)]
    for begin in product(*steps):
        end = np.minimum(np.add(begin, entry["chunk_sizes"][0]), entry["size"])
        ends = zip(begin, end, entry["voxel_offset"], strict=True)
        name = f"{entry['key']}/" + "_".join(f"{a + o}-{b + o}" for a, b, o in ends)
        data = files.pop(name, None)
        if data is None and name + ".gz" in files:
            data = gzip.decompress(files.pop(name + ".gz"))
        if data is None:
            missing += 1
            continue
        head = ck.header(data)
        assert head.dtype == out.dtype
        out[tuple(map(slice, begin, end))] = ck.decompress(data)
    own = [name for name in files if name.startswith(entry["key"] + "/")]
    assert own == []
    return out, missing


def cloud_volume(url, **options):
    cloudvolume = pytest.importorskip("cloudvolume")
    return cloudvolume.CloudVolume(str(url), progress=False, **options)


def layer_of_cloud_volume(path, a, chunk=(16, 16, 8), compress=None, **options):
    """A layer of labels (x, y, z) that cloud-volume has written."""
    cloudvolume = pytest.importorskip("cloudvolume")
    info = cloudvolume.CloudVolume.create_new_info(
        1, "segmentation", a.dtype.name, "crackle", (4, 4, 40), (10, -20, 3),
        chunk_size=chunk, volume_size=a.shape,
    )  # fmt: skip
    vol = cloud_volume(f"file://{path}", info=info, compress=compress, **options)
    vol.commit_info()
    vol[:, :, :] = a
    return path


def padded(a, chunk):
    return np.pad(a, [(0, -n % c) for n, c in zip(a.shape, chunk, strict=True)])


# To a layer.


@pytest.mark.parametrize("edges", ["clip", "pad"])
@pytest.mark.parametrize("chain", CHAINS)
def test_cloud_volume_reads(tmp_path, chain, edges):
    a, z = array_of(chain, dtype="u8" if "shards" in chain else "u4")
    count = ck.to_precomputed(z, tmp_path / "layer", edges=edges, **PLACED)
    expected = a.T if edges == "clip" else padded(a.T, CHUNKS[::-1])
    got, missing = read_by_hand(tmp_path / "layer")
    assert (got == expected).all()
    assert missing == 1 and count == 3 * 2 * 3 - missing
    names = [name for name in objects_in(tmp_path / "layer") if name != "info"]
    assert all(name.endswith(".gz") == (chain.endswith("gzip") or "gzip in" in chain)
               for name in names)  # fmt: skip
    if edges == "pad":
        return
    vol = cloud_volume(f"precomputed://file://{tmp_path}/layer", fill_missing=True)
    assert vol.resolution.tolist() == [4, 4, 40] and vol.voxel_offset.tolist() == [10, -20, 3]
    assert vol.dtype == a.dtype.name
    assert (np.asarray(vol[:, :, :])[..., 0] == expected).all()


@pytest.mark.parametrize("edges", ["clip", "pad"])
@pytest.mark.parametrize("chain", CHAINS)
def test_what_is_a_copy(tmp_path, monkeypatch, chain, edges):
    _, z = array_of(chain, store=tmp_path / "z")
    calls = []
    encode = _native.encode
    monkeypatch.setattr(_native, "encode", lambda *args: calls.append(1) or encode(*args))
    ck.to_precomputed(z, tmp_path / "layer", edges=edges)
    store = ChunkStore(z)
    (source,) = sources_of(z, edges=edges)
    # Cut in x or y, that is 2 of 3 by 1 of 2 not; the first chunk is not stored.
    assert len(calls) == (0 if edges == "pad" else 3 * (3 * 2 - 2 * 1))
    files = objects_in(tmp_path / "layer")
    same = 0
    for chunk in ChunksIn(store, bounds(None, store.shape)):
        place = source.place(chunk)
        assert source.chunk(place) == chunk
        name = f"1_1_1/{source.scale.name(place)}"
        if source.gzipped:
            store.behind = ()
            name += ".gz"
        data = bytes_of(store, chunk)
        if source.scale.extent(place) == source.scale.chunk:
            assert files.get(name) == data
            same += data is not None
    assert same == (17 if edges == "pad" else 2 * 2 - 1)
    if edges == "clip":  # of z the bytes of some slices
        name = "1_1_1/0-16_0-16_16-20" + (".gz" if source.gzipped else "")
        data = gzip.decompress(files[name]) if source.gzipped else files[name]
        assert ck.header(data).sz == 4


@pytest.mark.parametrize(
    "layout", ["2D", "1D", "bool", "fill", "fill in shards", "names", "u8", "whole chunks"]
)
def test_layouts(tmp_path, layout):
    a, z = stored(layout)
    ck.to_precomputed(z, tmp_path / "layer")
    got, missing = read_by_hand(tmp_path / "layer")
    assert got.size == a.size and (got.reshape(a.T.shape) == a.T).all()
    if "fill" in layout:
        assert missing == 0
    back = ck.from_precomputed(tmp_path / "layer", MemoryStore())
    assert (back[...] == got.T).all()


def test_f_order_is_x_y_z(tmp_path):
    a, z = stored("Zarr 2, F")
    ck.to_precomputed(z, tmp_path / "layer")
    assert (read_by_hand(tmp_path / "layer")[0] == a).all()
    z = array_of(a=a, filters=TransposeCodec(order=(2, 1, 0)))[1]
    ck.to_precomputed(z, tmp_path / "other")
    assert (read_by_hand(tmp_path / "other")[0] == a).all()
    # By names other transpositions are right, too.
    options = {"filters": TransposeCodec(order=(1, 0, 2)), "dimension_names": ("y", "z", "x")}
    z = array_of(a=a, **options)[1]
    ck.to_precomputed(z, tmp_path / "third")
    assert (read_by_hand(tmp_path / "third")[0] == a.transpose(2, 0, 1)).all()


def test_units_drop_out(tmp_path):
    a = labels_for((1, 1, *SHAPE))
    options = {"chunks": (1, 1, *CHUNKS), "dimension_names": ("t", "c", "z", "y", "x")}
    ck.to_precomputed(array_of(a=a, **options)[1], tmp_path / "layer")
    assert (read_by_hand(tmp_path / "layer")[0] == a[0, 0].T).all()


@settings(max_examples=25)
@given(st.data())
def test_any_shape(tmp_path_factory, data):
    shape = data.draw(st.tuples(*[st.integers(1, 12)] * 3))
    chunks = data.draw(st.tuples(st.integers(1, 6), st.integers(2, 13), st.integers(2, 13)))
    offset = data.draw(st.tuples(*[st.integers(-50, 50)] * 3))
    a = volume("blocks", np.random.default_rng(1), shape).astype("u2")
    a[: shape[0] // 2] = 0
    z = zarr.create_array(MemoryStore(), data=a, chunks=chunks, **V3)
    folder = tmp_path_factory.mktemp("layer")
    ck.to_precomputed(z, folder / "layer", voxel_offset=offset)
    assert (read_by_hand(folder / "layer")[0] == a.T).all()
    for options in ({}, {"zarr_format": 2}):
        back = ck.from_precomputed(folder / "layer", MemoryStore(), **options)
        assert back.dtype == a.dtype and (back[...] == a).all()
        noted = back.attrs["precomputed"]
        assert noted == {"resolution": [1, 1, 1], "voxel_offset": list(offset)}
    shutil.rmtree(folder)


def test_missing_chunks(tmp_path):
    a, z = array_of()
    ck.to_precomputed(z, tmp_path / "layer", write_missing=True)
    got, missing = read_by_hand(tmp_path / "layer")
    assert missing == 0 and (got == a.T).all()
    assert (np.asarray(cloud_volume(f"file://{tmp_path}/layer")[:, :, :])[..., 0] == a.T).all()


@pytest.mark.parametrize("chain", ["plain", "gzip", "shards"])
def test_many_chunks_are_listed(tmp_path, monkeypatch, chain):
    a = np.zeros((100, 12, 12), "u4")
    a[77, 9:11, 10] = 5
    z = array_of(chain, a, tmp_path / "z", chunks=(1, 4, 4) if chain != "shards" else CHUNKS)[1]
    monkeypatch.setattr(listing, "LIST_FROM", 10)
    monkeypatch.setattr(precomputed, "LIST_FROM", 10)
    asked = []
    read = ChunkStore.read
    monkeypatch.setattr(
        ChunkStore, "read", lambda s, wanted, *more: asked.extend(wanted) or read(s, wanted, *more)
    )
    assert ck.to_precomputed(z, tmp_path / "layer") == 1
    assert len(asked) == (2 if chain == "shards" else 9)  # the shard, or the row, that has one
    assert (ck.from_precomputed(tmp_path / "layer", MemoryStore())[...] == a).all()


def test_gzip_as_asked(tmp_path):
    a, z = array_of("gzip")
    ck.to_precomputed(z, tmp_path / "plain", gzip=False)
    assert not any(name.endswith(".gz") for name in objects_in(tmp_path / "plain"))
    assert (read_by_hand(tmp_path / "plain")[0] == a.T).all()
    ck.to_precomputed(array_of()[1], tmp_path / "zipped", gzip=True)
    names = objects_in(tmp_path / "zipped").keys() - {"info"}
    assert names and all(name.endswith(".gz") for name in names)
    assert (read_by_hand(tmp_path / "zipped")[0] == a.T).all()
    # A store that has no names for it gets streams.
    memory = MemoryStore()
    ck.to_precomputed(z, memory)
    assert not any(key.endswith(".gz") for key in memory._store_dict)
    assert (ck.from_precomputed(memory, MemoryStore())[...] == a).all()
    with pytest.raises(ValueError, match="local folders"):
        ck.to_precomputed(z, MemoryStore(), gzip=True)


def test_what_is_there_is_kept_or_replaced(tmp_path):
    a, z = array_of("gzip")
    layer = tmp_path / "layer"
    ck.to_precomputed(z, layer, resolution=(8, 8, 8), gzip=False)
    (layer / "notes.txt").write_text("mine")
    before = objects_in(layer)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        ck.to_precomputed(z, layer)
    assert objects_in(layer) == before
    # Plain objects of old would be read before gzip'ed ones.
    z[...] = a + 1
    ck.to_precomputed(z, layer, resolution=(8, 8, 8), overwrite=True)
    assert (read_by_hand(layer)[0] == a.T + 1).all()
    ck.to_precomputed(z, layer, overwrite=True)
    assert (layer / "notes.txt").exists() and not (layer / "8_8_8").exists()
    # What was begun and not finished has no info.
    (layer / "info").unlink()
    with pytest.raises(FileExistsError):
        ck.to_precomputed(z, layer)


def test_overwrite_stays_in_the_layer(tmp_path):
    layer = tmp_path / "layer"
    layer.mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    info = {"data_type": "uint32", "num_channels": 1, "scales": [hostile_scale(key="../precious")]}
    (layer / "info").write_text(json.dumps(info))
    ck.to_precomputed(array_of()[1], layer, overwrite=True)
    assert (tmp_path / "precious" / "file").exists()


def test_failures_leave_no_info(tmp_path):
    _, z = array_of(store=tmp_path / "z")
    (tmp_path / "z/c/2/0/1").write_bytes(b"crkl\1" + bytes(40))
    with pytest.raises(ck.FormatError, match="chunk c/2/0/1, header"):
        ck.to_precomputed(z, tmp_path / "layer")
    assert not (tmp_path / "layer/info").exists()
    _, z = array_of("gzip", store=tmp_path / "g")
    for data in (b"\x1f\x8bnothing", gzip.compress(b"no stream"), b"", gzip.compress(b"crkl")[:9]):
        (tmp_path / "g/c/1/0/0").write_bytes(data)
        with pytest.raises(ck.FormatError, match="chunk c/1/0/0"):
            ck.to_precomputed(z, tmp_path / "layer", overwrite=True)


def test_other_stores_and_places(tmp_path):
    pytest.importorskip("fsspec")
    a, z = array_of(store=tmp_path / "z.zarr")
    ck.to_precomputed(str(tmp_path / "z.zarr"), "memory://layers/one")
    back = ck.from_precomputed("precomputed://memory://layers/one", "memory://layers/zarr")
    assert (back[...] == a).all()
    z[...] = a + 1
    with pytest.raises(FileExistsError):
        ck.to_precomputed(z, "memory://layers/one")
    ck.to_precomputed(z, "memory://layers/one", overwrite=True, key="new")
    back = ck.from_precomputed("memory://layers/one", MemoryStore(), scale="new")
    assert (back[...] == a + 1).all()
    with pytest.raises(ValueError, match="not outside"):
        ck.to_precomputed(z, tmp_path / "z.zarr" / "layer")
    with pytest.raises(ValueError, match="not outside"):
        ck.from_precomputed("memory://layers/one", "memory://layers/one/zarr")
    with pytest.raises(TypeError, match="no such option: excutor"):
        ck.to_precomputed(z, tmp_path / "x", excutor=None)
    with http_server(tmp_path) as server:
        ck.to_precomputed(z, tmp_path / "layer")
        back = ck.from_precomputed(f"precomputed://{server.url}/layer", MemoryStore())
        assert (back[...] == a + 1).all()


def test_work_can_be_sent(tmp_path):
    _, z = array_of("gzip", store=tmp_path / "z")
    (source,) = sources_of(z)
    place = zarr.storage.StorePath(LocalStore(tmp_path / "layer"))
    task = partial(precomputed._copy, source, Objects(place), True, False)
    chunks = list(ChunksIn(source.store, bounds(None, SHAPE)))
    assert pickle.loads(pickle.dumps(task))(chunks) == len(chunks) - 1


# Where the voxels are.


def scales_of(path):
    return [
        (s["key"], s["size"], s["resolution"], s["voxel_offset"])
        for s in json.loads((Path(path) / "info").read_text())["scales"]
    ]


def ome(version, scales, unit="micrometer", **more):
    """Attributes of a multiscale image (c, z, y, x)."""
    image = {
        "axes": [{"name": "c", "type": "channel"}]
        + [{"name": n, "type": "space", **({"unit": unit} if unit else {})} for n in "zyx"],
        "datasets": [
            {
                "path": path,
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale}, {"type": "translation", "translation": at},
                ],
            }
            for path, scale, at in scales
        ],
        **more,
    }  # fmt: skip
    return {"ome": {"version": "0.5", "multiscales": [image]}} if version == "0.5" else {
        "multiscales": [{"version": "0.4", **image}]
    }  # fmt: skip


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_multiscales(tmp_path, version):
    fmt = 2 if version == "0.4" else 3
    a = labels_for((1, *SHAPE))
    half = a[:, ::1, ::2, ::2]
    scales = [("0", [1, 0.04, 0.008, 0.008], [0, 0.4, -0.8, 0.016]),
              ("deep/1", [1, 0.04, 0.016, 0.016], [0, 0.4, -0.796, 0.02])]  # fmt: skip
    group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=fmt)
    group.attrs.update(ome(version, scales))
    coding = CHAINS["Zarr 2" if fmt == 2 else "plain"] | {"zarr_format": fmt}
    if fmt == 2:
        coding["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    for (path, *_), labels in zip(scales, (a, half), strict=True):
        z = group.create_array(
            path, shape=labels.shape, dtype="u4", chunks=(1, *CHUNKS),
            **{k: v for k, v in coding.items() if k != "zarr_format"},
        )  # fmt: skip
        z[...] = labels
    ck.to_precomputed(tmp_path / "x.zarr", tmp_path / "layer")
    assert scales_of(tmp_path / "layer") == [
        ("8_8_40", [37, 30, 20], [8, 8, 40], [2, -100, 10]),
        ("16_16_40", [19, 15, 20], [16, 16, 40], [1, -50, 10]),
    ]
    for i, labels in enumerate((a, half)):
        assert (read_by_hand(tmp_path / "layer", i)[0] == labels[0].T).all()
        back = ck.from_precomputed(tmp_path / "layer", MemoryStore(), scale=i)
        assert (back[...] == labels[0]).all()
    back = ck.from_precomputed(tmp_path / "layer", MemoryStore(), scale="16_16_40")
    assert back.shape == half.shape[1:]
    vol = cloud_volume(f"file://{tmp_path}/layer", mip=1, fill_missing=True)
    assert (np.asarray(vol[:, :, :])[..., 0] == half[0].T).all()
    # One of them alone, by its own path or in its group; arguments go first.
    for i, source in enumerate((tmp_path / "x.zarr" / "0", group["0"])):
        ck.to_precomputed(source, tmp_path / f"one{i}")
        assert scales_of(tmp_path / f"one{i}")[0][2:] == ([8, 8, 40], [2, -100, 10])
    with http_server(tmp_path) as server:
        (source,) = sources_of(f"{server.url}/x.zarr/0")
        assert source.scale.resolution == (8, 8, 40)
    ck.to_precomputed(group, tmp_path / "two", resolution=(10, 10, 30), voxel_offset=(7, 0, -5))
    assert [s[2:] for s in scales_of(tmp_path / "two")] == [
        ([10, 10, 30], [7, 0, -5]), ([20, 20, 30], [3, 0, -5]),
    ]  # fmt: skip


def test_ome_of_all_scales(tmp_path):
    a = labels_for((1, *SHAPE))
    whole = [{"type": "scale", "scale": [1, 10, 10, 10]}]
    attributes = ome("0.5", [("0", [1, 4, 1, 1], [0, 1, 0, 0])], "nanometer",
                     coordinateTransformations=whole)  # fmt: skip
    group = zarr.create_group(MemoryStore(), attributes=attributes)
    group.create_array("0", data=a, chunks=(1, *CHUNKS), **V3)
    (source,) = sources_of(group)
    assert source.scale.resolution == (10, 10, 40) and source.scale.offset == (0, 0, 0)
    for change, text in (
        ({"axes": 5}, "axes: a list was expected"),
        ({"coordinateTransformations": [{"type": "affine"}]}, "'affine'"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1]}]}, "4 to 4 were expected"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, -1]}]}, "more than 0"),
        ({"coordinateTransformations": 5}, "a list was expected, not 5"),
    ):
        group.attrs.update(ome("0.5", [("0", [1, 4, 1, 1], [0, 0, 0, 0])], None, **change))
        with pytest.raises(ValueError, match=text):
            ck.to_precomputed(group, tmp_path / "layer")
    group.attrs.update(ome("0.5", [("0", [1, 1, 1, 1], [0, 0, 0, 0])], "furlong"))
    with pytest.raises(ValueError, match="'furlong', not one of length"):
        ck.to_precomputed(group, tmp_path / "layer")
    for path in ("../0", "9", "", 5):
        group.attrs.update(ome("0.5", [(path, [1, 1, 1, 1], [0, 0, 0, 0])]))
        with pytest.raises(ValueError):
            ck.to_precomputed(group, tmp_path / "layer")
    assert not (tmp_path / "layer").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"axes": 5},
        {"coordinateTransformations": [{"type": "affine"}]},
        {"unit": "furlong"},
        {"noted": {"resolution": [1, 2], "voxel_offset": 7}},
    ],
)
def test_faults_of_metadata_that_are_not_needed(tmp_path, change):
    a = labels_for((1, *SHAPE))
    unit, noted = change.pop("unit", "nanometer"), change.pop("noted", None)
    attributes = ome("0.5", [("0", [1, 4, 1, 1], [0, 8, 3, 2])], unit, **change)
    group = zarr.create_group(tmp_path / "x.zarr", attributes=attributes)
    z = group.create_array("0", data=a, chunks=(1, *CHUNKS), **V3)
    if noted:
        z.attrs["precomputed"] = noted
    for options in ({}, {"voxel_offset": (1, 2, 3)}):
        with pytest.raises(ValueError):
            sources_of(z, **options)
    (source,) = sources_of(z, (4, 4, 40), (1, 2, 3))
    assert source.scale.resolution == (4, 4, 40) and source.scale.offset == (1, 2, 3)
    # The first voxel may be one that they tell: it is not passed over in silence.
    with pytest.warns(UserWarning, match="the first voxel is taken for 0, 0, 0: "):
        (source,) = sources_of(z, (4, 4, 40))
    assert source.scale.offset == (0, 0, 0)
    # Several arrays are scales by their sizes then.
    half = array_of(a=a[:, :, ::2, ::2], chunks=(1, *CHUNKS))[1]
    scales = [one.scale for one in sources_of([z, half], (4, 4, 40), (1, 2, 3))]
    assert scales[1].resolution == (8, 8, 40) and scales[1].offset == (0, 1, 3)
    # None of them is somewhere else than the first, whatever its own metadata say.
    image = ome("0.5", [("0", [1, 8, 2, 2], [0, 80, 80, 80])], "nanometer")
    told = zarr.create_group(tmp_path / "y.zarr", attributes=image)
    half = told.create_array("0", data=a[:, :, ::2, ::2], chunks=(1, *CHUNKS), **V3)
    with pytest.warns(UserWarning, match="the first voxel is taken for 0, 0, 0: "):
        assert [one.scale.offset for one in sources_of([z, half], (4, 4, 40))] == [(0, 0, 0)] * 2
    ck.to_precomputed(z, tmp_path / "layer", **PLACED)
    assert scales_of(tmp_path / "layer")[0][2:] == ([4, 4, 40], [10, -20, 3])
    assert (read_by_hand(tmp_path / "layer")[0] == a[0].T).all()


@pytest.mark.parametrize("fmt", [2, 3])
def test_xarray_coordinates(tmp_path, fmt):
    xr = pytest.importorskip("xarray")
    a = labels_for(SHAPE)
    z, y, x = (np.arange(n) for n in SHAPE)
    seg = xr.DataArray(
        a, dims=("z", "y", "x"), name="seg",
        coords={"z": ("z", 400 + 40 * z), "y": ("y", 0.004 * y, {"units": "µm"}),
                "x": ("x", -8 + 4.0 * x, {"units": "nanometers"})},
    )  # fmt: skip
    how = {**CHAINS["Zarr 2" if fmt == 2 else "plain"], "chunks": CHUNKS}
    how.pop("zarr_format", None)
    options = {"zarr_format": fmt, "consolidated": False}
    seg.to_dataset().to_zarr(tmp_path / "x.zarr", encoding={"seg": how}, **options)
    (source,) = sources_of(tmp_path / "x.zarr" / "seg")
    assert source.scale.resolution == (4, 4, 40) and source.scale.offset == (-2, 0, 10)
    # Coordinates that say no resolution are passed over.
    seg = seg.assign_coords(z=z**2)
    seg.to_dataset().to_zarr(tmp_path / "y.zarr", encoding={"seg": how}, **options)
    assert sources_of(tmp_path / "y.zarr" / "seg")[0].scale.resolution == (1, 1, 1)


def test_several_arrays(tmp_path):
    a, z = array_of()
    small = array_of(a=a[::2, ::3, ::3])[1]
    ck.to_precomputed([z, small], tmp_path / "layer", resolution=(4, 4, 40))
    assert scales_of(tmp_path / "layer") == [
        ("4_4_40", [37, 30, 20], [4, 4, 40], [0, 0, 0]),
        ("12_12_80", [13, 10, 10], [12, 12, 80], [0, 0, 0]),
    ]
    for arrays, text in (([], "no array"), ([z, z], "differ in resolution")):
        with pytest.raises(ValueError, match=text):
            ck.to_precomputed(arrays, tmp_path / "x")
    with pytest.raises(TypeError, match="one dtype"):
        ck.to_precomputed([z, array_of(a=a.astype("u8"))[1]], tmp_path / "x")
    with pytest.raises(ValueError, match="single scale"):
        ck.to_precomputed([z, small], tmp_path / "x", key="fine")
    assert not (tmp_path / "x").exists()


# Refusals.


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: zarr.create_array(MemoryStore(), shape=SHAPE, dtype="u4"), "not coded by Crackle"),
        (lambda: stored("big endian")[1], r'astype\("u2"\)'),
        (lambda: stored("4D")[1], "more than 3 axes are longer than 1"),
        (lambda: stored("time")[1], "more than 3 axes are longer than 1"),
        (lambda: stored("transposed")[1], "without transposition"),
        (lambda: array_of(dimension_names=("x", "y", "z"))[1], "those of a layer z, y, x"),
        (
            lambda: array_of(a=labels_for((3, 1, 9, 9)), chunks=(3, 2, 9, 9))[1],
            "more than 3 have chunks longer",
        ),
        (lambda: array_of(chunks=(8, 16, 1))[1], "chunks of 1 x 16 x 8 voxels"),
        (lambda: array_of(chunks=(8, 1, 16))[1], "chunks of 16 x 1 x 8 voxels"),
        (
            lambda: zarr.create_array(
                MemoryStore(), shape=SHAPE, dtype=">u4", **CHAINS["Zarr 2"], chunks=CHUNKS
            ),
            "big-endian",
        ),
    ],
)
def test_refused(tmp_path, make, text):
    with pytest.raises(TypeError, match=text):
        ck.to_precomputed(make(), tmp_path / "layer")
    assert not (tmp_path / "layer").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"resolution": (1, 2)}, "three positive numbers"),
        ({"resolution": (1, 2, 0)}, "positive"),
        ({"resolution": (1, 2, float("nan"))}, "positive"),
        ({"resolution": "abc"}, "three positive numbers"),
        ({"voxel_offset": (1, 2, 0.5)}, "whole numbers"),
        ({"voxel_offset": (1, 2, 2**70)}, "whole numbers"),
        ({"voxel_offset": (1, 2, float("inf"))}, "whole numbers"),
        ({"voxel_offset": 7}, "whole numbers"),
        ({"edges": "cut"}, "edges must be"),
        ({"key": "../x"}, "no name of a folder"),
        ({"key": ""}, "no name of a folder"),
    ],
)
def test_arguments(tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        ck.to_precomputed(array_of()[1], tmp_path / "layer", **options)
    assert not (tmp_path / "layer").exists()


# From a layer.


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("compress", [None, False])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_layers_of_cloud_volume(tmp_path, monkeypatch, dtype, compress, order):
    """Which codes streams with the C flag, gzip'ed if nothing else is said."""
    a = np.asarray(labels_for(SHAPE, dtype).T, order=order)
    a[:16, :16, :8] = 0
    layer_of_cloud_volume(tmp_path, a, compress=compress, delete_black_uploads=True)
    files = objects_in(tmp_path / "4_4_40")
    assert len(files) == 17
    assert all(name.endswith(".gz") == (compress is None) for name in files)
    files = {n.removesuffix(".gz"): d if compress is False else gzip.decompress(d)
             for n, d in files.items()}  # fmt: skip
    assert not any(ck.header(data).fortran_order for data in files.values())
    calls = []
    encode = _native.encode
    monkeypatch.setattr(_native, "encode", lambda *args: calls.append(1) or encode(*args))
    z = ck.from_precomputed(tmp_path, MemoryStore())
    assert len(calls) == 18 - 4
    assert z.dtype == dtype and z.chunks == CHUNKS and z.metadata.dimension_names == ("z", "y", "x")
    assert z.attrs["precomputed"] == {"resolution": [4, 4, 40], "voxel_offset": [10, -20, 3]}
    assert (z[...] == a.T).all()
    # Whole chunks are the same bytes, whichever the flag.
    assert bytes_of(ChunkStore(z), (1, 0, 1)) == files["26-42_-20--4_11-19"]
    assert bytes_of(ChunkStore(z), (0, 0, 0)) is None
    # What is asked of the stored chunks does not depend on it, nor does the way back.
    volume = ck.LabelVolume(z)
    labels, counts = np.unique(a, return_counts=True)
    assert volume.voxel_counts() == dict(zip(labels.tolist(), counts.tolist(), strict=True))
    ck.to_precomputed(z, tmp_path / "again")
    vol = cloud_volume(f"file://{tmp_path}/again", fill_missing=True)
    assert (np.asarray(vol[:, :, :])[..., 0] == a).all()
    assert vol.voxel_offset.tolist() == [10, -20, 3]


@pytest.mark.parametrize("options", [{}, {"shards": (16, 32, 32)}, {"zarr_format": 2}])
@pytest.mark.parametrize("coding", ["markov", "pins", "version 0", "false borders"])
def test_streams_of_any_kind(tmp_path, options, coding):
    a = labels_for(SHAPE, "u4").T
    ck.to_precomputed(array_of(a=np.ascontiguousarray(a.T))[1], tmp_path / "layer")
    for name in objects_in(tmp_path / "layer/1_1_1"):
        box = tuple(slice(*map(int, part.split("-"))) for part in name.split("_"))
        (tmp_path / "layer/1_1_1" / name).write_bytes(coded(np.ascontiguousarray(a[box]), coding))
    z = ck.from_precomputed(tmp_path / "layer", MemoryStore(), **options)
    assert (z[...] == a.T).all()
    ck.to_precomputed(z, tmp_path / "again")
    assert (read_by_hand(tmp_path / "again")[0] == a).all()


def test_chunks_larger_than_the_volume(tmp_path, monkeypatch):
    a = labels_for(SHAPE).T
    layer_of_cloud_volume(tmp_path, a, chunk=(64, 64, 8))
    calls = []
    encode = _native.encode
    monkeypatch.setattr(_native, "encode", lambda *args: calls.append(1) or encode(*args))
    z = ck.from_precomputed(tmp_path, MemoryStore())
    assert z.chunks == (8, 30, 37) and len(calls) == 1 and (z[...] == a.T).all()


def test_plain_objects_are_read_before_gzip(tmp_path):
    """As cloud-volume does it."""
    a = labels_for((8, 16, 16), "u4").T
    layer_of_cloud_volume(tmp_path, a)
    (path,) = (tmp_path / "4_4_40").iterdir()
    path.with_name(path.name[:-3]).write_bytes(ck.compress(np.full_like(a, 9)))
    assert (ck.from_precomputed(tmp_path, MemoryStore())[...] == 9).all()
    assert (np.asarray(cloud_volume(f"file://{tmp_path}")[:, :, :]) == 9).all()


@pytest.mark.parametrize("listed", [False, True])
def test_other_compression_is_refused(tmp_path, monkeypatch, listed):
    monkeypatch.setattr(precomputed, "LIST_FROM", 1 if listed else 100)
    layer_of_cloud_volume(tmp_path, labels_for(SHAPE).T, compress="br")
    with pytest.raises(ck.FormatError, match=r"chunk 4_4_40/.*\.br.* compressed as \.br"):
        ck.from_precomputed(tmp_path, MemoryStore())


# Layers of strangers.


def hostile_scale(**more):
    return {
        "key": "k", "size": [16, 16, 8], "resolution": [1, 1, 1], "voxel_offset": [0, 0, 0],
        "chunk_sizes": [[16, 16, 8]], "encoding": "crackle", **more,
    }  # fmt: skip


def hostile_info(scale=None, **more):
    document = {"@type": "neuroglancer_multiscale_volume", "type": "segmentation"}
    return {
        **document, "data_type": "uint32", "num_channels": 1,
        "scales": [hostile_scale(**(scale or {}))], **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"9" * 10_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"\x1f\x8b" + bytes(30), "gzip"),
        (gzip.compress(bytes(1 << 25), mtime=0), "more than"),
        (bytes(1 << 24), "bytes or more"),
        (hostile_info(**{"@type": "neuroglancer_legacy_mesh"}), "not of a volume"),
        (hostile_info(num_channels=2), "num_channels"),
        (hostile_info(data_type="float32"), "data_type"),
        (hostile_info(data_type="int32"), "data_type"),
        (hostile_info(data_type=["uint32"]), "data_type"),
        (hostile_info(scales=[]), "no list of scales"),
        (hostile_info(scales={}), "no list of scales"),
        (hostile_info(scales=[hostile_scale()] * 2000), "no list of scales"),
        (hostile_info(scales=[5]), "no JSON object"),
        *((hostile_info({"key": key}), "no name of a folder") for key in (
            "../k", "k/../../k", "/etc", "", ".", "..", "k//k", "a\0b", "a\\..\\b", 5, None,
            "k" * 300, "http://x/k", "~", "k/",
        )),
        (hostile_info({"encoding": "raw"}), "encoded as 'raw'"),
        (hostile_info({"encoding": None}), "encoded as None"),
        (hostile_info({"sharding": {"@type": "neuroglancer_uint64_sharded_v1"}}), "in shards"),
        *((hostile_info({"size": size}), "the size of scale k") for size in (
            None, [1, 2], [1, 2, 3, 4], [-1, 2, 3], [1.5, 2, 3], ["1", 2, 3], [True, 1, 1],
            [2**63, 1, 1], [1e300, 1, 1], [float("nan"), 1, 1], [float("inf"), 1, 1], [[1], 1, 1],
        )),
        (hostile_info({"chunk_sizes": []}), "no chunk_sizes"),
        (hostile_info({"chunk_sizes": [[0, 1, 1]]}), "chunk size"),
        (hostile_info({"chunk_sizes": [[1, 1]]}), "chunk size"),
        (hostile_info({"voxel_offset": [2**63, 0, 0]}), "voxel_offset"),
        (hostile_info({"resolution": [0, 1, 1]}), "resolution"),
        (hostile_info({"resolution": [float("nan"), 1, 1]}), "resolution"),
        (hostile_info({"resolution": 5}), "resolution"),
        (hostile_info({"resolution": ["1", "1", "1"]}), "resolution"),
        (hostile_info({"resolution": [10**400, 1, 1]}), "resolution"),
        (
            hostile_info({"size": [2**40] * 3, "chunk_sizes": [[2**20, 2**20, 1]]}),
            "too large",
        ),
        (hostile_info({"size": [2**40] * 3, "chunk_sizes": [[1, 1, 2**40]]}), "too large"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_hostile_info(tmp_path, info, text):
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "info").write_bytes(info if isinstance(info, bytes) else json.dumps(info).encode())
    with pytest.raises(ck.FormatError, match="info: ") as caught:
        ck.from_precomputed(layer, tmp_path / "z")
    assert text in str(caught.value) and len(str(caught.value)) < 400
    assert not (tmp_path / "z").exists()


def test_scales_that_are_not_there(tmp_path):
    (tmp_path / "info").write_text(json.dumps(hostile_info({"encoding": "raw"})))
    with pytest.raises(UnsupportedError):
        ck.from_precomputed(tmp_path, MemoryStore())
    with pytest.raises(IndexError, match="no scale 1"):
        ck.from_precomputed(tmp_path, MemoryStore(), scale=1)
    with pytest.raises(IndexError):
        ck.from_precomputed(tmp_path, MemoryStore(), scale=-1)
    with pytest.raises(KeyError, match="no scale 'x'"):
        ck.from_precomputed(tmp_path, MemoryStore(), scale="x")
    with pytest.raises(FileNotFoundError, match=r"no layer|does not exist"):
        ck.from_precomputed(tmp_path / "k", MemoryStore())


def test_absurd_numbers_of_chunks(tmp_path):
    """They are listed, and where that can't be it is said."""
    (tmp_path / "k").mkdir()
    info = hostile_info({"size": [2**60] * 3, "voxel_offset": [5, 5, 5]})
    (tmp_path / "info").write_text(json.dumps(info))
    stream = ck.compress(np.full((16, 16, 8), 7, "u4"))
    (tmp_path / "k" / "21-37_5-21_5-13").write_bytes(stream)
    for name in ("21-37_5-21_5-14", "021-37_5-21_5-13", "-11-5_5-21_5-13", "x", "1-2_3-4"):
        (tmp_path / "k" / name).write_bytes(b"not a chunk's name")
    z = ck.from_precomputed(tmp_path, MemoryStore())
    assert z[0, 0, 16] == 7 and z[0, 0, 15] == 0 and z[0, 0, 2**60 - 1] == 0
    with http_server(tmp_path) as server, pytest.raises(ck.FormatError, match="can't be listed"):
        ck.from_precomputed(server.url, tmp_path / "z")
    assert not (tmp_path / "z").exists()


def test_hostile_chunks(tmp_path):
    (tmp_path / "info").write_text(json.dumps(hostile_info({"size": [18, 16, 8]})))
    (tmp_path / "k").mkdir()
    right = ck.compress(np.full((16, 16, 8), 7, "u4"))
    zeros = b"crkl\1" + bytes(1 << 24)
    for data, text in (
        (b"", ""),
        (right[:20], ""),
        (b"\x1f\x8b\x08", "gzip"),
        (gzip.compress(right)[:-9], "gzip"),
        (gzip.compress(zeros), "more than"),
        (gzip.compress(gzip.compress(right)), ""),
        (ck.compress(np.full((16, 16, 8), 7, "u8")), "uint64"),
        (ck.compress(np.full((16, 16, 8), 7, "u2")), "uint16"),
        (ck.compress(np.full((16, 16, 8), 7, "i4")), "int32"),
        (ck.compress(np.full((16, 16, 9), 7, "u4")), "16 x 16 x 9 voxels"),
        (ck.compress(np.full((8, 16, 16), 7, "u4")), "8 x 16 x 16 voxels"),
        (replace(ck.header(right), sx=2**20, sy=2**20, sz=2**20).tobytes() + right[29:], "1048576"),
    ):
        for name in ("0-16_0-16_0-8", "16-18_0-16_0-8"):
            (tmp_path / "k" / name).write_bytes(data)
            with pytest.raises(ck.FormatError) as caught:
                ck.from_precomputed(tmp_path, MemoryStore())
            assert text in str(caught.value) and caught.value.key == f"k/{name}"
            (tmp_path / "k" / name).unlink()
    # What is cut off behind the header is seen where it is decoded: here, or in the array.
    (tmp_path / "k" / "0-16_0-16_0-8").write_bytes(right[:-3])
    z = ck.from_precomputed(tmp_path, MemoryStore())
    with pytest.raises(ck.FormatError):
        z[...]
