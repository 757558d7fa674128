"""The tables that `crome evaluate` prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from crome_jax.evaluation.benchmark_notes import benchmark_notes, overall_name


def accuracy_table(figures: Mapping[str, Any], packing: Sequence[Mapping[str, Any]]) -> str:
    """Lay out accuracy with intervals, by data set and method; of data of several kinds each by itself as well.

    Args:
        figures: of the report.
        packing: a row of facts for each method and data set, in the order of the table.
    """
    rows = [("data", "method", "accuracy", "95% interval", "comparisons", "responses cut", "equal once cut")]
    for fact in packing:
        measured = figures["methods"][fact["method"]]["splits"][fact["data"]]
        counts = f"{fact['responses cut']:,}", f"{fact['equal once cut']:,}"
        rows.append((fact["data"], fact["method"], *_accuracy_cells(measured), *counts))
        if len(measured["by_kind"]) > 1:
            rows += [
                (f"  {kind} ones", "", *_accuracy_cells(part), "", "") for kind, part in measured["by_kind"].items()
            ]
    return columns(rows)


def _accuracy_cells(measured: Mapping[str, Any]) -> tuple[str, str, str]:
    if measured["accuracy"] is None:
        return "-", "-", f"{measured['comparisons']:,}"
    bounds = " to ".join(f"{bound:.1%}" for bound in measured["interval"])
    return f"{measured['accuracy']:.1%}", bounds, f"{measured['comparisons']:,}"


def benchmark_table(benchmarks: Mapping[str, Any]) -> str:
    """Lay out the overall score and the sections of every benchmark, by model; of rewordings what they lose as well.

    Args:
        benchmarks: name to what benchmark_figures gives.
    """
    rows = [("benchmark", "", "method", "score", "95% interval", "examples", "before", "drop")]
    for figures in benchmarks.values():
        shown = {**figures["methods"], **{f"({name})": table for name, table in figures["reference"].items()}}
        for method, measured in shown.items():
            for line in measured["rows"]:
                if line["level"] == "subset" or line["score"] is None:
                    continue
                name = "" if line["level"] == "section" else figures["title"]
                part = line["name"] if line["level"] == "section" else overall_name({method: measured})
                bounds = " to ".join(f"{100 * bound:.1f}" for bound in line["interval"])
                lost = tuple(f"{100 * line[key]:.1f}" if key in line else "" for key in ("before", "drop"))
                rows.append((name, part, method, f"{100 * line['score']:.1f}", bounds, f"{line['examples']:,}", *lost))
    if not any(drop for *_, drop in rows[1:]):
        rows = [row[:-2] for row in rows]
    notes = [
        f"{figures['title']}: {note}"
        for figures in benchmarks.values()
        for note in benchmark_notes(figures, {method: method for method in figures["methods"]})
    ]
    return "\n".join([columns(rows), *notes])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of cells, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
