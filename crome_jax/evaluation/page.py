"""The page of a report: its figures and counterfactual pairs as one HTML file that needs no network."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from matplotlib.figure import Figure

from crome_jax.evaluation import plots
from crome_jax.evaluation.accuracy import TIE_TOLERANCE
from crome_jax.evaluation.benchmark_notes import benchmark_notes, drop_lines, overall_name, shown_part
from crome_jax.evaluation.best_of_n_panels import best_of_n_panels
from crome_jax.evaluation.best_of_n_tests import shown_tests
from crome_jax.evaluation.counterfactuals import Counterfactual
from crome_jax.evaluation.published import shown_beside, shown_score
from crome_jax.evaluation.strata import EQUAL_LENGTH
from crome_jax.evaluation.style_matrix import plot_style_matrix

METHOD_LABELS = {
    "bradley_terry": "Bradley-Terry",
    "crome": "Crome",
    "crome_pair_pm": "Crome PairPM",
    "mmd": "MMD",
    "odin": "ODIN",
    "pair_pm": "PairPM",
    "rrm": "RRM",
}
"""How methods of the literature are written; any other shows under the name it was given."""

ROWS_PLOTTED = 14
"""Of many categories the largest are plotted; the table has them all."""


class Line(NamedTuple):
    """A line of a table of accuracies.

    Args:
        label: what is measured; a heading where there are no cells.
        cells: one per method: what measure_accuracy gives, None where the method was not measured.
        best: the highest accuracy of the line, None where methods cannot be told apart by it.
        comparisons: how many comparisons the line counts.
    """

    label: str
    cells: Sequence[Mapping[str, Any] | None] = ()
    best: float | None = None
    comparisons: int = 0


def render_page(figures: Mapping[str, Any], pairs: Sequence[Counterfactual]) -> str:
    """Return report.html's text; whatever comes from the data is escaped.

    Args:
        figures: the content of report.json.
        pairs: the counterfactual pairs to browse.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        interval=interval,
        number=number,
        signed=signed,
        plain=plain,
        sigmoid=_sigmoid,
        moved_right=lambda method, pair: pair.moves_right(method),
    )
    by_split = {split: split_by_method(figures, split) for split in figures["settings"]["splits"]}
    return environment.get_template("report.html.jinja").render(
        **figures,
        pairs=pairs,
        labels=shown_names(figures),
        by_split=by_split,
        overview=_lines(by_split, list(figures["methods"])),
        breakdowns={split: _breakdowns(measured, list(figures["methods"])) for split, measured in by_split.items()},
        pictures=_pictures(figures, by_split),
        series=plots.SERIES,
        cut=_counted(figures, "responses cut"),
        equal=_counted(figures, "equal once cut"),
        notes={name: benchmark_notes(found, shown_names(figures)) for name, found in figures["benchmarks"].items()},
        drops={name: drop_lines(found, list(shown_names(figures))) for name, found in figures["benchmarks"].items()},
        shown_part=shown_part,
        shown_beside=shown_beside,
        shown_score=shown_score,
        overall_names={name: overall_name(found["methods"]) for name, found in figures["benchmarks"].items()},
        panels=best_of_n_panels(figures["comparison"]["best_of_n"]) if "comparison" in figures else [],
        picks=shown_tests(figures["comparison"]["best_of_n_tests"]) if "comparison" in figures else [],
        tie_tolerance=TIE_TOLERANCE,
        equal_length=EQUAL_LENGTH,
    )


def _counted(figures: Mapping[str, Any], what: str) -> list[tuple[str, str, int]] | None:
    """Return name, data and count where scoring counted any of something; None where the facts do not say.

    Args:
        what: "responses cut" to fit a row, or comparisons "equal once cut".
    """
    rows = figures["facts"].get("scoring")
    if not rows:  # A study cuts once for all of its methods, and says so of its training data as well.
        splits = figures["settings"]["splits"]
        rows = [
            {"method": "all methods that read pairs" if row["data"].endswith(", pairs") else "all methods"} | row
            for row in figures["facts"].get("frozen layers") or []
            if row["data"].removesuffix(", pairs") in splits
        ]
    if not rows or any(what not in row for row in rows):
        return None
    labels = shown_names(figures)
    return [(labels.get(row["method"], row["method"]), row["data"], row[what]) for row in rows if row[what]]


