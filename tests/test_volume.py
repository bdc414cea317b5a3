"""LabelVolume: what it tells of stored chunks, against numpy and the whole array."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from stored import LAYOUTS, labels_for, stored
from test_partial import Recording
from zarr.storage import MemoryStore

import numcodecs_crackle as ck
from numcodecs_crackle import partial
from numcodecs_crackle.volume import LabelVolume


@pytest.fixture(params=LAYOUTS)
def both(request):
    a, z = stored(request.param)
    return a.view("u1") if a.dtype == bool else a, LabelVolume(z)


def regions(shape, count=8, seed=0):
    """None, and boxes of all kinds, as numpy's slices."""
    rng = np.random.default_rng(seed)
    yield None
    for _ in range(count):
        region = []
        for n in shape:
            start, stop = sorted(rng.integers(0, n + 1, 2).tolist())
            stop = max(stop, start + 1)
            region.append([slice(None), slice(start, stop), slice(min(start, n - 1), None)][
                rng.integers(0, 3)
            ])  # fmt: skip
        yield tuple(region)


def statistics_of(a, region=None):
    """By label: voxels, lowest and highest place, mean place."""
    region = tuple(slice(None) for _ in a.shape) if region is None else region
    offset = np.array([s.indices(n)[0] for s, n in zip(region, a.shape, strict=True)])
    part = a[region]
    result = {}
    for label in np.unique(part).tolist():
        points = np.argwhere(part == label) + offset
        result[label] = (len(points), points.min(0), points.max(0), points.mean(0))
    return result


def test_labels(both):
    a, v = both
    for region in regions(a.shape):
        part = a if region is None else a[region]
        found = v.labels(region)
        np.testing.assert_array_equal(found, np.unique(part))
        assert found.dtype == a.dtype
        assert v.num_labels(region) == len(found)
        if part.size:
            assert (v.min(region), v.max(region)) == (part.min(), part.max())
        for label in (*found[:3].tolist(), 9999, -300):
            assert v.contains(label, region) == bool((part == label).any())
    assert int(a.flat[0]) in v
    assert 9999 not in v


def chunk_of(v, chunk, region=None):
    """Where in the array a chunk is, within a region."""
    region = (slice(None),) * len(v.shape) if region is None else region
    place = []
    for i, c, n, s in zip(chunk, v.array.chunks, v.shape, region, strict=True):
        start, stop, _ = s.indices(n)
        place.append(slice(max(start, i * c), min(stop, (i + 1) * c)))
    return tuple(place)


