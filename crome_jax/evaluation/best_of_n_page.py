"""The page of a best-of-N evaluation: one HTML file that needs no network and runs no script."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from crome_jax.evaluation import plots
from crome_jax.evaluation.best_of_n_figures import LABELS, PARTS
from crome_jax.evaluation.page import interval, number, percent, plain


def render_best_of_n(figures: Mapping[str, Any]) -> str:
    """Return best_of_n.html's text; whatever comes from the data is escaped.

    Args:
        figures: of best_of_n_figures, with `title` and `facts`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, interval=interval, number=number, plain=plain)
    figure = _plot(figures["curve"], LABELS[figures["judge"]])
    parts = {name: figures[name]["curve"] for name in PARTS if name in figures}
    return environment.get_template("best_of_n.html.jinja").render(
        **{"length_controlled": None, **figures},
        label=LABELS[figures["judge"]],
        picture=plots.to_inline_svg(figure, "curve", "Best of N against N"),
        parts=parts,
        part_pictures={
            name: plots.to_inline_svg(_plot(curve, PARTS[name]), name, f"{plain(name)} against N")
            for name, curve in parts.items()
        },
    )


def _plot(curve: Sequence[Mapping[str, Any]], label: str) -> Figure:
    curves = {"the reward model's pick": curve}
    for name, key in (("an oracle's pick", "oracle"), ("picked blindly", "random")):
        curves[name] = [{"n": point["n"], "value": point[key], "interval": None} for point in curve]
    return plots.plot_curves(curves, label)
