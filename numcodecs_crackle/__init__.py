"""Segmentation in Zarr as Crackle streams."""

from numcodecs_crackle.chunks import chunk_labels
from numcodecs_crackle.codec import Crackle
from numcodecs_crackle.errors import CrackleError, FormatError, UnsupportedError
from numcodecs_crackle.header import CrackFormat, CrackleHeader, LabelFormat
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
from numcodecs_crackle.zarr_codec import CrackleCodec

__version__ = "0.1.0"

__all__ = [
    "CrackFormat",
    "Crackle",
    "CrackleCodec",
    "CrackleError",
    "CrackleHeader",
    "FormatError",
    "LabelFormat",
    "UnsupportedError",
    "check",
    "chunk_labels",
    "compress",
    "contains",
    "contains_range",
    "decompress",
    "decompress_range",
    "header",
    "labels",
    "labels_for_z_range",
    "max",
    "min",
    "nbytes",
    "num_labels",
    "ok",
]
