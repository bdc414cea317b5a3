"""The label index: the same answers as without it, whatever becomes of the array meanwhile."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import LAYOUTS, stored
from test_partial import Recording
from test_volume import regions
from zarr.storage import MemoryStore, WrapperStore

import numcodecs_crackle as ck
from numcodecs_crackle import chunk_stats, index, index_parts, partial
from numcodecs_crackle.volume import LabelVolume

pytestmark = pytest.mark.usefixtures("small_parts")


@pytest.fixture
def small_parts(monkeypatch):
    """Files of a few chunks, groups of a few rows; no waiting for the disk."""
    monkeypatch.setattr(index, "_PART_ROWS", 60)
    monkeypatch.setattr(index_parts, "_GROUP_ROWS", 16)
    monkeypatch.setattr(os, "fsync", lambda file: None)


def same(found, expected):
    for got, want in zip(found, expected, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def parts(path):
    return sorted(name for name in os.listdir(path) if name.endswith(".parquet"))


def rows_of(path, columns="*"):
    return duckdb.sql(f"select {columns} from '{path}/*.parquet'").fetchall()


def right(z, path, measured=None):
    """The folder, once it is refreshed, has what the array has, and nothing else."""
    v = LabelVolume(z)
    count = v.build_index(path)
    if measured is not None:
        assert count == measured
    a = z[...].view("u1") if z.dtype == bool else z[...]
    names = v.axis_names
    columns = [f"{s}_{n}" for s in ("chunk", "min", "max", "sum") for n in names]
    found = rows_of(path, ", ".join(f'"{c}"' for c in ("label", "voxel_count", *columns)))
    expected = set()
    for chunk in np.ndindex(*v._store.grid):
        part = a[tuple(slice(i * c, (i + 1) * c) for i, c in zip(chunk, z.chunks, strict=True))]
        places = np.indices(part.shape).reshape(a.ndim, -1).T + np.multiply(chunk, z.chunks)
        for label in np.unique(part):
            points = places[part.ravel() == label]
            numbers = (*points.min(0), *points.max(0), *points.sum(0))
            expected.add(tuple(map(int, (label, len(points), *chunk, *numbers))))
    assert len(found) == len(expected)
    assert {tuple(map(int, row)) for row in found} == expected
    return v


@pytest.fixture(params=LAYOUTS)
def both(request, tmp_path):
    _, z = stored(request.param)
    assert LabelVolume(z).build_index(tmp_path / "index") == np.prod(LabelVolume(z)._store.grid)
    return LabelVolume(z), LabelVolume(z, index=tmp_path / "index")


def test_answers(both):
    plain, v = both
    every = plain.labels()
    some = [*every[::3].tolist(), 12345, -1000]
    for region in regions(plain.shape, 3):
        if not len(plain.labels(region)):
            assert not len(v.labels(region))
            continue
        same([v.labels(region)], [plain.labels(region)])
        assert v.num_labels(region) == plain.num_labels(region)
        assert (v.min(region), v.max(region)) == (plain.min(region), plain.max(region))
        same(v.statistics(region=region), plain.statistics(region=region))
        same(v.statistics(some, region), plain.statistics(some, region))
        same(v.statistics(some[0], region), plain.statistics(some[0], region))
        found = v.chunks_with(some, region)
        assert found == plain.chunks_with(some, region)
        assert list(found) == sorted(found)
        for label in (*some[:4], 12345):
            assert v.chunks_with(label, region) == plain.chunks_with(label, region)
            assert v.contains(label, region) == plain.contains(label, region)
        label = next(iter(plain.chunks_with(every.tolist(), region)))
        offset, mask = v.mask(label, region)
        same([mask, np.array(offset)], [(p := plain.mask(label, region))[1], np.array(p[0])])
    assert v.table().equals(plain.table())
    assert v.check_index() == 0


def test_rows(both):
    plain, v = both
    path = v._index.path
    right(plain.array, path, 0)
    layout = v._index.layout
    seen = []
    for name in parts(path):
        table = pq.read_table(f"{path}/{name}")
        labels = table["label"].to_numpy()
        places = np.stack([table[c].to_numpy() for c in layout.chunk_columns], axis=1)
        order = np.lexsort((layout.ids_of(places), labels))
        np.testing.assert_array_equal(order, np.arange(len(labels)))
        seen += list(map(tuple, np.unique(places, axis=0).tolist()))
    assert len(seen) == len(set(seen)) == np.prod(layout.grid)  # no chunk in two of them


def recorded(a, chunks, **options):
    store = Recording(MemoryStore())
    z = zarr.create_array(
        store=store, name="c0", shape=a.shape, chunks=chunks, dtype=a.dtype,
        **{"serializer": ck.CrackleCodec(), "compressors": None, **options},
    )  # fmt: skip
    z[...] = a
    sizes = {key: len(buffer) for key, buffer in store._store._store_dict.items() if "/c/" in key}
    store.reads.clear()
    return z, store, sizes


@pytest.fixture(scope="module")
def cells():
    """Small cubes of a few thousand labels."""
    a = np.random.default_rng(0).integers(1, 3000, (16, 24, 24)).astype("u4")
    return a.repeat(4, 0).repeat(4, 1).repeat(4, 2)


def test_only_what_changed_is_measured(cells, tmp_path):
    z, store, sizes = recorded(cells, (32, 48, 48))
    assert min(sizes.values()) > 8000
    v = LabelVolume(z)
    assert v.build_index(tmp_path) == 8
    assert Counter(key for key, *_ in store.reads) == dict.fromkeys(sizes, 1)  # in one read each
    assert v.build_index(tmp_path) == 0
    z[40, 3, 3] = 99999
    before = {name: os.stat(tmp_path / name).st_ino for name in parts(tmp_path)}
    store.reads.clear()
    v = LabelVolume(z, index=tmp_path)
    counts = dict(zip(*np.unique(z[...], return_counts=True), strict=True))
    store.reads.clear()
    assert v.voxel_counts() == counts
    moved = Counter()
    for key, _, n in store.reads:
        moved[key] += n
    stale = "c0/c/1/0/0"
    assert moved.pop(stale) > sizes[stale]
    assert set(moved) == set(sizes) - {stale}
    assert max(moved.values()) < 4096 + 512  # no more than the fingerprint of the others
    after = {name: os.stat(tmp_path / name).st_ino for name in parts(tmp_path)}
    assert before.keys() == after.keys()
    assert len([name for name in before if before[name] != after[name]]) == 1
    store.reads.clear()
    assert v.chunks_with(99999) == [(1, 0, 0)]
    assert v.voxel_counts(99999) == 1
    assert v.labels().tolist() == sorted(counts)
    assert store.reads == []  # it was checked once
    z[0, 0, 0] = 88888
    assert 88888 not in v
    assert v.check_index() == 1
    assert 88888 in v
    z[0, 0, 0] = 77777
    assert LabelVolume(z, index=tmp_path, trust_index=True).contains(88888)
    v = LabelVolume(z, index=tmp_path)
    same(v.statistics(), LabelVolume(z).statistics())
    assert v.build_index() == 0


@pytest.mark.parametrize("name", ["fill", "fill in shards", "Zarr 2, Zstd", "time"])
def test_new_chunks(name, tmp_path):
    """Chunks that were not stored, and ones that are not any more."""
    shape, chunks, options = LAYOUTS[name]
    a, _ = stored(name)
    z = zarr.create_array(
        store=MemoryStore(), shape=shape, **{"dtype": "u4", "chunks": chunks, **options}
    )
    path = tmp_path / "index"
    v = right(z, path)
    assert v.voxel_counts() == {int(z.fill_value): a.size}
    half = shape[0] // 2 // chunks[0] * chunks[0] or chunks[0]
    z[:half] = a[:half]
    v = LabelVolume(z, index=path)
    same(v.statistics(), LabelVolume(z).statistics())
    right(z, path, 0)
    z[...] = a
    right(z, path)
    z[...] = z.fill_value
    assert LabelVolume(z, index=path).labels().tolist() == [z.fill_value]
    right(z, path, 0)


@pytest.mark.parametrize("name", ["plain", "shards", "4D"])
def test_resized(name, tmp_path):
    a, z = stored(name)
    right(z, tmp_path)
    for shape in (
        tuple(n + 3 for n in a.shape),
        tuple(max(1, n // 2) for n in a.shape),
        tuple(n + 11 for n in a.shape),
    ):
        z.resize(shape)
        plain, v = LabelVolume(z), LabelVolume(z, index=tmp_path)
        same(v.statistics(), plain.statistics())
        some = plain.labels()[::2]
        assert v.chunks_with(some) == plain.chunks_with(some)
        same([LabelVolume(z, index=tmp_path, trust_index=True).labels()], [plain.labels()])
        right(z, tmp_path, 0)


def test_appended(tmp_path):
    """Costs what is new, and small updates don't leave ever more files."""
    a, _ = stored("plain")
    z = zarr.create_array(
        store=MemoryStore(), shape=(1, 15, 13), chunks=(1, 7, 13), dtype="u4",
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    for n in range(1, 21):
        z.resize((n, 15, 13))
        z[n - 1] = a[n - 1]
        assert LabelVolume(z).build_index(tmp_path) == 3
    right(z, tmp_path, 0)
    tables = [pq.read_metadata(tmp_path / name).num_rows for name in parts(tmp_path)]
    assert len([n for n in tables if n < 30]) <= 1


class StopsAt(ThreadPoolExecutor):
    def __init__(self, n):
        super().__init__(1)
        self.left = n

    def submit(self, *args):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().submit(*args)


def many_chunks():
    z = zarr.create_array(
        store=MemoryStore(), shape=(20, 15, 13), chunks=(3, 4, 5), dtype="u4",
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    z[...] = stored("plain")[0]
    return z, 7 * 4 * 3


@pytest.mark.parametrize("stop", [0, 1, 4, 6])
def test_interrupted(tmp_path, stop):
    z, count = many_chunks()
    with StopsAt(stop) as pool, pytest.raises(KeyboardInterrupt):
        LabelVolume(z).build_index(tmp_path, executor=pool)
    done = len(set(rows_of(tmp_path, "chunk_0, chunk_1, chunk_2"))) if parts(tmp_path) else 0
    assert done == 8 * max(0, stop - 2)  # what had come back, by pieces of work
    right(z, tmp_path, count - done)


def test_an_update_that_is_interrupted(tmp_path):
    z, count = many_chunks()
    right(z, tmp_path)
    z[...] = z[...] + 500
    with StopsAt(2 + 6) as pool, pytest.raises(KeyboardInterrupt):  # two to compare fingerprints
        LabelVolume(z).build_index(tmp_path, executor=pool)
    assert not [name for name in os.listdir(tmp_path) if not name.endswith(".parquet")]
    new = rows_of(tmp_path, "chunk_0, chunk_1, chunk_2, label > 400")
    assert len({row[:3] for row in new if row[3]}) == 8 * 4
    assert len({row[:3] for row in new}) == count  # the others are there as they were
    right(z, tmp_path, count - 8 * 4)


def test_a_folder_that_is_not_written_to(cells, tmp_path, monkeypatch):
    z, _, _ = recorded(cells, (32, 48, 48))
    path = tmp_path / "index"
    LabelVolume(z).build_index(path)
    z[40, 3, 3] = 99999
    before = {name: (path / name).read_bytes() for name in parts(path)}
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    plain, v = LabelVolume(z), LabelVolume(z, index=path)
    some = plain.labels()[::3]
    for _ in range(2):
        for region in (None, np.s_[1:, 48:], np.s_[30:60]):
            same(v.statistics(region=region), plain.statistics(region=region))
            same(v.statistics(some, region), plain.statistics(some, region))
            same([v.labels(region)], [plain.labels(region)])
            assert v.chunks_with(some, region) == plain.chunks_with(some, region)
        assert v.chunks_with(99999) == [(1, 0, 0)]
        z[33, 50, 2] = z[2, 2, 2] = 99999
        assert v.chunks_with(99999) == [(1, 0, 0)]
        v.check_index()
        z[33, 50, 2] = z[2, 2, 2] = 0
        assert v.chunks_with(99999) == [(0, 0, 0), (1, 0, 0), (1, 1, 0)]
        v.check_index()
    assert {name: (path / name).read_bytes() for name in parts(path)} == before
    monkeypatch.undo()
    assert v.build_index() == 3
    same(v.statistics(), LabelVolume(z).statistics())


def test_two_at_once(tmp_path):
    """What another process writes is seen; chunks that two have written count once."""
    _, z = stored("shards")
    v = right(z, tmp_path)
    z[3, 3, 3] = 4242
    assert 4242 not in v
    right(z, tmp_path, 1)
    assert 4242 in v
    first = parts(tmp_path)[0]
    shutil.copy(tmp_path / first, tmp_path / "part-000999.parquet")
    same(LabelVolume(z, index=tmp_path).statistics(), LabelVolume(z).statistics())
    same([LabelVolume(z, index=tmp_path).labels()], [LabelVolume(z).labels()])
    right(z, tmp_path, 0)  # and is removed
    assert "part-000999.parquet" not in parts(tmp_path)


def test_replaced_while_it_is_read(tmp_path):
    _, z = stored("shards")
    v = right(z, tmp_path)
    found = v._covered(None, {})[1]
    z[0, 0, 0] = 4242
    right(z, tmp_path, 1)
    total = chunk_stats.merged(list(found.sums(None)))
    same(total.statistics(), LabelVolume(z).statistics())
    name = parts(tmp_path)[0]
    other = stored("shards")[1]
    LabelVolume(other).build_index(tmp_path / "other")
    shutil.copy(tmp_path / "other" / parts(tmp_path / "other")[-1], tmp_path / name)
    with pytest.raises(RuntimeError, match="ask again"):
        list(found.sums(None))


# ---- edits ----


def fingerprints(z, chunks):
    v = LabelVolume(z)
    plans = [(chunk, lambda: partial.fingerprint_of()) for chunk in chunks]
    return [found or 0 for found in v._store.read(plans)]


def edited(z, mapping, chunks):
    """Change labels of some chunks in the store: by numpy, through zarr."""
    for chunk in chunks:
        box = tuple(slice(i * c, (i + 1) * c) for i, c in zip(chunk, z.chunks, strict=True))
        a = z[box]
        new = a.copy()
        for old, label in mapping.items():
            new[a == old] = label
        z[box] = new


@settings(max_examples=8)
@given(st.data(), st.sampled_from(["plain", "shards", "fill", "4D", "2D", "u8", "big endian"]))
def test_relabel(data, name):
    """Edits that the index follows measure nothing; it is right after each."""
    import tempfile

    _, z = stored(name)
    plain = LabelVolume(z)
    grid = [chunk for chunk, _ in plain.labels_by_chunk()]
    with tempfile.TemporaryDirectory() as path:
        v = LabelVolume(z)
        v.build_index(path)
        for _ in range(2):
            labels = plain.labels().tolist()
            old = data.draw(st.lists(st.sampled_from(labels), min_size=1, max_size=9, unique=True))
            new = [data.draw(st.sampled_from([*labels, 111, 112])) for _ in old]
            chunks = data.draw(st.lists(st.sampled_from(grid), min_size=1, unique=True))
            before = fingerprints(z, chunks)
            edited(z, dict(zip(old, new, strict=True)), chunks)
            where = np.array(chunks)
            if data.draw(st.booleans()):
                where = np.ravel_multi_index(where.T, v._store.grid)
            v._index.relabel(
                where, np.array(old), np.array(new), fingerprints(z, chunks),
                *data.draw(st.sampled_from([(), (before,)])),
            )  # fmt: skip
            same(v.statistics(), plain.statistics())
            assert v.chunks_with(plain.labels()) == plain.chunks_with(plain.labels())
        right(z, path, 0)


def test_relabel_of_stale_rows(tmp_path):
    """They are not what was edited: they stay stale."""
    _, z = stored("plain")
    v = right(z, tmp_path)
    label = int(v.labels()[10])
    z[0, 0, 0] = label
    chunks = v.chunks_with(label)
    assert (0, 0, 0) not in chunks
    chunks = [(0, 0, 0), *chunks]
    before = fingerprints(z, chunks)
    edited(z, {label: 4242}, chunks)
    v._index.relabel(chunks, [label], [4242], fingerprints(z, chunks), before)
    same(v.statistics(), LabelVolume(z).statistics())
    assert v.chunks_with(4242) == chunks
    # An edit that nobody told of, and one of an index that was never checked.
    edited(z, {4242: label}, chunks)
    v = LabelVolume(z, index=tmp_path)
    edited(z, {label: 77}, chunks[:1])
    v._index.relabel(np.array(chunks[:1]), [label], [77], fingerprints(z, chunks[:1]))
    same(v.statistics(), LabelVolume(z).statistics())
    right(z, tmp_path, 0)
    with pytest.raises(OverflowError, match="label 4294967296 does not fit uint32"):
        v._index.relabel(chunks, [label], [2**32], before)
    with pytest.raises(IndexError, match="no such chunks"):
        v._index.relabel([(3, 0, 0)], [label], [4], [0])


def test_relabel_writes_each_part_once(tmp_path, monkeypatch):
    _, z = stored("shards")
    v = right(z, tmp_path)
    written = []
    write = index.write_part
    monkeypatch.setattr(index, "write_part", lambda *a: written.append(a[1]) or write(*a))
    chunks = v.chunks_with(5)
    edited(z, {5: 4242}, chunks)
    v._index.relabel(chunks, [5], [4242], fingerprints(z, chunks))
    assert len(written) == len(set(written)) > 3
    assert v.chunks_with(4242) == chunks
    assert right(z, tmp_path, 0).voxel_counts(4242) == (z[...] == 4242).sum()


# ---- other readers; what is read ----


@pytest.mark.parametrize("name", LAYOUTS)
def test_edits_keep_it(tmp_path, name):
    """Chunks are found by it, and it is right afterwards without measuring any."""
    a, z = stored(name)
    v, plain = LabelVolume(z), LabelVolume(stored(name)[1])
    v.build_index(tmp_path)
    labels = [int(label) for label in np.unique(a)]
    if a.dtype == bool:
        edits = [{0: 1, 1: 0}, {0: 1}]
    else:
        edits = [{labels[1]: labels[0]}, {5: labels[-1] + 1, labels[-1]: 5}, {5: 3, labels[-2]: 3}]
    for mapping in edits:
        edit, other = v.remap(mapping), plain.remap(mapping)
        assert {one.chunk for one in edit.chunks} <= {one.chunk for one in other.chunks}
        np.testing.assert_array_equal(z[...], plain.array[...])
        same(v.statistics(), plain.statistics())
        right(z, tmp_path, 0)
    v.recompress()
    same(v.statistics(), plain.statistics())
    right(z, tmp_path, 0)
    if a.dtype != bool:
        v.renumber(1)
        plain.renumber(1)
        same(v.statistics(), plain.statistics())
        right(z, tmp_path, 0)


def test_an_edit_reads_and_writes_what_it_changes(cells, tmp_path):
    z, store, _ = recorded(cells, (16, 16, 16))
    LabelVolume(z).build_index(tmp_path)
    v = LabelVolume(z, index=tmp_path, trust_index=True)
    label, count = Counter(cells.ravel().tolist()).most_common()[-3]
    store.reads.clear()
    edit = v.remap({label: 1 << 30})
    assert 0 < len(edit.chunks) < 10
    keys = {key for key, _, _ in store.reads if "/c/" in key}
    assert keys == {f"c0/{one.key}" for one in edit.chunks}
    assert v.voxel_counts(1 << 30) == count
    right(z, tmp_path, 0)


def test_an_edit_by_others_is_seen(tmp_path):
    """Chunks that changed since the index was compared are searched as they are."""
    a, z = stored("plain")
    v = LabelVolume(z)
    v.build_index(tmp_path)
    assert v.contains(5)
    LabelVolume(z).remap({5: 77})
    assert v.remap({77: 9}).chunks
    assert not (z[...] == 77).any()
    LabelVolume(z).remap({9: 70})
    v.renumber(1)
    np.testing.assert_array_equal(
        z[...],
        np.unique(np.where(a == 5, 70, np.where(a == 9, 70, a)), return_inverse=True)[1].reshape(
            a.shape
        )
        + 1,
    )
    same(v.statistics(), LabelVolume(z).statistics())


class Failing(WrapperStore):
    """Fails at the n-th write from now on."""

    left = 10**9

    async def set(self, key, value, byte_range=None):
        self.left -= 1
        if self.left < 0:
            raise OSError("the disk is gone")
        await super().set(key, value)


@pytest.mark.parametrize("mapping", [{2: 5, 3: 5}, {2: 5, 5: 2}])
def test_an_interrupted_edit(tmp_path, mapping):
    """What it had changed is measured; the rest follows the labels."""
    store = Failing(MemoryStore())
    a, z = stored("plain", store)
    v = LabelVolume(z)
    v.build_index(tmp_path)
    store.left = 4
    with pytest.raises(OSError, match="the disk is gone"):
        v.remap(mapping)
    store.left = 10**9
    same(v.statistics(), LabelVolume(z).statistics())
    v.remap(mapping)
    expected = a.copy()
    for old, new in mapping.items():
        expected[a == old] = new
    np.testing.assert_array_equal(z[...], expected)
    same(v.statistics(), LabelVolume(z).statistics())
    right(z, tmp_path)


def test_duckdb(cells, tmp_path):
    z, _, _ = recorded(cells, (32, 48, 48), dimension_names=("z", "y", "x"))
    v = LabelVolume(z)
    v.build_index(tmp_path)
    (tmp_path / ".0123-part-000000.parquet.new").write_bytes(b"unfinished")
    found = duckdb.sql(f"""
        select label, sum(voxel_count) n, min(min_z), max(max_x), sum(sum_y) / sum(voxel_count)
        from '{tmp_path}/*.parquet' group by label order by label
    """).fetchnumpy()
    expected = v.statistics()
    columns = list(found.values())
    np.testing.assert_array_equal(columns[0], expected.labels)
    np.testing.assert_array_equal(columns[1].astype("u8"), expected.voxel_counts)
    np.testing.assert_array_equal(columns[2], expected.boxes[:, 0])
    np.testing.assert_array_equal(columns[3], expected.boxes[:, 5])
    np.testing.assert_allclose(columns[4].astype("f8"), expected.centroids[:, 1])
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(tmp_path).to_table(filter=pa.compute.field("label") == 7)
    places = sorted(zip(*(table[f"chunk_{n}"].to_pylist() for n in "zyx"), strict=True))
    assert places == v.chunks_with(7)


def test_few_groups_are_read(cells, tmp_path, monkeypatch):
    z, _, _ = recorded(cells, (32, 48, 48))
    v = LabelVolume(z)
    v.build_index(tmp_path)
    groups = []
    read = pq.ParquetFile.read_row_groups

    def noted(file, which, *args):
        groups.append((len(which), file.num_row_groups))
        return read(file, which, *args)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noted)
    every = sum(pq.read_metadata(tmp_path / name).num_row_groups for name in parts(tmp_path))
    for label in v._index._parts[0].part.lows[:3].tolist():
        groups.clear()
        assert v.voxel_counts(label) == (cells == label).sum()
        assert all(n <= 2 for n, _ in groups)
        assert sum(n for n, _ in groups) <= 2 * len(parts(tmp_path)) < every / 3
    groups.clear()
    assert not v.contains(int(cells.max()) + 1)
    assert groups == []
    groups.clear()
    v.statistics(region=np.s_[:32])  # parts of other chunks are left alone
    assert sum(n for _, n in groups) < every


# ---- what is refused ----


def test_another_array(tmp_path):
    _, z = stored("plain")
    LabelVolume(z).build_index(tmp_path)
    for name, what in (
        ("names", "names"),
        ("u8", "dtype 'uint32', not 'uint64'"),
        ("shards", "chunks"),
        ("Zarr 2, F", "axes"),
    ):
        other = stored(name)[1]
        for use in (
            lambda z=other: LabelVolume(z, index=tmp_path),
            lambda z=other: LabelVolume(z).build_index(tmp_path),
        ):
            with pytest.raises(ValueError, match=f"index of another array: {what}"):
                use()
    right(z, tmp_path, 0)
    right(stored("fill")[1], tmp_path)  # the same but for what is not stored
    pq.write_table(pa.table({"label": [1]}), tmp_path / "mine.parquet")
    with pytest.raises(ValueError, match=r"mine\.parquet is not of a label index"):
        LabelVolume(z, index=tmp_path)
    with pytest.raises(FileNotFoundError, match="build_index makes one"):
        LabelVolume(z, index=tmp_path / "none")
    with pytest.raises(ValueError, match="no index in use"):
        LabelVolume(z).check_index()


def test_damaged_files(tmp_path):
    """An error that names the file; without it, its chunks are measured again."""
    _, z = stored("plain")
    right(z, tmp_path)
    v = LabelVolume(z, index=tmp_path)
    expected = v.statistics()
    places = v.chunks_with(expected.labels)
    file = tmp_path / parts(tmp_path)[1]
    whole = file.read_bytes()
    refused = 0
    for i in range(0, len(whole), 61):
        damaged = bytearray(whole)
        damaged[i] ^= 1 + i % 255
        file.write_bytes(damaged)
        try:
            v = LabelVolume(z, index=tmp_path, trust_index=True)
            same(v.statistics(), expected)
            assert v.chunks_with(expected.labels) == places
        except (ck.FormatError, ValueError) as error:
            assert file.name in str(error)
            refused += 1
    assert refused > len(whole) / 61 / 2
    for n in (0, 3, 200, len(whole) - 1):
        file.write_bytes(whole[:n])
        with pytest.raises(ck.FormatError, match=rf"label index, {file.name}: .*Remove the file"):
            LabelVolume(z).build_index(tmp_path)
    file.unlink()
    assert 0 < LabelVolume(z).build_index(tmp_path) < 9
    right(z, tmp_path, 0)


def rewritten(file, changes):
    """The same rows, with other things said of them."""
    table, old = pq.read_table(file), pq.read_metadata(file).metadata
    with pq.ParquetWriter(file, table.schema.remove_metadata()) as writer:
        writer.write_table(table)
        said = {k: changes.get(k, old[k]) for k in old if k.startswith(b"crackle")}
        writer.add_key_value_metadata({k: v for k, v in said.items() if v is not None})


@pytest.mark.parametrize(
    ("key", "old", "new", "message"),
    [
        (b"about", b'"version": 1', b'"version": 2', "version 2, not 1"),
        (b"about", b'"version": 1', b'"version": ', "can't be read"),
        (b"about", b'"fill"', b'"full"', "can't be read"),
        (b"about", b"[20, 15, 13]", b"[20, 15]", "an array of the shape"),
        (b"about", b"[20, 15, 13]", b"[20, 15, -1]", "an array of the shape"),
        (b"about", b"[20, 15, 13]", b"[2e9, 15, 13]", "an array of the shape"),
        (b"about", b"[20, 15, 13]", b"[99999999999, 99999999999, 99999999999]", "chunks"),
        (b"about", b"[20, 15, 13]", b"[7, 15, 13]", "none of the array's"),
        (b"chunks", b"=", b"", "can't be read"),
        (b"chunks", b"A", b"?", "can't be read"),
        (b"chunks", None, b"AAAAAAAAAAAAAAAAAAAAAA==", "none of the array's"),
        (b"both", None, b"AAAAAAAAAAAAAAAAAAAAAA==", "a chunk is there twice"),
        (b"fingerprints", None, b"", "none of the array's"),
        (b"about", b'"fill": 0', b'"fill": 1', "match its crc32c"),
        (b"crc32c", None, b"00000000", "match its crc32c"),
    ],
)
def test_what_a_file_says(tmp_path, key, old, new, message):
    _, z = stored("plain")
    LabelVolume(z).build_index(tmp_path)
    file = tmp_path / parts(tmp_path)[-1]
    keys = {
        b"about": [b"crackle_index"],
        b"both": [b"crackle_chunks", b"crackle_fingerprints"],
    }.get(key, [b"crackle_" + key])
    said = pq.read_metadata(file).metadata
    rewritten(file, {k: new if old is None else said[k].replace(old, new) for k in keys})
    with pytest.raises(ValueError, match=message) as error:
        LabelVolume(z, index=tmp_path)
    assert file.name in str(error.value)


def test_other_columns(tmp_path):
    _, z = stored("plain")
    LabelVolume(z).build_index(tmp_path)
    file = tmp_path / parts(tmp_path)[0]
    table, said = pq.read_table(file), pq.read_metadata(file).metadata
    for other in (table.drop_columns(["sum_0"]), table.cast(pa.schema([(n, pa.int64()) for n in
                                                               table.column_names]))):  # fmt: skip
        with pq.ParquetWriter(file, other.schema.remove_metadata()) as writer:
            writer.write_table(other)
            writer.add_key_value_metadata({k: said[k] for k in said if k.startswith(b"crackle")})
        with pytest.raises(ck.FormatError, match="other columns"):
            LabelVolume(z, index=tmp_path)


def test_damaged_chunks(tmp_path):
    a, z = stored("plain", tmp_path / "x.zarr")
    path = tmp_path / "index"
    file = tmp_path / "x.zarr" / "seg" / "c" / "1" / "0" / "0"
    whole = file.read_bytes()
    file.write_bytes(whole[:60])
    with pytest.raises(ck.FormatError, match="chunk c/1/0/0"):
        LabelVolume(z).build_index(path)
    lenient = LabelVolume(z, on_error="skip")
    with pytest.warns(UserWarning, match="left out: chunk c/1/0/0"):
        lenient.build_index(path)
    assert (1, 0, 0) not in set(rows_of(path, "chunk_0, chunk_1, chunk_2"))
    v = LabelVolume(z, index=path)
    same(v.statistics(region=np.s_[:8]), LabelVolume(z).statistics(region=np.s_[:8]))
    for ask in (v.statistics, v.labels, lambda: v.chunks_with(5)):
        with pytest.raises(ck.FormatError, match="chunk c/1/0/0"):
            ask()
    file.write_bytes(whole)
    right(z, path, 1)
    file.write_bytes(whole[:60])  # one that was measured
    with pytest.warns(UserWarning, match="left out: chunk c/1/0/0"):
        assert lenient.build_index(path) == 0
    assert (1, 0, 0) not in set(rows_of(path, "chunk_0, chunk_1, chunk_2"))
    there = np.ones(a.shape, bool)
    there[8:16, :7] = False
    with pytest.warns(UserWarning, match="left out"):
        assert lenient.labels().tolist() == np.unique(a[there]).tolist()


def test_executor_and_progress(tmp_path, capsys):
    _, z = stored("shards")
    with ThreadPoolExecutor(3) as pool:
        v = LabelVolume(z, executor=pool)
        v.build_index(tmp_path, progress=True)
        v.check_index(progress=True)
        same(LabelVolume(z, index=tmp_path).statistics(executor=pool), LabelVolume(z).statistics())
    err = capsys.readouterr().err
    assert "Index: 100%" in err
    assert "Check: 100%" in err
    with pytest.raises(RuntimeError):  # it is used: and it is shut down
        v.check_index()


def test_without_pyarrow_nothing_is_measured(tmp_path, monkeypatch):
    _, z = stored("plain")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(chunk_stats, "measured", None)
    with pytest.raises(ImportError, match=r"this needs pyarrow: pip install .*\[index\]"):
        LabelVolume(z).build_index(tmp_path / "x")
    assert not (tmp_path / "x").exists()
