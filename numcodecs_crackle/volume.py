"""Label queries, statistics and edits over the stored chunks of a Zarr array."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial as bound
from operator import index
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.extras import required
from numcodecs_crackle.grid import batches, bounds, chunks_in
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.stream import fits
from numcodecs_crackle.volume_components import connected_components
from numcodecs_crackle.volume_downsample import downsample
from numcodecs_crackle.volume_lookup import (
    holding_plan,
    labels_plan,
    mask_plan,
    voxels_plan,
)
from numcodecs_crackle.volume_stats import Merger, Statistics, Sums, measure_plan, merged
from numcodecs_crackle.work import How, run

__all__ = ["LabelVolume", "chunk_labels"]

# Chunks of one piece of work: many where little of each is read, few where much is.
_MANY, _FEW = 64, 8


class LabelVolume:
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
    on_error : "raise" or "skip"
        Whether a damaged chunk stops a query; else it is left out, a UserWarning names it,
        and it is appended to ``damaged``. Edits stop always.

    Attributes
    ----------
    array : zarr.Array
    damaged : list of FormatError
        With on_error="skip": what was left out; each has the chunk's ``key``.

    Raises
    ------
    TypeError
        If the array is not coded by this package.

    Notes
    -----
    Every operation takes ``executor`` and ``progress``: see `numcodecs_crackle.work.How`.
    A ``region`` is made of slices without steps, integers and an Ellipsis, as numpy's; what
    is told of it is exact. Chunks that are not stored have the fill value; what of a chunk at
    the edge stands out of the array never counts.

    Queries of labels read the table of each chunk, a few kilobytes. That alone has no
    checksum of its own; what reads borders or slices verifies them.
    """

    def __init__(
        self,
        array: Any,
        *,
        mode: Literal["r", "r+"] = "r+",
        storage_options: dict[str, Any] | None = None,
        executor: Any = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        if not hasattr(array, "store_path"):
            import zarr

            array = zarr.open_array(array, mode=mode, storage_options=storage_options)
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", not {on_error!r}')
        self.array = array
        self.damaged: list[FormatError] = []
        self._store = ChunkStore(array)
        self._executor = executor
        self._skip = on_error == "skip"

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

    # ---- work ----

    def _batches(
        self,
        text: str,
        plan: Callable[..., Any],
        chunks: Iterable[Chunk],
        most: int,
        how: How,
        reduce: Callable[[list[Any]], Any] | None = None,
    ) -> Iterator[Any]:
        """The results of plans for chunks, by batches: a list of pairs, or reduced ones."""
        every = list(chunks)
        work = list(batches(self._store, every, most))
        task = bound(_task, self._store, plan, reduce)
        how = self._how(how)
        for result, errors in run(task, work, text, len(work), **how):
            for error in errors:
                self._report(error)
            yield result

    def _how(self, how: How) -> How:
        return {
            "executor": how.get("executor") or self._executor,
            "progress": how.get("progress", False),
        }

    def _each(
        self, text: str, plan: Callable[..., Any], chunks: Iterable[Chunk], most: int, how: How
    ) -> Iterator[tuple[Chunk, Any]]:
        for pairs in self._batches(text, plan, chunks, most, how):
            yield from pairs

    def _report(self, error: FormatError) -> None:
        if not self._skip:
            raise error
        self.damaged.append(error)
        warnings.warn(f"left out: {error}", stacklevel=4)

    def _chunks(self, region: Any) -> tuple[Any, list[Chunk]]:
        window = bounds(region, self.shape)
        return window, list(chunks_in(self._store, window))

    def _known(self, labels: Any) -> npt.NDArray[Any]:
        """Labels, sorted, each once, without those that the dtype can't have."""
        array = np.asarray(labels)
        if array.dtype.kind == "b" or array.dtype == self.dtype:
            return np.unique(array.astype(self.dtype, copy=False))
        every = [index(label) for label in np.ravel(array).tolist()]
        return np.unique(np.array([v for v in every if fits(v, self.dtype)], self.dtype))

    # ---- labels, from the tables ----

    def labels(self, region: Any = None, **how: Unpack[How]) -> npt.NDArray[Any]:
        """The labels of the volume, or of a region: array (n,), sorted, each once."""
        window, chunks = self._chunks(region)
        found = np.zeros(0, self.dtype)
        waiting: list[npt.NDArray[Any]] = []
        rows = 0
        plan = bound(labels_plan, region=window)
        for part in self._batches("Labels", plan, chunks, _MANY, how, _union):
            waiting.append(part)
            rows += len(part)
            if rows > max(1 << 16, 2 * len(found)):
                found, waiting, rows = _union([found, *waiting]), [], 0
        return _union([found, *waiting])

    def num_labels(self, region: Any = None, **how: Unpack[How]) -> int:
        """The number of labels."""
        return len(self.labels(region, **how))

    def min(self, region: Any = None, **how: Unpack[How]) -> int:
        """The smallest label. ValueError if there are no voxels."""
        return self._extreme(0, region, how)

    def max(self, region: Any = None, **how: Unpack[How]) -> int:
        """The largest label. ValueError if there are no voxels."""
        return self._extreme(-1, region, how)

    def _extreme(self, which: int, region: Any, how: How) -> int:
        found = self.labels(region, **how)
        if not len(found):
            raise ValueError("there are no voxels")
        return int(found[which])

    def contains(self, label: int, region: Any = None, **how: Unpack[How]) -> bool:
        """Whether there is a label; stops at the first chunk that has it."""
        window, chunks = self._chunks(region)
        wanted = self._known([label])
        if not len(wanted):
            return False
        plan = bound(holding_plan, region=window, labels=wanted)
        return any(len(held) for _, held in self._each("Search", plan, chunks, _MANY, how))

    def __contains__(self, label: int) -> bool:
        return self.contains(label)

    def chunks_with(
        self, label: int | Iterable[int], region: Any = None, **how: Unpack[How]
    ) -> Any:
        """The chunks that have a label, or each of some labels.

        Returns
        -------
        list of tuple of int
            Places in the grid of chunks, C order (of shards after each other); with several
            labels a dict of such lists by label, of those that are there.
        """
        one = isinstance(label, (int, np.integer))
        window, chunks = self._chunks(region)
        wanted = self._known([label] if one else list(label))  # type: ignore[arg-type]
        found: dict[int, list[Chunk]] = {}
        if len(wanted):
            plan = bound(holding_plan, region=window, labels=wanted)
            for chunk, held in self._each("Search", plan, chunks, _MANY, how):
                for value in held.tolist():
                    found.setdefault(value, []).append(chunk)
        if one:
            return next(iter(found.values()), [])
        return dict(sorted(found.items()))

    def labels_by_chunk(
        self, region: Any = None, **how: Unpack[How]
    ) -> Iterator[tuple[Chunk, npt.NDArray[Any]]]:
        """The labels of each chunk, or of what of it lies in a region.

        Yields
        ------
        (place in the grid of chunks, array (n,) of labels, sorted)
        """
        window, chunks = self._chunks(region)
        plan = bound(labels_plan, region=window)
        return self._each("Labels", plan, chunks, _MANY, how)

    # ---- statistics, from borders ----

    def statistics(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        **how: Unpack[How],
    ) -> Statistics:
        """Voxel counts, bounding boxes and centroids as arrays.

        Parameters
        ----------
        label : int or iterable of int, optional
            Only these, of which those that are not there are left out. Chunks, and slices of
            chunks, without them are not read.
        region
            Only voxels in it; places are still those in the array.
        """
        return self._sums(label, region, how).statistics()

    def _sums(self, label: Any, region: Any, how: How) -> Sums:
        window, chunks = self._chunks(region)
        nothing = Sums.none(self.dtype, len(self.shape))
        labels = None
        if label is not None:
            one = isinstance(label, (int, np.integer))
            labels = self._known([label] if one else list(label))
            if not len(labels):
                return nothing
        merger = Merger(nothing)
        plan = bound(measure_plan, region=window, labels=labels)
        for part in self._batches("Statistics", plan, chunks, _FEW, how, merged):
            merger.add(part)
        return merger.result()

    def table(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """The same as a pyarrow table, one row a label, ascending.

        Columns: ``label``, ``voxel_count``, and for each axis ``min_``, ``max_`` (inclusive)
        and ``centroid_`` with its name, or its number where axes have no names. ImportError
        without pyarrow.
        """
        pa = required("pyarrow", "files")
        return pa.table(self._columns(self.statistics(label, region, **how)))

    def _columns(self, found: Statistics) -> dict[str, npt.NDArray[Any]]:
        n = len(self.shape)
        columns = {"label": found.labels, "voxel_count": found.voxel_counts}
        for i, name in enumerate(self.axis_names):
            columns[f"min_{name}"] = found.boxes[:, i]
            columns[f"max_{name}"] = found.boxes[:, n + i]
        for i, name in enumerate(self.axis_names):
            columns[f"centroid_{name}"] = found.centroids[:, i]
        return columns

    @property
    def axis_names(self) -> tuple[str, ...]:
        """The names that Zarr 3 has of the axes, where all are named; else their numbers."""
        names = getattr(self.array.metadata, "dimension_names", None) or ()
        if len(set(names)) == len(self.shape) and all(names):
            return tuple(map(str, names))
        return tuple(map(str, range(len(self.shape))))

    def voxel_counts(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """Voxels by label.

        Returns
        -------
        dict of int to int; an int if ``label`` is one

        Raises
        ------
        ValueError
            If there is no such label.
        """
        found = self.statistics(label, region, **how)
        return self._by_label(found, found.voxel_counts.tolist(), label)

    def bounding_boxes(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """The bounding box of each label: a tuple of slices, for each axis one.

        Returns
        -------
        dict of int to such tuples; a tuple if ``label`` is one

        Raises
        ------
        ValueError
            If there is no such label.
        """
        found = self.statistics(label, region, **how)
        n = len(self.shape)
        boxes = [
            tuple(slice(a, b + 1) for a, b in zip(row[:n], row[n:], strict=True))
            for row in found.boxes.tolist()
        ]
        return self._by_label(found, boxes, label)

    def centroids(
        self,
        label: int | Iterable[int] | None = None,
        region: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """The mean place of each label's voxels, in voxels: float64 array (ndim,).

        Returns
        -------
        dict of int to such arrays; an array if ``label`` is one

        Raises
        ------
        ValueError
            If there is no such label.
        """
        found = self.statistics(label, region, **how)
        return self._by_label(found, list(found.centroids), label)

    def _by_label(self, found: Statistics, rows: list[Any], label: Any) -> Any:
        if not isinstance(label, (int, np.integer)):
            return dict(zip(found.labels.tolist(), rows, strict=True))
        if not rows:
            raise ValueError(f"Label {label} not contained in image.")
        return rows[0]

    # ---- voxels ----

    def mask(
        self, label: int, region: Any = None, **how: Unpack[How]
    ) -> tuple[tuple[int, ...], npt.NDArray[np.bool_]]:
        """Where a label is. Only chunks and slices that have it are read.

        Returns
        -------
        offset : tuple of int
            The first voxel of the label's bounding box.
        mask : bool array
            Of the bounding box.

        Raises
        ------
        ValueError
            If there is no such label.
        """
        window, chunks = self._chunks(region)
        parts = []
        if len(self._known([label])):
            plan = bound(mask_plan, region=window, label=int(label))
            for _, part in self._each("Mask", plan, chunks, _FEW, how):
                if part is not None:
                    parts.append(part)
        if not parts:
            raise ValueError(f"Label {label} not contained in image.")
        low = np.min([offset for offset, _ in parts], axis=0)
        high = np.max([np.add(offset, part.shape) for offset, part in parts], axis=0)
        result = np.zeros(tuple((high - low).tolist()), np.bool_)
        for offset, part in parts:
            place = tuple(
                slice(o - a, o - a + n)
                for o, a, n in zip(offset, low.tolist(), part.shape, strict=True)
            )
            result[place] = part
        return tuple(low.tolist()), result

    def read(
        self,
        region: Any = None,
        labels: int | Iterable[int] | None = None,
        **how: Unpack[How],
    ) -> npt.NDArray[Any]:
        """The voxels of a region; in shards, too, only the slices of it are read.

        Parameters
        ----------
        labels : int or iterable of int, optional
            Others become 0; what has none of these is not decoded.

        Returns
        -------
        array
            With all axes: an integer in ``region`` gives one of length 1.
        """
        window, chunks = self._chunks(region)
        result = np.zeros(tuple(b - a for a, b in window), self.dtype)
        wanted = None
        if labels is not None:
            one = isinstance(labels, (int, np.integer))
            wanted = self._known([labels] if one else list(labels))  # type: ignore[arg-type]
        plan = bound(voxels_plan, region=window, labels=wanted)
        for _, found in self._each("Voxels", plan, chunks, _FEW, how):
            if found is None:
                continue
            place, voxels = found
            here = tuple(slice(a - o, b - o) for (a, b), (o, _) in zip(place, window, strict=True))
            result[here] = self._store.fill if voxels is None else voxels
        if np.dtype(self.array.dtype).kind == "b":
            return result.view(np.bool_)
        return result

    # ---- new arrays ----

    def connected_components(
        self,
        store: Any,
        connectivity: int = 26,
        *,
        dtype: npt.DTypeLike = np.uint64,
        binary_image: bool = False,
        name: str | None = None,
        overwrite: bool = False,
        storage_options: dict[str, Any] | None = None,
        **how: Unpack[How],
    ) -> Any:
        """Number the connected components of the labels, over chunks, into a new array.

        Components are numbered from 1 on by their first voxel: by the chunk that it is in, in
        C order of the chunks, and then by its place in the chunk, in the order in which chunks
        are coded (C order, but for transposed arrays and Zarr 2's order="F"). Label 0 is
        background, and stays 0.

        Parameters
        ----------
        store, name, overwrite, storage_options
            Where the new array is to be, as of ``zarr.create_array``.
        connectivity : 6, 18 or 26
            Voxels are connected by faces; by edges, too; by corners, too. In an array of 2
            axes 6 is by edges, and 18 and 26 by corners, too.
        dtype
            Of the numbers.
        binary_image : bool
            All labels but 0 count as one.

        Returns
        -------
        zarr.Array
            With the shape, chunks, shards, axis names, format and codecs of this one, its fill
            value 0. What is all background is not stored.

        Raises
        ------
        ValueError
            For another connectivity; if more than 3 axes are longer than 1; for a store that
            ``executor`` can't write to, and for a place within this array, or around it.
        OverflowError
            If the numbers do not fit the dtype, before any is written.
        FormatError
            For a damaged chunk, whatever ``on_error``.
        RuntimeError
            If a chunk was changed meanwhile.

        Notes
        -----
        Every chunk is read twice: to find what meets over borders, and to write its numbers.
        Memory is bounded by the chunks in flight, the outermost voxels, compressed, of up to
        one layer of chunks, some 40 bytes a component of each chunk, and 20 bytes a chunk.
        After an error the new array is not complete; call again with ``overwrite=True``.
        """
        options = {"name": name, "overwrite": overwrite, "storage_options": storage_options}
        how = self._how(how)
        return connected_components(
            self._store, store, connectivity, dtype, binary_image, options, how
        )

    def downsample(
        self,
        store: Any,
        factors: int | Sequence[int] = 2,
        *,
        sparse: bool = False,
        chunks: Sequence[int] | None = None,
        name: str | None = None,
        overwrite: bool = False,
        storage_options: dict[str, Any] | None = None,
        **how: Unpack[How],
    ) -> Any:
        """Halve the volume along some axes, by the most frequent label, into a new array.

        Each block of voxels becomes its most frequent label. Of labels that are equally
        frequent it is the one that reaches its count first, in C order of the block's voxels;
        but if no two voxels of a whole block are equal, it is the last voxel's. So a whole
        block of 2 x 2 becomes what `mode_pooling_2x2x1` makes of it. Of a block that the
        array's edge cuts the voxels there count.

        Parameters
        ----------
        store, name, overwrite, storage_options
            Where the new array is to be, as of ``zarr.create_array``.
        factors : 1, 2, or a sequence of these
            For all axes, or for each.
        sparse : bool
            Label 0 does not count where there is another.
        chunks : sequence of int, optional
            Of the new array; by default as of this one. A shard has as many as here.

        Returns
        -------
        zarr.Array
            Of shape ceil(n / factor), with the dtype, shards, axis names, fill value, format
            and codecs of this one. What is all of the fill value is not stored.

        Raises
        ------
        ValueError
            For other factors, or chunks of other axes; for a store that ``executor`` can't
            write to, and for a place within this array, or around it.
        FormatError
            For a damaged chunk, whatever ``on_error``.

        Notes
        -----
        Work is done by objects of the new array, of which each is written once. At a time the
        voxels of one chunk are decoded; where chunks are not a multiple of the factor long,
        of all those below a new chunk. After an error the new array is not complete; call
        again with ``overwrite=True``.
        """
        options = {"name": name, "overwrite": overwrite, "storage_options": storage_options}
        how = self._how(how)
        return downsample(self._store, store, factors, sparse, chunks, options, how)


def _task(
    store: ChunkStore,
    plan: Callable[..., Any],
    reduce: Callable[[list[Any]], Any] | None,
    chunks: list[Chunk],
) -> tuple[Any, list[FormatError]]:
    """What plans give for some chunks, and the errors; sent to where the work is done."""
    found = store.read([(chunk, bound(plan, store, chunk)) for chunk in chunks])
    errors = [result for result in found if isinstance(result, FormatError)]
    pairs = [
        (chunk, result)
        for chunk, result in zip(chunks, found, strict=True)
        if not isinstance(result, FormatError)
    ]
    if reduce is None:
        return pairs, errors
    nothing = Sums.none(store.dtype, len(store.shape)) if reduce is merged else None
    results = [result for _, result in pairs]
    return reduce(results if nothing is None else [nothing, *results]), errors


def _union(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint8)


def chunk_labels(array: Any) -> Iterator[tuple[Chunk, npt.NDArray[Any]]]:
    """The labels of every chunk of a Zarr array: see `LabelVolume.labels_by_chunk`."""
    return LabelVolume(array).labels_by_chunk()
