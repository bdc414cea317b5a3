"""Single streams: compress, decompress, and questions that need no decoding.

Names, arguments and results are crackle-codec's. Axes are x, y, z as the stream has them.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native, limits
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader, LabelFormat

__all__ = [
    "check", "compress", "contains", "contains_range", "decompress", "decompress_range",
    "header", "labels", "labels_for_z_range", "max", "min", "nbytes", "num_labels", "ok",
]  # fmt: skip

MAX_MARKOV_ORDER = 15


def opened(binary: Any) -> tuple[_native.Stream, CrackleHeader]:
    """Open a stream: bytes, or what has them as its ``binary``. Raises `FormatError`."""
    if hasattr(binary, "opened"):  # a CrackleArray may have it open
        found: tuple[_native.Stream, CrackleHeader] = binary.opened()
        return found
    stream = _native.Stream(getattr(binary, "binary", binary))
    return stream, CrackleHeader._from_native(stream.header)


def label_groups(
    stream: _native.Stream, dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint32]]:
    """The labels, sorted, each once; and for each entry of the table which one it is.

    The table of an edited stream may be unsorted and hold a label twice. Its background, if
    it has one, comes last.
    """
    table, background = stream.unique()
    if background is not None:
        table = np.concatenate([table, background])
    # Cast first: other writers narrow the array and leave the table wide.
    values, place = np.unique(table.astype(dtype, copy=False), return_inverse=True)
    group: npt.NDArray[np.uint32] = place.astype(np.uint32).reshape(-1)
    if background is None:
        group = np.append(group, np.uint32(_native.NO_GROUP))
    return values, group


def check_markov_order(order: Any) -> int | Literal["auto"]:
    """``order`` as an int in 0 .. 15 or as "auto", else TypeError or ValueError."""
    if isinstance(order, str) and order == "auto":
        return "auto"
    if isinstance(order, (bool, np.bool_)) or not isinstance(order, (int, np.integer)):
        raise TypeError(f'markov_model_order must be an integer or "auto", not {order!r}')
    if not 0 <= order <= MAX_MARKOV_ORDER:
        raise ValueError(f"markov_model_order must be 0 to {MAX_MARKOV_ORDER}, not {order}")
    return int(order)


def check_dtype(dtype: np.dtype[Any]) -> None:
    """TypeError for dtypes that aren't labels, with what to do."""
    if dtype.kind in "iub":
        return
    hint = {
        "f": "convert them to integers first, e.g. with .astype('uint32')",
        "O": "convert it to an integer array first",
        "M": "view them as int64 first",
        "m": "view them as int64 first",
    }.get(dtype.kind, "convert it to an integer array first")
    raise TypeError(f"Crackle stores integer labels, not {dtype}: {hint}")


def as_volume(labels: Any) -> npt.NDArray[Any]:
    """A 3D view (or copy) of an array of labels: native-endian integers, aligned."""
    if not hasattr(labels, "dtype"):
        raise TypeError(f"labels must be a numpy array, not {type(labels).__name__}")
    array = np.asarray(labels)
    check_dtype(array.dtype)
    if array.ndim > 3:
        raise ValueError(
            f"a stream has at most 3 axes, and this array has {array.ndim}: compress 3D "
            "parts of it, or store it in Zarr with this package's codec, which folds axes"
        )
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array.reshape(array.shape + (1,) * (3 - array.ndim))


def compress(
    labels: Any,
    markov_model_order: int | Literal["auto"] = 0,
    parallel: int = 0,
    *,
    allow_pins: int = 0,
    bgcolor: int | None = None,
) -> bytes:
    """Compress an array of labels to a Crackle stream.

    Parameters
    ----------
    labels : array of integers or bool, up to 3D
        Its axes are x, y, z. bool is stored as uint8; 1D and 2D arrays get unit axes.
    markov_model_order : int, 0 to 15, or "auto"
        0 is fastest. Each order above makes the model 4 times larger (5 bytes of it for
        8 contexts) and the borders smaller; 5 to 7 suit large volumes. "auto" takes the
        order that makes the stream of these labels the smallest.
    parallel : int
        Threads; 0 for all cores.
    allow_pins : 0, 1 or 2
        1 or 2: store labels as pins, vertical lines through the slices of a cell; 2 looks
        longer for good ones. Smaller where cells are long in z and have few branches, else
        larger; the labels of a z range are then no longer known without decoding it. Of no
        effect on a single slice, on signed labels, and where most neighbours differ.
    bgcolor : int, optional
        With pins, the label that is stored without any; by default, and if no voxel has the
        one given, the label that this saves most for.

    Raises
    ------
    TypeError, ValueError
        For floats and objects, for arrays of 4 axes and more, and for other orders and
        options; for a ``bgcolor`` that does not fit the dtype.
    """
    order = check_markov_order(markov_model_order)
    array = as_volume(labels)
    if allow_pins not in (0, 1, 2):
        raise ValueError(f"allow_pins must be 0, 1 or 2, not {allow_pins!r}")
    if bgcolor is not None and not fits(bgcolor, array.dtype):
        raise ValueError(f"bgcolor {bgcolor} is not a label of {array.dtype}")
    fortran = array.flags.f_contiguous
    if not fortran and not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    if not array.flags.aligned:
        array = array.copy(order="K")
    flat = array.reshape(-1, order="F" if fortran else "C")
    sx, sy, sz = array.shape
    binary = _native.encode(flat, (sx, sy, sz), not fortran, fortran, order, parallel)
    if not allow_pins or array.dtype.kind == "i":
        return binary
    return _native.pin(binary, int(allow_pins), None if bgcolor is None else int(bgcolor))


