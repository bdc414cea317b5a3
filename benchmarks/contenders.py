"""Who is measured: one way to code a volume each, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import compressed_segmentation
import compresso
import crackle
import numpy as np
import numpy.typing as npt
from numcodecs import Blosc, Zstd, blosc

import numcodecs_crackle
from benchmarks import OURS, REFERENCE

blosc.set_nthreads(1)

Volume = npt.NDArray[Any]


@dataclass(frozen=True)
class Contender:
    """``encode`` takes the volume; ``decode`` what encode gave, and the volume for its shape.

    ``limit`` marks the row that codes nothing and shows what memory allows: reading the
    volume once, and filling fresh memory.
    """

    name: str
    encode: Callable[[Volume], Any]
    decode: Callable[[Any, Volume], Volume]
    limit: bool = False


def _flat(codec: Any) -> tuple[Callable[[Volume], Any], Callable[[Any, Volume], Volume]]:
    def decode(data: Any, like: Volume) -> Volume:
        flat = np.frombuffer(codec.decode(data), like.dtype)
        return flat.reshape(like.shape, order="F" if like.flags.f_contiguous else "C")

    return lambda volume: codec.encode(volume.reshape(-1, order="A")), decode


def _order(volume: Volume) -> str:
    return "F" if volume.flags.f_contiguous else "C"


def contenders() -> list[Contender]:
    return [
        Contender(
            OURS,
            lambda v: numcodecs_crackle.compress(v, parallel=1),
            lambda data, v: numcodecs_crackle.decompress(data, parallel=1),
        ),
        Contender(
            REFERENCE,
            lambda v: crackle.compress(v, parallel=1),
            lambda data, v: crackle.decompress(data, parallel=1),
        ),
        Contender("Zstd(3)", *_flat(Zstd(level=3))),
        Contender("Zstd(0)", *_flat(Zstd(level=0))),
        Contender("Blosc(lz4)", *_flat(Blosc("lz4"))),
        Contender("Blosc(zstd, 5, bitshuffle)", *_flat(Blosc("zstd", 5, Blosc.BITSHUFFLE))),
        Contender(
            "compresso",
            compresso.compress,
            lambda data, v: compresso.decompress(data),
        ),
        Contender(
            "compressed_segmentation",
            lambda v: compressed_segmentation.compress(v, order=_order(v)),
            lambda data, v: compressed_segmentation.decompress(
                data, v.shape, v.dtype, order=_order(v)
            ),
        ),
        Contender("limit: read, fill", np.max, lambda data, v: np.full_like(v, data), limit=True),
    ]
