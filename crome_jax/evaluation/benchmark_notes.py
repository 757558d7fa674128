"""What must be said beside a benchmark's scores: where they are not of the whole of it, and what rewording costs."""

from collections.abc import Mapping, Sequence
from typing import Any


def overall_name(tables: Mapping[str, Any]) -> str:
    """Return what the overall score of these methods' tables is called: of a part of a benchmark, that it is."""
    return "overall" if all(table["complete"] for table in tables.values()) else "overall (partial)"


def shown_part(row: Mapping[str, Any]) -> str:
    """Return what a compared line of a table is called by itself: a subset's name may be that of several."""
    return row["name"] if row["level"] != "subset" or not row["section"] else f"{row['section']}, {row['name']}"


def drop_lines(found: Mapping[str, Any], methods: Sequence[str]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return the parts that are others reworded, each with the rows of methods that say what was lost by that.

    Args:
        found: of benchmark_figures.
        methods: in the order of the rows; of one without figures of a part the row is empty.
    """
    lines = []
    for n, line in enumerate(next(iter(found["methods"].values()))["rows"]):
        rows = [found["methods"][method]["rows"][n] if method in found["methods"] else {} for method in methods]
        if any("drop" in row for row in rows):
            lines.append((line["name"], [row if "drop" in row else {} for row in rows]))
    return lines


def benchmark_notes(found: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Say what is missing or left out, and the mean drop by rewording: of each method, or of all where it is the same.

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
    notes += [f"Mean drop{who}: {said}." for said, who in _by(tables, labels, _mean_drop) if said]
    return notes


def _mean_drop(table: Mapping[str, Any]) -> str:
    """Say by how much rewording lowers a method's accuracy; nothing of a benchmark that rewords nothing."""
    if table.get("drop") is None:
        return ""
    bounds, relative = table["drop_interval"], table["relative_drop"]
    between = f" ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})" if bounds else ""
    share = "" if relative is None else f", on average {100 * relative:.1f}% of the accuracy before"
    return f"{100 * table['drop']:.1f} points{between}{share}".replace("-", "−")


def _number(part: Mapping[str, Any]) -> str:
    few = part["examples"] < part["official"]
    return f"{part['name']} {part['examples']:,} {'of' if few else 'instead of'} {part['official']:,}"


def _by(tables: Mapping[str, Any], labels: Mapping[str, str], key: Any) -> list[tuple[Any, str]]:
    """Return every value of a key with whose it is: nothing where it is that of all."""
    values: dict[Any, list[str]] = {}
    for method, table in tables.items():
        values.setdefault(key(table), []).append(labels.get(method, method))
    return [(value, "" if len(values) == 1 else f" ({', '.join(who)})") for value, who in values.items()]
