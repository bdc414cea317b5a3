"""CrackleArray: numpy's indexing, operators, and what it passes on."""

from __future__ import annotations

import copy
import pickle

import crackle
import numpy as np
import pytest
from conftest import CODINGS, coded, labels_of_any_kind, volume
from hypothesis import given, settings
from hypothesis import strategies as st

import numcodecs_crackle as ck
from numcodecs_crackle import _native, stream

OPERATORS = ("+", "-", "*", "//", "%", "&", "|", "^", "==", "!=", "<", "<=", ">", ">=")


@st.composite
def indices(draw, shape):
    """Integers, slices with any step, Ellipsis; as many as there are axes, or fewer."""

    def bound(n):
        return draw(st.none() | st.integers(-n - 2, n + 2))

    entries = []
    for n in shape:
        if draw(st.booleans()):
            entries.append(draw(st.integers(-n, n - 1)))
        else:
            step = draw(st.sampled_from([None, 1, 2, 3, -1, -2]))
            entries.append(slice(bound(n), bound(n), step))
    count = draw(st.integers(0, 3))
    form = draw(st.sampled_from(["front", "back", "both", "one"]))
    if form == "one":
        return entries[0]
    if form == "back":
        return (Ellipsis, *entries[3 - count :])
    if form == "both" and count:
        return (entries[0], Ellipsis, entries[2])
    return tuple(entries[:count])


@settings(max_examples=150, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.data())
def test_indexing(a, coding, data):
    s = coded(a, coding)
    array = ck.CrackleArray(s)
    index = data.draw(indices(a.shape))
    found, wanted = array[index], a[index]
    assert np.shape(found) == np.shape(wanted)
    assert found.dtype == a.dtype
    np.testing.assert_array_equal(found, wanted)

    value = data.draw(st.sampled_from(["number", "array", "row"]))
    values = {
        "number": 7,
        "array": np.arange(wanted.size, dtype=np.uint8).reshape(wanted.shape),
        "row": np.arange(wanted.shape[-1] if wanted.ndim else 1) % 9,
    }[value]
    changed = a.copy()
    if value == "row" and not wanted.ndim:
        values = 3
    changed[index] = values
    array[index] = values
    np.testing.assert_array_equal(array.numpy(), changed)
    assert array.dtype == a.dtype
    assert ck.ok(array.binary)
    assert array.header().fortran_order == ck.header(s).fortran_order


@pytest.mark.parametrize(
    "index",
    [5, -6, (0, 4), (0, 0, 3), (0, 0, -4), (0, 0, 0, 0), (..., ...), 1.5, "a", (0, 1.5)],
)
def test_index_errors(index):
    a = np.zeros((5, 4, 3), np.uint8)
    array = ck.compressa(a)
    with pytest.raises(IndexError):
        a[index]
    with pytest.raises(IndexError):
        array[index]
    with pytest.raises(IndexError):
        array[index] = 1


def test_other_indices():
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (9, 8, 7)).astype("u2"))
    array = ck.compressa(a)
    points = ([0, -1, 3], [2, 2, -8], [6, 0, -1])
    np.testing.assert_array_equal(array[points], a[points])
    grid = np.ix_([0, 3], [1, 2], [5, 6])
    np.testing.assert_array_equal(array[grid], a[grid])
    where = a > 10
    np.testing.assert_array_equal(array[where], a[where])
    np.testing.assert_array_equal(array[:, :, [0, 3]], a[:, :, [0, 3]])
    np.testing.assert_array_equal(array[None], a[None])
    with pytest.raises(IndexError, match="out of bounds for axis 2"):
        array[[0], [0], [7]]
    array[where] = 1
    array[:, :, [0, 3]] = 5
    a[where] = 1
    a[:, :, [0, 3]] = 5
    np.testing.assert_array_equal(array.numpy(), a)
    four = array[..., np.newaxis]
    assert four.shape == (9, 8, 7, 1)
    assert array.shape == (9, 8, 7)
    np.testing.assert_array_equal(four[2:4, :, 3, 0], a[2:4, :, 3])
    np.testing.assert_array_equal(np.asarray(four), a[..., None])


