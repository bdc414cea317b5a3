"""The commands for Bloscpack files, with Bloscpack's options."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from numcodecs import blosc

from numcodecs_crackle import bloscpack
from numcodecs_crackle.bloscpack_args import chunks_for
from numcodecs_crackle.bloscpack_chunks import Chunks
from numcodecs_crackle.bloscpack_format import CHECKSUMS, Header
from numcodecs_crackle.cli_io import (
    CommandError,
    UsageError,
    bars_wanted,
    check_output,
    each_file,
    finish,
    say,
)

_SUFFIX = ".blp"
_SHOWN_OFFSETS = 5
_NAMES = ("compress", "c", "decompress", "d", "append", "a", "info", "i")


# ---- options ----


def add(commands: Any, replacing: argparse.ArgumentParser) -> None:
    """Add the commands to a group of them."""
    parser = commands.add(
        compress,
        ["compress", "c"],
        "pack a file",
        "compress --codec zstd --typesize 4 data.dat",
        *(_blosc_options(), _pack_options(), replacing, _shared()),
        more="OUT is FILE.blp if it is not given.",
        rest="out",
    )
    _add_out(parser)
    parser = commands.add(
        decompress,
        ["decompress", "d"],
        "unpack a file",
        "decompress data.dat.blp data.dat",
        *(replacing, _shared()),
        more="OUT is FILE without .blp if it is not given.",
        rest="out",
    )
    _add_out(parser)
    _add_no_check(parser, "FILE; OUT is then needed")
    parser = commands.add(
        append,
        ["append", "a"],
        "append what a file holds to a packed file",
        "append data.dat.blp more.dat",
        *(_blosc_options("that of FILE"), _shared()),
        more="FILE is the packed one. If it is interrupted, FILE holds what it held before.",
        rest="new",
    )
    parser.add_argument("new", metavar="NEW", nargs="*", help="the file to append")
    _add_no_check(parser, "FILE")
    _add_metadata(parser, "in place of that of FILE, in the room that was kept for it")
    parser = commands.add(
        info,
        ["info", "i"],
        "print headers, metadata and offsets",
        "info data.dat.blp",
        files="packed ones",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a file")


def reordered(words: Sequence[str]) -> list[str]:
    """Arguments of which those between ``blosc`` and its command stand behind the command.

    Bloscpack's own options, such as ``-f`` and ``-n 4``, come first.
    """
    words = list(words)
    if words[:1] == ["blosc"]:
        at = next((i for i, word in enumerate(words) if word in _NAMES), 0)
        words[1 : at + 1] = words[at : at + 1] + words[1:at]
    return words


def _shared() -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "-n",
        "--nthreads",
        type=_number(1, blosc.MAX_THREADS),
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads; by default all cores",
    )
    parent.add_argument("-v", "--verbose", action="store_true", help="tell the sizes")
    parent.set_defaults(remove=False)
    return parent


def _number(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
        return int(text)

    return number


def _blosc_options(typesize: int | str = bloscpack.BloscArgs().typesize) -> argparse.ArgumentParser:
    default = bloscpack.BloscArgs()
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "-t",
        "--typesize",
        type=_number(1, blosc.MAX_TYPESIZE),
        default=typesize if isinstance(typesize, int) else None,
        metavar="N",
        help=f"bytes of an element; {typesize} by default",
    )
    parent.add_argument(
        "-l",
        "--level",
        "--clevel",
        dest="clevel",
        type=_number(0, 9),
        default=default.clevel,
        metavar="N",
        help=f"0 to 9; {default.clevel} by default",
    )
    parent.add_argument(
        "-s", "--no-shuffle", dest="shuffle", action="store_false", help="leave bytes in place"
    )
    parent.add_argument(
        "-c",
        "--codec",
        choices=blosc.list_compressors(),
        default=default.cname,
        metavar="NAME",
        help=f"{', '.join(blosc.list_compressors())}; {default.cname} by default",
    )
    return parent


def _pack_options() -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "-z",
        "--chunk-size",
        default="1M",
        type=_chunk_size,
        metavar="SIZE",
        help="bytes, or a size such as 512K, or max; 1M by default",
    )
    names = [checksum.name for checksum in CHECKSUMS]
    parent.add_argument(
        "-k",
        "--checksum",
        choices=names,
        default="adler32",
        metavar="NAME",
        help=f"{', '.join(names)}; adler32 by default",
    )
    parent.add_argument(
        "-o", "--no-offsets", dest="offsets", action="store_false", help="no table of chunks"
    )
    _add_metadata(parent, "stored with it")
    return parent


def _chunk_size(text: str) -> str:
    try:
        chunks_for(1, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _add_metadata(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("-m", "--metadata", metavar="FILE", help=f"a JSON file, {text}")


def _add_no_check(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "-e",
        "--no-check-extension",
        action="store_true",
        help=f"take any name for that of {what}",
    )


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", nargs="*", help="the file to write")


@contextmanager
def _threads(args: argparse.Namespace) -> Iterator[None]:
    before = blosc.set_nthreads(args.nthreads)
    try:
        yield
    finally:
        blosc.set_nthreads(before)


def _blosc_args(args: argparse.Namespace) -> bloscpack.BloscArgs:
    return bloscpack.BloscArgs(args.typesize, args.clevel, args.shuffle, args.codec)


def _metadata(path: str | None) -> Any:
    if path is None:
        return None
    with open(path, "rb") as file:
        try:
            return json.loads(file.read())
        except ValueError as error:
            raise CommandError(f"{path} is no JSON: {error}") from error


def _one(names: list[str], what: str) -> str:
    if len(names) != 1:
        raise UsageError(f"give one {what}")
    return names[0]


def _check_suffix(name: str, args: argparse.Namespace) -> None:
    if not name.endswith(_SUFFIX) and not args.no_check_extension:
        raise UsageError(f"{name} does not end in {_SUFFIX}: see --no-check-extension")


def _tell(args: argparse.Namespace, lines: dict[str, Any]) -> None:
    if args.verbose or args.debug:
        for name, value in lines.items():
            said = json.dumps(value) if isinstance(value, (dict, list)) else value
            say(args, f"  {name + ':':<16} {f'{said:,}' if type(said) is int else said}")


def _headed(head: Header) -> dict[str, Any]:
    """A header by Bloscpack's names."""
    return {"format_version": head.VERSION, **asdict(head), "checksum": head.checksum.name}


