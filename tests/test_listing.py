"""Arrays of which few chunks are stored: listed, not asked for one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import zarr
from servers import http_server, s3_server
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore, ZipStore

import numcodecs_crackle as ck
from numcodecs_crackle import listing
from numcodecs_crackle.grid import objects_in
from numcodecs_crackle.store import ChunkStore
from numcodecs_crackle.volume import LabelVolume

SHAPE, CHUNK = (21, 36, 50), (4, 8, 7)
PLACES = [(0, 0, 0), (8, 32, 49), (8, 8, 14), (16, 8, 21), (20, 24, 0), (20, 32, 49)]


def make(store, path="seg", **options):
    options = {"serializer": ck.CrackleCodec(), "compressors": None, "fill_value": 3, **options}
    z = zarr.create_array(store=store, name=path, shape=SHAPE, chunks=CHUNK, dtype="u4", **options)
    rng = np.random.default_rng(1)
    for place in PLACES:
        part = tuple(slice(a, a + n) for a, n in zip(place, CHUNK, strict=True))
        z[part] = rng.integers(1, 9, z[part].shape)
    return z


OPTIONS = {
    "plain": {},
    "shards": {"shards": (8, 16, 14)},
    "Zarr 2": {"zarr_format": 2, "serializer": "auto", "compressors": ck.Crackle()},
    "Zarr 2, slashes": {
        "zarr_format": 2, "serializer": "auto", "compressors": ck.Crackle(),
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
    "named otherwise": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
}  # fmt: skip
REGIONS = [
    None,
    np.s_[:],
    np.s_[5:21, 3:36, :],
    np.s_[8:20, 9:16, 14:28],
    np.s_[12:20, 25:33],
    np.s_[0:0],
    np.s_[-1, -1, -1],
]


@pytest.fixture
def few(monkeypatch):
    """What is little is listed, too; the boxes that are."""
    monkeypatch.setattr(listing, "LIST_FROM", 2)
    monkeypatch.setattr(listing, "_ROW", 2)
    answers = []
    found = listing.stored_objects

    def noting(store, ranges):
        answers.append(found(store, ranges))
        return answers[-1]

    monkeypatch.setattr(listing, "stored_objects", noting)
    return answers


def same(found, expected):
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        np.testing.assert_array_equal(found, expected)


QUERIES = {
    "labels": lambda v, r: v.labels(r),
    "contains": lambda v, r: [v.contains(label, r) for label in (3, 5, 99)],
    "chunks_with": lambda v, r: [v.chunks_with(label, r) for label in (3, 5, 99)],
    "several": lambda v, r: list(v.chunks_with([2, 5], r).items()),
    "statistics": lambda v, r: tuple(v.statistics(region=r)),
    "some": lambda v, r: tuple(v.statistics([3, 5], region=r)),
    "others": lambda v, r: tuple(v.statistics([2, 5], region=r)),
    "read": lambda v, r: v.read(r),
    "read some": lambda v, r: [v.read(r, labels=labels) for labels in (3, 5, [3, 5])],
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("query", QUERIES)
def test_the_same_answers(few, monkeypatch, options, query, tmp_path):
    store = MemoryStore() if options == "Zarr 2, slashes" else LocalStore(tmp_path / "x")
    v = LabelVolume(make(store, **OPTIONS[options]))
    for region in REGIONS:
        found = QUERIES[query](v, region)
        with monkeypatch.context() as patch:
            patch.setattr(listing, "LIST_FROM", math.inf)
            same(found, QUERIES[query](v, region))
    listed = [answer for answer in few if answer is not None]
    assert bool(listed) == (options not in ("named otherwise", "Zarr 2"))


def test_masks_and_edits(few):
    z = make(MemoryStore())
    v, a = LabelVolume(z), z[...]
    for label in (3, 5):
        offset, mask = v.mask(label)
        place = tuple(slice(o, o + n) for o, n in zip(offset, mask.shape, strict=True))
        assert (mask == (a == label)[place]).all() and mask.sum() == (a == label).sum()
    few.clear()
    edit = v.remap({5: 6})
    assert few == [sorted(few[0])] and len(few[0]) == len(PLACES)
    assert {one.chunk for one in edit.chunks} <= set(few[0])
    a[a == 5] = 6
    assert (z[...] == a).all()
    assert v.recompress() and (z[...] == a).all()
    v.remap({3: 7, 7: 3})  # the fill value: all are written
    assert (z[...] == np.where(a == 3, 7, np.where(a == 7, 3, a))).all()
    assert v.contains(3) == (a == 7).any()


def test_what_is_listed(tmp_path, monkeypatch):
    """Folders that are there and that the box touches; short rows are taken to be full."""
    asked = []

    class Noting(LocalStore):
        async def list_dir(self, prefix):
            asked.append(prefix)
            async for name in super().list_dir(prefix):
                yield name

    z = make(LocalStore(tmp_path / "x"))
    (tmp_path / "x/seg/c/2/1/junk").touch()
    (tmp_path / "x/seg/c/2/1/02").touch()
    (tmp_path / "x/seg/c/+2").mkdir()
    store = ChunkStore(z)
    ranges = objects_in(store, ((0, 20), (8, 36), (0, 50)))
    every = sorted(tuple(a // n for a, n in zip(p, CHUNK, strict=True)) for p in PLACES)
    within = [p for p in every if all(i in r for i, r in zip(p, ranges, strict=True))]
    assert ranges == [range(5), range(1, 5), range(8)] and len(within) == 3
    full = listing.stored_objects(store, ranges)
    assert full == [(*row, x) for row in sorted({p[:2] for p in within}) for x in range(8)]
    monkeypatch.setattr(listing, "_ROW", 1)
    assert listing.stored_objects(store, ranges) == within
    with monkeypatch.context() as patch:
        patch.setattr(listing, "_MOST", 2)
        assert listing.stored_objects(store, ranges) is None

    async def walk():
        return await listing._walk(Noting(tmp_path / "x"), "seg/c/", ranges, 1)

    assert sorted(sync(walk())) == within
    parents = {p[:n] for p in within for n in (1, 2)} | {(p[0],) for p in every if p[0] < 5}
    assert sorted(asked) == ["seg/c", *sorted("seg/c/" + "/".join(map(str, p)) for p in parents)]


def test_where_none_may_list(tmp_path, monkeypatch, few):
    z = make(LocalStore(tmp_path / "x"))

    def refuse(self, prefix):
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(LocalStore, "list_dir", refuse)
    np.testing.assert_array_equal(LabelVolume(z).read(), z[...])
    assert few == [None]


def test_stores(tmp_path, few):
    """S3 is listed; what a web server lists is not believed, nor unknown stores."""
    pytest.importorskip("moto")
    with s3_server() as server:
        url = server.s3_url("x.zarr")
        store = FsspecStore.from_url(url, storage_options=server.storage_options)
        v = LabelVolume(make(store))
        expected = v.read()
        assert few[-1] == sorted(few[-1]) and len(few[-1]) == len(PLACES)
        # Written by others: no listing that is kept.
        other = zarr.open_array(url, path="seg", storage_options=server.storage_options)
        other[20:24, 0:8, 0:7] = 8
        expected[20:24, 0:8, 0:7] = 8
        np.testing.assert_array_equal(v.read(), expected)
        assert len(few[-1]) == len(PLACES) + 1
        v = LabelVolume(zarr.open_array(server.obstore("x.zarr"), path="seg"))
        np.testing.assert_array_equal(v.read(), expected)
        assert len(few[-1]) == len(PLACES) + 1
    z = make(LocalStore(tmp_path / "x"))
    with http_server(tmp_path) as web:
        v = LabelVolume(f"{web.url}/x/seg", mode="r")
        np.testing.assert_array_equal(v.read(), z[...])
    assert few[-1] is None

    class Odd(WrapperStore):
        pass

    v = LabelVolume(zarr.open_array(Odd(LocalStore(tmp_path / "x")), path="seg", mode="r"))
    np.testing.assert_array_equal(v.read(), z[...])
    assert few[-1] is None
    with ZipStore(tmp_path / "x.zip", mode="w") as store:
        z = make(store, "")
        np.testing.assert_array_equal(LabelVolume(z).read(), z[...])
        assert len(few[-1]) == len(PLACES)


def test_a_huge_one():
    """2^33 chunks, five of them stored."""
    z = zarr.create_array(
        store=MemoryStore(), shape=(2**14, 2**20, 2**20), chunks=(128,) * 3, dtype="u4",
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    for i, place in enumerate([(0, 0, 0), (0, 1024, 4096), (8192, 2**19, 2**19)]):
        z[tuple(slice(a, a + 128) for a in place)] = np.uint32(5 + i)
    v = LabelVolume(z)
    assert v.labels().tolist() == [0, 5, 6, 7] and v.num_labels() == 4
    assert v.chunks_with(6) == [(0, 8, 32)] and 7 in v and 99 not in v and 0 in v
    assert v.voxel_counts([5, 7]) == {5: 2**21, 7: 2**21}
    assert v.remap({7: 5}).chunks[0].chunk == (64, 4096, 4096)
    assert v.voxel_counts(5) == 2**22
    assert v.voxel_counts() == {0: 2**54 - 3 * 2**21, 5: 2**22, 6: 2**21}
    centre = [(n - 1) / 2 for n in z.shape]
    np.testing.assert_allclose(v.centroids(0), centre, rtol=1e-6)
    region = np.s_[:4096, : 2**17, : 2**17]
    sizes = v.voxel_counts(region=region)
    assert sizes == {0: 4096 * 2**34 - 2 * 2**21, 5: 2**21, 6: 2**21}