def _z_range(sz: int, z_start: int | None, z_end: int | None) -> tuple[int, int]:
    start = 0 if z_start is None else int(z_start)
    end = sz if z_end is None else int(z_end)
    if not 0 <= start <= end <= sz:
        raise IndexError(f"the z range [{z_start}, {z_end}) is not within [0, {sz})")
    return start, end


def decompress(
    binary: Any,
    label: int | None = None,
    parallel: int = 0,
    crop: bool = False,
    z_start: int | None = None,
    z_end: int | None = None,
    out: npt.NDArray[Any] | None = None,
    *,
    max_voxels: int | None = None,
) -> npt.NDArray[Any]:
    """Decompress a Crackle stream, or some of its slices.

    Parameters
    ----------
    label : int, optional
        Return where this label is instead, as a bool array. Only slices that have it are
        decoded and verified.
    parallel : int
        Threads; 0 for all cores.
    crop : bool
        With ``label``: return only the slices from its first to its last; shape (0, 0, 0)
        if there is none.
    z_start, z_end : int, optional
        Decode the slices [z_start, z_end) only.
    out : array, optional
        Where to decode to: C- or F-contiguous, of the result's shape and dtype. It is
        returned. It stays as it was if the call is refused before a slice is decoded: for
        ``out`` itself, the z range, or a damaged header, crack index or label section. After
        a slice that turns out to be damaged its contents are undefined.
    max_voxels : int, optional
        Refuse to decode more of them, before anything is allocated. By default what
        `set_max_voxels` says; with ``out``, whose shape is expected, what it has.

    Returns
    -------
    array of shape (sx, sy, z_end - z_start), in the memory order that was compressed

    Raises
    ------
    FormatError
        If the stream is damaged; every slice that is decoded is verified (version 1). If it
        claims more than ``max_voxels``.
    IndexError
        If the z range is not in the volume.
    ValueError
        If ``out`` has another shape or dtype, is not contiguous, or read-only.
    """
    most = limits.checked(max_voxels)
    stream, head = opened(binary)
    z0, z1 = _z_range(head.sz, z_start, z_end)
    dtype: np.dtype[Any] = head.dtype if label is None else np.dtype(bool)
    if label is not None:
        if not fits(label, head.dtype):
            flags = np.zeros(stream.slices, np.bool_)
        else:
            flags, _ = stream.slices_with(int(label))
        if crop:
            held = np.flatnonzero(flags[z0:z1])
            if held.size == 0:
                return np.zeros((0, 0, 0), np.bool_)
            z0, z1 = z0 + int(held[0]), z0 + int(held[-1]) + 1
    shape = (head.sx, head.sy, z1 - z0)
    order = "F" if head.fortran_order else "C"
    if out is None or most is not None:
        stream.allow(z1 - z0, most)
    result: npt.NDArray[Any]
    if out is None:
        result = np.empty(shape, dtype, order=order)  # type: ignore[call-overload]
    else:
        result = out
        if result.shape != shape or result.dtype != dtype:
            raise ValueError(f"out is {result.dtype}{result.shape}, and the result {dtype}{shape}")
        if not result.flags.writeable:
            raise ValueError("out is read-only")
        if not (result.flags.c_contiguous or result.flags.f_contiguous):
            raise ValueError("out is neither C- nor F-contiguous")
        if not result.flags.f_contiguous:
            order = "C"
        elif not result.flags.c_contiguous:
            order = "F"
    if result.size:
        if label is not None and not flags.any():
            result[...] = False
        else:
            flat = result.reshape(-1, order="A" if order == "F" else "C")
            wanted = None if label is None else int(label)
            stream.decode(flat, z0, z1, order == "C", wanted, parallel)
    if label is not None and crop:
        # With pins the label section may name slices too many.
        held = np.flatnonzero(result.any(axis=(0, 1)))
        if held.size == 0:
            return np.zeros((0, 0, 0), np.bool_)
        result = result[:, :, held[0] : held[-1] + 1]
    return result


def decompress_range(
    binary: Any,
    z_start: int | None,
    z_end: int | None,
    parallel: int = 0,
    label: int | None = None,
) -> npt.NDArray[Any]:
    """Decompress the slices [z_start, z_end): see `decompress`."""
    return decompress(binary, label, parallel, z_start=z_start, z_end=z_end)


