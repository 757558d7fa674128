"""The page of a diagnosis: one HTML file that needs no network and runs no script."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from crome_jax.evaluation import plots
from crome_jax.evaluation.page import interval, number, percent, plain, signed


def render_diagnosis(figures: Mapping[str, Any]) -> str:
    """Return diagnosis.html's text; whatever comes from the data is escaped.

    Args:
        figures: of diagnosis.diagnose, with `title` and `facts`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, interval=interval, number=number, signed=signed, plain=plain)
    return environment.get_template("diagnosis.html.jinja").render(
        **figures,
        picture=_effects_picture(figures["effects"]),
        lengths=_length_picture(figures),
    )


def _effects_picture(effects: Mapping[str, Mapping[str, Any]]) -> Any:
    methods = {"single": "one rewrite", "double": "two rewrites (RATE)"}
    rows = []
    for kind in ("causal", "spurious"):
        if effects[kind]:
            rows.append(plots.Row(kind))
        for name, effect in effects[kind].items():
            cells = {
                method: {
                    "accuracy": effect[method]["ate"],
                    "interval": effect[method]["ate_interval"],
                    "comparisons": effect["responses"],
                }
                for method in methods
            }
            rows.append(plots.Row(plain(name), cells))
    if not rows:
        return None
    figure = plots.plot_effects(rows, methods, "average effect on reward (nats)")
    return plots.to_inline_svg(figure, "effects", "Average effect of each attribute on reward")


def _length_picture(figures: Mapping[str, Any]) -> Any:
    measured = figures["accuracy"]["reward_length"]
    if not measured["points"]:
        return None
    figure = plots.plot_reward_length({"model": measured}, {"model": figures["title"]})
    return plots.to_inline_svg(figure, "length", "Reward against length")
