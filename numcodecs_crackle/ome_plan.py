"""What an OME-Zarr label image is to be: its axes, its levels, and how they are stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from operator import index
from typing import Any, TypeAlias

import numpy as np

from numcodecs_crackle import ngff
from numcodecs_crackle.codec import Crackle
from numcodecs_crackle.ngff import Axis, Level
from numcodecs_crackle.ome_read import LabelImage, where_of
from numcodecs_crackle.volume import LabelVolume
from numcodecs_crackle.zarr_codec import CrackleCodec

__all__ = ["PerAxis", "array_options", "axes_of", "colors_of", "factors_of", "finest", "levels_of"]

# One for each axis, in their order or by their names.
PerAxis: TypeAlias = Sequence[Any] | Mapping[str, Any]

# Levels are added while the image plane is longer.
_SMALL = 256
_CHUNKS = {"x": 256, "y": 256, "z": 64}


def _per_axis(
    given: PerAxis | None, names: Sequence[str], defaults: Sequence[Any], what: str
) -> list[Any]:
    """What was given for each axis, or the default."""
    if given is None:
        return list(defaults)
    if isinstance(given, Mapping):
        if unknown := set(given) - set(names):
            raise ValueError(f"{what} of {sorted(unknown)}, and the axes are {list(names)}")
        return [given.get(name, other) for name, other in zip(names, defaults, strict=True)]
    if isinstance(given, str) or len(given) != len(names):
        raise ValueError(f"{what} of each of the axes {list(names)} was expected, not {given!r}")
    return list(given)


def axes_of(
    array: Any,
    axes: str | Sequence[str | Axis] | None,
    units: str | PerAxis | None,
    image: LabelImage | None,
    ndim: int,
) -> tuple[Axis, ...]:
    told = getattr(getattr(array, "metadata", None), "dimension_names", None)
    found: Sequence[str | Axis]
    if axes is not None:
        found = tuple(axes)
    elif told is not None and None not in told:
        found = told
    elif image is not None and len(image.axes) == ndim:
        found = image.image.axes
    elif ndim in (2, 3):
        found = "zyx"[-ndim:]
    else:
        raise ValueError(f'name the axes, as in axes="tzyx": there are {ndim}')
    result = [ngff.axis_of(axis) for axis in found]
    if len(result) != ndim:
        raise ValueError(f"{len(result)} axes, and the array has {ndim}")
    ngff.check_axes(result)
    names = [axis.name for axis in result]
    known = _of(image, names, "units", None)
    defaults = [axis.unit or unit for axis, unit in zip(result, known, strict=True)]
    given: list[Any]
    if isinstance(units, str):
        given = [
            units if axis.type == "space" else unit
            for axis, unit in zip(result, defaults, strict=True)
        ]
    else:
        given = _per_axis(units, names, defaults, "units")
    for unit in given:
        if not isinstance(unit, str | None):
            raise TypeError(f"a unit is a string, not {unit!r}")
    return tuple(Axis(a.name, a.type, unit) for a, unit in zip(result, given, strict=True))


def _of(image: LabelImage | None, names: Iterable[str], what: str, default: Any) -> list[Any]:
    """What the image says of each axis that it has."""
    if image is None:
        return [default for _ in names]
    values = {
        "units": image.units,
        "scale": image.scales[0],
        "translation": image.translations[0],
    }[what]
    known = dict(zip(image.axes, values, strict=True))
    return [known.get(name, default) for name in names]


def finest(
    axes: Sequence[Axis],
    scale: PerAxis | None,
    translation: PerAxis | None,
    image: LabelImage | None,
) -> Level:
    names = [axis.name for axis in axes]
    size = tuple(map(float, _per_axis(scale, names, _of(image, names, "scale", 1.0), "scale")))
    shift = tuple(
        map(
            float,
            _per_axis(translation, names, _of(image, names, "translation", 0.0), "translation"),
        )
    )
    if not all(0 < n < math.inf for n in size) or not all(map(math.isfinite, shift)):
        raise ValueError(f"no voxels have a scale of {size}, or a translation of {shift}")
    return Level("0", size, shift)


def levels_of(first: Level, by: Iterable[Sequence[int]]) -> tuple[Level, ...]:
    """Where the voxels of each level are."""
    result = [first]
    for factors in by:
        scale, shift = result[-1].scale, result[-1].translation
        result.append(
            Level(
                str(len(result)),
                tuple(n * f for n, f in zip(scale, factors, strict=True)),
                # The centre of a block of voxels.
                tuple(a + n * (f - 1) / 2 for a, n, f in zip(shift, scale, factors, strict=True)),
            )
        )
    return tuple(result)


def factors_of(
    axes: Sequence[Axis],
    scale: Sequence[float],
    shape: Sequence[int],
    levels: int | Sequence[PerAxis] | None,
    image: LabelImage | None,
    is_told: bool,
) -> list[tuple[int, ...]]:
    """By how much each level is smaller than that before."""
    names = [axis.name for axis in axes]
    if levels is None and image is not None and (found := _factors_like(image, names, shape)):
        return found[1:]
    if levels is None or isinstance(levels, (int, np.integer)):
        if levels is not None and levels < 1:
            raise ValueError(f"there is one level, or more, not {levels}")
        return _halvings(axes, scale, shape, levels, is_told or image is not None)
    result = []
    for entry in levels:
        factors = tuple(_per_axis(entry, names, [1] * len(names), "factors"))
        if any(f not in (1, 2) for f in factors) or 2 not in factors:
            raise ValueError(f"factors are 1 or 2 for each axis, and some are 2, not {entry!r}")
        result.append(tuple(map(int, factors)))
    return result


def _factors_like(
    image: LabelImage, names: Sequence[str], shape: Sequence[int]
) -> list[tuple[int, ...]] | None:
    """The factors of the image's levels, or None if it is of another size."""
    shapes = [dict(zip(image.axes, array.shape, strict=True)) for array in image.arrays]
    known = [name for name in names if name in shapes[0]]
    if not known or any(
        shapes[0][a] != n for a, n in zip(names, shape, strict=True) if a in known and n > 1
    ):
        return None
    result = [(1,) * len(names)]
    for before, after in pairwise(shapes):
        factors = []
        for name, n in zip(names, shape, strict=True):
            a, b = before.get(name, 1), after.get(name, 1)
            if n == 1 or a == b:
                factors.append(1)
            elif b in (a // 2, a - a // 2):
                factors.append(2)
            else:
                raise ValueError(
                    f"the levels of {where_of(image.group)} are not halves of each other, "
                    f"but {before} and {after}: give levels"
                )
        result.append(tuple(factors))
    return result


def _halvings(
    axes: Sequence[Axis],
    scale: Sequence[float],
    shape: Sequence[int],
    count: int | None,
    is_told: bool,
) -> list[tuple[int, ...]]:
    """Halve the image plane, and z where its voxels are not twice as long."""
    space = [i for i, axis in enumerate(axes) if axis.type == "space"]
    plane = space[-2:]
    unit = [ngff.nanometres(axis.unit) or 1.0 for axis in axes]
    size = [n * u for n, u in zip(scale, unit, strict=True)]
    left = list(shape)
    result: list[tuple[int, ...]] = []
    while len(result) + 1 < count if count else max(left[i] for i in plane) > _SMALL:
        smallest = min(size[i] for i in plane)
        halved = [
            i for i in space
            if left[i] > 1 and (i in plane or (is_told and size[i] < 2 * smallest))
        ]  # fmt: skip
        if not halved:
            raise ValueError(f"{count} levels are too many for labels of {tuple(shape)}")
        result.append(tuple(2 if i in halved else 1 for i in range(len(axes))))
        for i in halved:
            left[i] = -(-left[i] // 2)
            size[i] *= 2
    return result


def colors_of(given: Mapping[int, Sequence[int]]) -> dict[int, tuple[int, int, int, int]]:
    result = {}
    for label, parts in given.items():
        rgba = [*map(index, parts), 255][:4]
        if len(parts) not in (3, 4) or min(rgba) < 0 or max(rgba) > 255:
            raise ValueError(f"a colour is 3 or 4 numbers from 0 to 255, not {parts!r}")
        result[index(label)] = (rgba[0], rgba[1], rgba[2], rgba[3])
    return result


def array_options(
    labels: Any,
    version: str,
    axes: Sequence[Axis],
    shape: Sequence[int],
    chunks: PerAxis | None,
    shards: PerAxis | None,
) -> dict[str, Any]:
    """How the finest level is stored: arguments of ``create_array``."""
    names = [axis.name for axis in axes]
    usual: Sequence[int] = [_CHUNKS.get(name, 1) for name in names]
    if isinstance(labels, LabelVolume):
        usual = labels.array.chunks
    if shards is None:
        usual = [min(c, n) for c, n in zip(usual, shape, strict=True)]
    sizes = tuple(index(n) for n in _per_axis(chunks, names, usual, "chunks"))
    if min(sizes) < 1:
        raise ValueError(f"chunks are of positive lengths, not {sizes}")
    options: dict[str, Any] = {"chunks": sizes}
    if version == "0.4":
        if shards is not None:
            raise ValueError("OME-Zarr 0.4 is of Zarr 2, which has no shards")
        encoding = {"name": "v2", "separator": "/"}
        return options | {"compressors": Crackle(), "chunk_key_encoding": encoding}
    if shards is not None:
        whole = tuple(index(n) for n in _per_axis(shards, names, sizes, "shards"))
        if any(n < 1 or n % c for n, c in zip(whole, sizes, strict=True)):
            raise ValueError(f"shards of {whole} don't have whole chunks of {sizes}")
        options["shards"] = whole
    return options | {
        "serializer": CrackleCodec(),
        "compressors": None,
        "dimension_names": names,
    }
