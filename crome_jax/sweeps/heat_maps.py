"""Accuracy over two swept numbers, as a picture: one cell for each pair of values, with its interval."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from crome_jax.evaluation.heat_cells import blank_axes, draw_cell
from crome_jax.evaluation.plots import MUTED, short_label, styled
from crome_jax.sweeps.plan import as_number, numeric_axes
from crome_jax.sweeps.results import Measured, Ranked


class HeatMap(NamedTuple):
    """One map.

    Args:
        title: what all of its cells share.
        across, down: the bindings of its axes.
        cells: (value across, value down) -> what was measured there.
    """

    title: str
    across: str
    down: str
    cells: Mapping[tuple[float, float], Ranked]


def heat_maps(runs: Mapping[str, Sequence[Measured]], ranked: Sequence[Ranked]) -> list[HeatMap]:
    """Lay a data set's contenders out over the first two swept numbers; none where fewer are swept.

    Where more is swept, or there are several methods, each combination of the rest gets a map of its own.

    Args:
        runs: contender -> its runs.
        ranked: contenders as measured on the data set.
    """
    axes = numeric_axes([run.job for some in runs.values() for run in some])
    if len(axes) < 2:
        return []
    across, down = axes[:2]
    maps: dict[str, dict[tuple[float, float], Ranked]] = {}
    several = len({run.method for some in runs.values() for run in some}) > 1
    for place in ranked:
        if place.name not in runs:  # Seeds taken together are no cell of their own.
            continue
        run = runs[place.name][0]
        values = run.job.values
        rest = [f"{name}={value}" for name, value in values.items() if name not in (across, down)]
        title = ", ".join([*([run.method] if several else []), *rest])
        maps.setdefault(title, {})[as_number(values[across]), as_number(values[down])] = place
    return [HeatMap(title, across, down, cells) for title, cells in sorted(maps.items())]


def plot_heat_map(heat_map: HeatMap, low: float, high: float) -> Figure:
    """Draw a map; each cell says its accuracy and interval in percent, and a cell that was not measured is left empty.

    Args:
        low, high: accuracies in [0, 1] that the colours run between, the same for maps that are to be compared.
    """
    xs, ys = (sorted({cell[axis] for cell in heat_map.cells}) for axis in (0, 1))
    width, height = 1.5 + 0.95 * len(xs), 1.0 + 0.62 * len(ys)
    with styled():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        blank_axes(axes, [f"{x:g}" for x in xs], [f"{y:g}" for y in ys])
        for (x, y), place in heat_map.cells.items():
            share = (place.accuracy - low) / (high - low) if high > low else 0.5
            bounds = "–".join(f"{100 * bound:.0f}" for bound in place.interval)
            draw_cell(axes, xs.index(x), ys.index(y), share, f"{100 * place.accuracy:.1f}", bounds)
        axes.set_xlabel(short_label(heat_map.across, 40), color=MUTED)
        axes.set_ylabel(short_label(heat_map.down, 40), color=MUTED)
        if heat_map.title:
            axes.set_title(short_label(heat_map.title, 60), fontsize=10)
        return figure
