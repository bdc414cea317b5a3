"""OME-Zarr label images, beside ome-zarr-py and napari's reader."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from itertools import pairwise

import dask.array
import numpy as np
import pytest
import zarr
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from numcodecs_crackle import (
    Crackle,
    CrackleCodec,
    FormatError,
    LabelVolume,
    UnsupportedError,
    ngff,
    ome,
    ome_plan,
)

VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


@pytest.fixture(scope="module")
def cells():
    return blobs(np.random.default_rng(5), (9, 21, 26)).astype("u4")


def is_most_frequent(fine, coarse, factors) -> bool:
    """Whether every voxel of a level is a most frequent label of its block."""
    for place in np.ndindex(coarse.shape):
        at = tuple(slice(i * f, (i + 1) * f) for i, f in zip(place, factors, strict=True))
        labels, counts = np.unique(fine[at], return_counts=True)
        if coarse[place] not in labels[counts == counts.max()]:
            return False
    return coarse.shape == tuple(-(-n // f) for n, f in zip(fine.shape, factors, strict=True))


# ---- what is written ----


@VERSIONS
def test_levels_are_most_frequent_labels(tmp_path, cells, version):
    factors = [(1, 2, 2), (2, 2, 2), (2, 1, 2)]
    image = ome.write_labels(
        cells, tmp_path / "i.zarr", "cells", version=version, levels=factors, chunks=(4, 8, 16)
    )
    levels = [array[:] for array in image.arrays]
    assert (levels[0] == cells).all() and levels[0].dtype == cells.dtype
    for (fine, coarse), by in zip(pairwise(levels), factors, strict=True):
        assert is_most_frequent(fine, coarse, by)
    assert image.volume().voxel_counts() == dict(
        zip(*(a.tolist() for a in np.unique(cells, return_counts=True)), strict=True)
    )
    codec = {"0.4": lambda a: a.metadata.compressor, "0.5": lambda a: a.serializer}[version]
    right = {"0.4": Crackle(), "0.5": CrackleCodec()}[version]
    assert all(codec(array) == right for array in image.arrays)
    chunk = {"0.4": "labels/cells/0/2/1/0", "0.5": "labels/cells/0/c/2/1/0"}[version]
    assert (tmp_path / "i.zarr" / chunk).is_file()


@VERSIONS
def test_metadata(tmp_path, cells, version):
    image = ome.write_labels(
        cells,
        tmp_path / "i.zarr",
        "cells",
        version=version,
        scale=(40, 4, 4),
        translation={"z": 100, "x": -1.5},
        units="nanometer",
        levels=3,
        colors={3: (255, 0, 10), np.uint64(2**63): np.array([1, 2, 3, 4])},
        properties={3: {"class": "axon", "area": 2.5}},
        source="../../raw",
    )
    text = tmp_path / "i.zarr/labels/cells" / (".zattrs" if version == "0.4" else "zarr.json")
    found = json.loads(text.read_text())
    found = found if version == "0.4" else found["attributes"]["ome"]
    (one,) = found["multiscales"]
    assert found["image-label"] == {
        "version": version,
        "colors": [
            {"label-value": 3, "rgba": [255, 0, 10, 255]},
            {"label-value": 2**63, "rgba": [1, 2, 3, 4]},
        ],
        "properties": [{"label-value": 3, "class": "axon", "area": 2.5}],
        "source": {"image": "../../raw"},
    }
    assert (one if version == "0.4" else found)["version"] == version
    assert one["name"] == "cells" and one["type"] == "mode"
    assert one["axes"] == [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    scales = [[40, 4, 4], [40, 8, 8], [40, 16, 16]]
    shifts = [[100, 0, -1.5], [100, 2, 0.5], [100, 6, 4.5]]
    assert one["datasets"] == [
        {
            "path": str(i),
            "coordinateTransformations": [
                {"type": "scale", "scale": scales[i]},
                {"type": "translation", "translation": shifts[i]},
            ],
        }
        for i in range(3)
    ]
    for again in (image, ome.read_labels(tmp_path / "i.zarr")):
        assert again.version == version and again.axes == ("z", "y", "x")
        assert again.units == ("nanometer",) * 3 and again.source == "../../raw"
        assert again.scales == tuple(map(tuple, scales))
        assert again.translations == tuple(map(tuple, shifts))
        assert again.colors == {3: (255, 0, 10, 255), 2**63: (1, 2, 3, 4)}
        assert again.properties == {3: {"class": "axon", "area": 2.5}}
    if version == "0.5":
        assert image.arrays[2].metadata.dimension_names == ("z", "y", "x")


def test_a_translation_is_the_centre_of_the_first_block():
    # The mean of the centres of the voxels that a voxel was made of.
    first = ngff.Level("0", (3.0, 5.0), (7.0, -2.0))
    for n, level in enumerate(ome_plan.levels_of(first, [(2, 1), (2, 2), (1, 2)])):
        by = [(1, 1), (2, 1), (4, 2), (4, 4)][n]
        for axis in range(2):
            centres = 7.0 if axis == 0 else -2.0
            centres = centres + first.scale[axis] * np.arange(by[axis])
            assert level.translation[axis] == centres.mean()
            assert level.scale[axis] == first.scale[axis] * by[axis]


@pytest.mark.parametrize(
    "shape, scale, levels, expected",
    [
        ((100, 256, 256), (1, 1, 1), None, []),
        ((100, 257, 10), (1, 1, 1), None, ["zyx"]),
        ((100, 1000, 900), None, None, ["yx", "yx"]),  # nobody said how thick slices are
        ((100, 1000, 900), (40, 4, 4), None, ["yx", "yx"]),
        ((100, 4000, 900), (30, 4, 4), None, ["yx", "yx", "zyx", "zyx"]),
        ((2, 1000, 1), (1, 1, 1), 4, ["zy", "y", "y"]),
        ((100, 100, 100), None, 2, ["yx"]),
        ((5, 2, 9, 9), (1, 1, 1, 1), 2, ["yx"]),
    ],
)
def test_which_axes_are_halved(shape, scale, levels, expected):
    names = "tzyx"[-len(shape) :] if len(shape) < 4 else "tcyx"
    axes = [ngff.axis_of(name) for name in names]
    size = (1.0,) * len(shape) if scale is None else scale
    by = ome_plan.factors_of(axes, size, shape, levels, None, scale is not None)
    assert [{n for n, f in zip(names, row, strict=True) if f == 2} for row in by] == [
        set(row) for row in expected
    ]


def test_units_count_where_axes_are_compared():
    axes = [ngff.Axis("z", "space", "micrometer")]
    axes += [ngff.Axis(n, "space", "nanometer") for n in "yx"]
    by = ome_plan.factors_of(axes, (0.004, 4, 4), (64, 512, 512), None, None, True)
    assert by == [(2, 2, 2)]
    by = ome_plan.factors_of(axes, (0.04, 4, 4), (64, 512, 512), None, None, True)
    assert by == [(1, 2, 2)]


@VERSIONS
@pytest.mark.parametrize("kind", ["big-endian", "dask", "zarr", "volume", "bool", "int64"])
def test_sources(tmp_path, cells, version, kind):
    source, right = cells, cells
    if kind == "big-endian":
        source = cells.astype(">u4")
    elif kind == "dask":
        source = dask.array.from_array(cells, chunks=(2, 21, 5))
    elif kind in ("zarr", "volume"):
        codec = {"serializer": CrackleCodec(), "compressors": None} if kind == "volume" else {}
        source = zarr.create_array(
            tmp_path / "s.zarr", data=cells, chunks=(4, 10, 13), dimension_names="zyx", **codec
        )
        source = LabelVolume(source) if kind == "volume" else source
    elif kind == "bool":
        source = cells > 100
        right = source.astype("u1")
    else:
        right = source = -cells.astype("i8")
    options = {"shards": (8, 20, 26), "chunks": (4, 10, 13)} if version == "0.5" else {}
    image = ome.write_labels(
        source, tmp_path / "i.zarr", version=version, levels=[(1, 2, 2)], **options
    )
    fine, coarse = (array[:] for array in image.arrays)
    assert fine.dtype == right.dtype.newbyteorder("=") and (fine == right).all()
    assert is_most_frequent(right, coarse, (1, 2, 2))
    assert image.arrays[0].shards == options.get("shards")
    if kind == "volume" and version == "0.4":
        assert image.arrays[0].chunks == (4, 10, 13)


def test_other_axes(tmp_path, cells):
    movie = np.stack([cells, cells + 1])
    image = ome.write_labels(
        movie, tmp_path / "i.zarr", axes="tzyx", units={"t": "second"}, levels=2
    )
    assert image.arrays[1].shape == (2, 9, 11, 13) and image.units == ("second", *[None] * 3)
    assert [axis.type for axis in image.image.axes] == ["time", "space", "space", "space"]
    assert (image.arrays[0][1] == cells + 1).all() and image.arrays[0].chunks[0] == 1
    assert ome.write_labels(cells[0], tmp_path / "p.zarr").axes == ("y", "x")


# ---- several ----


@VERSIONS
def test_label_images_stay(tmp_path, cells, version):
    path = tmp_path / "i.zarr"
    first = ome.write_labels(cells, path, "cells", version=version)
    group = zarr.open_group(path, mode="r+")
    mine = (
        {"mine": 1}
        if version == "0.4"
        else {"mine": 1, "ome": {"x": 2, **dict(group["labels"].attrs["ome"])}}
    )
    group["labels"].attrs.update(mine)
    ome.write_labels(cells > 3, group, "deep/mask")
    assert ome.label_images(path) == ome.label_images(path / "labels") == ["cells", "deep/mask"]
    attributes = zarr.open_group(path)["labels"].attrs.asdict()
    assert attributes["mine"] == 1 and (version == "0.4" or attributes["ome"]["x"] == 2)
    assert (ome.read_labels(path, "cells").arrays[0][:] == cells).all()
    assert (ome.read_labels(group["labels"], "deep/mask").arrays[0][:] == (cells > 3)).all()
    assert ome.read_labels(path / "labels/deep/mask").name == "mask"
    with pytest.raises(ValueError, match="name one"):
        ome.read_labels(path)
    with pytest.raises(ValueError, match=r"no label image 'other'; it has \['cells'"):
        ome.read_labels(path, "other")
    with pytest.raises(FileExistsError, match="overwrite"):
        ome.write_labels(cells, path, "cells")
    for name in ("cells/0", "deep", "../x", "/x", "a//b", ""):
        with pytest.raises(ValueError, match=r"within the other|below the group"):
            ome.write_labels(cells, path, name, overwrite=True)
    with pytest.raises(ValueError, match="outside"):
        ome.write_labels(first.volume(), path, "cells", overwrite=True)
    assert (ome.read_labels(path, "cells").arrays[0][:] == cells).all()
    ome.write_labels(cells + 1, path, "cells", overwrite=True)
    assert ome.label_images(path) == ["cells", "deep/mask"]
    assert (ome.read_labels(path, "cells").arrays[0][:] == cells + 1).all()


class _Failing:
    """An array whose end can't be read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, region):
        if region[0].start:
            raise OSError("gone")
        return self.array[region]


