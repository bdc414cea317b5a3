"""A browser of slices: labels in colours by which they are told apart.

>>> from numcodecs_crackle.viewer import view
>>> view("cells.zarr", "z", 30, ids=True)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from io import BytesIO
from operator import index as as_integer
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr

from numcodecs_crackle import files, picture
from numcodecs_crackle.array import CrackleArray
from numcodecs_crackle.extras import required
from numcodecs_crackle.volume import LabelVolume

__all__ = ["SliceBrowser", "view"]

# Numbers of regions that are written by default: of more, none can be read.
_MOST = 50


class _Volume(NamedTuple):
    """Labels of 2 or 3 axes, and how a slice of them is read."""

    shape: tuple[int, ...]
    names: tuple[str, ...]
    axes: tuple[int, ...]  # which of the array's they are; others have a length of 1
    read: Callable[[tuple[Any, ...]], npt.NDArray[Any]]  # by an index of all of the array's
    ndim: int  # of the array
    is_stream: bool  # axes are x, y, z, and x is drawn to the right

    def rows_and_columns(self, axis: int | None) -> tuple[int, int]:
        """Which axes go down and to the right in a slice."""
        first, second = (number for number in range(len(self.shape)) if number != axis)
        return (second, first) if self.is_stream else (first, second)

    def slice_of(self, axis: int | None, index: int | None) -> npt.NDArray[Any]:
        """An image (rows, columns)."""
        region: list[Any] = [0] * self.ndim
        for number, of_array in enumerate(self.axes):
            region[of_array] = index if number == axis else slice(None)
        shape = [n for number, n in enumerate(self.shape) if number != axis]
        image = np.asarray(self.read(tuple(region))).reshape(shape)
        dtype = np.uint8 if image.dtype.kind == "b" else image.dtype.newbyteorder("=")
        image = image.astype(dtype, copy=False)
        return image.T if self.is_stream else image


class _How(NamedTuple):
    """What is drawn of a slice."""

    borders: bool
    ids: int
    colormap: picture.Colours
    highlight: frozenset[int] | None
    boxes: list[list[tuple[int, int]]]  # along each axis the first voxel, and the end
    sizes: list[float]  # of a voxel


class SliceBrowser:
    """What `view` shows.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
    axes : matplotlib.axes.Axes
    slider : matplotlib.widgets.Slider, ipywidgets.IntSlider or None
    index : int or None
        Of the slice that is shown.
    labels : array (rows, columns)
        Of that slice.
    """

    def __init__(self, volume: _Volume, axis: int | None, axes: Any, how: _How) -> None:
        self._volume, self._axis, self._how = volume, axis, how
        self.axes = axes
        self.figure: Any = axes.figure
        self.slider: Any = None
        self.index: int | None = None
        self.labels: npt.NDArray[Any] = np.zeros((0, 0), np.uint8)
        self._image: Any = None
        self._marks: list[Any] = []
        self._rows, self._columns = volume.rows_and_columns(axis)
        axes.set_xlabel(f"{volume.names[self._columns]} (voxels)")
        axes.set_ylabel(f"{volume.names[self._rows]} (voxels)")
        axes.format_coord = self._told

    def __repr__(self) -> str:
        rows, columns = self.labels.shape
        where = ""
        if self._axis is not None:
            name, length = self._volume.names[self._axis], self._volume.shape[self._axis]
            where = f"{name} = {self.index} of {length}, "
        return f"<SliceBrowser: {where}{rows} x {columns} voxels>"

    def show(self, index: int) -> None:
        """Show another slice. IndexError if there is none."""
        assert self._axis is not None
        index = as_integer(index)
        length = self._volume.shape[self._axis]
        if not -length <= index < length:
            raise IndexError(f"slice {index}, and there are {length}")
        self._show(index % length)
        if self.slider is None:
            return
        if hasattr(self.slider, "set_val"):
            self.slider.set_val(self.index)
        else:
            self.slider.value = self.index

    def _show(self, index: int | None) -> None:
        if self._image is not None and index == self.index:
            return
        self.index, self.labels = index, self._volume.slice_of(self._axis, index)
        from numcodecs_crackle import marks  # needs matplotlib

        how = self._how
        drawn = picture.draw(self.labels, how.borders, how.colormap, how.highlight)
        if self._image is None:
            aspect = how.sizes[self._rows] / how.sizes[self._columns]
            # Between few pixels and many: borders one voxel wide look alike, and are not lost.
            self._image = self.axes.imshow(drawn, interpolation="antialiased", aspect=aspect)
        else:
            self._image.set_data(drawn)
            self.figure.canvas.draw_idle()
        for mark in self._marks:
            mark.remove()
        points = picture.inner_points(self.labels, how.ids, how.highlight) if how.ids else []
        self._marks = [
            *marks.draw_boxes(self.axes, self._boxes()),
            *marks.write_numbers(self.axes, points),
        ]
        if self._axis is not None:
            self.axes.set_title(f"{self._volume.names[self._axis]} = {index}")

    def _boxes(self) -> Iterator[tuple[int, int, int, int]]:
        """Where the boxes are that this slice cuts."""
        for box in self._how.boxes:
            across = range(1) if self._axis is None else range(*box[self._axis])
            if (self.index or 0) in across:
                (row, row_end), (column, column_end) = box[self._rows], box[self._columns]
                yield row, column, row_end - row, column_end - column

    def _told(self, x: float, y: float) -> str:
        """What is written of the place under the pointer."""
        row, column = round(y), round(x)
        rows, columns = self.labels.shape
        if not (0 <= row < rows and 0 <= column < columns):
            return ""
        names = self._volume.names
        place = f"{names[self._columns]} {column}, {names[self._rows]} {row}"
        return f"{place}: {self.labels[row, column]}"


def view(
    labels: Any,
    axis: int | str | None = None,
    index: int | None = None,
    *,
    borders: bool = True,
    ids: bool | int = False,
    boxes: Mapping[int, Sequence[slice]] | Sequence[slice] | None = None,
    highlight: int | Iterable[int] | None = None,
    anisotropy: Sequence[float] | None = None,
    colormap: picture.Colours | None = None,
    slider: Literal["matplotlib", "ipywidgets"] | bool | None = None,
    axes: Any = None,
) -> SliceBrowser:
    """Show a slice of labels, and others by a slider. Only slices that are shown are read.

    Parameters
    ----------
    labels : array, stream, `CrackleArray`, `LabelVolume`, zarr.Array, dask array or path
        Of 2 or 3 axes; of more, if the others are 1 long.
    axis : int or str, optional
        Along which slices lie: its number, or its name. A Zarr array may tell the names; a
        stream has x, y, z, as crackle-codec has, and other arrays end with z, y, x. By
        default z.
    index : int, optional
        Of the slice; by default the middle.
    borders : bool
        Draw borders between labels in white.
    ids : bool or int
        Write the labels of so many of the slice's largest regions (50 for True) where these
        are widest, and where they do not overlap that of a larger one: to zoom in shows more.
        A region is connected by edges, and not of label 0.
    boxes : dict of int to tuple of slices, or one such tuple, optional
        Bounding boxes, in the array's axes, as `LabelVolume.bounding_boxes` gives them. Those
        that the slice cuts are drawn.
    highlight : int or iterable of int, optional
        Only these labels are in colour, and have ids; others are grey.
    anisotropy : float for each axis of the array, optional
        The size of a voxel, in any unit: slices from the side have its proportions. By default
        it is a cube.
    colormap : optional
        See `picture.colours`. By default "glasbey" if colorcet is installed, else "hashed".
    slider : optional
        By default that of ipywidgets in a notebook, if it is installed, and else that of
        matplotlib where there is a window. True for one in any case, False for none. Where a
        notebook is only read, without a kernel, there is the slice that was shown first.
    axes : matplotlib.axes.Axes, optional
        Where to draw, without a slider. By default a new figure.

    Returns
    -------
    SliceBrowser
        With the figure and its axes. ``show(index)`` shows another slice.

    Raises
    ------
    TypeError
        For labels that are no integers, and groups.
    ValueError
        For another number of axes, an axis that there is not, unknown options, and boxes and
        sizes that are none.
    IndexError
        If there is no such slice.
    FormatError
        For damage in what is read.
    """
    pyplot = required("matplotlib.pyplot", "viewer")
    if slider not in (None, True, False, "matplotlib", "ipywidgets"):
        raise ValueError(f"there is no slider {slider!r}")
    volume = _opened(labels)
    number = _axis(volume, axis)
    if highlight is not None:
        one = isinstance(highlight, (int, np.integer))
        highlight = frozenset([highlight] if one else highlight)  # type: ignore[list-item, arg-type]
    found_boxes, sizes = _boxes(volume, boxes), _sizes(volume, anisotropy)
    if colormap is None:
        colormap = "glasbey" if find_spec("colorcet") else "hashed"
    kind = below = figure = None
    if axes is None:
        figure = pyplot.figure(layout="constrained")
        if number is not None and volume.shape[number] > 1:
            kind = _slider(slider, figure)
        if kind == "matplotlib":
            axes, below = figure.subplots(2, 1, height_ratios=[24, 1])
        else:
            axes = figure.subplots()
    most = _MOST if ids is True else ids
    how = _How(borders, most, colormap, highlight, found_boxes, sizes)
    found = SliceBrowser(volume, number, axes, how)
    try:
        if number is None:
            found._show(None)
        else:
            found.show(volume.shape[number] // 2 if index is None else index)
    except Exception:
        if figure is not None:
            pyplot.close(figure)  # of which nobody knows
        raise
    if number is None or kind is None:
        return found
    length = volume.shape[number]
    if kind == "matplotlib":
        found.slider = required("matplotlib.widgets", "viewer").Slider(
            below, volume.names[number], 0, length - 1, valinit=found.index, valstep=1
        )
        found.slider.on_changed(lambda value: found._show(int(value)))
        # A slider that nobody keeps is dead; the figure is kept.
        found.figure.slices = found
    else:
        _with_widget(found, volume.names[number], length, pyplot)
    return found


def _with_widget(found: SliceBrowser, name: str, length: int, pyplot: Any) -> None:
    """Show a slider of ipywidgets, and the picture below."""
    widgets = required("ipywidgets", "viewer")
    show = required("IPython.display", "viewer")
    found.slider = widgets.IntSlider(found.index, 0, length - 1, description=name)
    png = _png(found.figure)
    image = widgets.Image(value=png, format="png")
    # It would be as wide as the page.
    box = widgets.VBox([found.slider, image], layout={"align_items": "flex-start"})
    pyplot.close(found.figure)  # or a notebook shows it once more

    def draw(change: Any) -> None:
        found._show(int(change["new"]))
        image.value = _png(found.figure)

    found.slider.observe(draw, "value")
    # Without a kernel, or where there are no widgets, a notebook shows the picture.
    bundle = box._repr_mimebundle_() | {"text/plain": repr(found), "image/png": png}
    show.display(bundle, raw=True)


def _png(figure: Any) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue()


def _slider(wanted: Any, figure: Any) -> str | None:
    """Which slider there is to be."""
    if wanted is False or isinstance(wanted, str):
        return wanted or None
    if _in_notebook() and find_spec("ipywidgets"):
        return "ipywidgets"
    has_window = figure.canvas.required_interactive_framework is not None
    return "matplotlib" if wanted or has_window else None


def _in_notebook() -> bool:
    """Whether this is run by a kernel of Jupyter, which can show widgets."""
    if not find_spec("IPython"):
        return False
    shell = required("IPython", "viewer").get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _axis(volume: _Volume, axis: int | str | None) -> int | None:
    """The number of the axis along which slices lie; None for an image."""
    if axis is None:
        if len(volume.shape) == 2:
            return None
        return volume.names.index("z") if "z" in volume.names else 0
    if isinstance(axis, str):
        if axis not in volume.names:
            raise ValueError(f"there is no axis {axis!r}, but {volume.names}")
        number = volume.names.index(axis)
    else:
        number = as_integer(axis)
        if number not in volume.axes:
            raise ValueError(f"there is no axis {axis}, but {volume.axes}")
        number = volume.axes.index(number)
    if len(volume.shape) == 2:
        raise ValueError("an image has no slices: leave out axis")
    return number


def _boxes(volume: _Volume, boxes: Any) -> list[list[tuple[int, int]]]:
    """Boxes in the axes of the volume: along each the first voxel, and the end."""
    if boxes is None:
        return []
    every = list(boxes.values()) if isinstance(boxes, Mapping) else [boxes]
    for box in every:
        if len(box) != volume.ndim or not all(isinstance(part, slice) for part in box):
            raise ValueError(f"a box has a slice for each axis: {box}")
    return [
        [box[a].indices(n)[:2] for a, n in zip(volume.axes, volume.shape, strict=True)]
        for box in every
    ]


def _sizes(volume: _Volume, anisotropy: Any) -> list[float]:
    """How large a voxel is along each axis of the volume."""
    if anisotropy is None:
        return [1.0] * len(volume.shape)
    sizes = np.asarray(anisotropy, float)
    if sizes.shape != (volume.ndim,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(f"anisotropy is a size along each of {volume.ndim} axes: {anisotropy}")
    return [float(sizes[axis]) for axis in volume.axes]


# ---- what is shown ----


def _opened(labels: Any) -> _Volume:
    if isinstance(labels, (str, os.PathLike)):
        is_file = os.path.isfile(labels)
        labels = files.aload(os.fspath(labels)) if is_file else zarr.open(labels, mode="r")
    if isinstance(labels, (bytes, bytearray, memoryview)):
        labels = CrackleArray(labels)
    if isinstance(labels, CrackleArray):
        return _volume(labels, tuple("xyz"), labels.__getitem__, True)
    if isinstance(labels, zarr.Group):
        raise TypeError(f"{labels.store_path} is a group: open one of its arrays")
    if isinstance(labels, zarr.Array):
        with suppress(TypeError):  # of another codec
            labels = LabelVolume(labels)
    read = labels.read if isinstance(labels, LabelVolume) else None
    if read is not None:
        labels = labels.array
    if not hasattr(labels, "dtype"):
        labels = np.asarray(labels)
    names = getattr(getattr(labels, "metadata", None), "dimension_names", None)
    return _volume(labels, names, read or labels.__getitem__)


def _volume(
    labels: Any, names: Any, read: Callable[[Any], Any], is_stream: bool = False
) -> _Volume:
    if np.dtype(labels.dtype).kind not in "uib":
        raise TypeError(f"labels are integers, not {labels.dtype}")
    shape = tuple(map(int, labels.shape))
    if 0 in shape:
        raise ValueError(f"there are no voxels in an array of {shape}")
    n = len(shape)
    if names is None or None in names or len(set(names)) < n:
        names = [*map(str, range(n - 3)), *"zyx"[-min(n, 3) :]]
    axes = list(range(n))
    for axis in range(n):
        if shape[axis] == 1 and len(axes) > 3:
            axes.remove(axis)
    if len(axes) not in (2, 3):
        raise ValueError(f"slices are shown of 2 or 3 axes, not of {shape}: select some first")
    return _Volume(
        tuple(shape[a] for a in axes), tuple(str(names[a]) for a in axes), tuple(axes), read,
        n, is_stream,
    )  # fmt: skip
