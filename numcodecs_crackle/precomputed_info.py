"""What a Neuroglancer precomputed layer says of itself: its ``info``, and the names of chunks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numcodecs_crackle import limits
from numcodecs_crackle.errors import FormatError, UnsupportedError

__all__ = ["DTYPES", "INFO", "Place", "Scale", "Triple", "info_of", "key_of", "scales_in"]

INFO = "info"
# Neuroglancer shows no signed labels, and crackle-codec reads none.
DTYPES = ("uint8", "uint16", "uint32", "uint64")
Place = tuple[int, int, int]  # of a chunk in the grid: x, y, z
Triple = tuple[float, float, float]

_NAME = re.compile(r"(-?\d{1,19})-(-?\d{1,19})_(-?\d{1,19})-(-?\d{1,19})_(-?\d{1,19})-(-?\d{1,19})")
_KEY = re.compile(r"[A-Za-z0-9_.,+-][A-Za-z0-9_.,+ -]{0,199}")
_MOST = 1 << 62  # of any size or offset, in voxels: sums of them are int64
_MOST_SCALES = 1000


@dataclass(frozen=True)
class Scale:
    """One resolution of a layer. All is in the order x, y, z.

    Parameters
    ----------
    key
        The folder of its chunks.
    size, chunk
        Voxels of the volume, and of a whole chunk.
    resolution
        Of a voxel, in nanometres.
    offset
        The first voxel.
    """

    key: str
    size: Place
    chunk: Place
    resolution: Triple
    offset: Place = (0, 0, 0)

    @property
    def grid(self) -> Place:
        """How many chunks there are."""
        x, y, z = (-(-n // c) for n, c in zip(self.size, self.chunk, strict=True))
        return x, y, z

    def extent(self, place: Place) -> Place:
        """Voxels of a chunk, those in the volume."""
        x, y, z = (min(c, n - p * c) for n, c, p in zip(self.size, self.chunk, place, strict=True))
        return x, y, z

    def name(self, place: Place) -> str:
        """The name of a chunk, in its folder: the voxels that it has."""
        begins = [o + p * c for o, p, c in zip(self.offset, place, self.chunk, strict=True)]
        return "_".join(f"{a}-{a + n}" for a, n in zip(begins, self.extent(place), strict=True))

    def place(self, name: str) -> Place | None:
        """The chunk of this name, exactly as `name` makes it; None if there is none."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        begins = map(int, match.group(1, 3, 5))
        x, y, z = ((a - o) // c for a, o, c in zip(begins, self.offset, self.chunk, strict=True))
        inside = all(0 <= p < n for p, n in zip((x, y, z), self.grid, strict=True))
        return (x, y, z) if inside and self.name((x, y, z)) == name else None


def key_of(resolution: Triple) -> str:
    """The usual name of a scale's folder, such as 4_4_40."""
    return "_".join(_text(r) for r in resolution)


def _text(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(float(number))


def check_key(key: Any) -> str:
    """A scale's folder. ValueError if it is none below the layer's, or no plain name."""
    if isinstance(key, str) and len(key) <= 200:
        parts = key.split("/")
        if all(_KEY.fullmatch(part) and part.strip(".") for part in parts):
            return key
    raise ValueError(f"{key!r:.80} is no name of a folder within the layer")


def info_of(dtype: np.dtype[Any], scales: Sequence[Scale]) -> bytes:
    """The ``info`` of a layer whose chunks are Crackle streams."""
    document = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation",
        "data_type": dtype.name,
        "num_channels": 1,
        "scales": [
            {
                "key": scale.key,
                "size": list(scale.size),
                "resolution": [int(r) if r == int(r) else r for r in scale.resolution],
                "voxel_offset": list(scale.offset),
                "chunk_sizes": [list(scale.chunk)],
                "encoding": "crackle",
            }
            for scale in scales
        ],
    }
    return json.dumps(document, indent=1).encode()


# ---- reading ----


def scales_in(data: bytes) -> tuple[np.dtype[Any], list[Any]]:
    """The dtype of a layer, and what its ``info`` has of each scale, not looked at yet.

    Raises
    ------
    FormatError
        For what is no such document; `UnsupportedError` for labels that Crackle has not.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"it is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise _wrong("it is no JSON object")
    kind = document.get("@type", "neuroglancer_multiscale_volume")
    if kind != "neuroglancer_multiscale_volume":
        raise _wrong(f"it is of a {kind!r:.80}, not of a volume")
    if document.get("num_channels") != 1:
        raise _unsupported(f"num_channels is {document.get('num_channels')!r:.80}, not 1")
    name = document.get("data_type")
    if name not in DTYPES:
        raise _unsupported(f"data_type is {name!r:.80}, and not one of {', '.join(DTYPES)}")
    scales = document.get("scales")
    if not isinstance(scales, list) or not 0 < len(scales) <= _MOST_SCALES:
        raise _wrong("it has no list of scales")
    return np.dtype(name), scales


def scale_in(entry: Any) -> Scale:
    """A scale, from an entry of ``info``, whose chunks are Crackle streams.

    Raises
    ------
    FormatError
        For sizes that can't be, folders outside of the layer, and chunks of more voxels than
        `numcodecs_crackle.set_max_voxels` allows; `UnsupportedError` for other encodings.
    """
    if not isinstance(entry, dict):
        raise _wrong("a scale is no JSON object")
    try:
        key = check_key(entry.get("key"))
    except ValueError as error:
        raise _wrong(f"the scale's key {error}") from None
    if entry.get("encoding") != "crackle":
        raise _unsupported(f"scale {key} is encoded as {entry.get('encoding')!r:.80}, not crackle")
    if entry.get("sharding") is not None:
        raise _unsupported(f"scale {key} has its chunks in shards: copy it to one without them")
    chunks = entry.get("chunk_sizes")
    if not isinstance(chunks, list) or not chunks:
        raise _wrong(f"scale {key} has no chunk_sizes")
    scale = Scale(
        key,
        _voxels(entry.get("size"), key, "size", 0),
        _voxels(chunks[0], key, "chunk size", 1),
        _resolution(entry.get("resolution"), key),
        _voxels(entry.get("voxel_offset", [0, 0, 0]), key, "voxel_offset", -_MOST),
    )
    x, y, z = map(min, scale.chunk, (max(1, n) for n in scale.size))
    try:
        limits.check(z, x * y, 0)
    except FormatError as error:
        raise _wrong(f"a chunk of scale {key} is too large: {error.reason}") from None
    return scale


def _voxels(value: Any, key: str, what: str, least: int) -> Place:
    if not isinstance(value, list) or len(value) != 3:
        raise _wrong(f"the {what} of scale {key} is not three numbers")
    if not all(type(v) in (int, float) and v == v and abs(v) < _MOST for v in value):
        raise _wrong(f"the {what} of scale {key} is {value!r:.80}")
    x, y, z = (int(v) for v in value)
    if [x, y, z] != value or min(x, y, z) < least:
        raise _wrong(f"the {what} of scale {key} is {value!r:.80}")
    return x, y, z


def _resolution(value: Any, key: str) -> Triple:
    try:
        return check_resolution(value)
    except ValueError:
        raise _wrong(f"the resolution of scale {key} is {value!r:.80}") from None


def check_resolution(value: Any) -> Triple:
    """Nanometres a voxel, in x, y, z. ValueError for what is none."""
    try:
        if any(isinstance(v, str) for v in value):
            raise TypeError
        x, y, z = map(float, value)
        if not all(math.isfinite(v) and v > 0 for v in (x, y, z)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"a resolution is three positive numbers of nanometres, x, y, z, not {value!r:.80}"
        ) from None
    return x, y, z


def check_offset(value: Any) -> Place:
    """The first voxel, x, y, z. ValueError for what is none."""
    try:
        x, y, z = (int(v) for v in value)
        if [x, y, z] != list(value) or max(map(abs, (x, y, z))) >= _MOST:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"an offset is three whole numbers of voxels, x, y, z, not {value!r:.80}"
        ) from None
    return x, y, z


def _wrong(reason: str) -> FormatError:
    return FormatError(reason, INFO)


def _unsupported(reason: str) -> UnsupportedError:
    return UnsupportedError(reason, INFO)