def test_what_is_not_complete_is_not_listed(tmp_path, cells):
    path = tmp_path / "i.zarr"
    with pytest.raises(OSError, match="gone"):
        ome.write_labels(_Failing(cells), path, chunks=(4, 21, 26))
    assert ome.label_images(path) == []
    ome.write_labels(cells, path, overwrite=True)
    assert (ome.read_labels(path).arrays[0][:] == cells).all()


@VERSIONS
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_consolidated_metadata_stay_right(tmp_path, cells, version):
    path = tmp_path / "i.zarr"
    ome.write_labels(cells, path, "a", version=version)
    zarr.consolidate_metadata(path)
    ome.write_labels(cells + 1, zarr.open_group(path, mode="r+"), "b")
    found = zarr.open_group(path, mode="r", use_consolidated=True)
    assert ome.label_images(found) == ["a", "b"]
    assert (ome.read_labels(found, "b").arrays[0][:] == cells + 1).all()


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"version": "0.3"}, ValueError, "version"),
        ({"axes": "yx"}, ValueError, "2 axes, and the array has 3"),
        ({"axes": "zzx"}, ValueError, "different names"),
        ({"axes": "xyt"}, ValueError, "time, a channel"),
        ({"axes": "tcx"}, ValueError, "of space"),
        ({"scale": (1, 2)}, ValueError, "scale of each"),
        ({"scale": (1, 0, 1)}, ValueError, "scale of"),
        ({"scale": (1, math.nan, 1)}, ValueError, "scale of"),
        ({"scale": {"q": 1}}, ValueError, "'q'"),
        ({"units": (1, 2, 3)}, TypeError, "unit"),
        ({"levels": 0}, ValueError, "one level"),
        ({"levels": 40}, ValueError, "too many"),
        ({"levels": [(1, 1, 3)]}, ValueError, "factors"),
        ({"levels": [(1, 1, 1)]}, ValueError, "factors"),
        ({"chunks": (0, 1, 1)}, ValueError, "chunks"),
        ({"shards": (4, 21, 26), "chunks": (3, 21, 26)}, ValueError, "shards"),
        ({"shards": (4, 21, 26), "version": "0.4"}, ValueError, "no shards"),
        ({"colors": {1: (1, 2)}}, ValueError, "colour"),
        ({"colors": {1: (1, 2, 256)}}, ValueError, "colour"),
        ({"properties": {1: {"a": math.inf}}}, ValueError, "JSON"),
        ({"properties": {1: {"a": object()}}}, TypeError, "JSON"),
        ({"what": 1}, TypeError, "what"),
    ],
)
def test_refused(tmp_path, cells, options, error, message):
    with pytest.raises(error, match=message):
        ome.write_labels(cells, tmp_path / "i.zarr", **options)
    assert not list(tmp_path.glob("i.zarr/labels"))


