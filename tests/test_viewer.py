"""The browser of slices: what is drawn, and what is read for it."""

from __future__ import annotations

import io
import subprocess
import sys

import dask.array
import matplotlib
import numpy as np
import pytest
import zarr
from conftest import blobs

import numcodecs_crackle as ck
from numcodecs_crackle import CrackleCodec, FormatError, LabelVolume, picture
from numcodecs_crackle.viewer import SliceBrowser, view


@pytest.fixture(autouse=True)
def no_window():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = matplotlib.get_backend()
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")
    pyplot.switch_backend(before)


@pytest.fixture(scope="module")
def cells():
    return blobs(np.random.default_rng(2), (7, 18, 25)).astype("u4")


def stored(path, cells, **options):
    how = {"serializer": CrackleCodec(), "compressors": None, "chunks": (7, 9, 25)} | options
    return zarr.create_array(path, data=cells, overwrite=True, **how)


def drawn(shown: SliceBrowser) -> np.ndarray:
    """The picture that the axes have."""
    (image,) = shown.axes.get_images()
    return np.asarray(image.get_array())


KINDS = ("array", "dask", "stream", "CrackleArray", "Crackle", "Zstd", "path", "file", "volume")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", "zyx")
def test_the_right_slice(tmp_path, cells, kind, axis):
    source = {
        "array": lambda: cells,
        "dask": lambda: dask.array.from_array(cells, chunks=9),
        "stream": lambda: ck.compress(cells.T),
        "CrackleArray": lambda: ck.compressa(cells.T),
        "Crackle": lambda: stored(tmp_path / "c.zarr", cells),
        "Zstd": lambda: zarr.create_array(tmp_path / "c.zarr", data=cells),
        "path": lambda: [stored(tmp_path / "c.zarr", cells), str(tmp_path / "c.zarr")][1],
        "file": lambda: [ck.save(cells.T, str(tmp_path / "c.ckl")), tmp_path / "c.ckl"][1],
        "volume": lambda: LabelVolume(stored(tmp_path / "c.zarr", cells)),
    }[kind]()
    number = "zyx".index(axis)
    right = np.take(cells, 4, number)
    shown = view(source, axis, 4, colormap="hashed")
    assert (shown.labels == right).all() and shown.index == 4
    assert (drawn(shown) == picture.draw(right, borders=True)).all()
    rows, columns = "zyx".replace(axis, "")
    assert shown.axes.get_ylabel() == f"{rows} (voxels)"
    assert shown.axes.get_xlabel() == f"{columns} (voxels)"
    assert repr(shown) == f"<SliceBrowser: {axis} = 4 of {cells.shape[number]}, " + (
        f"{right.shape[0]} x {right.shape[1]} voxels>"
    )
    assert shown.axes.get_title() == f"{axis} = 4"
    assert shown.axes.format_coord(3.2, 1.9).endswith(f"{columns} 3, {rows} 2: {right[2, 3]}")
    assert shown.axes.format_coord(-1, 0) == ""
    if axis == "x":
        return
    number = 2 - number if kind in ("stream", "CrackleArray", "file") else number
    assert (view(source, number, 4, borders=False).labels == right).all()


def test_only_the_slice_is_read(tmp_path, cells, monkeypatch):
    """Damage in the borders of other slices is not seen."""
    array = stored(tmp_path / "c.zarr", cells)
    for key in ("c/0/0/0", "c/0/1/0"):
        path = tmp_path / "c.zarr" / key
        data = bytearray(path.read_bytes())
        end = len(data) - 4 * 7 - 4  # the last codes, before the checksums
        data[end - 1] ^= 0xFF
        path.write_bytes(data)
    assert (view(array, index=2).labels == cells[2]).all()
    shown = view(array, index=0)
    with pytest.raises(FormatError, match="slice 6"):
        shown.show(6)


def test_default_is_the_middle_along_z(cells):
    assert (view(cells).labels == cells[3]).all()
    assert (view(ck.compress(cells.T)).labels == cells[3]).all()
    assert (view(cells[3]).labels == cells[3]).all()  # an image
    assert (view(cells[None, None]).labels == cells[3]).all()
    assert (view(cells[None], 1, 2).labels == cells[2]).all()
    assert (view(cells[:1]).labels == cells[0]).all()
    assert (view(cells.astype(">u4"), index=1, ids=9).labels == cells[1]).all()
    assert (view(cells > 9, index=1).labels == (cells[1] > 9)).all()
    names = zarr.create_array({}, data=cells, dimension_names=("x", "z", "y"))
    assert (view(names).labels == cells[:, 9]).all()