def header(binary: Any, ignore_crc_check: bool = False) -> CrackleHeader:
    """The header of a stream. Raises `FormatError`."""
    return CrackleHeader.frombytes(getattr(binary, "binary", binary), ignore_crc_check)


def fits(label: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a number is one of a dtype's. TypeError for what is no number."""
    if isinstance(label, (str, bytes)):
        raise TypeError(f"a label is an integer, not {label!r}")
    bits = 8 * dtype.itemsize
    low, high = (-(1 << bits - 1), 1 << bits - 1) if dtype.kind == "i" else (0, 1 << bits)
    return bool(label == int(label) and low <= int(label) < high)


def labels(binary: Any) -> npt.NDArray[Any]:
    """The labels of a stream, sorted, each once, in its dtype.

    From the table of labels. That of an edited stream may have some that no voxel has, which
    are left out by the keys of the components; where labels are pins they stay.
    """
    stream, head = opened(binary)
    values, group = label_groups(stream, head.dtype)
    if not head.is_remapped or head.label_format != LabelFormat.FLAT:
        return values
    used, _ = stream.labels_in(0, head.sz)
    return values[np.unique(group[:-1][used])]


def num_labels(binary: Any) -> int:
    """The number of labels."""
    return int(labels(binary).size)


def min(binary: Any) -> int:
    """The smallest label; 0 if there are no voxels."""
    table = labels(binary)
    return int(table[0]) if table.size else 0


def max(binary: Any) -> int:
    """The largest label; 0 if there are no voxels."""
    table = labels(binary)
    return int(table[-1]) if table.size else 0


def contains(binary: Any, label: int) -> bool:
    """Whether the stream has a label, by its table."""
    stream, head = opened(binary)
    if not fits(label, head.dtype):
        return False
    if head.is_remapped:  # the table may have labels that no voxel has
        return bool((labels(binary) == int(label)).any())
    return any(
        bool((part.astype(head.dtype, copy=False) == int(label)).any())
        for part in stream.unique()
        if part is not None
    )


def contains_range(binary: Any, low: int, high: int) -> npt.NDArray[Any]:
    """The labels from ``low`` up to, but not including, ``high``, sorted."""
    table = labels(binary)
    return table[(table >= low) & (table < high)]


def labels_for_z_range(binary: Any, z_start: int | None, z_end: int | None) -> npt.NDArray[Any]:
    """The labels in the slices [z_start, z_end), sorted.

    From the keys of the components; a stream with pins, whose components have none, is
    decoded. Raises IndexError if the range is not in the volume.
    """
    stream, head = opened(binary)
    z0, z1 = _z_range(head.sz, z_start, z_end)
    used, exact = stream.labels_in(z0, z1)
    if not exact:
        return np.unique(decompress(binary, z_start=z0, z_end=z1))
    # Cast first, as in label_groups.
    return np.unique(stream.unique()[0][used].astype(head.dtype, copy=False))


def nbytes(binary: Any) -> int:
    """The size of the decoded array in bytes."""
    return header(binary).nbytes


def check(binary: Any) -> dict[str, Any]:
    """Which sections are damaged.

    Returns
    -------
    dict
        ``header``, ``crack_index``, ``labels``: True if valid, False if damaged, None if
        that can't be told (version 0 has no checksums; what lies behind a damage).
        ``z``: the slices that are damaged, or None. A stream whose sections don't add up
        to its length has a damaged crack index.

    Raises
    ------
    FormatError
        If it claims more voxels than `set_max_voxels` allows.
    """
    result: dict[str, Any] = {"header": True, "crack_index": None, "labels": None, "z": None}
    stream = _native.Stream(getattr(binary, "binary", binary), tolerant=True)
    stream.max_voxels = getattr(binary, "max_voxels", None)
    damaged = stream.damaged
    if "header" in damaged:
        result["header"] = False
        return result
    if "labels" in damaged:
        result["labels"] = False
    if damaged - {"labels", "markov model"} or (stream.header is None and "labels" in damaged):
        result["crack_index"] = False
        return result
    if stream.header is None:  # the Markov model: no slice can be read
        sz = header(binary).sz
        return result | {"crack_index": True, "z": list(range(sz))}
    if stream.header.version:
        result["crack_index"] = True
        result["labels"] = "labels" not in damaged
    result["z"] = np.flatnonzero(stream.check_slices()).tolist()
    if "labels" not in damaged and not result["z"]:
        try:
            stream.keys()
        except FormatError:  # a key, or a pin, that names nothing
            result["labels"] = False
    return result


def ok(binary: Any) -> bool:
    """Whether the stream shows no damage at all."""
    result = check(binary)
    sections = (result["header"], result["crack_index"], result["labels"])
    return not (any(s is False for s in sections) or result["z"])
