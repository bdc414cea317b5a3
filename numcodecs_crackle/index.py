"""The label index: statistics of every label in every chunk, kept in a folder of Parquet files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import partial as bound
from operator import index
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import partial
from numcodecs_crackle.chunk_stats import Sums, measure_plan
from numcodecs_crackle.edit import places_in
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.extras import required
from numcodecs_crackle.grid import batches
from numcodecs_crackle.index_parts import (
    NO_FINGERPRINT,
    Ids,
    Layout,
    Part,
    Rows,
    opened_part,
    sorted_rows,
    stamp_of,
    write_part,
)
from numcodecs_crackle.partial import Range
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.stream import fits
from numcodecs_crackle.work import How, run

__all__ = ["LabelIndex"]

# A part is written when it has so many rows.
_PART_ROWS = 1 << 18
# Of each chunk some 50 bytes are held.
_MOST_CHUNKS = 1 << 28
# Chunks of one piece of work: many where little of each is read, few where all is.
_MANY, _FEW = 64, 8
# The fingerprint of a chunk as it is stored: not known, and could not be told.
_UNKNOWN, _DAMAGED = -2, -3
# Where the rows of a chunk are, if in no part: nowhere, in memory.
_NOWHERE, _MEMORY = -1, -2
# Where they are to go, if in no part yet.
_NEW = np.iinfo(np.int32).max
_NAME = re.compile(r"part-(\d{1,12})\.parquet")

Report = Callable[[FormatError], None]


class LabelIndex:
    """The index of the labels of an array: a row for each label of each chunk.

    Parameters
    ----------
    store : ChunkStore
    path : str or path
        A local folder. There need not be one yet.
    names : sequence of str
        Of the array's axes.
    trust : bool
        Believe what the index has of chunks, instead of comparing fingerprints before the
        first query.

    Raises
    ------
    ValueError
        If there are Parquet files of another array, or of no index.
    FormatError
        If there is a damaged file; what other files have stays usable when it is removed.
    ImportError
        Without pyarrow.

    Notes
    -----
    Any reader of Parquet can ask the files ``*.parquet``: at all times they have each chunk
    once, though maybe not its latest state. Columns, with the names of the axes, or their
    numbers where they have none: ``label``; ``chunk_<axis>``, the place in the grid of chunks;
    ``voxel_count``; ``min_<axis>`` and ``max_<axis>``, the bounding box of the label in the
    chunk, inclusive, and ``sum_<axis>``, the sum of its voxels' places, both in voxels of the
    array: the sum over all chunks divided by that of the counts is the centroid.

    A file, or part, has some 262 144 rows, of neighbouring chunks, sorted by label and chunk,
    in groups of 16 384, so that a label is found in one or two groups of each. Each part tells
    the fingerprints of its chunks (of the checksums that they are stored with), and is replaced
    whole: rows and fingerprints always belong together. A chunk that was changed since is
    stale; it is measured again, not trusted. One process at a time should write.

    What it costs, of an array of n chunks: to check reads up to two small ranges of each (all
    of those behind other codecs); to update measures the chunks that are new or stale, and
    rewrites the parts that they are in, no others; to ask for a label reads the groups that
    may have it; to ask for all reads all rows. In memory there are about 50 bytes a chunk (200
    while chunks are checked or measured), the rows of one part, and the chunks in flight.
    """

    def __init__(
        self, store: ChunkStore, path: Any, names: Sequence[str], trust: bool = False
    ) -> None:
        self.path: str = os.fspath(path)
        self._store = store
        self.layout: Layout = Layout.of(store, names)
        self._trust = trust
        self._lock = RLock()
        count = math.prod(self.layout.grid)
        if count > _MOST_CHUNKS:
            raise ValueError(f"an array of {count:,} chunks is too large for an index")
        self._current = np.full(count, _UNKNOWN, np.int64)  # fingerprints as stored
        self._parts: list[_Held | None] = []
        self._stamps: dict[str, tuple[int, ...]] = {}
        self._load()

    def __repr__(self) -> str:
        return f"<LabelIndex {self.path}>"

    @property
    def trusted(self) -> bool:
        """Whether it is used without comparing fingerprints."""
        return self._trust

    def snapshot(self) -> LabelIndex:
        """It as it is now, for a query that reads it while others may change it."""
        with self._lock:
            view = copy(self)
            view._where, view._recorded = self._where.copy(), self._recorded.copy()
            view._current, view._parts = self._current.copy(), list(self._parts)
            return view

    # ---- what there is ----

    def _listed(self) -> dict[str, tuple[int, ...]]:
        stamps = {}
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(self.path)):
                if name.endswith(".parquet") and not name.startswith("."):
                    with suppress(FileNotFoundError):
                        stamps[name] = stamp_of(os.path.join(self.path, name))
        return stamps

    def _load(self) -> None:
        """Learn which parts there are, and what chunks they have."""
        known = {held.part.name: held.part for held in self._parts if held is not None}
        self._where = np.full(len(self._current), _NOWHERE, np.int32)
        self._recorded = np.full(len(self._current), NO_FINGERPRINT, np.int64)
        self._memory: Rows | None = None
        self._parts, self._stamps = [], {}
        for name, stamp in self._listed().items():
            part = known.get(name)
            if part is None or part.stamp != stamp:
                with opened_part(self.path, name, self.layout) as (_, part):
                    pass
            self._stamps[name] = part.stamp
            self._add(part)
        if self._trust:
            self._current[:] = self._recorded

    def _add(self, part: Part, at: int | None = None) -> None:
        """Take up a part, in the place of another, or as a new one."""
        k = len(self._parts) if at is None else at
        places = part.layout.places_of(part.ids)
        ids = self.layout.ids_of(places)
        mine = ids >= 0  # the array may have become smaller
        mine[mine] = self._where[ids[mine]] == _NOWHERE  # two writers may have had the same
        # A chunk at the edge of a resized array has other voxels that count, one that is not
        # stored has another fill value.
        same = (part.layout.inside(places) == self.layout.inside(places)).all(axis=1)
        if part.layout.fill != self.layout.fill:
            same &= part.fingerprints != 0
        self._where[ids[mine]] = k
        self._recorded[ids[mine]] = np.where(same, part.fingerprints, NO_FINGERPRINT)[mine]
        held = _Held(part, ids[mine])
        if at is None:
            self._parts.append(held)
        else:
            self._parts[k] = held

    def ready(self, how: How) -> None:
        """Check what is not known to be right, and refresh what is not right.

        In the folder if it is writable, else in memory. A chunk that can't be read is left to
        queries that touch it.
        """
        with self._lock:
            if self._listed() != self._stamps:
                self._load()
            if self._trust:
                return
            self._check(self._in_doubt & (self._recorded != NO_FINGERPRINT), how)
            if self._in_doubt.any():
                self._refresh(how, _ignored)

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Whether the rows of each chunk are right."""
        right: npt.NDArray[np.bool_] = self._recorded == self._current
        right &= self._recorded != NO_FINGERPRINT
        return right

    @property
    def _in_doubt(self) -> npt.NDArray[np.bool_]:
        doubt: npt.NDArray[np.bool_] = self._recorded != self._current
        doubt &= self._current != _DAMAGED
        return doubt

    # ---- checking, measuring ----

    def check(self, how: How) -> int:
        """Compare the fingerprints of all chunks, and refresh; how many were measured."""
        with self._lock:
            self._load()
            self._current[:] = _UNKNOWN
            self._check(self._recorded != NO_FINGERPRINT, how)
            return self._refresh(how, _ignored)

    def build(self, how: How, report: Report) -> int:
        """Bring the folder up to date; how many chunks were measured.

        ``report`` is called with the error of a damaged chunk, and may raise it; else the
        chunk is left out.
        """
        required("pyarrow", "index")  # before anything is measured
        with self._lock:
            os.makedirs(self.path, exist_ok=True)
            self._load()
            self._current[:] = _UNKNOWN
            self._check(self._recorded != NO_FINGERPRINT, how)
            self._current[self._current == _DAMAGED] = _UNKNOWN  # measuring tells more
            return self._update(how, report)

    def _refresh(self, how: How, report: Report) -> int:
        if os.access(self.path, os.W_OK):
            if self._memory is not None:
                self._load()
            return self._update(how, report)
        rows = [] if self._memory is None else [self._memory]
        count = 0
        for id, print_, found in self._measured(np.flatnonzero(self._in_doubt), how, report):
            if found is None:
                self._current[id] = _DAMAGED
                continue
            self._where[id] = _MEMORY
            self._recorded[id] = self._current[id] = print_
            rows.append(found)
            count += 1
        if count:
            new = np.concatenate([part.chunks for part in rows[self._memory is not None :]])
            if self._memory is not None:
                rows[0] = self._memory.at(~np.isin(self._memory.chunks, new))
            self._memory = sorted_rows(rows)
        return count

    def _check(self, which: npt.NDArray[np.bool_], how: How) -> None:
        ids = np.flatnonzero(which)
        work = batches(self._store, self.chunks_of(ids[self.order(ids)]), _MANY, wide=True)
        self._current[which] = _UNKNOWN
        for chunks, found in self._run(_fingerprint_plan, work, "Check", how):
            prints = [_DAMAGED if isinstance(one, FormatError) else one for one in found]
            self._current[self.ids_of(chunks)] = prints

    def _measured(
        self, ids: Ids, how: How, report: Report
    ) -> Iterator[tuple[int, int, Rows | None]]:
        """Chunks in the order of ``ids``, their fingerprints and rows; None for damaged ones."""
        work = batches(self._store, self.chunks_of(ids), _FEW)
        for chunks, found in self._run(_rows_plan, work, "Index", how):
            for id, result in zip(self.ids_of(chunks).tolist(), found, strict=True):
                if isinstance(result, FormatError):
                    report(result)
                    yield id, _DAMAGED, None
                else:
                    print_, sums = result
                    yield id, print_, Rows(np.full(len(sums.labels), id, np.int64), sums)

    def _run(
        self, plan: Callable[..., Any], work: Iterable[list[Chunk]], text: str, how: How
    ) -> Iterator[tuple[list[Chunk], list[Any]]]:
        every = list(work)
        if every:
            task = bound(_task, self._store, plan)
            total = sum(map(len, every))
            threads = self._store.threads
            results = run(task, every, text, total, len, **how, threads=threads)
            yield from zip(every, results, strict=True)

    def ids_of(self, chunks: Sequence[Chunk]) -> Ids:
        """The numbers of chunks."""
        places = np.array(chunks, np.int64).reshape(len(chunks), len(self.layout.grid))
        return self.layout.ids_of(places)

    def chunks_of(self, ids: Ids) -> list[Chunk]:
        """Chunks by their numbers."""
        return [tuple(place) for place in self.layout.places_of(ids).tolist()]

    def order(self, ids: Ids) -> npt.NDArray[np.intp]:
        """What puts chunks into the order of `grid.ChunksIn`."""
        per = np.array(self._store.per_object, np.int64)
        if (per == 1).all():
            return np.argsort(ids, kind="stable")
        objects = self.layout.places_of(ids) // per
        return np.lexsort((ids, *objects.T[::-1]))

    # ---- writing ----

    def _update(self, how: How, report: Report) -> int:
        """Measure what is in doubt: part by part, then what is in none. Write it as it goes."""
        ids = np.flatnonzero(self._in_doubt)
        ids = ids[self.order(ids)]
        home = np.where(self._where[ids] < 0, _NEW, self._where[ids])
        by_home = np.argsort(home, kind="stable")
        ids, home = ids[by_home], home[by_home]
        waiting, count = _Waiting(_NEW), 0
        try:
            for k, (id, print_, rows) in zip(
                home.tolist(), self._measured(ids, how, report), strict=True
            ):
                if waiting.home != k or (k == _NEW and waiting.rows >= _PART_ROWS):
                    done, waiting = waiting, _Waiting(k)
                    self._flush(done)
                waiting.add(id, print_, rows)
                count += rows is not None
        finally:  # whatever stopped it, what was measured is not lost
            self._flush(waiting)
        for k, held in enumerate(self._parts):
            if held is not None and held.foreign:
                self._replace(k, [], [], [])
        return count

    def _flush(self, waiting: _Waiting) -> None:
        self._current[waiting.damaged] = _DAMAGED
        k: int | None = waiting.home
        if not waiting.ids and (k == _NEW or not waiting.damaged):
            return
        if k == _NEW:
            # Small updates fill up a part, so that there are not ever more small ones.
            small = [
                i
                for i, held in enumerate(self._parts)
                if held is not None and held.part.rows < _PART_ROWS // 2
            ]
            k = small[-1] if small else None
        self._replace(k, waiting.parts, waiting.ids, waiting.prints, waiting.damaged)

    def _replace(
        self,
        k: int | None,
        rows: list[Rows],
        ids: list[int],
        prints: list[int],
        gone: Sequence[int] = (),
    ) -> None:
        """Write a part with other rows for some chunks, and without some; None for a new one."""
        held = None if k is None else self._parts[k]
        kept = np.zeros(0, np.int64)
        name = self._new_name()
        if held is not None and k is not None:
            name = held.part.name
            mine = held.ids[self._where[held.ids] == k]
            right = mine[self._recorded[mine] != NO_FINGERPRINT]
            kept = right[~np.isin(right, [*ids, *gone])]
            mask = np.zeros(len(self._current), np.bool_)
            mask[kept] = True
            rows = [*self._rows(k, mask), *rows]
            kept_prints = self._recorded[kept]
            self._where[mine], self._recorded[mine] = _NOWHERE, NO_FINGERPRINT
        else:
            kept_prints = kept
        every = np.concatenate([kept, np.array(ids, np.int64)])
        every_print = np.concatenate([kept_prints, np.array(prints, np.int64)])
        if not len(every):
            if k is not None:
                os.remove(os.path.join(self.path, name))
                del self._stamps[name]
                self._parts[k] = None
            return
        order = np.argsort(every)
        write_part(
            self.path, name, self.layout, sorted_rows(rows), every[order], every_print[order]
        )
        with opened_part(self.path, name, self.layout) as (_, part):
            pass
        self._stamps[name] = part.stamp
        self._current[ids] = prints
        self._add(part, k)

    def _new_name(self) -> str:
        numbers = [int(m[1]) for name in self._stamps if (m := _NAME.fullmatch(name))]
        return f"part-{max(numbers, default=-1) + 1:06d}.parquet"

    def doubt(self, chunks: Sequence[Chunk]) -> None:
        """Compare the fingerprints of chunks again before their rows are used."""
        with self._lock:
            self._current[self.ids_of(chunks)] = _UNKNOWN

    def relabel(
        self,
        chunks: Any,
        old: npt.NDArray[Any],
        new: npt.NDArray[Any],
        fingerprints: npt.ArrayLike,
        before: npt.ArrayLike | None = None,
    ) -> None:
        """Follow an edit that was made in the store: in some chunks labels became others.

        Their rows are changed without a look at voxels; each part that has any is rewritten
        once a call. Chunks whose rows were not right stay stale. If this is not called, or not
        finished, the chunks are stale: they are measured again.

        Parameters
        ----------
        chunks : array (n,) or (n, ndim)
            Each once: the numbers of chunks in the grid, C order, or their places in it.
        old, new : array (m,)
            Labels, each of ``old`` once, and what they became; others stayed.
        fingerprints : array (n,)
            Of the chunks as they are now: of a stream that is at hand
            ``partial.local(partial.fingerprint_of(), stream)``; 0 of one that is not stored.
        before : array (n,), optional
            Those of the chunks that were edited. Without them a chunk is believed to have been
            as it was when it was checked last.

        Raises
        ------
        OverflowError
            If a label does not fit the dtype of the array.
        IndexError
            For chunks outside of the grid.
        """
        old, new = _as_labels(old, self.layout.dtype), _as_labels(new, self.layout.dtype)
        by_label = np.argsort(old)
        old, new = old[by_label], new[by_label]
        with self._lock:
            if self._listed() != self._stamps:
                self._load()
            ids = np.asarray(chunks, np.int64)
            if ids.ndim != 1:
                ids = self.layout.ids_of(ids)
            if ((ids < 0) | (ids >= len(self._current))).any():
                raise IndexError(f"there are no such chunks in a grid of {self.layout.grid}")
            was = self._current[ids] if before is None else np.asarray(before, np.int64)
            prints = np.asarray(fingerprints, np.int64)
            self._current[ids] = prints
            if not os.access(self.path, os.W_OK):
                return
            where = self._where[ids]
            right = (self._recorded[ids] == was) & (was >= 0) & (where >= 0)
            for k in np.unique(where[right]).tolist():
                here = right & (where == k)
                mask = np.zeros(len(self._current), np.bool_)
                mask[ids[here]] = True
                rows = list(self._rows(k, mask))
                for part in rows:
                    part.sums.labels = _replaced(part.sums.labels, old, new)
                self._replace(k, rows, ids[here].tolist(), prints[here].tolist())

    # ---- reading ----

    def columns(
        self,
        mask: npt.NDArray[np.bool_],
        labels: npt.NDArray[Any] | None,
        names: list[str],
        chunks: bool,
    ) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Columns of the rows of chunks that a mask has, and of ``labels`` (sorted) or all.

        Those in files, some at a time, sorted by label; with ``chunks`` the columns of chunks,
        too.
        """
        for k in range(len(self._parts)):
            yield from self._of_part(k, mask, labels, names, chunks)

    def in_memory(
        self, mask: npt.NDArray[np.bool_], labels: npt.NDArray[Any] | None
    ) -> Rows | None:
        """The same of what is in no file."""
        if (rows := self._memory) is None:
            return None
        keep = mask[rows.chunks] & (self._where[rows.chunks] == _MEMORY)
        if labels is not None:
            keep &= np.isin(rows.sums.labels, labels)
        return rows.at(keep)

    def _of_part(
        self,
        k: int,
        mask: npt.NDArray[np.bool_],
        labels: npt.NDArray[Any] | None,
        names: list[str],
        chunks: bool,
    ) -> Iterator[dict[str, npt.NDArray[Any]]]:
        held = self._parts[k]
        if held is None or not (groups := held.part.groups(labels)):
            return
        mine = mask[held.ids] & (self._where[held.ids] == k)
        if not mine.any():
            return
        every = bool(mine.all()) and not held.foreign
        with opened_part(self.path, held.part.name, self.layout, held.part) as (file, part):
            if part is not held.part:  # another process has replaced it
                ids = self.layout.ids_of(part.layout.places_of(part.ids))
                if not np.isin(held.ids[mine], ids).all():
                    raise RuntimeError(f"{self.path} was changed meanwhile: ask again")
                groups, every = part.groups(labels), False
            names = [*names, *(self.layout.chunk_columns if chunks or not every else [])]
            for columns in part.columns(file, groups, names):
                if labels is not None:
                    columns = _of_labels(columns, labels)
                if not every:
                    ids = self.layout.chunks_in(columns)
                    keep = (ids >= 0) & mask[ids] & (self._where[ids] == k)
                    columns = {name: column[keep] for name, column in columns.items()}
                yield columns

    def _rows(self, k: int, mask: npt.NDArray[np.bool_]) -> Iterator[Rows]:
        for columns in self._of_part(k, mask, None, ["label", *self.layout.sum_columns], True):
            yield Rows(self.layout.chunks_in(columns), self.layout.sums_in(columns))


@dataclass
class _Held:
    """A part, and those of its chunks that it answers for, by the array's grid as it is now."""

    part: Part
    ids: Ids

    @property
    def foreign(self) -> bool:
        """Whether it has rows of others, too."""
        return len(self.ids) < len(self.part.ids)