def test_only_the_needed_slices_are_decoded(monkeypatch):
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (9, 8, 30)).astype("u2"))
    array = ck.compressa(a)
    seen = []
    decode = stream.decompress_range

    def watched(binary, z0, z1, *args, **kwargs):
        seen.extend(range(z0, z1))
        return decode(binary, z0, z1, *args, **kwargs)

    monkeypatch.setattr(stream, "decompress_range", watched)
    for index, slices in [
        ((1, 2, 3), [3]), ((slice(None), 2, slice(4, 8)), [4, 5, 6, 7]),
        ((..., slice(2, 20, 6)), [2, 8, 14]), ((..., slice(9, 2, -3)), [9, 6, 3]),
        ((..., -1), [29]),
    ]:  # fmt: skip
        seen.clear()
        np.testing.assert_array_equal(array[index], a[index])
        assert seen == slices
    seen.clear()
    array[:, :, 5:7] = 3  # whole slices: nothing is
    assert seen == []
    array[2, :, 5:7] = 4
    assert seen == [5, 6]


def test_assignment_leaves_other_slices_alone():
    a = np.asfortranarray(volume("blobs", np.random.default_rng(0), (40, 30, 12)).astype("u4"))
    array = ck.CrackleArray(ck.compress(a))
    before, _, after = ck.zsplit(array.binary, 7)
    array[:, :, 7] = 12345
    assert ck.zsplit(array.binary, 7)[::2] == (before, after)
    a[:, :, 7] = 12345
    assert array.binary == ck.compress(a)
    modelled = ck.CrackleArray(ck.compress(a, 3))
    modelled[:, :, 7] = 3
    assert modelled.header().markov_model_order == 3
    np.testing.assert_array_equal(array.numpy(), a)
    with pytest.raises(ValueError, match="broadcast"):
        array[:, :, 3] = np.zeros((3, 3))
    with pytest.raises(OverflowError):
        array[0, 0, 0] = -1


@settings(max_examples=60, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.data())
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_operators(a, coding, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    b = rng.integers(0, 5, a.shape).astype(data.draw(st.sampled_from(["u1", "u4"])))
    left, right = ck.CrackleArray(coded(a, coding)), ck.compressa(b)
    for symbol in OPERATORS:
        code = compile(f"p {symbol} q", symbol, "eval")
        wanted = eval(code, {"p": a, "q": b})
        found = eval(code, {"p": left, "q": right})
        np.testing.assert_array_equal(found.numpy(), wanted)
        if symbol[0] not in "=!<>":
            assert found.dtype == wanted.dtype
        number = a.dtype.type(3)
        np.testing.assert_array_equal(
            eval(code, {"p": left, "q": 3}).numpy(), eval(code, {"p": a, "q": number})
        )
        np.testing.assert_array_equal(
            eval(code, {"p": 3, "q": left}).numpy(), eval(code, {"p": number, "q": a})
        )
    for symbol in ("<<", ">>"):
        code = compile(f"p {symbol} q", symbol, "eval")
        small = ck.compressa((b % 3).astype(a.dtype))
        np.testing.assert_array_equal(
            eval(code, {"p": left, "q": small}).numpy(),
            eval(code, {"p": a, "q": (b % 3).astype(a.dtype)}),
        )
        np.testing.assert_array_equal(
            eval(code, {"p": left, "q": 2}).numpy(), eval(code, {"p": a, "q": a.dtype.type(2)})
        )
    np.testing.assert_array_equal((-left).numpy(), -a)
    np.testing.assert_array_equal((~left).numpy(), ~a)
    assert +left is left
    masked = left.apply_binary_mask(right)
    np.testing.assert_array_equal(masked.numpy(), np.where(b != 0, a, 0))
    assert masked.dtype == a.dtype


def test_as_crackle_codec():
    rng = np.random.default_rng(4)
    a = np.asfortranarray(rng.integers(1, 9, (7, 6, 5)).astype(np.uint32))
    b = np.asfortranarray(rng.integers(1, 9, (7, 6, 5)).astype(np.uint32))
    ours, theirs = ([m.CrackleArray(m.compress(v)) for v in (a, b)] for m in (ck, crackle))
    for symbol in OPERATORS:
        code = compile(f"p {symbol} q", symbol, "eval")
        for q in (1, None):
            x = eval(code, {"p": ours[0], "q": q or ours[1]})
            y = eval(code, {"p": theirs[0], "q": q or theirs[1]})
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x.numpy(), y.numpy())
    for sparse in (False, True):
        np.testing.assert_array_equal(
            ours[0].mode_pooling_2x2x1(sparse).numpy(), theirs[0].mode_pooling_2x2x1(sparse).numpy()
        )


