"""A comparison of runs as Markdown: the tables of its page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crome_jax.evaluation.page import interval, percent, shown_names, signed


def render_markdown(figures: Mapping[str, Any]) -> str:
    """Return comparison.md's text.

    Args:
        figures: of run_comparison.compare_runs.
    """
    labels, comparison = shown_names(figures), figures["comparison"]
    methods = list(labels)
    parts = [f"# {figures['title']}", *(f"- {statement}" for statement in figures["statements"]), "## Accuracy"]
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
            f"{test['only_left']} / {test['only_right']}",
            f"{test['p']:.3g}",
        )
        for split, by_method in comparison["tests"].items()
        for method, test in by_method.items()
    ]
    if rows:
        parts += ["## Paired tests", _table(("data", "", "points", "only the one right / only the other", "p"), rows)]
    for name, found in figures["benchmarks"].items():
        first = next(iter(found["methods"].values()))
        rows = [
            (
                "overall" if line["level"] == "overall" else line["name"],
                *(
                    _score(found["methods"][m]["rows"][n]["score"], found["methods"][m]["rows"][n]["interval"])
                    if m in found["methods"]
                    else "–"
                    for m in methods
                ),
            )
            for n, line in enumerate(first["rows"])
        ]
        parts += [f"## {found['title']}", _table(("", *labels.values()), rows)]
        for method, table in found["methods"].items():
            if matrix := table.get("matrix"):
                lines = zip(table["styles"], matrix, strict=True)
                rows = [(style, *(percent(share) for share in shares)) for style, shares in lines]
                parts.append(_table((f"{labels[method]}: right, against wrong", *table["styles"]), rows))
        if first["missing"]:
            parts.append(f"Not the whole benchmark: there was no example of {', '.join(first['missing'])}.")
        if published := comparison["published"].get(name):
            parts.append(
                _table(
                    ("published", "percent", "source"),
                    [
                        (p["system"], f"+{p['score']} points" if p["difference"] else p["score"], p["source"])
                        for p in published
                    ],
                )
            )
    for method, curve in comparison["best_of_n"].items():
        rows = [(point["n"], _score(point["value"], point["interval"]), percent(point["oracle"])) for point in curve]
        parts += [f"## Best of N: {labels[method]}", _table(("N", "reward model", "an oracle"), rows)]
    if scoring := figures["facts"]["scoring"]:
        prints = {row["data"]: row.get("sha256", "–") for row in figures["facts"]["data"]}
        rows = [
            (labels.get(row["method"], row["method"]), row["data"], row["responses cut"], prints.get(row["data"], "–"))
            for row in scoring
        ]
        parts += ["## What was scored", _table(("", "data", "responses cut", "SHA-256 of the data"), rows)]
    return "\n\n".join(parts) + "\n"


def _score(score: float | None, bounds: Sequence[float] | None) -> str:
    return percent(score) + ("" if bounds is None else f" ({interval(bounds)})")


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    clean = lambda cell: str(cell).replace("|", "/").replace("\n", " ")  # noqa: E731
    return "\n".join(f"| {' | '.join(map(clean, line))} |" for line in lines)
