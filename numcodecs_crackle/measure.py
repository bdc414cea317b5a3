"""Measures of labels: sizes, boxes, contacts, surfaces, from runs alone.

Names, arguments and results are crackle-codec's. ``binary`` is a stream, or what has one as
its ``binary``; axes are x, y, z; ``parallel`` is a number of threads, 0 for all cores. Each
slice that is read is verified, and damage raises `FormatError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.stream import fits, label_groups, opened

__all__ = [
    "array_equal", "bounding_boxes", "centroids", "component_map", "contacts", "edge_labels",
    "point_cloud", "scattered_points", "select_enclosed_points", "signed_distance_to_boundary",
    "structure_equal", "to_parquet", "voxel_connectivity_graph", "voxel_counts",
    "z_range_for_label",
]  # fmt: skip


Box = tuple[slice, slice, slice]
Corners = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]
Points = npt.NDArray[np.unsignedinteger[Any]]


class Totals(NamedTuple):
    """Labels that have voxels, ascending, and a row for each of what was asked for."""

    labels: npt.NDArray[Any]
    counts: npt.NDArray[np.uint64]
    boxes: npt.NDArray[np.uint32] | None  # lowest x, y, z, highest x, y, z, inclusive
    means: npt.NDArray[np.float64] | None  # of x, y, z


def totals(
    binary: Any,
    label: int | None = None,
    *,
    boxes: bool = False,
    means: bool = False,
    parallel: int = 0,
) -> Totals:
    """Voxel counts, bounding boxes and centroids as arrays, of all labels or one.

    For one label only the slices that have it are read; ValueError if there is none.
    """
    stream, head = opened(binary)
    values, group = label_groups(stream, head.dtype)
    wanted = None
    if label is not None:
        values, group, wanted = _only(stream, head, values, group, label)
    counts, found_boxes, sums = stream.measure(
        group, len(values), boxes=boxes, sums=means, wanted=wanted, parallel=parallel
    )
    held = counts > 0
    if label is not None and not held.any():
        raise _missing(label)
    counts = counts[held]
    return Totals(
        values[held],
        counts,
        None if found_boxes is None else found_boxes[held],
        None if sums is None else sums[held] / counts[:, None],
    )


def _missing(label: Any) -> ValueError:
    return ValueError(f"Label {label} not contained in image.")


def _only(
    stream: _native.Stream,
    head: CrackleHeader,
    values: npt.NDArray[Any],
    group: npt.NDArray[np.uint32],
    label: int,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """The groups when only one label counts, and the slices that may have it."""
    if not fits(label, head.dtype) or not (values == label).any():
        raise _missing(label)
    mine = np.flatnonzero(values == label)[0]
    one = np.where(group == mine, np.uint32(0), np.uint32(_native.NO_GROUP))
    return values[mine : mine + 1], one, stream.slices_with(int(label))[0]


def by_label(found: Totals, rows: Sequence[Any], label: int | None) -> Any:
    """A row for each label as a dict; the only one if it is of one label."""
    return rows[0] if label is not None else dict(zip(found.labels.tolist(), rows, strict=True))


@overload
def voxel_counts(binary: Any, label: None = None, parallel: int = 0) -> dict[int, int]: ...
@overload
def voxel_counts(binary: Any, label: int, parallel: int = 0) -> int: ...
def voxel_counts(binary: Any, label: int | None = None, parallel: int = 0) -> Any:
    """Voxels by label.

    Returns
    -------
    dict of int to int; an int if ``label`` is given

    Raises
    ------
    ValueError
        If there is no such label.
    """
    found = totals(binary, label, parallel=parallel)
    return by_label(found, found.counts.tolist(), label)


@overload
def centroids(binary: Any, label: None = None, parallel: int = 0) -> dict[int, Floats]: ...
@overload
def centroids(binary: Any, label: int, parallel: int = 0) -> Floats: ...
def centroids(binary: Any, label: int | None = None, parallel: int = 0) -> Any:
    """The mean x, y, z of each label's voxels, in voxels.

    Returns
    -------
    dict of int to float64 array (3,); that array if ``label`` is given

    Raises
    ------
    ValueError
        If there is no such label.
    """
    found = totals(binary, label, means=True, parallel=parallel)
    assert found.means is not None
    return by_label(found, list(found.means), label)


@overload
def bounding_boxes(
    binary: Any, label: None = None, parallel: int = 0, no_slice_conversion: Literal[False] = False
) -> dict[int, Box]: ...
@overload
def bounding_boxes(
    binary: Any, label: int, parallel: int = 0, no_slice_conversion: Literal[False] = False
) -> Box: ...
@overload
def bounding_boxes(
    binary: Any, label: None = None, parallel: int = 0, *, no_slice_conversion: Literal[True]
) -> dict[int, Corners]: ...
@overload
def bounding_boxes(
    binary: Any, label: int, parallel: int = 0, *, no_slice_conversion: Literal[True]
) -> Corners: ...
@overload
def bounding_boxes(
    binary: Any, label: int | None = None, parallel: int = 0, no_slice_conversion: bool = False
) -> Any: ...
def bounding_boxes(
    binary: Any,
    label: int | None = None,
    parallel: int = 0,
    no_slice_conversion: bool = False,
) -> Any:
    """The bounding box of each label.

    Returns
    -------
    dict of int to tuple of 3 slices, in x, y, z; that tuple if ``label`` is given
        With ``no_slice_conversion`` instead of the tuple a uint32 array: the lowest x, y, z
        and the highest x, y, z, inclusive.

    Raises
    ------
    ValueError
        If there is no such label.
    """
    found = totals(binary, label, boxes=True, parallel=parallel)
    assert found.boxes is not None
    return by_label(
        found, list(found.boxes) if no_slice_conversion else box_slices(found.boxes), label
    )


def box_slices(boxes: npt.NDArray[np.uint32]) -> list[tuple[slice, slice, slice]]:
    """Rows of lowest and highest x, y, z as tuples of slices."""
    return [
        (slice(x, x_last + 1), slice(y, y_last + 1), slice(z, z_last + 1))
        for x, y, z, x_last, y_last, z_last in boxes.tolist()
    ]


def z_range_for_label(binary: Any, label: int) -> tuple[int, int]:
    """The first slice that has a label, and the one behind the last; (-1, -1) without it.

    From the label section alone; where labels are pins the slices that may have it are read.
    """
    stream, head = opened(binary)
    if not fits(label, head.dtype):
        return -1, -1
    flags, exact = stream.slices_with(int(label))
    held = np.flatnonzero(flags)
    if held.size and not exact:
        try:
            box = bounding_boxes(binary, label, no_slice_conversion=True)
        except ValueError:
            return -1, -1
        return int(box[2]), int(box[5]) + 1
    return (int(held[0]), int(held[-1]) + 1) if held.size else (-1, -1)


def edge_labels(binary: Any, parallel: int = 0) -> set[int]:
    """The labels with a voxel at the border of the volume."""
    found = totals(binary, boxes=True, parallel=parallel)
    _, head = opened(binary)
    assert found.boxes is not None
    low, high = found.boxes[:, :3], found.boxes[:, 3:]
    at_edge = (low == 0).any(axis=1) | (high == np.array(head.shape) - 1).any(axis=1)
    return set(found.labels[at_edge].tolist())


# ---- faces and surfaces ----


def contacts(
    binary: Any,
    anisotropy: Sequence[float] = (1.0, 1.0, 1.0),
    parallel: int = 0,
) -> dict[tuple[int, int], float]:
    """The area over which each two labels touch by faces. 0 is background and has none.

    Parameters
    ----------
    anisotropy : 3 floats
        The size of a voxel in x, y, z, in any unit; areas are in its square.

    Returns
    -------
    dict of (smaller label, larger label) to float
    """
    first, second, counts = contact_faces(binary, parallel)
    wx, wy, wz = (float(w) for w in anisotropy)
    areas = counts @ np.array([wy * wz, wx * wz, wx * wy])
    return dict(zip(zip(first.tolist(), second.tolist(), strict=True), areas.tolist(), strict=True))


def contact_faces(
    binary: Any, parallel: int = 0
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.uint64]]:
    """The same as arrays: smaller labels, larger ones, and faces (n, 3) across x, y, z."""
    stream, head = opened(binary)
    values, group = label_groups(stream, head.dtype)
    if head.voxels() == 0:
        return values, values, np.zeros((0, 3), np.uint64)
    background = np.flatnonzero(values == 0)
    group[np.isin(group, background)] = _native.NO_GROUP
    pairs, counts = _summed(stream.contacts(group, parallel))
    return values[pairs[:, 0]], values[pairs[:, 1]], counts


def _summed(
    lists: list[npt.NDArray[Any]],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint64]]:
    """The pairs (n, 2) of several lists, each once and ascending, and their counts (n, 3)."""
    pairs = np.concatenate(lists) if lists else np.zeros(0, _native.PAIR)
    key = pairs["a"].astype(np.uint64) << np.uint64(32) | pairs["b"]
    order = np.argsort(key, kind="stable")
    key, counts = key[order], pairs["counts"][order]
    first = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: len(key)])
    if len(first) < len(key):
        key, counts = key[first], np.add.reduceat(counts, first, axis=0)
    both = np.stack([key >> np.uint64(32), key & np.uint64(0xFFFFFFFF)], axis=1)
    return both.astype(np.intp), counts


@overload
def point_cloud(
    binary: Any,
    label: Iterable[int] | None = None,
    parallel: int = 0,
    z_start: int = -1,
    z_end: int = -1,
    skip_background: bool = True,
) -> dict[int, Points]: ...
@overload
def point_cloud(
    binary: Any,
    label: int,
    parallel: int = 0,
    z_start: int = -1,
    z_end: int = -1,
    skip_background: bool = True,
) -> Points: ...
def point_cloud(
    binary: Any,
    label: int | Iterable[int] | None = None,
    parallel: int = 0,
    z_start: int = -1,
    z_end: int = -1,
    skip_background: bool = True,
) -> Any:
    """The voxels at the surface of labels: at another label, or at the volume's border.

    Parameters
    ----------
    label : int or list of int, optional
        Only these.
    z_start, z_end : int
        Only voxels of the slices [z_start, z_end); -1 for the first and past the last.
    skip_background : bool
        Leave out label 0, unless it is asked for by ``label``.

    Returns
    -------
    dict of int to array (n, 3) of x, y, z; that array if ``label`` is an int
        uint16, or uint32 if the volume is longer than 65536 voxels in any axis; each voxel
        once, by ascending z, y, x.

    Raises
    ------
    ValueError
        If there is no such label, or the z range is not in the volume.
    """
    stream, head = opened(binary)
    values, group = label_groups(stream, head.dtype)
    z0 = 0 if z_start == -1 else int(z_start)
    z1 = head.sz if z_end == -1 else int(z_end)
    if not 0 <= z0 <= z1 <= head.sz:
        raise ValueError(f"the z range [{z_start}, {z_end}) is not within [0, {head.sz})")
    dtype = np.uint16 if max(head.shape) <= 1 << 16 else np.uint32
    empty = np.zeros((0, 3), dtype)
    one = isinstance(label, (int, np.integer))
    wanted = [int(label)] if one else None if label is None else [int(v) for v in label]  # type: ignore[arg-type, union-attr]
    keep = values != 0 if skip_background and wanted is None else np.ones(len(values), bool)
    if wanted is not None:
        flags = np.zeros(head.sz, bool)
        for value in wanted:
            if not fits(value, head.dtype) or not (values == value).any():
                raise _missing(value)
            held_by = stream.slices_with(value)[0]
            if not held_by.any():  # a label of the table that no voxel has
                raise _missing(value)
            flags |= held_by
        keep = np.isin(values, np.array(wanted, head.dtype))
        held = np.flatnonzero(flags[z0:z1])
        if held.size == 0:
            return empty if one else {}
        z0, z1 = z0 + int(held[0]), z0 + int(held[-1]) + 1
    # Those left out are one group: it lacks the borders among its own, which nobody sees.
    place = np.where(keep, np.cumsum(keep) - 1, _native.NO_GROUP).astype(np.uint32)
    known = group != _native.NO_GROUP
    group[known] = place[group[known]]
    labels = values[keep]
    points, ends = stream.surface(group, len(labels), z0, z1, dtype, parallel)
    if one:
        return points
    parts = np.split(points, ends[:-1].astype(np.intp)) if len(labels) else []
    return {k: v for k, v in zip(labels.tolist(), parts, strict=True) if len(v)}


def voxel_connectivity_graph(
    binary: Any, connectivity: int = 6, parallel: int = 0
) -> npt.NDArray[np.uint8]:
    """Which neighbours of each voxel have its label.

    Parameters
    ----------
    connectivity : 4 or 6
        4: the neighbours in the slice only.

    Returns
    -------
    uint8 array (sx, sy, sz), Fortran order
        Bits, the lowest first: x + 1, x - 1, y + 1, y - 1, z + 1, z - 1; the last two are 0
        with connectivity 4. Bits that lead out of the volume mean nothing, and are what
        crackle-codec gives: mostly 1, but 0 in x and y in streams of the permissible format
        (noise), and in z where there is a single slice.
    """
    if connectivity not in (4, 6):
        raise ValueError(f"Only 4 and 6 connected are supported. Got: {connectivity}")
    stream, head = opened(binary)
    _, group = label_groups(stream, head.dtype)
    stream.allow(stream.slices)
    graph = np.empty(head.voxels(), np.uint8)
    if graph.size:
        stream.connectivity_graph(group, connectivity, graph, parallel)
    return graph.reshape(head.shape, order="F")


# ---- two streams ----


def _common_groups(
    first: tuple[npt.NDArray[Any], npt.NDArray[np.uint32]],
    second: tuple[npt.NDArray[Any], npt.NDArray[np.uint32]],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """The groups of two streams, numbered so that equal labels have one number."""
    values = [v.astype(object if v.dtype.kind == "i" else np.uint64) for v in (first[0], second[0])]
    _, inverse = np.unique(np.concatenate(values), return_inverse=True)
    inverse = np.append(inverse.reshape(-1), _native.NO_GROUP).astype(np.uint32)
    parts = inverse[: len(values[0])], inverse[len(values[0]) :]
    groups = []
    for part, (_, group) in zip(parts, (first, second), strict=True):
        known = group != _native.NO_GROUP
        groups.append(np.where(known, part[np.where(known, group, 0)], group).astype(np.uint32))
    return groups[0], groups[1]


def array_equal(binary1: Any, binary2: Any, parallel: int = 0) -> bool:
    """Whether two streams have the same shape and labels, however they are coded.

    Stops at the first slice that differs.
    """
    (first, head1), (second, head2) = opened(binary1), opened(binary2)
    if head1.shape != head2.shape:
        return False
    if head1.voxels() == 0:
        return True
    groups = _common_groups(label_groups(first, head1.dtype), label_groups(second, head2.dtype))
    return not any(
        len(p) for p in first.overlay(second, *groups, different=True, parallel=parallel)
    )


def structure_equal(binary1: Any, binary2: Any, parallel: int = 0) -> bool:
    """Whether two streams have the same borders between labels in each slice.

    Borders that an edit left between equal labels are none.
    """
    (first, head1), (second, head2) = opened(binary1), opened(binary2)
    if head1.shape != head2.shape:
        return False
    if head1.voxels() == 0:
        return True
    group1, group2 = label_groups(first, head1.dtype)[1], label_groups(second, head2.dtype)[1]
    return first.same_borders(second, group1, group2, parallel)


def component_map(component_binary: Any, parent_binary: Any, parallel: int = 0) -> dict[int, int]:
    """Which label of the second stream each label of the first lies in.

    Where it lies in several, the one with most of its voxels. ValueError if the shapes differ.

    Returns
    -------
    dict of label in ``component_binary`` to label in ``parent_binary``
    """
    (first, head1), (second, head2) = opened(component_binary), opened(parent_binary)
    if head1.shape != head2.shape:
        raise ValueError(f"the shapes differ: {head1.shape} and {head2.shape}")
    if head1.voxels() == 0:
        return {}
    (values1, group1), (values2, group2) = (
        label_groups(first, head1.dtype), label_groups(second, head2.dtype),
    )  # fmt: skip
    pairs, counts = _summed(first.overlay(second, group1, group2, parallel=parallel))
    order = np.argsort(counts[:, 2], kind="stable")  # the last one of a label stays
    left, right = values1[pairs[order, 0]].tolist(), values2[pairs[order, 1]].tolist()
    return dict(zip(left, right, strict=True))


# ---- at points ----


def _as_points(points: npt.ArrayLike) -> npt.NDArray[Any]:
    array = np.asarray(points)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"points must have the shape (n, 3), not {array.shape}")
    return array


def _inside(points: npt.NDArray[Any], shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    return np.asarray(((points >= 0) & (points < np.array(shape))).all(axis=1), np.bool_)


def scattered_points(binary: Any, points: npt.ArrayLike, parallel: int = 0) -> npt.NDArray[Any]:
    """The labels at voxels. Only the slices with one are read.

    Parameters
    ----------
    points : integers (n, 3)
        x, y, z.

    Returns
    -------
    array (n,), in the stream's dtype

    Raises
    ------
    ValueError
        For points of another shape or kind, or outside of the volume.
    """
    array = _as_points(points)
    stream, head = opened(binary)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"points must be integers, not {array.dtype}")
    inside = _inside(array, head.shape)
    if not inside.all():
        examples = array[~inside][:10].tolist()
        raise ValueError(f"{(~inside).sum()} points are out of range, such as {examples}")
    if not len(array):
        return np.zeros(0, head.dtype)
    x, y, z = array.astype(np.uint64).T
    order = np.argsort(z, kind="stable")
    pixel = (x + np.uint64(head.sx) * y)[order].astype(np.uint32)
    values, group = label_groups(stream, head.dtype)
    result = np.empty(len(array), head.dtype)
    result[order] = values[group[stream.keys_at(z[order].astype(np.uint32), pixel)]]
    return result


def select_enclosed_points(
    binary: Any, label: int, points: npt.ArrayLike, parallel: int = 0
) -> npt.NDArray[np.bool_]:
    """Whether each of the points (n, 3) of x, y, z lies in a voxel of a label.

    Fractions are cut off; points outside of the volume do not.
    """
    array = _as_points(points)
    inside = _inside(array, opened(binary)[1].shape)
    start, end = z_range_for_label(binary, label)
    inside &= (array[:, 2] >= start) & (array[:, 2] < end)
    if inside.any():
        voxels = array[inside].astype(np.int64)
        inside[inside] = scattered_points(binary, voxels, parallel) == label
    return inside


def signed_distance_to_boundary(
    binary: Any,
    label: int,
    points: npt.ArrayLike,
    anisotropy: npt.ArrayLike = (1.0, 1.0, 1.0),
    parallel: int = 0,
    z_chunk: int = 100,
    progress: bool = False,
) -> npt.NDArray[np.float32]:
    """The distance of points to a label's surface; negative within the label.

    To the centre of the nearest voxel at its surface (`point_cloud`), found by scipy's k-d
    tree; within the label the smallest voxel size is added, so that a surface voxel is that
    far inside.

    Parameters
    ----------
    points : (n, 3)
        x, y, z in voxels.
    anisotropy : 3 floats
        The size of a voxel, which is the unit of the distances.
    z_chunk : int
        How many slices are searched at a time.
    progress : bool
        Show a tqdm progress bar.

    Returns
    -------
    float32 array (n,); infinite if there is no such label
    """
    from numcodecs_crackle.extras import progress_bar, required

    spatial = required("scipy.spatial", "measure")
    array = _as_points(points)
    radii = np.full(len(array), np.inf, np.float32)
    start, end = z_range_for_label(binary, label)
    if start < 0 or not len(array):
        return radii
    size = np.asarray(anisotropy, np.float64)
    scaled = array * size
    inside = select_enclosed_points(binary, label, array, parallel)
    chunks = range(start, end, max(1, int(z_chunk)))
    for z in progress_bar(chunks, progress, "Signed distance to boundary"):
        z1 = min(z + chunks.step, end)
        cloud = point_cloud(binary, label, parallel, z_start=z, z_end=z1)
        if len(cloud):
            near, _ = spatial.KDTree(cloud * size).query(scaled)
            np.minimum(radii, near, out=radii, casting="unsafe")
    radii[inside] = -(radii[inside] + np.float32(np.min(size)))
    return radii


# ---- tables ----


def columns(binary: Any, found: Totals) -> dict[str, npt.NDArray[Any]]:
    """Counts, boxes and centroids as the columns of `to_parquet`."""
    _, head = opened(binary)
    assert found.boxes is not None and found.means is not None
    wide = head.voxels() > np.iinfo(np.uint32).max
    box_dtype = np.uint16 if max(head.shape) <= 0xFFFF else np.uint32
    result: dict[str, npt.NDArray[Any]] = {
        "label": found.labels,
        "voxel_count": found.counts.astype(np.uint64 if wide else np.uint32),
    }
    axes = "xyz" if head.sz > 1 else "xy"
    for i, axis in enumerate(axes):
        result[f"min_{axis}"] = found.boxes[:, i].astype(box_dtype)
        result[f"max_{axis}"] = found.boxes[:, 3 + i].astype(box_dtype)
    for i, axis in enumerate(axes):
        result[f"centroid_{axis}"] = found.means[:, i]
    return result


def to_parquet(binary: Any, parallel: int = 0) -> Any:
    """Counts, boxes and centroids as a pyarrow table, one row a label, ascending.

    Columns: ``label``, ``voxel_count``, ``min_x``, ``max_x`` and so on (inclusive), as
    crackle-codec has them, and ``centroid_x`` and so on; those of z if there is more than one
    slice. ImportError without pyarrow.
    """
    from numcodecs_crackle.extras import required

    pa = required("pyarrow", "files")
    return pa.table(columns(binary, totals(binary, boxes=True, means=True, parallel=parallel)))


def from_parquet(table: Any, label: int | None = None) -> Totals:
    """What `to_parquet` has put in a table: of all labels, or one. ValueError without it."""
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    if label is not None:
        mine = columns["label"] == label
        if not mine.any():
            raise _missing(label)
        columns = {name: column[mine] for name, column in columns.items()}
    none = np.zeros(len(columns["label"]))
    sides = [columns.get(f"{side}_{axis}", none) for side in ("min", "max") for axis in "xyz"]
    means = [columns.get(f"centroid_{axis}", none) for axis in "xyz"]
    return Totals(
        columns["label"],
        columns["voxel_count"].astype(np.uint64),
        np.stack(sides, axis=1).astype(np.uint32),
        np.stack(means, axis=1).astype(np.float64),
    )
