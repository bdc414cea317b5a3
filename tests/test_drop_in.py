"""What crackle-codec's users write runs with the import swapped.

Each function that the README of crackle-codec 0.39 shows, and each it has added since, called
as it shows them.
"""

from __future__ import annotations

import crackle as reference
import numpy as np
import pytest
from conftest import volume

import numcodecs_crackle as crackle


@pytest.fixture
def labels():
    rng = np.random.default_rng(0)
    return np.asfortranarray(volume("blobs", rng, (40, 30, 50)).astype(np.uint32))


@pytest.fixture
def binary(labels):
    return crackle.compress(labels)


def test_compress(labels):
    binary = crackle.compress(labels, allow_pins=False, markov_model_order=0)
    np.testing.assert_array_equal(crackle.decompress(binary, parallel=0), labels)
    image = crackle.decompress(binary, label=int(labels[3, 4, 5]))
    np.testing.assert_array_equal(image, labels == labels[3, 4, 5])


def test_questions(labels, binary):
    every = np.unique(labels)
    np.testing.assert_array_equal(crackle.labels(binary), every)
    np.testing.assert_array_equal(
        crackle.labels_for_z_range(binary, 5, 10), np.unique(labels[:, :, 5:10])
    )
    assert crackle.num_labels(binary) == len(every)
    assert crackle.min(binary) == every[0]
    assert crackle.max(binary) == every[-1]
    assert crackle.contains(binary, int(every[3]))
    np.testing.assert_array_equal(
        crackle.contains_range(binary, 10, 100), every[(every >= 10) & (every < 100)]
    )


def test_each(labels, binary):
    for label, image in crackle.each(binary, crop=True):
        assert image.sum() == (labels == label).sum()
    for label, number, image in crackle.each(binary, multi=True):
        assert ((image == number) == (labels == label)).all()


def test_remap(labels, binary):
    mapping = {int(v): int(v) + 1 for v in np.unique(labels)[:5]}
    remapped = crackle.remap(binary, mapping, preserve_missing_labels=True)
    assert crackle.decompress(remapped).shape == labels.shape
    assert crackle.header(crackle.refit(binary)).data_width == 2
    renumbered, mapping = crackle.renumber(binary, start=0)
    assert mapping[int(labels[0, 0, 0])] == crackle.decompress(renumbered)[0, 0, 0]


def test_equality(labels, binary):
    arr, arr2 = crackle.CrackleArray(binary), crackle.compressa(labels)
    assert crackle.array_equal(binary, arr2.binary)
    assert arr == arr2  # 0.39: a truth
    assert (arr == arr2).numpy().all()  # 0.53: an array
    assert arr.array_equal(arr2)
    result = arr.apply_binary_mask(arr2 > 100)
    np.testing.assert_array_equal(result.numpy(), np.where(labels > 100, labels, 0))


def test_files(labels, binary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    crackle.save(labels, "example.ckl.gz")
    np.testing.assert_array_equal(crackle.load("example.ckl.gz"), labels)
    crackle.save(binary, "example.npy.gz")
    crackle.save_numpy(binary, "example.npy")
    np.testing.assert_array_equal(np.load("example.npy"), labels)
    crackle.save(labels, "myfile.ckl")
    arr = crackle.aload("myfile.ckl", allow_mmap=True)
    assert arr.to_parquet().num_rows == arr.num_labels()
    arr.cache_meta("myfile.ckl.meta.parquet")


def test_array(labels, binary):
    arr = crackle.CrackleArray(binary, parallel=0)
    np.testing.assert_array_equal(arr[:10, :10, :10], labels[:10, :10, :10])
    arr[:, :, 30] = 20
    assert 20 in arr
    assert (arr.numpy()[:, :, 30] == 20).all()


def test_measures(labels, binary):
    ptc = crackle.point_cloud(binary)
    label = int(labels[0, 0, 0])
    np.testing.assert_array_equal(crackle.point_cloud(binary, label=label), ptc[label])
    assert sum(crackle.voxel_counts(binary).values()) == labels.size
    assert crackle.centroids(binary).keys() == crackle.bounding_boxes(binary).keys()
    assert crackle.voxel_connectivity_graph(binary, connectivity=6).shape == labels.shape
    assert crackle.contacts(binary, anisotropy=(32, 32, 40))


def test_components(labels, binary):
    ccl = crackle.connected_components(
        binary, connectivity=26, memory_target=int(1e9), progress=True, return_mapping=False
    )
    assert crackle.num_labels(ccl) >= crackle.num_labels(binary) - 1
    downsampled = crackle.mode_pooling_2x2x1(binary)
    assert crackle.CrackleArray(downsampled).shape == (20, 15, 50)


def test_big_arrays():
    arr = crackle.zeros([500, 500, 500], dtype=np.uint64, order="F")
    part1 = np.zeros([100, 100, 10], dtype=np.uint32)
    part2 = crackle.ones([100, 100, 10], dtype=np.uint32)
    binary = crackle.ascontiguousarray(crackle.asfortranarray(arr.binary))
    assert not crackle.header(binary).fortran_order
    stacked = crackle.zstack([part1, part2])
    assert crackle.voxel_counts(stacked) == {0: 100_000, 1: 100_000}
    before, middle, after = crackle.zsplit(stacked, z=12)
    depths = [crackle.header(part).sz for part in (before, middle, after)]
    assert depths == [12, 1, 7]
    assert len(crackle.zshatter(stacked)) == 20


def test_the_same_names():
    """All that crackle-codec has at its top, but for what shows its own inner parts."""
    inner = {
        "CrackleRemoteArray", "component_lengths", "components", "crack_codes",
        "array", "codec", "headers", "lib", "operations", "util",
    }  # fmt: skip
    missing = {n for n in dir(reference) if n[0] != "_"} - inner - set(dir(crackle))
    assert missing == set()


@pytest.mark.parametrize("mapping", [{1: 2.0}, {np.float64(1): 2}])
def test_remap_by_whole_floats(mapping):
    a = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    theirs = reference.remap(reference.compress(a), mapping, preserve_missing_labels=True)
    ours = crackle.remap(crackle.compress(a), mapping, preserve_missing_labels=True)
    np.testing.assert_array_equal(crackle.decompress(ours), reference.decompress(bytes(theirs)))


def test_remap_gives_what_can_be_edited_in_place():
    a = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    edited = crackle.remap(crackle.compress(a), {1: 2}, preserve_missing_labels=True)
    crackle.remap(edited, {3: 4}, preserve_missing_labels=True, in_place=True)
    assert not crackle.contains(edited, 3)


def test_labels_that_are_no_numbers_are_refused():
    a = np.full((2, 3, 4), 5, np.uint8, order="F")
    a[0] = 1
    with pytest.raises(TypeError):
        reference.decompress(reference.compress(a), label="5")
    with pytest.raises(TypeError):
        crackle.decompress(crackle.compress(a), label="5")


def test_older_spellings(labels, binary):
    pins = crackle.recompress(binary, memory_target=int(4e9), allow_pins=True)
    assert crackle.header(pins).label_format == 2
    assert crackle.recompress(pins, allow_pins=False) == binary
    assert crackle.header(crackle.recompress(pins)).label_format == 2
    assert crackle.asfortranarray(binary) is binary
