"""Numbers that papers publish, to stand beside ours where the same benchmark was run: each with where it was read."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Published(NamedTuple):
    """A published score.

    Args:
        system: what was measured.
        score: in percent, or in points where `difference` is true.
        source: where the number is.
        difference: whether it is a gain over the paper's own baseline, not a score.
        section: of the benchmark that it is of, as our table calls it; None is the overall score.
    """

    system: str
    score: float
    source: str
    difference: bool = False
    section: str | None = None


_CROME = "arXiv 2506.16507, abstract"
# The abstract says 13.2 and 7.2 "in specific categories", not which.
_CROME_SECTIONS = "arXiv 2506.16507; hundredths and section as read in a public summary (abstract: {})"
_RRM = "arXiv 2409.13156, abstract"

PUBLISHED = {
    "rewardbench": (
        Published("Gemma-2-9b-it, pairwise, trained plainly", 80.61, _RRM),
        Published("Gemma-2-9b-it, pairwise, trained with RRM", 84.15, _RRM),
        Published("Crome over standard baselines, average, up to", 5.4, _CROME, difference=True),
        Published("Crome over standard baselines, up to", 13.18, _CROME_SECTIONS.format(13.2), True, "Safety"),
        Published("Crome over standard baselines, up to", 7.19, _CROME_SECTIONS.format(7.2), True, "Reasoning"),
    ),
}
"""Benchmark to its published numbers, as far as they could be read at their source: no more are printed."""


def shown_score(entry: Mapping[str, Any]) -> str:
    """Return the number of a published entry in words."""
    return f"+{entry['score']} points" if entry["difference"] else str(entry["score"])


def shown_beside(entries: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> str:
    """Return the published numbers of a row of a benchmark's table, each with its place among the entries, from 1.

    Args:
        entries: of the benchmark, as Published._asdict gives them.
        row: `name` and `level` of a line of our table.
    """
    part = {"overall": None, "section": row["name"]}.get(row["level"], "")
    return ", ".join(f"{shown_score(e)} [{n}]" for n, e in enumerate(entries, 1) if e["section"] == part) or "–"
