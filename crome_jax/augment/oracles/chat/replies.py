"""What a model replied, read strictly: the asked form, or one of few reasons why it is none."""

import json
import re
import unicodedata
from typing import Any

from crome_jax.augment.oracles.base import (
    EVERY_ATTRIBUTE,
    NO_ATTRIBUTE,
    Declined,
    Direction,
    Judgement,
    Question,
    Reply,
    Request,
    Rewrite,
    Verdict,
)
from crome_jax.augment.oracles.chat.cache import Completion
from crome_jax.augment.oracles.chat.envelopes import unseal
from crome_jax.augment.oracles.chat.prompts import Rendered
from crome_jax.augment.rubrics import Rubric
from crome_jax.augment.words import WORD, stem

NOT_JSON = Declined("reply is not JSON")
NOT_ASKED = Declined("reply is not of the asked form")
EMPTY = Declined("reply is empty")
CUT_SHORT = Declined("reply is cut short")
TOO_LARGE = Declined("reply is too large")
REFUSED = Declined("refused to rewrite")
COPIED = Declined("reply copies the lines around the data")
NO_ATTRIBUTES = Declined("reply names no usable attribute")

MALFORMED = (NOT_JSON, NOT_ASKED, EMPTY, CUT_SHORT, COPIED, NO_ATTRIBUTES)
"""What another sample may do better."""

MOST_NAME_WORDS = 6
MOST_NAME_CHARACTERS = 60
MOST_SENTENCE_CHARACTERS = 400

# How a model that thinks aloud begins; some templates write the opening tag into the prompt.
_THOUGHT = re.compile(r"\A\s*(?:<think>.*?|[^{]*?)</think>", re.DOTALL)
_FENCE = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)


def parse(request: Request, rendered: Rendered, completion: Completion) -> Reply:
    """Read the reply to a request."""
    if completion.finish == "too large":
        return TOO_LARGE
    if completion.finish == "refusal":
        return REFUSED
    if completion.finish == "length":
        return CUT_SHORT
    if isinstance(request, Question):
        return parse_rubrics(completion.content, request.count)
    if isinstance(request, Judgement):
        return parse_verdict(completion.content, rendered.swapped)
    return parse_rewrite(completion.content, rendered.key)


def parse_rubrics(content: str, count: int) -> tuple[Rubric, ...] | Declined:
    """Read the attributes of a reply: names normalised, each one once, at most `count`, in the reply's order.

    A name is lower case, of at most six words; names of the same words in another order or form are one attribute. An
    entry that is none is passed over.
    """
    value = _parse(content, {"attributes": list})
    if isinstance(value, Declined):
        return value
    rubrics: dict[frozenset[str], Rubric] = {}
    for entry in value["attributes"]:
        if not isinstance(entry, dict) or entry.keys() != {"name", "definition"}:
            return NOT_ASKED
        if not all(isinstance(text, str) for text in entry.values()):
            return NOT_ASKED
        name, definition = _name(entry["name"]), _sentence(entry["definition"])
        if name is not None and definition is not None:
            rubrics.setdefault(frozenset(stem(word) for word in WORD.findall(name)), Rubric(name, definition))
    return tuple(rubrics.values())[:count] or NO_ATTRIBUTES


def parse_rewrite(content: str, key: str | None = None) -> Rewrite | Declined:
    """Read a rewritten answer; what kind of text it is `verification.py` looks at.

    Args:
        key: of the lines around the data, which no text of the data holds.
    """
    value = _parse(content, {"declined": bool, "text": str, "edit": str})
    if isinstance(value, Declined):
        return value
    if value["declined"]:
        return REFUSED
    if not value["text"].strip():
        return EMPTY
    if key is not None and key in value["text"]:
        return COPIED
    return Rewrite(unseal(value["text"]).strip(), _sentence(value["edit"]) or "rewritten by the oracle")


def parse_verdict(content: str, swapped: bool) -> Verdict | Declined:
    """Read a verdict.

    Args:
        swapped: whether the rewritten answer stood first.
    """
    value = _parse(content, {"better": str, "otherwise_equal": bool})
    if isinstance(value, Declined):
        return value
    if value["better"] not in ("first", "second", "neither"):
        return NOT_ASKED
    after = "first" if swapped else "second"
    moved = {"neither": None, after: Direction.UPGRADE}.get(value["better"], Direction.DEGRADE)
    return Verdict(moved, value["otherwise_equal"])


def _parse(content: str, fields: dict[str, type]) -> dict[str, Any] | Declined:
    """Return the one JSON object that the reply is, with just these fields; a code fence around it is let pass."""
    content = _THOUGHT.sub("", content, count=1)
    if not content.strip():
        return EMPTY
    fenced = _FENCE.match(content)
    try:
        value = json.loads(fenced[1] if fenced else content, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return NOT_JSON
    if not isinstance(value, dict) or value.keys() != fields.keys():
        return NOT_ASKED
    return value if all(type(value[name]) is kind for name, kind in fields.items()) else NOT_ASKED


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a field comes twice")
    return dict(pairs)


def _name(text: str) -> str | None:
    text = unicodedata.normalize("NFKC", text).replace("_", " ").replace("+", " and ")
    name = " ".join(text.casefold().split()).strip(" .,:;-–*\"'`")
    if not _printable(name) or len(name) > MOST_NAME_CHARACTERS or name in (EVERY_ATTRIBUTE, NO_ATTRIBUTE):
        return None
    return name if 1 <= len(WORD.findall(name)) <= MOST_NAME_WORDS else None


def _sentence(text: str) -> str | None:
    text = " ".join(text.split())[:MOST_SENTENCE_CHARACTERS]
    return text if _printable(text) else None


def _printable(text: str) -> bool:
    return text.isprintable() or not any(unicodedata.category(char) in ("Cc", "Cs") for char in text)
