"""The command line: ``numcodecs-crackle COMMAND ...``. What commands do is beside this file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numcodecs_crackle
from numcodecs_crackle import cli_blosc, cli_edit, cli_layers, cli_show
from numcodecs_crackle.cli_io import PROGRAM, UsageError
from numcodecs_crackle.limits import max_voxels
from numcodecs_crackle.stream import check_markov_order

__all__ = ["main"]

_ABOUT = """\
Label volumes as Crackle streams (.ckl): write them, read them, look into them.

Files of other kinds are known by their names: .npy, .nrrd, .nii, .nii.gz, .tif, .cpso;
and .gz, .xz, .zst or .blp behind .ckl, .npy and .cpso."""

_CODES = """\
exit codes:
  0  all is well
  1  a file could not be read or written, or is damaged; the others were done
  2  the command line is wrong

`numcodecs-crackle COMMAND --help` says more about each."""

_NAMES = 'A FILE "-" stands for names on stdin, one a line.'
_STDIN = 'A FILE "-" is a stream on stdin.'
_KINDS = ("npy", "nrrd", "nii", "tif", "tiff", "cpso")


def _markov(text: str) -> int | Literal["auto"]:
    try:
        return check_markov_order(text if text == "auto" else int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 0 to 15 nor auto") from None


def _jobs(text: str) -> int:
    return _at_least(text, 0)


def _positive(text: str) -> int:
    return _at_least(text, 1)


def _at_least(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} on")
    return number


def _slice_range(text: str) -> slice:
    try:
        start, stop = (int(part) if part else None for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 3:7") from None
    return slice(start, stop)


def _slices(text: str) -> int | slice:
    try:
        return _slice_range(text) if ":" in text else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a slice nor a range of slices"
        ) from None


# ---- options that several commands have ----


def _parent() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False)


def _common() -> argparse.ArgumentParser:
    parent = _parent()
    parent.add_argument("-q", "--quiet", action="store_true", help="no remarks, no progress bar")
    parent.add_argument("--debug", action="store_true", help="show where an error came from")
    parent.add_argument(
        "--max-voxels",
        type=_positive,
        metavar="N",
        help="believe a stream that claims so many; by default 2**31, slices of 2**27, and more "
        "for large files",
    )
    return parent


def _threads() -> argparse.ArgumentParser:
    parent = _parent()
    parent.add_argument(
        "-j",
        "--jobs",
        type=_jobs,
        default=0,
        metavar="N",
        help="threads; 0, the default: all cores",
    )
    return parent


def _replacing() -> argparse.ArgumentParser:
    parent = _parent()
    parent.add_argument("-f", "--force", action="store_true", help="replace files that exist")
    return parent


def _output(text: str, default: str | None = None) -> argparse.ArgumentParser:
    parent = _parent()
    parent.add_argument("-o", "--output", metavar="OUT", help=text)
    parent.set_defaults(default=default)
    group = parent.add_mutually_exclusive_group()
    group.add_argument(
        "-k", "--keep", dest="remove", action="store_false", help="keep the source: the default"
    )
    group.add_argument(
        "--rm", dest="remove", action="store_true", help="remove the source when all is written"
    )
    parent.set_defaults(remove=False)
    return parent


def _packed(short: bool = True) -> argparse.ArgumentParser:
    parent = _parent()
    group = parent.add_mutually_exclusive_group()
    names = ["-z"] if short else []
    every = ([*names, "--gzip", ".gz"], ["--xz", ".xz"], ["--zst", ".zst"], ["--blp", ".blp"])
    for *flags, wrapper in every:
        group.add_argument(
            *flags,
            dest="wrapper",
            action="store_const",
            const=wrapper,
            help=f"compress the file once more: {wrapper}",
        )
    return parent


def _coding() -> argparse.ArgumentParser:
    parent = _parent()
    parent.add_argument(
        "-m",
        "--markov",
        type=_markov,
        metavar="ORDER",
        help="order of the Markov model of borders, 0 to 15, or auto for the smallest stream; "
        "by default that of a stream, and 0 for an array",
    )
    parent.add_argument(
        "-p",
        "--pins",
        action="count",
        default=0,
        help="allow labels as pins: smaller and slower; -pp looks longer for good ones",
    )
    parent.add_argument(
        "--recompress",
        action="store_true",
        help="drop the borders between labels that an edit has made equal",
    )
    return parent


# ---- the commands ----


class _Commands:
    """Adds commands to the program, or to a command of commands."""

    def __init__(self, subparsers: Any, program: str = PROGRAM) -> None:
        self._subparsers = subparsers
        self._program = program

    def group(self, name: str, text: str) -> _Commands:
        """A command that has commands of its own."""
        about = f"{text[0].upper()}{text[1:]}."
        parser = self._subparsers.add_parser(name, help=text, description=about, allow_abbrev=False)
        inner = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
        return _Commands(inner, f"{self._program} {name}")

    def add(
        self,
        run: Callable[[argparse.Namespace], int],
        names: Sequence[str],
        text: str,
        example: str,
        *parents: argparse.ArgumentParser,
        more: str = "",
        files: str | None = None,
        rest: str | None = None,
    ) -> argparse.ArgumentParser:
        """A command of several files, which ``files`` describes, or else of one.

        ``rest``: the list that takes what comes behind options.
        """
        name, *aliases = names
        parser: argparse.ArgumentParser = self._subparsers.add_parser(
            name,
            aliases=aliases,
            help=text,
            description=f"{text[0].upper()}{text[1:]}." + (f"\n{more}" if more else ""),
            epilog=f"example:\n  {self._program} {example}",
            parents=[_common(), *parents],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if files is None:
            parser.add_argument("file", metavar="FILE")
        else:
            parser.add_argument("files", metavar="FILE", nargs="+", help=files)
            rest = "files"
        parser.set_defaults(run=run, command=name, rest=rest, parser=parser)
        return parser


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        PROGRAM,
        description=_ABOUT,
        epilog=_CODES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=26
        ),
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=numcodecs_crackle.__version__)
    commands = _Commands(top.add_subparsers(metavar="COMMAND", required=True, title="commands"))
    _add_conversions(commands)
    _add_questions(commands)
    _add_edits(commands)
    _add_layers(commands)
    cli_blosc.add(commands.group("blosc", "Bloscpack files (.blp)"), _replacing())
    return top


def _add_conversions(commands: _Commands) -> None:
    beside = _output('the file to write, for one FILE; "-" is stdout; else a file beside FILE')
    shared = (beside, _packed(), _replacing(), _threads())
    parser = commands.add(
        cli_edit.compress,
        ["compress", "c"],
        "make .ckl files of arrays, or of other .ckl files",
        "compress -m auto labels.npy",
        *(_coding(), *shared),
        more=_NAMES,
        files="of any kind",
    )
    parser.set_defaults(to=None)
    parser = commands.add(
        cli_edit.decompress,
        ["decompress", "d"],
        "make arrays of .ckl files",
        "decompress --to nrrd labels.ckl",
        *shared,
        more=_NAMES,
        files="streams",
    )
    parser.add_argument("--to", choices=_KINDS, metavar="KIND", help=f"{', '.join(_KINDS)}")
    parser = commands.add(
        cli_edit.convert,
        ["convert"],
        "convert between any two kinds of file",
        "convert labels.nii.gz -o labels.tif",
        *(_coding(), *shared),
        more=f"The kind is that of --to, of OUT, or ckl. {_NAMES}",
        files="of any kind",
    )
    kinds = ("ckl", *_KINDS)
    parser.add_argument("-t", "--to", choices=kinds, metavar="KIND", help=", ".join(kinds))


def _add_questions(commands: _Commands) -> None:
    json_help = "one JSON object a file, each on a line"
    parser = commands.add(
        cli_show.info,
        ["info", "i"],
        "print the header, the sizes and the sections",
        "info labels.ckl",
        more=_STDIN,
        files="streams",
    )
    parser.add_argument("--json", action="store_true", help=json_help)
    parser = commands.add(
        cli_show.labels,
        ["labels"],
        "print the labels, one a line",
        "labels --z 10:20 labels.ckl",
        _threads(),
        more=f"{_STDIN} Streams are not decoded for that.",
        files="of any kind",
    )
    parser.add_argument(
        "-z", "--z", type=_slices, metavar="N|A:B", help="only those of a slice, or of [A, B)"
    )
    parser.add_argument("--count", action="store_true", help="print how many there are")
    parser.add_argument("--json", action="store_true", help=json_help)
    parser = commands.add(
        cli_show.verify,
        ["verify", "test", "t"],
        "name the sections and slices that are damaged",
        "verify *.ckl",
        more=_STDIN,
        files="streams",
    )
    parser.add_argument("--json", action="store_true", help=json_help)
    parser = commands.add(
        cli_show.stats,
        ["stats"],
        "list labels with their voxels, box and centroid",
        "stats --top 10 labels.ckl",
        *(_replacing(), _threads()),
        more=f"The largest first. Boxes are from the first voxel to the last, in x, y, z. {_STDIN}",
    )
    parser.add_argument(
        "-l", "--label", action="append", type=int, metavar="L", help="only this; once for each"
    )
    parser.add_argument("--top", type=_positive, metavar="N", help="only the N largest")
    for kind in ("csv", "json", "parquet"):
        where = "a file" if kind == "parquet" else 'a file, "-" for stdout,'
        parser.add_argument(f"--{kind}", metavar="OUT", help=f"write {where} instead")
    parser = commands.add(
        cli_show.meta,
        ["meta"],
        "keep what stats lists in a file beside the stream",
        "meta *.ckl",
        *(_replacing(), _threads()),
        more=f"Parquet, at FILE.meta.parquet, where later commands find it. {_NAMES}",
        files="streams",
    )
    parser.add_argument("--print", action="store_true", help="print them instead")
    parser.add_argument(
        "-s", "--skip-empty", action="store_true", help="pass over files of label 0 only"
    )
    parser.set_defaults(remove=False)
    parser = commands.add(
        cli_show.view,
        ["view"],
        "draw a slice to a PNG, or browse slices in a window",
        "view --axis x --borders -o slice.png labels.ckl",
        *(_replacing(), _threads()),
        more=f"Each label has a colour of its own, and 0 is black. {_STDIN}",
    )
    parser.add_argument("-o", "--output", metavar="PNG", help='a file; "-" is stdout')
    parser.add_argument("-z", "--z", type=int, metavar="N", help="which; by default in the middle")
    parser.add_argument("--axis", choices="xyz", default="z", help="across which; z by default")
    parser.add_argument("--borders", action="store_true", help="borders between labels in white")
    parser.set_defaults(remove=False)


def _add_edits(commands: _Commands) -> None:
    how = (_packed(), _coding(), _replacing(), _threads())
    out = 'the stream to write; "-" is stdout'
    to = _output(out)
    parser = commands.add(
        cli_edit.renumber,
        ["renumber"],
        "number the labels from 0 on, in the narrowest dtype",
        "renumber --start 1 --mapping old_new.csv labels.ckl small.ckl",
        *(to, *how),
        more=_STDIN,
        rest="out",
    )
    parser.add_argument("out", nargs="*", metavar="OUT", help=f"{out}; or give it by -o")
    parser.add_argument("--start", type=int, default=0, metavar="N", help="the first new label")
    parser.add_argument(
        "--mapping", metavar="FILE", help="write old and new labels: .csv, .json or .parquet"
    )
    parser = commands.add(
        cli_edit.remap,
        ["remap"],
        "change labels by a mapping",
        "remap --recompress labels.ckl -o merged.ckl 17=3 18=3",
        *(to, *how),
        more=_STDIN,
        rest="pairs",
    )
    parser.add_argument("pairs", nargs="*", metavar="OLD=NEW")
    parser.add_argument(
        "--mapping",
        metavar="FILE",
        help="a .csv of old,new, a .json object, or a .parquet with columns old and new",
    )
    parser.add_argument(
        "--strict", action="store_true", help="fail if a label is not in the mapping"
    )
    parser = commands.add(
        cli_edit.components,
        ["components", "cc"],
        "number the connected components of labels",
        "components --connectivity 6 labels.ckl -o components.ckl",
        *(to, *how),
        more=_STDIN,
    )
    parser.add_argument(
        "--connectivity", type=int, choices=(6, 18, 26), default=26, help="26 by default"
    )
    parser.add_argument("--binary-image", action="store_true", help="labels but 0 count as one")
    default = "downsampled.ckl"
    parser = commands.add(
        cli_edit.downsample,
        ["downsample"],
        "halve x and y: of 2 x 2 pixels the most frequent label",
        f"downsample -n 2 labels.ckl -o {default}",
        *(_output(f"{out}; by default {default}", default[:-4]), *how),
        more=_STDIN,
    )
    parser.add_argument(
        "-n", "--times", type=_positive, default=1, metavar="N", help="how many times; 1 by default"
    )
    parser.add_argument(
        "-s", "--sparse", action="store_true", help="0 only where there is no other label"
    )
    default = "merged.ckl"
    commands.add(
        cli_edit.stack_,
        ["stack"],
        "put volumes on top of each other, in z",
        f"stack slices/ -o {default}",
        *(_output(f"{out}; by default {default}", default[:-4]), *how),
        more=_STDIN,
        files="in this order; of a folder its .ckl files, 2 before 10",
    )
    parser = commands.add(
        cli_edit.split,
        ["split"],
        "take a volume apart, in z",
        "split --range 10:20 labels.ckl -o some.ckl",
        *(_output("with --range the file to write, else a folder"), _packed(short=False), *how[1:]),
        more=f"By default outputs are beside FILE. {_STDIN}",
    )
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument(
        "-z",
        "--z",
        type=int,
        metavar="N",
        help="the slices before N, slice N, and those behind it: FILE_before.ckl, "
        "FILE_middle.ckl, FILE_after.ckl; not those without slices",
    )
    group.add_argument("--each", action="store_true", help="each slice: FILE_z00.ckl ...")
    group.add_argument(
        "--range", type=_slice_range, metavar="A:B", help="the slices [A, B): FILE_zA-B.ckl"
    )


def _placed() -> argparse.ArgumentParser:
    parent = _parent()
    for name, kind, text in (
        ("resolution", float, "nanometres a voxel"),
        ("voxel-offset", int, "the first voxel"),
    ):
        parent.add_argument(
            f"--{name}",
            type=kind,
            nargs=3,
            metavar=("X", "Y", "Z"),
            help=f"{text}; by default as the arrays' OME or xarray metadata say",
        )
    parent.add_argument(
        "--edges",
        choices=("clip", "pad"),
        default="clip",
        help="cut the chunks that the volume ends in, or make it larger; clip by default",
    )
    parent.add_argument("--key", metavar="NAME", help="the folder of a single scale")
    return parent


def _add_layers(commands: _Commands) -> None:
    scales = "Zarr arrays, the finest scale first, or an OME-Zarr group"
    parser = commands.add(
        cli_layers.export,
        ["export"],
        "copy Zarr arrays to a Neuroglancer precomputed layer",
        "export --resolution 4 4 40 labels.zarr -o layer",
        *(_placed(), _replacing(), _threads()),
        more="Chunks are copied as they are stored; those at the end of the volume are cut.",
        files=scales,
    )
    parser.add_argument("-o", "--output", metavar="LAYER", required=True, help="a folder or a URL")
    parser.add_argument(
        "--gzip",
        action=argparse.BooleanOptionalAction,
        help="write gzip'ed files, as cloud-volume does in folders; by default as stored",
    )
    parser.add_argument(
        "--write-missing", action="store_true", help="write chunks of 0, too, which are not stored"
    )
    parser = commands.add(
        cli_layers.import_,
        ["import"],
        "copy a Neuroglancer precomputed layer to a Zarr array",
        "import layer -o labels.zarr",
        *(_replacing(), _threads()),
    )
    parser.add_argument("-o", "--output", metavar="ARRAY", required=True, help="a folder or a URL")
    parser.add_argument(
        "--scale", default="0", metavar="N|KEY", help="which; by default 0, the finest"
    )
    parser.add_argument(
        "--zarr-format", type=int, choices=(2, 3), default=3, help="of the array; 3 by default"
    )
    parser.add_argument(
        "--shards", type=_positive, nargs=3, metavar=("Z", "Y", "X"), help="voxels of a shard"
    )
    parser = commands.add(
        cli_layers.serve,
        ["serve"],
        "answer Neuroglancer and cloud-volume from Zarr arrays",
        "serve labels.zarr",
        _placed(),
        more="Prints the URL of the layer, and ends with Ctrl-C.",
        files=scales,
    )
    parser.add_argument("--host", default="127.0.0.1", help="this machine alone, by default")
    parser.add_argument("--port", type=_jobs, default=0, metavar="N", help="0: one that is free")
    parser.add_argument(
        "--origin", default="*", metavar="URL", help="the web page that may read; any by default"
    )


# ---- running ----


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    words = cli_blosc.reordered(sys.argv[1:] if arguments is None else arguments)
    args, rest = _parser().parse_known_args(words)
    # argparse takes positional arguments of one place only: those behind options are here.
    unknown = [word for word in rest if word.startswith("-") and word != "-"]
    if unknown or (rest and args.rest is None):
        args.parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:
        getattr(args, args.rest).extend(rest)
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit code: 0 if all is well, 1 if a file failed or is damaged, 2 if the arguments
        are wrong; 130 if it was interrupted, 141 if nobody reads stdout any more.
    """
    try:
        args = _parsed(arguments)
        try:
            with max_voxels(args.max_voxels):
                code: int = args.run(args)
        except UsageError as error:
            args.parser.error(str(error))
        sys.stdout.flush()
        return code
    except SystemExit as error:  # argparse's
        return int(error.code or 0)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # What is still to be flushed at the end would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
