"""Draws the pictures of docs/format.md and docs/design.md: ``python docs/drawings.py``.

Needs matplotlib. The walk is read from a real stream, and the runs are those of a real slice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import numcodecs_crackle as crackle

IMAGES = Path(__file__).parent / "img"
COLOURS = ("#a6cee3", "#fdd9a0", "#b2df8a", "#e3c6dd", "#f4b6b0", "#cccccc", "#fff3a3", "#c9d7f0")
INK, CRACK, WALK = "#333333", "#b2182b", "#2166ac"
ARROW = {"arrowstyle": "-|>", "color": WALK, "lw": 2, "shrinkA": 0, "shrinkB": 0}
STEPS = ((0, -1), (1, 0), (0, 1), (-1, 0))  # up, right, down, left

# The volume of docs/format.md, by slice and row.
EXAMPLE = [
    [[7, 7, 9, 9], [7, 7, 9, 9], [300, 300, 300, 9]],
    [[7, 7, 7, 7], [7, 300, 300, 7], [7, 7, 7, 7]],
]

Move = tuple[tuple[int, int], tuple[int, int]]
Symbol = tuple[str, tuple[int, int]]


def walk(code: bytes, start: tuple[int, int]) -> tuple[list[Move], list[Symbol]]:
    """The moves and symbols of a packed crack code with one chain; each says where it is."""
    moves: list[Move] = []
    symbols: list[Symbol] = [("start", start)]
    at, branches = start, []
    direction, last = 0, None
    for packed in code:
        for shift in (0, 2, 4, 6):
            direction = direction + (packed >> shift) & 3
            if last is not None and direction ^ last == 2:
                last = None
                if direction in (1, 2):
                    branches.append(at)
                    symbols.append(("branch", at))
                    continue
                symbols.append(("end", at))
                if not branches:
                    return moves, symbols
                at = branches.pop()
                continue
            if last is not None:
                dx, dy = STEPS[last]
                moves.append((at, (at[0] + dx, at[1] + dy)))
                at = moves[-1][1]
            last = direction
    raise ValueError("the chain does not end")


def pixels(
    axes: Axes, slice_: npt.NDArray[Any], colours: npt.NDArray[Any], size: float = 9
) -> None:
    """Pixels as squares with their values in them; y goes down."""
    sy, sx = slice_.shape
    for y in range(sy):
        for x in range(sx):
            colour = COLOURS[int(colours[y, x]) % len(COLOURS)]
            axes.add_patch(plt.Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", lw=0.6))
            axes.text(
                x + 0.5, y + 0.52, str(slice_[y, x]), ha="center", va="center", size=size, color=INK
            )
    frame(axes, sx, sy)


def frame(axes: Axes, sx: int, sy: int) -> None:
    axes.add_patch(plt.Rectangle((0, 0), sx, sy, fill=False, edgecolor="#999999", lw=0.8))
    axes.set(xlim=(-0.45, sx + 0.45), ylim=(sy + 0.45, -0.45), aspect="equal")
    axes.axis("off")


def save(figure: Figure, name: str) -> None:
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def draw_walk() -> None:
    """The chains of the two slices of the example."""
    labels = np.array(EXAMPLE, np.uint32)
    stream = crackle.compress(np.asfortranarray(labels.transpose(2, 1, 0)))
    head = crackle.header(stream)
    at = head.header_bytes + head.grid_index_bytes + head.num_label_bytes
    figure, both = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    for z, axes in enumerate(both):
        pixels(axes, labels[z], np.unique(labels, return_inverse=True)[1].reshape(labels.shape)[z])
        length = int.from_bytes(stream[29 + 4 * z : 33 + 4 * z], "little")
        # 4 bytes of length, and an index of 4: one row, at dy, with one chain, at dx.
        _, y, _, x = stream[at + 4 : at + 8]
        moves, symbols = walk(stream[at + 8 : at + length], (x, y))
        at += length
        for i, ((x0, y0), (x1, y1)) in enumerate(moves):
            axes.annotate("", (x1, y1), (x0, y0), arrowprops=ARROW)
            beside = (0.17, 0) if x0 == x1 else (0, -0.17)
            axes.text(
                (x0 + x1) / 2 + beside[0], (y0 + y1) / 2 + beside[1], str(i + 1),
                color=WALK, size=8, ha="center", va="center",
            )  # fmt: skip
        shown = {"start": "o", "branch": "D", "end": "s"}
        for kind, (x, y) in symbols:
            axes.plot(x, y, shown[kind], color=WALK, mfc="white" if kind != "start" else WALK, ms=6)
        axes.set_title(f"z = {z}", size=10)
        for x in range(labels.shape[2] + 1):
            axes.text(x, -0.25, str(x), size=7, ha="center", va="center", color="#777777")
        for y in range(labels.shape[1] + 1):
            axes.text(-0.25, y, str(y), size=7, ha="center", va="center", color="#777777")
    marks = (("o", WALK, "start"), ("D", "white", "branch"), ("s", "white", "terminate"))
    handles = [
        plt.Line2D([], [], marker=mark, color=WALK, mfc=fill, ls="", ms=6, label=what)
        for mark, fill, what in marks
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save(figure, "format-walk")


def runs_and_components(
    slice_: npt.NDArray[Any],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Left cracks, cracks above, the run of each pixel, and its component."""
    sy, sx = slice_.shape
    left, above = np.zeros((sy, sx), bool), np.zeros((sy, sx), bool)
    left[:, 1:] = slice_[:, 1:] != slice_[:, :-1]
    above[1:] = slice_[1:] != slice_[:-1]
    starts = left.copy()
    starts[:, 0] = True
    runs = np.cumsum(starts.reshape(-1)).reshape(sy, sx) - 1
    parent = list(range(runs.max() + 1))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for y in range(1, sy):
        for x in range(sx):
            if not above[y, x]:
                a, b = root(runs[y - 1, x]), root(runs[y, x])
                parent[max(a, b)] = min(a, b)
    roots = [root(i) for i in range(len(parent))]
    component = {r: i for i, r in enumerate(sorted(set(roots)))}
    return left, above, runs, np.array([component[r] for r in roots])[runs]


