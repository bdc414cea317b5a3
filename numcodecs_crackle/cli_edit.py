"""The commands that write files of labels."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from numcodecs_crackle import components as components_
from numcodecs_crackle import edit, fileio, files, pool, stack, stream
from numcodecs_crackle.cli_io import (
    STDIO,
    CommandError,
    Target,
    UsageError,
    bars_wanted,
    check_output,
    coded,
    each_file,
    finish,
    listed,
    read,
    read_stream,
    save,
    stem,
    stream_of,
    target,
)
from numcodecs_crackle.extras import required

# ---- from kind to kind ----


def compress(args: argparse.Namespace) -> int:
    return _converted(args, ".ckl")


def decompress(args: argparse.Namespace) -> int:
    kind = _kind_asked(args, ".npy")
    if kind == ".ckl":
        raise UsageError("decompress writes arrays: see convert")
    return _converted(args, kind)


def convert(args: argparse.Namespace) -> int:
    kind = _kind_asked(args, ".ckl")
    if kind != ".ckl" and (args.markov is not None or args.pins or args.recompress):
        raise UsageError(f"--markov, --pins and --recompress are of .ckl files, not of {kind}")
    return _converted(args, kind)


def _kind_asked(args: argparse.Namespace, default: str) -> str:
    if args.to is not None:
        return f".{args.to}"
    if args.output in (None, STDIO):
        return default
    try:
        kind = fileio.suffixes(args.output)[0]
    except ValueError as error:
        raise UsageError(str(error)) from None
    return kind or default


def _converted(args: argparse.Namespace, kind: str) -> int:
    names = listed(args.files)
    if args.output is not None and len(names) != 1:
        raise UsageError("-o is for one file")
    if args.output == STDIO and args.remove:
        raise UsageError("--rm is for outputs that are files")
    targets: dict[str, Target] = {}
    origin: dict[str, str] = {}

    def plan(name: str) -> None:
        to = target(args, stem(name), kind)
        check_output(to.path, [name], args.force)
        place = os.path.realpath(to.path)
        if place in origin:
            raise CommandError(f"{to.path} is already made from {origin[place]}")
        origin[place] = name
        targets[name] = to

    def work(name: str) -> None:
        labels = stream_of(name) if args.command == "decompress" else read(name)
        save(coded(labels, args) if kind == ".ckl" else labels, targets[name], args)
        finish(args, [name], [targets[name].path])

    failed = each_file(args, names, plan, bar=False)
    return each_file(args, targets, work) | failed


# ---- edits of one file ----


def _edited(args: argparse.Namespace, make: Callable[[Any], Any]) -> int:
    """Write make(stream) of the one file to the output."""
    if args.output == STDIO and args.remove:
        raise UsageError("--rm is for outputs that are files")
    if args.output is None and args.default is None:
        raise UsageError("give an output: -o OUT")
    to = target(args, args.default, ".ckl")

    def work(name: str) -> None:
        check_output(to.path, [name], args.force)
        save(coded(make(read_stream(name, args.jobs)), args), to, args)
        finish(args, [name], [to.path])

    return each_file(args, [args.file], work)


def renumber(args: argparse.Namespace) -> int:
    if len(args.out) + (args.output is not None) != 1:
        raise UsageError("give one output: OUT, or -o OUT")
    args.output = args.output or args.out[0]

    mapping: dict[int, int] = {}

    def make(binary: Any) -> bytes:
        result, found = edit.renumber(binary, args.start, args.jobs)
        mapping.update(found)
        return result

    if args.mapping is None:
        return _edited(args, make)
    _mapping_kind(args.mapping)
    return (
        each_file(args, [args.file], lambda name: check_output(args.mapping, [name], args.force))
        or _edited(args, make)
        or each_file(args, [args.file], lambda _: save_mapping(mapping, args.mapping))
    )


def remap(args: argparse.Namespace) -> int:
    pairs = []
    for text in args.pairs:
        match = re.fullmatch(r"(-?\d+)=(-?\d+)", text)
        if not match:
            raise UsageError(f"{text!r} is not OLD=NEW")
        pairs.append((int(match[1]), int(match[2])))
    if args.mapping is None and not pairs:
        raise UsageError("give a --mapping, or OLD=NEW")
    if args.mapping is not None:
        _mapping_kind(args.mapping)

    def make(binary: Any) -> Any:
        mapping = load_mapping(args.mapping) if args.mapping is not None else {}
        mapping |= _unambiguous(pairs, "the command line")
        try:
            return edit.remap(binary, mapping, not args.strict, parallel=args.jobs)
        except KeyError as error:
            raise CommandError(f"label {error} is not in the mapping") from None

    return _edited(args, make)


def downsample(args: argparse.Namespace) -> int:
    def make(binary: Any) -> Any:
        for _ in range(args.times):
            binary = pool.mode_pooling_2x2x1(binary, args.sparse, args.jobs)
        return binary

    return _edited(args, make)


def components(args: argparse.Namespace) -> int:
    def make(binary: Any) -> Any:
        return components_.connected_components(
            binary,
            args.connectivity,
            args.binary_image,
            progress=bars_wanted(args),
            parallel=args.jobs,
        )

    return _edited(args, make)


# ---- slices ----


def _natural(name: str) -> list[Any]:
    """A key that sorts x2 before x10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def stack_(args: argparse.Namespace) -> int:
    if args.output == STDIO and args.remove:
        raise UsageError("--rm is for outputs that are files")
    to = target(args, args.default, ".ckl")
    if args.files.count(STDIO) > 1:
        raise UsageError("stdin has one stream")
    names: list[str] = []
    volumes = []

    def expand(name: str) -> None:
        if not os.path.isdir(name):
            names.append(name)
            return
        inside = (n for n in os.listdir(name) if _is_ckl(n))
        paths = [os.path.join(name, n) for n in sorted(inside, key=_natural)]
        if os.path.exists(to.path):  # what an earlier call has stacked is no slice
            paths = [path for path in paths if not os.path.samefile(path, to.path)]
        if not paths:
            raise CommandError("there are no .ckl files")
        names.extend(paths)

    def load(name: str) -> None:
        volumes.append(read(name))

    def work(_: str) -> None:
        save(coded(stack.zstack(volumes, args.markov, args.jobs), args), to, args)
        finish(args, names, [to.path])

    return (
        each_file(args, args.files, expand, bar=False)
        or each_file(args, names[:1], lambda _: check_output(to.path, names, args.force))
        or each_file(args, names, load)
        or each_file(args, [to.path], work)
    )


