"""Files on disk: what their names say, writing that can't leave half a file, compression."""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import os
import secrets
import stat
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, BinaryIO

from numcodecs_crackle.bloscpack_file import BloscpackFile, BloscpackWriter
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.extras import required

__all__ = [
    "WRAPPERS", "atomic_write", "path_name", "read", "sink", "skip",
    "source", "suffixes",
]  # fmt: skip

WRAPPERS = (".gz", ".xz", ".lzma", ".zst", ".blp")
# What may stand behind each suffix.
_SUFFIXES: dict[str, tuple[str, ...]] = {
    ".ckl": WRAPPERS,
    ".npy": WRAPPERS,
    ".cpso": WRAPPERS,
    ".nii": (".gz",),
    ".nrrd": (),
    ".tif": (),
    ".tiff": (),
}
_PIECE = 1 << 20


def path_name(path: Any) -> str:
    if isinstance(path, (str, bytes, os.PathLike)):
        return os.fsdecode(path)
    raise TypeError(f"a path or an open binary file is needed, not {type(path).__name__}")


def suffixes(name: str) -> tuple[str, str]:
    """The suffix that says what a file is, or "" if none does; and the one behind it."""
    stem, wrapper = os.path.splitext(name.lower())
    if wrapper not in WRAPPERS:
        stem, wrapper = name.lower(), ""
    suffix = os.path.splitext(stem)[1]
    if suffix not in _SUFFIXES:
        return "", wrapper
    if wrapper and wrapper not in _SUFFIXES[suffix]:
        raise ValueError(f"{name}: {suffix} files are not compressed as {wrapper}")
    return suffix, wrapper


@contextmanager
def atomic_write(path: Any, ending: str = "") -> Iterator[BinaryIO]:
    """An open binary file that takes the place of ``path`` when the block ends well.

    Until then it is a hidden file in the same folder, whose ``name`` ends as the path does,
    or with an ``ending`` behind that.
    If the block raises it is removed, and what was at ``path`` stays. Links are followed,
    an existing file's permissions are kept. Devices and pipes are written to directly.

    Raises
    ------
    PermissionError
        If the file exists and may not be written to.
    """
    path = path_name(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = 0
    if mode and not stat.S_ISREG(mode):
        with open(path, "wb") as file:
            yield file
        return
    if mode and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    # Not all of a name that may be as long as names can be.
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}-{name[-40:]}{ending}")
    try:
        with open(temporary, "x+b") as file:
            if mode:
                os.chmod(temporary, stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def _packed(file: BinaryIO, wrapper: str) -> AbstractContextManager[Any]:
    if wrapper == ".gz":  # neither name nor time inside: equal data, equal files
        return gzip.GzipFile("", "wb", 6, file, 0)
    if wrapper in (".xz", ".lzma"):  # .lzma too: that format of old has no checksum
        return lzma.LZMAFile(file, "wb")
    if wrapper == ".zst":
        compressor = required("zstandard", "files").ZstdCompressor(write_checksum=True)
        writer: AbstractContextManager[Any] = compressor.stream_writer(file, closefd=False)
        return writer
    if wrapper == ".blp":
        return BloscpackWriter(file)
    return nullcontext(file)


@contextmanager
def sink(filelike: Any) -> Iterator[Any]:
    """What to write to: the object itself, or the file, compressed if its name says so."""
    if isinstance(filelike, io.RawIOBase):  # which may write less than it is given
        buffered = io.BufferedWriter(filelike)
        try:
            yield buffered
        finally:
            buffered.detach()
    elif hasattr(filelike, "write"):
        yield filelike
    else:
        name = path_name(filelike)
        with atomic_write(name) as file, _packed(file, suffixes(name)[1]) as packed:
            yield packed


def _unpacked(file: BinaryIO, wrapper: str) -> AbstractContextManager[Any]:
    if wrapper == ".gz":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if wrapper in (".xz", ".lzma"):
        return lzma.LZMAFile(file)
    if wrapper == ".zst":
        decompressor = required("zstandard", "files").ZstdDecompressor()
        reader: AbstractContextManager[Any] = decompressor.stream_reader(
            file, read_across_frames=True, closefd=False
        )
        return reader
    if wrapper == ".blp":
        return BloscpackFile(file)
    return nullcontext(file)


@contextmanager
def source(filelike: Any) -> Iterator[Any]:
    """What to read from; FormatError where a compressed file is damaged."""
    if hasattr(filelike, "read"):
        yield filelike
        return
    name = path_name(filelike)
    wrapper = suffixes(name)[1]
    damage: tuple[type[Exception], ...] = ()
    if wrapper == ".zst":
        damage = (required("zstandard", "files").ZstdError,)
    elif wrapper and wrapper != ".blp":
        damage = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
    with open(name, "rb") as file, _unpacked(file, wrapper) as unpacked:
        try:
            yield unpacked
        except damage as error:
            raise FormatError(f"{name} is damaged as a {wrapper} file: {error}") from error


def read(file: Any, size: int) -> bytes:
    """``size`` bytes, or fewer where the file ends; in pieces, as ``size`` may be a lie."""
    parts = []
    while size:
        part = file.read(min(size, _PIECE))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def skip(file: Any, size: int) -> None:
    """Pass over ``size`` bytes, without reading them where that can be."""
    seekable = getattr(file, "seekable", lambda: hasattr(file, "seek"))
    if seekable():
        file.seek(size, os.SEEK_CUR)
        return
    while size and (part := file.read(min(size, _PIECE))):
        size -= len(part)