def test_an_image_is_no_label_image(tmp_path, cells):
    image = ome.write_labels(cells, tmp_path / "i.zarr")
    alone = {k: v for k, v in image.group.attrs["ome"].items() if k != "image-label"}
    image.group.attrs["ome"] = alone
    with pytest.raises(ValueError, match="has no label images"):
        ome.read_labels(image.group)
    assert ome.read_labels(tmp_path / "i.zarr").colors == {}


def test_other_arrays_are_refused(tmp_path, cells):
    with pytest.raises(TypeError, match="float"):
        ome.write_labels(cells.astype("f4"), tmp_path / "i.zarr")
    with pytest.raises(ValueError, match="no voxels"):
        ome.write_labels(cells[:0], tmp_path / "i.zarr")
    with pytest.raises(ValueError, match="name the axes"):
        ome.write_labels(cells[None], tmp_path / "i.zarr")
    zarr.create_group(tmp_path / "two.zarr", zarr_format=2)
    with pytest.raises(ValueError, match="Zarr 2, in which"):
        ome.write_labels(cells, tmp_path / "two.zarr", version="0.5")
    assert ome.write_labels(cells, tmp_path / "two.zarr").version == "0.4"


# ---- what strangers write ----


def _attributes(version):
    axes = tuple(map(ngff.axis_of, "zyx"))
    levels = ome_plan.levels_of(ngff.Level("0", (4.0, 1.0, 1.0), (1.0, 2.0, 3.0)), [(1, 2, 2)])
    image = ngff.Multiscale(version, "cells", axes, levels)
    labels = ngff.ImageLabel({1: (1, 2, 3, 4)}, {2: {"class": "x"}}, "../../")
    found = ngff.label_attributes(image, labels, ("mode", {}))
    return json.loads(json.dumps(found)), image, labels