def plot_accuracy(figures: Mapping[str, Any]) -> Figure:
    """Plot the report's main picture: accuracy by split and method."""
    splits = figures["settings"]["splits"]
    rows = [plots.Row(plain(split), split_by_method(figures, split)) for split in splits]
    return plots.plot_intervals(rows, shown_names(figures), detailed=True)


def shown_names(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return method to the name that is shown, in the report's order."""
    return {method: METHOD_LABELS.get(method, method) for method in figures["settings"]["methods"]}


def split_by_method(figures: Mapping[str, Any], split: str) -> dict[str, Mapping[str, Any]]:
    """Return method to its figures of a split, for the methods measured on it."""
    return {
        method: measured["splits"][split]
        for method, measured in figures["methods"].items()
        if split in measured["splits"]
    }


def plain(name: str) -> str:
    """Return a key as words."""
    return name.replace("_", " ")


def percent(share: float | None) -> str:
    """Return a share as percent with one decimal, without the sign."""
    return "–" if share is None else f"{100 * share:.1f}".replace("-", "−")


def interval(bounds: Sequence[float] | None) -> str:
    """Return an interval of shares as percents with one decimal."""
    if bounds is None:
        return "–"
    return (" to " if min(bounds) < 0 else "–").join(map(percent, bounds))


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many decimals."""
    return "–" if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """Return a number with its sign and so many decimals."""
    return "–" if value is None else f"{value:+,.{digits}f}".replace("-", "−")


def _sigmoid(difference: float) -> float:
    return 0.5 + 0.5 * math.tanh(0.5 * difference)


def _lines(by_row: Mapping[str, Mapping[str, Any]], methods: Sequence[str]) -> list[Line]:
    """Lay out label to method to accuracy figures as lines of a table."""
    lines = []
    for label, measured in by_row.items():
        cells = [measured.get(method) for method in methods]
        accuracies = [cell["accuracy"] for cell in cells if cell and cell["accuracy"] is not None]
        told_apart = len(accuracies) > 1 and min(accuracies) < max(accuracies)
        comparisons = max((cell["comparisons"] for cell in cells if cell), default=0)
        lines.append(Line(plain(label), cells, max(accuracies) if told_apart else None, comparisons))
    return lines


def _breakdowns(measured: Mapping[str, Mapping[str, Any]], methods: Sequence[str]) -> dict[str, list[Line]]:
    """Return the tables of a split that say more than its first line: title to lines."""
    tables = {title: _lines(by_row, methods) for title, by_row in _parts(measured).items()}
    strata = []
    for family in _families(measured):
        strata.append(Line(_family_title(family)))
        strata += _lines(_turned(_of_family(measured, family)), methods)
    if strata:
        tables["spurious stratum"] = strata
    return tables


def _parts(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the parts a split falls into, where there is more than one: title to name to method to figures."""
    parts = {}
    for key, title in (("by_kind", "kind"), ("by_category", "category"), ("by_attribute", "causal attribute")):
        by_row = _turned({method: figures[key] for method, figures in measured.items()})
        if len(by_row) > 1:
            parts[title] = by_row
    return parts


def _families(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return _names(figures["by_stratum"] for figures in measured.values())


def _of_family(measured: Mapping[str, Mapping[str, Any]], family: str) -> dict[str, Mapping[str, Any]]:
    return {method: figures["by_stratum"].get(family, {}) for method, figures in measured.items()}


def _family_title(family: str) -> str:
    titles = {"cue": "all spurious attributes", "length": "length", "markdown": "Markdown"}
    return titles.get(family) or f"attribute: {plain(family.removeprefix('attribute:'))}"


def _turned(by_method: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Turn method to name to figures into name to method to figures."""
    names = _names(by_method.values())
    return {name: {m: figures[name] for m, figures in by_method.items() if name in figures} for name in names}


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _pictures(figures: Mapping[str, Any], by_split: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    methods = shown_names(figures)
    strata, breakdowns, lengths = {}, {}, {}
    for s, (split, measured) in enumerate(by_split.items()):
        said = plain(split)
        rows = _stratum_rows(measured)
        if rows:
            figure = plots.plot_intervals(rows, methods)
            strata[split] = plots.to_inline_svg(figure, f"strata{s}", f"Accuracy by spurious stratum, {said}")
        rows = _breakdown_rows(measured)
        if rows:
            figure = plots.plot_intervals(rows, methods)
            breakdowns[split] = plots.to_inline_svg(figure, f"parts{s}", f"Accuracy by kind and category, {said}")
        panels = {method: measured[method]["reward_length"] for method in measured}
        if any(panel["points"] for panel in panels.values()):
            figure = plots.plot_reward_length(panels, methods)
            lengths[split] = plots.to_inline_svg(figure, f"length{s}", f"Reward against length, {said}")
    benchmarks, matrices = {}, {}
    for b, (name, found) in enumerate(figures["benchmarks"].items()):
        held = {method: table["matrix"] for method, table in found["methods"].items() if table.get("matrix")}
        if held:
            styles = next(iter(found["methods"].values()))["styles"]
            figure = plot_style_matrix(held, styles, methods)
            matrices[name] = plots.to_inline_svg(figure, f"styles{b}", f"{found['title']} by style of both answers")
        told = {"label": "score (%)", "counted": "examples", "chance": found.get("chance")}
        figure = plots.plot_intervals(_benchmark_rows(found), methods, **told)
        benchmarks[name] = plots.to_inline_svg(figure, f"benchmark{b}", f"{found['title']} by section")
    comparison = figures.get("comparison") or {}
    best_of_n = {}
    for b, panel in enumerate(best_of_n_panels(comparison.get("best_of_n", {}))):
        figure = plots.plot_curves({methods[method]: curve for method, curve in panel.curves.items()}, panel.title)
        best_of_n[panel.title] = plots.to_inline_svg(figure, f"best{b}", f"Best of N: {panel.title}")
    rows = _effect_rows(comparison.get("effects", {}))
    effects = plots.plot_effects(rows, methods, "average effect on reward (nats)") if rows else None
    training = plots.plot_training({method: figures["methods"][method]["training"] for method in methods}, methods)
    return {
        "accuracy": plots.to_inline_svg(plot_accuracy(figures), "accuracy", "Pairwise accuracy by split and method"),
        "strata": strata,
        "breakdowns": breakdowns,
        "lengths": lengths,
        "benchmarks": benchmarks,
        "matrices": matrices,
        "best_of_n": best_of_n,
        "effects": effects and plots.to_inline_svg(effects, "effects", "Effects of attributes on reward"),
        "training": training and plots.to_inline_svg(training, "training", "Metrics of training against the step"),
    }


def _benchmark_rows(found: Mapping[str, Any]) -> list[plots.Row]:
    """Return a benchmark's overall score and sections as rows of a picture, under the names of accuracy figures."""
    by_row: dict[str, dict[str, Any]] = {}
    for method, measured in found["methods"].items():
        for line in measured["rows"]:
            if line["level"] != "subset" and line["score"] is not None:
                name = overall_name(found["methods"]) if line["level"] == "overall" else line["name"]
                cell = {"accuracy": line["score"], "interval": line["interval"], "comparisons": line["examples"]}
                by_row.setdefault(name, {})[method] = cell
    return _rows(by_row)


def _effect_rows(effects: Mapping[str, Any]) -> list[plots.Row]:
    """Return effects of attributes by method as rows of a picture."""
    rows = []
    for kind in ("causal", "spurious"):
        by_row: dict[str, dict[str, Any]] = {}
        for method, found in effects.items():
            for name, effect in found[kind].items():
                cell = {"accuracy": effect["double"]["ate"], "interval": effect["double"]["ate_interval"]}
                by_row.setdefault(name, {})[method] = cell
        if by_row:
            rows += [plots.Row(kind), *_rows(by_row)]
    return rows


def _stratum_rows(measured: Mapping[str, Mapping[str, Any]]) -> list[plots.Row]:
    rows = []
    for family in _families(measured):
        rows.append(plots.Row(_family_title(family)))
        rows += _rows(_turned(_of_family(measured, family)))
    return rows


def _breakdown_rows(measured: Mapping[str, Mapping[str, Any]]) -> list[plots.Row]:
    rows = []
    for title, by_row in _parts(measured).items():
        size = {name: max(cell["comparisons"] for cell in cells.values()) for name, cells in by_row.items()}
        largest = set(sorted(by_row, key=lambda name: -size[name])[:ROWS_PLOTTED])
        rows.append(plots.Row(title))
        rows += _rows({name: cells for name, cells in by_row.items() if name in largest})
    return rows


def _rows(by_row: Mapping[str, Mapping[str, Any]]) -> list[plots.Row]:
    return [plots.Row(plain(name), cells) for name, cells in by_row.items()]
