"""Files: streams as they are, and the formats label volumes are exchanged in.

Names and arguments are crackle-codec's. A path says by its name what the file is:
``.ckl`` a stream, ``.npy``, ``.nrrd``, ``.nii``, ``.tif``, ``.cpso``; ``.gz``, ``.xz``,
``.lzma``, ``.zst`` or ``.blp`` behind ``.ckl``, ``.npy`` and ``.cpso`` (``.gz`` behind
``.nii``) that it is compressed once more; with ``.blp`` (`numcodecs_crackle.bloscpack`) in
chunks, so that parts of it can be read. Objects with ``read()`` or ``write()`` are used from
where they stand and hold a plain stream or .npy. A file is replaced as a whole or stays as it
was. Formats other than ``.ckl`` and ``.npy``, and ``.zst``, need the extra
``numcodecs-crackle[files]``.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native, fileio, stream
from numcodecs_crackle.bloscpack_file import BloscpackFile
from numcodecs_crackle.errors import FormatError, UnsupportedError
from numcodecs_crackle.extras import required
from numcodecs_crackle.fileio import atomic_write
from numcodecs_crackle.header import CrackleHeader, LabelFormat
from numcodecs_crackle.sections import byte_width

if TYPE_CHECKING:
    from numcodecs_crackle.array import CrackleArray

__all__ = [
    "aload", "atomic_write", "bload", "cache_meta", "load", "load_any", "load_header",
    "load_num_labels", "load_numpy", "load_sidecar", "save", "save_compresso", "save_nii",
    "save_nrrd", "save_numpy", "save_table", "save_tiff", "sidecar_path",
]  # fmt: skip

_NIFTI1_MOST = 2**15 - 1  # its axes are int16
_TIFF_MOST = 2**32 - 2**25  # its offsets are uint32; as many bytes are left for the rest
_KEY = b"numcodecs_crackle"


def _stream_of(labels: Any) -> Any:
    """The bytes of a stream, or of what has one; None for an array."""
    labels = getattr(labels, "binary", labels)
    if isinstance(labels, bytes):
        return labels
    if hasattr(labels, "dtype"):
        return None
    try:
        return memoryview(labels).cast("B")
    except TypeError:
        kind = type(labels).__name__
        raise TypeError(f"labels must be an array or a Crackle stream, not {kind}") from None


def _array_of(labels: Any) -> npt.NDArray[Any]:
    """A 3D array of native integers."""
    binary = _stream_of(labels)
    return stream.as_volume(labels) if binary is None else stream.decompress(binary)


def save(labels: Any, filelike: Any, **kwargs: Any) -> None:
    """Save labels as what the name of the file says; as a stream if it says nothing.

    Parameters
    ----------
    labels : array of integers up to 3D, bytes of a stream, or CrackleArray
    filelike : path, or object with ``write()``
        An object gets a stream.
    **kwargs
        For an array that becomes a stream, the options of `compress`; for other formats
        those of their function: `save_numpy`, `save_nii`, `save_nrrd`, `save_tiff`.

    Raises
    ------
    FormatError
        For bytes that don't begin as a stream does.
    ImportError
        If the library for this kind of file is missing; the message says what to install.
    TypeError, ValueError
        For labels that the format has no room for, and for options it doesn't have.
    """
    kind = "" if hasattr(filelike, "write") else fileio.suffixes(fileio.path_name(filelike))[0]
    if kind in _SAVERS:
        _SAVERS[kind](labels, filelike, **kwargs)
        return
    binary = _stream_of(labels)
    if binary is None:
        binary = stream.compress(labels, **kwargs)
    elif kwargs:
        raise TypeError(f"a stream is saved as it is: no use for {', '.join(kwargs)}")
    else:
        CrackleHeader.frombytes(binary)
    with fileio.sink(filelike) as sink:
        sink.write(binary)


def load(
    filelike: Any, label: int | None = None, parallel: int = 0, *, max_voxels: int | None = None
) -> npt.NDArray[Any]:
    """Read a stream and decompress it.

    Parameters
    ----------
    filelike : path, or object with ``read()``
    label, parallel, max_voxels
        As in `decompress`.

    Returns
    -------
    array of shape (sx, sy, sz)

    Raises
    ------
    FormatError
        If the stream, or the compression around it, is damaged.
    """
    return stream.decompress(bload(filelike), label, parallel, max_voxels=max_voxels)


def aload(
    filelike: Any, allow_mmap: bool = False, *, max_voxels: int | None = None
) -> CrackleArray:
    """Read a stream as a `CrackleArray`, which decodes what is asked of it; see `bload`.

    A ``.ckl.blp``, or a `BloscpackFile`, stays where it is: it becomes a `FileArray`, which
    reads the chunks that it needs. If its measures lie beside the file (`cache_meta`), and are
    of this very stream, the array answers from them.
    """
    from numcodecs_crackle.array import CrackleArray
    from numcodecs_crackle.file_array import FileArray

    def measures(binary: Any) -> Any:
        if is_path and os.path.exists(sidecar_path(filelike)):
            with suppress(ImportError):  # pyarrow: it is measured anew
                return load_sidecar(filelike, binary)
        return None

    is_path = not hasattr(filelike, "read")
    if is_path and fileio.suffixes(fileio.path_name(filelike))[1] == ".blp":
        file = BloscpackFile(fileio.path_name(filelike))
        return FileArray(file, measures=measures, max_voxels=max_voxels)
    if isinstance(filelike, BloscpackFile):
        return FileArray(filelike, max_voxels=max_voxels)
    array = CrackleArray(bload(filelike, allow_mmap), max_voxels=max_voxels)
    array.use_measures(measures(array.binary))
    return array


def cache_meta(binary: Any, path: Any, parallel: int = 0) -> Any:
    """Measure a stream and save the table (`to_parquet`), which is returned.

    At its `sidecar_path` it is found by `aload` when the stream is read.
    """
    from numcodecs_crackle.measure import to_parquet

    table = to_parquet(binary, parallel)
    save_table(table, path, binary)
    return table


def bload(filelike: Any, allow_mmap: bool = False) -> bytes | mmap.mmap:
    """Read the bytes of a stream, which are not looked at.

    Parameters
    ----------
    filelike : path, or object with ``read()``
    allow_mmap : bool
        Map a file that is not compressed instead of reading it; the map is read-only and
        closes when nothing refers to it. An empty file is read.
    """
    with fileio.source(filelike) as file:
        if allow_mmap and file is not filelike and isinstance(file, io.BufferedReader):
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return bytes(file.read())


def _read_header(file: Any, ignore_crc: bool) -> CrackleHeader:
    data = fileio.read(file, 24)
    if data[4:5] != b"\0":  # version 0 ends here
        data += fileio.read(file, 5)
    return CrackleHeader.frombytes(data, ignore_crc)


def load_header(filelike: Any, ignore_crc_check: bool = False) -> CrackleHeader:
    """Read the header of a stream: 29 bytes, 24 in version 0. Raises `FormatError`."""
    with fileio.source(filelike) as file:
        return _read_header(file, ignore_crc_check)


def load_num_labels(filelike: Any, ignore_crc_check: bool = False) -> int:
    """Read the number of labels of a stream: the header and the 8 bytes that say it.

    If the header says that the table of labels may list one twice (it is unsorted, it was
    remapped) or can't say so (version 0) the table is read too. Older crackle-codec did not
    mark the streams it remapped: of those, and of tables with labels that no voxel has,
    `num_labels` knows better.

    Parameters
    ----------
    filelike : path, or object with ``read()``
        Bytes in between are skipped with ``seek()`` where there is one.

    Raises
    ------
    FormatError
        If the stream ends early, or is damaged in a way that these bytes show. The checksum
        of the labels is at the other end of the stream, and not read.
    """
    with fileio.source(filelike) as file:
        head = _read_header(file, ignore_crc_check)
        if not head.voxels():
            return 0
        if head.label_format == LabelFormat.PINS_FIXED_WIDTH:
            raise UnsupportedError("the label format is neither flat nor condensed pins", "header")
        pins = head.label_format != LabelFormat.FLAT
        width = head.stored_data_width
        fileio.skip(file, head.sz * 4 + (4 if head.format_version else 0))
        background = fileio.read(file, width if pins else 0)
        number = fileio.read(file, 8)
        if len(number) < 8:
            raise FormatError("the label section is cut off", "labels")
        count = int.from_bytes(number, "little")
        _check_count(head, count, pins)
        edited = head.is_remapped or not head.is_sorted or head.stored_data_width > head.data_width
        if head.format_version and not edited:
            return count + pins
        table = fileio.read(file, count * width)
        if len(table) < count * width:
            raise FormatError("the table is cut off", "labels")
        labels = np.frombuffer(table + background, head.stored_dtype).astype(head.dtype)
        return int(np.unique(labels).size)


def _check_count(head: CrackleHeader, count: int, pins: bool) -> None:
    """FormatError if the label section has no room for so many labels, or none is there."""
    if not count and not pins:
        raise FormatError("there are voxels, and no labels", "labels")
    table = 8 + (count + pins) * head.stored_data_width
    left = head.num_label_bytes - table - head.sz * byte_width(head.sx * head.sy)
    if pins:  # a byte of widths, and for each label at least its numbers of pins and singles
        fits = left >= 1 + 2 * count
    else:  # a key for each component, of which a slice has at least one
        keys, rest = divmod(left, byte_width(count)) if count < 1 << 64 else (0, 1)
        fits = keys >= head.sz and rest == 0
    if not fits:
        raise FormatError(f"it has no room for {count} labels", "labels")


def load_any(path: Any) -> npt.NDArray[Any] | CrackleArray:
    """Read a file of any kind that `save` writes.

    Returns
    -------
    CrackleArray for a stream, else array in the memory order of the file

    Raises
    ------
    FormatError
        For a name that says nothing, if the file is not a stream.
    ImportError
        If the library for this kind of file is missing.
    """
    name = fileio.path_name(path)
    kind = fileio.suffixes(name)[0]
    if kind == ".npy":
        return load_numpy(name)
    if kind == ".nrrd":
        array, _ = required("nrrd", "files").read(name)
        return np.asarray(array)
    if kind == ".nii":
        return np.asarray(required("nibabel", "files").load(name, mmap=False).dataobj)
    if kind in (".tif", ".tiff"):
        return np.asarray(required("tifffile", "files").imread(name))
    if kind == ".cpso":
        return np.asarray(required("compresso", "files").decompress(bytes(bload(name))))
    return aload(name)


def load_numpy(filelike: Any) -> npt.NDArray[Any]:
    """Read an array from a .npy file, which may be compressed, or an object."""
    with fileio.source(filelike) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file is not filelike:  # only at the end of a compressed file is it verified
            while file.read(1 << 20):
                pass
        return np.asarray(array)


def save_numpy(arr: Any, filelike: Any, block_size: int = 200_000_000, parallel: int = 0) -> None:
    """Save an array or a stream as .npy. A stream is decoded block by block.

    Parameters
    ----------
    arr : array, bytes of a stream, or CrackleArray
    filelike : path, or object with ``write()``
    block_size : int
        Bytes that are decoded at once, and about the memory this takes; at least a slice.
    parallel : int
        Threads; 0 for all cores.

    Notes
    -----
    A block is some whole z slices. Those of a stream in C order would lie scattered all over
    a file in C order; if it takes several blocks, the file is in Fortran order instead. The
    array that loads is equal, and lies in memory the other way.
    """
    if block_size < 1:
        raise ValueError(f"block_size must be positive, not {block_size}")
    binary = _stream_of(arr)
    if binary is not None:
        opened, head = stream.opened(arr)
        opened.allow(opened.slices)
        if not head.voxels():
            arr, binary = stream.decompress(binary), None
    if binary is None:
        with fileio.sink(filelike) as sink:
            np.lib.format.write_array(sink, np.asarray(arr), allow_pickle=False)
        return
    depth = max(1, min(head.sz, block_size // (head.sx * head.sy * head.data_width)))
    with fileio.sink(filelike) as sink:
        order: Literal["C", "F"] = "F" if head.fortran_order or depth < head.sz else "C"
        descr = np.lib.format.dtype_to_descr(head.dtype)
        fields = {"descr": descr, "fortran_order": order == "F", "shape": head.shape}
        np.lib.format.write_array_header_1_0(sink, fields)
        buffer = np.empty(head.sx * head.sy * depth, head.dtype)
        for z in range(0, head.sz, depth):
            n = min(depth, head.sz - z)
            flat = buffer[: head.sx * head.sy * n]
            block = flat.reshape((head.sx, head.sy, n), order=order)
            stream.decompress(binary, None, parallel, z_start=z, z_end=z + n, out=block)
            sink.write(flat.data.cast("B"))


def save_nii(arr: Any, path: Any, affine: Any = None) -> None:
    """Save an array or a stream as NIfTI (NIfTI-2 if an axis exceeds 32767 voxels).

    Parameters
    ----------
    arr : array of integers up to 3D, bytes of a stream, or CrackleArray
    path : path ending in .nii or .nii.gz
    affine : array of shape (4, 4), optional
        From voxels to world; the identity by default.

    Raises
    ------
    ValueError
        If the array has no voxels, for which NIfTI has no shape.
    """
    nibabel = required("nibabel", "files")
    array = _array_of(arr)
    _check_voxels(array, "NIfTI")
    kind = nibabel.Nifti2Image if max(array.shape) > _NIFTI1_MOST else nibabel.Nifti1Image
    # With the dtype, as nibabel refuses to take int64 for granted.
    image = kind(array, np.eye(4) if affine is None else affine, dtype=array.dtype)
    with fileio.sink(path) as sink:
        image.to_stream(sink)


def save_nrrd(arr: Any, path: Any, compress: Literal["raw", "gzip", "bzip2"] = "raw") -> None:
    """Save an array or a stream as NRRD, its data compressed if that is asked for."""
    nrrd = required("nrrd", "files")
    if compress not in ("raw", "gzip", "bzip2"):
        raise ValueError(f"compress must be raw, gzip or bzip2, not {compress!r}")
    with fileio.sink(path) as sink:
        nrrd.write(sink, _array_of(arr), {"encoding": compress})


def save_tiff(arr: Any, path: Any, compression: str | None = "zlib") -> None:
    """Save an array or a stream as TIFF, one page for each x; BigTIFF from 4 GB.

    Parameters
    ----------
    compression : str or None
        "zlib", "lzma", or what else tifffile has.

    Raises
    ------
    ValueError
        If the array has no voxels.
    """
    tifffile = required("tifffile", "files")
    array = _array_of(arr)
    _check_voxels(array, "TIFF")
    big = array.nbytes > _TIFF_MOST
    with fileio.sink(path) as sink:  # never colours, even if an axis is 3 long
        tifffile.imwrite(
            sink, array, bigtiff=big, photometric="minisblack", compression=compression
        )


def save_compresso(arr: Any, path: Any) -> None:
    """Save an array or a stream as Compresso. TypeError for signed labels, which it lacks."""
    compresso = required("compresso", "files")
    array = _array_of(arr)
    if array.dtype.kind != "u":
        raise TypeError(f"Compresso stores unsigned labels, not {array.dtype}")
    with fileio.sink(path) as sink:
        sink.write(compresso.compress(array))


def _check_voxels(array: npt.NDArray[Any], kind: str) -> None:
    if not array.size:
        raise ValueError(f"{kind} can't store an array without voxels, of shape {array.shape}")


_SAVERS: dict[str, Any] = {
    ".npy": save_numpy,
    ".nii": save_nii,
    ".nrrd": save_nrrd,
    ".tif": save_tiff,
    ".tiff": save_tiff,
    ".cpso": save_compresso,
}


def sidecar_path(path: Any) -> str:
    """Where measurements of a stream are kept: x.ckl.meta.parquet for x.ckl and x.ckl.gz."""
    stem, suffix = os.path.splitext(fileio.path_name(path))
    if suffix.lower() not in fileio.WRAPPERS:
        stem += suffix
    if stem.lower().endswith(".ckl"):
        stem = stem[:-4]
    return stem + ".ckl.meta.parquet"


def _fingerprint(binary: Any, table: Any) -> dict[str, int]:
    data = _stream_of(binary)
    # With the rows, as no checksum of Parquet guards how many there are.
    crc, rows = _native.crc32c(data), table.num_rows
    return {"format": 1, "length": len(data), "crc32c": crc, "rows": rows}


def save_table(table: Any, path: Any, binary: Any = None) -> None:
    """Save a pyarrow table as Parquet, compressed with Zstd.

    Parameters
    ----------
    table : pyarrow.Table
    path : path
        The Parquet file: for the measurements of a stream, its `sidecar_path`.
    binary : bytes of a stream, or CrackleArray, optional
        The stream that was measured. Its length and crc32c are noted in the file, by which
        `load_sidecar` knows it again.
    """
    parquet = required("pyarrow.parquet", "files")
    if binary is not None:
        note = json.dumps(_fingerprint(binary, table)).encode()
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: note})
    with atomic_write(path) as file:
        parquet.write_table(table, file, compression="zstd", write_page_checksum=True)


def load_sidecar(path: Any, binary: Any) -> Any:
    """Read the measurements that are kept beside a stream, if they are of this stream.

    Parameters
    ----------
    path : path
        Of the stream.
    binary : bytes of a stream, or CrackleArray

    Returns
    -------
    pyarrow.Table or None
        None if there is no sidecar, if it is damaged, and if it was not saved with this very
        stream, as those of other programs were not.
    """
    arrow, parquet = required("pyarrow", "files"), required("pyarrow.parquet", "files")
    try:
        file = open(sidecar_path(path), "rb")  # noqa: SIM115
    except FileNotFoundError:
        return None
    with file:
        try:
            table = parquet.ParquetFile(file, page_checksum_verification=True).read()
            note = json.loads((table.schema.metadata or {}).get(_KEY, b"null"))
        except (arrow.ArrowException, OSError, ValueError):
            return None
    return table if note == _fingerprint(binary, table) else None
