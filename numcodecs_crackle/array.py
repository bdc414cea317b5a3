"""A stream that is used like a numpy array."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import blockwise, edit, limits, measure, stack, stream
from numcodecs_crackle.array_measures import ArrayMeasures
from numcodecs_crackle.components import connected_components
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader, LabelFormat
from numcodecs_crackle.pool import mode_pooling_2x2x1

if TYPE_CHECKING:
    from numcodecs_crackle.viewer import SliceBrowser

__all__ = ["CrackleArray", "compressa"]


_ARITHMETIC = {
    ufunc: symbol
    for symbol, ufunc in blockwise.OPERATORS.items()
    if symbol not in blockwise.COMPARISONS
}


# numpy's arrays it leaves to numpy's own operators.
_Operator = Callable[["CrackleArray", "int | np.integer[Any] | CrackleArray"], "CrackleArray"]


def _operator(symbol: str, swapped: bool = False) -> _Operator:
    def function(self: CrackleArray, other: Any) -> Any:
        return self._operate(other, symbol, swapped)

    return function


def as_slice(z: Any) -> slice:
    """The index of a slice, or a range of them, as a range."""
    if isinstance(z, slice):
        return z
    first = operator.index(z)  # first + 1 may not fit a narrow numpy integer
    return slice(first, first + 1 or None)


def _as_mask(index: Any) -> Any:
    """A CrackleArray as an index: where it is not 0."""
    return index.numpy() != 0 if isinstance(index, CrackleArray) else index


class CrackleArray(ArrayMeasures):
    """A volume of labels, held as a Crackle stream.

    Parameters
    ----------
    binary : bytes
        The stream, kept as it is in the attribute ``binary``.
    parallel : int
        Threads for what is done with it; 0 for all cores.
    max_voxels : int, optional
        Refuse, with a `FormatError`, to decode or walk more of them at a time; by default what
        `set_max_voxels` says. What is made of it, by an edit or an operator, has the same.

    Attributes
    ----------
    binary : bytes
        The stream; an assignment to slices puts another in its place.
    shape : tuple of int
        (sx, sy, sz) in voxels.
    parallel, max_voxels
        As given.

    Notes
    -----
    Indexing is numpy's, and decodes only the slices that are needed; assignment replaces the
    slices that it touches; a CrackleArray as the index is a mask. Operators work voxel by voxel;
    with a numpy array, and in numpy's functions, it is decoded. What is true of labels without
    looking at voxels (`labels`, ``in``, `min`, `remap` ...) is answered from the label section.
    """

    def __init__(self, binary: Any, parallel: int = 0, *, max_voxels: int | None = None) -> None:
        self.binary: Any = binary
        self.parallel: int = parallel
        self.max_voxels: int | None = limits.checked(max_voxels)
        self.shape: tuple[int, ...] = self.header().shape
        self._truth: Callable[[], bool] | None = None
        self._meta: Any = None  # a binary, and a table of its measures from beside the file
        self._open: Any = None  # the binary that was opened last, and the stream

    def _new(self, binary: Any) -> CrackleArray:
        return CrackleArray(binary, self.parallel, max_voxels=self.max_voxels)

    def opened(self) -> Any:
        """The opened stream, and its header; kept, so that it is verified once.

        Not where the bytes may change behind its back.
        """
        kept, binary = self._open, self.binary  # which another thread may change meanwhile
        if kept is None or kept[0] is not binary:
            found = stream.opened(binary)
            found[0].max_voxels = self.max_voxels
            if not memoryview(binary).readonly:
                return found
            kept = self._open = binary, found
        return kept[1]

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"binary": bytes(self.binary)}
        return state | {"_open": None, "_meta": None, "_truth": None}

    def __repr__(self) -> str:
        return f"CrackleArray(shape={self.shape}, dtype={self.dtype}, bytes={len(self.binary)})"

    def __len__(self) -> int:
        """The bytes of the stream, as in crackle-codec."""
        return len(self.binary)

    # ---- what it is ----

    def header(self, ignore_crc_check: bool = False) -> CrackleHeader:
        """The header of the stream. Raises `FormatError`."""
        return stream.header(self, ignore_crc_check)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the labels."""
        return self.header().dtype

    @property
    def size(self) -> int:
        """The number of voxels."""
        return self.header().voxels()

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of the decoded array in bytes."""
        return self.header().nbytes

    @property
    def random_access(self) -> bool:
        """Whether slices are decoded one by one, as they always are."""
        return True

    # ---- labels ----

    def labels(self, z: int | slice | None = None) -> npt.NDArray[Any]:
        """The labels, sorted; of slice ``z``, or of a range of slices."""
        if z is None:
            return stream.labels(self)
        picked = range(self.shape[2])[as_slice(z)]
        if not isinstance(z, slice) and not len(picked):
            raise IndexError(f"slice {z} is out of bounds for {self.shape[2]} slices")
        if not len(picked) or not self.size:
            return np.zeros(0, self.dtype)
        if picked.step == 1:
            return stream.labels_for_z_range(self, picked.start, picked.stop)
        each_z = [stream.labels_for_z_range(self, i, i + 1) for i in picked]
        return np.unique(np.concatenate(each_z))

    def num_labels(self) -> int:
        """The number of labels."""
        return stream.num_labels(self)

    def __contains__(self, label: Any) -> bool:
        """Whether a label is there, by the table of labels."""
        return stream.contains(self, label)

    def contains_range(self, low: int, high: int) -> npt.NDArray[Any]:
        """The labels from ``low`` up to, but not including, ``high``, sorted."""
        return stream.contains_range(self, low, high)

    def min(self) -> int:
        """The smallest label."""
        return stream.min(self)

    def max(self) -> int:
        """The largest label."""
        return stream.max(self)

    def any(
        self, axis: Any = None, out: Any = None, keepdims: bool = False, *, where: Any = True
    ) -> Any:
        """Whether a voxel is not 0: see numpy.any."""
        if axis is None and out is None and not keepdims and where is True:
            return np.bool_(stream.labels(self).any())
        return np.any(self.numpy(), axis=axis, out=out, keepdims=keepdims, where=where)

    def all(
        self, axis: Any = None, out: Any = None, keepdims: bool = False, *, where: Any = True
    ) -> Any:
        """Whether no voxel is 0: see numpy.all."""
        if axis is None and out is None and not keepdims and where is True:
            return np.bool_(stream.labels(self).all())
        return np.all(self.numpy(), axis=axis, out=out, keepdims=keepdims, where=where)

    # ---- decoding ----

    def decompress(
        self, label: int | None = None, crop: bool = False, **kwargs: Any
    ) -> npt.NDArray[Any]:
        """See `numcodecs_crackle.decompress`."""
        array = stream.decompress(self, label=label, crop=crop, parallel=self.parallel, **kwargs)
        return self._with_channels(array)

    def numpy(self, *args: Any, **kwargs: Any) -> npt.NDArray[Any]:
        """The decoded array; arguments are those of `decompress`."""
        return self.decompress(*args, **kwargs)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Any:
        if copy is False:
            raise ValueError("a Crackle stream can't be an array without being decoded")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        """Planes of x, as of an array; all is decoded once."""
        return iter(self.numpy())

    def _with_channels(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array.reshape(array.shape + self.shape[3:], order="A")

    def _basic(self, index: Any) -> tuple[Any, Any, Any] | None:
        """The index of each axis, if all are integers and slices, else None.

        Raises what numpy raises.
        """
        entries = index if isinstance(index, tuple) else (index,)
        plain = (int, np.integer, slice, type(Ellipsis))
        if any(not isinstance(e, plain) or isinstance(e, (bool, np.bool_)) for e in entries):
            return None
        try:
            probe = np.broadcast_to(np.zeros((), np.bool_), self.shape[:3])
        except ValueError as error:  # axes of up to 2^32, which no array has together
            raise FormatError(f"no array has the shape {self.shape[:3]}", "header") from error
        probe[index]
        at = [i for i, e in enumerate(entries) if e is Ellipsis]
        missing = (slice(None),) * (3 - len(entries) + len(at))
        split = at[0] if at else len(entries)
        x, y, z = entries[:split] + missing + entries[split + len(at) :]
        return x, y, z

    def __getitem__(self, index: Any) -> Any:
        index = _as_mask(index)
        pair = index if isinstance(index, tuple) and len(index) == 2 else ((), ())
        if pair[0] is Ellipsis and pair[1] is None:  # a channel axis, as cloud-volume asks for
            other = self._new(self.binary)
            other.shape = (*self.shape, 1)
            return other
        if len(self.shape) > 3:
            return self.numpy()[index]
        basic = self._basic(index)
        if basic is not None:
            x, y, z = basic
            return self._slices(z)[x, y, 0 if not isinstance(z, slice) else slice(None)]
        if isinstance(index, tuple) and len(index) == 3:
            arrays = [np.asarray(e) for e in index if not isinstance(e, slice) and e is not None]
            if len(arrays) == 3 and all(a.dtype.kind in "iu" and a.size for a in arrays):
                return self._scattered(arrays)
        return self.numpy()[index]

    def _slices(self, z: Any) -> npt.NDArray[Any]:
        """The slices of a z index, decoded."""
        sz = self.shape[2]
        picked = range(sz)[as_slice(z)]
        ends = (picked[0], picked[-1]) if len(picked) else (0, -1)
        low, high = min(ends), max(ends) + 1
        if len(picked) == high - low:
            block = stream.decompress_range(self, low, high, self.parallel)
            return block if picked.step > 0 else block[:, :, ::-1]
        opened, head = self.opened()
        opened.allow(len(picked))
        order: Literal["F", "C"] = "F" if head.fortran_order else "C"
        result = np.empty((head.sx, head.sy, len(picked)), head.dtype, order=order)
        if not result.size:  # and there may be 2^32 slices of nothing
            return result
        for i, one in enumerate(picked):
            result[:, :, i : i + 1] = stream.decompress_range(self, one, one + 1, self.parallel)
        return result

    def _scattered(self, arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Voxels at arrays of indices, broadcast as numpy does."""
        points = np.broadcast_arrays(*arrays)
        wrapped = []
        for axis, (i, size) in enumerate(zip(points, self.shape, strict=False)):
            if ((i < -size) | (i >= size)).any():
                bad = i[(i < -size) | (i >= size)][0]
                raise IndexError(f"index {bad} is out of bounds for axis {axis} with size {size}")
            wrapped.append(np.where(i < 0, i + size, i).reshape(-1))
        values = measure.scattered_points(self, np.stack(wrapped, axis=1), self.parallel)
        return values.reshape(points[0].shape)

    def __setitem__(self, index: Any, data: Any) -> None:
        if len(self.shape) > 3:
            raise IndexError("assignment takes an array of 3 axes")
        index = _as_mask(index)
        if isinstance(data, CrackleArray):
            data = data.numpy()
        basic = self._basic(index)
        head = self.header()
        sz = self.shape[2]
        if basic is None:
            block, low, high = self.numpy(), 0, sz
            block[index] = data
        else:
            x, y, z = basic
            picked = range(sz)[as_slice(z)]
            if not len(picked) or not head.voxels():
                np.broadcast_to(np.zeros((), head.dtype), self.shape)[index].copy()[...] = data
                return
            low, high = min(picked), max(picked) + 1
            whole = all(isinstance(i, slice) and i == slice(None) for i in (x, y))
            if whole and len(picked) == high - low:
                self.opened()[0].allow(high - low)
                order: Literal["F", "C"] = "F" if head.fortran_order else "C"
                block = np.empty((head.sx, head.sy, high - low), head.dtype, order=order)
            else:
                block = stream.decompress_range(self, low, high, self.parallel)
            if isinstance(z, slice):
                stop = picked.stop - low
                inner: Any = slice(picked.start - low, stop if stop >= 0 else None, picked.step)
            else:
                inner = 0
            block[x, y, inner] = data
        coded = stream.compress(
            block,
            head.markov_model_order,
            self.parallel,
            allow_pins=int(head.label_format != LabelFormat.FLAT),
        )
        # Parts may have few of the bytes that the whole is believed by.
        with limits.max_voxels(limits.most(len(self.binary), self.max_voxels)):
            before, _, after = stack.zcut(self, [0, low, high, sz], self.parallel)
            self.binary = stack.zstack(
                [before, coded, after], head.markov_model_order, self.parallel
            )

    # ---- files ----

    def save(self, filelike: Any, **kwargs: Any) -> None:
        """Write to a file, whose name says its kind: see `numcodecs_crackle.save`."""
        from numcodecs_crackle import files

        files.save(self, filelike, **kwargs)

    # ---- edits: new arrays ----

    def copy(self, order: Literal["C", "F", "K"] = "K") -> CrackleArray:
        """An array of the same stream; with "C" or "F" in that memory order."""
        if order == "K":
            return self._new(self.binary)
        return self.asfortranarray() if order == "F" else self.ascontiguousarray()

    def asfortranarray(self) -> CrackleArray:
        """The array in Fortran order."""
        return self._new(edit.asfortranarray(self))

    def ascontiguousarray(self) -> CrackleArray:
        """The array in C order."""
        return self._new(edit.ascontiguousarray(self))

    def remap(
        self, mapping: Mapping[int, int], preserve_missing_labels: bool = False
    ) -> CrackleArray:
        """Labels changed by a mapping: see `numcodecs_crackle.remap`."""
        return self._new(
            bytes(edit.remap(self, mapping, preserve_missing_labels, parallel=self.parallel))
        )

    def refit(self) -> CrackleArray:
        """The narrowest dtype that holds the labels."""
        return self._new(edit.refit(self))

    def renumber(self, start: int = 0) -> tuple[CrackleArray, dict[int, int]]:
        """Labels numbered from ``start`` on, and the mapping of old to new."""
        binary, mapping = edit.renumber(self, start, self.parallel)
        return self._new(binary), mapping

    def astype(
        self,
        dtype: npt.DTypeLike,
        order: Literal["C", "F", "K", "A"] = "K",
        casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "unsafe",
    ) -> CrackleArray:
        """Another dtype: see `numcodecs_crackle.astype`."""
        return self._new(edit.astype(self, dtype, order, casting))

    def condense(self) -> CrackleArray:
        """A sorted table of labels, each once, without unused ones."""
        return self._new(edit.condense_unique(self))

    def recompress(self) -> CrackleArray:
        """Without borders between equal labels, which an edit left."""
        return self._new(edit.recompress(self, self.parallel))

    def mask(self, labels: Iterable[int], value: int = 0, in_place: bool = False) -> CrackleArray:
        """Labels given one value: see `numcodecs_crackle.mask`."""
        return self._new(edit.mask(self, labels, value, in_place, self.parallel))

    def mask_except(
        self, labels: Iterable[int], value: int = 0, in_place: bool = False
    ) -> CrackleArray:
        """All labels but some given one value."""
        return self._new(edit.mask_except(self, labels, value, in_place, self.parallel))

    def apply_binary_mask(self, other: Any) -> CrackleArray:
        """0 where another array of this shape is 0."""
        return self._new(blockwise.apply_binary_mask(self, other, self.parallel))

    def mode_pooling_2x2x1(self, sparse: bool = False) -> CrackleArray:
        """Half the width and height: see `numcodecs_crackle.mode_pooling_2x2x1`."""
        return self._new(mode_pooling_2x2x1(self, sparse, self.parallel))

    def zrange(self, z_start: int, z_end: int) -> CrackleArray:
        """The slices [z_start, z_end), negative ones counted from the end. ValueError if none."""
        start, stop, _ = slice(z_start, z_end).indices(self.shape[2])
        if start >= stop:
            raise ValueError("zero z-depth")
        return self._new(stack.zcut(self, [start, stop], self.parallel)[0])

    @overload
    def connected_components(
        self,
        connectivity: int = 26,
        binary_image: bool = False,
        memory_target: int = int(100e6),
        progress: bool = False,
        return_mapping: Literal[False] = False,
    ) -> CrackleArray: ...
    @overload
    def connected_components(
        self,
        connectivity: int = 26,
        binary_image: bool = False,
        memory_target: int = int(100e6),
        progress: bool = False,
        *,
        return_mapping: Literal[True],
    ) -> tuple[CrackleArray, dict[int, int]]: ...
    @overload
    def connected_components(
        self,
        connectivity: int = 26,
        binary_image: bool = False,
        memory_target: int = int(100e6),
        progress: bool = False,
        return_mapping: bool = False,
    ) -> Any: ...
    def connected_components(
        self,
        connectivity: int = 26,
        binary_image: bool = False,
        memory_target: int = int(100e6),
        progress: bool = False,
        return_mapping: bool = False,
    ) -> Any:
        """The components as a CrackleArray; with ``return_mapping`` and the mapping."""
        out = connected_components(
            self, connectivity, binary_image, memory_target, progress, return_mapping,
            self.parallel,
        )  # fmt: skip
        return (self._new(out[0]), out[1]) if return_mapping else self._new(out)

    def viewer(self) -> SliceBrowser:
        """Browse the slices, which are decoded as they are shown: see `viewer.view`."""
        from numcodecs_crackle.viewer import view

        return view(self)

    # ---- operators ----

    def _operate(self, other: Any, symbol: str, swapped: bool = False) -> Any:
        """The operator's array; NotImplemented for operands that aren't labels."""
        ufunc = blockwise.OPERATORS[symbol]
        if isinstance(other, (int, np.integer)):
            function = (lambda table, number: ufunc(number, table)) if swapped else ufunc
            return self._new(edit.apply_scalar(self, function, int(other), self.parallel))
        if isinstance(other, CrackleArray):
            return self._new(blockwise.binary_operator(self, other, symbol, self.parallel))
        return NotImplemented

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """numpy's functions decode; only arithmetic of a numpy integer and this does not."""
        if any(isinstance(out, CrackleArray) for out in kwargs.get("out", ())):
            return NotImplemented
        symbol = _ARITHMETIC.get(ufunc)
        if method == "__call__" and not kwargs and symbol and isinstance(inputs[0], np.integer):
            return self._operate(inputs[0], symbol, swapped=True)
        arrays = [i.numpy() if isinstance(i, CrackleArray) else i for i in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

    def _compare(self, other: Any, symbol: str) -> Any:
        if isinstance(other, CrackleArray) and other.shape[:3] != self.shape[:3]:
            return symbol == "!="  # whatever the voxels
        result = self._operate(other, symbol)
        if result is not NotImplemented:
            result._truth = result.any if symbol == "!=" else result.all
        return result

    def __bool__(self) -> bool:
        """Of ``a == b`` if all voxels are equal, of ``a != b`` if one is not; else True."""
        return True if self._truth is None else bool(self._truth())

    def __eq__(self, other: object) -> Any:
        return self._compare(other, "=")

    def __ne__(self, other: object) -> Any:
        return self._compare(other, "!=")

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    __gt__: ClassVar[_Operator] = _operator(">")
    __ge__: ClassVar[_Operator] = _operator(">=")
    __lt__: ClassVar[_Operator] = _operator("<")
    __le__: ClassVar[_Operator] = _operator("<=")
    __add__: ClassVar[_Operator] = _operator("+")
    __radd__: ClassVar[_Operator] = _operator("+", swapped=True)
    __sub__: ClassVar[_Operator] = _operator("-")
    __rsub__: ClassVar[_Operator] = _operator("-", swapped=True)
    __mul__: ClassVar[_Operator] = _operator("*")
    __rmul__: ClassVar[_Operator] = _operator("*", swapped=True)
    __floordiv__: ClassVar[_Operator] = _operator("/")
    __rfloordiv__: ClassVar[_Operator] = _operator("/", swapped=True)
    __mod__: ClassVar[_Operator] = _operator("%")
    __rmod__: ClassVar[_Operator] = _operator("%", swapped=True)
    __and__: ClassVar[_Operator] = _operator("&")
    __rand__: ClassVar[_Operator] = _operator("&", swapped=True)
    __or__: ClassVar[_Operator] = _operator("|")
    __ror__: ClassVar[_Operator] = _operator("|", swapped=True)
    __xor__: ClassVar[_Operator] = _operator("^")
    __rxor__: ClassVar[_Operator] = _operator("^", swapped=True)
    __lshift__: ClassVar[_Operator] = _operator("<<")
    __rlshift__: ClassVar[_Operator] = _operator("<<", swapped=True)
    __rshift__: ClassVar[_Operator] = _operator(">>")
    __rrshift__: ClassVar[_Operator] = _operator(">>", swapped=True)

    def __pos__(self) -> CrackleArray:
        return self

    def __neg__(self) -> CrackleArray:
        return self._new(edit.apply_scalar(self, lambda t, _: np.negative(t), 0))

    def __invert__(self) -> CrackleArray:
        return self._new(edit.apply_scalar(self, lambda t, _: np.invert(t), 0))


def compressa(labels: Any, *args: Any, **kwargs: Any) -> CrackleArray:
    """`compress`, or of a CrackleArray `reencode`, as a CrackleArray. Arguments are theirs."""
    parallel = kwargs.get("parallel", 0)
    if isinstance(labels, CrackleArray):
        order = args[0] if args else kwargs.get("markov_model_order", 0)
        binary = edit.reencode(labels, order, parallel)
        return CrackleArray(binary, parallel, max_voxels=labels.max_voxels)
    return CrackleArray(stream.compress(labels, *args, **kwargs), parallel)
