"""What is drawn over a slice: the numbers of its regions, and boxes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Affine2D, Bbox

__all__ = ["draw_boxes", "write_numbers"]

# Between two numbers, in pixels: their outlines, and a little.
_GAP = 2


class _Number(Text):
    """A number that stays within the axes, and gives way to those that come before it.

    Whether there is room is known only when it is drawn: it changes with the window's size,
    and by zooming.
    """

    def __init__(
        self, column: int, row: int, label: int, rank: int, places: dict[int, Bbox]
    ) -> None:
        super().__init__(
            column, row, str(label), color="white", fontsize="small", ha="center", va="center",
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )  # fmt: skip
        self._rank = rank
        self._places = places  # of those that are drawn, by rank

    @property
    def place(self) -> Bbox | None:
        """Where it was drawn, in pixels."""
        return self._places.get(self._rank)

    def draw(self, renderer: Any) -> None:
        self._places.pop(self._rank, None)
        assert self.axes is not None
        inside = self.axes.bbox
        if not inside.contains(*self.axes.transData.transform(self.get_position())):
            return
        box = self.get_window_extent(renderer).padded(_GAP)
        if box.width > inside.width or box.height > inside.height:
            return
        # A number that is cut off would be another number.
        right = max(inside.x0 - box.x0, 0) + min(inside.x1 - box.x1, 0)
        up = max(inside.y0 - box.y0, 0) + min(inside.y1 - box.y1, 0)
        box = box.translated(right, up)
        if any(rank < self._rank and box.overlaps(at) for rank, at in self._places.items()):
            return
        self._places[self._rank] = box
        usual = self.get_transform()
        self.set_transform(usual + Affine2D().translate(right, up))
        super().draw(renderer)
        self.set_transform(usual)
        self.stale = False  # or a window is drawn without end


def write_numbers(axes: Axes, points: Iterable[tuple[int, int, int]]) -> list[Text]:
    """Write labels at places, where they do not overlap one before.

    Parameters
    ----------
    axes
    points : iterable of (row, column, label)

    Returns
    -------
    list of Text
    """
    numbers: list[Text] = []
    places: dict[int, Bbox] = {}
    for row, column, label in points:
        number = _Number(column, row, label, len(numbers), places)
        axes.add_artist(number)
        number.set_clip_path(axes.patch)
        numbers.append(number)
    return numbers


def draw_boxes(axes: Axes, boxes: Iterable[tuple[int, int, int, int]]) -> list[Rectangle]:
    """Draw around pixels.

    Parameters
    ----------
    axes
    boxes : iterable of (row, column, rows, columns)
        The first pixel, and how many there are.

    Returns
    -------
    list of Rectangle
    """
    dark = [withStroke(linewidth=3, foreground="black")]
    drawn = []
    for row, column, rows, columns in boxes:
        box = Rectangle(
            (column - 0.5, row - 0.5), columns, rows, fill=False, edgecolor="white",
            linewidth=1.5, path_effects=dark,
        )  # fmt: skip
        axes.add_patch(box)
        drawn.append(box)
    return drawn