def test_pixels_on_the_screen(cells):
    figure = matplotlib.pyplot.figure(figsize=(5.0, 3.6), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    shown = view(cells, index=2, borders=False, colormap="tab20", axes=axes)
    for index in (2, 5):
        shown.show(index)
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[10::20, 10::20, :3]
        assert (pixels == picture.colours(cells[index], "tab20")).all()


def test_borders_and_colours(cells):
    image = cells[3]
    ours = picture.colours(image)
    assert (drawn(view(image, borders=False, colormap="hashed")) == ours).all()
    both = drawn(view(image, colormap="hashed"))
    border = np.zeros(image.shape, bool)
    for place in np.ndindex(image.shape):
        for axis in range(2):
            before = list(place)
            before[axis] -= 1
            if before[axis] >= 0 and image[tuple(before)] != image[place]:
                border[place] = True
    assert (both[border] == 255).all() and (both[~border] == ours[~border]).all()


def test_colormaps():
    labels = np.array([0, 1, 2, 3, 500], "u8")
    table = np.array([[1, 2, 3], [4, 5, 6]], "u1")
    found = picture.colours(labels, table)
    assert found[:3].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert found[3].tolist() in table.tolist() and found[4].tolist() in table.tolist()
    some = picture.colours(labels, {2: (9, 8, 7, 255), 0: (1, 1, 1)})
    assert some[[0, 2]].tolist() == [[1, 1, 1], [9, 8, 7]]
    assert (some[[1, 3, 4]] == picture.colours(labels)[[1, 3, 4]]).all()
    tab = picture.colours(labels, "tab20")
    right = np.rint(255 * np.array(matplotlib.colormaps["tab20"].colors))
    assert (tab[1:4] == right[:3]).all() and (tab[0] == 0).all()
    assert picture.colours(np.array([-1, 5], "i1"), "tab20").shape == (2, 3)
    for wrong in ("no such", [[1, 2]], [[1.0, 2, 3]], [[1, 2, 300]], []):
        with pytest.raises(ValueError, match="colormap"):
            picture.colours(labels, wrong)


def test_glasbey_is_taken_where_it_is(cells):
    colorcet = pytest.importorskip("colorcet")
    table = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colorcet.glasbey])
    labels = np.arange(1, 257).reshape(16, 16)
    assert (drawn(view(labels, borders=False)) == table.reshape(16, 16, 3)).all()


def test_ids_are_within_their_regions(cells):
    image = cells[3].copy()
    image[:4, :4] = 0
    parts = ck.decompress(ck.connected_components(ck.compress(image), 6))[..., 0]
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    shown = view(image, ids=5)
    texts = shown.axes.texts
    places = [tuple(reversed(text.get_position())) for text in texts]
    assert [int(text.get_text()) for text in texts] == [image[p] for p in places]
    assert [sizes[parts[p]] for p in places] == sorted(sizes, reverse=True)[:5]
    for place in places:  # as far from the border as any pixel of the region
        steps = _steps(parts)
        assert steps[place] == steps[parts == parts[place]].max()
    assert len(view(image, ids=True).axes.texts) == min(50, np.count_nonzero(sizes))
    assert not view(image).axes.texts and not view(np.zeros((3, 3), int), ids=True).axes.texts


def _steps(parts):
    """How often a region can be peeled until a pixel is gone."""
    steps = np.zeros(parts.shape, int)
    alive = np.ones(parts.shape, bool)
    while alive.any():
        padded = np.pad(np.where(alive, parts.astype(int), -1), 1, constant_values=-1)
        inner = np.s_[1:-1]
        around = [padded[:-2, inner], padded[2:, inner], padded[inner, :-2], padded[inner, 2:]]
        alive = alive & np.logical_and.reduce([a == padded[inner, inner] for a in around])
        steps += alive
    return steps


def test_the_id_of_a_bar_is_in_its_middle():
    bar = np.zeros((5, 31), "u1")
    bar[2] = 9
    assert picture.inner_points(bar, 9) == [(2, 15, 9)]
    assert picture.inner_points(np.full((1, 7), -3), 9) == [(0, 3, -3)]


