"""Stored arrays as the scales of a Neuroglancer precomputed layer: what a layer's chunks are."""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial as bound
from typing import Any, Literal

import numpy as np
import zarr

from numcodecs_crackle.chunks import fold
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.grid import bounds, piece_of, window_of
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.partial import Range
from numcodecs_crackle.precomputed_info import (
    DTYPES,
    Place,
    Scale,
    Triple,
    check_key,
    check_offset,
    check_resolution,
    key_of,
)
from numcodecs_crackle.spacing import Spacing, multiscale, names_of, spacing_of
from numcodecs_crackle.stack import full
from numcodecs_crackle.store import Chunk, ChunkStore

__all__ = ["ATTRIBUTE", "GZIP", "Edges", "Source", "sources_of"]

Edges = Literal["clip", "pad"]
# Of an array, where `from_precomputed` notes what Zarr has no place for.
ATTRIBUTE = "precomputed"
# What gzip'ed bytes begin with, and streams do not.
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Source:
    """An array, and the scale that it is.

    Parameters
    ----------
    axes
        The array's axes that are x, y and z; None for one that it has not.
    gzipped
        Whether chunks are stored as gzip'ed streams.
    """

    store: ChunkStore
    scale: Scale
    axes: tuple[int | None, int | None, int | None]
    gzipped: bool

    def chunk(self, place: Place) -> Chunk:
        """The array's chunk for one of the layer."""
        where = {a: p for a, p in zip(self.axes, place, strict=True) if a is not None}
        return tuple(where.get(a, 0) for a in range(len(self.store.shape)))

    def place(self, chunk: Chunk) -> Place:
        """The layer's chunk for one of the array."""
        x, y, z = (0 if a is None else chunk[a] for a in self.axes)
        return x, y, z

    def read(
        self,
        chunks: Sequence[Chunk],
        zipped: bool = False,
        every: bool = False,
        indices: dict[Chunk, Any] | None = None,
    ) -> list[bytes | None]:
        """The objects that chunks of the array are in the layer.

        Bytes are those that are stored; only chunks that the volume ends in are cut, and what
        is not the layer's coding is undone.

        Parameters
        ----------
        zipped
            As gzip'ed streams.
        every
            Make chunks that are not stored, too, if they are all 0.
        indices
            As of `ChunkStore.read`.

        Returns
        -------
        list of bytes
            None for what a reader is to take for 0.

        Raises
        ------
        FormatError
            For damage that is seen: of the header, and of what is cut or unpacked.
        """
        store, stored = self.store, self.store
        as_stored = zipped and self.gzipped
        if as_stored:
            stored = ChunkStore(store.array)
            stored.behind = ()
        whole: list[Chunk] = []
        cut: list[Chunk] = []
        for chunk in chunks:
            extent = self.scale.extent(self.place(chunk))
            (whole if as_stored and extent == self.scale.chunk else cut).append(chunk)
        found = dict(
            zip(
                (*whole, *cut),
                (
                    *stored.read([(c, bound(_as_stored, store)) for c in whole], indices),
                    *store.read([(c, bound(self._cut, c)) for c in cut], indices),
                ),
                strict=True,
            )
        )
        result: list[bytes | None] = []
        for chunk in chunks:
            data = found[chunk]
            if isinstance(data, FormatError):
                raise data
            if data is None and (every or store.fill != 0):
                extent = self.scale.extent(self.place(chunk))
                data = full(extent, int(store.fill), store.dtype, "F").binary
            if data is not None and zipped and data[:2] != GZIP:
                data = gzip.compress(data, 6, mtime=0)  # equal streams, equal bytes
            result.append(data)
        return result

    def _cut(self, chunk: Chunk) -> Generator[list[Range], list[Any], bytes | None]:
        """A plan for the stream of a chunk's voxels, those in the layer's volume."""
        shape = (
            self.store.shape
            if self.scale.extent(self.place(chunk)) != self.scale.chunk
            else tuple(n * c for n, c in zip(self.store.grid, self.store.chunks, strict=True))
        )
        window = window_of(self.store, chunk, bounds(None, shape))
        piece = yield from piece_of(self.store, window)
        return None if piece is None else piece.binary


