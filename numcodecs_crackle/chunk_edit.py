"""Edits of stored chunks: their label tables are rewritten, no voxel is decoded.

Each object, a chunk or a shard, is replaced whole. A remap whose new labels are not among its
old ones can be run again as it is after an interruption. One where they are, such as a swap,
could not: chunks that are done would be changed twice. Nor could new numbers, which the labels
of all chunks decide. So these keep a journal beside the chunks: the edit itself, and, before
objects are written, digests of what they become.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.chunks import encode_flat
from numcodecs_crackle.edit import integers, places_in, recompress, substitute
from numcodecs_crackle.errors import CrackleError
from numcodecs_crackle.header import CrackleHeader
from numcodecs_crackle.partial import fingerprint_of, local
from numcodecs_crackle.store import Chunk, ChunkStore
from numcodecs_crackle.stream import fits

__all__ = ["ChunkEdit", "Edit", "Journal", "mapping_arrays", "rewrite", "work_on"]

_FOLDER = ".crackle-edit/"
# Of more labels than this a piece of work gets those that it needs.
_MANY_LABELS = 4096


class ChunkEdit(NamedTuple):
    """A chunk that changes.

    Attributes
    ----------
    chunk : tuple of int
        Its place in the grid of chunks.
    key : str
        The key of its object, a chunk or a shard, below the array's path.
    labels : array (n,)
        Those of its labels that change.
    """

    chunk: Chunk
    key: str
    labels: npt.NDArray[Any]


class Edit(NamedTuple):
    """What an edit changes.

    Attributes
    ----------
    old, new : arrays (n,)
        Label old[i] becomes new[i]; ascending by ``old``, without labels that stay.
    chunks : list of ChunkEdit
        The chunks whose tables have any of ``old``.
    """

    old: npt.NDArray[Any]
    new: npt.NDArray[Any]
    chunks: list[ChunkEdit]

    def __repr__(self) -> str:  # both may be millions
        return f"<Edit: {len(self.old):,} labels change, in {len(self.chunks):,} chunks>"


def mapping_arrays(
    mapping: Mapping[int, int], dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A mapping as sorted arrays of a dtype. OverflowError for a new label that does not fit."""
    old, new = integers(mapping.keys()), integers(mapping.values())
    # The widest and the lowest tell of all.
    for label in (int(new.min()), int(new.max())) if len(new) else ():
        if not fits(label, dtype):
            raise OverflowError(f"the label {label} does not fit the array's dtype {dtype}")
    info = np.iinfo(dtype)
    known = (old >= info.min) & (old <= info.max)
    old, new = old[known].astype(dtype), new[known].astype(dtype)
    changing = old != new
    order = np.argsort(old[changing], kind="stable")
    return old[changing][order], new[changing][order]


class Journal:
    """What an edit that can't be run twice has to know when it goes on."""

    def __init__(self, store: ChunkStore, what: str, old: Any, new: Any, name: str) -> None:
        self.what: str = what
        self.old: Any = old
        self.new: Any = new
        self._store, self._name = store, name

    @classmethod
    def begin(cls, store: ChunkStore, what: str, old: Any, new: Any) -> Journal:
        """Record an edit before its first write. ``what``: how it was asked for."""
        journal = cls(store, what, old, new, uuid.uuid4().hex)
        file = io.BytesIO()
        np.savez(file, what=np.array(what), old=old, new=new, name=np.array(journal._name))
        store.put_object(_FOLDER + "edit.npz", file.getvalue())
        return journal

    @classmethod
    def found(cls, store: ChunkStore) -> Journal | None:
        """That of an edit that was interrupted."""
        data = store.get_object(_FOLDER + "edit.npz")
        if data is None:
            return None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                old, new = file["old"], file["new"]
                found = cls(store, str(file["what"]), old, new, str(file["name"]))
        except Exception as error:
            raise _bad_journal("edit.npz") from error
        whole = all(a.dtype == store.dtype and a.ndim == 1 for a in (old, new))
        if not whole or len(old) != len(new) or (old[1:] <= old[:-1]).any():
            raise _bad_journal("edit.npz")
        return found

    def digests(self) -> dict[str, set[str]]:
        """By key: what objects become, or have become."""
        result: dict[str, set[str]] = {}
        # What zarr had not finished when it was killed lies there, too, and may be half a list.
        keys = [
            k
            for k in self._store.list_objects(_FOLDER)
            if k.startswith(self.prefix) and not k.endswith(".partial")
        ]
        for key, data in zip(keys, self._store.get_objects(keys), strict=True):
            try:
                found = json.loads(data or b"{}")
                for name, digest in found.items():
                    result.setdefault(name, set()).add(str(digest))
            except (ValueError, AttributeError, TypeError) as error:
                raise _bad_journal(key.removeprefix(_FOLDER)) from error
        return result

    @property
    def prefix(self) -> str:
        """Of the keys of the digests."""
        return f"{_FOLDER}{self._name}-"

    def end(self) -> None:
        """The edit is done."""
        self._store.delete_object(_FOLDER + "edit.npz")
        with suppress(Exception):  # without that the rest means nothing, and may stay
            for key in self._store.list_objects(_FOLDER):
                self._store.delete_object(key)


