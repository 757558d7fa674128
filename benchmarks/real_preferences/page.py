"""The benchmark's page: its tables in Markdown, made from the study's report."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.pages import table
from benchmarks.real_preferences.sampling import EVALUATIONS, HELD_OUT, Taken
from crome_jax.evaluation.report import build_report
from crome_jax.evaluation.strata import word_count
from crome_jax.groups import PreferenceGroup

STRATA = {
    HELD_OUT: ("length", {"longer_preferred": "longer preferred", "shorter_preferred": "shorter preferred"}),
    "rm_bench": ("cue", {"cue_for_chosen": "easy", "balanced": "normal", "cue_for_rejected": "hard"}),
}
"""Split to the family of strata that the table shows of it, and what it calls them."""

SECONDS = "seconds, compilation included"
"""What the study calls the time that the frozen layers took."""

TITLES = {HELD_OUT: "AlpacaEval, held-out prompts"} | {name: which.title for name, which in EVALUATIONS.items()}


def measure_length(splits: Mapping[str, list[PreferenceGroup]]) -> dict[str, Any]:
    """Return the report's figures for the rule that the longer answer, in words, is the better one."""
    words = {
        name: (groups, [np.array([word_count(response.text) for response in group.responses]) for group in groups])
        for name, groups in splits.items()
    }
    return build_report({"longer": words}).figures["methods"]["longer"]


def render(
    figures: Mapping[str, Any],
    longer: Mapping[str, Any],
    alone: Mapping[str, float],
    account: Sequence[Taken],
    run: Mapping[str, str],
) -> str:
    """Write the page of the benchmark as Markdown.

    Args:
        figures: of the study's report.json.
        longer: what measure_length gives.
        alone: split to tokens for each comparison, if every pair were encoded by itself.
        account: of every file.
        run: facts of this run, by name.
    """
    parts = [
        "# Real preferences",
        "Trained on AlpacaEval, where the longer answer wins, and measured where it should not. "
        "Written by `python -m benchmarks.real_preferences`; what it does is in [README.md](README.md).",
        table(("", ""), run.items()),
        "## Accuracy",
        "Share of comparisons in which the better answer has the higher reward, in percent, with bootstrap 95% "
        "intervals over prompts. *Longer* is the rule that the answer with more words is better. The difference is "
        "Crome's accuracy less Bradley-Terry's on the same comparisons, in points.",
        _accuracy_table(figures, longer),
        "RM-Bench's comparisons are easy where the better answer has the richer style (concise, detailed, detailed "
        "with markdown), hard where the other has; of styles with equal texts the plainer counts.",
        "## Training",
        "The frozen layers ran once over each data set; tokens/s is of the trained layers alone, on their kept output.",
        _records_table(figures["facts"]["search"]),
        "## Tokens",
        "Tokens encoded for each comparison, the prompt of a group once and each distinct response once, against "
        "encoding both sides of every comparison by itself, cut alike. Tokens/s is of the frozen layers; "
        "what another method trains on, too, was encoded once.",
        _token_table(figures, alone),
        "## Data",
        "Set aside in each file: bad records (such as two equal answers), prompts that leave no room in a row, and "
        "training prompts that a file of the evaluation asks, too.",
        table(
            ("split", "file", "bad", "too long", "asked, too", "prompts used", "comparisons used"),
            map(dataclasses.astuple, account),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _accuracy_table(figures: Mapping[str, Any], longer: Mapping[str, Any]) -> str:
    baseline, other = figures["settings"]["methods"]
    columns = [method["splits"] for method in (longer, figures["methods"][baseline], figures["methods"][other])]
    rows = []
    for split in figures["settings"]["splits"]:
        found = [column[split] for column in columns]
        difference = figures["differences"][split][other]
        rows.append(_accuracy_row(f"**{TITLES[split]}**", found, _points(difference, "difference")))
        if len(found[0]["by_category"]) > 1:
            for name in EVALUATIONS[split].files:
                rows.append(_accuracy_row(name, [one["by_category"][name] for one in found]))
        family, labels = STRATA.get(split, ("", {}))
        for stratum, label in labels.items():
            if stratum in found[0]["by_stratum"].get(family, {}):
                rows.append(_accuracy_row(f"*{label}*", [one["by_stratum"][family][stratum] for one in found]))
    return table(("", "comparisons", "longer", "Bradley-Terry", "Crome", "difference"), rows)


def _accuracy_row(label: str, found: Sequence[Mapping[str, Any]], difference: str = "") -> tuple[Any, ...]:
    return (label, found[0]["comparisons"], *(_points(one, "accuracy") for one in found), difference)


def _points(figure: Mapping[str, Any], name: str) -> str:
    if figure["interval"] is None:
        return f"{100 * figure[name]:.1f}"
    low, high = figure["interval"]
    return f"{100 * figure[name]:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _token_table(figures: Mapping[str, Any], alone: Mapping[str, float]) -> str:
    packing = {f"training of {row['method']}": row for row in figures["facts"]["packing"]}
    compared = _first(figures["methods"])["splits"]
    rows, sums = [], np.zeros(6)
    for row in figures["facts"]["frozen layers"]:
        name = row["data"]
        if name in packing:
            comparisons = packing[name]["comparisons"]
            by_itself = packing[name]["if every pair were encoded by itself"]
        elif name in compared:
            comparisons, by_itself = compared[name]["comparisons"], alone[name]
        else:
            continue  # The validation set: of the held-out set's kind.
        counts = (
            comparisons,
            row["tokens encoded"],
            comparisons * by_itself,
            row["responses cut"],
            row["not encoded before"],
            row[SECONDS],
        )
        rows.append((TITLES.get(name, name), *_token_cells(*counts)))
        sums += counts
    rows.append(("**all**", *_token_cells(*sums)))
    header = ("", "comparisons", "tokens for each", "by itself", "saving", "responses cut", "tokens/s")
    return table(header, rows)


def _token_cells(
    comparisons: float, tokens: float, alone: float, cut: float, computed: float, seconds: float
) -> tuple[str, ...]:
    return (
        f"{comparisons:,.0f}",
        f"{tokens / comparisons:.1f}",
        f"{alone / comparisons:.1f}",
        f"{alone / tokens:.2f} times",
        f"{cut:,.0f}",
        f"{computed / seconds:,.0f}" if computed and seconds else "",
    )


def _first(methods: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(iter(methods.values()))


def _records_table(records: Sequence[Mapping[str, Any]]) -> str:
    return table(tuple(records[0]), [tuple(record.values()) for record in records])
