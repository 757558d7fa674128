"""The report of an evaluation: one page to read, one JSON file with every figure of it.

`report.json` holds

- `schema`: "crome_jax.report/1"; `title`; `statements`: the sentences on top of the page.
- `settings`: `confidence`, `resamples` and `seed` of the bootstrap, `splits` and `methods` in their order.
- `methods.<method>.splits.<split>`: `accuracy` in [0, 1], `interval` [low, high], `comparisons`, `groups` and
  `prompts` (which intervals draw); the same five under `by_kind.<kind>`, `by_category.<category>`,
  `by_attribute.<attribute>` and `by_stratum.<family>.<stratum>`; `ties`, `calibration` and `reward_length` as
  measure_ties, measure_calibration and measure_reward_length give them.
- `methods.<method>.training`: records of `step` and named numbers.
- `differences.<split>.<method>`: by how much the method's accuracy exceeds that of `baseline` (the first method) on the
  same comparisons: `difference`, `interval`, `comparisons`.
- `counterfactuals`: the pairs of the page, as Counterfactual.to_dict gives them; `counterfactuals_from`: in words, the
  data that they are drawn from, null where there are none.
- `benchmarks.<name>`: `title`, `license`, `citation`, `left_out` (examples whose prompt no row has room for),
  `set_aside` (records that were bad), `chance`; `methods.<method>` and `reference.<scorer>`: the benchmark's table as
  its own measure gives it (`score`, `interval`, `complete`, `missing`, `partial`, `rule`, `rows`; `matrix` of
  RM-Bench; `drop`, `drop_interval` and `relative_drop` of reWordBench).
- `facts`: what the caller told about the run.

A figure that is not defined (the accuracy of no comparisons) is null.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crome_jax.errors import CromeError
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.counterfactuals import Counterfactual, sample_counterfactuals
from crome_jax.evaluation.figures import split_differences, split_figures
from crome_jax.evaluation.page import METHOD_LABELS, interval, percent, plot_accuracy, render_page
from crome_jax.files import place, whole_output
from crome_jax.groups import PreferenceGroup, Scalar

SCHEMA = "crome_jax.report/1"

SCATTER_POINTS = 4000
"""Points of all scatter plots together, so that the page stays small however many methods it shows."""

Rewards = Sequence[np.ndarray]
Fact = Scalar | None | Mapping[str, Scalar | None] | Sequence[Mapping[str, Scalar | None]]


@dataclasses.dataclass(frozen=True)
class Report:
    """An evaluation, measured: what build_report returns.

    Args:
        figures: the content of report.json.
        counterfactuals: the pairs to browse.
    """

    figures: Mapping[str, Any]
    counterfactuals: Sequence[Counterfactual]

    def to_json(self) -> str:
        """Return report.json's text: strict JSON, keys in the order of this module's description."""
        return json.dumps(self.figures, ensure_ascii=False, indent=1, allow_nan=False) + "\n"

    def to_html(self) -> str:
        """Return report.html's text: one page that needs no network and runs no script but its own."""
        return render_page(self.figures, self.counterfactuals)

    def accuracy_plot(self) -> Figure:
        """Return the report's main picture, accuracy by split and method; plots.to_png and to_svg make it a file."""
        return plot_accuracy(self.figures)


