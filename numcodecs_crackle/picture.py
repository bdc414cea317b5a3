"""Slices as pictures, in colours by which labels are told apart."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.components import connected_components
from numcodecs_crackle.extras import required
from numcodecs_crackle.stream import compress, decompress

__all__ = ["Colours", "colours", "draw", "inner_points"]

# By name; a table of red, green and blue, 0 to 255; or those of some labels.
Colours: TypeAlias = str | Mapping[int, Sequence[int]] | npt.ArrayLike


def colours(labels: npt.NDArray[Any], colormap: Colours = "hashed") -> npt.NDArray[np.uint8]:
    """A colour for each label, the same in every volume; black for 0.

    Parameters
    ----------
    labels : array of integers
    colormap : str, dict of int to sequence, or array (n, 3)
        "hashed": hue, saturation and brightness come from a hash of the label. "glasbey":
        colorcet's 256 colours that are told apart well. Another name: matplotlib's. A table
        of n colours: labels 1 to n have these in order, and others one by their hash. A dict:
        colours of some labels (what follows blue is ignored), others are hashed.

    Returns
    -------
    uint8 array (..., 3)
        Red, green and blue.

    Raises
    ------
    ValueError
        For a name that is none, and tables of other shapes.
    ImportError
        For "glasbey" without colorcet.
    """
    hashed = _hashes(labels)
    result: npt.NDArray[np.uint8]
    if isinstance(colormap, Mapping) or (isinstance(colormap, str) and colormap == "hashed"):
        parts = [(hashed >> np.uint64(at) & np.uint64(0xFFFF)) / 0xFFFF for at in (0, 16, 32)]
        hsv = np.stack([parts[0], 0.45 + 0.55 * parts[1], 0.6 + 0.4 * parts[2]], axis=-1)
        rgb = required("matplotlib.colors", "cli").hsv_to_rgb(hsv)
        result = np.rint(255 * rgb).astype(np.uint8)
    else:
        table = _table(colormap)
        n = len(table)
        place = (hashed % np.uint64(n)).astype(np.intp)
        few = (labels > 0) & (labels <= n)
        place[few] = labels[few].astype(np.intp) - 1
        result = table[place]
    result[labels == 0] = 0
    if isinstance(colormap, Mapping):
        every, index = np.unique(labels, return_inverse=True)
        for number, label in enumerate(every.tolist()):
            if label in colormap:
                result[index.reshape(labels.shape) == number] = colormap[label][:3]
    return result


def _hashes(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    hashed = labels.astype(np.uint64)
    # The end of splitmix64: it spreads neighbouring numbers all over.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashed = (hashed ^ (hashed >> np.uint64(shift))) * np.uint64(factor)
    return hashed ^ (hashed >> np.uint64(31))


def _table(colormap: Any) -> npt.NDArray[np.uint8]:
    """The colours (n, 3) of a colormap."""
    if isinstance(colormap, str):
        if colormap == "glasbey":
            rgba = required("matplotlib.colors", "viewer").to_rgba_array(
                required("colorcet", "viewer").glasbey
            )
            table: npt.NDArray[np.uint8] = np.rint(255 * rgba[:, :3]).astype(np.uint8)
            return table
        names = required("matplotlib", "viewer").colormaps
        if colormap not in names:
            raise ValueError(f"there is no colormap {colormap!r}")
        found = names[colormap]
        table = found(np.arange(found.N), bytes=True)[:, :3]
        return table
    array = np.asarray(colormap)
    right = array.ndim == 2 and len(array) and array.shape[1] in (3, 4)
    if not right or array.dtype.kind not in "ui" or array.min() < 0 or array.max() > 255:
        raise ValueError("a colormap is a table (n, 3) of numbers from 0 to 255")
    return array[:, :3].astype(np.uint8)


def draw(
    image: npt.NDArray[Any],
    borders: bool = False,
    colormap: Colours = "hashed",
    highlight: Iterable[int] | None = None,
) -> npt.NDArray[np.uint8]:
    """A picture of an image of labels.

    Parameters
    ----------
    image : array of integers (rows, columns)
    borders : bool
        Draw borders between labels in white.
    colormap : optional
        See `colours`.
    highlight : iterable of int, optional
        Only these labels are in colour; others are grey, and 0 is black.

    Returns
    -------
    uint8 array (rows, columns, 3)
    """
    labels, index = np.unique(image, return_inverse=True)
    table = colours(labels, colormap)
    if highlight is not None:
        wanted = set(highlight)
        dull = ~_among(labels, wanted | {0})
        # Not so light that white borders are lost, and still not all the same.
        light = 105 + 0.25 * (table[dull] @ np.array([0.299, 0.587, 0.114]))
        table[dull] = np.rint(light)[:, None]
    picture: npt.NDArray[np.uint8] = table[index.reshape(image.shape)]
    if borders:
        border = np.zeros(image.shape, np.bool_)
        border[:, 1:] |= image[:, 1:] != image[:, :-1]
        border[1:] |= image[1:] != image[:-1]
        picture[border] = 255
    return picture


def _among(labels: npt.NDArray[Any], some: Collection[int]) -> npt.NDArray[np.bool_]:
    """Which labels are among some, which may be any integers."""
    return np.array([label in some for label in labels.tolist()], np.bool_)


def inner_points(
    image: npt.NDArray[Any], most: int, of: Collection[int] | None = None
) -> list[tuple[int, int, int]]:
    """Where the numbers of regions are written: far from their borders.

    Parameters
    ----------
    image : array of integers (rows, columns)
    most : int
        Of the largest regions so many. A region is connected by edges; 0 is background.
    of : collection of int, optional
        Only regions of these labels.

    Returns
    -------
    list of (row, column, label)
        By size, the largest first. Each is a pixel of the region with the longest way, in
        steps, to its border.
    """
    if of is not None:
        labels, index = np.unique(image, return_inverse=True)
        image = np.where(
            _among(labels, of)[index.reshape(image.shape)], image, labels.dtype.type(0)
        )
    binary, mapping = connected_components(
        compress(np.asfortranarray(image)), 6, return_mapping=True, parallel=1
    )
    parts = decompress(binary, parallel=1).reshape(image.shape)
    # Steps to the nearest pixel that has a neighbour of another region, or is at the edge.
    steps = np.zeros(image.shape, np.int64)
    inner = np.s_[1:-1]
    same = parts[inner, inner]
    alike = (same == parts[:-2, inner]) & (same == parts[2:, inner])
    alike &= (same == parts[inner, :-2]) & (same == parts[inner, 2:])
    steps[inner, inner][alike] = sum(image.shape)
    for view in (steps, steps[::-1], steps.T, steps.T[::-1]):
        ramp = np.arange(len(view))[:, None]
        view[...] = np.minimum.accumulate(view - ramp, axis=0) + ramp
    flat, deep = parts.reshape(-1), steps.reshape(-1)
    sizes = np.bincount(flat)
    sizes[0] = 0
    deepest = np.zeros(len(sizes), np.int64)
    np.maximum.at(deepest, flat, deep)
    # Of those that are as deep the middle one: of a long region that is not its end.
    found = np.flatnonzero(deep == deepest[flat])
    found = found[np.argsort(flat[found], kind="stable")]
    ends = np.cumsum(np.bincount(flat[found], minlength=len(sizes)))
    starts = np.append(0, ends[:-1])
    largest = np.argsort(-sizes, kind="stable")[:most]
    result = []
    for part in largest[sizes[largest] > 0].tolist():
        row, column = divmod(int(found[(starts[part] + ends[part]) // 2]), image.shape[1])
        result.append((row, column, mapping[part]))
    return result
