"""Whoever writes may be killed at any point: what was there before is not lost.

Of a chunk, a shard or a file there is the old state or the new one, and the work can be done
again. Unfinished files beside them may stay: hidden ones, or ``*.partial`` of zarr.
"""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import volume
from stored import labels_for, stored
from zarr.storage import LocalStore

import numcodecs_crackle as ck
from numcodecs_crackle import LabelVolume, files

if os.name != "posix":
    pytest.skip("processes are forked, and killed by signals", allow_module_level=True)

from killing import Killer


@pytest.fixture(scope="module")
def killer():
    process = Killer()
    yield process
    process.end()


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder but for unfinished ones."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".partial")
    }


def objects(folder: Path) -> dict[str, bytes]:
    """The chunks or shards of the array in a folder."""
    about = ("zarr.json", ".zarray", ".zattrs")
    every = contents(folder / "seg").items()
    return {k: v for k, v in every if not k.startswith(".crackle-edit") and k not in about}


def parts(chunks: tuple[int, ...], shape: tuple[int, ...]):
    ranges = (range(0, n, c) for n, c in zip(shape, chunks, strict=True))
    for start in product(*ranges):
        yield tuple(slice(a, a + c) for a, c in zip(start, chunks, strict=True))


def old_or_new(z: zarr.Array, old: np.ndarray, new: np.ndarray) -> None:
    found = z[...]
    for part in parts(z.chunks, z.shape):
        assert (found[part] == old[part]).all() or (found[part] == new[part]).all()


def applied(a: np.ndarray, mapping: dict[int, int]) -> np.ndarray:
    result = a.copy()
    for old, new in mapping.items():
        result[a == old] = new
    return result


def array_in(folder: Path, layout: str, replaced: np.ndarray | None = None):
    a, z = stored(layout, LocalStore(folder))
    if replaced is not None:
        z[...] = replaced
    return a, z


@pytest.mark.parametrize("layout", ["plain", "shards", "zstd behind", "Zarr 2", "fill"])
def test_chunks_written_through_zarr(killer, tmp_path, layout):
    folder = tmp_path / "x"
    a, z = array_in(folder, layout)
    b = labels_for(a.shape, "u4", "blobs")
    b[: z.chunks[0]] = z.fill_value  # chunks that go away
    array_in(tmp_path / "new", layout, b)
    old, new = objects(folder), objects(tmp_path / "new")
    np.save(folder / "new.npy", b)
    code = "zarr.open_array(folder / 'seg')[...] = np.load(folder / 'new.npy')"
    for when in killer.deaths(code, folder):
        found = objects(folder)
        for key in old.keys() | new.keys():
            assert found.get(key) in (old.get(key), new.get(key)), (when, key)
        assert found.keys() <= old.keys() | new.keys()
        old_or_new(zarr.open_array(folder / "seg", mode="r"), a, b)
    assert objects(folder) == new


MERGE, SWAP = {5: 70000, 2: 70000}, {5: 70000, 70000: 5, 2: 5}


