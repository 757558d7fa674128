"""What an edit must hold constant: length within a band, and the marks of formatting."""

import re

from crome_jax.augment.words import count_words

LENGTH_BAND = 0.25
"""Most by which an edit may change the number of words or characters, as a share of the text's."""

WORD_SLACK = 4
"""Words an edit may always add or drop: a quarter of a short answer is less than a word."""

CHARACTER_SLACK = 24
"""Characters an edit may always add or drop."""

LINE_SLACK = 1
"""Lines and list markers an edit may add or drop; only breaking an asked-for number of items uses it."""

MARKS = {
    "lines": re.compile(r"\n"),
    "bullets": re.compile(r"^[ \t]*[-*+•‣–][ \t]", re.MULTILINE),
    "numbers": re.compile(r"^[ \t]*\(?(?:\d{1,3}|[A-Za-z])[.)][ \t]", re.MULTILINE),
    "headings": re.compile(r"^[ \t]*#{1,6}[ \t]", re.MULTILINE),
    "bold": re.compile(r"\*\*|__"),
    "code": re.compile(r"`"),
    "tables": re.compile(r"^[ \t]*\|", re.MULTILINE),
}
SLACK = {"lines": LINE_SLACK, "bullets": LINE_SLACK, "numbers": LINE_SLACK}


def formatting(text: str) -> dict[str, int]:
    """Return how often each mark of formatting occurs."""
    return {name: sum(1 for _ in mark.finditer(text)) for name, mark in MARKS.items()}


def leaves_band(before: str, after: str) -> str | None:
    """Return which band an edit leaves, None where it keeps both.

    Args:
        before: the text that was edited.
        after: the edited text.
    """
    for old, new, slack in (
        (count_words(before), count_words(after), WORD_SLACK),
        (len(before), len(after), CHARACTER_SLACK),
    ):
        if abs(new - old) > max(slack, LENGTH_BAND * old):
            return "outside the length band"
    marks = formatting(after)
    if any(abs(marks[name] - count) > SLACK.get(name, 0) for name, count in formatting(before).items()):
        return "outside the formatting band"
    return None
