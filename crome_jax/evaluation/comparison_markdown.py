"""A comparison of runs as Markdown: the tables of its page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crome_jax.evaluation.benchmark_notes import benchmark_notes, drop_lines, overall_name, shown_part
from crome_jax.evaluation.best_of_n_panels import best_of_n_panels
from crome_jax.evaluation.best_of_n_tests import shown_tests
from crome_jax.evaluation.page import interval, percent, shown_names, signed
from crome_jax.evaluation.published import shown_beside, shown_score


def render_markdown(figures: Mapping[str, Any]) -> str:
    """Return comparison.md's text.

    Args:
        figures: of run_comparison.compare_runs.
    """
    labels, comparison = shown_names(figures), figures["comparison"]
    methods = list(labels)
    statements = [f"- {said}" for said in figures["statements"]]
    statements += [f"- **{warning}**" for warning in comparison["warnings"]]
    parts = [f"# {figures['title']}", *statements, "## Accuracy"]
    rows = []
    for split in figures["settings"]["splits"]:
        cells = [figures["methods"][method]["splits"].get(split) for method in methods]
        shown = [_score(cell["accuracy"], cell["interval"]) if cell else "–" for cell in cells]
        rows.append((split, *shown, max(cell["comparisons"] for cell in cells if cell)))
    parts.append(_table(("data", *labels.values(), "comparisons"), rows))
    rows = [
        (
            split,
            f"{labels[method]} less {labels[test['baseline']]}",
            f"{signed(100 * test['difference'], 1)} ({interval(test['interval'])})",
            "–" if test["p"] is None else f"{test['p']:.3g}",
            f"{test['only_left']} / {test['only_right']}",
            f"{test['mcnemar']:.3g}",
            test["comparisons"],
            test["prompts"],
        )
        for split, by_method in comparison["tests"].items()
        for method, test in by_method.items()
    ]
    if rows:
        only = "only the one right / only the other"
        header = ("data", "", "points", "p", only, "p of McNemar, by comparison", "comparisons", "prompts")
        parts += ["## Paired tests", _table(header, rows)]
    for name, found in figures["benchmarks"].items():
        first = next(iter(found["methods"].values()))
        published = comparison["published"].get(name, [])
        rows = [
            (
                overall_name(found["methods"]) if line["level"] == "overall" else line["name"],
                *(
                    _score(found["methods"][m]["rows"][n]["score"], found["methods"][m]["rows"][n]["interval"])
                    if m in found["methods"]
                    else "–"
                    for m in methods
                ),
                *([shown_beside(published, line)] if published else []),
            )
            for n, line in enumerate(first["rows"])
        ]
        parts += [f"## {found['title']}", _table(("", *labels.values(), *(["published"] if published else [])), rows)]
        if lines := drop_lines(found, methods):
            parts.append(_drops(lines, list(labels.values())))
        for method, table in found["methods"].items():
            if matrix := table.get("matrix"):
                lines = zip(table["styles"], matrix, strict=True)
                rows = [(style, *(percent(share) for share in shares)) for style, shares in lines]
                parts.append(_table((f"{labels[method]}: right, against wrong", *table["styles"]), rows))
        parts += benchmark_notes(found, labels)
        if tests := comparison["benchmark_tests"].get(name):
            parts.append(_benchmark_tests(tests, labels))
        if published:
            parts.append(
                _table(
                    ("", "published", "part", "percent", "source"),
                    [
                        (f"[{n}]", p["system"], p["section"] or "overall", shown_score(p), p["source"])
                        for n, p in enumerate(published, 1)
                    ],
                )
            )
    for panel in best_of_n_panels(comparison["best_of_n"]):
        rows = [
            (n, *(_score(point["value"], point["interval"]) if point else "–" for point in points))
            for n, points in panel.lines
        ]
        header = ("N", *(labels[method] for method in panel.curves))
        parts += [f"## Best of N: {panel.title}", _table(header, rows)]
    if tests := shown_tests(comparison["best_of_n_tests"]):
        rows = [
            (
                title,
                labels[method],
                test["n"],
                f"{signed(100 * test['difference'], 1)} ({interval(test['interval'])})",
                "–" if test["p"] is None else f"{test['p']:.3g}",
                test["prompts"],
            )
            for title, method, test in tests
        ]
        header = (f"best of N, paired, less {next(iter(labels.values()))}", "", "N", "points", "p", "prompts")
        parts.append(_table(header, rows))
    if effects := comparison["effects"]:
        rows = [
            (name.replace("_", " "), kind, *(_effect(found[kind].get(name)) for found in effects.values()))
            for kind in ("causal", "spurious")
            for name in dict.fromkeys(name for found in effects.values() for name in found[kind])
        ]
        header = ("attribute", "kind", *(labels[method] for method in effects))
        parts += ["## Effects of attributes on reward (nats, two rewrites)", _table(header, rows)]
    if tests := comparison["effects_tests"]:
        rows = [
            (
                test["attribute"].replace("_", " "),
                test["kind"],
                labels[method],
                _effect({"double": {"ate": test["difference"], "ate_interval": test["interval"]}}),
                "–" if test["p"] is None else f"{test['p']:.3g}",
                test["responses"],
            )
            for method, found in tests.items()
            for test in found
        ]
        header = ("attribute, paired", "kind", "", f"nats, less {next(iter(labels.values()))}", "p", "responses")
        parts.append(_table(header, rows))
    if scoring := figures["facts"]["scoring"]:
        prints = {row["data"]: row.get("sha256", "–") for row in figures["facts"]["data"]}
        rows = [
            (labels.get(row["method"], row["method"]), row["data"], row["responses cut"], prints.get(row["data"], "–"))
            for row in scoring
        ]
        parts += ["## What was scored", _table(("", "data", "responses cut", "SHA-256 of the data"), rows)]
    return "\n\n".join(parts) + "\n"


def _drops(lines: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], labels: Sequence[str]) -> str:
    """Return what rewordings lose as a table: of each method the accuracy before, and the points less."""
    header = ("reworded", *(f"{label}: {column}" for label in labels for column in ("before", "drop")))
    cells = lambda row: (percent(row.get("before")), _score(row.get("drop"), row.get("drop_interval")))  # noqa: E731
    return _table(header, [(name, *(cell for row in rows for cell in cells(row))) for name, rows in lines])


def _benchmark_tests(tests: Mapping[str, Sequence[Mapping[str, Any]]], labels: Mapping[str, str]) -> str:
    """Return a benchmark's paired tests as a table; one method's lines are below another's."""
    rows = [
        (
            labels[method],
            "overall" if row["level"] == "overall" else shown_part(row),
            f"{signed(100 * row['difference'], 1)} ({interval(row['interval'])})",
            "–" if row["p"] is None else f"{row['p']:.3g}",
            row["examples"],
        )
        for method, found in tests.items()
        for row in found
    ]
    return _table((f"paired, less {next(iter(labels.values()))}", "part", "points", "p", "examples"), rows)


def _score(score: float | None, bounds: Sequence[float] | None) -> str:
    return percent(score) + ("" if bounds is None else f" ({interval(bounds)})")


def _effect(effect: Mapping[str, Any] | None) -> str:
    found = effect["double"] if effect else {"ate": None, "ate_interval": None}
    bounds = found["ate_interval"]
    return signed(found["ate"]) + (f" ({signed(bounds[0])} to {signed(bounds[1])})" if bounds else "")


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    clean = lambda cell: str(cell).replace("|", "/").replace("\n", " ")  # noqa: E731
    return "\n".join(f"| {' | '.join(map(clean, line))} |" for line in lines)
