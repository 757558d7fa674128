"""What must be said beside a benchmark's scores: where they are not of the whole of it."""

from collections.abc import Mapping
from typing import Any


def overall_name(tables: Mapping[str, Any]) -> str:
    """Return what the overall score of these methods' tables is called: of a part of a benchmark, that it is."""
    return "overall" if all(table["complete"] for table in tables.values()) else "overall (partial)"


def shown_part(row: Mapping[str, Any]) -> str:
    """Return what a compared line of a table is called by itself: a subset's name may be that of several."""
    return row["name"] if row["level"] != "subset" or not row["section"] else f"{row['section']}, {row['name']}"


def benchmark_notes(found: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Say what is missing of a benchmark and what was left out, of each method, or of all where it is the same.

    Args:
        found: of benchmark_figures; merged from several runs, each table has a `left_out` and a `set_aside` of its own.
        labels: method to the name that is shown.
    """
    tables = found["methods"]
    notes = []
    for missing, who in _by(tables, labels, lambda table: tuple(table["missing"])):
        if missing:
            notes.append(
                f"Not the whole benchmark{who}: there was no example of {', '.join(missing)}; the score is of the rest "
                "and does not compare with others'."
            )
    for partial, who in _by(tables, labels, lambda table: tuple(map(_number, table.get("partial", ())))):
        if partial:
            notes.append(
                f"Other numbers of examples than the published benchmark's{who}: {', '.join(partial)}; the score does "
                "not compare with others'."
            )
    for count, who in _by(tables, labels, lambda table: table.get("set_aside", found.get("set_aside", 0))):
        if count:
            records = "record was" if count == 1 else "records were"
            notes.append(f"{count:,} {records} bad and set aside{who}, so the score is of the rest.")
    for count, who in _by(tables, labels, lambda table: table.get("left_out", found["left_out"])):
        if count:
            examples = "example was" if count == 1 else "examples were"
            notes.append(f"{count:,} {examples} left out{who}, since no row has room for the prompt.")
    return notes


def _number(part: Mapping[str, Any]) -> str:
    few = part["examples"] < part["official"]
    return f"{part['name']} {part['examples']:,} {'of' if few else 'instead of'} {part['official']:,}"


def _by(tables: Mapping[str, Any], labels: Mapping[str, str], key: Any) -> list[tuple[Any, str]]:
    """Return every value of a key with whose it is: nothing where it is that of all."""
    values: dict[Any, list[str]] = {}
    for method, table in tables.items():
        values.setdefault(key(table), []).append(labels.get(method, method))
    return [(value, "" if len(values) == 1 else f" ({', '.join(who)})") for value, who in values.items()]
