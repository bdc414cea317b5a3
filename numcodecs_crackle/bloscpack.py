"""Bloscpack files, read and written on the Blosc that numcodecs brings.

Names, arguments and bytes are those of the package bloscpack 0.16: what it writes is read
here, and the reverse. `BloscpackFile` reads any part of a file, and `append` leaves it
readable wherever it is interrupted.

How many threads Blosc takes is set with `numcodecs.blosc.set_nthreads`.
"""

from __future__ import annotations

import ast
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.bloscpack_append import append
from numcodecs_crackle.bloscpack_args import BloscArgs, BloscpackArgs, MetadataArgs, chunks_for
from numcodecs_crackle.bloscpack_chunks import Chunks, in_order, read_fully, sealed
from numcodecs_crackle.bloscpack_file import BloscpackFile
from numcodecs_crackle.bloscpack_format import Header, checksum_named, metadata_section
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.extras import progress_bar
from numcodecs_crackle.fileio import atomic_write

__all__ = [
    "BloscArgs", "BloscpackArgs", "BloscpackFile", "MetadataArgs", "append", "pack_bytes",
    "pack_bytes_file", "pack_bytes_to_bytes", "pack_bytes_to_file", "pack_file",
    "pack_file_to_file", "pack_ndarray_file", "pack_ndarray_str", "pack_ndarray_to_bytes",
    "pack_ndarray_to_file", "unpack_bytes", "unpack_bytes_file", "unpack_bytes_from_bytes",
    "unpack_bytes_from_file", "unpack_file", "unpack_file_from_file", "unpack_ndarray_file",
    "unpack_ndarray_from_bytes", "unpack_ndarray_from_file", "unpack_ndarray_str",
]  # fmt: skip

