"""A CrackleArray whose stream stays in a file."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import fileio, limits, measure, stream
from numcodecs_crackle.array import CrackleArray, as_slice
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.header import CrackleHeader, LabelFormat
from numcodecs_crackle.partial import Range, labels_of, slices_named, slices_of

__all__ = ["FileArray"]


class FileArray(CrackleArray):
    """A volume of labels, whose stream is read from a file as far as it is needed.

    Parameters
    ----------
    file : BloscpackFile, or another file object that can seek
        Of the stream. It is used, by one thread at a time, as long as the array is.
    parallel : int
        Threads; 0 for all cores.
    measures : function of the stream, optional
        Gives the table of its measures, or None: see `CrackleArray.use_measures`. It is called
        when they are asked for.
    max_voxels : int, optional
        As of `CrackleArray`.

    Notes
    -----
    Slices (``array[:, :, z]``), and the labels, as far as they are asked for by `labels`,
    `num_labels`, `min`, `max` and ``in``, are read by the ranges that they need. For anything
    else, and for a stream with pins, the whole stream is read once; so it is before a change,
    which stays in memory.
    """

    def __init__(
        self,
        file: Any,
        parallel: int = 0,
        measures: Callable[[Any], Any] | None = None,
        *,
        max_voxels: int | None = None,
    ) -> None:
        self._file = file
        self._measures = measures
        self._lock = threading.Lock()
        self._whole: Any = None
        # Its chunks have checksums, which say what that of all labels would.
        packed = getattr(file, "header", None)
        self._verify = packed is None or packed.checksum.size == 0
        self._head = CrackleHeader.frombytes(self._bytes(0, 29))
        super().__init__(None, parallel, max_voxels=max_voxels)

    def _bytes(self, start: int, stop: int | None) -> bytes:
        with self._lock:
            self._file.seek(start)
            if stop is None:
                return bytes(self._file.read())
            return fileio.read(self._file, stop - start)

    def _length(self) -> int:
        with self._lock:
            end = self._file.seek(0, io.SEEK_END)
            return int(self._file.tell() if end is None else end)

    def _answer(self, plan: Generator[list[Range], list[Any], Any]) -> Any:
        """What a plan comes to, from the bytes of the file that it wants."""
        try:
            wanted = next(plan)
            while True:
                wanted = plan.send([self._bytes(*where) for where in wanted])
        except StopIteration as end:
            return end.value

    @property
    def binary(self) -> Any:
        """The stream, which is read when it is first asked for."""
        if self._whole is None:
            whole = self._bytes(0, None)
            with self._lock:
                if self._whole is None:  # else it was assigned to while the file was read
                    self._whole = whole
        return self._whole

    @binary.setter
    def binary(self, binary: Any) -> None:
        with self._lock:
            self._whole = binary

    def close(self) -> None:
        """Close the file. What was read as a whole can still be asked."""
        if self._file is not None:
            self._file.close()

    def __getstate__(self) -> dict[str, Any]:
        gone = {"_file": None, "_lock": None, "_measures": None, "_whole": bytes(self.binary)}
        state = super().__getstate__() | gone
        del state["binary"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __repr__(self) -> str:
        return f"FileArray(shape={self.shape}, dtype={self.dtype})"

    def header(self, ignore_crc_check: bool = False) -> CrackleHeader:
        """The header of the stream."""
        return self._head if self._whole is None else super().header(ignore_crc_check)

    # ---- labels ----

    def labels(self, z: int | slice | None = None) -> npt.NDArray[Any]:
        """The labels, sorted; of slice ``z``, or of a range of slices."""
        if not self._read_in_parts:
            return super().labels(z)
        zs = None if z is None else self._picked(z)
        found: npt.NDArray[Any] = self._answer(labels_of(zs))
        return found

    @property
    def _read_in_parts(self) -> bool:
        """Whether parts make sense: pins don't name the labels of a slice."""
        flat = self._head.label_format == LabelFormat.FLAT
        return self._whole is None and flat and self.size > 0

    def _picked(self, z: int | slice) -> npt.NDArray[np.intp]:
        """The slices of an index, ascending. IndexError if there is none."""
        length = self._length()
        if self._head.header_bytes + self._head.grid_index_bytes > length:
            raise FormatError("the crack index is cut off", "crack index")
        picked = range(self.shape[2])[as_slice(z)]
        if not isinstance(z, slice) and not picked:
            raise IndexError(f"slice {z} is out of bounds for {self.shape[2]} slices")
        return np.sort(np.arange(picked.start, picked.stop, picked.step, dtype=np.intp))

    def num_labels(self) -> int:
        """The number of labels."""
        return int(self.labels().size)

    def __contains__(self, label: Any) -> bool:
        """Whether a label is there."""
        if self._whole is not None:
            return super().__contains__(label)
        return stream.fits(label, self.dtype) and bool((self.labels() == int(label)).any())

    def min(self) -> int:
        """The smallest label."""
        return int(self.labels()[:1].sum())

    def max(self) -> int:
        """The largest label."""
        return int(self.labels()[-1:].sum())

    def totals(self, label: int | None, **wanted: bool) -> measure.Totals:
        """See `CrackleArray.totals`."""
        if (measures := self._measures) is not None:
            self._measures = None
            if self._whole is None:  # else it may be another stream by now
                binary = self.binary
                table = measures(binary)
                self._meta = None if table is None else (binary, table)
        return super().totals(label, **wanted)

    # ---- slices ----

    def _slices(self, z: Any) -> npt.NDArray[Any]:
        """The slices of a z index, decoded."""
        if not self._read_in_parts:
            return super()._slices(z)
        zs = self._picked(z)
        if not len(zs):
            return super()._slices(z)
        # By all of the stream's bytes, of which these slices have a few.
        limits.check(len(zs), self._head.sx * self._head.sy, self._length(), self.max_voxels)
        binary, _ = self._answer(slices_of(zs, verify=self._verify))
        with slices_named(zs):
            block = stream.decompress(binary, None, self.parallel, max_voxels=limits.EXPECTED)
        backward = isinstance(z, slice) and z.step is not None and z.step < 0
        return block[:, :, ::-1] if backward else block
