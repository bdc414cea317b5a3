"""Slices put together and taken apart, without decoding them.

Names, arguments and results are crackle-codec's. Results are streams of format version 1,
whose checksums are right.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native, limits
from numcodecs_crackle.edit import recoded
from numcodecs_crackle.header import LabelFormat
from numcodecs_crackle.sections import Sections, raw
from numcodecs_crackle.stream import check_dtype, check_markov_order, compress, fits, opened

if TYPE_CHECKING:
    from numcodecs_crackle.array import CrackleArray

__all__ = ["full", "ones", "zeros", "zshatter", "zsplit", "zstack"]


def zstack(
    images: Sequence[Any],
    markov_model_order: int | Literal["auto"] | None = None,
    parallel: int = 0,
) -> Any:
    """Stack volumes in z.

    Parameters
    ----------
    images : sequence of arrays, streams and CrackleArrays
        Of the same width and height, all signed or all unsigned; empty ones and None are
        passed over. Arrays may have 2 or 3 axes.
    markov_model_order : int or "auto", optional
        By default the order that all streams have, else 0.

    Returns
    -------
    bytes
        In the memory order of the first, and the widest dtype of all. Labels are pins if
        those of all streams are. Streams of one crack format and model are joined as they
        are; others are traced anew.

    Raises
    ------
    ValueError
        For volumes of different width, height or sign, and for none at all.
    """
    binaries = []
    for image in images:
        if image is None or (not hasattr(image, "dtype") and len(raw(image)) == 0):
            continue
        is_array = isinstance(image, np.ndarray)
        binaries.append(compress(image, parallel=parallel) if is_array else image)
    if not binaries:
        raise ValueError("there is nothing to stack")
    heads = [opened(b)[1] for b in binaries]
    first = heads[0]
    for head in heads:
        if (head.sx, head.sy) != (first.sx, first.sy):
            raise ValueError(
                "All images must have the same width and height. Expected "
                f"sx={first.sx} sy={first.sy} ; Got: sx={head.sx} sy={head.sy}"
            )
        if head.signed != first.signed:
            raise ValueError("All binaries must have the same sign.")
    width = max(head.data_width for head in heads)
    full_ones = [i for i, head in enumerate(heads) if head.voxels()]
    if not full_ones:
        return Sections.of(binaries[0]).tobytes()
    orders = {heads[i].markov_model_order for i in full_ones}
    order = check_markov_order(
        markov_model_order
        if markov_model_order is not None
        else orders.pop()
        if len(orders) == 1
        else 0
    )
    if len(binaries) == 1 and first.markov_model_order == order and first.format_version:
        return raw(binaries[0])
    pinned = all(heads[i].label_format != LabelFormat.FLAT for i in full_ones)
    joined = _joined([binaries[i] for i in full_ones], order, parallel)
    joined.head = replace(joined.head, data_width=width, fortran_order=first.fortran_order)
    result = joined.tobytes()
    if joined.head.markov_model_order != order:
        result = _again(binaries, result, order, parallel)
    return _native.pin(result, 1, None) if pinned else result


def _joined(binaries: list[Any], order: int | Literal["auto"], parallel: int) -> Sections:
    """One volume of several, with flat labels; of Markov order 0, or of ``order``."""
    parts = [Sections.of(binary, parallel) for binary in binaries]
    voxels = [0, 0]
    for part in parts:
        voxels[part.head.crack_format] += part.head.voxels()
    permissible = voxels[1] > voxels[0]
    models = {part.model for part in parts}
    keep_model = len(models) == 1 and parts[0].head.markov_model_order == order
    for i, part in enumerate(parts):
        as_it_is = (
            (keep_model or part.head.markov_model_order == 0)
            and part.head.label_format == LabelFormat.FLAT
            and bool(part.head.crack_format) == permissible
        )
        if not as_it_is:
            again = recoded(binaries[i], permissible=permissible, parallel=parallel)
            parts[i] = Sections.of(again)
    if len({part.head.markov_model_order for part in parts}) > 1:
        # Some were recoded for another reason than their model, which the others still have.
        same = [
            _again([binary], part.tobytes(), 0, parallel)
            for binary, part in zip(binaries, parts, strict=True)
        ]
        return _joined(same, 0, parallel)
    model = parts[0].model
    dtype = np.result_type(*(part.head.dtype for part in parts))
    labels, counts, keys, before = [], [], [], 0
    for part in parts:
        labels.append(part.table.astype(dtype))
        counts.append(part.counts)
        keys.append(part.keys.astype(np.intp) + before)
        before += len(part.table)
    result = replace(
        parts[0],
        head=replace(
            parts[0].head,
            sz=sum(part.head.sz for part in parts),
            data_width=dtype.itemsize,
            is_remapped=any(part.head.is_remapped for part in parts),
        ),
        index=np.concatenate([part.index for part in parts]),
        cracks=b"".join([model, *(part.cracks[len(model) :] for part in parts)]),
        crcs=np.concatenate([part.crcs for part in parts]),
    )
    result.set_labels(np.concatenate(counts), np.concatenate(labels), np.concatenate(keys))
    return result


def _again(binaries: list[Any], made: bytes, order: int | Literal["auto"], parallel: int) -> bytes:
    """Recode a stream that was made of others, if these are believed."""
    for binary in binaries:
        stream, _ = opened(binary)
        stream.allow(stream.slices)
    with limits.max_voxels(limits.EXPECTED):
        return recoded(made, markov_order=order, parallel=parallel)


def zcut(binary: Any, bounds: Sequence[int], parallel: int = 0) -> list[bytes]:
    """The slices between each two of ascending bounds, as streams of their own.

    The borders are kept as they are, with the Markov model. Labels that are pins are read,
    and are pins again. Nothing between two bounds makes a stream without slices.
    """
    _, head = opened(binary)
    pinned = head.label_format != LabelFormat.FLAT
    flat = binary
    if pinned:
        flat = recoded(binary, markov_order=head.markov_model_order, parallel=parallel)
    parts = Sections.of(flat, parallel)
    if head.voxels() == 0:
        return [
            replace(parts, head=replace(parts.head, sz=b - a)).tobytes()
            for a, b in pairwise(bounds)
        ]
    counts, keys = parts.counts, parts.keys
    first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    model = parts.model
    at = len(model) + np.concatenate([[0], np.cumsum(parts.index, dtype=np.int64)])
    result = []
    for a, b in pairwise(bounds):
        piece = replace(
            parts,
            head=replace(parts.head, sz=b - a),
            index=parts.index[a:b],
            cracks=b"".join((model, parts.cracks[at[a] : at[b]])),
            crcs=parts.crcs[a:b],
        )
        if b > a:
            piece.set_labels(counts[a:b], parts.table, keys[first[a] : first[b]])
        stream = piece.tobytes()
        result.append(_native.pin(stream, 1, None) if pinned and b - a > 1 else stream)
    return result


def zsplit(binary: Any, z: int, parallel: int = 0) -> tuple[bytes, bytes, bytes]:
    """The slices before z, slice z, and those behind it; the outer ones may have none.

    ``binary`` may be an array, too. ValueError if z is not in the volume.
    """
    stream = compress(binary, parallel=parallel) if isinstance(binary, np.ndarray) else binary
    sz = opened(stream)[1].sz
    z = operator.index(z)  # z + 1 may not fit a narrow numpy integer
    if not 0 <= z < sz:
        raise ValueError(f"{z} is outside the range 0 to {sz}.")
    before, middle, after = zcut(stream, [0, z, z + 1, sz], parallel)
    return before, middle, after


def zshatter(binary: Any, parallel: int = 0) -> list[bytes]:
    """Each slice as a stream of its own."""
    stream, head = opened(binary)
    if not stream.pixels:  # then nothing bears out how many slices there are
        limits.check(head.sz, 1, stream.nbytes)
    return zcut(binary, range(head.sz + 1), parallel)


# ---- new volumes ----


def full(
    shape: Sequence[int] | int,
    fill_value: int,
    dtype: npt.DTypeLike | None = None,
    order: Literal["C", "F"] = "C",
) -> CrackleArray:
    """A volume of one label, as numpy.full makes it, in a few bytes a slice.

    Parameters
    ----------
    dtype : dtype of integers, optional
        By default uint64, and int64 for a negative value; as wide as a numpy integer is.

    Returns
    -------
    CrackleArray
        Of up to 3 axes: missing ones are 1.

    Raises
    ------
    OverflowError
        For a value that does not fit the dtype.
    """
    from numcodecs_crackle.array import CrackleArray

    sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if len(sizes) > 3 or any(s < 0 for s in sizes):
        raise ValueError(f"a stream has up to 3 axes, of 0 or more voxels, not {sizes}")
    sx, sy, sz = (int(s) for s in sizes + (1,) * (3 - len(sizes)))
    if dtype is None:
        width = np.asarray(fill_value).itemsize
        dtype = f"{'i' if fill_value < 0 else 'u'}{width}"
    wanted = np.dtype(dtype)
    check_dtype(wanted)
    wanted = np.dtype(np.uint8) if wanted.kind == "b" else wanted
    if not fits(fill_value, wanted):
        raise OverflowError(f"{fill_value} does not fit {wanted}")
    if sx * sy * sz == 0:
        empty = np.zeros((sx, sy, sz), wanted, order="F" if order == "F" else "C")
        return CrackleArray(compress(empty))
    # One blank slice, and then as many as there are; the array for it is of single bytes.
    parts = Sections.of(compress(np.zeros((sx, sy, 1), np.uint8, order="F")))
    head = replace(
        parts.head,
        sz=sz,
        data_width=wanted.itemsize,
        signed=wanted.kind == "i",
        fortran_order=order == "F",
    )
    parts = replace(
        parts,
        head=head,
        index=np.repeat(parts.index, sz),
        table=np.array([fill_value], wanted),
        rest=np.repeat(parts.counts, sz).tobytes() + np.repeat(parts.keys, sz).tobytes(),
        cracks=bytes(parts.cracks) * sz,
        crcs=np.repeat(parts.crcs, sz),
    )
    return CrackleArray(parts.tobytes())


def zeros(
    shape: Sequence[int] | int, dtype: npt.DTypeLike | None = None, order: Literal["C", "F"] = "C"
) -> CrackleArray:
    """A volume of label 0: see `full`."""
    return full(shape, 0, dtype, order)


def ones(
    shape: Sequence[int] | int, dtype: npt.DTypeLike | None = None, order: Literal["C", "F"] = "C"
) -> CrackleArray:
    """A volume of label 1: see `full`."""
    return full(shape, 1, dtype, order)
