"""Arrays made from volumes: components over chunks, and halves by the most frequent label."""

from __future__ import annotations

import math
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import zarr
from conftest import volume
from hypothesis import given
from hypothesis import strategies as st
from stored import LAYOUTS, stored
from test_components import reference, same_partition
from zarr.storage import MemoryStore

import numcodecs_crackle as ck
from numcodecs_crackle import chunk_components
from numcodecs_crackle.pool import modes
from numcodecs_crackle.store import ChunkStore
from numcodecs_crackle.volume import LabelVolume

UP_TO_3D = [name for name, (shape, _, _) in LAYOUTS.items() if sum(n > 1 for n in shape) <= 3]


def made(a, chunks, store=None, **options):
    z = zarr.create_array(
        store=MemoryStore() if store is None else store, name="seg", shape=a.shape, dtype=a.dtype,
        chunks=chunks, **{"serializer": ck.CrackleCodec(), "compressors": None, **options},
    )  # fmt: skip
    z[...] = a
    return z


def as_3d(a):
    a = a.view("u1") if a.dtype == bool else a
    shape = [n for n in a.shape if n > 1]
    # cc3d takes no negative labels.
    labels = np.unique(a, return_inverse=True)[1].reshape(a.shape) + 1
    return np.where(a == 0, 0, labels).astype("u4").reshape(shape + [1] * (3 - len(shape)))


def is_like(result, z):
    """Whether an array is stored as another is, but for its shape, dtype and chunks."""
    assert result.metadata.zarr_format == z.metadata.zarr_format
    assert (result.shards is None) == (z.shards is None)
    assert result.compressors == z.compressors
    assert result.filters == z.filters
    a, b = result.metadata, z.metadata
    if a.zarr_format == 2:
        assert (a.order, a.dimension_separator) == (b.order, b.dimension_separator)
        return
    assert (a.dimension_names, a.chunk_key_encoding) == (b.dimension_names, b.chunk_key_encoding)
    if z.shards is not None:
        for what in ("index_codecs", "index_location", "codecs"):
            assert getattr(a.codecs[0], what) == getattr(b.codecs[0], what)


def is_numbered_in_order(found, z):
    """Whether components are numbered by their first voxels, by chunk and place in it."""
    store = ChunkStore(z)
    places = np.indices(z.shape)
    chunk = np.zeros(z.shape, np.int64)
    within = np.zeros(z.shape, np.int64)
    for a, n in enumerate(store.grid):
        chunk = chunk * n + places[a] // store.chunks[a]
    for a in store.axes:
        within = within * store.chunks[a] + places[a] % store.chunks[a]
    order = np.lexsort([within.ravel(), chunk.ravel()])
    numbers, first = np.unique(found.ravel()[order], return_index=True)
    assert (np.diff(first[numbers > 0]) > 0).all()
    assert numbers[numbers > 0].tolist() == list(range(1, (numbers > 0).sum() + 1))


# ---- components ----


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("name", UP_TO_3D)
def test_components(name, connectivity):
    a, z = stored(name)
    result = LabelVolume(z).connected_components({}, connectivity)
    found = result[...]
    assert same_partition(found, reference(as_3d(a), connectivity).reshape(a.shape))
    np.testing.assert_array_equal(found == 0, a == 0)
    is_numbered_in_order(found, z)
    is_like(result, z)
    assert (result.shape, result.chunks, result.shards) == (z.shape, z.chunks, z.shards)
    assert (result.dtype, result.fill_value) == (np.dtype("u8"), 0)
    # What is stored is what would be, had the array been written: padded, no false borders.
    volume = LabelVolume(result)
    np.testing.assert_array_equal(volume.labels(), np.unique(found))
    copy = zarr.create_array(
        store={}, shape=z.shape, dtype="u8", chunks=(*z.chunks,), compressors=None,
        serializer=ck.CrackleCodec(), filters=None if z.metadata.zarr_format == 2 else z.filters,
    )  # fmt: skip
    copy[...] = found
    if z.shards is None and z.metadata.zarr_format == 3 and not ChunkStore(z).behind:
        for chunk in product(*map(range, ChunkStore(z).grid)):
            key = ChunkStore(copy).key(chunk)
            ours = ChunkStore(result).get_object(key)
            assert ours == ChunkStore(copy).get_object(key)


