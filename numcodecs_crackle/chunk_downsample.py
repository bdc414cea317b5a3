"""An array of half the voxels along some axes, by the most frequent label."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial as bound
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.chunk_lookup import voxels_plan
from numcodecs_crackle.grid import ChunksIn, Window, origin_of
from numcodecs_crackle.new_array import array_like, by_object, encoded, read_all, write_object
from numcodecs_crackle.partial import Range
from numcodecs_crackle.pool import modes
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.work import How, run

__all__ = ["downsample"]

# Chunks that are read at once.
_FEW = 8

Found = tuple[Window, npt.NDArray[Any] | None]  # where voxels are, and they; None for the fill


def downsample(
    source: ChunkStore,
    store: Any,
    factors: int | Sequence[int],
    sparse: bool,
    chunks: Sequence[int] | None,
    options: dict[str, Any],
    how: How,
) -> Any:
    """See `LabelVolume.downsample`. ``options``: those of the new array's place."""
    ndim = len(source.shape)
    every = (factors,) * ndim if isinstance(factors, (int, np.integer)) else tuple(factors)
    if len(every) != ndim or any(f not in (1, 2) for f in every):
        raise ValueError(f"factors are 1 or 2 for each of {ndim} axes, not {factors!r}")
    by = tuple(map(int, every))
    new_chunks = None if chunks is None else tuple(map(index, chunks))
    if new_chunks is not None and (len(new_chunks) != ndim or min(new_chunks, default=1) < 1):
        raise ValueError(f"chunks are {ndim} positive numbers, not {chunks!r}")
    result = array_like(
        source,
        store,
        how,
        dtype=source.array.dtype,
        fill_value=source.array.fill_value,
        shape=tuple(-(-n // f) for n, f in zip(source.shape, by, strict=True)),
        chunks=new_chunks,
        **options,
    )
    count = sum(1 for _ in by_object(result))
    task = bound(_write, _Halving(source, result, by, sparse))
    for _ in run(task, by_object(result), "Downsampling", count, **how, threads=source.threads):
        pass
    return result.array


@dataclass
class _Halving:
    """What is made of what."""

    source: ChunkStore
    result: ChunkStore
    factors: tuple[int, ...]
    sparse: bool

    def plan(
        self, chunk: Chunk, region: Window, whole_blocks: bool
    ) -> Generator[list[Range], list[Any], Found]:
        """A plan for a chunk in a region: its voxels, or the modes of its blocks."""
        found = yield from voxels_plan(self.source, chunk, region, None)
        assert found is not None
        place, voxels = found
        if not whole_blocks:
            return place, voxels
        small = tuple((a // f, -(-b // f)) for (a, b), f in zip(place, self.factors, strict=True))
        return small, None if voxels is None else modes(voxels, self.factors, self.sparse)

    def chunk(self, chunk: Chunk) -> bytes | None:
        """The stream of a chunk of the result; None if all is the fill value."""
        fill = self.source.fill
        start = origin_of(self.result, chunk)
        shape = self.result.shape
        stop = [min(a + c, n) for a, c, n in zip(start, self.result.chunks, shape, strict=True)]
        window = tuple(zip(start, stop, strict=True))
        region = tuple(
            (a * f, min(b * f, n))
            for (a, b), f, n in zip(window, self.factors, self.source.shape, strict=True)
        )
        # No block is in two chunks: then the voxels of one are there at a time.
        whole_blocks = all(
            c % f == 0 for c, f in zip(self.source.chunks, self.factors, strict=True)
        )
        target = window if whole_blocks else region
        voxels: npt.NDArray[Any] | None = None
        every = list(ChunksIn(self.source, region))
        for i in range(0, len(every), _FEW):
            few = [(c, bound(self.plan, c, region, whole_blocks)) for c in every[i : i + _FEW]]
            for place, part in read_all(self.source, few):
                if part is None:
                    continue
                if voxels is None:
                    voxels = np.full([b - a for a, b in target], fill, self.source.dtype)
                at = tuple(
                    slice(a - o, b - o) for (a, b), (o, _) in zip(place, target, strict=True)
                )
                voxels[at] = part
        if voxels is None:
            return None
        if not whole_blocks:
            voxels = modes(voxels, self.factors, self.sparse)
        return None if (voxels == fill).all() else encoded(self.result, voxels, fill)


def _write(halving: _Halving, chunks: list[Chunk]) -> None:
    """Write an object of the new array, if it has other labels than the fill value."""
    streams = {chunk: halving.chunk(chunk) for chunk in chunks}
    write_object(halving.result, {c: stream for c, stream in streams.items() if stream is not None})
