"""The benchmark's table and figure, from the rankings of the sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from crome_jax.evaluation.page import METHOD_LABELS, plain
from crome_jax.evaluation.plots import Row, plot_intervals

Rankings = Mapping[str, Mapping[str, Any]]
"""Data set -> `all` and `by_category`, as the sweep's ranking.json has them."""

HARDEST = "reversed"
"""The split whose categories have columns of their own: where style misleads."""


def render(rankings: Rankings, facts: Mapping[str, str], figure: str) -> str:
    """Return the page's text.

    Args:
        rankings: of the sweep.
        facts: what was run, by name.
        figure: file name of the picture beside the page.
    """
    columns = {plain(split): found["all"] for split, found in rankings.items()}
    columns |= {f"{plain(HARDEST)}: {name}": some for name, some in rankings[HARDEST]["by_category"].items()}
    by_column = {title: {place["name"]: place for place in ranked} for title, ranked in columns.items()}
    names = _in_order(rankings)
    seeds = {place["name"]: place["seeds"] for ranked in columns.values() for place in ranked}
    lines = ["| method | seeds | " + " | ".join(by_column) + " |", "|---" * (2 + len(by_column)) + "|"]
    lines += [
        f"| {_label(name)} | {seeds[name]} | " + " | ".join(_cell(c.get(name)) for c in by_column.values()) + " |"
        for name in names
    ]
    return "\n".join(
        [
            "# Every method on the causal testbed",
            "",
            "Pairwise accuracy in percent: the mean over seeds, with its bootstrap 95% interval over prompts. Every "
            "method starts from the same backbone, and has the same human comparisons, steps, and search for a "
            "learning rate. `*` marks a difference from the first line that a paired bootstrap test, corrected for all "
            "methods of the column (Holm), gives a chance below 0.05.",
            "",
            f"![Accuracy by split and method]({figure})",
            "",
            *lines,
            "",
            *(f"- {name}: {value}" for name, value in facts.items()),
            "",
        ]
    )


def draw(rankings: Rankings) -> Figure:
    """Draw the accuracy of every method on every split."""
    rows = [Row(plain(split), {place["name"]: place for place in found["all"]}) for split, found in rankings.items()]
    return plot_intervals(rows, {name: _label(name) for name in _in_order(rankings)}, detailed=True)


def _in_order(rankings: Rankings) -> Sequence[str]:
    """Return the methods: the baseline, then the best on the hardest split first."""
    ranked = rankings[HARDEST]["all"]
    baseline = [place["name"] for place in ranked if place["difference"] is None]
    return baseline + [place["name"] for place in ranked if place["name"] not in baseline]


def _label(name: str) -> str:
    method, comma, rest = name.partition(",")
    return METHOD_LABELS.get(method, plain(method)) + comma + rest


def _cell(place: Mapping[str, Any] | None) -> str:
    if place is None:
        return "–"
    low, high = place["interval"]
    sure = "*" if place["adjusted"] is not None and place["adjusted"] < 0.05 else ""
    return f"{100 * place['accuracy']:.1f}{sure} [{100 * low:.1f}, {100 * high:.1f}]"
