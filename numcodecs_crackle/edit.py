"""Edits of streams that decode nothing: other labels, other slices, another coding.

Names, arguments and results are crackle-codec's. ``binary`` is a stream, or what has one as
its ``binary``; results are streams of format version 1, whose checksums are right. An edit of
labels rewrites the label section only; what must touch borders walks them, and makes no array.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native, limits
from numcodecs_crackle.header import CrackFormat, CrackleHeader, LabelFormat
from numcodecs_crackle.sections import Sections, raw, stored_dtype
from numcodecs_crackle.stream import check_dtype, check_markov_order, fits, label_groups, opened
from numcodecs_crackle.stream import labels as labels_of

__all__ = [
    "add_scalar",
    "ascontiguousarray",
    "asfortranarray",
    "astype",
    "condense_unique",
    "floordiv_scalar",
    "mask",
    "mask_except",
    "multiply_scalar",
    "recompress",
    "reencode",
    "refit",
    "remap",
    "renumber",
    "subtract_scalar",
]


def _fitting(dtype: np.dtype[Any], low: int, high: int) -> np.dtype[Any]:
    """The dtype if it holds both numbers, else the narrowest of its kind that does."""
    for width in (1, 2, 4, 8):
        candidate = dtype if width == dtype.itemsize else np.dtype(f"{dtype.kind}{width}")
        if width >= dtype.itemsize and fits(low, candidate) and fits(high, candidate):
            return candidate
    bad = low if not fits(low, np.dtype(f"{dtype.kind}8")) else high
    raise OverflowError(f"the label {bad} does not fit any width of {dtype}")


def _integer(number: Any) -> int:
    """A whole number as an int, as pandas may give it as a float; TypeError for others."""
    if isinstance(number, (float, np.floating)) and float(number).is_integer():
        return int(number)
    return operator.index(number)


def integers(numbers: Iterable[int]) -> npt.NDArray[Any]:
    """Integers of any size as an array: int64 or uint64 if all fit, else of objects."""
    every = list(numbers)
    try:
        exact = list(map(operator.index, every))
    except TypeError:
        exact = list(map(_integer, every))
    low, high = min(exact, default=0), max(exact, default=0)
    for dtype in (np.dtype(np.int64), np.dtype(np.uint64)):
        if fits(low, dtype) and fits(high, dtype):
            return np.array(exact, dtype)
    return np.array(exact, object)


# ---- other labels ----


def _relabel(
    binary: Any,
    change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    parallel: int = 0,
) -> Sections:
    """Apply a function to the table, background last. Its result's dtype is the stream's."""
    parts = Sections.of(binary, parallel)
    with_background = parts.background is not None
    table = np.append(parts.table, parts.background) if with_background else parts.table
    changed = change(table.astype(parts.head.dtype, copy=False))
    parts.table = changed[:-1] if with_background else changed
    if with_background:
        parts.background = changed[-1]
    parts.head = replace(
        parts.head,
        data_width=changed.dtype.itemsize,
        signed=changed.dtype.kind == "i",
        is_remapped=parts.head.is_remapped or _merges(table, changed),
    )
    return parts


def _merges(table: npt.NDArray[Any], changed: npt.NDArray[Any]) -> bool:
    """Whether labels became equal, so that there are borders between equal ones."""
    if bool((changed[:-1] < changed[1:]).all()):
        return False
    return len(np.unique(changed)) < len(np.unique(table))


def remap(
    binary: Any,
    mapping: Mapping[int, int],
    preserve_missing_labels: bool = False,
    in_place: bool = False,
    parallel: int = 0,
) -> Any:
    """Change labels by a mapping of old to new.

    Parameters
    ----------
    preserve_missing_labels : bool
        Keep labels that are not in the mapping; by default each must be.
    in_place : bool
        Write to ``binary`` itself and return it, where it is writable (a bytearray, such as
        this gives), of version 1, and no wider labels are needed; else a new stream is
        returned. UserWarning for bytes, which can't be changed.

    Returns
    -------
    bytearray
        In the stream's dtype, or where a label does not fit it the next wider that it does.
        Borders between labels that became equal stay, and cost bytes, until `recompress`.

    Raises
    ------
    KeyError
        For a label that is not in the mapping.
    OverflowError
        For a label that no width holds, such as a negative one where labels are unsigned.
    """
    old, new = integers(mapping.keys()), integers(mapping.values())

    def change(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        info = np.iinfo(table.dtype)
        known = (old >= info.min) & (old <= info.max)
        keys, values = old[known].astype(table.dtype), new[known]
        order = np.argsort(keys, kind="stable")
        keys, values = keys[order], values[order]
        at, hit = places_in(keys, table)
        if not hit.all() and not preserve_missing_labels:
            # The table may have labels that no voxel has.
            missing = np.intersect1d(table[~hit], labels_of(binary))
            if missing.size:
                raise KeyError(int(missing[0]))
        values = values[at[hit]]
        if not len(values):
            return table
        result = table.astype(_fitting(table.dtype, int(values.min()), int(values.max())))
        result[hit] = values.astype(result.dtype)
        return result

    result = _relabel(binary, change, parallel).tobytearray()
    data = raw(binary)
    if not in_place:
        return result
    if memoryview(data).readonly:
        text = "bytes can't be changed in place: the edited stream is what remap returns"
        warnings.warn(text, stacklevel=2)
    elif len(result) == len(data):
        memoryview(data).cast("B")[:] = result
        return data
    return result


def places_in(
    keys: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Where in sorted keys labels are, and which of them are there."""
    if not len(keys):
        return np.zeros(len(labels), np.intp), np.zeros(len(labels), np.bool_)
    at = np.minimum(np.searchsorted(keys, labels), len(keys) - 1)
    return at, np.asarray(keys[at] == labels, np.bool_)