def _read(attributes):
    return ngff.multiscales(attributes), ngff.image_label(attributes)


@VERSIONS
def test_metadata_come_back(version):
    attributes, image, labels = _attributes(version)
    assert _read(attributes) == ([image], labels)


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("axes",), None, "no 'axes'"),
        (("axes",), [], "2 to 5"),
        (("axes",), [{"name": "x"}] * 3, "second axis 'x'"),
        (("axes", 1), "y", r"axes\[1\]: an object"),
        (("axes", 1, "name"), 5, r"axes\[1\].name: a string"),
        (("datasets",), [], "at least 1|1 to 64"),
        (("datasets",), [{}] * 100, "1 to 64"),
        (("datasets", 0, "path"), "../secret", r"datasets\[0\].path: a path below"),
        (("datasets", 0, "path"), "/etc", "a path below"),
        (("datasets", 0, "path"), "a\\..\\b", "a path below"),
        (("datasets", 1, "coordinateTransformations"), [], "no scale"),
        (("datasets", 1, "coordinateTransformations", 0, "type"), "affine", "a scale or"),
        (("datasets", 1, "coordinateTransformations", 0, "scale"), [1, 2], "3 to 3"),
        (("datasets", 1, "coordinateTransformations", 0, "scale", 2), 0, "more than 0"),
        (("datasets", 1, "coordinateTransformations", 0, "scale", 2), math.nan, "finite"),
        (("datasets", 1, "coordinateTransformations", 0, "scale", 2), 10**400, "finite"),
        (("datasets", 1, "coordinateTransformations", 0, "scale", 2), True, "a number"),
        (("datasets", 1, "coordinateTransformations", 0, "path"), "x", "an array"),
        (("coordinateTransformations",), {"type": "scale"}, "a list"),
    ],
)
def test_bad_metadata_name_their_place(place, value, message):
    attributes, _, _ = _attributes("0.5")
    node = attributes["ome"]["multiscales"][0]
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    with pytest.raises(FormatError, match=message) as caught:
        ngff.multiscales(attributes, "here")
    assert "here.ome.multiscales[0]" in str(caught.value)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("colors", [{"rgba": [1, 2, 3, 4]}], "no 'label-value'"),
        ("colors", [{"label-value": 1.5}], "an integer"),
        ("colors", [{"label-value": 1, "rgba": [1, 2, 3]}], "4 to 4"),
        ("colors", [{"label-value": 1, "rgba": [1, 2, 3, 256]}], "0 to 255"),
        ("properties", [7], "an object"),
        ("source", "x", "an object"),
    ],
)
def test_bad_label_metadata(key, value, message):
    attributes, _, _ = _attributes("0.4")
    attributes["image-label"][key] = value
    with pytest.raises(FormatError, match=message):
        ngff.image_label(attributes)


