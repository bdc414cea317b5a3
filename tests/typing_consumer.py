"""What a type checker is to find of the public interface. It is read by one, and does not run."""

from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import numcodecs_crackle as ck

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.unsignedinteger[Any]]


def streams(binary: bytes, label: int | None, several: list[int], flag: bool) -> None:
    assert_type(ck.compress(np.zeros((2, 3, 4), "u4")), bytes)
    assert_type(ck.decompress(binary), npt.NDArray[Any])
    assert_type(ck.header(binary).shape, tuple[int, int, int])
    assert_type(ck.voxel_counts(binary), dict[int, int])
    assert_type(ck.voxel_counts(binary, 5), int)
    assert_type(ck.voxel_counts(binary, label), int | dict[int, int])
    assert_type(ck.centroids(binary), dict[int, Floats])
    assert_type(ck.centroids(binary, label=5), Floats)
    assert_type(ck.bounding_boxes(binary), dict[int, tuple[slice, slice, slice]])
    assert_type(ck.bounding_boxes(binary, 5), tuple[slice, slice, slice])
    corners = ck.bounding_boxes(binary, 5, no_slice_conversion=True)
    assert_type(corners, npt.NDArray[np.uint32])
    ck.bounding_boxes(binary, label, 0, flag)
    assert_type(ck.point_cloud(binary), dict[int, Whole])
    assert_type(ck.point_cloud(binary, several), dict[int, Whole])
    assert_type(ck.point_cloud(binary, 5), Whole)
    assert_type(ck.contacts(binary), dict[tuple[int, int], float])
    assert_type(ck.connected_components(binary), bytes)
    components, labels = ck.connected_components(binary, 6, return_mapping=True)
    assert_type(labels[1], int)
    assert_type(ck.renumber(components), tuple[bytes, dict[int, int]])
    assert_type(ck.labels(binary), npt.NDArray[Any])
    for found, image in ck.each(binary):
        assert_type(found, int)
        assert_type(image, npt.NDArray[np.bool_])
    for _, number, shared in ck.each(binary, multi=True):
        assert_type(number, int)
        assert_type(shared, npt.NDArray[np.uint8])


def arrays(array: ck.CrackleArray, other: ck.CrackleArray) -> None:
    assert_type(array + 1, ck.CrackleArray)
    assert_type(2 * array // other % np.uint8(7), ck.CrackleArray)
    assert_type(-array, ck.CrackleArray)
    assert_type(array > 3, ck.CrackleArray)
    assert_type(array.shape, tuple[int, ...])
    assert_type(array.voxel_counts(), dict[int, int])
    assert_type(array.voxel_counts(5), int)
    assert_type(array.centroids(5), Floats)
    assert_type(array.bounding_boxes(), dict[int, tuple[slice, slice, slice]])
    assert_type(array.bounding_boxes(5, True), npt.NDArray[np.uint32])
    assert_type(array.point_cloud([5]), dict[int, Whole])
    assert_type(array.connected_components(), ck.CrackleArray)
    components, labels = array.connected_components(return_mapping=True)
    assert_type(components.remap(labels), ck.CrackleArray)
    for found, image in array.each(labels=[1]):
        assert_type((found, image), tuple[int, npt.NDArray[np.bool_]])
    assert_type(ck.zeros((4, 5), "u2").labels(), npt.NDArray[Any])
    assert_type(ck.aload("a.ckl"), ck.CrackleArray)


def volumes(volume: ck.LabelVolume, several: list[int]) -> None:
    assert_type(volume.labels(), npt.NDArray[Any])
    assert_type(volume.voxel_counts(), dict[int, int])
    assert_type(volume.voxel_counts(several, progress=True), dict[int, int])
    assert_type(volume.voxel_counts(5, (slice(0, 9), 3)), int)
    assert_type(volume.bounding_boxes(5), tuple[slice, ...])
    assert_type(volume.centroids(), dict[int, Floats])
    assert_type(volume.point_cloud(5), Whole)
    assert_type(volume.point_cloud(skip_background=False), dict[int, Whole])
    assert_type(volume.chunks_with(5), list[tuple[int, ...]])
    assert_type(volume.chunks_with(several), dict[int, list[tuple[int, ...]]])
    assert_type(volume.labels_by_chunk(), Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]])
    assert_type(volume.mask(5), tuple[tuple[int, ...], npt.NDArray[np.bool_]])
    assert_type(volume.read(labels=several), npt.NDArray[Any])
    assert_type(volume.remap({1: 2}, dry_run=True).chunks[0].chunk, tuple[int, ...])
    with ck.serve("labels.zarr", resolution=(4, 4, 40)) as server:
        assert_type(server.url, str)
        assert_type(server.port, int)
    assert_type(ck.to_precomputed("labels.zarr", "layer"), int)
    volume.labels(progess=True)  # type: ignore[call-arg]
    volume.voxel_counts("5")  # type: ignore[arg-type]