_MOST_DTYPE = 1 << 16
# Strings, numbers, brackets: what a dtype is written with, and nothing that Python computes.
_LITERAL = re.compile(r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|\d++|[\s()\[\],]|True|None)*+""")


# ---- packing ----


def _pack(
    read: Callable[[int, int], Any],
    size: int,
    sink: Any,
    chunk_size: int | str,
    metadata: Any,
    blosc_args: BloscArgs,
    bloscpack_args: BloscpackArgs | None,
    metadata_args: MetadataArgs | None,
    whole: int = 1,
    progress: bool = False,
) -> None:
    """Pack ``size`` bytes, of which ``read(start, stop)`` gives some, one chunk after another."""
    blosc_args.check()
    bloscpack_args = bloscpack_args or BloscpackArgs()
    nchunks, chunk, last = chunks_for(size, chunk_size, whole)
    checksum = checksum_named(bloscpack_args.checksum)
    room = bloscpack_args.room(nchunks)
    section = b""
    if metadata is not None:
        section = metadata_section(metadata, metadata_args or MetadataArgs())
    head = Header(
        bool(bloscpack_args.offsets), metadata is not None, checksum, blosc_args.typesize,
        chunk, last, nchunks, room,
    )  # fmt: skip
    begin = sink.tell() if head.offsets else 0
    sink.write(head.tobytes() + section)
    at = offsets_at = Header.SIZE + len(section)
    for left in range(head.noffsets, 0, -(1 << 17)):
        sink.write(b"\xff" * (8 * min(left, 1 << 17)))
    at += 8 * head.noffsets
    offsets = np.empty(nchunks, "<i8")
    jobs = (
        partial(sealed, read(i * chunk, min(i * chunk + chunk, size)), blosc_args, checksum)
        for i in progress_bar(range(nchunks), progress, "chunks")
    )
    for i, (packed, check) in enumerate(in_order(jobs, size, chunk)):
        sink.write(packed)
        if check:
            sink.write(check)
        offsets[i] = at
        at += len(packed) + len(check)
    if head.offsets:
        sink.seek(begin + offsets_at)
        sink.write(offsets.data.cast("B"))
        sink.seek(begin + at)


@contextmanager
def _sink(file: Any) -> Iterator[Any]:
    if hasattr(file, "write"):
        yield file
        return
    with atomic_write(file) as sink:
        yield sink


@contextmanager
def _chunks(source: Any) -> Iterator[Chunks]:
    """The chunks of a file, or of a file object."""
    if hasattr(source, "read"):
        yield Chunks(source)
        return
    with open(source, "rb", buffering=0) as file:
        yield Chunks(file)


def pack_file_to_file(
    in_file: Any,
    out_file: Any,
    chunk_size: int | str = "1M",
    metadata: Any = None,
    blosc_args: BloscArgs | None = None,
    bloscpack_args: BloscpackArgs | None = None,
    metadata_args: MetadataArgs | None = None,
    progress: bool = False,
) -> None:
    """Pack a file. One chunk is in memory at a time.

    Parameters
    ----------
    in_file : path
    out_file : path, or file object that can seek
        A path is replaced as a whole, or stays as it was.
    chunk_size : int or str
        Bytes, or a text such as "1M" or "max". The last chunk has the rest; one chunk is no
        larger than the file.
    metadata : anything that JSON has, optional
        Stored with it: up to 64 MiB of JSON; of more than 16 MiB, or 2^18 values, less if it
        compresses well, as what is read must have earned the memory it takes.
    blosc_args : BloscArgs, optional
    bloscpack_args : BloscpackArgs, optional
    metadata_args : MetadataArgs, optional
    progress : bool
        Show a progress bar.

    Raises
    ------
    OSError
        If a file can't be read or written, or shrinks while it is read.
    TypeError, ValueError
        For options that Blosc or the format don't take.
    """
    with open(in_file, "rb", buffering=0) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)

        def read(start: int, stop: int) -> Any:
            buffer = np.empty(stop - start, np.uint8)
            if read_fully(file, buffer) < len(buffer):
                raise OSError(f"{os.fsdecode(in_file)} has become shorter while it was read")
            return buffer

        with _sink(out_file) as sink:
            _pack(
                read, size, sink, chunk_size, metadata, blosc_args or BloscArgs(),
                bloscpack_args, metadata_args, progress=progress,
            )  # fmt: skip


def pack_bytes_to_file(
    bytes_: Any,
    out_file: Any,
    chunk_size: int | str = "1M",
    metadata: Any = None,
    blosc_args: BloscArgs | None = None,
    bloscpack_args: BloscpackArgs | None = None,
    metadata_args: MetadataArgs | None = None,
) -> None:
    """Pack bytes, or any buffer, to a file: see `pack_file_to_file`."""
    view = memoryview(bytes_)
    view = view.cast("B") if view.nbytes else memoryview(b"")
    with _sink(out_file) as sink:
        _pack(
            lambda start, stop: view[start:stop], len(view), sink, chunk_size, metadata,
            blosc_args or BloscArgs(), bloscpack_args, metadata_args,
        )  # fmt: skip


def pack_bytes_to_bytes(
    bytes_: Any,
    chunk_size: int | str = "1M",
    metadata: Any = None,
    blosc_args: BloscArgs | None = None,
    bloscpack_args: BloscpackArgs | None = None,
    metadata_args: MetadataArgs | None = None,
) -> bytes:
    """Pack bytes, or any buffer, to bytes: see `pack_file_to_file`."""
    sink = io.BytesIO()
    pack_bytes_to_file(
        bytes_, sink, chunk_size, metadata, blosc_args, bloscpack_args, metadata_args
    )
    return sink.getvalue()


def pack_ndarray_to_file(
    ndarray: npt.ArrayLike,
    filename: Any,
    chunk_size: int | str = "1M",
    blosc_args: BloscArgs | None = None,
    bloscpack_args: BloscpackArgs | None = None,
    metadata_args: MetadataArgs | None = None,
    progress: bool = False,
) -> None:
    """Pack an array, with its dtype, shape and order as metadata.

    Parameters
    ----------
    ndarray : array
        Of any dtype without objects, and any shape; one that is contiguous in neither C nor
        Fortran order is copied.
    filename : path, or file object that can seek
    chunk_size, blosc_args, bloscpack_args, metadata_args, progress
        As in `pack_file_to_file`; but the typesize is the array's, and chunks are some whole
        elements.

    Raises
    ------
    TypeError
        For an array with objects, and what else `pack_file_to_file` raises.
    """
    array = np.asarray(ndarray)
    if array.dtype.hasobject:
        raise TypeError(f"an array of {array.dtype} has objects, which can't be packed")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    order: Literal["C", "F"] = "F" if fortran else "C"
    flat = np.ascontiguousarray(array.reshape(-1, order=order))
    view: Any = flat.view(np.uint8).data if array.nbytes else b""
    metadata = {
        "dtype": repr(array.dtype.descr if array.dtype.names else array.dtype.str),
        "shape": list(array.shape),
        "order": order,
        "container": "numpy",
    }
    itemsize = max(array.itemsize, 1)
    # Blosc, too, takes longer ones for bytes.
    args = replace(blosc_args or BloscArgs(), typesize=itemsize if itemsize <= 255 else 1)
    with _sink(filename) as sink:
        _pack(
            lambda start, stop: view[start:stop], array.nbytes, sink, chunk_size, metadata, args,
            bloscpack_args, metadata_args, itemsize, progress,
        )  # fmt: skip


def pack_ndarray_to_bytes(
    ndarray: npt.ArrayLike,
    chunk_size: int | str = "1M",
    blosc_args: BloscArgs | None = None,
    bloscpack_args: BloscpackArgs | None = None,
    metadata_args: MetadataArgs | None = None,
) -> bytes:
    """Pack an array to bytes: see `pack_ndarray_to_file`."""
    sink = io.BytesIO()
    pack_ndarray_to_file(ndarray, sink, chunk_size, blosc_args, bloscpack_args, metadata_args)
    return sink.getvalue()


# ---- unpacking ----


def unpack_file_from_file(in_file: Any, out_file: Any, progress: bool = False) -> Any:
    """Unpack a file. One chunk is in memory at a time.

    Parameters
    ----------
    in_file : path, or file object that can seek
    out_file : path, or object with ``write()``
        A path is replaced as a whole, or stays as it was.
    progress : bool
        Show a progress bar.

    Returns
    -------
    The metadata; None if there is none.

    Raises
    ------
    FormatError
        Naming the chunk that is damaged.
    """
    with _chunks(in_file) as chunks:
        metadata = chunks.metadata
        with _sink(out_file) as sink:
            # By length, which tqdm shows how much of is done.
            for data in progress_bar(chunks, progress, "chunks"):
                sink.write(data)
        return metadata


def _unpack_bytes(chunks: Chunks) -> tuple[bytes, Any]:
    metadata = chunks.metadata
    data = b"".join(map(bytes, chunks)) if chunks.count != 1 else bytes(chunks.decode(0))
    return data, metadata


def unpack_bytes_from_file(compressed_file: Any) -> tuple[bytes, Any]:
    """Unpack a file, or a file object that can seek.

    Returns
    -------
    bytes, and the metadata
        None if there is none.

    Raises
    ------
    FormatError
        Naming the chunk that is damaged.
    """
    with _chunks(compressed_file) as chunks:
        return _unpack_bytes(chunks)


def unpack_bytes_from_bytes(bytes_: Any) -> tuple[bytes, Any]:
    """Unpack bytes, or any buffer: see `unpack_bytes_from_file`."""
    return _unpack_bytes(Chunks(bytes_))


def unpack_ndarray_from_file(filename: Any) -> npt.NDArray[Any]:
    """Unpack an array from a file, or a file object that can seek.

    Returns
    -------
    array
        Of the dtype and shape it had; Fortran-contiguous if it was that, and not C-contiguous.

    Raises
    ------
    FormatError
        If no array is packed there, or something is damaged.
    """
    with _chunks(filename) as chunks:
        return _unpack_ndarray(chunks)


def unpack_ndarray_from_bytes(bytes_: Any) -> npt.NDArray[Any]:
    """Unpack an array from bytes: see `unpack_ndarray_from_file`."""
    return _unpack_ndarray(Chunks(bytes_))


def _unpack_ndarray(chunks: Chunks) -> npt.NDArray[Any]:
    dtype, shape, order = _array_of(chunks.metadata)
    count = 1
    for n in shape:
        count *= n
    if count * dtype.itemsize != chunks.size:
        raise FormatError(
            f"an array of {dtype} and shape {shape} has {count * dtype.itemsize} bytes, "
            f"and {chunks.size} are packed",
            "metadata",
        )
    try:  # pages that no chunk is decoded to are never touched: a lie costs none
        flat = np.empty(chunks.size, np.uint8)
    except MemoryError:
        for _ in chunks:  # FormatError if they aren't there
            pass
        raise
    view = flat.data
    places = (chunks.span(i) for i in range(chunks.count))
    jobs = (partial(chunks.decode, i, view[a:b]) for i, (a, b) in enumerate(places))
    for _ in in_order(jobs, chunks.size, chunks.header.chunk_size):
        pass
    try:
        if not dtype.itemsize:  # as a field, or numpy takes a text of no letters for one of one
            return np.zeros(shape, [("", dtype)])["f0"]
        return flat.view(dtype).reshape(shape, order=order)  # type: ignore[call-overload, no-any-return]
    except ValueError as error:
        raise FormatError(f"no array has the shape {shape}: {error}", "metadata") from error


def _array_of(metadata: Any) -> tuple[np.dtype[Any], tuple[int, ...], str]:
    """Dtype, shape and order of a packed array. Raises `FormatError`."""
    if not isinstance(metadata, dict) or metadata.get("container") != "numpy":
        raise FormatError("no array is packed here", "metadata")
    shape: Any = metadata.get("shape")
    order = metadata.get("order")
    if order not in ("C", "F"):
        raise FormatError(f"the order is {order!r}, not C or F", "metadata")
    sizes = isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in shape)
    if not sizes or len(shape) > 64:
        raise FormatError("the shape is not a list of sizes", "metadata")
    try:
        dtype = _dtype_of(metadata.get("dtype"))
    except (  # what Python and numpy raise for the literals of strangers
        AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError,
        ValueError,
    ) as error:  # fmt: skip
        raise FormatError(f"the dtype is none of numpy's: {error}", "metadata") from error
    if dtype.hasobject or dtype.subdtype is not None:
        raise FormatError(f"no array of {dtype} can be packed", "metadata")
    return dtype, tuple(shape), order


def _dtype_of(text: Any) -> np.dtype[Any]:
    """A dtype of its description, which is a Python literal.

    Before bloscpack 0.7.2 it was no text of one: the name, or of fields lists of lists.
    """
    if isinstance(text, list):
        return np.lib.format.descr_to_dtype(_fields(text))
    if not isinstance(text, str) or len(text) > _MOST_DTYPE:
        raise ValueError("it is no text, or a long one")
    if text[:1] not in "'\"[(":
        return np.dtype(text)
    if not _LITERAL.fullmatch(text):
        raise ValueError("it is no literal")
    return np.lib.format.descr_to_dtype(ast.literal_eval(text))


def _fields(listed: list[Any]) -> list[Any]:
    """Fields that JSON has as lists, of name, kind and perhaps shape."""
    return [
        (name, _fields(kind) if isinstance(kind, list) else kind, *map(_shape, shape))
        for name, kind, *shape in listed
    ]


def _shape(shape: Any) -> Any:
    return tuple(shape) if isinstance(shape, list) else shape


pack_file = pack_file_to_file
unpack_file = unpack_file_from_file
pack_bytes = pack_bytes_to_bytes
unpack_bytes = unpack_bytes_from_bytes
pack_bytes_file = pack_bytes_to_file
unpack_bytes_file = unpack_bytes_from_file
pack_ndarray_file = pack_ndarray_to_file
unpack_ndarray_file = unpack_ndarray_from_file
pack_ndarray_str = pack_ndarray_to_bytes
unpack_ndarray_str = unpack_ndarray_from_bytes
