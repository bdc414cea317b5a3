"""The Parquet files of a label index: rows of chunks and labels, and which chunks they tell of."""

from __future__ import annotations

import json
import math
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.chunk_stats import Sums
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.extras import required
from numcodecs_crackle.fileio import atomic_write
from numcodecs_crackle.store import ChunkStore

__all__ = ["NO_FINGERPRINT", "Layout", "Part", "Rows", "opened_part", "sorted_rows", "write_part"]

Ids = npt.NDArray[np.int64]

# A fingerprint that no chunk has: its rows are not to be used.
NO_FINGERPRINT = -1
_VERSION = 1
_ABOUT, _CHUNKS, _FINGERPRINTS = b"crackle_index", b"crackle_chunks", b"crackle_fingerprints"
_CRC = b"crackle_crc32c"  # of these, and the rows and labels of groups: Parquet has none there
# A label's rows of a part are found in one or two groups of so many rows.
_GROUP_ROWS = 1 << 14
# What is believed of a file: more rows of a group are not read at once.
_MOST_GROUP_ROWS = 1 << 20
# Rows that are read at a time.
_ROWS_AT_ONCE = 1 << 18


@dataclass
class Rows:
    """Statistics of labels in chunks, a row for each chunk and label."""

    chunks: Ids
    sums: Sums

    def at(self, which: npt.NDArray[Any]) -> Rows:
        return Rows(self.chunks[which], self.sums.rows(which))


def sorted_rows(parts: Sequence[Rows]) -> Rows:
    """Several, at least one, by label and chunk; those of one label and chunk added up."""
    every = Sums.joined([part.sums for part in parts])
    chunks = np.concatenate([part.chunks for part in parts])
    order = np.lexsort((chunks, every.labels))
    labels, chunks = every.labels[order], chunks[order]
    begins = np.ones(len(labels), np.bool_)
    begins[1:] = (labels[1:] != labels[:-1]) | (chunks[1:] != chunks[:-1])
    first = np.flatnonzero(begins)
    return Rows(chunks[first], every.grouped(order, first))