def test_versions_that_are_not_read():
    attributes, _, _ = _attributes("0.5")
    attributes["ome"]["version"] = "0.6"
    with pytest.raises(UnsupportedError, match=r"0\.6"):
        ngff.multiscales(attributes)
    attributes, _, _ = _attributes("0.4")
    attributes["multiscales"][0]["version"] = "0.3"
    with pytest.raises(UnsupportedError, match=r"0\.3"):
        ngff.multiscales(attributes)
    with pytest.raises(FormatError, match=r"labels\[1\]"):
        ngff.label_names({"labels": ["a", "../../b"]})


def test_transformations_of_all_levels_come_last():
    attributes, _, _ = _attributes("0.4")
    attributes["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [10, 100, 1000]},
        {"type": "translation", "translation": [0.5, 0, 0]},
    ]
    (image,) = ngff.multiscales(attributes)
    assert image.levels[1].scale == (40, 200, 2000)
    assert image.levels[1].translation == (10.5, 250, 3500)


def _places(node, path=()):
    yield path
    if isinstance(node, (dict, list)):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from _places(node[key], (*path, key))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=150)
@given(st.sampled_from(["0.4", "0.5"]), st.data())
def test_any_metadata_are_read_or_refused(version, data):
    attributes, _, _ = _attributes(version)
    *way, last = data.draw(st.sampled_from([p for p in _places(attributes) if p]))
    node = attributes
    for key in way:
        node = node[key]
    node[last] = data.draw(_JSON)
    before = copy.deepcopy(attributes)
    try:
        images, _ = _read(attributes)
    except FormatError:
        images = []
    for image in images:
        assert all(len(level.scale) == len(image.axes) for level in image.levels)
        assert all(map(math.isfinite, level.translation) for level in image.levels)
    assert repr(before) == repr(attributes)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda g: g.create_array("1", shape=(9, 21), dtype="u4", overwrite=True), "2 axes"),
        (lambda g: g.create_array("1", shape=(9, 9, 9), dtype="f4", overwrite=True), "integers"),
        (lambda g: g.create_array("1", shape=(9, 99, 9), dtype="u4", overwrite=True), "after a"),
        (lambda g: g.create_array("1", shape=(9, 9, 9), dtype="u4", overwrite=True,
                                  dimension_names="xyz"), "axes"),
        (lambda g: g.create_group("1", overwrite=True), "no array '1'"),
        (lambda g: g.attrs.clear(), "multiscales"),
    ],
)  # fmt: skip
def test_arrays_that_are_others(tmp_path, cells, change, message):
    image = ome.write_labels(cells, tmp_path / "i.zarr", levels=2)
    change(image.group)
    with pytest.raises(FormatError, match=message) as caught:
        ome.read_labels(tmp_path / "i.zarr")
    assert "labels/labels" in str(caught.value)