def test_labels_by_chunk(both):
    a, v = both
    for region in (None, *list(regions(a.shape))[1:4]):
        found = dict(v.labels_by_chunk(region))
        if region is None:
            grid = [-(-n // c) for n, c in zip(a.shape, v.array.chunks, strict=True)]
            assert len(found) == math.prod(grid)
        for chunk, labels in found.items():
            np.testing.assert_array_equal(labels, np.unique(a[chunk_of(v, chunk, region)]))


def test_chunks_with(both):
    a, v = both
    region = list(regions(a.shape, seed=3))[2]
    for where in (None, region):
        by_chunk = {c: np.unique(a[chunk_of(v, c, where)]) for c, _ in v.labels_by_chunk(where)}
        some = np.unique(a)[::3].tolist()
        for label in some[:5]:
            expected = [c for c, labels in by_chunk.items() if label in labels]
            assert v.chunks_with(label, where) == expected
        found = v.chunks_with([*some, 12345, -1000], where)
        expected = {
            label: [c for c, labels in by_chunk.items() if label in labels] for label in some
        }
        assert found == {label: chunks for label, chunks in expected.items() if chunks}
    assert v.chunks_with(12345) == []


def test_statistics(both):
    a, v = both
    for region in regions(a.shape):
        expected = statistics_of(a, region)
        found = v.statistics(region=region)
        assert found.labels.tolist() == sorted(expected)
        for i, label in enumerate(found.labels.tolist()):
            count, low, high, mean = expected[label]
            assert found.voxel_counts[i] == count
            np.testing.assert_array_equal(found.boxes[i], [*low, *high])
            np.testing.assert_allclose(found.centroids[i], mean)


def test_statistics_of_some(both):
    a, v = both
    every = v.statistics()
    for region in regions(a.shape, 4, 2):
        whole = v.statistics(region=region)
        for wanted in (every.labels[:1], every.labels[::2], every.labels[-20:]):
            found = v.statistics([*wanted.tolist(), 12345], region)
            keep = np.isin(whole.labels, wanted)
            for got, all_of_it in zip(found, whole, strict=True):
                np.testing.assert_array_equal(got, all_of_it[keep])


def test_dicts(both):
    a, v = both
    expected = statistics_of(a)
    assert v.voxel_counts() == {label: row[0] for label, row in expected.items()}
    boxes, means = v.bounding_boxes(), v.centroids()
    for label, (_, low, high, mean) in expected.items():
        assert boxes[label] == tuple(slice(x, y + 1) for x, y in zip(low, high, strict=True))
        np.testing.assert_allclose(means[label], mean)
    assert v.voxel_counts(label) == expected[label][0]
    assert v.bounding_boxes(label) == boxes[label]
    np.testing.assert_array_equal(v.centroids(label), means[label])
    assert v.voxel_counts([label, 9999]) == {label: expected[label][0]}
    for ask in (v.voxel_counts, v.bounding_boxes, v.centroids, v.mask):
        with pytest.raises(ValueError, match="Label 9999 not contained"):
            ask(9999)


def test_mask(both):
    a, v = both
    for region in regions(a.shape, 4, 1):
        part = np.zeros(a.shape, bool)
        part[... if region is None else region] = True
        for label in np.unique(a)[::4].tolist():
            here = (a == label) & part
            if not here.any():
                with pytest.raises(ValueError, match="not contained"):
                    v.mask(label, region)
                continue
            offset, mask = v.mask(label, region)
            whole = np.zeros(a.shape, bool)
            whole[tuple(slice(o, o + n) for o, n in zip(offset, mask.shape, strict=True))] = mask
            np.testing.assert_array_equal(whole, here)
            for axis in range(a.ndim):  # cropped
                held = np.flatnonzero(mask.any(tuple(i for i in range(a.ndim) if i != axis)))
                assert held[0] == 0
                assert held[-1] == mask.shape[axis] - 1


def test_read(both):
    a, v = both
    some = np.unique(a)[::3]
    for region in regions(a.shape):
        part = a if region is None else a[region]
        np.testing.assert_array_equal(v.read(region), part)
        np.testing.assert_array_equal(
            v.read(region, labels=some.tolist()), np.where(np.isin(part, some), part, 0)
        )
    quick = LabelVolume(v.array, verify=False)
    for region in regions(a.shape, seed=4):
        np.testing.assert_array_equal(quick.read(region), a if region is None else a[region])
    assert v.read().dtype == np.dtype(v.array.dtype).newbyteorder("=")


def test_regions():
    a, z = stored("plain")
    v = LabelVolume(z)
    np.testing.assert_array_equal(v.read(3), a[3:4])
    np.testing.assert_array_equal(v.read(np.s_[..., -1]), a[..., -1:])
    np.testing.assert_array_equal(v.read(np.s_[-4:, ..., 2:5]), a[-4:, ..., 2:5])
    np.testing.assert_array_equal(v.read(np.s_[5:2]), a[5:2])
    assert v.labels(np.s_[5:2]).shape == (0,)
    assert v.voxel_counts(region=np.s_[5:2]) == {}
    with pytest.raises(ValueError, match="no voxels"):
        v.min(np.s_[5:2])
    with pytest.raises(ValueError, match="no steps"):
        v.labels(np.s_[::2])
    with pytest.raises(IndexError, match="axes"):
        v.labels((0, 0, 0, 0))
    with pytest.raises(IndexError, match="out of bounds"):
        v.labels(20)
    for region in (np.array([True, False]), True, 1.0, "z"):
        with pytest.raises(TypeError, match="slices and integers"):
            v.labels(region)


def test_edited_tables():
    """Entries that no voxel has, and labels that are there twice, as edits leave them."""
    a, z = stored("plain")
    v = LabelVolume(z)
    for chunk, labels in v.labels_by_chunk():
        key = "seg/" + v._store.key(chunk)
        stream = v._store.get_object(v._store.key(chunk))
        mapping = {int(labels[0]): 3, int(labels[-1]): 3}
        merged = ck.remap(stream, mapping, preserve_missing_labels=True)
        part = ck.mask(merged, [int(labels[len(labels) // 2])], 3)  # false borders, and labels gone
        z.store_path.store._store_dict[key] = type(z.store_path.store._store_dict[key]).from_bytes(
            bytes(part if sum(chunk) % 2 else merged)
        )
    a = z[...]
    for region in regions(a.shape):
        part = a if region is None else a[region]
        np.testing.assert_array_equal(v.labels(region), np.unique(part))
        counts = dict(zip(*(x.tolist() for x in np.unique(part, return_counts=True)), strict=True))
        assert v.voxel_counts(region=region) == counts


def test_labels_however_they_are_given():
    """Lists that numpy makes floats of, and scalars of several types."""
    a, z = stored("u8")
    a[0], a[1] = 2**64 - 1, 2**63 + 5
    z[...] = a
    v = LabelVolume(z)
    five = int((a == 5).sum())
    per = a[0].size
    expected = {5: five, 2**63 + 5: per, 2**64 - 1: per}
    wanted = [5, 2**63 + 5, 2**64 - 1, -1, 2**70]
    for some in (wanted, set(wanted), tuple(wanted), (x for x in wanted), dict.fromkeys(wanted)):
        assert v.voxel_counts(some) == expected
    assert v.voxel_counts([np.int64(5), np.uint64(2**63 + 5), np.int8(-1), 2**64 - 1]) == expected
    assert v.voxel_counts(np.array([5.0])) == {5: five}  # as pandas may have them
    assert 5.0 in v and -1 not in v
    with pytest.raises(TypeError):
        v.voxel_counts([5.5])


def test_table():
    pytest.importorskip("pyarrow")
    for name, axes in (("names", "zyx"), ("plain", "012")):
        _, z = stored(name)
        v = LabelVolume(z)
        table = v.table()
        found = v.statistics()
        assert table.column_names[:4] == [
            "label",
            "voxel_count",
            f"min_{axes[0]}",
            f"max_{axes[0]}",
        ]
        np.testing.assert_array_equal(table["label"].to_numpy(), found.labels)
        for i, axis in enumerate(axes):
            np.testing.assert_array_equal(table[f"max_{axis}"].to_numpy(), found.boxes[:, 3 + i])
            np.testing.assert_array_equal(
                table[f"centroid_{axis}"].to_numpy(), found.centroids[:, i]
            )


def test_chunks_that_are_not_stored():
    for name in ("fill", "fill in shards", "Zarr 2, Zstd"):
        _, z = stored(name)
        v = LabelVolume(z)
        some = v._store._fetch([(v._store.key(chunk), 0, None) for chunk, _ in v.labels_by_chunk()])
        assert None in some
        empty = zarr.create_array(
            store=MemoryStore(), shape=(9, 8), chunks=(4, 5), dtype="i2", fill_value=-2,
            serializer=ck.CrackleCodec(), compressors=None,
        )  # fmt: skip
        v = LabelVolume(empty)
        assert v.voxel_counts() == {-2: 72}
        assert v.labels(np.s_[3:4, 2]).tolist() == [-2]
        assert v.mask(-2)[1].shape == (9, 8)
        assert v.chunks_with(-2) == [(i, j) for i in range(3) for j in range(2)]


# ---- which bytes are read ----


def recorded(shape, chunks, a=None, **options):
    store = Recording(MemoryStore())
    a = labels_for(shape, kind="blobs") if a is None else a
    z = zarr.create_array(
        store=store, name="c0", shape=shape, chunks=chunks, dtype=a.dtype,
        **{"serializer": ck.CrackleCodec(), "compressors": None, **options},
    )  # fmt: skip
    z[...] = a
    sizes = {}
    for key in (f"c0/{LabelVolume(z)._store.key(c)}" for c, _ in LabelVolume(z).labels_by_chunk()):
        sizes[key] = len(LabelVolume(z)._store.get_object(key[3:]) or b"")
    store.reads.clear()
    return a, LabelVolume(z), store, sizes


@pytest.fixture(scope="module")
def cells():
    """128 slices of cells with many borders."""
    from conftest import blobs

    return blobs(np.random.default_rng(0), (128, 96, 96), cell=24).astype("u4")


@pytest.mark.parametrize("options", [{}, {"shards": (256, 96, 96)}])
def test_one_slice_of_many(cells, options):
    """Moves less than a tenth of the chunk, and the label section; in a shard, too."""
    a, v, store, _ = recorded(cells.shape, cells.shape, cells, **options)
    stream = ck.compress(np.asfortranarray(a.T))
    most = ck.header(stream).num_label_bytes + len(stream) / 10
    np.testing.assert_array_equal(v.read(77), a[77:78])
    assert store.bytes_read() < most + (16 * 2 + 4 if options else 0)
    assert len(store.reads) <= 4 + bool(options)
    store.reads.clear()  # of the label section, too, only what belongs to the slice
    np.testing.assert_array_equal(LabelVolume(v.array, verify=False).read(77), a[77:78])
    assert store.bytes_read() < partial.FIRST_BYTES + len(stream) / 50 + 36 * bool(options)
    assert len(store.reads) <= 5 + bool(options)


def test_tables_alone(cells):
    a, v, store, sizes = recorded(cells.shape, (128, 48, 96), cells)
    np.testing.assert_array_equal(v.labels(), np.unique(a))
    assert len(store.reads) == 2  # a small one for each chunk
    assert store.bytes_read() <= 2 * partial.FIRST_BYTES < sum(sizes.values())
    store.reads.clear()
    label = int(a[64, 50, 50])
    assert v.chunks_with(label)
    assert label in v
    assert store.bytes_read() <= 4 * partial.FIRST_BYTES
    # A table that is longer is read by one more request.
    noise = np.arange(32 * 40 * 40).reshape(32, 40, 40).astype("u4")
    _, v, store, sizes = recorded(noise.shape, noise.shape, noise)
    assert v.num_labels() == noise.size
    assert len(store.reads) == 2
    assert (
        store.bytes_read()
        < partial.FIRST_BYTES + 29 + 4 * 33 + 8 + 2 * noise.size + 4
        < sum(sizes.values())
    )


def test_one_label_reads_few_slices(cells):
    a, v, store, sizes = recorded(cells.shape, cells.shape, cells)
    counts = dict(zip(*np.unique(a, return_counts=True), strict=True))
    small = int(min(counts, key=counts.get))
    assert v.voxel_counts(small) == counts[small]
    low, high = v.bounding_boxes(small)[0].start, v.bounding_boxes(small)[0].stop
    assert high - low < 60
    store.reads.clear()
    v.mask(small)
    assert store.bytes_read() < sum(sizes.values()) * 0.8


def test_the_index_of_a_large_shard_is_read_a_few_times():
    a = labels_for((64, 64, 64), kind="blobs")
    a, v, store, _ = recorded(a.shape, (4, 4, 4), a, shards=(64, 64, 64))
    index = 16 * 16**3 + 4
    for ask in (v.labels, v.voxel_counts):
        store.reads.clear()
        ask()
        assert sum(n == index for _, _, n in store.reads) <= 17


def test_sums_do_not_wrap():
    """Of a volume so large that places add up to more than 64 bits hold."""
    z = zarr.create_array(
        store=MemoryStore(), shape=(2**20,) * 3, chunks=(2**19,) * 3, dtype="u4",
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    found = LabelVolume(z).statistics()
    assert found.voxel_counts.tolist() == [2**60]
    np.testing.assert_allclose(found.centroids, [[(2**20 - 1) / 2] * 3])


def test_within_zarrs_own_loop():
    _, z = stored("zstd behind")
    v = LabelVolume(z)

    async def ask():
        return v.labels()

    with pytest.raises(RuntimeError, match="event loop can't wait for itself"):
        zarr.core.sync.sync(ask())


# ---- damage ----


def test_damage_names_the_chunk(tmp_path):
    a, z = stored("plain", tmp_path / "x.zarr")
    file = tmp_path / "x.zarr" / "seg" / "c" / "1" / "0" / "0"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    v = LabelVolume(z)
    v.labels(np.s_[:8])
    for ask in (v.statistics, v.read):
        with pytest.raises(ck.FormatError, match=r"chunk c/1/0/0, .*slice 7") as error:
            ask()
        assert error.value.key == "c/1/0/0"
        assert error.value.slice == 7
        assert error.value.section is not None
    file.write_bytes(whole[:60])
    for ask in (v.labels, lambda: v.chunks_with(5), lambda: 9999 in v, lambda: v.mask(5)):
        with pytest.raises(ck.FormatError, match="chunk c/1/0/0"):
            ask()
    lenient = LabelVolume(z, on_error="skip")
    with pytest.warns(UserWarning, match="left out: chunk c/1/0/0"):
        counts = lenient.voxel_counts()
    there = np.ones(a.shape, bool)
    there[8:16, :7] = False
    expected = np.unique(a[there], return_counts=True)
    assert counts == dict(zip(*(x.tolist() for x in expected), strict=True))
    assert [e.key for e in lenient.damaged] == ["c/1/0/0"]
    with pytest.raises(ValueError, match="on_error"):
        LabelVolume(z, on_error="ignore")


@pytest.mark.parametrize("name", ["shards", "index first"])
def test_damaged_shards(tmp_path, name):
    _, z = stored(name, tmp_path / "x.zarr")
    file = tmp_path / "x.zarr" / "seg" / "c" / "1" / "0" / "0"
    whole = bytearray(file.read_bytes())
    v = LabelVolume(z)
    at = 0 if name == "index first" else len(whole) - 4 - 16 * 12
    for flip in (6, 7):  # a place far behind the shard, and one that none can have
        damaged = bytearray(whole)
        damaged[at + flip] ^= 0x7F
        if name == "shards":
            from numcodecs_crackle import _native

            damaged[-4:] = _native.crc32c(bytes(damaged[at:-4])).to_bytes(4, "little")
        file.write_bytes(damaged)
        with pytest.raises(ck.FormatError, match="chunk c/1/0/0"):
            v.labels()
    file.write_bytes(whole[:40])
    with pytest.raises(ck.FormatError, match="chunk c/1/0/0, shard index: the index"):
        v.labels()
    if name == "shards":
        damaged = bytearray(whole)
        damaged[at] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(ck.FormatError, match=r"shard index: .* crc32c"):
            v.labels()


def test_other_chunks_are_refused():
    """A stream of another shape or dtype is none of the array's."""
    _, z = stored("plain")
    v = LabelVolume(z)
    for other in (np.zeros((13, 7, 9), "u4"), np.zeros((13, 7, 8), "u2")):
        v._store.put_object("c/0/0/0", ck.compress(np.asfortranarray(other)))
        for ask in (v.labels, v.statistics, v.read, lambda: v.mask(0)):
            with pytest.raises(ck.FormatError, match="chunk c/0/0/0, header"):
                ask()


def test_arrays_of_others_are_refused():
    z = zarr.create_array(store=MemoryStore(), shape=(8, 8), chunks=(4, 4), dtype="u4")
    with pytest.raises(TypeError, match="not coded by Crackle: copy it to one that is"):
        LabelVolume(z)
    z = zarr.create_array(
        store=MemoryStore(), shape=(8, 8), chunks=(4, 4), dtype="u4", zarr_format=2
    )
    with pytest.raises(TypeError, match="not coded by Crackle"):
        LabelVolume(z)


# ---- opening, work ----


def test_groups_are_refused(tmp_path):
    stored("plain", tmp_path / "x.zarr")
    group = zarr.open_group(tmp_path / "x.zarr")
    for one in (tmp_path / "x.zarr", group):
        with pytest.raises(TypeError, match="is a group: open one of its arrays"):
            LabelVolume(one)
    with pytest.raises(FileNotFoundError):
        LabelVolume(tmp_path / "y.zarr")


def test_opening(tmp_path):
    a, _ = stored("plain", tmp_path / "x.zarr")
    for place in (tmp_path / "x.zarr" / "seg", f"{tmp_path}/x.zarr/seg"):
        np.testing.assert_array_equal(LabelVolume(place, mode="r").labels(), np.unique(a))
    for mode in ("w", "a", "w-"):  # which would make it empty, or make one
        with pytest.raises(ValueError, match="mode"):
            LabelVolume(place, mode=mode)
    assert repr(LabelVolume(place)) == "<LabelVolume (20, 15, 13) uint32, chunks (8, 7, 13)>"
    z = zarr.create_array(
        store=zarr.storage.ZipStore(tmp_path / "x.zip", mode="w"), shape=a.shape,
        chunks=(8, 7, 13), dtype="u4", serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    z[...] = a
    v = LabelVolume(z)
    np.testing.assert_array_equal(v.labels(), np.unique(a))
    np.testing.assert_array_equal(v.read(7), a[7:8])
    z.store_path.store.close()
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.put(f"{tmp_path}/x.zarr", "/x.zarr", recursive=True)
    v = LabelVolume("memory://x.zarr/seg")
    np.testing.assert_array_equal(v.labels(), np.unique(a))
    np.testing.assert_array_equal(v.read(np.s_[2:19, 4:]), a[2:19, 4:])


@pytest.mark.parametrize("fill", [0, 5])
def test_without_axes(fill):
    z = zarr.create_array(
        MemoryStore(), shape=(), dtype="u4", serializer=ck.CrackleCodec(), compressors=None,
        fill_value=fill,
    )  # fmt: skip
    z[...] = 5
    v = LabelVolume(z)
    assert v.voxel_counts() == {5: 1}
    offset, mask = v.mask(5)
    assert offset == () and mask.shape == () and mask


def test_executor_and_progress(capsys):
    a, z = stored("shards")
    with ThreadPoolExecutor(3) as pool:
        v = LabelVolume(z, executor=pool)
        np.testing.assert_array_equal(v.labels(progress=True), np.unique(a))
        np.testing.assert_array_equal(LabelVolume(z).statistics(executor=pool).labels, np.unique(a))
    assert "Labels: 100%" in capsys.readouterr().err
    with pytest.raises(RuntimeError):  # it is used: and it is shut down
        v.labels()


def test_chunk_labels_is_the_same():
    a, z = stored("plain")
    found = dict(ck.chunk_labels(z))
    assert len(found) == 9
    np.testing.assert_array_equal(found[2, 2, 0], np.unique(a[16:, 14:]))