@st.composite
def cut_volumes(draw):
    """Volumes with long components, in chunks that cut them anyhow."""
    shape = tuple(draw(st.integers(1, 14)) for _ in range(3))
    chunks = tuple(draw(st.integers(1, 8)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = draw(st.integers(1, 3))
    a = rng.integers(0, labels + 1, shape) * (rng.random(shape) < draw(st.floats(0.2, 1)))
    return (a * 7).astype(draw(st.sampled_from(["u1", "u4", "i8"]))), chunks


@given(cut_volumes(), st.sampled_from([6, 18, 26]), st.booleans(), st.booleans())
def test_components_of_any_chunks(both, connectivity, binary_image, in_shards):
    a, chunks = both
    options = {"shards": tuple(2 * c for c in chunks)} if in_shards else {}
    z = made(a, chunks, **options)
    result = LabelVolume(z).connected_components(
        {}, connectivity, dtype="u2", binary_image=binary_image
    )
    found = result[...]
    expected = reference(a.astype("u8"), connectivity, binary_image)
    assert same_partition(found, expected)
    np.testing.assert_array_equal(found == 0, a == 0)
    is_numbered_in_order(found, z)


def test_diagonals_over_corners():
    """One voxel in each of two chunks: joined over a face, an edge, a corner."""
    for way, least in (((1, 0, 0), 6), ((0, 1, -1), 18), ((1, -1, 1), 26), ((-1, 1, 1), 26)):
        a = np.zeros((4, 4, 4), "u1")
        here = np.array([1 if w > 0 else 2 for w in way])
        a[tuple(here)] = a[tuple(here + way)] = 9
        v = LabelVolume(made(a, (2, 2, 2)))
        for connectivity in (6, 18, 26):
            count = 1 if connectivity >= least else 2
            assert v.connected_components({}, connectivity)[...].max() == count


def test_components_of_axes_that_the_array_cuts_short():
    """Chunks longer than the array: slices of different axes fold into one."""
    rng = np.random.default_rng(0)
    for shape, chunks in (
        ((5, 6, 7, 1), (5, 6, 7, 4)),
        ((5, 6, 1, 7), (3, 4, 2, 9)),
        ((1, 9, 5, 1, 7), (3, 4, 2, 2, 9)),
    ):
        a = rng.integers(0, 3, shape).astype("u2")
        found = LabelVolume(made(a, chunks)).connected_components({}, 18)[...]
        assert same_partition(found, reference(as_3d(a), 18).reshape(shape))


def test_axes_that_are_no_space():
    for name in ("4D", "time"):
        _, z = stored(name)
        store = MemoryStore()
        with pytest.raises(ValueError, match="along up to 3 axes"):
            LabelVolume(z).connected_components(store)
        assert not store._store_dict
    empty = made(np.zeros((0, 5), "u1"), (4, 4))
    assert LabelVolume(empty).connected_components({})[...].shape == (0, 5)
    point = made(np.array(3, "u1"), ())
    assert LabelVolume(point).connected_components({})[...] == 1
    assert LabelVolume(point).downsample({})[...] == 3


def test_background_is_not_stored():
    a = np.zeros((12, 8, 8), "u4")
    a[9, 2, 3] = 5
    for options in ({}, {"shards": (8, 8, 8)}):
        z = made(a, (4, 4, 4), **options)
        z[0, 0, 0] = 1
        z[0, 0, 0] = 0  # a chunk of zeros that may be stored
        result = LabelVolume(z).connected_components({})
        assert [key for key in result.store_path.store._store_dict if "c/" in key] == (
            ["c/2/0/0"] if not options else ["c/1/0/0"]
        )
    everywhere = made(np.full((9, 8), 5, "i2"), (4, 5), fill_value=5)
    assert not [key for key in everywhere.store_path.store._store_dict if "c/" in key]
    result = LabelVolume(everywhere).connected_components({}, dtype="i1")
    assert (result[...] == 1).all()
    assert result.fill_value == 0


def test_numbers_that_do_not_fit():
    a = volume("noise", np.random.default_rng(0), (12, 12, 12)).astype("u4")
    v = LabelVolume(made(a, (4, 5, 6)))
    count = int(v.connected_components({}, 6).get_basic_selection().max())
    store = MemoryStore()
    assert 255 < count < 2**16
    with pytest.raises(OverflowError, match=f"{count} components do not fit uint8: .*=uint16"):
        v.connected_components(store, 6, dtype="u1")
    assert not [key for key in store._store_dict if "c/" in key]
    # Many in each chunk, but one in all: a comb whose teeth another chunk joins.
    comb = np.zeros((2, 700), "u1")
    comb[0, ::2] = comb[1] = 1
    v = LabelVolume(made(comb, (1, 700)))
    assert v.connected_components({}, 6, dtype="u1")[...].max() == 1
    for dtype, error in (("f4", TypeError), ("bool", TypeError)):
        with pytest.raises(error):
            v.connected_components({}, dtype=dtype)
    with pytest.raises(ValueError, match="connectivity are supported"):
        v.connected_components({}, 8)


def test_many_pairs_are_joined_as_they_come(monkeypatch):
    """A snake over all chunks, and noise, with few pairs held at a time."""
    monkeypatch.setattr(chunk_components, "_PAIRS", 5)
    snake = np.zeros((41, 40), "u1")
    snake[::2] = 1
    snake[1::4, -1] = snake[3::4, 0] = 1
    found = LabelVolume(made(snake, (3, 4))).connected_components({}, 6)[...]
    np.testing.assert_array_equal(found, snake)
    a = volume("binary", np.random.default_rng(1), (30, 31, 8)).astype("u1")
    found = LabelVolume(made(a, (2, 3, 8))).connected_components({}, 6)[...]
    assert same_partition(found, reference(a, 6))


# ---- by whom and where the work is done ----


def spawned():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def test_same_whatever_the_executor(tmp_path, capsys):
    a, z = stored("shards", tmp_path / "in.zarr")
    v = LabelVolume(z)
    found = v.connected_components(tmp_path / "a.zarr", 18, progress=True)[...]
    half = v.downsample(tmp_path / "b.zarr", progress=True)[...]
    shown = capsys.readouterr().err
    assert all(f"{word}: 100%" in shown for word in ("Components", "Writing", "Downsampling"))
    with ThreadPoolExecutor(1) as one:
        for batch in (1, 3, 50):
            result = chunk_components.connected_components(
                ChunkStore(z), {}, 18, "u8", False, _place(), {"executor": one}, batch
            )
            np.testing.assert_array_equal(result[...], found)
    with spawned() as pool:
        v = LabelVolume(z, executor=pool)
        path = str(tmp_path / "c.zarr")
        np.testing.assert_array_equal(v.connected_components(path, 18, name="x/cc")[...], found)
        np.testing.assert_array_equal(zarr.open_array(path, path="x/cc")[...], found)
        np.testing.assert_array_equal(v.downsample(path, name="x/half")[...], half)
        for store in (
            MemoryStore(),
            zarr.storage.LoggingStore(MemoryStore()),
            zarr.storage.ZipStore(tmp_path / "x.zip", mode="w"),
            "memory://there.zarr",
        ):
            for make in (v.connected_components, v.downsample):
                with pytest.raises(ValueError, match="other processes"):
                    make(store)
    # Shards or none: the numbers are the same.
    plain = made(a, z.chunks)
    np.testing.assert_array_equal(LabelVolume(plain).connected_components({}, 18)[...], found)


def _place():
    return {"name": None, "overwrite": False, "storage_options": None}


def test_other_stores(tmp_path):
    _, z = stored("plain")
    v = LabelVolume(z)
    found, half = v.connected_components({})[...], v.downsample({})[...]
    for store in (tmp_path / "x.zarr", f"{tmp_path}/y.zarr", "memory://z.zarr"):
        np.testing.assert_array_equal(v.connected_components(store)[...], found)
        np.testing.assert_array_equal(zarr.open_array(store)[...], found)
    with zarr.storage.ZipStore(tmp_path / "x.zip", mode="w") as store:
        np.testing.assert_array_equal(v.connected_components(store, name="a")[...], found)
        np.testing.assert_array_equal(v.downsample(store, name="b")[...], half)


def test_not_over_what_is_read_by_another_name(tmp_path, monkeypatch):
    a, z = stored("plain", tmp_path / "x.zarr")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "x.zarr")
    for source in (
        z,
        zarr.open_array("x.zarr/seg"),
        zarr.open_array(f"file://{tmp_path}/x.zarr/seg"),
    ):
        v = LabelVolume(source)
        for place in (
            "x.zarr", "./x.zarr", "y/../x.zarr", "link", f"file://{tmp_path}/x.zarr",
            tmp_path / "x.zarr",
        ):  # fmt: skip
            with pytest.raises(ValueError, match="not outside of the array that is read"):
                v.connected_components(place, name="seg", overwrite=True)
    np.testing.assert_array_equal(z[...], a)


def test_not_over_what_is_read(tmp_path):
    a, z = stored("plain", tmp_path / "x.zarr", "a/seg")
    v = LabelVolume(z)
    for make in (v.connected_components, v.downsample):
        for place in (
            {"store": tmp_path / "x.zarr", "name": "a/seg"},
            {"store": tmp_path / "x.zarr" / "a", "name": "seg"},
            {"store": tmp_path / "x.zarr", "name": "a"},
            {"store": tmp_path / "x.zarr"},
            {"store": z.store, "name": "a/seg/half"},
        ):
            with pytest.raises(ValueError, match="not outside of the array that is read"):
                make(**place, overwrite=True)
        make(z.store, name="a/segments")
        with pytest.raises(zarr.errors.ContainsArrayError):
            make(z.store, name="a/segments")
        assert make(z.store, name="a/segments", overwrite=True).shape
        del zarr.open_group(z.store)["a/segments"]
    np.testing.assert_array_equal(z[...], a)


def test_damage_names_the_chunk(tmp_path):
    _, z = stored("plain", tmp_path / "x.zarr")
    file = tmp_path / "x.zarr" / "seg" / "c" / "1" / "0" / "0"
    whole = file.read_bytes()
    v = LabelVolume(z, on_error="skip")
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:60]):
        file.write_bytes(damaged)
        for make in (v.connected_components, v.downsample):
            with pytest.raises(ck.FormatError, match="chunk c/1/0/0"):
                make({})


