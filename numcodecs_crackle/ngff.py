"""Metadata of OME-Zarr images: read, checked, and made. No arrays are touched.

Versions 0.4 (Zarr 2) and 0.5 (Zarr 3) of the specification. What is read was written by
others: each value is checked before it is used, and errors say where it stands.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numcodecs_crackle.errors import FormatError, UnsupportedError

__all__ = [
    "FORMATS",
    "Axis",
    "ImageLabel",
    "Level",
    "Multiscale",
    "axis_of",
    "check_axes",
    "check_name",
    "image_label",
    "label_attributes",
    "label_names",
    "multiscales",
    "names_attributes",
    "nanometres",
    "ome_attributes",
]

# The Zarr format of each version.
FORMATS = {"0.4": 2, "0.5": 3}
# Of halvings there can't be more.
_MOST_LEVELS = 64
_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}

_POWERS = {
    "yotta": 24, "zetta": 21, "exa": 18, "peta": 15, "tera": 12, "giga": 9, "mega": 6,
    "kilo": 3, "hecto": 2, "": 0, "deci": -1, "centi": -2, "milli": -3, "micro": -6,
    "nano": -9, "pico": -12, "femto": -15, "atto": -18, "zepto": -21, "yocto": -24,
}  # fmt: skip
_NANOMETRES = {f"{prefix}meter": 10.0 ** (power + 9) for prefix, power in _POWERS.items()} | {
    "angstrom": 0.1,
    "inch": 2.54e7,
    "foot": 3.048e8,
    "yard": 9.144e8,
    "mile": 1.609344e12,
    "parsec": 3.0856775814913673e25,
}
# Not in the specification, but often met.
_SHORT = {
    "m": "meter", "cm": "centimeter", "mm": "millimeter", "um": "micrometer",
    "\u00b5m": "micrometer", "\u03bcm": "micrometer", "micron": "micrometer",
    "nm": "nanometer", "pm": "picometer", "\u00c5": "angstrom",
}  # fmt: skip


def nanometres(unit: str | None) -> float | None:
    """How many nanometres a unit of space is; None for others.

    The specification's names ("micrometer", "angstrom" ...), and some short ones ("nm").
    """
    return None if unit is None else _NANOMETRES.get(_SHORT.get(unit, unit))


@dataclass(frozen=True)
class Axis:
    """An axis of an image.

    Attributes
    ----------
    name : str
    type : str or None
        "space", "time", "channel", or another.
    unit : str or None
        By its full name, as "nanometer".
    """

    name: str
    type: str | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Level:
    """An array of an image, and where its voxels are.

    Attributes
    ----------
    path : str
        Below the image's group.
    scale : tuple of float
        The size of a voxel along each axis, in the axis's unit.
    translation : tuple of float
        Where the centre of the first voxel is.
    """

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]


@dataclass(frozen=True)
class Multiscale:
    """An image.

    Attributes
    ----------
    version : str
        "0.4" or "0.5".
    name : str or None
    axes : tuple of Axis
    levels : tuple of Level
        The finest first.
    """

    version: str
    name: str | None
    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class ImageLabel:
    """What is told of labels.

    Attributes
    ----------
    colors : dict of int to (int, int, int, int)
        Red, green, blue and opacity of a label, 0 to 255.
    properties : dict of int to dict
        What else is told of a label.
    source : str or None
        The image's path, from the label image's group.
    """

    colors: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    properties: dict[int, dict[str, Any]] = field(default_factory=dict)
    source: str | None = None


# ---- reading ----


class _Value:
    """A value of metadata, and where it stands."""

    def __init__(self, value: Any, where: str) -> None:
        self.value = value
        self.where = where

    def wrong(self, what: str) -> FormatError:
        return FormatError(f"{what}, not {reprlib.repr(self.value)}", self.where)

    def get(self, key: str) -> _Value | None:
        """What an object has by a name, or None."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object was expected")
        found = self.value.get(key)
        return None if found is None else _Value(found, f"{self.where}.{key}")

    def need(self, key: str) -> _Value:
        found = self.get(key)
        if found is None:
            raise FormatError(f"there is no {key!r}", self.where)
        return found

    def items(self, fewest: int = 0, most: int | None = None) -> list[_Value]:
        if not isinstance(self.value, list):
            raise self.wrong("a list was expected")
        n = len(self.value)
        if n < fewest or (most is not None and n > most):
            right = f"at least {fewest}" if most is None else f"{fewest} to {most}"
            raise FormatError(f"{n} entries, and {right} were expected", self.where)
        return [_Value(v, f"{self.where}[{i}]") for i, v in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("a string was expected")
        return self.value

    def path(self) -> str:
        """A path to something below: a store may be one of files."""
        try:
            return check_name(self.text())
        except ValueError as error:
            raise FormatError(str(error), self.where) from None

    def number(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.wrong("a number was expected")
        try:
            found = float(self.value)
        except OverflowError:
            found = math.inf
        if not math.isfinite(found):
            raise self.wrong("a finite number was expected")
        return found

    def integer(self) -> int:
        if isinstance(self.value, float) and self.value.is_integer():
            return int(self.value)
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.wrong("an integer was expected")
        return self.value


def _text_of(found: _Value | None) -> str | None:
    return None if found is None else found.text()


def _versioned(attributes: Mapping[str, Any], where: str) -> tuple[_Value, str | None]:
    """Where OME's metadata are among a group's attributes, and their version, if told there."""
    root = _Value(attributes, where)
    ome = root.get("ome")
    if ome is None:
        return root, None
    told = _text_of(ome.get("version"))
    version = "0.5" if told is None else told  # ome-zarr-py leaves it out beside a list of labels
    _check_version(version, "0.5", ome.where)
    return ome, version


def ome_attributes(attributes: Mapping[str, Any], where: str = "attributes") -> dict[str, Any]:
    """OME's metadata among a group's attributes, unchecked but for their version."""
    return dict(_versioned(attributes, where)[0].value)


def _check_version(version: str, right: str, where: str) -> None:
    if version != right:
        raise UnsupportedError(
            f"OME-Zarr of version {reprlib.repr(version)}: 0.4 and 0.5 are read", where
        )


def multiscales(attributes: Mapping[str, Any], where: str = "attributes") -> list[Multiscale]:
    """The images that a group's attributes tell of; mostly one, or none.

    Parameters
    ----------
    attributes : mapping
        All attributes of the group, as ``group.attrs.asdict()``.
    where : str
        The group, for errors.

    Returns
    -------
    list of Multiscale
        The transformations of a level and those of all levels are one scale and translation.

    Raises
    ------
    FormatError
        For what is not as specified; it names the place.
    UnsupportedError
        For other versions, and transformations kept as arrays.
    """
    ome, version = _versioned(attributes, where)
    found = ome.get("multiscales")
    return [] if found is None else [_multiscale(m, version) for m in found.items()]


def _multiscale(one: _Value, version: str | None) -> Multiscale:
    if version is None:
        told = _text_of(one.get("version"))
        version = "0.4" if told is None else told
        _check_version(version, "0.4", one.where)
    axes: list[Axis] = []
    for axis in one.need("axes").items(2, 5):
        name = axis.need("name").text()
        if name in [other.name for other in axes]:
            raise FormatError(f"a second axis {reprlib.repr(name)}", axis.where)
        axes.append(Axis(name, _text_of(axis.get("type")), _text_of(axis.get("unit"))))
    n = len(axes)
    common = one.get("coordinateTransformations")
    outer = ((1.0,) * n, (0.0,) * n) if common is None else _transformations(common, n)
    levels = []
    for dataset in one.need("datasets").items(1, _MOST_LEVELS):
        path = dataset.need("path").path()
        scale, shift = _transformations(dataset.need("coordinateTransformations"), n)
        levels.append(
            Level(
                path,
                tuple(a * b for a, b in zip(scale, outer[0], strict=True)),
                tuple(a * b + c for a, b, c in zip(shift, *outer, strict=True)),
            )
        )
    return Multiscale(version, _text_of(one.get("name")), tuple(axes), tuple(levels))


def _transformations(found: _Value, n: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The scale and the translation of a list of transformations."""
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    for entry in found.items():
        kind = entry.need("type").text()
        if kind not in ("scale", "translation"):
            raise entry.wrong("a scale or a translation was expected")
        if entry.get("path") is not None:
            raise UnsupportedError("a transformation that is an array", entry.where)
        numbers = tuple(v.number() for v in entry.need(kind).items(n, n))
        if kind == "scale":
            if scale is not None or shift is not None:
                raise FormatError("a second scale, or one after a translation", entry.where)
            if min(numbers) <= 0:
                raise entry.wrong("a scale of more than 0 was expected")
            scale = numbers
        else:
            if shift is not None:
                raise FormatError("a second translation", entry.where)
            shift = numbers
    if scale is None:
        raise FormatError("there is no scale", found.where)
    return scale, (0.0,) * n if shift is None else shift


def label_names(attributes: Mapping[str, Any], where: str = "attributes") -> list[str] | None:
    """The label images that a group lists: paths below it. None if it is no such group.

    Raises
    ------
    FormatError, UnsupportedError
        As `multiscales`; also for paths that lead out of the group.
    """
    ome, _ = _versioned(attributes, where)
    found = ome.get("labels")
    return None if found is None else [entry.path() for entry in found.items()]


def image_label(attributes: Mapping[str, Any], where: str = "attributes") -> ImageLabel | None:
    """What a label image's attributes tell of its labels. None if they tell nothing.

    Raises
    ------
    FormatError, UnsupportedError
        As `multiscales`.
    """
    ome, _ = _versioned(attributes, where)
    found = ome.get("image-label")
    if found is None:
        return None
    colors: dict[int, tuple[int, int, int, int]] = {}
    for entry in _listed(found, "colors"):
        label, rgba = entry.need("label-value").integer(), entry.get("rgba")
        if rgba is None:
            continue
        parts = [part.integer() for part in rgba.items(4, 4)]
        if min(parts) < 0 or max(parts) > 255:
            raise rgba.wrong("numbers from 0 to 255 were expected")
        colors[label] = (parts[0], parts[1], parts[2], parts[3])
    properties: dict[int, dict[str, Any]] = {}
    for entry in _listed(found, "properties"):
        label = entry.need("label-value").integer()
        properties[label] = {k: v for k, v in entry.value.items() if k != "label-value"}
    source = found.get("source")
    image = None if source is None else _text_of(source.get("image"))
    return ImageLabel(colors, properties, image)


def _listed(found: _Value, key: str) -> list[_Value]:
    entries = found.get(key)
    return [] if entries is None else entries.items()


# ---- making ----


def check_name(name: str) -> str:
    """A path below a group, without what leads out of it. ValueError for others."""
    if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or "\0" in name:
        raise ValueError(f"a path below the group was expected, not {reprlib.repr(name)}")
    return name


def axis_of(name: str | Axis) -> Axis:
    """An axis by its name: t is time, c a channel, z, y and x are space."""
    return name if isinstance(name, Axis) else Axis(name, _TYPES.get(name))


def check_axes(axes: Sequence[Axis]) -> None:
    """ValueError if the specification does not allow these axes, in this order."""
    names = [axis.name for axis in axes]
    if len(set(names)) != len(names):
        raise ValueError(f"axes have different names, not {names}")
    # Time, then a channel or another, then space.
    order = [{"time": 0, "space": 2}.get(axis.type or "", 1) for axis in axes]
    if order != sorted(order) or order.count(0) > 1 or order.count(1) > 1:
        raise ValueError(f"axes are time, a channel, and then space, not {names}")
    if order.count(2) not in (2, 3):
        raise ValueError(f"two or three axes are of space, of {names}")


def label_attributes(
    image: Multiscale,
    labels: ImageLabel,
    how: tuple[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The attributes of a label image's group. TypeError or ValueError for what is no JSON.

    ``how``: by what method levels were made, and what else is to be told of that.
    """
    datasets = []
    for level in image.levels:
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": list(level.scale)}]
        if any(level.translation):
            shift = {"type": "translation", "translation": list(level.translation)}
            transformations.append(shift)
        datasets.append({"path": level.path, "coordinateTransformations": transformations})
    parts = [("name", "name"), ("type", "type"), ("unit", "unit")]
    axes = [{k: getattr(a, f) for k, f in parts if getattr(a, f) is not None} for a in image.axes]
    told: dict[str, Any] = {"version": image.version}
    if labels.colors:
        told["colors"] = [{"label-value": k, "rgba": list(v)} for k, v in labels.colors.items()]
    if labels.properties:
        told["properties"] = [{**v, "label-value": k} for k, v in labels.properties.items()]
    if labels.source is not None:
        told["source"] = {"image": labels.source}
    multiscale: dict[str, Any] = {"name": image.name, "axes": axes, "datasets": datasets}
    multiscale |= {"type": how[0], "metadata": dict(how[1])}
    result: dict[str, Any]
    if image.version == "0.4":
        multiscale["version"] = image.version
        result = {"multiscales": [multiscale], "image-label": told}
    else:
        ome = {"version": image.version, "multiscales": [multiscale], "image-label": told}
        result = {"ome": ome}
    json.dumps(result, allow_nan=False)  # properties may be anything
    return result


def names_attributes(
    version: str, names: Sequence[str], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """The attributes of a group that lists label images, from those that it has."""
    listed = {"labels": list(names)}
    if version == "0.4":
        return listed
    return {"ome": {**attributes.get("ome", {}), "version": version, **listed}}
