"""The edits of a `LabelVolume`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial as bound
from itertools import chain
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.chunk_edit import ChunkEdit, Edit, Journal, mapping_arrays, rewrite, work_on
from numcodecs_crackle.chunk_lookup import labels_plan, stored_labels_plan
from numcodecs_crackle.edit import places_in
from numcodecs_crackle.errors import CrackleError
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.objects import is_of_one_process
from numcodecs_crackle.partial import FIRST_BYTES, Range
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.volume_lookup import VolumeLookup, union
from numcodecs_crackle.volume_work import MANY
from numcodecs_crackle.work import How, in_process, run

__all__ = ["VolumeEdits"]


class VolumeEdits(VolumeLookup):
    """Edits in the store: label tables of chunks are rewritten, no voxel is decoded.

    A chunk, or shard, is replaced whole or not at all: readers see it as it was or as it is
    to be. In a shard, what is replaced stays until the next edit wants its place, for readers
    that have the shard's old index. An edit that was interrupted, by an error, too, has changed
    some chunks and not others; run again it ends as if nothing had happened. Nobody else may
    write meanwhile.
    """

    def remap(
        self, mapping: Mapping[int, int], *, dry_run: bool = False, **how: Unpack[How]
    ) -> Edit:
        """Change labels by a mapping of old to new; others stay.

        Where the fill value is mapped, chunks that are not stored are written. Borders
        between labels that became equal stay, and cost bytes, until `recompress`.

        Parameters
        ----------
        dry_run : bool
            Only tell what would change.

        Returns
        -------
        Edit

        Raises
        ------
        OverflowError
            Before anything is written, if a new label does not fit the array's dtype.
        PermissionError, TypeError
            If the array is read only, or its store can't replace what it has.
        CrackleError
            If another edit was interrupted: run that again first, or `resume` it.
        """
        old, new = mapping_arrays(mapping, self._store.dtype)
        return self._edit("remap", old, new, dry_run, how)

    def mask_labels(
        self,
        labels: int | Iterable[int],
        value: int = 0,
        *,
        dry_run: bool = False,
        **how: Unpack[How],
    ) -> Edit:
        """Give labels one value: see `remap`."""
        every = [labels] if isinstance(labels, (int, np.integer)) else list(labels)
        return self.remap(dict.fromkeys(every, value), dry_run=dry_run, **how)

    def renumber(self, start: int = 0, *, dry_run: bool = False, **how: Unpack[How]) -> Edit:
        """Number the labels from ``start`` on, ascending: see `remap`.

        The fill value is a label where there are chunks that are not stored. The dtype stays.
        """
        what = f"renumber {int(start)}"
        journal = Journal.found(self._store)
        if journal is not None and journal.what == what:
            return self._edit(what, journal.old, journal.new, dry_run, how)
        window, whole = self._chunks(None)
        some, stored = self._present(window, whole)
        read = self._stored("Labels", bound(labels_plan, region=window), how, some)
        fill = [] if stored is None else [self._fill]
        found = union(chain(fill, (labels for _, labels in read)), self.dtype)
        mapping = dict(zip((0, -1), (start, start + len(found) - 1), strict=True))
        mapping_arrays(mapping, self._store.dtype)  # both ends fit, or OverflowError
        new = (np.arange(len(found)) + start).astype(self._store.dtype)
        return self._edit(what, found[found != new], new[found != new], dry_run, how)

    def resume(self, **how: Unpack[How]) -> Edit | None:
        """Finish an edit that was interrupted; None if there is none that has to be.

        A `remap` whose new labels are not among its old ones leaves no trace: run it again.
        """
        journal = Journal.found(self._store)
        if journal is None:
            return None
        return self._edit(journal.what, journal.old, journal.new, False, how)

    def recompress(self, *, dry_run: bool = False, **how: Unpack[How]) -> list[Chunk]:
        """Drop the borders between equal labels that edits left, and unused table entries.

        Shards close up: a reader that has a shard's index, but not yet the chunk, may fail
        then, and succeed when it tries again, as a `LabelVolume` does by itself.

        Returns
        -------
        list of tuple of int
            The chunks that are traced anew; others are not touched.
        """
        none = np.zeros(0, self._store.dtype)
        stored, _ = self._present(*self._chunks(None))
        chunks = [
            ChunkEdit(chunk, self._store.key(chunk), none)
            for chunk, edited in self._stored("Edited chunks", _edited_plan, how, stored)
            if edited
        ]
        if not dry_run:
            self._ready(None, none, none, how)
            self._rewrite(Edit(none, none, chunks), None, how)
        return [edit.chunk for edit in chunks]

    def _stored(
        self, text: str, plan: Callable[..., Any], how: How, chunks: Iterable[Chunk] | None = None
    ) -> Iterator[tuple[Chunk, Any]]:
        """The results of plans for chunks, or every one; damage stops an edit always."""
        every = self._chunks(None)[1] if chunks is None else chunks
        return self._each(text, plan, every, MANY, how, strict=True)

    def _holding(
        self, labels: npt.NDArray[Any], how: How
    ) -> Iterator[tuple[Chunk, npt.NDArray[Any]]]:
        """The chunks that have some labels, and which.

        By their tables; by the index if it is trusted, as to check it would take as much.
        """
        index = self._index if self._index is not None and self._index.trusted else None
        chunks: Iterable[Chunk] | None = None
        found: dict[Chunk, npt.NDArray[Any]] = {}
        if index is not None:
            _, known = self._covered(None, how)
            chunks = known.chunks
            parts = list(known.holding(labels))
            if parts:
                held, ids = (np.concatenate(column) for column in zip(*parts, strict=True))
                order = np.lexsort((held, ids))
                first = np.flatnonzero(np.diff(ids[order], prepend=-1))
                places = index.chunks_of(ids[order][first])
                found = dict(zip(places, np.split(held[order], first[1:]), strict=True))
        if self._store.fill not in labels:
            window, whole = self._chunks(None)
            chunks, _ = self._present(window, whole if chunks is None else chunks)
        for chunk, table in self._stored("Search", stored_labels_plan, how, chunks):
            table = self._fill if table is None else table
            held = table[places_in(labels, table)[1]]
            if index is None and len(held):
                yield chunk, held
            elif len(held):
                found[chunk] = held
        if index is not None and found:  # those of a shard after each other
            every = list(found)
            for i in index.order(index.ids_of(every)).tolist():
                yield every[i], found[every[i]]

    def _edit(
        self,
        what: str,
        old: npt.NDArray[Any],
        new: npt.NDArray[Any],
        dry_run: bool,
        how: How,
    ) -> Edit:
        if self._store.is_bool and (new > 1).any():
            raise OverflowError(f"the label {new.max()} does not fit the array's dtype bool")
        journal = None if dry_run else self._ready(what, old, new, how)
        if not len(old):
            return Edit(old, new, [])
        chunks = [
            ChunkEdit(chunk, self._store.key(chunk), held)
            for chunk, held in self._holding(old, how)
        ]
        edit = Edit(old, new, chunks)
        if dry_run:
            return edit
        # A merge can be run again as it is. New numbers can't be told again from chunks of which
        # some have them: a label that is in both would be split.
        once = what != "remap" or places_in(old, np.unique(new))[1].any()
        if journal is None and chunks and once:
            journal = Journal.begin(self._store, what, old, new)
        self._rewrite(edit, journal, how)
        if journal is not None:
            journal.end()
        return edit

    def _ready(
        self, what: str | None, old: npt.NDArray[Any], new: npt.NDArray[Any], how: How
    ) -> Journal | None:
        """Whether an edit may begin; the journal, if it is one to go on with."""
        self._store.check_writable()
        alone = is_of_one_process(self.array.store_path.store)
        if alone and not in_process(self._options(how)["executor"]):
            raise ValueError("an array in memory can't be edited by other processes")
        journal = Journal.found(self._store)
        if journal is None:
            return None
        same = np.array_equal(journal.old, old) and np.array_equal(journal.new, new)
        if journal.what != what or not same:
            raise CrackleError(
                f"an edit of this array ({journal.what}) was interrupted: run it again, or "
                "call resume(), before another one"
            )
        return journal

    def _rewrite(self, edit: Edit, journal: Journal | None, how: How) -> None:
        work = work_on(self._store, edit, {} if journal is None else journal.digests())
        prefix, index = None if journal is None else journal.prefix, self._index
        task = bound(rewrite, self._store, prefix, index is not None)
        total = len(edit.chunks)
        done = []
        if index is not None:  # until all is done its rows of these chunks are not trusted
            index.doubt([one.chunk for one in edit.chunks])
        options, threads = self._options(how), self._store.threads
        for changed in run(task, work, "Edit", total, lambda w: w.size, **options, threads=threads):
            if index is not None:
                done += changed
        if index is not None and done:
            chunks, before, after = zip(*done, strict=True)
            index.relabel(chunks, edit.old, edit.new, after, before)


def _edited_plan(store: ChunkStore, chunk: Chunk) -> Generator[list[Range], list[Any], bool]:
    """Whether a chunk may have borders between equal labels."""
    (data,) = yield [(0, FIRST_BYTES)]
    if data is None:
        return False
    head = CrackleHeader.frombytes(bytes(data))
    store.check(head)
    return head.is_remapped