@dataclass(frozen=True)
class Layout:
    """The array that an index is of."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    names: tuple[str, ...]  # of the axes
    axes: tuple[int, ...]  # as coded, the fastest last
    fill: int

    @classmethod
    def of(cls, store: ChunkStore, names: Sequence[str]) -> Layout:
        layout = cls(
            store.shape, store.chunks, store.dtype, tuple(names), store.axes, int(store.fill)
        )
        if math.prod(layout.grid) >= 2**62:
            raise ValueError(f"an array of {layout.grid} chunks is too large for an index")
        return layout

    @property
    def grid(self) -> tuple[int, ...]:
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    def ids_of(self, places: Ids) -> Ids:
        """Numbers of chunks, C order, by their places in the grid (n, ndim); -1 outside."""
        grid = np.array(self.grid, np.int64)
        inside = ((places >= 0) & (places < grid)).all(axis=1)
        ids = np.zeros(len(places), np.int64)
        for axis, n in enumerate(self.grid):
            ids = ids * n + np.where(inside, places[:, axis], 0)
        return np.where(inside, ids, -1)

    def places_of(self, ids: Ids) -> Ids:
        """The places in the grid (n, ndim) of chunks by their numbers."""
        places = np.zeros((len(ids), len(self.shape)), np.int64)
        for axis in range(len(self.shape))[::-1]:
            ids, places[:, axis] = np.divmod(ids, self.grid[axis])
        return places

    def inside(self, places: Ids) -> Ids:
        """How much of chunks is within the array, along each axis (n, ndim)."""
        chunks = np.array(self.chunks, np.int64)
        return np.minimum(chunks, np.array(self.shape, np.int64) - places * chunks)

    # ---- columns ----

    @property
    def chunk_columns(self) -> list[str]:
        return [f"chunk_{name}" for name in self.names]

    @property
    def sum_columns(self) -> list[str]:
        sides = [f"{side}_{name}" for name in self.names for side in ("min", "max")]
        return ["voxel_count", *sides, *(f"sum_{name}" for name in self.names)]

    def schema(self) -> Any:
        pa = required("pyarrow", "index")
        # Places are signed, so that what SQL subtracts from them does not overflow.
        unsigned = ("voxel_count", *(f"sum_{name}" for name in self.names))
        kinds = {"label": pa.from_numpy_dtype(self.dtype)} | {n: pa.uint64() for n in unsigned}
        names = ["label", *self.chunk_columns, *self.sum_columns]
        return pa.schema([pa.field(n, kinds.get(n, pa.int64()), nullable=False) for n in names])

    def table(self, rows: Rows) -> Any:
        places, sums = self.places_of(rows.chunks), rows.sums
        columns = {"label": sums.labels, "voxel_count": sums.counts}
        for i, name in enumerate(self.names):
            columns[f"chunk_{name}"] = np.ascontiguousarray(places[:, i])
            columns[f"min_{name}"] = np.ascontiguousarray(sums.lows[:, i])
            columns[f"max_{name}"] = np.ascontiguousarray(sums.highs[:, i])
            columns[f"sum_{name}"] = sums.sums[:, i].astype(np.uint64)
        schema = self.schema()
        return required("pyarrow", "index").table([columns[n] for n in schema.names], schema)

    def chunks_in(self, columns: dict[str, npt.NDArray[Any]]) -> Ids:
        return self.ids_of(self._side_by_side(columns, "chunk", np.int64))

    def sums_in(self, columns: dict[str, npt.NDArray[Any]]) -> Sums:
        return Sums(
            columns["label"],
            columns["voxel_count"],
            self._side_by_side(columns, "min", np.int64),
            self._side_by_side(columns, "max", np.int64),
            self._side_by_side(columns, "sum", np.float64),
        )

    def _side_by_side(self, columns: dict[str, npt.NDArray[Any]], side: str, dtype: Any) -> Any:
        result = np.empty((len(columns["label"]), len(self.names)), dtype)
        for i, name in enumerate(self.names):
            result[:, i] = columns[f"{side}_{name}"]
        return result

    # ---- what a file says of itself ----

    def about(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "shape": self.shape,
            "chunks": self.chunks,
            "dtype": self.dtype.name,
            "names": self.names,
            "axes": self.axes,
            "fill": self.fill,
        }

    def told(self, text: bytes, file: str) -> Layout:
        """The layout that a file tells of, which is this one but for shape and fill value."""
        try:
            told = json.loads(text)
            version = told["version"]
            shape, fill = tuple(told["shape"]), told["fill"]
            theirs = {k: told[k] for k in ("chunks", "dtype", "names", "axes")}
        except (ValueError, KeyError, TypeError) as error:
            raise _damage(file, f"what it says of its array can't be read: {error!r}") from error
        if version != _VERSION:
            raise ValueError(f"{file} is a label index of version {version!r}, not {_VERSION}")
        mine = json.loads(json.dumps(self.about()))
        for what, value in theirs.items():
            if value != mine[what]:
                raise ValueError(
                    f"{file} is the label index of another array: {what} {value!r}, "
                    f"not {mine[what]!r}"
                )
        whole = all(type(n) is int and 0 <= n < 2**62 for n in shape) and type(fill) is int
        if len(shape) != len(self.shape) or not whole:
            raise _damage(file, f"an array of the shape {shape!r}, filled with {fill!r}")
        result = Layout(shape, self.chunks, self.dtype, self.names, self.axes, fill)
        if math.prod(result.grid) >= 2**62:
            raise _damage(file, f"an array of {result.grid} chunks")
        return result


@dataclass
class Part:
    """What is known of a file without reading its rows."""

    name: str
    stamp: tuple[int, ...]  # changes with the file
    layout: Layout  # of the array when it was written
    ids: Ids  # by that layout
    fingerprints: Ids
    group_rows: Ids
    lows: npt.NDArray[Any]  # the labels of each group
    highs: npt.NDArray[Any]

    @property
    def rows(self) -> int:
        return int(self.group_rows.sum())

    @classmethod
    def of(cls, file: Any, name: str, stamp: tuple[int, ...], layout: Layout) -> Part:
        """From an open Parquet file."""
        metadata = file.metadata
        texts = metadata.metadata or {}
        if any(key not in texts for key in (_ABOUT, _CHUNKS, _FINGERPRINTS, _CRC)):
            raise ValueError(f"{name} is not of a label index")
        theirs = layout.told(texts[_ABOUT], name)
        if not file.schema_arrow.remove_metadata().equals(layout.schema()):
            raise _damage(name, "other columns than those of a label index")
        try:
            ids, prints = (
                np.frombuffer(b64decode(texts[key], validate=True), "<i8").astype(np.int64)
                for key in (_CHUNKS, _FINGERPRINTS)
            )
        except ValueError as error:
            raise _damage(name, f"its chunks can't be read: {error}") from error
        most = math.prod(theirs.grid)
        if len(ids) != len(prints) or ((ids < 0) | (ids >= most)).any() or (prints < 0).any():
            raise _damage(name, "its chunks are none of the array's")
        if len(np.unique(ids)) != len(ids):
            raise _damage(name, "a chunk is there twice")
        groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
        group_rows = np.array([group.num_rows for group in groups], np.int64)
        if ((group_rows < 1) | (group_rows > _MOST_GROUP_ROWS)).any():
            raise _damage(name, "a group of rows is too large, or empty")
        told = [group.column(0).statistics for group in groups]
        limits = np.iinfo(layout.dtype)
        has = [s is not None and s.has_min_max for s in told]
        lows, highs = (
            np.array([getattr(s, side) if h else getattr(limits, side)
                      for s, h in zip(told, has, strict=True)], layout.dtype)
            for side in ("min", "max")
        )  # fmt: skip
        if _crc(texts, group_rows, lows, highs) != texts[_CRC]:
            raise _damage(name, "what it says of its chunks does not match its crc32c")
        return cls(name, stamp, theirs, ids, prints, group_rows, lows, highs)

    def groups(self, labels: npt.NDArray[Any] | None) -> list[int]:
        """The groups of rows that may have any of some labels, sorted; all for None."""
        if labels is None:
            return list(range(len(self.group_rows)))
        first = np.searchsorted(labels, self.lows, "left")
        last = np.searchsorted(labels, self.highs, "right")
        return [int(g) for g in np.flatnonzero(last > first)]

    def columns(
        self, file: Any, groups: list[int], names: list[str]
    ) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Columns of some groups, a bounded number of rows at a time."""
        while groups:
            ends = np.cumsum(self.group_rows[groups])
            n = max(1, int(np.searchsorted(ends, _ROWS_AT_ONCE, "right")))
            with damage_named(self.name):
                table = file.read_row_groups(groups[:n], names)
                if any(table.column(name).null_count for name in names):
                    raise _damage(self.name, "a value is missing")
                yield {name: table.column(name).to_numpy() for name in names}
            groups = groups[n:]


