"""Spurious strata: whether a cue that should not matter pointed at the preferred response or at the other.

They are read for evaluation only. Training sees no list of spurious attributes (Crome, arXiv 2506.16507, section 3).
"""

import functools
import re

from crome_jax.errors import DataError
from crome_jax.groups import PreferenceGroup, Response

EQUAL_LENGTH = 0.1
"""Two responses count as equally long when their word counts differ by at most this share of the longer."""

CUE = ("cue_for_chosen", "balanced", "cue_for_rejected")
LENGTH = ("longer_preferred", "equal", "shorter_preferred")
MARKDOWN = ("more_preferred", "equal", "less_preferred")

_MARKDOWN = re.compile(
    r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+(?=\S)"  # a bullet or a numbered item
    r"|^[ \t]*\#{1,6}[ \t]+(?=\S)"  # a header
    r"|\*\*(?=\S)[^\n*]+\*\*|__(?=\S)[^\n_]+__",  # bold
    re.MULTILINE,
)


def stratify(group: PreferenceGroup, preferred: int, other: int) -> dict[str, str]:
    """Name the stratum of a comparison in every family that applies to it.

    `length` and `markdown` are read from the texts. Where the group's metadata lists `spurious_attributes`
    (comma-separated) and both responses carry them as booleans, `cue` says which response has more of them, and
    `attribute:<name>` says the same of each.

    Args:
        preferred, other: indices of the two responses.

    Returns:
        Family to stratum: one of CUE (also for attributes), LENGTH or MARKDOWN.

    Raises:
        DataError: where a listed attribute is there but is no boolean.
    """
    winner, loser = group.responses[preferred], group.responses[other]
    strata = {}
    held = {name: (_holds(winner, preferred, name), _holds(loser, other, name)) for name in spurious_attributes(group)}
    known = {name: int(ours) - int(its) for name, (ours, its) in held.items() if None not in (ours, its)}
    if known and len(known) == len(held):
        strata["cue"] = _side(sum(known.values()), CUE)
    words = word_count(winner.text), word_count(loser.text)
    longer = 0 if abs(words[0] - words[1]) <= EQUAL_LENGTH * max(words) else words[0] - words[1]
    strata["length"] = _side(longer, LENGTH)
    strata["markdown"] = _side(markdown_count(winner.text) - markdown_count(loser.text), MARKDOWN)
    strata.update({f"attribute:{name}": _side(more, CUE) for name, more in known.items()})
    return strata


def spurious_attributes(group: PreferenceGroup) -> tuple[str, ...]:
    """Return the spurious attributes that the data set says its responses carry."""
    listed = group.metadata.get("spurious_attributes", "")
    return tuple(name.strip() for name in str(listed).split(",") if name.strip())


@functools.lru_cache(maxsize=65536)
def word_count(text: str) -> int:
    """Count the words of a text: runs of characters between white space."""
    return len(text.split())


@functools.lru_cache(maxsize=65536)
def markdown_count(text: str) -> int:
    """Count a text's marks of formatting: list items, headers and bold spans."""
    return len(_MARKDOWN.findall(text))


def _holds(response: Response, index: int, name: str) -> bool | None:
    value = response.metadata.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise DataError(
        f"is {value!r}, not true or false",
        field=f"responses[{index}].metadata[{name!r}]",
        fix="spurious_attributes may list boolean attributes only",
    )


def _side(more: int, names: tuple[str, str, str]) -> str:
    return names[0] if more > 0 else names[2] if more < 0 else names[1]