@settings(max_examples=40, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.booleans())
def test_pooling(a, coding, sparse):
    s = coded(a, coding)
    found = ck.mode_pooling_2x2x1(s, sparse=sparse)
    theirs = crackle.mode_pooling_2x2x1(ck.compress(a), sparse=sparse)
    np.testing.assert_array_equal(ck.decompress(found), crackle.decompress(theirs))
    assert ck.header(found).dtype == a.dtype
    assert ck.header(found).fortran_order == ck.header(s).fortran_order


def test_truth():
    """Of a == b: are all voxels equal. crackle-codec's results are always true."""
    a = ck.compressa(np.array([1, 2], np.uint8))
    b = ck.compressa(np.array([1, 3], np.uint8))
    assert a == a
    assert not a == b  # noqa: SIM201
    assert a != b
    assert not a != a  # noqa: SIM202
    assert (a == b).numpy().ravel().tolist() == [1, 0]
    assert not a == ck.compressa(np.array([1, 2, 3], np.uint8))  # noqa: SIM201
    assert a != ck.compressa(np.array([1, 2, 3], np.uint8))
    assert not a == None  # noqa: E711, SIM201
    assert a != "a"
    assert bool(ck.zeros((2, 2, 2)))
    with pytest.raises(TypeError):
        a + None
    with pytest.raises(ValueError, match="shapes"):
        a + ck.compressa(np.array([1, 2, 3], np.uint8))
    with pytest.raises(TypeError, match="no integer dtype"):
        ck.ones((2, 2, 2), np.uint64) + ck.ones((2, 2, 2), np.int64)


def test_operators_of_blocks(monkeypatch):
    """In many blocks as in one."""
    from numcodecs_crackle import blockwise

    a = volume("blobs", np.random.default_rng(0), (20, 20, 10)).astype("u4")
    array = ck.compressa(a)
    whole = array + array
    monkeypatch.setattr(blockwise, "BLOCK_VOXELS", 900)
    assert (array + array).binary == whole.binary
    empty = ck.compressa(np.zeros((0, 3, 2), np.uint8))
    assert (empty + empty).shape == (0, 3, 2)


