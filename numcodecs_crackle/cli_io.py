"""What the commands have in common: files in, files out, and what is said about them."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from numcodecs_crackle import edit, fileio, files, stream
from numcodecs_crackle.extras import progress_bar, required

PROGRAM = "numcodecs-crackle"
STDIO = "-"
MAPS = os.name != "nt"  # where a mapped file can't be replaced or removed
# Kinds whose second stage is inside the file rather than around it.
_PACKED_INSIDE = {".nrrd": ".gz", ".tif": ".gz", ".tiff": ".gz"}


class UsageError(Exception):
    """A command line that asks for what can't be."""


class CommandError(Exception):
    """What keeps a command from doing its work on a file, as the user is told it."""


# ---- what is said ----


def say(args: argparse.Namespace, text: str) -> None:
    """A remark on stderr; none where a progress bar is, or with --quiet."""
    if not args.quiet and not getattr(args, "bar", False):
        print(text, file=sys.stderr)


def bars_wanted(args: argparse.Namespace) -> bool:
    """Whether progress bars can be seen, and drawn."""
    if args.quiet or not sys.stderr.isatty():
        return False
    return importlib.util.find_spec("tqdm") is not None


def _reason(error: Exception, name: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        other = error.filename is not None and os.fsdecode(error.filename) != name
        return f"{error.strerror}: {os.fsdecode(error.filename)}" if other else error.strerror
    if isinstance(error, MemoryError):
        return "not enough memory"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"no such entry: {text}" if isinstance(error, KeyError) else text


def _complain(args: argparse.Namespace, name: str, error: Exception) -> None:
    if args.debug:
        traceback.print_exc()
    shown = "(standard input)" if name == STDIO else name
    line = f"{PROGRAM}: {shown}: {_reason(error, name)}"
    if getattr(args, "bar", False):
        required("tqdm", "cli").tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)


def each_file(
    args: argparse.Namespace,
    names: Iterable[str],
    work: Callable[[str], bool | None],
    bar: bool = True,
) -> int:
    """Call work(name) for each name; an error in one is told, and the others go on.

    Returns the exit code: 1 if one failed, or ``work`` returned False.
    """
    every = list(names)
    args.bar = bar and len(every) > 1 and bars_wanted(args)
    failed = False
    for name in progress_bar(every, args.bar, args.command):
        try:
            failed |= work(name) is False
        except (BrokenPipeError, UsageError):
            raise
        except Exception as error:
            _complain(args, name, error)
            failed = True
    args.bar = False
    return int(failed)


# ---- what comes in ----


def listed(names: Iterable[str]) -> list[str]:
    """The names; in the place of "-" those on stdin, one a line."""
    result: list[str] = []
    for name in names:
        if name == STDIO:
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer)
            result += [line for line in lines if line]
        else:
            result.append(name)
    return result


def is_stream(name: str) -> bool:
    """Whether a name is one of a stream, by what it ends with."""
    return name == STDIO or fileio.suffixes(name)[0] in ("", ".ckl")


def read(name: str) -> Any:
    """The bytes of a stream, mapped where that can be; an array from any other file."""
    if name == STDIO:
        return sys.stdin.buffer.read()
    if not is_stream(name):
        return files.load_any(name)
    binary = files.bload(name, allow_mmap=MAPS)
    stream.header(binary)  # now, as later it may be taken for an array's fault
    return binary


def stream_of(name: str) -> Any:
    """The bytes of what must be a stream. CommandError if the name says otherwise."""
    if not is_stream(name):
        raise CommandError(f"{fileio.suffixes(name)[0]} files are not Crackle streams")
    return read(name)


def read_stream(name: str, jobs: int) -> Any:
    """The bytes of a stream, which an array is made into."""
    labels = read(name)
    return stream.compress(labels, 0, jobs) if isinstance(labels, np.ndarray) else labels


def coded(labels: Any, args: argparse.Namespace) -> Any:
    """A stream of an array or another stream, coded as the options say."""
    order = args.markov
    if isinstance(labels, np.ndarray):
        return stream.compress(labels, order or 0, args.jobs, allow_pins=args.pins)
    if args.pins:
        head = stream.header(labels)
        array = stream.decompress(labels, None, args.jobs)
        kept = head.markov_model_order if order is None else order
        return stream.compress(array, kept, args.jobs, allow_pins=args.pins)
    if args.recompress:
        labels = edit.recompress(labels, args.jobs)
    return labels if order is None else edit.reencode(labels, order, args.jobs)