@pytest.mark.parametrize("top, left, size", [(-0.5, -0.5, 18), (0, 0, 7), (6, 18, 6.5)])
def test_numbers_are_whole_and_do_not_overlap(cells, top, left, size):
    many = cells.astype("u8") + 10**15
    shown = view(many, index=3, ids=True)
    shown.axes.set_xlim(left, left + size)
    shown.axes.set_ylim(top + size, top)

    def pixels():
        shown.figure.canvas.draw()
        return np.asarray(shown.figure.canvas.buffer_rgba()).copy()

    before, frame, places = pixels(), shown.axes.bbox, []
    for text in shown.axes.texts:  # the largest region's first
        inside = frame.contains(*shown.axes.transData.transform(text.get_position()))
        assert inside or text.place is None
        text.set_visible(text.place is not None)  # nothing is drawn of the others
        if text.place is None:
            continue
        assert not any(text.place.overlaps(other) for other in places)
        places.append(text.place)
        assert frame.x0 <= text.place.x0 < text.place.x1 <= frame.x1
        assert frame.y0 <= text.place.y0 < text.place.y1 <= frame.y1
        text.set_visible(False)  # and this one is drawn there
        around, without = ~_within(before, text.place), pixels()
        assert (before != without).any() and (before == without)[around].all()
        text.set_visible(True)
    assert 0 < len(places) < len(shown.axes.texts)
    assert (pixels() == before).all()
    shown.axes.set_xlim(2, 4)  # less than a number is wide
    pixels()
    assert not [text.place for text in shown.axes.texts if text.place is not None]


def _within(image, box):
    rows, columns = np.indices(image.shape[:2])
    rows = len(image) - rows
    box = box.padded(2)  # text begins at whole pixels
    return (rows >= box.y0) & (rows <= box.y1) & (columns >= box.x0) & (columns <= box.x1)


@pytest.mark.parametrize("axis", "zyx")
@pytest.mark.parametrize("kind", ["array", "stream", "of 4 axes"])
def test_boxes_are_around_their_labels(tmp_path, cells, axis, kind):
    some = np.unique(cells)[[3, 8, 12]].tolist()
    volume = LabelVolume(stored(tmp_path / "c.zarr", cells))
    boxes = volume.bounding_boxes(some)
    source = cells
    if kind == "stream":
        source = ck.compress(cells.T)
        boxes = {label: ck.bounding_boxes(source, label) for label in some}
        boxes = {
            label: box[label] if isinstance(box, dict) else box for label, box in boxes.items()
        }
    elif kind == "of 4 axes":
        source = cells[None]
        boxes = {label: (slice(None), *box) for label, box in boxes.items()}
    number = "zyx".index(axis)
    shown = view(source, axis, 0, boxes=boxes)
    for index in range(0, cells.shape[number], 3):
        shown.show(index)
        right = set()
        for label in some:
            places = np.argwhere(cells == label)
            low, high = places.min(0), places.max(0)
            if low[number] <= index <= high[number]:
                (y, x), (y_end, x_end) = np.delete(low, number), np.delete(high, number)
                right.add((x - 0.5, y - 0.5, x_end - x + 1, y_end - y + 1))
        found = shown.axes.patches
        drawn = {(*p.get_xy(), p.get_width(), p.get_height()) for p in found}
        assert drawn == right and len(found) == len(shown.axes.patches)
    one = view(source, axis, 0, boxes=boxes[some[0]])
    assert len(one.axes.patches) <= 1
    assert len(view(cells[3], boxes=(slice(2, 5), slice(0, 3))).axes.patches) == 1


def test_highlighted_labels_alone_are_in_colour(cells):
    image = cells[3].copy()
    image[:3, :3] = 0
    label, other = (int(value) for value in np.unique(image)[[2, 5]])
    for wanted, highlight in (({label}, label), ({label, other}, [label, other]), (set(), ())):
        found = drawn(view(image, borders=False, highlight=highlight, colormap="hashed"))
        ours = np.isin(image, list(wanted))
        usual = picture.colours(image)
        assert (found[ours] == usual[ours]).all() and (found[image == 0] == 0).all()
        dull = found[~ours & (image != 0)].astype(int)
        assert (dull == dull[:, :1]).all() and 100 < dull.min() < dull.max() < 180
        texts = view(image, highlight=highlight, ids=50).axes.texts
        assert {int(text.get_text()) for text in texts} == wanted
    huge = image.astype("u8") + 2**63
    assert len(view(huge, highlight=[2**63 + label, -1], ids=50).axes.texts) >= 1


def test_proportions_of_voxels(cells):
    for axis, ratio in (("z", 2), ("y", 10), ("x", 5)):
        assert view(cells, axis, anisotropy=(40, 8, 4)).axes.get_aspect() == ratio
        shown = view(ck.compress(cells.T), axis, anisotropy=(4, 8, 40))
        assert shown.axes.get_aspect() == ratio
    assert view(cells[None], "y", anisotropy=(1, 40, 8, 4)).axes.get_aspect() == 10
    assert view(cells, "y").axes.get_aspect() == 1


