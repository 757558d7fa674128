"""The benchmark's tables and figure, from the rankings of the sweep and what its jobs say besides."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.methods.evidence import TOLD, Evidence, Interval
from crome_jax.evaluation.page import METHOD_LABELS, plain
from crome_jax.evaluation.plots import Row, plot_intervals

Rankings = Mapping[str, Mapping[str, Any]]
"""Data set -> `all` and `by_category`, as the sweep's ranking.json has them."""

HARDEST = "reversed"
"""The split whose categories have columns of their own: where style misleads."""
LABELS = METHOD_LABELS | {"crome_paper": "Crome as in the paper"}


def render(rankings: Rankings, evidence: Evidence, facts: Mapping[str, str], figure: str) -> str:
    """Return the page's text.

    Args:
        rankings: of the sweep.
        evidence: of its jobs.
        facts: what was run, by name.
        figure: file name of the picture beside the page.
    """
    return "\n".join(
        [
            "# Every method on the causal testbed",
            "",
            "Pairwise accuracy in percent: the mean over seeds, with its bootstrap 95% interval over prompts. Every "
            "method starts from the same backbone, and has the same human comparisons to draw from, the same steps of "
            "rows of the same size, and the same learning rates to choose from. In round brackets are the lowest "
            "and the highest seed: intervals and tests say what other questions would change, not what other seeds "
            "would. `*` marks a difference from the first line that a paired bootstrap test, corrected for all methods "
            "of the column, and for ensembles of seeds apart from them (Holm), gives a chance below 0.05.",
            "",
            f"![Accuracy by split and method]({figure})",
            "",
            *_accuracies(rankings),
            "",
            "## What was expected",
            "",
            f"The differences in accuracy on the split `{HARDEST}`, in points, with the interval and the chance of a "
            "paired bootstrap; one test each, without correction.",
            "",
            *_expectations(evidence),
            "",
            "## What each style is worth by itself",
            "",
            "By how much an answer is ahead for having a style, all else alike, in percent of the typical reward "
            "difference (its root mean square): by least squares over the splits `in_distribution` and `reversed` "
            "together, which ask the same questions. 0 is what a robust model has.",
            "",
            *_pulls(evidence),
            "",
            "## What each was given",
            "",
            "All have the same number of steps of rows of the same size. A method that trains on more comparisons sees "
            "each of them less often, human ones as well: below one pass some it never sees, and what it lacks by that "
            "cannot be told from what its recipe does. Tokens are those of all steps without padding. The "
            "first job also encodes what all share, so that its minutes are not its method's.",
            "",
            *_given(evidence),
            "",
            *(f"- {name}: {value}" for name, value in facts.items()),
            "",
        ]
    )


def _accuracies(rankings: Rankings) -> list[str]:
    columns = {plain(split): found["all"] for split, found in rankings.items()}
    columns |= {f"{plain(HARDEST)}: {name}": some for name, some in rankings[HARDEST]["by_category"].items()}
    by_column = {title: {place["name"]: place for place in ranked} for title, ranked in columns.items()}
    seeds = {place["name"]: place["seeds"] for ranked in columns.values() for place in ranked}
    rows = [
        [_label(name), str(seeds[name]), *(_cell(column.get(name)) for column in by_column.values())]
        for name in _in_order(rankings)
    ]
    return _table(["method", "seeds", *by_column], rows)


def _expectations(evidence: Evidence) -> list[str]:
    rows = []
    for ahead, behind, difference, interval, chance in evidence.compared:
        at = "–" if chance is None else f"{chance:.3f}" if chance >= 0.001 else "<0.001"
        rows.append([f"{_label(ahead)} above {_label(behind)}", _points(difference, interval), at])
    for name, (told, others) in evidence.pulls.told.items():
        rows.append([f"{_label(name)} likes length less than the baseline does", _points(*told), ""])
        rows.append([f"{_label(name)} likes the other styles as much, in the mean", _points(*others), ""])
    return _table(["expected", "difference", "chance"], rows)


def _pulls(evidence: Evidence) -> list[str]:
    pulls = evidence.pulls
    titles = [f"{name} (told of)" if name == TOLD else plain(name) for name in pulls.styles]
    rows = [[_label(name), *(_points(*one) for one in found)] for name, found in pulls.of.items()]
    return _table(["method", *titles, "mean of the others"], rows)


def _given(evidence: Evidence) -> list[str]:
    rows = [
        [
            _label(name),
            ", ".join(f"{rate:g}" for rate in given.rates),
            f"{given.passes:.1f}",
            f"{given.human:,}",
            f"{given.other:,}",
            f"{given.tokens:,}",
            f"{given.minutes:.1f}",
        ]
        for name, given in evidence.given.items()
    ]
    titles = [
        "method",
        "learning rates",
        "passes",
        "human comparisons",
        "causal and neutral",
        "tokens",
        "minutes a job",
    ]
    return _table(titles, rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rows)]


def draw(rankings: Rankings) -> Figure:
    """Draw the accuracy of every method on every split; ensembles are in the table."""
    names = [name for name in _in_order(rankings) if "," not in name]
    rows = [Row(plain(split), {place["name"]: place for place in found["all"]}) for split, found in rankings.items()]
    return plot_intervals(rows, {name: _label(name) for name in names}, detailed=True)


def _in_order(rankings: Rankings) -> Sequence[str]:
    """Return the methods: the baseline, then the best on the hardest split first."""
    ranked = rankings[HARDEST]["all"]
    baseline = [place["name"] for place in ranked if place["difference"] is None]
    return baseline + [place["name"] for place in ranked if place["name"] not in baseline]


def _label(name: str) -> str:
    method, comma, rest = name.partition(",")
    return LABELS.get(method, plain(method)) + comma + rest


def _cell(place: Mapping[str, Any] | None) -> str:
    if place is None:
        return "–"
    low, high = place["interval"]
    sure = "*" if place["adjusted"] is not None and place["adjusted"] < 0.05 else ""
    said = f"{100 * place['accuracy']:.1f}{sure} [{100 * low:.1f}, {100 * high:.1f}]"
    return said if place["seeds"] == 1 else f"{said} ({100 * place['lowest']:.1f}–{100 * place['highest']:.1f})"


def _points(value: float, interval: Interval | None) -> str:
    said = f"{100 * value:+.1f}"
    return said if interval is None else f"{said} [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