def stamp_of(path: str) -> tuple[int, ...]:
    """What tells a file from one that took its place."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino


@contextmanager
def opened_part(
    folder: str, name: str, layout: Layout, part: Part | None = None
) -> Iterator[tuple[Any, Part]]:
    """An open file of an index, and what it tells of itself; ``part`` if that still holds.

    Raises
    ------
    FormatError
        For a damaged file.
    ValueError
        For one that is of another array, or of no index.
    """
    path = os.path.join(folder, name)
    pq = required("pyarrow.parquet", "index")
    with damage_named(name):
        file = pq.ParquetFile(path, page_checksum_verification=True)
    with file:
        # Told after the file was opened: if it is still this one, so was what was opened.
        stamp = stamp_of(path)
        if part is None or part.stamp != stamp:
            with damage_named(name):
                part = Part.of(file, name, stamp, layout)
        yield file, part


def write_part(folder: str, name: str, layout: Layout, rows: Rows, ids: Ids, prints: Ids) -> None:
    """Write a file of an index, or replace it whole.

    Parameters
    ----------
    rows
        Sorted, as `sorted_rows` gives them.
    ids, prints
        The chunks that they are of, and the fingerprint of each.
    """
    pq = required("pyarrow.parquet", "index")
    texts = {
        _ABOUT: json.dumps(layout.about()).encode(),
        # Text, as Parquet has it there: other readers stumble over anything else.
        _CHUNKS: b64encode(ids.astype("<i8").tobytes()),
        _FINGERPRINTS: b64encode(prints.astype("<i8").tobytes()),
    }
    labels = rows.sums.labels
    ends = np.append(np.arange(_GROUP_ROWS, len(labels), _GROUP_ROWS), len(labels))
    group_rows = np.diff(ends, prepend=0)
    texts[_CRC] = _crc(texts, group_rows, labels[ends - group_rows], labels[ends - 1])
    places = layout.sum_columns[1 : 1 + 2 * len(layout.names)]
    # The ending keeps an unfinished file out of a *.parquet that also matches hidden ones.
    with (
        atomic_write(os.path.join(folder, name), ".new") as file,
        pq.ParquetWriter(
            file,
            layout.schema(),
            compression="zstd",
            use_dictionary=[*layout.chunk_columns, *places],
            write_page_checksum=True,
        ) as writer,
    ):
        writer.write_table(layout.table(rows), row_group_size=_GROUP_ROWS)
        writer.add_key_value_metadata({k.decode(): text.decode() for k, text in texts.items()})


def _crc(texts: dict[bytes, bytes], *groups: npt.NDArray[Any]) -> bytes:
    """A checksum of what is said of chunks and groups of rows, as text."""
    parts = [texts[key] for key in (_ABOUT, _CHUNKS, _FINGERPRINTS)]
    numbers = [array.astype(array.dtype.newbyteorder("<")).tobytes() for array in groups]
    return b"%08x" % _native.crc32c(b"\0".join([*parts, *numbers]))


def _damage(name: str, reason: str) -> FormatError:
    return FormatError(
        f"{reason}. Remove the file, and build the index again: only its chunks are measured",
        f"label index, {name}",
    )


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """What pyarrow raises for a damaged file as a FormatError."""
    arrow = required("pyarrow", "index").ArrowException
    try:
        yield
    except (FileNotFoundError, PermissionError, FormatError):
        raise
    except (arrow, OSError, OverflowError, UnicodeDecodeError) as error:
        raise _damage(name, str(error).rstrip(".")) from error