# ---- what goes out ----


@dataclass(frozen=True)
class Target:
    """Where an output goes: a path or "-", and a name that says its kind."""

    path: str
    name: str

    @property
    def kind(self) -> str:
        """The suffix that says what it is; a stream if none does."""
        return fileio.suffixes(self.name)[0] or ".ckl"


def stem(name: str) -> str:
    """A name without what says its kind."""
    if name == STDIO:
        return "stdin"
    kind, wrapper = fileio.suffixes(name)
    return name[: len(name) - len(kind) - len(wrapper)] if kind else name


def target(args: argparse.Namespace, default: str, kind: str) -> Target:
    """The output: that of -o, else ``default`` and its suffixes."""
    inside = _PACKED_INSIDE.get(kind)
    if inside and args.wrapper not in (None, inside):
        raise UsageError(f"{kind} files are not compressed as {args.wrapper}")
    wrapper = "" if inside or args.wrapper is None else args.wrapper
    try:
        fileio.suffixes("x" + kind + wrapper)
    except ValueError as error:
        raise UsageError(str(error).partition(": ")[2]) from None
    if args.output is None:
        return Target(default + kind + wrapper, default + kind + wrapper)
    if args.output == STDIO:
        if sys.stdout.isatty() and not args.force:
            raise UsageError("a terminal is no place for bytes: use -o, or --force")
        return Target(STDIO, "stdout" + kind + wrapper)
    return Target(args.output, _checked_name(args.output, kind, wrapper))


def _checked_name(name: str, kind: str, wrapper: str) -> str:
    try:
        said, said_wrapper = fileio.suffixes(name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if (said or ".ckl") != kind:
        raise UsageError(f"{name} does not end as a {kind} file")
    if wrapper and said_wrapper != wrapper:
        raise UsageError(f"{name} does not end in {wrapper}, which is asked for")
    return name


def check_output(path: str, sources: Iterable[str], force: bool) -> None:
    """CommandError if writing to a path would lose what is there."""
    if path == STDIO:
        return
    for source in sources:
        if source != STDIO and not os.path.exists(source):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
    folder = os.path.dirname(path) or os.curdir
    if not os.path.isdir(folder):
        raise CommandError(f"there is no folder {folder}")
    if os.path.isdir(path):
        raise CommandError(f"{path} is a folder")
    if force or not os.path.isfile(path):  # a device or a pipe loses nothing
        return
    if any(s != STDIO and os.path.samefile(s, path) for s in sources):
        raise CommandError("the output is the file itself: use -o, or --force to replace it")
    raise CommandError(f"{path} exists: use --force to replace it")


def save(labels: Any, to: Target, args: argparse.Namespace) -> None:
    """Write labels, an array or a stream, to a target."""
    options: dict[str, Any] = {}
    if to.kind == ".npy":
        options["parallel"] = args.jobs
    elif to.kind == ".nrrd" and args.wrapper:
        options["compress"] = "gzip"
    if to.kind not in (".ckl", ".npy") and not isinstance(labels, np.ndarray):
        labels = stream.decompress(labels, None, args.jobs)
    if to.path != STDIO:
        files.save(labels, to.path, **options)
        return
    # By way of a file, as some formats are not written from front to back.
    with tempfile.TemporaryDirectory(prefix=PROGRAM) as folder:
        path = os.path.join(folder, to.name)
        files.save(labels, path, **options)
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)


def finish(args: argparse.Namespace, sources: Iterable[str], outputs: Iterable[str]) -> None:
    """Say what was written, and remove the sources if that is asked for."""
    read, written = set(sources) - {STDIO}, [path for path in outputs if path != STDIO]
    kept = {s for s in read if any(os.path.samefile(s, path) for path in written)}
    sizes = [os.path.getsize(path) for path in written]
    if len(written) == 1:
        before = 0 if kept else sum(map(os.path.getsize, read))
        say(args, f"{written[0]}: {f'{before:,} -> ' if before else ''}{sizes[0]:,} bytes")
    elif written:
        say(args, f"{written[0]} ... {written[-1]}: {len(written)} files, {sum(sizes):,} bytes")
    if args.remove:
        for source in read - kept:
            os.remove(source)
