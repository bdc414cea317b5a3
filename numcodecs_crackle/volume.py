"""Label queries, statistics and edits over the stored chunks of a Zarr array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from numcodecs_crackle.store import Chunk
from numcodecs_crackle.volume_arrays import VolumeArrays
from numcodecs_crackle.volume_edit import VolumeEdits
from numcodecs_crackle.volume_faces import VolumeFaces
from numcodecs_crackle.volume_stats import VolumeStatistics

__all__ = ["LabelVolume", "chunk_labels"]


class LabelVolume(VolumeStatistics, VolumeFaces, VolumeEdits, VolumeArrays):
    """The labels of a Zarr array that this package coded, asked for without its voxels.

    Parameters
    ----------
    array : zarr.Array, path or URL
        Zarr 2 or 3, sharded or not, in any store. Axes, everywhere, are the array's own.
    mode : str
        With a path or URL: "r+", or "r" to refuse edits.
    storage_options : dict, optional
        With a URL: options for fsspec.
    executor : concurrent.futures.Executor, optional
        What work is sent to where an operation is given none.
    verify : bool
        Whether the label section of a chunk is verified where only some slices are read.
        With False a single slice takes a fraction of the bytes; its borders are verified
        still, its labels are not.
    on_error : "raise" or "skip"
        Whether a damaged chunk stops a query; else it is left out, a UserWarning names it,
        and it is appended to ``damaged``. Edits stop always.
    index : path, optional
        The folder of a label index of this array: see `build_index`. Before the first query
        it is checked against the array, and refreshed; `check_index` does so again.
    trust_index : bool
        Leave out that check: answers are right as of when the index was built.

    Attributes
    ----------
    array : zarr.Array
    damaged : list of FormatError
        With on_error="skip": what was left out; each has the chunk's ``key``.

    Raises
    ------
    TypeError
        If the array is not coded by this package, or is a group.
    FileNotFoundError, ValueError, FormatError
        If there is no index, or that of another array, or a damaged one.

    Notes
    -----
    Every operation takes ``executor`` and ``progress``: see `numcodecs_crackle.work.How`.
    A ``region`` is made of slices without steps, integers and an Ellipsis, as numpy's; what
    is told of it is exact. Chunks that are not stored have the fill value; what of a chunk at
    the edge stands out of the array never counts.

    Queries of labels read the table of each chunk, a few kilobytes. That alone has no
    checksum of its own; what reads borders or slices verifies them.
    """


def chunk_labels(array: Any) -> Iterator[tuple[Chunk, npt.NDArray[Any]]]:
    """The labels of every chunk of a Zarr array: see `LabelVolume.labels_by_chunk`."""
    return LabelVolume(array).labels_by_chunk()
