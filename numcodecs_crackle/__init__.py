"""Segmentation in Zarr as Crackle streams.

What takes or gives single streams has crackle-codec's names and arguments, so that it may be
imported in its place.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from numcodecs_crackle.array import CrackleArray, compressa
from numcodecs_crackle.blockwise import apply_binary_mask, binary_operator
from numcodecs_crackle.components import connected_components
from numcodecs_crackle.each import each
from numcodecs_crackle.edit import (
    add_scalar,
    ascontiguousarray,
    asfortranarray,
    astype,
    condense_unique,
    floordiv_scalar,
    mask,
    mask_except,
    multiply_scalar,
    recompress,
    reencode,
    refit,
    remap,
    renumber,
    subtract_scalar,
)
from numcodecs_crackle.errors import CrackleError, FormatError, UnsupportedError
from numcodecs_crackle.files import (
    aload,
    bload,
    cache_meta,
    load,
    load_header,
    load_num_labels,
    save,
    save_numpy,
)
from numcodecs_crackle.header import CrackFormat, CrackleHeader, LabelFormat
from numcodecs_crackle.limits import set_max_voxels
from numcodecs_crackle.measure import (
    array_equal,
    bounding_boxes,
    centroids,
    component_map,
    contacts,
    edge_labels,
    point_cloud,
    scattered_points,
    select_enclosed_points,
    signed_distance_to_boundary,
    structure_equal,
    to_parquet,
    voxel_connectivity_graph,
    voxel_counts,
    z_range_for_label,
)
from numcodecs_crackle.pool import mode_pooling_2x2x1
from numcodecs_crackle.stack import full, ones, zeros, zshatter, zsplit, zstack
from numcodecs_crackle.stream import (
    check,
    compress,
    contains,
    contains_range,
    decompress,
    decompress_range,
    header,
    labels,
    labels_for_z_range,
    max,
    min,
    nbytes,
    num_labels,
    ok,
)

if TYPE_CHECKING:
    from numcodecs_crackle.codec import Crackle
    from numcodecs_crackle.precomputed import from_precomputed, to_precomputed
    from numcodecs_crackle.precomputed_serve import serve
    from numcodecs_crackle.volume import LabelVolume, chunk_labels
    from numcodecs_crackle.zarr_codec import CrackleCodec

__version__ = "0.1.0"

# What imports zarr or numcodecs, which takes longer than all else: when it is asked for.
_LATER = {
    "Crackle": "codec",
    "CrackleCodec": "zarr_codec",
    "LabelVolume": "volume",
    "chunk_labels": "volume",
    "from_precomputed": "precomputed",
    "serve": "precomputed_serve",
    "to_precomputed": "precomputed",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__all__ = [
    "CrackFormat", "Crackle", "CrackleArray", "CrackleCodec", "CrackleError", "CrackleHeader",
    "FormatError", "LabelFormat", "LabelVolume", "UnsupportedError", "add_scalar", "aload",
    "apply_binary_mask", "array_equal", "ascontiguousarray", "asfortranarray", "astype",
    "binary_operator", "bload", "bounding_boxes", "cache_meta", "centroids", "check",
    "chunk_labels", "component_map", "compress", "compressa", "condense_unique",
    "connected_components", "contacts", "contains", "contains_range", "decompress",
    "decompress_range", "each", "edge_labels", "floordiv_scalar", "from_precomputed", "full",
    "header", "labels", "labels_for_z_range", "load", "load_header", "load_num_labels", "mask",
    "mask_except", "max", "min", "mode_pooling_2x2x1", "multiply_scalar", "nbytes",
    "num_labels", "ok", "ones", "point_cloud", "recompress", "reencode", "refit", "remap",
    "renumber", "save", "save_numpy", "scattered_points", "select_enclosed_points", "serve",
    "set_max_voxels", "signed_distance_to_boundary", "structure_equal", "subtract_scalar",
    "to_parquet", "to_precomputed", "voxel_connectivity_graph", "voxel_counts",
    "z_range_for_label", "zeros", "zshatter", "zsplit", "zstack",
]  # fmt: skip
