"""Threads that share an array: answers are right, whatever others do at the same time."""

from __future__ import annotations

import random
import subprocess
import sys
import sysconfig
import threading

import numpy as np
import pytest
import zarr
from conftest import volume
from stored import labels_for

import numcodecs_crackle as ck
from numcodecs_crackle import stream
from numcodecs_crackle.file_array import FileArray

THREADS = 8


def together(work, rounds):
    """Call work(rng) many times in threads that begin at once. What they raise is raised."""
    begin, errors = threading.Barrier(THREADS), []

    def run(seed):
        rng = random.Random(seed)
        begin.wait()
        try:
            for _ in range(rounds):
                work(rng)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def python(*args):
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


# ---- streams in memory ----


def test_streams():
    arrays = [labels_for((12, 40, 44), dtype) for dtype in ("u1", "u4", "i8")]
    streams = [ck.compress(a, markov_model_order=2 * i) for i, a in enumerate(arrays)]

    def work(rng):
        i, parallel = rng.randrange(len(arrays)), rng.choice([0, 1, 3])
        if rng.random() < 0.5:
            assert (ck.decompress(streams[i], parallel=parallel) == arrays[i]).all()
        else:
            again = ck.compress(arrays[i], markov_model_order=2 * i, parallel=parallel)
            assert again == streams[i]

    together(work, 15)


def test_one_array():
    a = volume("blocks", np.random.default_rng(3), (30, 28, 20))
    binary = ck.compress(a)
    array = ck.CrackleArray(binary)
    expected = [ck.voxel_counts(binary), ck.contacts(binary), ck.bounding_boxes(binary)]

    def work(rng):
        kind, z = rng.randrange(5), rng.randrange(a.shape[2])
        if kind == 0:
            assert (array[:, :, z] == a[:, :, z]).all()
        elif kind == 1:
            assert [array.voxel_counts(), array.contacts(), array.bounding_boxes()] == expected
        elif kind == 2:
            assert (array.labels(z) == np.unique(a[:, :, z])).all()
        elif kind == 3:
            assert ((array + 1)[:, :, z] == a[:, :, z] + 1).all()
        else:
            assert int(a[0, 0, z]) in array

    together(work, 25)


def test_an_array_is_assigned_to_while_it_is_opened(monkeypatch):
    """Else the stream of old would answer for the new bytes from then on."""
    old, new = (ck.compress(np.full((4, 5, 6), label, "u2")) for label in (7, 9))
    array = ck.CrackleArray(old)
    opened = stream.opened

    def meanwhile(binary):
        found = opened(binary)
        array.binary = new
        return found

    monkeypatch.setattr(stream, "opened", meanwhile)
    assert array.opened()[1].sx == 4
    monkeypatch.undo()
    assert array.labels().tolist() == [9] and (array.decompress() == 9).all()


def test_measures_are_dropped_while_they_are_asked(monkeypatch):
    pytest.importorskip("pyarrow")
    binary = ck.compress(np.full((4, 5, 6), 7, "u2"))
    array = ck.CrackleArray(binary)
    array.use_measures(ck.to_parquet(binary))

    class Dropping(ck.CrackleArray):
        @property
        def binary(self):
            self.use_measures(None)
            return binary

    array.__class__ = Dropping
    del array.__dict__["binary"]
    assert array.voxel_counts() == {7: 120}


# ---- files ----


def test_a_file_array_is_assigned_to_while_it_is_read(tmp_path, monkeypatch):
    ck.save(np.full((4, 5, 6), 7, "u2"), tmp_path / "a.ckl")
    new = ck.compress(np.full((4, 5, 6), 9, "u2"))
    with open(tmp_path / "a.ckl", "rb") as file:
        array = FileArray(file)
        read = array._bytes

        def meanwhile(start, stop):
            data = read(start, stop)
            array.binary = new
            return data

        monkeypatch.setattr(array, "_bytes", meanwhile)
        assert array.binary == new
        assert (array.decompress() == 9).all()


def test_a_file_array_is_assigned_to_while_its_measures_are_read(tmp_path):
    """Else the old stream's measures would be taken for the new one's."""
    pytest.importorskip("pyarrow")
    ck.save(np.full((4, 5, 6), 7, "u2"), tmp_path / "a.ckl")

    def measures(binary):
        array.binary = ck.compress(np.full((4, 5, 6), 9, "u2"))
        return ck.to_parquet(binary)

    with open(tmp_path / "a.ckl", "rb") as file:
        array = FileArray(file, measures=measures)
        assert array.voxel_counts() == {9: 120}