@pytest.mark.parametrize("kind", ["matplotlib", "ipywidgets"])
def test_sliders(cells, kind, capsys):
    pytest.importorskip(kind)
    shown = view(cells, slider=kind, ids=3, colormap="hashed")
    assert shown.index == 3
    for index in (5, 0, 6):
        if kind == "matplotlib":
            shown.slider.set_val(index)
        else:
            shown.slider.value = index
        assert shown.index == index and len(shown.axes.texts) == 3
        assert (drawn(shown) == picture.draw(cells[index], borders=True)).all()
        assert shown.axes.get_title() == f"z = {index}"
    shown.show(-1)
    assert shown.index == 6
    shown.show(2)
    value = shown.slider.val if kind == "matplotlib" else shown.slider.value
    assert value == 2 == shown.index
    with pytest.raises(IndexError, match="slice 7"):
        shown.show(7)
    bounds = ("valmin", "valmax") if kind == "matplotlib" else ("min", "max")
    assert [getattr(shown.slider, name) for name in bounds] == [0, 6]


def test_a_notebook_without_a_kernel_has_a_picture(cells, monkeypatch):
    """Beside the widget, which needs a kernel, the slice that is shown first."""
    ipywidgets = pytest.importorskip("ipywidgets")
    import IPython.display

    shown, made, image = [], [], ipywidgets.Image
    monkeypatch.setattr(ipywidgets, "Image", lambda **k: [made.append(image(**k)), made[-1]][1])
    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: shown.append((a, k)))
    found = view(cells, index=2, slider="ipywidgets")
    (bundle,), options = shown[0]
    assert options == {"raw": True} and "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == repr(found)
    assert [len(call[0]) for call in shown] == [1]
    first = matplotlib.image.imread(io.BytesIO(bundle["image/png"]))
    assert first.shape[2] == 4 and len(np.unique(first.reshape(-1, 4), axis=0)) > 50
    (picture,) = made
    assert bytes(picture.value) == bundle["image/png"]
    found.slider.value = 5  # the widget shows what the figure does
    assert bytes(picture.value) != bundle["image/png"]
    found.show(2)
    assert bytes(picture.value) == bundle["image/png"]


def test_where_there_is_no_window_there_is_no_slider(cells):
    shown = view(cells)
    assert shown.slider is None and len(shown.figure.axes) == 1
    assert view(cells, slider=True).slider is not None
    figure, axes = matplotlib.pyplot.subplots(1, 2)
    shown = view(cells, index=1, axes=axes[1], slider=True)
    assert shown.figure is figure and shown.axes is axes[1] and shown.slider is None


def test_refused(tmp_path, cells):
    zarr.create_group(tmp_path / "g.zarr")
    for source, options, error, message in [
        (cells, {"axis": "q"}, ValueError, "no axis 'q'"),
        (cells, {"axis": 3}, ValueError, "no axis 3"),
        (cells[0], {"axis": 0}, ValueError, "no slices"),
        (cells, {"index": 7}, IndexError, "slice 7"),
        (cells, {"boxes": (slice(2), slice(3))}, ValueError, "a slice for each axis"),
        (cells, {"boxes": {1: (1, 2, 3)}}, ValueError, "a slice for each axis"),
        (cells, {"anisotropy": (4, 4)}, ValueError, "each of 3 axes"),
        (cells, {"anisotropy": (4, 4, 0)}, ValueError, "each of 3 axes"),
        (cells, {"slider": "qt"}, ValueError, "no slider"),
        (cells.astype("f4"), {}, TypeError, "integers"),
        (cells[:0], {}, ValueError, "no voxels"),
        (np.zeros((2, 2, 2, 2), int), {}, ValueError, "2 or 3 axes"),
        (np.zeros(3, int), {}, ValueError, "2 or 3 axes"),
        (tmp_path / "g.zarr", {}, TypeError, "is a group"),
        (tmp_path / "none.zarr", {}, FileNotFoundError, "none"),
    ]:
        with pytest.raises(error, match=message):
            view(source, **options)
    assert not matplotlib.pyplot.get_fignums()


def test_without_matplotlib_it_says_what_brings_it():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from numcodecs_crackle.viewer import view\n"
        "view([[1, 2], [3, 4]])"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "numcodecs-crackle[viewer]"' in child.stderr
