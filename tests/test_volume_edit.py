"""Edits of stored chunks: what changes, what does not, and what an interruption leaves."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import zarr
from stored import LAYOUTS, stored
from zarr.storage import LocalStore, MemoryStore, WrapperStore, ZipStore

import numcodecs_crackle as ck
from numcodecs_crackle import chunk_edit
from numcodecs_crackle.volume import LabelVolume


@pytest.fixture(params=LAYOUTS)
def name(request):
    return request.param


def objects(z):
    """The bytes of every object below the array, but for its metadata."""
    store = LabelVolume(z)._store
    return {
        key: store.get_object(key)
        for key in store.list_objects("")
        if not key.endswith(("zarr.json", ".zarray", ".zattrs"))
    }


def applied(a, mapping):
    result = a.copy()
    for old, new in mapping.items():
        result[a == old] = new
    return result


def mappings(a):
    """A merge, one of several at once, a swap, and a chain."""
    labels = [int(v) for v in np.unique(a)]
    if a.dtype == bool:
        return [{0: 1}, {0: 1, 1: 0}]
    first, second, third = (labels * 3)[:3]
    last = labels[-1]
    fresh = last + 1
    return [
        {second: last},
        {second: first, third: first, 9999: 3},
        {last: second, second: last},
        {third: second, second: fresh},
    ]


def test_remap(name):
    for mapping in mappings(stored(name)[0]):
        a, z = stored(name)
        before, v = objects(z), LabelVolume(z)
        planned = v.remap(mapping, dry_run=True)
        assert objects(z) == before
        edit = v.remap(mapping)
        np.testing.assert_array_equal(z[...], applied(a, mapping))
        np.testing.assert_array_equal(v.labels(), np.unique(z[...]))
        for one, other in zip(edit.chunks, planned.chunks, strict=True):
            assert one[:2] == other[:2]
            np.testing.assert_array_equal(one.labels, other.labels)
        assert repr(edit) == f"<Edit: {len(edit.old)} labels change, in {len(edit.chunks)} chunks>"
        after = objects(z)
        changed = {key for key in after if after[key] != before.get(key)}
        assert changed == {one.key for one in edit.chunks}
        assert set(before) <= set(after)
        assert dict(zip(edit.old.tolist(), edit.new.tolist(), strict=True)) == {
            k: v for k, v in mapping.items() if k != 9999
        } | ({9999: 3} if 9999 in mapping and a.dtype != bool else {})


def test_only_tables_change():
    """Borders stay as they are, byte for byte."""
    a, z = stored("plain")
    before = objects(z)
    edit = LabelVolume(z).remap({5: 1 << 31})
    for one in edit.chunks:
        old, new = before[one.key], objects(z)[one.key]
        index = slice(29, 29 + 4 * 8)  # bytes of each slice's borders
        assert old[index] == new[index]
        cracks = sum(np.frombuffer(old[index], "<u4").tolist())
        behind = 4 + 4 * 8
        assert old[-behind - cracks : -behind] == new[-behind - cracks : -behind]
        assert ck.check(new) == {"header": True, "crack_index": True, "labels": True, "z": []}
    assert (z[...] == applied(a, {5: 1 << 31})).all()


def test_mask_and_renumber(name):
    a, z = stored(name)
    if a.dtype == bool:
        return
    v = LabelVolume(z)
    some = np.unique(a)[::2].tolist()
    v.mask_labels(some, 3)
    a = np.where(np.isin(a, some), 3, a).astype(a.dtype)
    np.testing.assert_array_equal(z[...], a)
    v.mask_labels(int(a.flat[0]))
    a[a == a.flat[0]] = 0
    np.testing.assert_array_equal(z[...], a)
    for start in (0, 1, 100):
        v.renumber(start)
        np.testing.assert_array_equal(
            z[...], np.unique(a, return_inverse=True)[1].reshape(a.shape) + start
        )


def test_nothing_is_widened():
    _, z = stored("big endian")
    v = LabelVolume(z)
    before = objects(z)
    for bad in (2**15, -(2**15) - 1, 2**70):
        with pytest.raises(OverflowError, match=f"the label {bad} does not fit .*int16"):
            v.remap({3: 4, 9: bad})
    with pytest.raises(OverflowError, match="does not fit"):
        v.renumber(2**15 - 3)
    with pytest.raises(TypeError):
        v.remap({1: 2.5})
    assert objects(z) == before
    assert v.remap({2**40: 3}).chunks == []


def test_bool_arrays_stay_bool():
    _, z = stored("bool")
    v, before = LabelVolume(z), objects(z)
    for edit in (lambda: v.remap({1: 2}), lambda: v.renumber(1), lambda: v.mask_labels(0, 255)):
        with pytest.raises(OverflowError, match=r"does not fit .*bool"):
            edit()
    assert objects(z) == before


def test_mistyped_options_do_not_edit():
    _, z = stored("plain")
    v, before = LabelVolume(z), objects(z)
    with pytest.raises(TypeError, match="no such option: dryrun"):
        v.remap({5: 6}, dryrun=True)
    assert objects(z) == before
    for query in (
        lambda: v.labels(regoin=1), lambda: v.voxel_counts(labels=[1]),
        lambda: next(v.labels_by_chunk(threads=2)), lambda: v.contacts(labels=1),
        lambda: v.connected_components({}, conectivity=6), lambda: v.renumber(dryrun=True),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="no such option"):
            query()


def test_recompress(name):
    a, z = stored(name)
    v = LabelVolume(z)
    assert v.recompress() == []
    labels = [int(label) for label in np.unique(a)]
    v.remap({label: labels[0] for label in labels[1 : len(labels) // 2 + 1]})
    merged, size = z[...], sum(map(len, objects(z).values()))
    before = objects(z)
    planned = v.recompress(dry_run=True)
    assert objects(z) == before
    assert v.recompress() == planned != []
    np.testing.assert_array_equal(z[...], merged)
    if z.metadata.zarr_format == 3 or not z.metadata.filters:
        assert sum(map(len, objects(z).values())) < size
    assert v.recompress() == []
    fresh = zarr.create_array(
        store=MemoryStore(), shape=z.shape, chunks=z.chunks, dtype=np.dtype(z.dtype),
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    if name == "plain":
        fresh[...] = merged
        found = objects(z)
        for key, data in objects(fresh).items():
            assert found[key] == data


class Failing(WrapperStore):
    """Fails from the n-th write or removal on."""

    left = 10**9

    def _count(self):
        if self.left <= 0:
            raise OSError("the disk is gone")
        self.left -= 1

    async def set(self, key, value, byte_range=None):
        self._count()
        await super().set(key, value)

    async def delete(self, key):
        self._count()
        await super().delete(key)


EDITS = {
    "merge": lambda v: v.remap({2: 5, 3: 5}),
    "swap": lambda v: v.remap({2: 5, 5: 2, 8: 5}),
    "renumber": lambda v: v.renumber(1),
    "renumber to labels that are all new": lambda v: v.renumber(10**6),
}


@pytest.mark.parametrize("layout", ["plain", "fill in shards"])
@pytest.mark.parametrize("edit", EDITS)
def test_run_again(layout, edit):
    """An edit that fails at any write, as often as it likes, ends right when it is run again."""
    _, z = stored(layout)
    EDITS[edit](LabelVolume(z))
    expected = objects(z)
    for n in range(60):
        store = Failing(MemoryStore())
        _, z = stored(layout, store)
        failures = 0
        for store.left in (n, n * 7 % 5, n * 3 % 4, 10**9):
            try:
                EDITS[edit](LabelVolume(z))
                break
            except OSError:
                failures += 1
        store.left = 10**9
        found = {key: data for key, data in objects(z).items() if ".crackle-edit" not in key}
        assert found == expected
        assert LabelVolume(z).resume() is None
        if not failures and not any(".crackle-edit" in key for key in objects(z)):
            break
    assert 3 < n < 59


def test_another_edit_waits():
    store = Failing(MemoryStore())
    a, z = stored("plain", store)
    v = LabelVolume(z)
    swap = {2: 5, 5: 2}
    store.left = 3
    with pytest.raises(OSError, match="the disk is gone"):
        v.remap(swap)
    store.left = 10**9
    for other in (
        lambda: v.remap({1: 3}), lambda: v.remap({2: 5}), lambda: v.renumber(), v.recompress,
        lambda: v.mask_labels(3),
    ):  # fmt: skip
        with pytest.raises(ck.CrackleError, match="was interrupted: run it again"):
            other()
    assert v.remap({1: 3}, dry_run=True).chunks
    v.remap(swap)
    np.testing.assert_array_equal(z[...], applied(a, swap))
    assert v.resume() is None
    v.remap({1: 3})
    v._store.put_object(".crackle-edit/edit.npz", b"junk")
    with pytest.raises(ck.CrackleError, match="damaged"):
        v.remap({1: 4})


def test_damage_stops_an_edit_before_its_first_write():
    _, z = stored("plain")
    v = LabelVolume(z, on_error="skip")
    stream = v._store.get_object("c/2/1/0")
    v._store.put_object("c/2/1/0", stream[:50])
    before = objects(z)
    with pytest.raises(ck.FormatError, match="chunk c/2/1/0"):
        v.remap({5: 6})
    assert objects(z) == before


def test_renumber_stops_at_damage():
    """It would give a label of the damaged chunk to another one."""
    _, z = stored("plain")
    v = LabelVolume(z, on_error="skip")
    v._store.put_object("c/2/1/0", v._store.get_object("c/2/1/0")[:50])
    before = objects(z)
    with pytest.raises(ck.FormatError, match="chunk c/2/1/0"):
        v.renumber()
    assert objects(z) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"new": np.array([2, 5], "u8")},
        {"new": np.array([2.0, 5.0])},
        {"old": np.array([5, 2], "u4")},
        {"old": np.array([2, 2], "u4")},
        {"old": np.array([2, 3, 5], "u4")},
        {"old": np.array([[2], [5]], "u4")},
        {"name": None},
    ],
)
def test_a_journal_that_lies(changes):
    _, z = stored("plain")
    v = LabelVolume(z)
    told = {
        "what": np.array("remap"), "old": np.array([2, 5], "u4"), "new": np.array([5, 2], "u4"),
        "name": np.array("x"), **changes,
    }  # fmt: skip
    file = io.BytesIO()
    np.savez(file, **{key: value for key, value in told.items() if value is not None})
    v._store.put_object(".crackle-edit/edit.npz", file.getvalue())
    before = objects(z)
    for ask in (v.resume, lambda: v.remap({1: 2})):
        with pytest.raises(ck.CrackleError, match=r"edit\.npz, is damaged"):
            ask()
    assert objects(z) == before


@pytest.mark.parametrize("text", [b"{", b"[1]", b'{"c/0/0/0": '])
def test_a_list_of_what_is_done_that_is_damaged(text):
    _, z = stored("plain")
    v = LabelVolume(z)
    old, new = np.array([2, 5], "u4"), np.array([5, 2], "u4")
    journal = chunk_edit.Journal.begin(v._store, "remap", old, new)
    v._store.put_object(journal.prefix + "1", text)
    with pytest.raises(ck.CrackleError, match="is damaged"):
        v.resume()


def test_a_list_of_what_is_done_that_was_not_finished(tmp_path):
    a, z = stored("plain", LocalStore(tmp_path))
    v = LabelVolume(z)
    old, new = np.array([2, 5], "u4"), np.array([5, 2], "u4")
    journal = chunk_edit.Journal.begin(v._store, "remap", old, new)
    v._store.put_object(f"{journal.prefix}1.2.partial", b'{"c/0/0/0": ')
    v.resume()
    np.testing.assert_array_equal(z[...], applied(a, {2: 5, 5: 2}))


def test_where_nothing_can_be_written(tmp_path):
    stored("plain", tmp_path / "x.zarr")
    v = LabelVolume(tmp_path / "x.zarr" / "seg", mode="r")
    with pytest.raises(PermissionError, match="read only"):
        v.remap({1: 2})
    assert v.remap({5: 2}, dry_run=True).chunks
    store = ZipStore(tmp_path / "x.zip", mode="w")
    _, z = stored("plain", store)
    with pytest.raises(TypeError, match="ZipStore can't replace"):
        LabelVolume(z).remap({1: 2})
    store.close()


def test_processes(tmp_path):
    a, z = stored("shards", tmp_path / "x.zarr")
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        v = LabelVolume(z, executor=pool)
        np.testing.assert_array_equal(v.labels(), np.unique(a))
        assert v.voxel_counts() == LabelVolume(z).voxel_counts()
        v.remap({5: 2, 2: 5})
        np.testing.assert_array_equal(z[...], applied(a, {5: 2, 2: 5}))
        _, memory = stored("shards")
        with pytest.raises(ValueError, match="in memory can't be edited by other processes"):
            LabelVolume(memory).remap({1: 2}, executor=pool)
        assert LabelVolume(memory, executor=pool).num_labels() == len(np.unique(a))


@pytest.mark.parametrize("layout", ["plain", "shards"])
def test_readers_see_old_or_new(tmp_path, layout):
    a, z = stored(layout, tmp_path / "x.zarr")
    swap = {5: 70000, 70000: 5}
    both = (a, applied(a, swap))
    wrong, stop = [], threading.Event()
    _, cy, cx = z.chunks

    def look():
        other = zarr.open_array(tmp_path / "x.zarr" / "seg", mode="r")
        v, rng = LabelVolume(other), np.random.default_rng(0)
        while not stop.is_set():
            y = int(rng.integers(0, a.shape[0]))
            for read in (v.read, lambda region: other[region]):
                part = read(np.s_[y : y + 1])
                for i, j in np.ndindex(4, 2):
                    place = np.s_[i * cy : (i + 1) * cy, j * cx : (j + 1) * cx]
                    if not any((part[0][place] == one[y][place]).all() for one in both):
                        wrong.append(y)
            if set(v.labels(np.s_[:4])) - set(both[0].flat) - set(both[1].flat):
                wrong.append("labels")

    def watch():
        try:
            look()
        except Exception as error:
            wrong.append(error)

    readers = [threading.Thread(target=watch) for _ in range(2)]
    for reader in readers:
        reader.start()
    v, end = LabelVolume(z), time.monotonic() + 1.5
    while time.monotonic() < end and not wrong:
        v.remap(swap)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