def test_another_thread_is_first_to_read_measures(tmp_path):
    ck.save(np.full((4, 5, 6), 7, "u2"), tmp_path / "a.ckl")
    there = [lambda binary: None]

    class Shared(FileArray):
        @property
        def _measures(self):
            return there.pop() if there else None  # taken between two looks

        @_measures.setter
        def _measures(self, value):
            pass

    with open(tmp_path / "a.ckl", "rb") as file:
        assert Shared(file).voxel_counts() == {7: 120}


def test_threads_share_a_file_array_with_measures(tmp_path):
    pytest.importorskip("pyarrow")
    a = volume("blocks", np.random.default_rng(3), (30, 28, 20))
    ck.save(a, tmp_path / "a.ckl")
    counts = ck.voxel_counts(ck.compress(a))
    asked = []

    def measures(binary):
        asked.append(len(binary))
        return ck.to_parquet(binary)

    for _ in range(5):
        with open(tmp_path / "a.ckl", "rb") as file:
            array = FileArray(file, measures=measures)

            def work(rng, array=array):
                z = rng.randrange(a.shape[2])
                assert array.voxel_counts() == counts
                assert (array[:, :, z] == a[:, :, z]).all()

            together(work, 3)
    assert len(asked) >= 5


# ---- stored arrays ----


@pytest.mark.parametrize("shards", [None, (16, 32, 32)])
def test_one_volume(tmp_path, shards):
    a = labels_for((20, 60, 50))
    z = zarr.create_array(
        tmp_path / "z", data=a, chunks=(8, 16, 16), shards=shards,
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    v = ck.LabelVolume(z)
    values, counts = np.unique(a, return_counts=True)
    expected = dict(zip(values.tolist(), counts.tolist(), strict=True))
    contacts = v.contacts()

    def work(rng):
        kind, label = rng.randrange(6), rng.choice(values.tolist())
        low = [rng.randrange(n - 8) for n in a.shape]
        region = tuple(slice(i, i + 8) for i in low)
        if kind == 0:
            assert (v.labels() == values).all()
        elif kind == 1:
            assert v.voxel_counts() == expected
        elif kind == 2:
            assert v.mask(label)[1].sum() == expected[label]
        elif kind == 3:
            assert (v.read(region) == a[region]).all()
        elif kind == 4:
            assert v.contacts() == contacts
        else:
            assert (z[region] == a[region]).all()

    together(work, 4)


@pytest.mark.parametrize("indexed", [False, True])
def test_questions_while_a_volume_is_edited(tmp_path, indexed):
    a = labels_for((20, 60, 50))
    z = zarr.create_array(
        tmp_path / "z", data=a, chunks=(8, 16, 16), serializer=ck.CrackleCodec(), compressors=None
    )
    v = ck.LabelVolume(z)
    if indexed:
        pytest.importorskip("pyarrow")
        v.build_index(tmp_path / "index")
    new = int(a.max()) + 5
    changing = int(np.unique(a)[1])

    def edit():
        for _ in range(3):
            v.remap({changing: new})
            v.remap({new: changing})

    def work(rng):
        assert sum(v.voxel_counts().values()) == a.size
        assert set(v.labels().tolist()) <= {*np.unique(a).tolist(), new}

    thread = threading.Thread(target=edit)
    thread.start()
    together(work, 3)
    thread.join()
    assert (v.read() == a).all() and (v.labels() == np.unique(a)).all()


# ---- the interpreter ----


def test_the_end_of_python_is_silent():
    """Streams may outlive the names of the module that closes them."""
    code = """
import os
import numpy as np
import numcodecs_crackle as ck
array = ck.CrackleArray(ck.compress(np.zeros((4, 4, 4), "u1")))
array.labels()
os.kept = array, ck._native, os
"""
    assert python("-W", "ignore", "-c", code) == (0, "", "")


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a global lock"
)
def test_the_global_lock_stays_off():
    code = """
import sys
import numcodecs_crackle._crackle
from numcodecs_crackle import CrackleCodec, LabelVolume
print(sys._is_gil_enabled())
"""
    assert python("-W", "ignore", "-c", code) == (0, "False\n", "")
