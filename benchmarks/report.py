"""From results to tables, and a page of the docs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import OURS, REFERENCE

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
Results = dict[str, Any]


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, its first column left-aligned, the others right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _speed(stats: dict[str, float] | None) -> str:
    return f"{stats['median']:,.0f} ({stats['best']:,.0f})" if stats else "-"


def ratios(results: Results) -> str:
    """How many times as fast as the reference, by case."""
    rows = []
    for case in results["cases"]:
        ours = case["rows"][OURS]
        rows.append(
            [
                case["name"],
                f"{case['decode_ratio']:.1f}",
                f"{case['encode_ratio']:.1f}",
                f"{ours['bytes']:,}",
                f"{case['rows'][REFERENCE]['bytes']:,}",
            ]
        )
    header = ["case", "decode", "encode", "bytes", f"bytes, {REFERENCE}"]
    return table(header, rows)


def _case(case: dict[str, Any]) -> str:
    rows = []
    for name, row in case["rows"].items():
        sizes = [f"{row[k]:,}" if row.get(k) else "-" for k in ("bytes", "gzip", "zstd")]
        rows.append([name, _speed(row.get("encode")), _speed(row.get("decode")), *sizes])
    header = ["", "encode MVx/s", "decode MVx/s", "bytes", "after gzip", "after Zstd"]
    text = f"#### {case['name']}\n\n{case['voxels']:,} voxels of {case['dtype']}\n\n"
    notes = [f"{n}: {r['refused']}." for n, r in case["rows"].items() if r.get("refused")]
    return text + table(header, rows) + "".join(f"\n{note}\n" for note in notes)


def _pairs(title: str, about: str, rows: list[dict[str, Any]], unit: str = "MVx/s") -> str:
    lines = []
    for row in rows:
        sizes = ", ".join(f"{k} {v:,}" for k, v in row.get("bytes", {}).items())
        first, second = row["first"], row["second"]
        lines.append(
            [
                row["what"],
                f"{first['name']} {_speed(first)}",
                f"{second['name']} {_speed(second)}",
                f"{row['ratio']:.2f}",
                sizes or "-",
            ]
        )
    header = ["", unit, unit, "ratio", "bytes"]
    return f"### {title}\n\n{about}\n\n" + table(header, lines)


EXTRAS = {
    "measures": (
        "Measures",
        "Folds over runs, on one thread; of what is read every checksum is verified.",
    ),
    "edits": ("Edits", "On one thread where there is a choice."),
    "markov": ("Markov models", "Order 5, and what it costs to choose the order."),
    "masks": ("Where one label is", "`decompress(label=)`: the whole bool array."),
    "memory_kind": (
        "Warm and fresh memory",
        "Fresh memory is cleared by the system page by page; `out=` avoids that.",
    ),
    "threads": ("Two threads", "The ratio is two threads over one."),
    "pins": ("Pins", "Labels by vertical lines through cells."),
}


def page(results: Results) -> str:
    """The generated part of docs/benchmarks.md."""
    machine = ", ".join(f"{k} {v}" for k, v in results["machine"].items())
    parts = [
        f"Measured on {results['date']} ({results['volume']}). {machine}.\n\n"
        "One thread each unless said otherwise; contenders take turns in every round, so "
        "that all see the machine in the same moods. Million voxels a second at the median "
        "(and at best). Every result was compared with its input in the run.\n",
        f"### Times as fast as {REFERENCE}\n\n"
        f"Median of the rounds' ratios.\n\n{ratios(results)}\n"
        "![ratios](img/bench-ratios.svg)\n",
        "### Speed against size\n\n![encode](img/bench-encode.svg)\n\n"
        "![decode](img/bench-decode.svg)\n",
    ]
    parts += [_pairs(*EXTRAS[k], results[k]) for k in EXTRAS if results.get(k)]
    if results.get("bloscpack"):
        about = (
            "Arrays and files of a gigabyte, packed by Blosc's defaults and unpacked; files in "
            "memory where the system has such a place. Threads are those Blosc is set to."
        )
        parts.append(_pairs("Bloscpack", about, results["bloscpack"], "MB/s"))
    if results.get("memory"):
        rows = [
            [r["what"], *(f"{r[k] / 2**20:.1f}" for k in ("scratch", "process", "limit"))]
            for r in results["memory"]
        ]
        header = ["", "scratch MiB", "process MiB", "limit MiB"]
        parts.append(
            "### Memory\n\nScratch is what a thread holds afterwards; process is how far it "
            "grew over input and output at its peak, its result included when encoding. The "
            "limits: 8 MiB to decode, 8 MiB and twice the stream to encode.\n\n"
            + table(header, rows)
        )
    if results.get("zarr"):
        rows = [
            [r["what"], f"{r['bytes']:,}", _speed(r["write"]), _speed(r["read"])]
            for r in results["zarr"]
        ]
        header = ["", "bytes", "write MVx/s", "read MVx/s"]
        parts.append(
            "### Whole Zarr arrays\n\nA local store, with zarr's own threads.\n\n"
            + table(header, rows)
        )
    if results.get("volumes"):
        names = list(results["volumes"][0]["ms"])
        rows = [
            [
                r["what"],
                *(f"{r['ms'][n]:,.1f}" for n in names),
                *(f"{r['ratios'][n]:,.0f}" for n in names[1:]),
            ]
            for r in results["volumes"]
        ]
        header = ["milliseconds", *names, *(f"times, {n}" for n in names[1:])]
        parts.append(
            "### Stored chunks\n\nA volume in 128^3 chunks in a local store, one thread: the "
            "stored chunks are asked, or each is decoded, its voxels are, with fastremap and "
            "cc3d where they help, and changed chunks are coded again.\n\n" + table(header, rows)
        )
    if results.get("remote"):
        names = [n for n in results["remote"][0] if n != "what"]
        rows = [
            [r["what"], *(f"{r[n][k]:,}" for n in names for k in ("requests", "bytes"))]
            for r in results["remote"]
        ]
        header = ["", *(f"{k}, {n}" for n in names for k in ("requests", "bytes"))]
        parts.append(
            "### Over a network\n\nWhat is asked of a server for the same volume. Zstd chunks "
            "are read whole, as any codec's are that answers nothing but voxels.\n\n"
            + table(header, rows)
        )
    parts.append("### Every contender\n\n" + "\n".join(map(_case, results["cases"])))
    return "\n".join(parts)


def write_page(results: Results, path: Path) -> None:
    """Put the generated part into the page, between its marks; the rest stays."""
    text = path.read_text() if path.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n\n{page(results)}\n{END}{after}")
