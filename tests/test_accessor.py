"""xarray's arrays and the Zarr arrays behind them: which part of which, or an error."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from conftest import volume
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import http_server
from zarr.storage import MemoryStore

import numcodecs_crackle as ck

xr = pytest.importorskip("xarray")
dask = pytest.importorskip("dask")
dask_array = pytest.importorskip("dask.array")

from numcodecs_crackle.accessor import CrackleAccessor, source_of  # noqa: E402

SHAPE, CHUNK = (24, 18, 14), (8, 9, 14)
LABELS = volume("bricks", np.random.default_rng(1), SHAPE).astype("u2")

OPEN = {
    "dask": lambda store, **how: xr.open_zarr(store, **UNLISTED | how),
    "lazy": lambda store, **how: xr.open_zarr(store, chunks=None, **UNLISTED | how),
    "engine": lambda store, **how: xr.open_dataset(store, engine="zarr", **UNLISTED | how),
}
UNLISTED = {"consolidated": False}


def write(store, zarr_format=3, consolidated=False):
    """A dataset with the labels as ``seg``."""
    dataset = xr.Dataset(
        {"seg": (("z", "y", "x"), LABELS)},
        coords={
            "z": np.arange(SHAPE[0]) * 40.0,
            "x": np.arange(SHAPE[2]) + 7,
            "tilt": (("z", "y"), np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE[:2])),
        },
    )
    codec = (
        {"serializer": ck.CrackleCodec(), "compressors": None}
        if zarr_format == 3
        else {"compressors": ck.Crackle()}
    )
    dataset.to_zarr(
        store, zarr_format=zarr_format, consolidated=consolidated,
        encoding={"seg": {"chunks": CHUNK, **codec}},
    )  # fmt: skip


@pytest.fixture(scope="module", params=[2, 3])
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "volume.zarr"
    write(path, request.param)
    return path


@pytest.fixture(params=OPEN)
def seg(request, path):
    return OPEN[request.param](path)["seg"]


@pytest.fixture
def lazy(path):
    return OPEN["lazy"](path)["seg"]


@pytest.fixture
def with_dask(path):
    return OPEN["dask"](path)["seg"]


def full(shape=SHAPE):
    return tuple(slice(0, n) for n in shape)


def test_the_array_behind(seg, path):
    array, region = source_of(seg)
    assert isinstance(array, zarr.Array)
    assert array.shape == SHAPE
    assert array.path == "seg"
    assert array.metadata == zarr.open_array(path / "seg", mode="r").metadata
    assert region == full()
    np.testing.assert_array_equal(array[region], LABELS)
    # of the same data
    for same in (seg.rename("labels"), seg.rename(z="depth"), seg.copy(), seg.drop_vars("tilt")):
        assert source_of(same)[1] == full()
        assert source_of(same)[0] is array


@pytest.mark.parametrize("how", OPEN)
def test_stores(how):
    store = MemoryStore()
    write(store)
    array, region = source_of(OPEN[how](store)["seg"])
    np.testing.assert_array_equal(array[region], LABELS)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")  # which Zarr 3 has not, officially
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("how", OPEN)
def test_over_http(how, zarr_format, tmp_path):
    # As folders are not listed over HTTP.
    write(tmp_path / "volume.zarr", zarr_format, consolidated=True)
    with http_server(tmp_path) as server:
        seg = OPEN[how](f"{server.url}/volume.zarr", consolidated=True)["seg"]
        server.clear()
        array, region = source_of(seg if how == "dask" else seg[3:5])
        assert server.requests == []
        assert region == (slice(0, 24) if how == "dask" else slice(3, 5), *full()[1:])
        np.testing.assert_array_equal(array[region], LABELS[region])


def test_boxes(lazy):
    """Contiguous selections, one after the other, by position and by coordinate."""
    box = lazy.isel(z=slice(4, 20), y=slice(None, -3))
    assert source_of(box)[1] == (slice(4, 20), slice(0, 15), slice(0, 14))
    box = box.isel(z=slice(2, 5)).sel(x=slice(9, 12))
    assert source_of(box)[1] == (slice(6, 9), slice(0, 15), slice(2, 6))
    assert source_of(lazy.sel(z=slice(80, 200)))[1][0] == slice(2, 6)
    assert source_of(lazy[3:, ..., 2:3])[1] == (slice(3, 24), slice(0, 18), slice(2, 3))
    for nothing in (lazy[5:5], lazy[9:3], lazy[9:3][1:2]):
        z, y, _ = source_of(nothing)[1]
        assert (z.stop - z.start, y) == (0, slice(0, 18))
    assert source_of(lazy.isel(z=slice(3, 5, 7)))[1][0] == slice(3, 4)
    # an index drops its axis
    assert source_of(lazy.isel(y=-1))[1] == (slice(0, 24), slice(17, 18), slice(0, 14))
    one = lazy.isel(z=slice(4, 20)).isel(z=3, x=0).isel(y=slice(2, 9))
    assert source_of(one)[1] == (slice(7, 8), slice(2, 9), slice(0, 1))
    assert source_of(lazy.sel(z=80.0))[1][0] == slice(2, 3)
    assert source_of(lazy[1, 2, 3])[1] == (slice(1, 2), slice(2, 3), slice(3, 4))


def test_boxes_that_dask_is_given(lazy):
    """What is selected before dask is."""
    box = lazy.isel(z=slice(4, 20), y=3).chunk(z=5)
    assert source_of(box)[1] == (slice(4, 20), slice(3, 4), slice(0, 14))


def test_arrays_of_dask(path):
    array = dask_array.from_zarr(path / "seg")
    found, region = source_of(xr.DataArray(array))
    assert found.shape == SHAPE
    assert region == full()


@pytest.mark.parametrize(
    "select",
    [
        lambda a: a[::2],
        lambda a: a[::-1],
        lambda a: a[:, 8:3:-1],
        lambda a: a[[1, 2, 3]],
        lambda a: a.isel(y=np.arange(18) % 3 == 0),
        lambda a: a[3:].isel(z=slice(None, None, 3)),
    ],
)
def test_what_is_no_box(lazy, select):
    with pytest.raises(ValueError, match=r"take \.crackle of the array before selecting"):
        source_of(select(lazy))


@pytest.mark.parametrize(
    "select",
    [
        lambda a: a[2:5],
        lambda a: a[3],
        lambda a: a[::2],
        lambda a: a.sel(z=[40, 80]),
        lambda a: a.expand_dims("t"),
    ],
)
def test_selected_from_dask(with_dask, select):
    with pytest.raises(ValueError, match=r"before selecting, or pass region="):
        source_of(select(with_dask))


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.transpose("x", "y", "z"),
        lambda a: a[3:].transpose("z", "x", "y"),
        lambda a: a.isel(z=xr.DataArray([1, 2], dims="p"), y=xr.DataArray([1, 2], dims="p")),
        lambda a: a + 1,
        lambda a: a > 3,
        lambda a: a.astype("u8"),
        lambda a: a.load(),
        lambda a: a.compute(),
        lambda a: a.where(a > 3, 0),
        lambda a: xr.concat([a, a], "z"),
        lambda a: a.roll(z=3),
        lambda a: a.stack(p=("y", "x")),
        lambda a: a.max("z"),
        lambda a: a.fillna(0),
        lambda a: a.coarsen(z=2).max(),
    ],
)
def test_what_is_no_longer_the_array(path, change):
    for how in OPEN:
        changed = change(OPEN[how](path)["seg"])
        with pytest.raises(TypeError, match=r"take \.crackle of the array before"):
            source_of(changed)


def test_what_is_no_longer_the_array_in_dask(with_dask):
    (optimised,) = dask.optimize(with_dask.data)
    for changed in (
        with_dask.persist(),
        with_dask.chunk(z=6),
        with_dask.copy(data=with_dask.data.map_blocks(np.negative)),
        with_dask.copy(data=with_dask.data.map_overlap(lambda a: a, depth=1)),
        with_dask.copy(data=dask_array.zeros(SHAPE)),
        with_dask.copy(data=optimised),
    ):
        with pytest.raises(TypeError, match="made by dask"):
            source_of(changed)


def test_changed_in_place(lazy):
    assert source_of(lazy)[1] == full()
    lazy[0, 0, 0] = 999
    with pytest.raises(TypeError, match="in memory"):
        source_of(lazy)


def test_what_was_never_stored():
    for values in (LABELS, dask_array.from_array(LABELS, chunks=9)):
        with pytest.raises(TypeError):
            source_of(xr.DataArray(values))


@pytest.mark.parametrize("how", OPEN)
def test_decoded_on_opening(how, tmp_path):
    group = zarr.open_group(tmp_path, mode="w", zarr_format=2)
    options = {"attributes": {"_ARRAY_DIMENSIONS": ["z", "y", "x"]}, "compressors": None}
    group.create_array("filled", data=LABELS, fill_value=0, **options)
    group.create_array("big", data=LABELS.astype(">i4"), fill_value=None, **options)
    group.create_array("scaled", data=LABELS, fill_value=None, **options)
    group["scaled"].attrs["scale_factor"] = 0.5
    group.create_array("flags", data=LABELS.astype("i1"), fill_value=None, **options)
    group["flags"].attrs["dtype"] = "bool"
    dataset = OPEN[how](tmp_path)
    for name in ("filled", "scaled", "flags"):
        with pytest.raises(TypeError, match=r"mask_and_scale=False|made by dask"):
            source_of(dataset[name])
    np.testing.assert_array_equal(source_of(dataset["big"])[0][...], LABELS)
    if how != "dask":
        # the key lies below what changes the byte order
        part = dataset["big"][3:, 2:9, 4]
        assert source_of(part)[1] == (slice(3, 24), slice(2, 9), slice(4, 5))
    dataset = OPEN[how](tmp_path, mask_and_scale=False)
    for name in ("filled", "scaled"):
        assert source_of(dataset[name])[1] == full()


boxes = st.builds(slice, st.integers(0, 3) | st.none(), st.integers(5, 14) | st.integers(-3, -1))
entries = st.one_of(boxes, boxes, boxes, st.integers(-3, 3), st.slices(14))
steps = st.one_of(
    *[st.tuples(st.just("isel"), st.sampled_from("zyx"), entries)] * 8,
    st.tuples(st.just("isel"), st.sampled_from("zyx"), st.lists(st.integers(0, 3), max_size=4)),
    st.tuples(st.just("transpose"), st.permutations("zyx"), st.none()),
)
STORE = MemoryStore()
write(STORE)


@settings(max_examples=300)
@given(st.sampled_from([*OPEN, "lazy", "lazy"]), st.lists(steps, max_size=3))
def test_never_another_part(how, steps):
    """Whatever is done to an array: its part of the Zarr array is what it has, or an error."""
    seg, values = OPEN[how](STORE)["seg"], xr.DataArray(LABELS, dims=("z", "y", "x"))
    for kind, what, entry in steps:
        try:
            if kind == "transpose":
                dims = [dim for dim in what if dim in seg.dims]
                seg, values = seg.transpose(*dims), values.transpose(*dims)
            elif what in seg.dims:
                seg, values = seg.isel({what: entry}), values.isel({what: entry})
        except IndexError:
            continue
    try:
        array, region = source_of(seg)
    except (TypeError, ValueError):
        assert steps
        return
    np.testing.assert_array_equal(array[region].reshape(seg.shape), values.values)


# ---- the accessor ----


def test_it_is_registered(seg):
    assert isinstance(seg.crackle, CrackleAccessor)
    assert isinstance(xr.DataArray(LABELS).crackle, CrackleAccessor)


@pytest.fixture
def volumes():
    from numcodecs_crackle import volume

    return volume


def check_labels(part, values, region=None):
    """What the accessor says of an array whose values are given."""
    there, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(part.crackle.labels(region=region), there)
    found = part.crackle.voxel_counts(region=region)
    assert found == dict(zip(there.tolist(), counts.tolist(), strict=True))
    for label in np.unique(LABELS)[::9].tolist():
        count = np.count_nonzero(values == label)
        assert part.crackle.contains(label, region=region) == (count > 0)
        if count:
            assert part.crackle.voxel_counts(label, region=region) == count
    assert part.crackle.contains(60_000, region=region) is False


def check_masks(part, values, region=None, at=None):
    """``at``: where in the array the region starts."""
    at = [0] * values.ndim if at is None else at
    for label in np.unique(values)[::9].tolist():
        mask = part.crackle.mask(label, region=region)
        where = np.nonzero(values == label)
        box = tuple(slice(int(w.min()), int(w.max()) + 1) for w in where)
        assert mask.dtype == bool
        assert mask.dims == part.dims
        np.testing.assert_array_equal(mask.values, (values == label)[box])
        there = {
            dim: slice(s.start + a, s.stop + a)
            for dim, s, a in zip(part.dims, box, at, strict=True)
        }
        assert mask.coords.to_dataset().identical(part.isel(there).coords.to_dataset())
    with pytest.raises(ValueError, match="60000"):
        part.crackle.mask(60_000, region=region)


def test_labels(seg, volumes):
    assert isinstance(seg.crackle.volume, volumes.LabelVolume)
    assert seg.crackle.volume is seg.crackle.volume
    check_labels(seg, LABELS)
    check_masks(seg, LABELS)


def test_labels_of_a_region(seg, volumes):
    region = {"z": slice(5, 17), "x": slice(-9, None)}
    check_labels(seg, LABELS[5:17, :, 5:], region)
    check_masks(seg, LABELS[5:17, :, 5:], region, (5, 0, 5))


def test_labels_of_a_selection(lazy, volumes):
    check_labels(lazy[5:17, :, 3:], LABELS[5:17, :, 3:])
    check_masks(lazy[5:17, :, 3:], LABELS[5:17, :, 3:])
    check_labels(lazy[:, 4], LABELS[:, 4])
    check_masks(lazy[:, 4], LABELS[:, 4])
    region = {"z": slice(2, 5)}
    check_labels(lazy[5:17, :, 3:], LABELS[7:10, :, 3:], region)
    check_masks(lazy[5:17, :, 3:], LABELS[7:10, :, 3:], region, (2, 0, 0))


def test_other_data(path, volumes):
    """Of the same DataArray."""
    one, other = OPEN["lazy"](path)["seg"], OPEN["lazy"](path)["seg"]
    assert one.crackle.volume.array is source_of(one)[0]
    one.variable._data = other.variable._data
    assert one.crackle.volume.array is source_of(other)[0]


def test_nothing_is_loaded(lazy, volumes):
    lazy.crackle.labels()
    lazy.crackle.mask(int(LABELS[3, 3, 3]))
    assert source_of(lazy)[1] == full()


def test_what_regions_are(seg, volumes):
    with pytest.raises(ValueError, match="no dimension \\['q'\\]"):
        seg.crackle.labels(region={"q": slice(3)})
    with pytest.raises(TypeError, match="made of slices"):
        seg.crackle.labels(region={"z": 3})
    with pytest.raises(ValueError, match="steps"):
        seg.crackle.labels(region={"z": slice(None, None, 2)})


def test_no_accessor_without_a_source(with_dask, volumes):
    with pytest.raises(TypeError, match="in memory"):
        xr.DataArray(LABELS).crackle.labels()
    with pytest.raises(ValueError, match="pass region="):
        with_dask[3:5].crackle.contains(1)
