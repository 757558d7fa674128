"""Spurious attributes of an answer that can be put on and taken off by rule: what leakage is measured along.

They serve evaluation alone: no training step sees this list (Crome, arXiv 2506.16507, section 3). Adding one leaves
what the answer says as it was; so does taking it off.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
_BULLET = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+(?=\S)", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S)([^\n*]+)\*\*")
_HEADER = re.compile(r"^[ \t]*#{1,6}[ \t]+(?=\S)", re.MULTILINE)
_EMOJI = re.compile(r"[ ]?[\U0001F300-\U0001FAFF\u2600-\u27BF]\uFE0F?")
_OPENING = "Great question! "
_OPENINGS = re.compile(
    r"^\s*(?:(?:that(?:'|’)s a |what a )?(?:great|good|excellent|interesting) question[.!,]*|certainly[!.,]+|"
    r"sure[!.,]+|of course[!.,]+|absolutely[!.,]+)\s+(?=\S)",
    re.IGNORECASE,
)
_CLOSING = " I hope this helps! Let me know if you have any other questions."
_CLOSINGS = re.compile(
    r"\s*(?:i hope (?:this|that) helps[.!]*\s*)?(?:(?:please )?(?:let me know|feel free to ask)[^.!?\n]*[.!]*)\s*$"
    r"|\s*i hope (?:this|that) helps[.!]*\s*$",
    re.IGNORECASE,
)
_PADDING = (
    " There is a lot that one could say here. It is worth taking a moment to think about it. All of this is said with "
    "the question in mind, and with care for how it was put."
)


class StyleAttribute(NamedTuple):
    """An attribute of style.

    Args:
        name: as reports call it.
        present: whether a text has it.
        add, remove: rewrite a text that has it not, or has it.
    """

    name: str
    present: Callable[[str], bool]
    add: Callable[[str], str]
    remove: Callable[[str], str]


def _add_bullets(text: str) -> str:
    # Code is left alone: a bullet before a line of it would break what it says.
    if "```" in text:
        return text
    parts = [part for line in text.split("\n") for part in (_SENTENCE.split(line) if line.strip() else [])]
    return "\n".join(f"- {part}" for part in parts)


def _add_bold(text: str) -> str:
    return re.sub(r"^((?:[^\s*#`-]\S*[ ]){1,3}\S+)", lambda m: f"**{m[1]}**", text, count=1, flags=re.MULTILINE)


def _first_down(text: str) -> str:
    return text[:1].upper() + text[1:]


ATTRIBUTES = (
    StyleAttribute("bullets", lambda t: bool(_BULLET.search(t)), _add_bullets, lambda t: _BULLET.sub("", t)),
    StyleAttribute("bold", lambda t: bool(_BOLD.search(t)), _add_bold, lambda t: _BOLD.sub(r"\1", t)),
    StyleAttribute(
        "header", lambda t: bool(_HEADER.search(t)), lambda t: f"## Answer\n\n{t}", lambda t: _HEADER.sub("", t)
    ),
    StyleAttribute(
        "opening",
        lambda t: bool(_OPENINGS.search(t)),
        lambda t: _OPENING + t,
        lambda t: _first_down(_OPENINGS.sub("", t, count=1)),
    ),
    StyleAttribute(
        "closing offer",
        lambda t: bool(_CLOSINGS.search(t)),
        lambda t: t.rstrip() + _CLOSING,
        lambda t: _CLOSINGS.sub("", t),
    ),
    StyleAttribute(
        "emoji", lambda t: bool(_EMOJI.search(t)), lambda t: t.rstrip() + " \U0001f60a", lambda t: _EMOJI.sub("", t)
    ),
    StyleAttribute(
        "exclamation",
        lambda t: bool(re.search(r"!(?=\s|$)", t)),
        lambda t: re.sub(r"\.(?=\s|$)", "!", t),
        lambda t: re.sub(r"!+(?=\s|$)", ".", t),
    ),
    StyleAttribute(
        "padding",
        lambda t: _PADDING.strip() in t,
        lambda t: t.rstrip() + _PADDING,
        lambda t: t.replace(_PADDING, "").replace(_PADDING.strip(), ""),
    ),
)
"""The attributes, in the order of reports."""


def rewrite(attribute: StyleAttribute, text: str) -> tuple[str, str | None] | None:
    """Rewrite a text to the attribute's other value, and that back.

    Returns:
        The two texts, the second None where going back changes nothing; None where the first rewrite changes nothing,
        leaves nothing, or does not reach the other value.
    """
    had = attribute.present(text)
    once = attribute.remove(text) if had else attribute.add(text)
    if once == text or not once.strip() or attribute.present(once) == had:
        return None
    twice = attribute.add(once) if had else attribute.remove(once)
    usable = twice != once and bool(twice.strip()) and attribute.present(twice) == had
    return once, twice if usable else None