@pytest.mark.parametrize("coding", CODINGS)
def test_attributes_and_methods(coding):
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (12, 10, 8)).astype("u2"))
    array = ck.CrackleArray(coded(a, coding), parallel=1)
    assert (array.shape, array.dtype, array.size, array.ndim, array.nbytes) == (
        a.shape, a.dtype, a.size, a.ndim, a.nbytes,
    )  # fmt: skip
    assert len(array) == len(array.binary)
    assert array.min() == a.min()
    assert array.max() == a.max()
    assert int(a[0, 0, 0]) in array
    assert 60_000 not in array
    assert array.num_labels() == len(np.unique(a))
    np.testing.assert_array_equal(array.labels(), np.unique(a))
    for z in (0, -1, slice(2, 5), slice(None, None, 3), slice(3, 3)):
        np.testing.assert_array_equal(array.labels(z), np.unique(a[:, :, z]))
    with pytest.raises(IndexError):
        array.labels(8)
    np.testing.assert_array_equal(np.asarray(array), a)
    np.testing.assert_array_equal(np.asarray(array, np.int64), a)
    np.testing.assert_array_equal(np.stack(list(array)), a)
    label = int(a[5, 5, 5])
    np.testing.assert_array_equal(array.decompress(label=label), a == label)
    assert array.voxel_counts(label) == (a == label).sum()
    assert array.voxel_counts() == ck.voxel_counts(array)
    assert array.bounding_boxes() == ck.bounding_boxes(array)
    assert array.contacts() == ck.contacts(array)
    assert array.edge_labels() == ck.edge_labels(array)
    assert array.to_parquet().equals(ck.to_parquet(array))
    np.testing.assert_array_equal(array.point_cloud(label), ck.point_cloud(array, label))
    np.testing.assert_array_equal(
        array.voxel_connectivity_graph(), ck.voxel_connectivity_graph(array, 4)
    )
    for changed, wanted in (
        (array.remap({label: 3}, True), np.where(a == label, 3, a)),
        (array.mask([label]), np.where(a == label, 0, a)),
        (array.mask_except([label]), np.where(a == label, a, 0)),
        (array.astype(np.uint64), a), (array.refit(), a), (array.condense(), a),
        (array.recompress(), a), (array.copy(), a), (array.copy("C"), a), (array.copy("F"), a),
        (array.renumber(7)[0], np.searchsorted(np.unique(a), a) + 7),
        (array.zrange(2, 5), a[:, :, 2:5]), (array.zrange(-3, 99), a[:, :, -3:]),
    ):  # fmt: skip
        assert isinstance(changed, ck.CrackleArray)
        assert changed.parallel == 1
        np.testing.assert_array_equal(changed.numpy(), wanted)
    with pytest.raises(ValueError, match="zero z-depth"):
        array.zrange(3, 3)
    assert array.array_equal(ck.compressa(a))
    assert array.any() == a.any()
    assert array.all() == a.all()
    np.testing.assert_array_equal(array.any(axis=2), a.any(axis=2))
    np.testing.assert_array_equal(array.all(axis=0), a.all(axis=0))
    assert [v for v, _ in array.each(labels=[label])] == [label]
    assert "CrackleArray" in repr(array)


def test_compressa():
    a = np.asfortranarray(volume("blobs", np.random.default_rng(0), (20, 20, 8)).astype("u4"))
    array = ck.compressa(a, markov_model_order=2, parallel=1)
    assert array.binary == ck.compress(a, 2)
    assert array.parallel == 1
    assert ck.compressa(array).binary == ck.compress(a)
    assert ck.compressa(array, 1).binary == ck.compress(a, 1)


def test_measures_beside_the_file(tmp_path, monkeypatch):
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (12, 10, 8)).astype("u2"))
    path = tmp_path / "x.ckl"
    array = ck.compressa(a)
    array.save(path)
    table = array.cache_meta(tmp_path / "x.ckl.meta.parquet")
    assert table.num_rows == len(np.unique(a))
    loaded = ck.aload(path)
    monkeypatch.setattr("numcodecs_crackle._native.Stream.measure", None)  # nothing is measured
    label = int(a[0, 0, 0])
    assert loaded.voxel_counts(label) == (a == label).sum()
    assert list(loaded.bounding_boxes()) == np.unique(a).tolist()
    np.testing.assert_allclose(loaded.centroids(label), np.argwhere(a == label).mean(axis=0))
    raw = loaded.bounding_boxes(label, no_slice_conversion=True)
    assert raw.dtype == np.uint32
    with pytest.raises(ValueError, match="not contained"):
        loaded.voxel_counts(60_000)
    monkeypatch.undo()
    loaded[0, 0, 0] = 9  # the table is no longer true
    a[0, 0, 0] = 9
    labels, counts = np.unique(a, return_counts=True)
    assert loaded.voxel_counts() == dict(zip(labels.tolist(), counts.tolist(), strict=True))
    loaded.save(path)
    assert ck.aload(path).voxel_counts() == loaded.voxel_counts()
    array.save(path)
    loaded = ck.aload(path)
    loaded.binary = ck.compress(a * 0)  # nor is it of another stream
    assert loaded.voxel_counts() == {0: a.size}


