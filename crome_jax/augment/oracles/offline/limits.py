"""Limits a prompt sets in so many words, and how an answer that keeps one can be made to break it."""

import random
import re
from collections.abc import Callable

from crome_jax.augment.oracles.offline.draft import Draft, touched
from crome_jax.augment.oracles.offline.sentences import Layout
from crome_jax.augment.words import WORD, content_words

_NUMBERS = {
    name: n
    for n, name in enumerate(WORD.findall("zero one two three four five six seven eight nine ten eleven twelve"))
} | {"a single": 1, "fifteen": 15, "twenty": 20}
_COUNT = rf"(?P<count>\d{{1,2}}|{'|'.join(_NUMBERS)})"
_SENTENCES = re.compile(
    rf"\b(?:in|exactly|with|using|write|of) (?:exactly |only |just )?{_COUNT} sentences?\b", re.IGNORECASE
)
_ITEMS = re.compile(
    rf"\b{_COUNT} (?:\w+[ -]){{0,2}}?(?!sentences|words|paragraphs|years|minutes|hours)[a-z]{{3,}}s\b", re.IGNORECASE
)
_CASE = re.compile(
    r"\b(?:(?P<lower>lower-? ?case)|(?P<upper>upper-? ?case|all caps|all capital letters))\b", re.IGNORECASE
)
_WORDING = re.compile(
    r"\b(?:includ\w*|us(?:es?|ing)|contain\w*|mention\w*)\b[^.\n]{0,30}?\b(?:words?|phrases?|terms?|keywords?)\b[^.\n]{0,12}?"
    r"[\"“'‘](?P<word>[^\"”'’\n]{2,40})[\"”'’]",
    re.IGNORECASE,
)
_JOINT = re.compile(r",? (?:and|but|so) (?=(?:it|they|he|she|we|I|you|this|that|the|a|an|there)\b)")

Breach = tuple[str, str]
"""The text that breaks the limit, and what was done."""


def breach(draft: Draft, rng: random.Random) -> Breach | None:
    """Break the first limit that the prompt sets and the answer keeps; None where none is found."""
    tries: tuple[Callable[[Draft, random.Random], Breach | None], ...] = (_sentences, _case, _wording, _items)
    return next((done for limit in tries if (done := limit(draft, rng))), None)


def _count(found: re.Match) -> int:
    count = found["count"].lower()
    return int(count) if count.isdigit() else _NUMBERS[count]


def _sentences(draft: Draft, rng: random.Random) -> Breach | None:
    found = _SENTENCES.search(draft.prompt)
    prose = [i for i, s in enumerate(draft.document.sentences) if s.layout is Layout.PROSE]
    if not found or len(prose) != _count(found):
        return None
    for i in prose:
        text = draft.document.sentences[i].text
        if joint := _JOINT.search(text):
            rest = text[joint.end() :]
            split = f"{text[: joint.start()]}. {rest[0].upper()}{rest[1:]}"
            return draft.document.replaced({i: split}), f"{len(prose) + 1} sentences where {found[0]!r} was asked"
    for i in prose[:-1]:
        first, second = (draft.document.sentences[k] for k in (i, i + 1))
        if i + 1 in prose and second.lead.strip() == "" and first.text.endswith("."):
            changes = {i: first.text[:-1] + ";", i + 1: second.text[:1].lower() + second.text[1:]}
            return draft.document.replaced(changes), f"{len(prose) - 1} sentences where {found[0]!r} was asked"
    return None


def _case(draft: Draft, rng: random.Random) -> Breach | None:
    found = _CASE.search(draft.prompt)
    text = str(draft.document)
    if not found or not (text.islower() if found["lower"] else text.isupper()):
        return None
    places = list(draft.document.replaceable) or [i for i, s in enumerate(draft.document.sentences) if s.editable]
    changes = {}
    for i in rng.sample(places, touched(len(places))):
        old = draft.document.sentences[i].text
        changes[i] = old.title() if found["lower"] else old.lower()
    return draft.document.replaced(changes), f"letters in another case than {found[0]!r} in {len(changes)} sentences"


def _wording(draft: Draft, rng: random.Random) -> Breach | None:
    found = _WORDING.search(draft.prompt)
    if not found:
        return None
    word = found["word"].strip()
    text = str(draft.document)
    pattern = re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)
    others = sorted(content_words(text) - content_words(word))
    if not pattern.search(text) or not others:
        return None
    nearest = sorted(others, key=lambda other: (abs(len(other) - len(word)), other))[:3]
    new = rng.choice(nearest)
    return pattern.sub(lambda m: new, text), f"{new!r} where {word!r} was asked for"


def _items(draft: Draft, rng: random.Random) -> Breach | None:
    found = _ITEMS.search(draft.prompt)
    document = draft.document
    items = [i for i, s in enumerate(document.sentences) if s.layout is Layout.ITEM and ("\n" in s.lead or i == 0)]
    if not found or len(items) != _count(found) or len(items) < 3:
        return None
    last, before = items[-1], items[-2]
    closed = last + 1 == len(document.sentences) or "\n" in document.sentences[last + 1].lead
    if last != before + 1 or not closed or "**" in document.sentences[last].lead:
        return None
    # The last item goes on in the line of the one before: all of its words stay, and one marker less is the breach.
    parts = [s.lead + s.text for s in document.sentences]
    joined = parts[before].rstrip(".") + "; " + document.sentences[last].text
    text = "".join([*parts[:before], joined, *parts[last + 1 :]]) + document.tail
    return text, f"{len(items) - 1} items where {found[0]!r} were asked"