@pytest.mark.parametrize(
    ("layout", "mapping"),
    [("shards", SWAP), ("fill in shards", MERGE), ("2D", SWAP), ("Zarr 2", MERGE)],
)
def test_remap(killer, tmp_path, layout, mapping):
    folder = tmp_path / "x"
    a, _ = array_in(folder, layout)
    b = applied(a, mapping)
    code = f"LabelVolume(folder / 'seg').remap({mapping})"
    for n, _ in enumerate(killer.deaths(code, folder)):
        v = LabelVolume(folder / "seg")
        old_or_new(v.array, a, b)
        begun = (folder / "seg/.crackle-edit/edit.npz").exists()
        assert not begun or mapping is SWAP
        if begun and n % 4 < 2:  # who goes on may be killed, too
            killer.killed(code, folder, event=n // 2)
            old_or_new(v.array, a, b)
            begun = (folder / "seg/.crackle-edit/edit.npz").exists()
        if n % 4 == 2:
            continue
        if begun and n % 2:
            with pytest.raises(ck.CrackleError, match="interrupted"):
                v.remap({1: 3})
            v.resume()
        elif begun or mapping is MERGE or not (v.array[...] == b).all():
            v.remap(mapping)
        np.testing.assert_array_equal(v.array[...], b)
        assert v.resume() is None
    np.testing.assert_array_equal(zarr.open_array(folder / "seg")[...], b)


def test_renumber(killer, tmp_path):
    folder = tmp_path / "x"
    a, _ = array_in(folder, "2D")
    b = np.unique(a, return_inverse=True)[1].reshape(a.shape) + 3
    code = "LabelVolume(folder / 'seg').renumber(3)"
    for n, _ in enumerate(killer.deaths(code, folder)):
        v = LabelVolume(folder / "seg")
        old_or_new(v.array, a, b)
        if n % 2:
            v.renumber(3)
            np.testing.assert_array_equal(v.array[...], b)
    np.testing.assert_array_equal(v.array[...], b)


def test_recompress(killer, tmp_path):
    """No voxel changes meanwhile, though chunks of a shard move."""
    folder = tmp_path / "x"
    a, _ = array_in(folder, "fill in shards")
    mapping = dict.fromkeys(range(40), 5)
    v = LabelVolume(folder / "seg")
    v.remap(mapping)
    b, edited = applied(a, mapping), objects(folder)
    for n, _ in enumerate(killer.deaths("LabelVolume(folder / 'seg').recompress()", folder)):
        np.testing.assert_array_equal(v.array[...], b)
        if n % 4 == 0:
            v.recompress()
            np.testing.assert_array_equal(v.array[...], b)
    done = objects(folder)
    assert done.keys() == edited.keys()
    assert sum(map(len, done.values())) < sum(map(len, edited.values()))


def right_index(folder: Path, trust: bool = False) -> None:
    """An index that is asked gives what the array has now; no file has a chunk twice."""
    import pyarrow.parquet as pq

    v = LabelVolume(folder / "seg", mode="r", index=folder / "index", trust_index=trust)
    labels, counts = np.unique(v.array[...], return_counts=True)
    assert v.voxel_counts() == dict(zip(labels.tolist(), counts.tolist(), strict=True))
    held: set[tuple[int, ...]] = set()
    names = [p for p in (folder / "index").iterdir() if p.suffix == ".parquet"]
    for path in names:
        table = pq.read_table(path, columns=[f"chunk_{i}" for i in range(v.array.ndim)])
        here = set(zip(*(column.to_pylist() for column in table.columns), strict=True))
        assert not here & held
        held |= here


def test_index(killer, tmp_path):
    """Built, brought up to date after chunks were written, and followed through an edit."""
    folder = tmp_path / "x"
    array_in(folder, "2D")
    build = "LabelVolume(folder / 'seg').build_index(folder / 'index')"
    for n, _ in enumerate(killer.deaths(build, folder, 4)):
        if (folder / "index").is_dir() and n % 2:
            right_index(folder)
        else:
            LabelVolume(folder / "seg").build_index(folder / "index")
            right_index(folder, trust=True)
    assert len(list((folder / "index").glob("*.parquet"))) > 1
    z = zarr.open_array(folder / "seg")
    z[: z.chunks[0] + 1] = 9
    for n, _ in enumerate(killer.deaths(build, folder, 4)):
        if n % 2:
            right_index(folder)
        else:
            LabelVolume(folder / "seg").build_index(folder / "index")
            right_index(folder, trust=True)
    edit = f"LabelVolume(folder / 'seg', index=folder / 'index').remap({SWAP})"
    for n, _ in enumerate(killer.deaths(edit, folder, 4)):
        if n % 2:
            right_index(folder)
        else:
            LabelVolume(folder / "seg", index=folder / "index").resume()
            right_index(folder)
    right_index(folder, trust=True)


FILES = [".ckl", ".ckl.gz", ".ckl.xz", ".ckl.zst", ".npy", ".npy.gz", ".nii", ".nii.gz", ".nrrd",
         ".tif", ".cpso"]  # fmt: skip


@pytest.mark.parametrize("suffix", [*FILES, ".meta.parquet"])
def test_files(killer, tmp_path, suffix):
    rng = np.random.default_rng(3)
    folder, name = tmp_path / "x", f"labels{suffix}"
    folder.mkdir()
    files.save(ck.compress(volume("blobs", rng, (20, 18, 16)).astype("u4")), tmp_path / "new.ckl")
    old = volume("blobs", rng, (20, 18, 16)).astype("u4")
    made = f"ck.bload({str(tmp_path / 'new.ckl')!r})"
    code = f"files.save({made}, folder / {name!r})"
    if suffix == ".ckl":
        code = f"ck.CrackleArray({made}).save(folder / {name!r})"
    if suffix == ".npy":
        code = f"files.save({made}, folder / {name!r}, block_size=9999)"
    if "parquet" in suffix:
        code = f"files.cache_meta({made}, folder / {name!r})"
        files.cache_meta(ck.compress(old), folder / name)
    else:
        files.save(old, folder / name)
    before, after = (folder / name).read_bytes(), set()
    deaths = 0
    for when in killer.deaths(code, folder, 5):
        assert (folder / name).read_bytes() == before, when
        left = [path.name for path in folder.iterdir() if path.name != name]
        assert len(left) <= 1 and all(p.startswith(".") and p.endswith(name) for p in left)
        after |= {*left}
        deaths += 1
    assert deaths >= 3 and after
    assert (folder / name).read_bytes() != before
    if "parquet" not in suffix:
        found = np.asarray(files.load_any(folder / name)).reshape(20, 18, 16)
        np.testing.assert_array_equal(found, files.load(tmp_path / "new.ckl"))


NEW = {
    "components": ".connected_components(folder / 'seg2', overwrite=True)",
    "downsample": ".downsample(folder / 'seg2', overwrite=True)",
}


@pytest.mark.parametrize(
    ("layout", "what"), [("2D", "components"), ("plain", "downsample"), ("shards", "downsample")]
)
def test_new_arrays(killer, tmp_path, layout, what):
    """What was at their place goes first. Of the new one each chunk is right, or not yet there."""
    folder = tmp_path / "x"
    array_in(folder, layout)
    source = objects(folder)
    code = f"LabelVolume(folder / 'seg'){NEW[what]}"
    names = {"folder": folder, "LabelVolume": LabelVolume}
    exec(code, names)
    right = zarr.open_array(folder / "seg2")[...]
    for n, _ in enumerate(killer.deaths(code, folder, 4)):
        assert objects(folder) == source
        if (folder / "seg2/zarr.json").is_file():
            z = zarr.open_array(folder / "seg2", mode="r")
            old_or_new(z, right, np.full_like(right, z.fill_value))
        if n % 5 == 0:
            exec(code, names)
            np.testing.assert_array_equal(zarr.open_array(folder / "seg2")[...], right)
    np.testing.assert_array_equal(zarr.open_array(folder / "seg2")[...], right)
