"""Several evaluations side by side: their reports merged, paired tests on what they share, and where they disagree."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crome_jax.errors import CromeError
from crome_jax.evaluation.benchmark_tests import compare_scores
from crome_jax.evaluation.best_of_n_tests import compare_picks
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.effects import compare_effects
from crome_jax.evaluation.outcome_files import OUTCOMES, read_outcomes
from crome_jax.evaluation.paired_tests import biggest_disagreements, paired_test
from crome_jax.evaluation.part_files import PARTS, StoredRow, read_parts
from crome_jax.evaluation.published import PUBLISHED
from crome_jax.evaluation.report import SCHEMA, split_statement
from crome_jax.evaluation.run_additions import Addition, read_additions
from crome_jax.files import read_json_object

DISAGREEMENTS = 12
"""Of two models, as many disagreements are shown."""

_NEEDED = ("methods", "settings", "facts", "benchmarks")
_OF_BEST_OF_N = ("judge", "prompts", "candidates", "curve", "attack_success", "over_refusal", "length_controlled")

_Key = tuple[str, str, str, int]
"""Of a comparison: its data, its group, the SHA-256 of its texts, and the how-manieth of these it is."""


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """One evaluation on disk.

    Args:
        folder: that holds it.
        figures: of its report.json.
        outcomes: of its comparisons.
        parts: benchmark to method to the rows of its table, with what every example adds.
        additions: best-of-N and diagnosis reports of its models.
        warnings: of what lies there and is not shown.
    """

    folder: Path
    figures: Mapping[str, Any]
    outcomes: Sequence[Mapping[str, Any]]
    parts: Mapping[str, Mapping[str, Sequence[StoredRow]]] = dataclasses.field(default_factory=dict)
    additions: Sequence[Addition] = ()
    warnings: Sequence[str] = ()


def read_evaluated(run: Path) -> Evaluated:
    """Read what `crome evaluate` wrote: in the folder itself, or in its `evaluation`.

    Raises:
        CromeError: where there is none, it is damaged, or of another version.
    """
    folder = next((f for f in (run, run / "evaluation") if (f / "report.json").is_file()), None)
    if folder is None:
        raise CromeError(f"{run}: holds no report.json, nor does its evaluation/; run `crome evaluate` on it first")
    figures = read_json_object(folder / "report.json")
    if figures.get("schema") != SCHEMA:
        raise CromeError(f"{folder / 'report.json'}: is of schema {figures.get('schema')!r}, not {SCHEMA}")
    if missing := [name for name in _NEEDED if name not in figures]:
        raise CromeError(f"{folder / 'report.json'}: lacks {missing[0]!r}; run `crome evaluate` again")
    outcomes = read_outcomes(folder)
    if unknown := {method for line in outcomes for method in line["rewards"]} - figures["methods"].keys():
        raise CromeError(
            f"{folder}: {OUTCOMES} has rewards of {min(unknown)!r}, which report.json does not know: they are of two "
            "evaluations; run `crome evaluate` again"
        )
    _check_outcomes(folder, figures["methods"], outcomes)
    additions, warnings = read_additions([folder, run], figures["facts"].get("runs", ()))
    parts = read_parts(folder) if figures["benchmarks"] else {}
    _check_parts(folder, figures["benchmarks"], parts)
    return Evaluated(folder, figures, outcomes, parts, additions, warnings)


def _check_outcomes(folder: Path, methods: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Raise CromeError where figures are not of the rewards beside them, as after a kill between two files.

    Accuracies of two evaluations may be equal by chance; the mean confidence, which every reward moves, is not.
    """
    held: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for line in outcomes:
        for method, (chosen, rejected) in line["rewards"].items():
            held[method, line["data"]].append(chosen - rejected)
    for method, measured in methods.items():
        for split, figures in measured["splits"].items():
            d = np.array(held[method, split])
            told = {"accuracy": figures["accuracy"], "expected accuracy": figures["calibration"]["expected_accuracy"]}
            means = {"accuracy": 0.5 + 0.5 * np.sign(d), "expected accuracy": 0.5 + 0.5 * np.tanh(0.5 * np.abs(d))}
            found = {name: float(values.mean()) if len(d) else None for name, values in means.items()}
            for name, said in told.items():
                if (said is None) != (found[name] is None) or (said is not None and abs(said - found[name]) > 1e-9):
                    raise CromeError(
                        f"{folder}: by {OUTCOMES} the {name} of {method!r} on {split!r} is {found[name]}, and by "
                        f"report.json {said}: they are of two evaluations; run `crome evaluate` again"
                    )