def test_units():
    assert ngff.nanometres("micrometer") == pytest.approx(1e3)
    assert ngff.nanometres("angstrom") == 0.1 and ngff.nanometres("nm") == 1
    assert ngff.nanometres("second") is None and ngff.nanometres(None) is None


# ---- others ----


def _format(version):
    formats = pytest.importorskip("ome_zarr.format")
    return formats.format_from_version(version)


@VERSIONS
def test_ome_zarr_py_writes_with_the_codec(tmp_path, cells, version):
    writer = pytest.importorskip("ome_zarr.writer")
    form = _format(version)
    how = {"serializer": CrackleCodec(), "compressors": None}
    how = {"compressor": Crackle()} if version == "0.4" else how
    how["chunks"] = (4, 16, 16)
    group = zarr.open_group(tmp_path / "i.zarr", mode="w", zarr_format=form.zarr_format)
    scale = {"z": 4.0, "y": 1.0, "x": 1.0}
    writer.write_labels(
        cells, group, "cells", axes="zyx", fmt=form, storage_options=how, scale=scale,
        scaler=None, scale_factors=[2],
    )  # fmt: skip
    pyramid = [cells, cells[:, ::2, ::2]]
    colors = [{"label-value": 3, "rgba": [9, 8, 7, 6]}]
    writer.write_multiscale_labels(
        pyramid, group, "two", axes="zyx", fmt=form, storage_options=how,
        label_metadata={"colors": colors},
    )  # fmt: skip
    assert ome.label_images(tmp_path / "i.zarr") == ["cells", "two"]
    image = ome.read_labels(tmp_path / "i.zarr", "cells")
    assert (image.volume().read() == cells).all() and image.scales[0] == (4, 1, 1)
    assert len(image.arrays) == 2 and image.volume(1).num_labels() > 1  # both are ours
    two = ome.read_labels(tmp_path / "i.zarr", "two")
    assert (two.volume(1).read() == pyramid[1]).all() and two.colors == {3: (9, 8, 7, 6)}
    # Where there are no odd lengths, they say what we would.
    assert two.translations[1][2] == (two.scales[1][2] - 1) / 2
    assert two.scales[1][2] == 2.0
    ome.write_labels(cells, tmp_path / "i.zarr", "ours")
    assert ome.label_images(tmp_path / "i.zarr") == ["cells", "two", "ours"]


