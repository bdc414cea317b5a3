"""Slices as pictures, in colours by which labels are told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.extras import required

__all__ = ["colours", "draw"]


def colours(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """A colour for each label, the same in every volume; black for 0.

    Parameters
    ----------
    labels : array of integers

    Returns
    -------
    uint8 array (..., 3)
        Red, green and blue. Hue, saturation and brightness come from a hash of the label.
    """
    hashed = labels.astype(np.uint64)
    # The end of splitmix64: it spreads neighbouring numbers all over.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashed = (hashed ^ (hashed >> np.uint64(shift))) * np.uint64(factor)
    hashed ^= hashed >> np.uint64(31)
    parts = [(hashed >> np.uint64(at) & np.uint64(0xFFFF)) / 0xFFFF for at in (0, 16, 32)]
    hsv = np.stack([parts[0], 0.45 + 0.55 * parts[1], 0.6 + 0.4 * parts[2]], axis=-1)
    rgb = required("matplotlib.colors", "cli").hsv_to_rgb(hsv)
    result: npt.NDArray[np.uint8] = np.rint(255 * rgb).astype(np.uint8)
    result[labels == 0] = 0
    return result


def draw(image: npt.NDArray[Any], borders: bool = False) -> npt.NDArray[np.uint8]:
    """A picture (rows, columns, 3) of an image of labels; borders between labels in white."""
    labels, index = np.unique(image, return_inverse=True)
    picture = colours(labels)[index.reshape(image.shape)]
    if borders:
        border = np.zeros(image.shape, np.bool_)
        border[:, 1:] |= image[:, 1:] != image[:, :-1]
        border[1:] |= image[1:] != image[:-1]
        picture[border] = 255
    return picture
