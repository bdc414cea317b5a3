"""The toolbox on single streams: measures, edits and 3D components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import crackle
import numpy as np

import numcodecs_crackle as ck
from benchmarks import OURS, REFERENCE
from benchmarks.cases import CROPS, Volume
from benchmarks.extras import Row, row

Run = Callable[[Any], Any]


def _same(ours: Any, theirs: Any, what: str) -> None:
    """Dicts of numbers, arrays or slices; arrays; streams, by what they decode to."""
    if isinstance(ours, dict):
        same = ours.keys() == theirs.keys() and all(
            np.allclose(ours[k], theirs[k]) if not isinstance(ours[k], tuple) else
            ours[k] == theirs[k] for k in ours
        )  # fmt: skip
    elif isinstance(ours, (bytes, bytearray)):
        same = ck.array_equal(ours, bytes(theirs))
    else:
        same = np.array_equal(ours, theirs)
    if not same:
        raise SystemExit(f"{what}: the results differ")


def _rows(
    runs: dict[str, tuple[Run, Run]], data: Any, name: str, voxels: int, seconds: float
) -> list[Row]:
    rows = []
    for what, (ours, theirs) in runs.items():
        _same(ours(data), theirs(data), f"{what}, {name}")
        calls = {OURS: lambda f=ours: f(data), REFERENCE: lambda f=theirs: f(data)}
        rows.append(row(f"{what}, {name}", calls, voxels, seconds))
    return rows


def measures(real: Volume, seconds: float) -> list[Row]:
    """Questions whose answer is a fold over runs, on one thread."""
    one = {"parallel": 1}
    runs: dict[str, tuple[Run, Run]] = {
        "voxel_counts": (
            lambda s: ck.voxel_counts(s, **one), lambda s: crackle.voxel_counts(s, **one),
        ),
        "centroids": (lambda s: ck.centroids(s, **one), lambda s: crackle.centroids(s, **one)),
        "bounding_boxes": (
            lambda s: ck.bounding_boxes(s, **one), lambda s: crackle.bounding_boxes(s, **one),
        ),
        "contacts": (lambda s: ck.contacts(s, **one), lambda s: crackle.contacts(s, **one)),
        "voxel_connectivity_graph(6)": (
            lambda s: ck.voxel_connectivity_graph(s, 6, 1),
            lambda s: crackle.voxel_connectivity_graph(s, 6, 1),
        ),
        "voxel_connectivity_graph(4)": (
            lambda s: ck.voxel_connectivity_graph(s, 4, 1),
            lambda s: crackle.voxel_connectivity_graph(s, 4, 1),
        ),
    }  # fmt: skip
    rows = []
    for name, v in {"128^3": real[CROPS["128^3"]], "the whole volume": real}.items():
        v = np.asfortranarray(v)
        s = ck.compress(v)
        rows += _rows(runs, s, name, v.size, seconds)
        if ck.point_cloud(s).keys() != crackle.point_cloud(s).keys():  # theirs have some twice
            raise SystemExit("point_cloud: other labels")
        clouds = {
            OURS: lambda s=s: ck.point_cloud(s, parallel=1),
            REFERENCE: lambda s=s: crackle.point_cloud(s, parallel=1),
        }
        rows.append(row(f"point_cloud, {name}", clouds, v.size, seconds))
        labels, counts = np.unique(v[v > 0], return_counts=True)
        label = int(labels[counts.argmax()])
        mask: dict[str, tuple[Run, Run]] = {
            "decompress(label=)": (
                lambda s, n=label: ck.decompress(s, n, 1),
                lambda s, n=label: crackle.decompress(s, n, 1),
            )
        }
        rows += _rows(mask, s, f"{name}, its largest label", v.size, seconds)
    return rows


def edits(real: Volume, seconds: float) -> list[Row]:
    """Edits, on one thread where there is a choice."""
    v = np.asfortranarray(real[CROPS["256x256x64"]])
    s = ck.compress(v)
    labels = np.unique(v).tolist()
    merge = {label: labels[i // 2] for i, label in enumerate(labels)}
    merged, parts = bytes(crackle.remap(s, merge)), ck.zshatter(s)
    runs: dict[str, tuple[Run, Run]] = {
        "remap": (lambda s: ck.remap(s, merge), lambda s: bytes(crackle.remap(s, merge))),
        "renumber": (lambda s: ck.renumber(s)[0], lambda s: bytes(crackle.renumber(s)[0])),
        "mask": (
            lambda s: ck.mask(s, labels[:5]), lambda s: bytes(crackle.mask(s, labels[:5])),
        ),
        "zsplit": (lambda s: ck.zsplit(s, 30)[2], lambda s: crackle.zsplit(s, 30)[2]),
        "zstack of 64 slices": (lambda s: ck.zstack(parts), lambda s: crackle.zstack(parts)),
        "reencode to order 5": (
            lambda s: ck.reencode(s, 5, 1), lambda s: crackle.reencode(s, 5, 1),
        ),
        "recompress after a remap": (
            lambda s: ck.recompress(merged, 1), lambda s: crackle.recompress(merged, 1),
        ),
        "mode_pooling_2x2x1": (
            lambda s: ck.mode_pooling_2x2x1(s, parallel=1),
            lambda s: crackle.mode_pooling_2x2x1(s, parallel=1),
        ),
        "two streams, +": (
            lambda s: ck.binary_operator(s, s, "+", 1),
            lambda s: crackle.operations.binary_operator(s, s, "+", 1),
        ),
    }  # fmt: skip
    rows = _rows(runs, s, "256x256x64", v.size, seconds)
    ours = lambda: ck.connected_components(s, 26, parallel=1)  # noqa: E731
    theirs = lambda: crackle.connected_components(s, 26)  # noqa: E731
    if not ck.structure_equal(ours(), theirs()):
        raise SystemExit("connected_components: the results differ")
    rows.append(
        row(
            "connected_components(26), 256x256x64", {OURS: ours, REFERENCE: theirs}, v.size, seconds
        )
    )
    return rows
