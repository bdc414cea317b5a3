"""The commands that tell what is in a stream."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import files, measure, picture, stream, viewer
from numcodecs_crackle.array import CrackleArray
from numcodecs_crackle.cli_io import (
    MAPS,
    STDIO,
    CommandError,
    UsageError,
    check_output,
    each_file,
    finish,
    is_stream,
    listed,
    read_stream,
    stream_of,
)
from numcodecs_crackle.errors import FormatError
from numcodecs_crackle.extras import required
from numcodecs_crackle.header import CrackFormat, CrackleHeader, LabelFormat

# ---- the stream ----


def info(args: argparse.Namespace) -> int:
    def work(name: str) -> None:
        found = _info(name)
        if args.json:
            print(json.dumps(found))
            return
        print(name)
        for key, value in found.items():
            if key == "file":
                continue
            key = key.replace("_", " ")
            if isinstance(value, dict):
                print(f"  {key}")
                for part, size in value.items():
                    print(f"    {part.replace('_', ' '):<20} {size:>14,} bytes")
            elif isinstance(value, list):
                print(f"  {key:<22} {' x '.join(map(str, value))}")
            else:
                grouped = isinstance(value, int) and not isinstance(value, bool)
                print(f"  {key:<22} {f'{value:,}' if grouped else value}")

    return each_file(args, args.files, work)


def _info(name: str) -> dict[str, Any]:
    binary = stream_of(name)
    head = stream.header(binary)
    size = len(binary)
    on_disk = os.path.getsize(name) if name != STDIO and os.path.isfile(name) else size
    return {
        "file": name,
        "shape": list(head.shape),
        "dtype": str(head.dtype),
        "memory_order": "F" if head.fortran_order else "C",
        "labels": stream.num_labels(binary),
        "voxels": head.voxels(),
        "array_bytes": head.nbytes,
        "file_bytes": on_disk,
        "ratio": round(head.nbytes / on_disk, 2),
        "format_version": head.format_version,
        "label_format": LabelFormat(head.label_format).name.lower().replace("_", " "),
        "crack_format": CrackFormat(head.crack_format).name.lower(),
        "markov_order": head.markov_model_order,
        "stored_label_width": head.stored_data_width,
        "labels_sorted": head.is_sorted,
        "labels_remapped": head.is_remapped,
        "sections": _sections(head, size),
    }


def _sections(head: CrackleHeader, size: int) -> dict[str, int]:
    if not head.voxels():
        return {"header": size}
    sections = {
        "header": head.header_bytes,
        "crack_index": head.grid_index_bytes,
        "labels": head.num_label_bytes,
        "markov_model": head.num_markov_model_bytes,
        "crack_codes": 0,
        "checksums": head.grid_index_bytes if head.format_version else 0,
    }
    sections["crack_codes"] = size - sum(sections.values())
    return sections


def labels(args: argparse.Namespace) -> int:
    def work(name: str) -> None:
        array = CrackleArray(read_stream(name, args.jobs))
        found = array.labels(args.z)
        if args.json:
            what = {"count": len(found)} if args.count else {"labels": found.tolist()}
            print(json.dumps({"file": name, **what}))
        elif args.count:
            print(f"{name}: {len(found)}" if len(args.files) > 1 else len(found))
        elif len(found):
            print("\n".join(map(str, found.tolist())))

    return each_file(args, args.files, work)


def verify(args: argparse.Namespace) -> int:
    def work(name: str) -> bool:
        result: dict[str, Any] = {"file": name, "ok": False}
        try:
            found = stream.check(_any_bytes(name))
            result |= found
            said = _damage(found)
        except FormatError as error:  # in what is around the stream
            said = str(error)
            result["error"] = said
        result["ok"] = not said
        if args.json:
            print(json.dumps(result))
        elif said:
            print(f"{name}: damaged: {said}")
        else:
            sure = found["labels"] is not None
            print(f"{name}: ok" if sure else f"{name}: no damage seen; version 0 has no checksums")
        return not said

    return each_file(args, args.files, work)


def _any_bytes(name: str) -> Any:
    if not is_stream(name):
        return stream_of(name)
    return sys.stdin.buffer.read() if name == STDIO else files.bload(name, MAPS)


def _damage(found: dict[str, Any]) -> str:
    """The sections that are damaged, in words; nothing if there are none."""
    names = [key for key in ("header", "crack_index", "labels") if found[key] is False]
    damaged = [name.replace("_", " ") for name in names]
    if found["z"]:
        z = np.array(found["z"])
        parts = np.split(z, np.flatnonzero(np.diff(z) != 1) + 1)
        ranges = [f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts]
        damaged.append(f"slice{'s' if len(z) > 1 else ''} {', '.join(ranges)}")
    return "; ".join(damaged)


# ---- the labels ----

Columns = dict[str, npt.NDArray[Any]]


def _columns(name: str, wanted: list[int] | None, jobs: int) -> Columns:
    """The measures of labels, the largest first; from the sidecar if there is one."""
    if name != STDIO and is_stream(name):
        array = files.aload(name, MAPS)
    else:
        array = CrackleArray(read_stream(name, jobs))
    array.parallel = jobs
    one = wanted[0] if wanted is not None and len(wanted) == 1 else None
    found = array.totals(one, boxes=True, means=True)
    columns = measure.columns(array, found)
    if wanted is not None:
        missing = set(wanted) - set(found.labels.tolist())
        if missing:
            raise CommandError(f"there is no label {min(missing)}")
        keep = np.isin(found.labels, np.array(sorted(set(wanted)), found.labels.dtype))
        columns = {key: column[keep] for key, column in columns.items()}
    order = np.argsort(-columns["voxel_count"].astype(np.int64), kind="stable")
    return {key: column[order] for key, column in columns.items()}


def _table(columns: Columns) -> str:
    """Right-aligned columns: boxes from first to last voxel, centroids to a tenth."""
    axes = [axis for axis in "xyz" if f"min_{axis}" in columns]
    rows = [["label", "voxels", *axes, "centroid"]]
    plain = {key: column.tolist() for key, column in columns.items()}
    for i, label in enumerate(plain["label"]):
        boxes = [f"{plain[f'min_{axis}'][i]}-{plain[f'max_{axis}'][i]}" for axis in axes]
        centre = " ".join(f"{plain[f'centroid_{axis}'][i]:.1f}" for axis in axes)
        rows.append([str(label), f"{plain['voxel_count'][i]:,}", *boxes, centre])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join("  ".join(cell.rjust(width) for cell, width in line) for line in lines)


def _rows(columns: Columns) -> list[tuple[Any, ...]]:
    return list(zip(*(column.tolist() for column in columns.values()), strict=True))


def stats(args: argparse.Namespace) -> int:
    outputs = {"csv": args.csv, "json": args.json, "parquet": args.parquet}
    outputs = {kind: path for kind, path in outputs.items() if path is not None}
    if args.parquet == STDIO:
        raise UsageError("--parquet needs a file")
    if list(outputs.values()).count(STDIO) > 1:
        raise UsageError("stdout has room for one output")

    def work(name: str) -> None:
        for path in outputs.values():
            check_output(path, [name], args.force)
        columns = _columns(name, args.label, args.jobs)
        columns = {key: column[: args.top] for key, column in columns.items()}
        for kind, path in outputs.items():
            if kind == "parquet":
                files.save_table(required("pyarrow", "files").table(columns), path)
                continue
            text = _as_csv(columns) if kind == "csv" else _as_json(columns)
            if path == STDIO:
                sys.stdout.write(text)
            else:
                with files.atomic_write(path) as file:
                    file.write(text.encode())
        if not outputs:
            print(_table(columns))

    return each_file(args, [args.file], work)


def _as_csv(columns: Columns) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([list(columns), *_rows(columns)])
    return text.getvalue()


def _as_json(columns: Columns) -> str:
    rows = [json.dumps(dict(zip(columns, row, strict=True))) for row in _rows(columns)]
    return "[" + ",\n ".join(rows) + "]\n"


def meta(args: argparse.Namespace) -> int:
    def work(name: str) -> None:
        binary = stream_of(name)
        if args.skip_empty and not stream.labels(binary).any():
            return
        if args.print:
            print(_table(_columns(name, None, args.jobs)))
            return
        path = files.sidecar_path(name)
        if files.load_sidecar(name, binary) is not None and not args.force:
            return  # there is one of this very stream
        check_output(path, [name], args.force)
        files.cache_meta(binary, path, args.jobs)
        finish(args, [], [path])

    return each_file(args, listed(args.files), work)


# ---- a picture ----


def view(args: argparse.Namespace) -> int:
    axis = "xyz".index(args.axis)

    def work(name: str) -> None:
        if args.output is not None:
            check_output(args.output, [name], args.force)
        array = CrackleArray(read_stream(name, args.jobs), args.jobs)
        if args.output is None:
            _show(array, axis, args.z, args.borders, name)
            return
        middle = array.shape[axis] // 2 if args.z is None else args.z
        at = tuple(middle if i == axis else slice(None) for i in range(3))
        # As on a screen: x to the right, y down; z down where it is seen from the side.
        image = picture.draw(array[at].T, args.borders)
        imsave = required("matplotlib.image", "cli").imsave
        if args.output == STDIO:
            imsave(sys.stdout.buffer, image, format="png")
            return
        with files.atomic_write(args.output) as file:
            imsave(file, image, format="png")
        finish(args, [], [args.output])

    return each_file(args, [args.file], work)


def _show(array: CrackleArray, axis: int, index: int | None, borders: bool, title: str) -> None:
    """A window to browse slices, until it is closed."""
    pyplot = required("matplotlib.pyplot", "cli")
    shown = viewer.view(array, axis, index, borders=borders, colormap="hashed", slider="matplotlib")
    if shown.figure.canvas.required_interactive_framework is None:
        pyplot.close(shown.figure)
        raise CommandError("there is no screen for a window: use -o FILE.png")
    shown.figure.canvas.manager.set_window_title(title)
    pyplot.show()