class Work(NamedTuple):
    """Objects to rewrite together."""

    objects: list[list[ChunkEdit]]  # the chunks of each
    old: npt.NDArray[Any]  # the labels that change; none to drop false borders
    new: npt.NDArray[Any]
    done: dict[str, set[str]]  # by key, digests of what needs no more to be done

    @property
    def size(self) -> int:
        """The number of chunks."""
        return sum(map(len, self.objects))


def work_on(
    store: ChunkStore,
    edit: Edit,
    done: dict[str, set[str]],
    most: int = 16,
) -> Iterator[Work]:
    """An edit as pieces of work: ``most`` objects together, or one shard."""
    group: list[list[ChunkEdit]] = []

    def piece() -> Work:
        old, new = edit.old, edit.new
        if len(old) > _MANY_LABELS:  # only what these chunks need, as it may be sent far
            held = np.unique(np.concatenate([e.labels for edits in group for e in edits]))
            at, _ = places_in(old, held)
            old, new = old[at], new[at]
        keys = {edits[0].key for edits in group}
        return Work(group, old, new, {k: v for k, v in done.items() if k in keys})

    for _, edits in groupby(edit.chunks, lambda change: change.key):
        group.append(list(edits))
        if len(group) == most or store.shard is not None:
            yield piece()
            group = []
    if group:
        yield piece()


def rewrite(
    store: ChunkStore, journal: str | None, tell: bool, work: Work
) -> list[tuple[Chunk, int, int]]:
    """Rewrite objects.

    Parameters
    ----------
    journal
        The prefix of keys to record digests under.
    tell
        Whether fingerprints are wanted.

    Returns
    -------
    list
        The chunks that changed, their fingerprints before and after; -1 for the former of
        those that an interrupted edit had changed before.
    """
    fingerprints: list[tuple[Chunk, int, int]] = []

    def change(chunk: Chunk, stream: bytes | None) -> bytes | None:
        if stream is None:
            at, hit = places_in(work.old, np.array([store.fill], store.dtype))
            if not hit[0]:
                return None
            flat = np.full(math.prod(store.chunks), work.new[at[0]], store.dtype)
            result = encode_flat(flat, store.coded_shape, 0)
        elif len(work.old):
            result = substitute(stream, work.old, work.new, 1)
        else:
            result = recompress(stream, 1)
        store.check(CrackleHeader.frombytes(result))
        if tell:
            before = 0 if stream is None else local(fingerprint_of(), stream)
            fingerprints.append((chunk, before, local(fingerprint_of(), result)))
        return result

    written: dict[str, bytes] = {}
    for edits in work.objects:
        key, chunks = edits[0].key, [edit.chunk for edit in edits]
        before = len(fingerprints)
        data, changed = store.rewritten(chunks, change, pack=not len(work.old))
        if data is not None and key in work.done and _digest(data) in work.done[key]:
            del fingerprints[before:]
            found = store.read([(c, fingerprint_of) for c in chunks]) if tell else []
            fingerprints += [(c, -1, one) for c, one in zip(chunks, found, strict=False)]
        elif changed is not None:
            written[key] = changed
    if journal is not None and written:
        digests = {key: _digest(data) for key, data in written.items()}
        store.put_object(journal + uuid.uuid4().hex, json.dumps(digests).encode())
    store.put_objects(written)
    return fingerprints


def _bad_journal(name: str) -> CrackleError:
    return CrackleError(f"the journal of an edit, {_FOLDER}{name}, is damaged")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
