"""How many voxels a stream is believed to have.

A few bytes can claim 2^60 voxels of one label. Where the caller knows the shape, as that of an
array's chunks, a stream of another is refused. Else so much is believed: 2^31 voxels at a time,
slices of 2^27, and 2^11 voxels more for each byte that the stream has, which no volume of cells
comes near. What reads the label table alone is not limited.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from numcodecs_crackle.errors import FormatError

__all__ = ["set_max_voxels"]

VOLUME = 1 << 31
SLICE = 1 << 27
PER_BYTE = 1 << 11
# What a caller says who knows the shape: more voxels than there can be.
EXPECTED = 1 << 96

_everywhere: int | None = None
_here: ContextVar[int | None] = ContextVar("max_voxels", default=None)


def checked(voxels: int | None) -> int | None:
    """A limit that a caller gave. TypeError or ValueError for what is none."""
    if voxels is None:
        return None
    if isinstance(voxels, bool) or voxels != int(voxels):
        raise TypeError(f"max_voxels must be an integer or None, not {voxels!r}")
    if voxels < 0:
        raise ValueError(f"max_voxels must not be negative: {voxels}")
    return int(voxels)


def set_max_voxels(voxels: int | None) -> int | None:
    """Set how many voxels at a time are taken from a stream whose shape nobody expects.

    It holds in this process for all that reads borders or makes arrays: `decompress`,
    `voxel_counts`, `recompress`, indexing a `CrackleArray` ... A ``max_voxels`` that a call
    is given goes before. Chunks of a Zarr 3 array and those that a `LabelVolume` reads have
    an expected shape instead; of Zarr 2, zarr does not tell it to the codec.

    Parameters
    ----------
    voxels : int or None
        None, as in the beginning: 2**31 voxels and slices of 2**27, and 2**11 more for each
        byte of the stream.

    Returns
    -------
    int or None
        What held before.
    """
    global _everywhere
    before, _everywhere = _everywhere, checked(voxels)
    return before


@contextmanager
def max_voxels(voxels: int | None) -> Iterator[None]:
    """Within: a limit of its own, unless it is None."""
    if voxels is None:
        yield
        return
    token = _here.set(checked(voxels))
    try:
        yield
    finally:
        _here.reset(token)


def _limit(own: int | None) -> int | None:
    for limit in (own, _here.get()):
        if limit is not None:
            return limit
    return _everywhere


def most(nbytes: int, own: int | None = None) -> int:
    """The voxels that a stream of ``nbytes`` is believed to have."""
    limit = _limit(own)
    return VOLUME + PER_BYTE * nbytes if limit is None else limit


def check(slices: int, pixels: int, nbytes: int, own: int | None = None) -> None:
    """`FormatError` if so many slices of a stream of ``nbytes`` are more than is believed.

    ``own``: a limit of the stream or the call, which goes before others.
    """
    voxels = slices * pixels
    limit = _limit(own)
    if limit is not None:
        if voxels > limit:
            raise FormatError(f"{voxels} voxels, and max_voxels is {limit}", "header")
        return
    earned = PER_BYTE * nbytes
    if voxels > VOLUME + earned or (slices and pixels > SLICE + earned):
        raise FormatError(
            f"{slices} slices of {pixels} voxels are claimed by {nbytes} bytes: "
            f"if that is right, a max_voxels of {voxels} allows it",
            "header",
        )
