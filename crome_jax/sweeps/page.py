"""The page of a sweep: rankings with paired tests, heat maps, and what became of every job; it needs no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import crome_jax.evaluation
from crome_jax.evaluation import plots
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.page import interval, percent
from crome_jax.sweeps.heat_maps import heat_maps, plot_heat_map
from crome_jax.sweeps.results import Measured, Ranked


def render_sweep(
    title: str,
    rankings: Mapping[str, Sequence[Ranked]],
    runs: Mapping[str, Sequence[Measured]],
    baseline: str,
    failed: Mapping[str, str],
    missing: Sequence[str],
    jobs: int,
    bootstrap: Bootstrap,
) -> str:
    """Return sweep.html's text; whatever comes from outside is escaped.

    Args:
        title: of the page.
        rankings: data set -> its contenders, best first.
        runs: contender -> its runs.
        baseline: the contender that the others are tested against; where it is none of them there are no tests.
        failed: job -> what was wrong.
        missing: jobs that have not been run.
        jobs: how many the sweep has.
        bootstrap: that intervals and tests were made with.
    """
    folders = [Path(__file__).parent, Path(crome_jax.evaluation.__file__).parent]  # The style sheet is the report's.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, interval=interval, signed=_signed)
    return environment.get_template("sweep.html.jinja").render(
        title=title,
        rankings=rankings,
        baseline=baseline,
        tested=baseline in runs,
        failed=failed,
        missing=missing,
        jobs=jobs,
        confidence=f"{100 * bootstrap.confidence:g}%",
        resamples=bootstrap.resamples,
        pictures={data: _pictures(d, data, ranked, runs) for d, (data, ranked) in enumerate(rankings.items())},
    )


def _pictures(d: int, data: str, ranked: Sequence[Ranked], runs: Mapping[str, Sequence[Measured]]) -> list[Markup]:
    """Return the pictures of a data set: its heat maps, or else its contenders with their intervals."""
    if not ranked:
        return []
    maps = heat_maps(runs, ranked)
    low, high = (edge(place.accuracy for place in ranked) for edge in (min, max))
    if maps:
        return [
            plots.to_inline_svg(plot_heat_map(one, low, high), f"map{d}-{m}", f"Accuracy on {data}: {one.title}")
            for m, one in enumerate(maps)
        ]
    rows = [plots.Row(place.name, {"": _as_figure(place)}) for place in ranked]
    figure = plots.plot_intervals(rows, {"": ""}, detailed=True)
    return [plots.to_inline_svg(figure, f"ranking{d}", f"Accuracy on {data}, best first")]


def _as_figure(place: Ranked) -> dict[str, Any]:
    return {"accuracy": place.accuracy, "interval": place.interval}


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")