def test_a_mask_as_index():
    """Labels are no indices: as an index an array says where it is not 0."""
    a = volume("bricks", np.random.default_rng(0), (12, 10, 8)).astype("u4") % 5
    array = ck.compressa(a)
    np.testing.assert_array_equal(array[array == 3], a[a == 3])
    array[array == 3] = 9
    a[a == 3] = 9
    np.testing.assert_array_equal(array.numpy(), a)


def test_narrow_integers_as_index():
    """One more than 255 is no uint8."""
    a = np.asfortranarray(np.arange(2 * 2 * 300, dtype="u2").reshape(2, 2, 300))
    array = ck.compressa(a)
    z = np.uint8(255)
    np.testing.assert_array_equal(array[:, :, z], a[:, :, z])
    np.testing.assert_array_equal(array.labels(z), np.unique(a[:, :, z]))
    assert [ck.header(part).sz for part in ck.zsplit(array, z)] == [255, 1, 44]
    array[:, :, z] = 7
    a[:, :, z] = 7
    np.testing.assert_array_equal(array.numpy(), a)


def test_numpy_arrays_and_functions():
    a = volume("bricks", np.random.default_rng(0), (12, 10, 8)).astype("u4")
    array = ck.compressa(a)
    for found in (array + a, a + array, np.add(a, array)):
        np.testing.assert_array_equal(found, a + a)
    for found in (array == a, a == array):
        assert found.dtype == bool
        assert found.all()
    assert np.sum(array) == a.sum()
    np.testing.assert_array_equal((array % 2**40).numpy(), a)
    assert np.maximum(array, 3).min() == 3
    for found, wanted in (
        (np.uint32(5) - array, np.uint32(5) - a),
        (np.int64(2) + array, np.int64(2) + a),
    ):
        assert isinstance(found, ck.CrackleArray)
        np.testing.assert_array_equal(found.numpy(), wanted)
    np.testing.assert_array_equal(np.int64(5) < array, a > 5)
    with pytest.raises(TypeError):
        np.add(a, a, out=array)


def test_pickles_and_copies(tmp_path):
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (12, 10, 8)).astype("u2"))
    array = ck.CrackleArray(ck.compress(a), parallel=1)
    array.save(tmp_path / "x.ckl")
    assert array.num_labels() == len(np.unique(a))  # it is open
    mapped = ck.aload(tmp_path / "x.ckl", allow_mmap=True)
    for one in (array, array[..., None], array == array, mapped):
        again = pickle.loads(pickle.dumps(one))
        assert (again.shape, again.parallel, again.binary[:]) == (
            one.shape, one.parallel, one.binary[:],
        )  # fmt: skip
        assert copy.deepcopy(one).num_labels() == copy.copy(one).num_labels() == one.num_labels()


def test_verified_once_but_for_what_may_change(monkeypatch):
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (12, 10, 8)).astype("u2"))
    opens = []
    original = _native.Stream.__init__
    monkeypatch.setattr(
        _native.Stream, "__init__", lambda *args, **kw: (opens.append(1), original(*args, **kw))[1]
    )
    array = ck.CrackleArray(ck.compress(a))
    for _ in range(3):
        assert array.voxel_counts(int(a[0, 0, 0])) and array.max() in array
        np.testing.assert_array_equal(array[:, :, 3], a[:, :, 3])
    assert len(opens) == 1
    array[0, 0, 0] = 9
    assert 9 in array
    editable = ck.CrackleArray(bytearray(ck.compress(a)))
    label = int(a[0, 0, 0])
    assert label in editable
    ck.remap(editable, {label: 200}, preserve_missing_labels=True, in_place=True)
    assert label not in editable
    assert 200 in editable


def test_viewer():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    labels = np.arange(60).reshape(5, 4, 3) // 7
    shown = ck.compressa(labels).viewer()
    assert (shown.labels == labels[:, :, 1].T).all()
    matplotlib.pyplot.close(shown.figure)
