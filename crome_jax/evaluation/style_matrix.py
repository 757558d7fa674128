"""RM-Bench's style matrix as a picture: how often the right answer of one style beats the wrong one of another."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from crome_jax.evaluation.heat_cells import blank_axes, draw_cell
from crome_jax.evaluation.plots import MUTED, short_label, styled

_COLUMNS = 2


def plot_style_matrix(
    matrices: Mapping[str, Sequence[Sequence[float]]], styles: Sequence[str], methods: Mapping[str, str]
) -> Figure:
    """Draw a matrix for each method, its cells in percent; colours run from 0 to 100% in all of them.

    Below the diagonal the right answer has the richer style (easy), above it the wrong one (hard).

    Args:
        matrices: method to the share of examples [right style][wrong style].
        styles: names of rows and columns.
        methods: method to the name that is shown.
    """
    columns = min(_COLUMNS, len(matrices))
    lines = -(-len(matrices) // columns)
    side = 0.72 * len(styles)
    with styled():
        figure = Figure(
            figsize=(1.5 + (side + 0.4) * columns, 0.75 + (0.62 * len(styles) + 0.75) * lines), layout="constrained"
        )
        figure.get_layout_engine().set(hspace=0.08)
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes in grid[len(matrices) :]:
            axes.set_visible(False)
        for number, (axes, (method, matrix)) in enumerate(zip(grid, matrices.items(), strict=False)):
            blank_axes(axes, list(styles), list(styles) if number % columns == 0 else [""] * len(styles))
            axes.invert_yaxis()
            for row, cells in enumerate(matrix):
                for column, share in enumerate(cells):
                    draw_cell(axes, column, row, share, f"{100 * share:.1f}")
            axes.set_title(short_label(methods[method], 22), fontsize=10)
        figure.supxlabel("style of the wrong answer", fontsize=10, color=MUTED)
        figure.supylabel("style of the right answer", fontsize=10, color=MUTED)
        return figure
