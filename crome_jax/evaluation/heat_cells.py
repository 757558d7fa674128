"""A cell of a heat map: a colour for a share, and what it is in words that can be read on it."""

import matplotlib
from matplotlib.patches import Rectangle

_DARK, _LIGHT = "#10151b", "#fdfdfe"
"""Ink on a cell: not the page's, which changes with the colour scheme while the cell does not."""


def draw_cell(axes, column: int, row: int, share: float, said: str, below: str = "") -> None:
    """Draw the cell of a column and a row.

    Args:
        axes: of matplotlib, on which a cell is one wide and one high.
        share: 0 to 1, the place on the scale of colours.
        said: in bold, in the middle, or above it where there is something `below`.
        below: in small.
    """
    # Whole hexadecimal colours: the page's own are replaced by variables, and none of these is one of them.
    color = matplotlib.colors.to_hex(matplotlib.colormaps["cividis"](share))
    axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=color, linewidth=0))
    style = {"ha": "center", "color": _LIGHT if share < 0.5 else _DARK}
    upwards = 1 if axes.get_ylim()[1] > axes.get_ylim()[0] else -1
    place = (row + 0.08 * upwards, "bottom") if below else (row, "center_baseline")
    axes.text(column, place[0], said, va=place[1], fontsize=11, fontweight="bold", **style)
    if below:
        axes.text(column, row - 0.1 * upwards, below, va="top", fontsize=9, **style)


def blank_axes(axes, columns: list[str], rows: list[str]) -> None:
    """Leave of the axes the labels of columns and rows."""
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