def test_a_chunk_that_changes_meanwhile(monkeypatch):
    _, z = stored("plain")
    finish = chunk_components._Found.finish

    def changing(self, dtype):
        z[8:16, :7] = z[8:16, :7][::-1, ::-1]
        return finish(self, dtype)

    monkeypatch.setattr(chunk_components._Found, "finish", changing)
    with pytest.raises(RuntimeError, match="chunk c/1/0/0 was changed meanwhile"):
        LabelVolume(z).connected_components({})


# ---- halves ----


def mode_of(block, whole, sparse):
    """The rule, word by word."""
    values = [v for v in block if v != 0] if sparse and any(block) else list(block)
    counts = Counter(values)
    most = max(counts.values())
    if whole and most == 1 and (block[-1] != 0 or not sparse):
        return block[-1]
    seen = Counter()
    for value in values:
        seen[value] += 1
        if seen[value] == most:
            return value


def halved(a, factors, sparse):
    result = np.empty([-(-n // f) for n, f in zip(a.shape, factors, strict=True)], a.dtype)
    for place in np.ndindex(*result.shape):
        block = a[tuple(slice(p * f, p * f + f) for p, f in zip(place, factors, strict=True))]
        whole = block.size == math.prod(factors)
        result[place] = mode_of(block.ravel().tolist(), whole, sparse)
    return result


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("factors", list(product((1, 2), repeat=3)))
def test_modes(factors, sparse):
    rng = np.random.default_rng(0)
    for shape in ((6, 8, 10), (7, 9, 5), (1, 4, 3), (2, 1, 1)):
        for top in (2, 3, 30):
            a = rng.integers(0, top, shape).astype("i2") - (top == 30)
            np.testing.assert_array_equal(modes(a, factors, sparse), halved(a, factors, sparse))


@pytest.mark.parametrize("sparse", [False, True])
def test_modes_are_those_of_2_by_2_pixels(sparse):
    rng = np.random.default_rng(1)
    a = rng.integers(0, 5, (3, 40, 50)).astype("u4")
    pooled = ck.decompress(ck.mode_pooling_2x2x1(ck.compress(a.T), sparse)).T
    np.testing.assert_array_equal(modes(a, (1, 2, 2), sparse), pooled)
    if not sparse:  # then it does not matter which axis is the first
        np.testing.assert_array_equal(modes(a.T, (2, 2, 1)), pooled.T)


@pytest.mark.parametrize("name", LAYOUTS)
def test_downsample(name):
    a, z = stored(name)
    v = LabelVolume(z)
    per_shard = ChunkStore(z).per_object
    for factors, chunks in (
        (2, None),
        ((1,) * (a.ndim - 1) + (2,), None),
        ((2,) + (1,) * (a.ndim - 1), tuple(c + 1 for c in z.chunks)),
    ):
        result = v.downsample({}, factors, sparse=chunks is not None, chunks=chunks)
        by = (factors,) * a.ndim if factors == 2 else factors
        np.testing.assert_array_equal(result[...], halved(a, by, chunks is not None))
        is_like(result, z)
        assert (result.dtype, result.fill_value) == (z.dtype, z.fill_value)
        assert result.chunks == (chunks or z.chunks)
        if z.shards is not None:
            assert result.shards == tuple(
                c * n for c, n in zip(result.chunks, per_shard, strict=True)
            )
        if result.metadata.zarr_format == 3 and result.shards is None:
            copy = zarr.create_array(
                store={}, shape=result.shape, dtype=z.dtype, chunks=result.chunks,
                serializer=ck.CrackleCodec(), compressors=z.compressors or None,
                filters=z.filters or None, fill_value=z.fill_value,
            )  # fmt: skip
            copy[...] = result[...]
            for chunk in product(*map(range, ChunkStore(copy).grid)):
                key = ChunkStore(copy).key(chunk)
                ours = ChunkStore(result).get_object(key)
                assert ours == ChunkStore(copy).get_object(key)


@given(cut_volumes(), st.tuples(*[st.sampled_from([1, 2])] * 3), st.booleans(), st.booleans())
def test_downsample_of_any_chunks(both, factors, sparse, in_shards):
    a, chunks = both
    options = {"shards": tuple(2 * c for c in chunks)} if in_shards else {}
    result = LabelVolume(made(a, chunks, **options)).downsample({}, factors, sparse=sparse)
    np.testing.assert_array_equal(result[...], halved(a, factors, sparse))


def test_a_pyramid():
    a = volume("blobs", np.random.default_rng(2), (24, 40, 36)).astype("u4")
    group = zarr.create_group({})
    z = made(a, (8, 8, 8), group.store)
    for level in (1, 2, 3):
        z = LabelVolume(z).downsample(group.store, (1, 2, 2), name=f"s{level}")
        a = halved(a, (1, 2, 2), False)
        np.testing.assert_array_equal(group[f"s{level}"][...], a)
    assert z.shape == (24, 5, 5)


def test_what_is_not_halved():
    _, z = stored("plain")
    v = LabelVolume(z)
    np.testing.assert_array_equal(v.downsample({}, 1)[...], z[...])
    for factors in (3, 0, (2, 2), (1, 2, 4), (2, 2, 2, 1)):
        with pytest.raises(ValueError, match="factors are 1 or 2 for each of 3 axes"):
            v.downsample({}, factors)
    for chunks in ((8, 8), (8, 0, 8)):
        with pytest.raises(ValueError, match="chunks are 3 positive numbers"):
            v.downsample({}, chunks=chunks)