def _check_parts(
    folder: Path, benchmarks: Mapping[str, Any], parts: Mapping[str, Mapping[str, Sequence[StoredRow]]]
) -> None:
    """Raise CromeError where scores are not those of the examples beside them, as after a kill between two files."""
    for name, found in benchmarks.items():
        for method, table in found["methods"].items():
            rows = parts.get(name, {}).get(method)
            scores = None if rows is None else [row.score for row in rows if row.level == "overall"]
            same = scores is not None and np.allclose(scores, [] if table["score"] is None else [table["score"]])
            if not same:
                raise CromeError(
                    f"{folder}: {PARTS} has other scores of {name} by {method!r} than report.json: they are of two "
                    "evaluations; run `crome evaluate` again"
                )


def compare_runs(runs: Sequence[Evaluated], bootstrap: Bootstrap | None = None) -> dict[str, Any]:
    """Merge evaluations into one report's figures, with a `comparison` of its own.

    The first method is the baseline. Methods of one name are told apart by their folders.

    Returns:
        What report.json holds, of all methods; `differences` are on the comparisons that both methods have. And
        `comparison`: `tests.<data>.<method>` as paired_test gives it; `disagreements`: `data`, `prompt`, `chosen`,
        `rejected`, `cut` and `differences` by method; against the first method, `benchmark_tests.<benchmark>.<method>`
        as compare_scores gives it, `best_of_n_tests.<judge>.<method>` as compare_picks does and
        `effects_tests.<method>` as compare_effects does; `published.<benchmark>`; `best_of_n.<judge>.<method>` as
        best_of_n_figures gives it; `effects.<method>`; and `warnings`, sentences.

    Raises:
        CromeError: where there is no run.
    """
    if not runs:
        raise CromeError("there is nothing to compare; name folders of evaluations")
    bootstrap = bootstrap or Bootstrap()
    names = _names(runs)
    methods = [names[r, method] for r, run in enumerate(runs) for method in run.figures["methods"]]
    measured = {names[r, m]: figures for r, run in enumerate(runs) for m, figures in run.figures["methods"].items()}
    splits = list(dict.fromkeys(split for figures in measured.values() for split in figures["splits"]))
    columns = _columns(runs, names)
    baseline, *others = methods
    tests: dict[str, dict[str, Any]] = {}
    differences: dict[str, dict[str, Any]] = {}
    disagreements = []
    for split in splits:
        for method in others:
            shared = [key for key in columns[method] if key[0] == split and key in columns[baseline]]
            if not shared:
                continue
            ours, theirs = (np.array([columns[m][key]["difference"] for key in shared]) for m in (method, baseline))
            asked = [columns[method][key]["line"]["prompt_sha256"] for key in shared]
            numbers = {prompt: n for n, prompt in enumerate(dict.fromkeys(asked))}
            prompts = np.array([numbers[prompt] for prompt in asked])
            found = paired_test(0.5 + 0.5 * np.sign(ours), 0.5 + 0.5 * np.sign(theirs), prompts, bootstrap)
            tests.setdefault(split, {})[method] = {"baseline": baseline, **found}
            differences.setdefault(split, {})[method] = {
                "baseline": baseline,
                **{name: found[name] for name in ("difference", "interval", "comparisons")},
            }
            for n in biggest_disagreements(ours, theirs, DISAGREEMENTS):
                line = columns[method][shared[n]]["line"]
                disagreements.append(
                    {
                        **{name: line[name] for name in ("data", "category", "prompt", "chosen", "rejected")},
                        "cut": line.get("cut", False),
                        "differences": {baseline: float(theirs[n]), method: float(ours[n])},
                    }
                )
    benchmarks = _merge_benchmarks(runs, names)
    return {
        "schema": SCHEMA,
        "title": "Runs side by side",
        "statements": [split_statement(split, measured, differences.get(split, {})) for split in splits],
        "settings": {**dataclasses.asdict(bootstrap), "splits": splits, "methods": methods},
        "methods": measured,
        "differences": differences,
        "counterfactuals": [],
        "counterfactuals_from": None,
        "benchmarks": benchmarks,
        "facts": {
            table: [
                {**row, "method": names[r, row["method"]]} if "method" in row else {"report": str(run.folder), **row}
                for r, run in enumerate(runs)
                for row in run.figures["facts"].get(table, ())
            ]
            for table in ("runs", "data", "scoring")
        },
        "comparison": {
            "tests": tests,
            "disagreements": disagreements,
            "benchmark_tests": _benchmark_tests(runs, names, methods, bootstrap),
            "published": {
                name: [entry._asdict() for entry in PUBLISHED[name]] for name in benchmarks if name in PUBLISHED
            },
            "best_of_n": _best_of_n(runs, names),
            "best_of_n_tests": _best_of_n_tests(runs, names, methods, bootstrap),
            "effects": {
                names[r, found.method]: {
                    kind: {
                        name: {key: value for key, value in effect.items() if key != "by_rewrite"}
                        for name, effect in by_name.items()
                    }
                    for kind, by_name in found.figures["effects"].items()
                }
                for r, run in enumerate(runs)
                for found in run.additions
                if found.kind == "diagnosis"
            },
            "effects_tests": _effects_tests(runs, names, methods, bootstrap),
            "warnings": [
                *(warning for run in runs for warning in run.warnings),
                *_other_data(runs),
                *_other_rules(benchmarks),
            ],
        },
    }