@VERSIONS
def test_an_image_says_what_is_left_out(tmp_path, cells, version):
    writer = pytest.importorskip("ome_zarr.writer")
    form = _format(version)
    group = zarr.open_group(tmp_path / "i.zarr", mode="w", zarr_format=form.zarr_format)
    writer.write_multiscale(
        [dask.array.zeros(s, dtype="f4") for s in [(9, 21, 26), (9, 10, 13), (4, 5, 6)]],
        group, axes="zyx", fmt=form, scale={"z": 4.0, "y": 1.0, "x": 1.0},
        axes_units=dict.fromkeys("zyx", "micrometer"),
    )  # fmt: skip
    image = ome.write_labels(cells, tmp_path / "i.zarr", "cells")
    assert [a.shape for a in image.arrays] == [(9, 21, 26), (9, 11, 13), (5, 6, 7)]
    assert image.scales == ((4, 1, 1), (4, 2, 2), (8, 4, 4))
    assert image.units == ("micrometer",) * 3 and image.source == "../../"
    assert ome.write_labels(cells, tmp_path / "i.zarr", "a/b").source == "../../../"
    part = ome.write_labels(cells[:5], tmp_path / "i.zarr", "part", scale={"z": 9})
    assert len(part.arrays) == 1 and part.scales == ((9, 1, 1),)
    with pytest.raises(ValueError, match="name one"):
        ome.read_labels(tmp_path / "i.zarr")
    group["s2"].resize((3, 3, 3))
    with pytest.raises(ValueError, match="give levels"):
        ome.write_labels(cells, tmp_path / "i.zarr", "other")


_CHILD = """
import json, sys
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
assert "numcodecs_crackle" not in sys.modules
for path in sys.argv[1:]:
    found = {}
    for node in Reader(parse_url(path))():
        if node.data:
            levels = [data.compute().tolist() for data in node.data]
            found[node.metadata["name"]] = levels, node.metadata
    print(json.dumps(found))
"""


def test_ome_zarr_py_reads_without_importing_us(tmp_path, cells):
    pytest.importorskip("ome_zarr")
    images = [
        ome.write_labels(
            cells[:, 5:, 3:], tmp_path / version, "cells", version=version, levels=2,
            colors={3: (255, 0, 0)}, properties={3: {"class": "axon"}},
        )
        for version in ("0.4", "0.5")
    ]  # fmt: skip
    paths = [str(tmp_path / image.version / "labels") for image in images]
    command = [sys.executable, "-c", _CHILD, *paths]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr
    for image, line in zip(images, child.stdout.splitlines(), strict=True):
        ((name, (levels, told)),) = json.loads(line).items()
        assert name == "cells" and levels == [array[:].tolist() for array in image.arrays]
        assert told["color"] == {"3": [1, 0, 0, 1]}
        assert told["properties"] == {"3": {"class": "axon"}}
        transformations = told["coordinateTransformations"]
        assert [t[0]["scale"] for t in transformations] == [list(s) for s in image.scales]
        assert transformations[1][1]["translation"] == list(image.translations[1])


@VERSIONS
@pytest.mark.filterwarnings("ignore")
def test_naparis_reader(tmp_path, cells, version):
    reader = pytest.importorskip("napari_ome_zarr", exc_type=ImportError)
    writer = pytest.importorskip("ome_zarr.writer")
    form = _format(version)
    path = str(tmp_path / "i.zarr")
    group = zarr.open_group(path, mode="w", zarr_format=form.zarr_format)
    pyramid = [dask.array.zeros(s, dtype="f4") for s in [(9, 21, 26), (9, 10, 13)]]
    writer.write_multiscale(pyramid, group, axes="zyx", fmt=form)
    ours = ome.write_labels(
        cells, path, "cells", scale=(4, 1, 1), units="micrometer",
        colors={3: (255, 0, 0)}, properties={3: {"class": "axon"}},
    )  # fmt: skip
    layers = reader.napari_get_reader(path)(path)
    assert [kind for _, _, kind in layers] == ["image", "labels"]
    data, told, _ = layers[1]
    for level, array in zip(data, ours.arrays, strict=True):
        assert (np.asarray(level) == array[:]).all()
    assert told["name"].endswith("cells") and list(told["scale"])[-3:] == [4, 1, 1]
    assert list(told["colormap"][3]) == [1, 0, 0, 1]
