"""Numbers that papers publish, to stand beside ours where the same benchmark was run: each with where it was read."""

from typing import NamedTuple


class Published(NamedTuple):
    """A published score.

    Args:
        system: what was measured.
        score: in percent, or in points where `difference` is true.
        source: where the number is.
        difference: whether it is a gain over the paper's own baseline, not a score.
    """

    system: str
    score: float
    source: str
    difference: bool = False


_CROME = "arXiv 2506.16507, abstract"
_RRM = "arXiv 2409.13156, abstract"

PUBLISHED = {
    "rewardbench": (
        Published("Gemma-2-9b-it, pairwise, trained plainly", 80.61, _RRM),
        Published("Gemma-2-9b-it, pairwise, trained with RRM", 84.15, _RRM),
        Published("Crome over standard baselines, average, up to", 5.4, _CROME, difference=True),
        Published("Crome over standard baselines, best section, up to", 13.2, _CROME, difference=True),
        Published("Crome over standard baselines, second section, up to", 7.2, _CROME, difference=True),
    ),
}
"""Benchmark to its published numbers, as far as they could be read at their source: no more are printed."""