def build_report(
    evaluations: Mapping[str, Mapping[str, tuple[Sequence[PreferenceGroup], Rewards]]],
    *,
    training: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    counterfactuals: tuple[Sequence[PreferenceGroup], Mapping[str, Rewards]] | None = None,
    counterfactuals_from: str = "the data sets measured on",
    facts: Mapping[str, Fact] | None = None,
    title: str = "Reward model evaluation",
    bootstrap: Bootstrap | None = None,
    pairs: int = 60,
    benchmarks: Mapping[str, Any] | None = None,
) -> Report:
    """Measure every method on every split.

    Args:
        evaluations: method to split to (groups, one array [R] of rewards per group). The first method is the baseline
            that the others are compared with.
        training: method to records of `step` and named numbers; a mapping of numbers counts as several.
        counterfactuals: augmented groups, and method to their rewards: what the page lets readers browse.
        counterfactuals_from: what data those groups are, in words that go on from "drawn from": rewards of pairs that
            a method trained on say less than those of pairs new to it.
        facts: what was run. A value is a scalar, a mapping (a section of its own) or a list of mappings (a table).
        bootstrap: how intervals are made.
        pairs: at most so many counterfactual pairs are shown.
        benchmarks: name to figures, as benchmark_figures gives them.

    Raises:
        CromeError: where there is no method, or rewards do not fit the groups or are not finite.
    """
    if not evaluations:
        raise CromeError("a report needs at least one method; give its rewards")
    bootstrap = bootstrap or Bootstrap()
    methods = list(evaluations)
    splits = list(dict.fromkeys(split for by_split in evaluations.values() for split in by_split))
    panels = max(1, len(methods) * len(splits))
    points = min(500, SCATTER_POINTS // panels)
    measured = {
        method: {
            "splits": {
                split: split_figures(*by_split[split], bootstrap, points=points)
                for split in splits
                if split in by_split
            },
            "training": [_flat(record) for record in (training or {}).get(method, ())],
        }
        for method, by_split in evaluations.items()
    }
    sample = sample_counterfactuals(*counterfactuals, pairs=pairs) if counterfactuals else []
    differences = _differences(evaluations, splits, bootstrap)
    figures = {
        "schema": SCHEMA,
        "title": title,
        "statements": [split_statement(split, measured, differences.get(split, {})) for split in splits],
        "settings": {**dataclasses.asdict(bootstrap), "splits": splits, "methods": methods},
        "methods": measured,
        "differences": differences,
        "counterfactuals": [pair.to_dict() for pair in sample],
        "counterfactuals_from": counterfactuals_from if sample else None,
        "benchmarks": dict(benchmarks or {}),
        "facts": dict(facts or {}),
    }
    return Report(plain_json(figures), sample)


def write_report(report: Report, folder: str | Path) -> tuple[Path, Path]:
    """Write report.html and report.json into a folder, in place of older ones.

    Returns:
        Their paths.

    Raises:
        CromeError: where they cannot be written; each is then as it was before.
    """
    texts = {place(folder) / "report.html": report.to_html(), place(folder) / "report.json": report.to_json()}
    for path, text in texts.items():
        with whole_output(path, overwrite=True) as partial:
            # A command line that is no valid UTF-8 comes from the system as lone surrogates.
            partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    page, figures = texts
    return page, figures


def _differences(
    evaluations: Mapping[str, Mapping[str, tuple[Sequence[PreferenceGroup], Rewards]]],
    splits: Sequence[str],
    bootstrap: Bootstrap,
) -> dict[str, dict[str, Any]]:
    baseline, *others = evaluations
    differences: dict[str, dict[str, Any]] = {}
    for split in splits:
        for method in others:
            if split in evaluations[method] and split in evaluations[baseline]:
                found = split_differences(*evaluations[method][split], *evaluations[baseline][split], bootstrap)
                if found:
                    differences.setdefault(split, {})[method] = {"baseline": baseline, **found}
    return differences


def split_statement(split: str, measured: Mapping[str, Any], differences: Mapping[str, Any]) -> str:
    """Say in one sentence what the methods reach on a split, and by how much the best exceeds the baseline."""
    scores = {}
    for method in measured:
        figures = measured[method]["splits"].get(split)
        if figures and figures["accuracy"] is not None:
            scores[method] = f"{percent(figures['accuracy'])}% ({interval(figures['interval'])})"
    names = {method: METHOD_LABELS.get(method, method) for method in scores}
    where = f"On the {split.replace('_', '-')} split"
    if not scores:
        return f"{where} no comparison prefers one side."
    if not differences:
        return f"{where} {', '.join(f'{names[method]} scores {scores[method]}' for method in scores)}."
    best = max(differences, key=lambda method: differences[method]["difference"])
    found = differences[best]
    baseline, bounds = found["baseline"], found["interval"]
    rank = "" if len(differences) == 1 else f", the best of the {len(differences)} others,"
    amount = f"{percent(abs(found['difference']))} points {'more' if found['difference'] >= 0 else 'less'}"
    if bounds is not None:
        amount += f" ({interval(bounds)}{'' if bounds[0] > 0 or bounds[1] < 0 else ', zero included'})"
    return f"{where} {names[baseline]} scores {scores[baseline]}; {names[best]}{rank} scores {scores[best]}, {amount}."


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}_{inner}": number for inner, number in value.items()})
        else:
            flat[name] = value
    return flat


def plain_json(value: Any) -> Any:
    """Return plain JSON types: numpy's numbers as Python's, None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(name): plain_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
