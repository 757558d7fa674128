"""The facts a text states in single words: numbers, names, members of closed kinds, and words with an opposite."""

import collections
import dataclasses
import functools
import itertools
import random
import re
from collections.abc import Iterable

from crome_jax.augment.oracles.offline.lexicon import KIN, OPPOSITES, SCALE
from crome_jax.augment.oracles.offline.sentences import Document
from crome_jax.augment.words import FUNCTION_WORDS

NUMBER = re.compile(
    r"(?<![\w.,])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w]|[.,]\d)"
    r"|(?<![\w.,])\d+(?:\.\d+)?(?=(?:k?g|mg|[ckm]?m|ml|lbs?|oz|[ap]m|k|[KMG]B|GHz)\b)"
)
NAME = re.compile(r"[A-Z][a-zà-ÿ]+(?:[-'’][A-Z][a-z]+)?(?: (?:of |the |de |von |van )?[A-Z][a-zà-ÿ]+)*")
TOKEN = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*")
TITLE_SHARE = 0.5
"""From this share of capitalised words on a sentence is a title, and its capitals mark no names."""


@dataclasses.dataclass(frozen=True)
class Fact:
    """A word or number whose exchange makes a statement false.

    Args:
        kind: number, scale (a number word), kin (of a closed kind), opposite or name.
        sentence: index of the sentence that holds it.
        start, end: where in the sentence's text.
        before: the word in front of it, lower-cased: names after the same word are often of one sort.
    """

    kind: str
    surface: str
    sentence: int
    start: int
    end: int
    before: str


@functools.lru_cache(maxsize=2048)
def facts(document: Document) -> tuple[Fact, ...]:
    """Find the facts of all editable sentences, in order."""
    return tuple(
        Fact(kind, sentence.text[start:end], index, start, end, _word_before(sentence.text, start))
        for index, sentence in enumerate(document.sentences)
        if sentence.editable
        for kind, start, end in _spans(sentence.text)
    )


def _word_before(text: str, start: int) -> str:
    before = text[max(0, start - 24) : start].split()
    return before[-1].lower() if before else ""


def _spans(text: str) -> tuple[tuple[str, int, int], ...]:
    spans = [("number", m.start(), m.end()) for m in NUMBER.finditer(text)]
    tokens = list(TOKEN.finditer(text))
    capitals = sum(token[0][0].isupper() for token in tokens)
    title = capitals >= max(3, TITLE_SHARE * len(tokens))
    taken: collections.deque[tuple[int, int]] = collections.deque()
    for m in NAME.finditer(text) if capitals else ():
        start, end = m.span()
        while text[start:end].split(" ")[0].lower() in FUNCTION_WORDS and " " in text[start:end]:
            start = text.index(" ", start) + 1
        name = text[start:end]
        opens = not text[:start].strip("\"'“‘(*_ ") or text[:start].rstrip("\"'“‘(*_ ").endswith(
            (":", ".", "!", "?", "]", ")")
        )
        if name in KIN:
            spans.append(("kin", start, end))
        elif title or name.lower() in FUNCTION_WORDS or (opens and " " not in name):
            continue
        else:
            spans.append(("name", start, end))
        taken.append((start, end))
    for m in tokens:
        while taken and taken[0][1] <= m.start():
            taken.popleft()
        if taken and taken[0][0] <= m.start():
            continue
        word = m[0]
        if word in KIN:
            spans.append(("kin", m.start(), m.end()))
        elif word.lower() in SCALE:
            spans.append(("scale", m.start(), m.end()))
        elif word.lower() in OPPOSITES and not text.startswith(",", m.end()):
            spans.append(("opposite", m.start(), m.end()))
    return tuple(sorted(set(spans), key=lambda span: span[1:]))


def other_number(number: str, others: Iterable[str], rng: random.Random) -> str:
    """Return a plausible wrong value: as many digits, the same commas and decimals.

    Half of the time a number of the same form that the text or the question mentions, else one nearby.
    """
    form = _form(number)
    known = sorted({other for other in others if other != number and _form(other) == form})
    if known and rng.random() < 0.5:
        return rng.choice(known)
    digits = number.replace(",", "").replace(".", "")
    low = 10 ** (len(digits) - 1) if digits[0] != "0" and len(digits) > 1 else 1
    high = 10 ** len(digits) - 1
    value = int(digits)
    year = len(number) == 4 and 1000 <= value <= 2100
    reach = 30 if year else max(2, value * 2 // 5)
    near = [
        v
        for v in (rng.randint(max(low, value - reach), min(high, value + reach)) for _ in range(8))
        if v != value and (not year or v <= 2030)
    ]
    new = str(near[0] if near else value - 1 if value > low else value + 1).zfill(len(digits))
    for place, mark in enumerate(number):
        if mark in ",.":
            new = new[:place] + mark + new[place:]
    return new


def _form(number: str) -> str:
    return re.sub(r"\d", "0", number)


def other_word(fact: Fact, rng: random.Random) -> str:
    """Return a member of the same closed kind, a neighbour on the same scale, or the opposite, in the same case."""
    surface = fact.surface
    word = surface if fact.kind == "kin" else surface.lower()
    if fact.kind == "opposite":
        new = OPPOSITES[word]
    elif fact.kind == "scale":
        row = SCALE[word]
        place = row.index(word)
        new = rng.choice([w for w in row[max(0, place - 2) : place + 3] if w != word])
    else:
        # Of names as long as the old one where there are any: "North America" is not to give way to "Asia" only.
        row = [w for w in KIN[word] if w != word]
        new = rng.choice([w for w in row if w.count(" ") == word.count(" ")] or row)
    return new.capitalize() if fact.kind != "kin" and surface[0].isupper() else new


def other_name(fact: Fact, own: Iterable[Fact], foreign: Iterable[Document], rng: random.Random) -> str | None:
    """Return a name to put in place of another: as many words, after the same word if possible, not in its sentence.

    Args:
        own: facts of the answer and the question, from which half of the names come.
        foreign: answers to other prompts, searched only as far as the first that has such a name.
    """
    words = fact.surface.split()
    here = ([o for o in own if o.sentence != fact.sentence],)
    there = map(facts, foreign)
    for source in itertools.chain(there, here) if rng.random() < 0.5 else itertools.chain(here, there):
        names = {
            o.surface: o.before == fact.before
            for o in source
            if o.kind == "name" and len(o.surface.split()) == len(words) and not set(o.surface.split()) & set(words)
        }
        if names:
            alike = [name for name, same in names.items() if same]
            return rng.choice(sorted(alike or names))
    return None