class _Waiting:
    """What was measured and is to be written to one part."""

    def __init__(self, home: int) -> None:
        self.home = home
        self.rows = 0
        self.parts: list[Rows] = []
        self.ids: list[int] = []
        self.prints: list[int] = []
        self.damaged: list[int] = []

    def add(self, id: int, print_: int, rows: Rows | None) -> None:
        if rows is None:
            self.damaged.append(id)
            return
        self.ids.append(id)
        self.prints.append(print_)
        self.parts.append(rows)
        self.rows += len(rows.chunks)


# ---- where the work is done ----


def _task(store: ChunkStore, plan: Callable[..., Any], chunks: list[Chunk]) -> list[Any]:
    return store.read([(chunk, bound(plan, store, chunk)) for chunk in chunks])


def _fingerprint_plan(store: ChunkStore, _: Chunk) -> Generator[list[Range], list[Any], int]:
    """A plan for the fingerprint of a chunk; 0 if it is not stored."""
    found = yield from partial.fingerprint_of(store.check)
    return 0 if found is None else found


def _rows_plan(
    store: ChunkStore, chunk: Chunk
) -> Generator[list[Range], list[Any], tuple[int, Sums]]:
    """A plan for the fingerprint and the sums of a chunk, both of the same bytes."""
    (data,) = yield [(0, None)]
    everything = tuple((0, n) for n in store.shape)
    print_ = partial.local(_fingerprint_plan(store, chunk), data)
    return print_, partial.local(measure_plan(store, chunk, everything, None), data)


# ---- small things ----


def _ignored(_: FormatError) -> None:
    pass


def _as_labels(labels: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    found = np.asarray(labels)
    if found.dtype == dtype:
        return found
    values = [index(label) for label in found.tolist()]
    for value in values:
        if not fits(value, dtype):
            raise OverflowError(f"label {value} does not fit {dtype}")
    return np.array(values, dtype)


def _replaced(
    labels: npt.NDArray[Any], old: npt.NDArray[Any], new: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Labels, those of ``old`` (sorted) as ``new`` has them."""
    if not len(old):
        return labels
    at, hit = places_in(old, labels)
    return np.where(hit, new[at], labels)


def _of_labels(
    columns: dict[str, npt.NDArray[Any]], labels: npt.NDArray[Any]
) -> dict[str, npt.NDArray[Any]]:
    """The rows of some labels; both are sorted."""
    every = columns["label"]
    first = np.searchsorted(every, labels, "left")
    counts = np.searchsorted(every, labels, "right") - first
    before = np.cumsum(counts) - counts
    rows = np.arange(counts.sum()) + np.repeat(first - before, counts)
    return {name: column[rows] for name, column in columns.items()}