def _is_ckl(name: str) -> bool:
    try:
        return fileio.suffixes(name)[0] == ".ckl" and not name.startswith(".")
    except ValueError:
        return False


def split(args: argparse.Namespace) -> int:
    if args.range is not None:
        args.default = f"{stem(args.file)}_z{args.range.start or 0}-{args.range.stop or 'end'}"

        def make(binary: Any) -> Any:
            start, stop, _ = args.range.indices(stream.header(binary).sz)
            if start >= stop:
                raise CommandError("there are no such slices")
            return stack.zcut(binary, [start, stop], args.jobs)[0]

        return _edited(args, make)
    folder, base = os.path.split(stem(args.file))
    if args.output == STDIO:
        raise UsageError("several streams are no single output: use -o FOLDER")
    folder, args.output = args.output or folder, None

    def work(name: str) -> None:
        binary = read_stream(name, args.jobs)
        sz = stream.header(binary).sz
        if args.each:
            parts: Sequence[bytes] = stack.zshatter(binary, args.jobs)
            width = len(str(max(sz - 1, 0)))
            labelled = {f"z{z:0{width}}": part for z, part in enumerate(parts)}
        else:
            z = args.z + sz if args.z < 0 else args.z
            names = ("before", "middle", "after")
            parts = stack.zsplit(binary, z, args.jobs)
            labelled = {
                word: part
                for word, part in zip(names, parts, strict=True)
                if stream.header(part).sz
            }
        outputs = {
            target(args, os.path.join(folder, f"{base}_{word}"), ".ckl"): part
            for word, part in labelled.items()
        }
        os.makedirs(folder or os.curdir, exist_ok=True)
        for to in outputs:
            check_output(to.path, [name], args.force)
        for to, part in outputs.items():
            save(coded(part, args), to, args)
        finish(args, [name], [to.path for to in outputs])

    return each_file(args, [args.file], work)


# ---- mappings ----


def _mapping_kind(path: str) -> str:
    kind = os.path.splitext(path)[1].lower()
    if kind not in _PAIRS:
        raise UsageError(f"{path}: a mapping is a .csv, .json or .parquet file")
    return kind


def load_mapping(path: str) -> dict[int, int]:
    """Old to new label, from a CSV, JSON or Parquet file."""
    try:
        pairs = _PAIRS[_mapping_kind(path)](path)
    except (ValueError, csv.Error) as error:
        raise CommandError(f"{path}: {error}") from error
    return _unambiguous(pairs, path)


def _pairs_of_csv(path: str) -> Any:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    named = rows and not any(re.fullmatch(r"\s*-?\d+\s*", cell) for cell in rows[0])
    return rows[1:] if named else rows


def _pairs_of_json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        # As pairs, since a dict forgets the first of two equal keys.
        pairs = json.load(file, object_pairs_hook=list)
    if not isinstance(pairs, list):
        raise CommandError(f"{path} is not an object of old to new labels")
    return pairs


def _pairs_of_parquet(path: str) -> Any:
    table = required("pyarrow.parquet", "files").read_table(path)
    if not {"old", "new"} <= set(table.column_names):
        raise CommandError(f"{path} has no columns old and new")
    return zip(*(table.column(name).to_pylist() for name in ("old", "new")), strict=True)


_PAIRS = {".csv": _pairs_of_csv, ".json": _pairs_of_json, ".parquet": _pairs_of_parquet}


def _unambiguous(pairs: Iterable[Any], where: str) -> dict[int, int]:
    mapping: dict[int, int] = {}
    for pair in pairs:
        try:
            old, new = (int(part) if isinstance(part, str) else part for part in pair)
            if type(old) is not int or type(new) is not int:
                raise ValueError
        except (TypeError, ValueError):
            raise CommandError(f"{where}: {pair!r} is not a pair of integers") from None
        if mapping.setdefault(old, new) != new:
            raise CommandError(f"{where}: {old} becomes both {mapping[old]} and {new}")
    return mapping


def save_mapping(mapping: Mapping[int, int], path: str) -> None:
    """Write old to new label to a CSV, JSON or Parquet file."""
    kind = _mapping_kind(path)
    if kind == ".parquet":
        pa = required("pyarrow", "files")
        parts = {"old": list(mapping), "new": list(mapping.values())}
        table = pa.table({name: edit.integers(numbers) for name, numbers in parts.items()})
        files.save_table(table, path)
        return
    if kind == ".json":
        text = json.dumps({str(old): new for old, new in mapping.items()}, indent=0) + "\n"
    else:
        text = "".join(f"{old},{new}\n" for old, new in [("old", "new"), *mapping.items()])
    with files.atomic_write(path) as file:
        file.write(text.encode())