def _as_stored(store: ChunkStore) -> Generator[list[Range], list[Any], bytes | None]:
    """A plan for a gzip'ed chunk as it is. Of its stream the header is looked at."""
    (data,) = yield [(0, None)]
    if data is None:
        return None
    try:
        first = zlib.decompressobj(31).decompress(data, 64)
    except zlib.error as error:
        raise FormatError(f"it is damaged as gzip: {error}") from None
    store.check(CrackleHeader.frombytes(first))
    return bytes(data)


# ---- what arrays are as scales ----


def sources_of(
    arrays: Any,
    resolution: Sequence[float] | None = None,
    voxel_offset: Sequence[int] | None = None,
    edges: Edges = "clip",
    key: str | None = None,
) -> list[Source]:
    """The scales that arrays are, the finest first: see `numcodecs_crackle.to_precomputed`."""
    if edges not in ("clip", "pad"):
        raise ValueError(f'edges must be "clip" or "pad", not {edges!r}')
    every = _arrays(arrays, resolution is None)
    dtypes = {np.dtype(array.dtype).name for array, _ in every}
    if len(dtypes) > 1:
        raise TypeError(f"the scales of a layer have one dtype, not {', '.join(sorted(dtypes))}")
    if key is not None and len(every) > 1:
        raise ValueError("a key is for a single scale: those of several are their resolutions")
    result: list[Source] = []
    known: list[Triple | None] = []
    is_placed = False  # by metadata: all scales, or none
    for array, spacing in every:
        store = ChunkStore(array)
        _check_dtype(store)
        axes = _axes(store, spacing.names)
        size, chunk = _sizes(store, axes)
        try:
            found, start = _placed(array, axes, spacing)
        except ValueError as error:
            if resolution is None:
                raise
            found, start, spacing = None, None, replace(spacing, fault=str(error))
        known.append(found)
        first = result[0].scale if result else None
        if first is None and voxel_offset is None and spacing.fault:
            # They may have told of one.
            text = f"the first voxel is taken for 0, 0, 0: {spacing.fault}"
            warnings.warn(text, stacklevel=3)
        ratio = (1.0, 1.0, 1.0)
        if first is not None:
            ratio = check_resolution(_ratio(known[0], found, first.size, size))
        if resolution is not None or found is None:
            given = (1, 1, 1) if resolution is None else resolution
            base = first.resolution if first else check_resolution(given)
            found = check_resolution([p * q for p, q in zip(base, ratio, strict=True)])
        if first is None:
            is_placed = voxel_offset is None and start is not None
        if not is_placed or start is None:
            if first is None:
                start = check_offset((0, 0, 0) if voxel_offset is None else voxel_offset)
            else:
                x, y, z = (math.floor(o / r) for o, r in zip(first.offset, ratio, strict=True))
                start = x, y, z
        if edges == "pad":
            x, y, z = (-(-n // c) * c for n, c in zip(size, chunk, strict=True))
            size = x, y, z
        scale = Scale(check_key(key_of(found) if key is None else key), size, chunk, found, start)
        result.append(Source(store, scale, axes, _is_gzip(store)))
    keys = [source.scale.key for source in result]
    if len(set(keys)) < len(keys):
        raise ValueError(f"scales must differ in resolution, and these are {', '.join(keys)}")
    return result


def _arrays(arrays: Any, needed: bool) -> list[tuple[Any, Spacing]]:
    """Arrays, and what is known of their axes. Faults of what is not needed are in `Spacing`."""
    if isinstance(arrays, (list, tuple)):
        if not arrays:
            raise ValueError("there is no array")
        return [one for entry in arrays for one in _arrays(entry, needed)]
    node = arrays
    if not isinstance(node, (zarr.Array, zarr.Group)):
        node = zarr.open(node, mode="r")
    if isinstance(node, zarr.Array):
        try:
            return [(node, spacing_of(node))]
        except ValueError as error:
            if needed:
                raise
            return [(node, Spacing(names_of(node), fault=str(error)))]
    result = []
    for path, spacing in multiscale(node).items():
        array = node.get(path)
        if not isinstance(array, zarr.Array) or array.ndim != len(spacing.names):
            raise ValueError(f"there is no array {path!r:.80} with the axes of {node.store_path}")
        result.append((array, spacing))
    return result


def _check_dtype(store: ChunkStore) -> None:
    if store.dtype.name not in DTYPES:
        raise TypeError(
            f"the labels are {store.dtype}, and Neuroglancer takes {', '.join(DTYPES)}: copy them "
            f'by array.astype("u{store.dtype.itemsize}") to an array of this dtype'
        )
    metadata = store.array.metadata
    if metadata.zarr_format == 2 and np.dtype(store.array.dtype).byteorder == ">":
        raise TypeError("the array is big-endian, and streams are not: copy it to one that is not")


def _axes(store: ChunkStore, names: Sequence[str]) -> tuple[int | None, int | None, int | None]:
    """The array's axes x, y and z: the fastest is x. Axes of 1 drop out if there are more."""
    here = store.axes
    if sum(store.shape[a] != 1 for a in here) > 3:
        raise TypeError(
            "more than 3 axes are longer than 1, and a layer has x, y and z: copy one channel, or "
            "point in time, to an array of its own"
        )
    kept = list(here)
    for a in here:
        is_unit = store.shape[a] == 1 and store.chunks[a] == 1
        if len(kept) > 3 and is_unit and names[a].lower() not in ("x", "y", "z"):
            kept.remove(a)
    if len(kept) > 3:
        raise TypeError(
            f"of the axes {tuple(names[a] or a for a in here)} more than 3 have chunks longer than "
            "1: copy the array to one whose other axes have chunks of 1"
        )
    kept.reverse()
    straight = tuple(range(len(here)))
    wrong = any(
        names[a].lower() in ("x", "y", "z") and names[a].lower() != name
        for a, name in zip(kept, "xyz", strict=False)
    )
    named = any(names[a].lower() == "x" for a in kept)
    unclear = here not in (straight, straight[::-1]) and not named
    if wrong or unclear:
        raise TypeError(
            f"streams have the axes {tuple(names[a] or a for a in here)}, the fastest last, and "
            "those of a layer z, y, x: copy the array to one without transposition"
        )
    x, y, z = (*kept, None, None, None)[:3]
    return x, y, z


def _sizes(store: ChunkStore, axes: Sequence[int | None]) -> tuple[Place, Place]:
    """Voxels of the volume and of a chunk. TypeError if streams have others."""
    sx, sy, sz = (1 if a is None else store.shape[a] for a in axes)
    x, y, z = (1 if a is None else store.chunks[a] for a in axes)
    if fold(store.coded_shape) != (x, y, z):
        raise TypeError(
            f"chunks of {x} x {y} x {z} voxels are coded as if without the axis of 1: copy the "
            "array to one with chunks that are wider in x and y"
        )
    return (sx, sy, sz), (x, y, z)


def _placed(
    array: Any, axes: Sequence[int | None], spacing: Spacing
) -> tuple[Triple | None, Place | None]:
    """The resolution and the first voxel, by an array's metadata."""
    noted = array.attrs.get(ATTRIBUTE)
    if isinstance(noted, dict) and {"resolution", "voxel_offset"} <= noted.keys():
        return check_resolution(noted["resolution"]), check_offset(noted["voxel_offset"])
    if spacing.steps is None or spacing.starts is None:
        return None, None
    steps = [1.0 if a is None else spacing.steps[a] for a in axes]
    starts = [0.0 if a is None else spacing.starts[a] for a in axes]
    # What a decimal fraction of a unit leaves behind the comma goes.
    resolution = check_resolution([float(f"{step:.9g}") for step in steps])
    places = [a / b for a, b in zip(starts, steps, strict=True)]
    if not all(map(math.isfinite, places)):
        raise ValueError(f"the first voxel is said to be at {starts} nm: give voxel_offset=")
    return resolution, check_offset([round(place) for place in places])


def _ratio(a: Triple | None, b: Triple | None, size: Place, smaller: Place) -> Triple:
    """How many times as large the voxels of a scale are: as it says, or by its size."""
    if a is not None and b is not None:
        x, y, z = (q / p for p, q in zip(a, b, strict=True))
    else:
        x, y, z = (float(max(1, round(n / max(1, m)))) for n, m in zip(size, smaller, strict=True))
    return x, y, z


def _is_gzip(store: ChunkStore) -> bool:
    if len(store.behind) != 1:
        return False
    (codec,) = store.behind
    name = getattr(codec, "codec_id", None) or codec.to_dict()["name"]
    return name in ("gzip", "numcodecs.gzip")
