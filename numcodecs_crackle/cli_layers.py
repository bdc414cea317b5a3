"""The commands for Neuroglancer's precomputed layers, of stored arrays."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numcodecs_crackle
from numcodecs_crackle.cli_io import CommandError, bars_wanted, each_file, say


def export(args: argparse.Namespace) -> int:
    def work(_: str) -> None:
        options = _placed(args) | {"gzip": args.gzip, "write_missing": args.write_missing}
        with _how(args) as how:
            count = numcodecs_crackle.to_precomputed(
                args.files, args.output, overwrite=args.force, **options, **how
            )
        say(args, f"{args.output}: {count:,} chunks")

    return each_file(args, [args.output], work)


def import_(args: argparse.Namespace) -> int:
    def work(name: str) -> None:
        scale = int(args.scale) if args.scale.isdecimal() else args.scale
        with _how(args) as how:
            array = numcodecs_crackle.from_precomputed(
                name,
                args.output,
                scale=scale,
                zarr_format=args.zarr_format,
                shards=args.shards,
                overwrite=args.force,
                **how,
            )
        say(args, f"{args.output}: {' x '.join(map(str, array.shape))} {array.dtype}")

    return each_file(args, [args.file], work)


def serve(args: argparse.Namespace) -> int:
    def work(_: str) -> None:
        options = {"origin": args.origin, "quiet": args.quiet}
        with numcodecs_crackle.serve(
            args.files, args.host, args.port, **_placed(args), **options
        ) as server:
            print(server.url, flush=True)
            try:
                server.wait()
            except KeyboardInterrupt:
                say(args, "")

    return each_file(args, [" ".join(args.files)], work)


def _placed(args: argparse.Namespace) -> dict[str, Any]:
    """What `export` and `serve` take of where the voxels are."""
    names = ("resolution", "voxel_offset", "edges", "key")
    return {name: getattr(args, name) for name in names}


@contextmanager
def _how(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The options of work on chunks. CommandError for what would be replaced."""
    from zarr.errors import ContainsArrayAndGroupError, ContainsArrayError, ContainsGroupError

    pool = ThreadPoolExecutor(args.jobs) if args.jobs else None
    try:
        yield {"executor": pool, "progress": bars_wanted(args)}
    except (
        FileExistsError, ContainsArrayError, ContainsGroupError, ContainsArrayAndGroupError,
    ):  # fmt: skip
        raise CommandError(f"{args.output} exists: use --force to replace it") from None
    finally:
        if pool is not None:
            pool.shutdown()
