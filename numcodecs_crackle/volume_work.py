"""What the parts of a `LabelVolume` stand on: its array, its index, and work on its chunks."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from functools import partial as bound
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt
import zarr

from numcodecs_crackle.edit import integers
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.grid import ChunksIn, ChunksOf, Window, batches, bounds, objects_in
from numcodecs_crackle.index import LabelIndex
from numcodecs_crackle.index_answers import Covered, covered
from numcodecs_crackle.listing import LIST_FROM, stored_objects
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.stream import fits
from numcodecs_crackle.work import How, check_how, run

__all__ = ["FEW", "MANY", "VolumeWork"]

# Chunks of one piece of work: many where little of each is read, few where much is.
MANY, FEW = 64, 8
# What is sent to other processes is so many times as much.
_FAR = 4


class VolumeWork:
    """An array of labels, and how questions are put to its chunks."""

    def __init__(
        self,
        array: Any,
        *,
        mode: Literal["r", "r+"] = "r+",
        storage_options: dict[str, Any] | None = None,
        executor: Any = None,
        verify: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        index: Any = None,
        trust_index: bool = False,
    ) -> None:
        if mode not in ("r", "r+"):  # zarr's others make arrays, in the place of those there are
            raise ValueError(f'mode must be "r" or "r+", not {mode!r}')
        if not isinstance(array, (zarr.Array, zarr.Group)):
            array = zarr.open(array, mode=mode, storage_options=storage_options)
        if isinstance(array, zarr.Group):
            raise TypeError(f"{array.store_path} is a group: open one of its arrays")
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", not {on_error!r}')
        self.array = array
        self.damaged: list[FormatError] = []
        self._store = ChunkStore(array, verify)
        self._executor = executor
        self._skip = on_error == "skip"
        self._fill = np.array([self._store.fill], self._store.dtype)
        self._index: LabelIndex | None = None
        if index is not None:
            if not os.path.isdir(index):
                raise FileNotFoundError(f"no label index at {index}: build_index makes one")
            self._index = LabelIndex(self._store, index, self.axis_names, trust_index)

    def __repr__(self) -> str:
        store = self._store
        return f"<LabelVolume {store.shape} {self.dtype}, chunks {store.chunks}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return self._store.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the labels; of a bool array uint8."""
        return self._store.dtype

    @property
    def axis_names(self) -> tuple[str, ...]:
        """The names that Zarr 3 has of the axes, where all are named; else their numbers."""
        names = getattr(self.array.metadata, "dimension_names", None) or ()
        if len(set(names)) == len(self.shape) and all(names):
            return tuple(map(str, names))
        return tuple(map(str, range(len(self.shape))))

    # ---- work ----

    def _batches(
        self,
        text: str,
        plan: Callable[..., Any],
        chunks: Iterable[Chunk],
        most: int,
        how: How,
        reduce: Callable[[list[Any]], Any] | None = None,
        strict: bool = False,
    ) -> Iterator[Any]:
        """The results of plans for chunks, by batches: a list of pairs, or reduced ones.

        ``strict``: damage is raised in any case.
        """
        small = most == MANY or reduce is not None  # of what a chunk gives
        options = self._options(how)
        executor = options["executor"]
        far = executor is not None and not isinstance(executor, ThreadPoolExecutor)
        work = batches(self._store, chunks, most * _FAR if far and small else most, small)
        task = bound(_task, self._store, plan, reduce, most)
        total = len(chunks) if isinstance(chunks, Sized) else None
        for result, errors in run(
            task, work, text, total, len, **options, threads=self._store.threads
        ):
            for error in errors:
                self._report(error, strict)
            yield result

    def _options(self, how: How) -> How:
        check_how(how)
        return {
            "executor": how.get("executor") or self._executor,
            "progress": how.get("progress", False),
        }

    def _each(
        self,
        text: str,
        plan: Callable[..., Any],
        chunks: Iterable[Chunk],
        most: int,
        how: How,
        strict: bool = False,
    ) -> Iterator[tuple[Chunk, Any]]:
        for pairs in self._batches(text, plan, chunks, most, how, strict=strict):
            yield from pairs

    def _report(self, error: FormatError, strict: bool = False) -> None:
        if strict or not self._skip:
            raise error
        self.damaged.append(error)
        warnings.warn(f"left out: {error}", stacklevel=4)

    def _chunks(self, region: Any) -> tuple[Window, ChunksIn]:
        window = bounds(region, self.shape)
        return window, ChunksIn(self._store, window)

    def _covered(self, region: Any, how: How) -> tuple[Any, Covered]:
        """A region, and what of it the index answers."""
        window = bounds(region, self.shape)
        return window, covered(self._index, self._store, window, self._options(how))

    def _present(self, window: Window, chunks: Any) -> tuple[Any, list[Chunk] | None]:
        """The chunks of a region but for those that a listing does not have.

        And the objects that it has, where it leaves out any; None where all are to be asked.
        """
        if not isinstance(chunks, ChunksIn):
            return chunks, None
        if len(chunks) < LIST_FROM:
            return chunks, None
        ranges = objects_in(self._store, window)
        total = math.prod(map(len, ranges))
        found = stored_objects(self._store, ranges)
        if found is None or len(found) == total:
            return chunks, None
        return ChunksOf(self._store, window, found), found

    def _known(self, labels: Any) -> npt.NDArray[Any]:
        """Labels, sorted, each once, without those that the dtype can't have."""
        array = np.asarray(labels)
        if array.dtype.kind == "b" or array.dtype == self.dtype:
            return np.unique(array.astype(self.dtype, copy=False))
        # Of large numbers beside others numpy makes floats.
        every = integers(labels).tolist()
        return np.unique(np.array([v for v in every if fits(v, self.dtype)], self.dtype))

    # ---- the label index ----

    def build_index(self, path: Any = None, **how: Unpack[How]) -> int:
        """Build a label index, or bring one up to date, and use it from then on.

        A row for each label of each chunk, with its voxel count, bounding box and sums of
        places, in a folder of Parquet files, which DuckDB or pyarrow can read as well: see
        `numcodecs_crackle.index.LabelIndex`. Statistics and lookups then read rows of it;
        only chunks that a region cuts are still read themselves.

        All chunks are measured that are not in it, or were changed since, and only those: so
        the same call goes on after an interruption, where what was written stays.

        Parameters
        ----------
        path : str or path, optional
            A local folder, made if need be; without it the index in use.

        Returns
        -------
        int
            How many chunks were measured.

        Raises
        ------
        ValueError
            If the folder has the index of another array, or other Parquet files.
        FormatError
            For a damaged chunk, unless on_error="skip", or a damaged file of the index.
        """
        if path is None:
            return self._in_use().build(self._options(how), self._report)
        new = LabelIndex(self._store, path, self.axis_names)
        count = new.build(self._options(how), self._report)
        self._index = new
        return count

    def check_index(self, **how: Unpack[How]) -> int:
        """Compare the index with the array and refresh it; how many chunks were measured.

        Refreshed are the files if they can be written to, else what this volume answers.
        """
        return self._in_use().check(self._options(how))

    def _in_use(self) -> LabelIndex:
        if self._index is None:
            raise ValueError("there is no index in use: build_index(path) makes one")
        return self._index


def _task(
    store: ChunkStore,
    plan: Callable[..., Any],
    reduce: Callable[[list[Any]], Any] | None,
    most: int,
    chunks: list[Chunk],
) -> tuple[Any, list[FormatError]]:
    """What plans give for some chunks, and the errors; sent to where the work is done.

    ``most`` chunks are read at once. Chunks of a shard that come together share its index.
    """
    pairs: list[tuple[Chunk, Any]] = []
    errors: list[FormatError] = []
    parts: list[Any] = []
    indices: dict[Chunk, Any] = {}
    for i in range(0, len(chunks), most):
        few = chunks[i : i + most]
        results = store.read([(chunk, bound(plan, store, chunk)) for chunk in few], indices)
        right = [
            (c, found) for c, found in zip(few, results, strict=True)
            if not isinstance(found, FormatError)
        ]  # fmt: skip
        errors += [found for found in results if isinstance(found, FormatError)]
        if reduce is None:
            pairs += right
        else:
            parts = [reduce([*parts, *(found for _, found in right)])]
    return (pairs if reduce is None else parts[0]), errors