def _benchmark_tests(
    runs: Sequence[Evaluated], names: Mapping[tuple[int, str], str], methods: Sequence[str], bootstrap: Bootstrap
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    rows: dict[str, dict[str, Sequence[StoredRow]]] = {}
    for r, run in enumerate(runs):
        for name, by_method in run.parts.items():
            rows.setdefault(name, {}).update({names[r, method]: found for method, found in by_method.items()})
    baseline, *others = methods
    return {
        name: {method: compare_scores(held[method], held[baseline], bootstrap) for method in others if method in held}
        for name, held in rows.items()
        if baseline in held
    }


def _best_of_n(runs: Sequence[Evaluated], names: Mapping[tuple[int, str], str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return judge to method to what best_of_n_figures found."""
    by_judge: dict[str, dict[str, dict[str, Any]]] = {}
    for r, run in enumerate(runs):
        for found in run.additions:
            if found.kind == "best_of_n":
                held = {name: found.figures[name] for name in _OF_BEST_OF_N if name in found.figures}
                if "length_controlled" in held:  # Without the sets drawn, which only tests read.
                    points = held["length_controlled"]
                    held["length_controlled"] = [{k: v for k, v in p.items() if k != "drawn"} for p in points]
                held |= {name: found.figures["facts"].get(name) for name in ("sha256", "verdicts sha256", "judged by")}
                by_judge.setdefault(found.figures["judge"], {})[names[r, found.method]] = held
    return by_judge


def _best_of_n_tests(
    runs: Sequence[Evaluated], names: Mapping[tuple[int, str], str], methods: Sequence[str], bootstrap: Bootstrap
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for r, run in enumerate(runs):
        for addition in run.additions:
            if addition.kind == "best_of_n":
                found.setdefault(addition.figures["judge"], {})[names[r, addition.method]] = addition.figures
    baseline, *others = methods
    tests = {
        judge: {method: compare_picks(held[method], held[baseline], bootstrap) for method in others if method in held}
        for judge, held in found.items()
        if baseline in held
    }
    return {judge: {method: test for method, test in by.items() if test} for judge, by in tests.items()}


def _effects_tests(
    runs: Sequence[Evaluated], names: Mapping[tuple[int, str], str], methods: Sequence[str], bootstrap: Bootstrap
) -> dict[str, list[dict[str, Any]]]:
    held = {
        names[r, found.method]: found.figures["effects"]
        for r, run in enumerate(runs)
        for found in run.additions
        if found.kind == "diagnosis"
    }
    baseline, *others = methods
    tests = {m: compare_effects(held[m], held[baseline], bootstrap) for m in others if {m, baseline} <= held.keys()}
    return {method: found for method, found in tests.items() if found}


def _other_data(runs: Sequence[Evaluated]) -> list[str]:
    """Return a warning for every data set and judge's candidates of one name that are not the same in all runs.

    And for those of which the candidates are, but not what the judges of that name made of them.
    """
    seen: dict[str, set[str]] = {}
    judged: dict[tuple[str, str], dict[str, str]] = {}
    for run in runs:
        for row in run.figures["facts"].get("data", ()):
            seen.setdefault(f"data set {row['data']}", set()).add(row["sha256"])
        for found in run.additions:
            if found.kind == "best_of_n":
                facts, name = found.figures["facts"], f"best of N by judge {found.figures['judge']}"
                seen.setdefault(name, set()).add(facts.get("sha256", ""))
                by = str(facts.get("judged by"))
                judged.setdefault((name, facts.get("sha256", "")), {})[facts.get("verdicts sha256") or by] = by
    return [
        f"{name}: the same candidates were judged in {len(by)} ways (by {', by '.join(dict.fromkeys(by.values()))}), "
        "so its runs do not compare"
        for (name, _), by in judged.items()
        if len(by) > 1
    ] + [
        f"{name}: its runs were measured on {len(prints)} versions of it, so their scores do not compare; only paired "
        "tests are on what they share"
        for name, prints in seen.items()
        if len(prints) > 1
    ]


def _other_rules(benchmarks: Mapping[str, Any]) -> list[str]:
    """Return a warning for every benchmark whose score is not computed alike for all methods, as with prior sets."""
    rules = {
        figures["title"]: list(dict.fromkeys(table["rule"] for table in figures["methods"].values()))
        for figures in benchmarks.values()
    }
    return [
        f"{title}: overall scores are computed in {len(said)} ways ({' | '.join(said)}), so they do not compare"
        for title, said in rules.items()
        if len(said) > 1
    ]


def _names(runs: Sequence[Evaluated]) -> dict[tuple[int, str], str]:
    given = [method for run in runs for method in run.figures["methods"]]
    return {
        (r, method): method if given.count(method) == 1 else f"{method} ({run.folder})"
        for r, run in enumerate(runs)
        for method in run.figures["methods"]
    }


def _columns(runs: Sequence[Evaluated], names: Mapping[tuple[int, str], str]) -> dict[str, dict[_Key, dict[str, Any]]]:
    """Return method to comparison to its reward difference; what is compared is told by its texts, not by its place.

    Of several of a group with the same texts, as where each annotator's vote is one, the n-th is that of each run.
    """
    columns: dict[str, dict] = {name: {} for name in names.values()}
    for r, run in enumerate(runs):
        equal: collections.Counter[tuple[str, str, str]] = collections.Counter()
        for line in run.outcomes:
            same = line["data"], line["group"], line["texts_sha256"]
            key = (*same, equal[same])
            equal[same] += 1
            for method, (chosen, rejected) in line["rewards"].items():
                columns[names[r, method]][key] = {"difference": chosen - rejected, "line": line}
    return columns


def _merge_benchmarks(runs: Sequence[Evaluated], names: Mapping[tuple[int, str], str]) -> dict[str, Any]:
    """Merge benchmarks' tables, their rows lined up: a part that one run lacks has no score there."""
    merged: dict[str, Any] = {}
    for r, run in enumerate(runs):
        for name, figures in run.figures.get("benchmarks", {}).items():
            into = merged.setdefault(name, {**figures, "methods": {}})
            counts = {count: figures.get(count, 0) for count in ("left_out", "set_aside")}
            into["methods"] |= {names[r, method]: {**table, **counts} for method, table in figures["methods"].items()}
    for figures in merged.values():
        tables = [*figures["methods"].values(), *figures["reference"].values()]
        order = list(dict.fromkeys(key for table in tables for key in _keyed(table)))
        for tables in (figures["methods"], figures["reference"]):
            for method, table in tables.items():
                rows = _keyed(table)
                absent = [
                    {"name": key[1], "level": key[2], "score": None, "interval": None, "examples": 0} for key in order
                ]
                lined = [rows.get(key, none) for key, none in zip(order, absent, strict=True)]
                tables[method] = {**table, "rows": lined}
    return merged


def _keyed(table: Mapping[str, Any]) -> dict[tuple[str, str, str], Any]:
    """Return rows by section, name and level: subsets of several sections may have one name."""
    section, rows = "", {}
    for row in table["rows"]:
        section = row["name"] if row["level"] != "subset" else section
        rows[section, row["name"], row["level"]] = row
    return rows
