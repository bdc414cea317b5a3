"""The volumes that are measured, by name. Axes are x, y, z, in Fortran order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Volume = npt.NDArray[Any]

# Dense places of the real volume, away from its corner.
CROPS = {
    "64^3": np.s_[200:264, 200:264, 200:264],
    "128^3": np.s_[200:328, 200:328, 200:328],
    "256x256x64": np.s_[128:384, 128:384, 200:264],
    "512x512x64": np.s_[:, :, 200:264],
}


def sparse(volume: Volume) -> Volume:
    """All but a tenth of the labels set to 0."""
    labels, index = np.unique(volume, return_inverse=True)
    keep = np.random.default_rng(0).random(labels.size) < 0.1
    return np.where(keep[index.reshape(volume.shape)], volume, 0).astype(volume.dtype)


def voronoi(shape: tuple[int, int, int], pixels: int = 30, seed: int = 0) -> Volume:
    """An oversegmentation: each pixel of a slice has the label of its nearest seed.

    There is about one seed for ``pixels`` pixels, one to a square of a grid, and they drift
    from slice to slice; so the nearest is looked for in 5 x 5 squares.
    """
    rng = np.random.default_rng(seed)
    side = np.sqrt(pixels)
    nx, ny = (int(np.ceil(n / side)) for n in shape[:2])
    place = rng.random((nx, ny, 2))
    ids = rng.permutation(nx * ny).astype(np.uint32).reshape(nx, ny) + 1
    x, y = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    volume = np.empty(shape, np.uint32, order="F")
    for z in range(shape[2]):
        place = np.clip(place + rng.normal(0, 0.05, place.shape), 0, 1)
        best = np.full(shape[:2], np.inf)
        for dx in range(-2, 3):
            for dy in range(-2, 3):
                cx, cy = (x / side).astype(int) + dx, (y / side).astype(int) + dy
                inside = (cx >= 0) & (cx < nx) & (cy >= 0) & (cy < ny)
                cx, cy = np.broadcast_arrays(cx.clip(0, nx - 1), cy.clip(0, ny - 1))
                at = (np.stack([cx, cy], -1) + place[cx, cy]) * side
                d = (at[..., 0] - x - 0.5) ** 2 + (at[..., 1] - y - 0.5) ** 2
                closer = inside & (d < best)
                best[closer] = d[closer]
                volume[..., z][closer] = ids[cx, cy][closer]
    return volume


def makers(real: Volume) -> dict[str, Callable[[], Volume]]:
    """What makes each case, by name."""

    def crop(name: str, dtype: str = "u4") -> Callable[[], Volume]:
        return lambda: np.asfortranarray(real[CROPS[name]]).astype(dtype, order="F")

    shape = (256, 256, 64)
    noise = np.random.default_rng(0)
    return {
        **{f"real {name}": crop(name) for name in CROPS},
        **{f"real {name} u64": crop(name, "u8") for name in CROPS},
        "sparse 256x256x64": lambda: sparse(crop("256x256x64")()),
        "Voronoi 256x256x64": lambda: voronoi(shape),
        "noise 256x256x64": lambda: np.asfortranarray(
            noise.integers(0, 2000, shape, dtype=np.uint32)
        ),
        "binary noise 256x256x64": lambda: np.asfortranarray(
            noise.integers(0, 2, shape, dtype=np.uint32)
        ),
        "one label 256x256x64": lambda: np.full(shape, 7, np.uint32, order="F"),
    }


def cases(real: Volume, only: str = "") -> Iterator[tuple[str, Volume]]:
    """Name and volume of each case in F and C order whose name has ``only`` in it."""
    for name, make in makers(real).items():
        for order in "FC":
            if only in f"{name} {order}":
                yield f"{name} {order}", np.array(make(), order=order)