# ---- commands ----


def compress(args: argparse.Namespace) -> int:
    out = _one(args.out or [args.file + _SUFFIX], "OUT")

    def work(name: str) -> None:
        check_output(out, [name], args.force)
        options = bloscpack.BloscpackArgs(args.offsets, args.checksum)
        metadata = _metadata(args.metadata)
        with _threads(args):
            bloscpack.pack_file_to_file(
                name, out, args.chunk_size, metadata, _blosc_args(args), options,
                progress=bars_wanted(args),
            )  # fmt: skip
        finish(args, [name], [out])
        with bloscpack.BloscpackFile(out) as file:
            _tell(args, {"threads": args.nthreads, **_headed(file.header)})

    return each_file(args, [args.file], work)


def decompress(args: argparse.Namespace) -> int:
    if args.no_check_extension and not args.out:
        raise UsageError("--no-check-extension needs OUT")
    _check_suffix(args.file, args)
    out = _one(args.out or [args.file.removesuffix(_SUFFIX)], "OUT")

    def work(name: str) -> None:
        check_output(out, [name], args.force)
        with _threads(args):
            metadata = bloscpack.unpack_file_from_file(name, out, progress=bars_wanted(args))
        finish(args, [name], [out])
        _tell(args, {"threads": args.nthreads})
        if metadata is not None:
            say(args, f"metadata: {json.dumps(metadata)}")

    return each_file(args, [args.file], work)


def append(args: argparse.Namespace) -> int:
    new = _one(args.new, "NEW")
    _check_suffix(args.file, args)

    def work(name: str) -> None:
        before, metadata = os.path.getsize(name), _metadata(args.metadata)
        with _threads(args):
            bloscpack.append(name, new, _blosc_args(args), metadata, bars_wanted(args))
        say(args, f"{name}: {before:,} -> {os.path.getsize(name):,} bytes")
        with bloscpack.BloscpackFile(name) as file:
            _tell(args, {"threads": args.nthreads, **_headed(file.header)})

    return each_file(args, [args.file], work)


def info(args: argparse.Namespace) -> int:
    def work(name: str) -> None:
        with open(name, "rb") as file:
            found = _info(Chunks(file))
        if args.json:
            print(json.dumps({"file": name, **found}))
            return
        print(name)
        for part, value in found.items():
            if part == "offsets":
                dots = ", ..." if len(value) > _SHOWN_OFFSETS else ""
                print(f"  offsets: {', '.join(map(str, value[:_SHOWN_OFFSETS]))}{dots}")
            elif part == "metadata":
                print(f"  metadata: {json.dumps(value)}")
            elif isinstance(value, dict):
                print(f"  {part.replace('_', ' ')}")
                for key, entry in value.items():
                    print(f"    {key + ':':<16} {_sized(key, entry)}")
            else:
                print(f"  {part}: {_sized(part, value)}")

    return each_file(args, args.files, work)


def _sized(key: str, value: Any) -> Any:
    is_size = key.endswith(("size", "last_chunk", "bytes")) and key != "typesize"
    return f"{value:,} bytes" if is_size and value >= 0 else value


def _info(chunks: Chunks) -> dict[str, Any]:
    found: dict[str, Any] = {
        "bloscpack_header": _headed(chunks.header),
        "bytes": chunks.size,
        "packed_bytes": chunks.ranges.size,
    }
    if chunks.header.offsets:
        found["offsets"] = chunks.offsets.tolist()
    if chunks.metadata_header is not None:
        head = asdict(chunks.metadata_header)
        head["meta_checksum"] = chunks.metadata_header.meta_checksum.name
        for key in ("magic_format", "user_codec"):
            head[key] = head[key].decode("latin-1")
        head["meta_options"] = f"{head['meta_options']:08b}"
        found |= {"metadata": chunks.metadata, "metadata_header": head}
    if chunks.count:
        first = chunks.blosc_header(0)
        found["first_chunk"] = asdict(first)
        found["first_chunk_flags"] = first.named_flags()
    return found