def substitute(
    binary: Any, old: npt.NDArray[Any], new: npt.NDArray[Any], parallel: int = 0
) -> bytes:
    """`remap` by arrays in the stream's dtype: ``old``, sorted, and ``new``. Others stay."""

    def change(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        at, hit = places_in(old, table)
        result = table.copy()
        result[hit] = new[at[hit]]
        return result

    return _relabel(binary, change, parallel).tobytes()


def mask(
    binary: Any,
    labels: Iterable[int],
    value: int = 0,
    in_place: bool = False,
    parallel: int = 0,
) -> bytes:
    """Give labels one value. Labels that are not there are passed over."""
    mapping = {int(label): int(value) for label in labels}
    return _remapped(binary, mapping, in_place, parallel)


def mask_except(
    binary: Any,
    labels: Iterable[int],
    value: int = 0,
    in_place: bool = False,
    parallel: int = 0,
) -> bytes:
    """Give all labels but some one value."""
    keep = {int(label) for label in labels}
    mapping = {label: int(value) for label in labels_of(binary).tolist() if label not in keep}
    return _remapped(binary, mapping, in_place, parallel)


def _remapped(binary: Any, mapping: dict[int, int], in_place: bool, parallel: int) -> bytes:
    """Other labels, and a table of those that are left; within the limit of the stream."""
    stream, _ = opened(binary)
    with limits.max_voxels(limits.most(stream.nbytes, stream.max_voxels)):
        return condense_unique(remap(binary, mapping, True, in_place, parallel))


def condense_unique(binary: Any) -> bytes:
    """Sort the table of labels, each once, without those that no component has.

    `recompress` also drops the borders between equal labels.
    """
    stream, head = opened(binary)
    table, background = stream.unique()
    twice = background is not None and len(np.unique(np.append(table, background))) <= len(table)
    if background is not None and (twice or not head.is_sorted):
        flat = recoded(binary, markov_order=head.markov_model_order)
        return _native.pin(flat, 1, None)
    parts = Sections.of(binary)
    if background is None and head.voxels():
        parts.set_labels(parts.counts, parts.table, parts.keys)
    return parts.tobytes()


def refit(binary: Any) -> bytes:
    """Make the dtype the narrowest that holds the labels."""
    return astype(binary, stored_dtype(labels_of(binary)))


def renumber(binary: Any, start: int = 0, parallel: int = 0) -> tuple[bytes, dict[int, int]]:
    """Number the labels from ``start`` on, ascending, in the narrowest dtype.

    Returns
    -------
    bytes, and a dict of old label to new
    """
    _, head = opened(binary)
    values = labels_of(binary)
    mapping = {label: start + i for i, label in enumerate(values.tolist())}

    def change(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        new = integers(mapping.values())
        least = np.dtype(f"{head.dtype.kind}1")
        dtype = _fitting(least, start, start + max(len(new) - 1, 0))
        # Labels of the table that no voxel has become any.
        at = np.minimum(np.searchsorted(values, table), max(len(new) - 1, 0))
        return new.astype(dtype)[at]

    return condense_unique(_relabel(binary, change, parallel).tobytes()), mapping


def astype(
    binary: Any,
    dtype: npt.DTypeLike,
    order: Literal["C", "F", "K", "A"] = "K",
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "unsafe",
) -> bytes:
    """Change the dtype, and the memory order that the stream is decoded to.

    Labels that do not fit wrap around as numpy's do. ``casting`` is numpy's, but for "safe",
    which asks that every label fits rather than every label that could be.

    Raises
    ------
    TypeError
        For a dtype that is not of integers, and where ``casting`` forbids it.
    """
    _, head = opened(binary)
    wanted = np.dtype(dtype).newbyteorder("=")
    check_dtype(wanted)
    wanted = np.dtype(np.uint8) if wanted.kind == "b" else wanted
    if order not in ("C", "F", "K", "A"):
        raise ValueError(f"order must be one of 'C', 'F', 'K' and 'A', not {order!r}")
    if casting == "safe":
        values = labels_of(binary)
        bad = [v for v in (values[:1].tolist() + values[-1:].tolist()) if not fits(v, wanted)]
        if bad:
            raise TypeError(f"the label {bad[0]} does not fit {wanted} under casting type 'safe'")
    elif not np.can_cast(head.dtype, wanted, casting):
        raise TypeError(
            f"Cannot cast dtype {head.dtype} to {wanted} under casting type '{casting}'"
        )
    result = _relabel(binary, lambda table: table.astype(wanted)).tobytes()
    return bytes(_ordered(result, {"C": False, "F": True}.get(order)))


def _ordered(binary: Any, fortran_order: bool | None) -> Any:
    """Set the memory order, if one is given."""
    _, head = opened(binary)
    if head.format_version and fortran_order in (None, head.fortran_order):
        return raw(binary)
    parts = Sections.of(binary)
    if fortran_order is not None:
        parts.head = replace(parts.head, fortran_order=fortran_order)
    return parts.tobytes()


def asfortranarray(binary: Any) -> Any:
    """The stream, decoded to Fortran order; itself if it is."""
    return _ordered(binary, True)


def ascontiguousarray(binary: Any) -> Any:
    """The stream, decoded to C order; itself if it is."""
    return _ordered(binary, False)


def apply_scalar(
    binary: Any, function: Callable[[Any, Any], Any], number: int, parallel: int = 0
) -> bytes:
    """Apply a numpy function of two arguments to all labels and a number.

    As with a numpy array of the stream's dtype and a Python int: the dtype stays, results
    that do not fit wrap around, and OverflowError is raised for a number that does not fit.
    Comparisons give 0 and 1, and they and the remainder of labels that are not negative take
    any number.
    """
    number = operator.index(number)
    if number == 0 and function in (np.floor_divide, np.remainder):
        raise ZeroDivisionError("Cannot divide by zero.")

    def change(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if function is np.remainder and number > np.iinfo(table.dtype).max and (table >= 0).all():
            return table
        with np.errstate(over="ignore", divide="ignore"):
            return np.asarray(function(table, number)).astype(table.dtype, copy=False)

    return _relabel(binary, change, parallel).tobytes()


def add_scalar(binary: Any, scalar: int) -> bytes:
    """Add a number to all labels.

    As with a numpy array of the stream's dtype and a Python int: the dtype stays, results
    that do not fit wrap around. OverflowError for a number that does not fit.
    """
    return apply_scalar(binary, np.add, scalar)


def subtract_scalar(binary: Any, scalar: int) -> bytes:
    """Subtract a number from all labels."""
    return apply_scalar(binary, np.subtract, scalar)


def multiply_scalar(binary: Any, scalar: int) -> bytes:
    """Multiply all labels by a number."""
    return apply_scalar(binary, np.multiply, scalar)


def floordiv_scalar(binary: Any, scalar: int) -> bytes:
    """Divide all labels by a number, rounded down. ZeroDivisionError for 0."""
    return apply_scalar(binary, np.floor_divide, scalar)


# ---- another coding ----


def recoded(
    binary: Any,
    *,
    drop_borders: bool = False,
    permissible: bool | None = None,
    markov_order: int | Literal["auto"] = 0,
    parallel: int = 0,
) -> bytes:
    """The stream traced anew, with flat labels. ``permissible`` None keeps or finds it."""
    stream, head = opened(binary)
    values, group = label_groups(stream, head.dtype)
    if permissible is None and not drop_borders:
        permissible = head.crack_format == CrackFormat.PERMISSIBLE
    kind = np.int64 if head.signed else np.uint64
    return _native.recode(
        stream,
        values.astype(kind).view(np.uint64),
        group,
        head.dtype,
        drop_borders=drop_borders,
        permissible=permissible,
        markov_order=markov_order,
        parallel=parallel,
    )


def _repinned(flat: bytes, head: CrackleHeader) -> bytes:
    """Flat labels as pins, if the stream that they come from had pins."""
    return flat if head.label_format == LabelFormat.FLAT else _native.pin(flat, 1, None)


def reencode(binary: Any, markov_model_order: int | Literal["auto"], parallel: int = 0) -> Any:
    """Code the borders with another order of Markov model. See `compress`."""
    order = check_markov_order(markov_model_order)
    _, head = opened(binary)
    if head.markov_model_order == order and head.format_version:
        return raw(binary)
    return _repinned(recoded(binary, markov_order=order, parallel=parallel), head)


def recompress(
    binary: Any,
    parallel: int = 0,
    *,
    memory_target: int | None = None,
    allow_pins: bool | None = None,
) -> bytes:
    """Drop the borders between equal labels that an edit left.

    The result is what compressing the decoded labels gives, byte for byte, with the stream's
    own Markov order.

    Parameters
    ----------
    memory_target : int, optional
        For compatibility; less is needed.
    allow_pins : bool, optional
        Whether labels are stored as pins; by default if they were.
    """
    _, head = opened(binary)
    if head.voxels() == 0:
        return Sections.of(binary).tobytes()
    order = head.markov_model_order
    flat = recoded(binary, drop_borders=True, markov_order=order, parallel=parallel)
    if allow_pins is None:
        return _repinned(flat, head)
    return _native.pin(flat, 1, None) if allow_pins else flat