def cracks(axes: Axes, left: npt.NDArray[Any], above: npt.NDArray[Any]) -> None:
    for y, x in np.argwhere(left):
        axes.plot([x, x], [y, y + 1], color=CRACK, lw=1.8, solid_capstyle="round")
    for y, x in np.argwhere(above):
        axes.plot([x, x + 1], [y, y], color=CRACK, lw=1.8, solid_capstyle="round")


def draw_runs() -> None:
    """A slice, its crack bitmaps, its runs and its components."""
    slice_ = np.array(
        [
            [3, 3, 3, 3, 8, 8, 8, 8, 8, 5],
            [3, 3, 3, 8, 8, 8, 8, 5, 5, 5],
            [3, 3, 8, 8, 2, 2, 8, 8, 5, 5],
            [3, 3, 8, 2, 2, 2, 2, 8, 8, 5],
            [3, 8, 8, 8, 2, 2, 8, 8, 5, 5],
            [3, 3, 3, 8, 8, 8, 8, 3, 3, 5],
        ]
    )
    left, above, runs, component = runs_and_components(slice_)
    colours = np.unique(slice_, return_inverse=True)[1].reshape(slice_.shape)
    sy, sx = slice_.shape
    figure, panels = plt.subplots(2, 2, figsize=(9.2, 6.6), layout="constrained")
    for axes, title in zip(
        panels.flat,
        (
            "a slice: 60 pixels, 4 labels",
            "crack bitmaps: left of a pixel, above it",
            f"{runs.max() + 1} runs: from one left crack to the next",
            f"{component.max() + 1} components: runs joined where no crack is above",
        ),
        strict=True,
    ):
        axes.set_title(title, size=10)
    pixels(panels[0, 0], slice_, colours)
    cracks(panels[0, 0], left, above)

    axes = panels[0, 1]
    bits = np.where(left, np.where(above, "L A", "L"), np.where(above, "A", "·"))
    pixels(axes, bits, np.full(slice_.shape, 7), 8)
    cracks(axes, left, above)

    axes = panels[1, 0]
    frame(axes, sx, sy)
    for run in range(runs.max() + 1):
        y, xs = np.argwhere(runs == run)[0][0], np.argwhere(runs == run)[:, 1]
        colour = COLOURS[int(colours[y, xs[0]])]
        axes.add_patch(
            plt.Rectangle((xs[0] + 0.06, y + 0.14), len(xs) - 0.12, 0.72, facecolor=colour, lw=0)
        )
        middle = (xs[0] + xs[-1] + 1) / 2
        axes.text(middle, y + 0.52, str(run), ha="center", va="center", size=8, color=INK)

    axes = panels[1, 1]
    pixels(axes, component, component)
    cracks(axes, left, above)
    save(figure, "design-runs")


def main() -> None:
    plt.rcParams["svg.hashsalt"] = "crackle"  # the same picture each time
    draw_walk()
    draw_runs()


if __name__ == "__main__":
    main()
