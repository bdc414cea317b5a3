"""Pictures of the results."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks import OURS, REFERENCE
from benchmarks.report import Results

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]
MARKS = "osD^vP*X"


def plot(results: Results, folder: Path) -> None:
    """All pictures, as SVG: the same ones for the same results."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "crackle"
    folder.mkdir(parents=True, exist_ok=True)
    real = [c for c in results["cases"] if c["name"].startswith("real") and "u64" not in c["name"]]
    figures = {f"bench-{way}": _speed_and_size(real, way) for way in ("encode", "decode") if real}
    figures["bench-ratios"] = _ratios(results["cases"])
    if real and results.get("volumes"):
        figures["overview"] = _overview(real, results["volumes"])
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def _plain_numbers(*lines: Any, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for line in lines:
        line.set_major_locator(LogLocator(subs=subs))
        line.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        line.set_minor_locator(NullLocator())


def _speed_and_size(real: list[dict[str, Any]], way: str) -> Any:
    """Speed against bytes a voxel, for each real crop in Fortran order."""
    import matplotlib.pyplot as plt

    real = [c for c in real if c["name"].endswith(" F")]
    figure, axes = plt.subplots(
        1, len(real), figsize=(3.2 * len(real), 3.4), sharey=True, squeeze=False
    )
    for axis, case in zip(axes[0], real, strict=True):
        rows = [(n, r) for n, r in case["rows"].items() if r.get(way) and r.get("bytes")]
        for i, (name, row) in enumerate(rows):
            axis.plot(
                row["bytes"] / case["voxels"], row[way]["median"], MARKS[i % 8],
                color=COLOURS[i % 8], label=name, markeredgecolor="black",
            )  # fmt: skip
        axis.set(xscale="log", yscale="log", title=case["name"], xlabel="bytes a voxel")
        _plain_numbers(axis.xaxis, axis.yaxis)
        axis.grid(True, alpha=0.3)
    figure.axes[0].set_ylabel(f"{way}, million voxels a second")
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=4, fontsize=8)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    return figure


def _ratios(cases: list[dict[str, Any]]) -> Any:
    """How many times as fast as the reference, by case."""
    import matplotlib.pyplot as plt

    names = [c["name"] for c in cases]
    figure, axis = plt.subplots(figsize=(7, 0.3 * len(names) + 1.2))
    at = range(len(names))
    for shift, way, colour in ((-0.2, "decode", "#0072B2"), (0.2, "encode", "#E69F00")):
        values = [c[f"{way}_ratio"] for c in cases]
        axis.barh([y + shift for y in at], values, 0.38, label=way, color=colour)
    axis.axvline(1, color="black", linewidth=1)
    axis.set(yticks=list(at), yticklabels=names, xlabel=f"times as fast as {REFERENCE}")
    axis.invert_yaxis()
    axis.legend(loc="lower right")
    figure.tight_layout()
    return figure


def _overview(real: list[dict[str, Any]], volumes: list[dict[str, Any]]) -> Any:
    """What a first look should show: a chunk's size and speed, and questions to stored chunks."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    case = next((c for c in real if c["name"] == "real 128^3 F"), real[0])
    for i, (name, row) in enumerate(case["rows"].items()):
        if row.get("decode") and row.get("bytes"):
            left.plot(
                row["bytes"] / case["voxels"], row["decode"]["median"], MARKS[i % 8],
                color=COLOURS[i % 8], markeredgecolor="black", label=name,
                markersize=11 if name == OURS else 7,
            )  # fmt: skip
    left.set(
        xscale="log", yscale="log", xlabel="bytes a voxel",
        ylabel="decoded, million voxels a second",
        title=f"A chunk of uint32, {case['name'].removesuffix(' F')}",
    )  # fmt: skip
    _plain_numbers(left.xaxis, left.yaxis)
    left.margins(0.15)
    left.grid(True, alpha=0.3)
    left.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False)

    contenders = list(volumes[0]["ms"])
    colours = dict(zip(contenders, ("#000000", "#E69F00", "#56B4E9"), strict=True))
    for row, question in enumerate(volumes):
        for i, name in enumerate(contenders):
            took, y = question["ms"][name], row + (i - 1) * 0.28
            right.barh(y, took, 0.26, color=colours[name], label=None if row else name)
            right.text(took * 1.08, y, f"{took:,.0f}", va="center", fontsize=7)
    right.set(
        xscale="log", xlim=(1, 2.5 * max(max(q["ms"].values()) for q in volumes)),
        xlabel="milliseconds", yticks=range(len(volumes)),
        yticklabels=[fill(question["what"], 24) for question in volumes],
        title="A volume of 512^3, stored in 128^3 chunks",
    )  # fmt: skip
    _plain_numbers(right.xaxis, subs=(1,))
    right.tick_params(axis="y", labelsize=8)
    right.invert_yaxis()
    right.legend(
        fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=3, frameon=False
    )
    return figure
