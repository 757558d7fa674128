"""Factuality: state a number, name or relation wrongly; or take it over from the better answer."""

import difflib
import random
import re

from crome_jax.augment.oracles.base import Declined, Rewrite
from crome_jax.augment.oracles.offline.alignment import align
from crome_jax.augment.oracles.offline.draft import Draft, quote
from crome_jax.augment.oracles.offline.facts import NUMBER, Fact, facts, other_name, other_number, other_word
from crome_jax.augment.oracles.offline.lexicon import KIN, OPPOSITES, SCALE
from crome_jax.augment.oracles.offline.sentences import Layout, parse
from crome_jax.augment.words import FUNCTION_WORDS

WORDS_PER_FACT = 60
"""One more fact is changed for every so many words."""

MOST_FACTS = 4

ALIKE = 0.6
"""Similarity from which two sentences are taken to state the same fact."""

LONGEST_SENTENCE = 80
"""Words and marks from which on a sentence is not compared: the comparison takes the square of its length."""

LONGEST_VALUE = 4
"""Most words of a value that is taken over from the better answer."""

FICTION = re.compile(
    r"\b(?:stor(?:y|ies)|poems?|haikus?|songs?|lyrics|limericks?|fiction(?:al)?|jokes?|riddles?|novel|tale|screenplay"
    r"|role-?play|pretend|imagine|dialogues?|tweets?|slogans?)\b",
    re.IGNORECASE,
)
"""A prompt that asks for invention: there a name or number can be anything."""

_EQUALS = re.compile(r"(?:=|>>) ?[$€£]?$")
_OPERATOR = re.compile(r" ?[-+*/×÷^] ?[\d(.$]")
_VALUE = re.compile(r"\d+(?:[.,]\d+)*|\w+(?:[-'’]\w+)*|[^\w\s]")
_QUANTITY = re.compile(
    r"\bhow (?:many|much|old|long|far|tall|fast|often)\b|\b(?:calculate|compute|solve|evaluate)\b"
    r"|\bwhat (?:is|are) [-(\d]",
    re.IGNORECASE,
)


def applies(prompt: str) -> bool:
    """Tell whether the prompt asks for facts rather than invention."""
    return not FICTION.search(prompt)


def degrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """State a few facts wrongly, each wherever the answer repeats it."""
    if not applies(draft.prompt):
        return Declined("the prompt asks for invention")
    found = facts(draft.document)
    if not found:
        return Declined("no fact to change")
    question = facts(parse(draft.prompt))
    numbers = [fact.surface for fact in (*found, *question) if fact.kind == "number"]
    asked = {fact.surface for fact in question}
    last = max(i for i, s in enumerate(draft.document.sentences) if s.editable)

    def weight(fact: Fact) -> float:
        sentence = draft.document.sentences[fact.sentence]
        result = _EQUALS.search(sentence.text[: fact.start]) and not _OPERATOR.match(sentence.text[fact.end :])
        decides = fact.sentence == last or result
        given = fact.surface in asked and fact.kind == "number"
        bears = len(sentence.content & draft.topic) / (1 + len(sentence.content))
        plain = {"number": 2.0, "name": 1.5, "kin": 1.5, "scale": 1.0, "opposite": 0.7}[fact.kind]
        return plain * (0.2 + bears) * (4.0 if decides else 1.0) * (0.1 if given and not decides else 1.0)

    # A draw without replacement by weight: the largest of u ** (1 / weight) (Efraimidis and Spirakis 2006).
    drawn = sorted(found, key=lambda fact: (-(rng.random() ** (1 / weight(fact))), fact.sentence, fact.start))
    wanted = min(MOST_FACTS, 1 + sum(s.words for s in draft.document.sentences) // WORDS_PER_FACT)
    changes: dict[tuple[str, str], str] = {}
    spots: set[tuple[int, int]] = set()
    for fact in drawn:
        if len(changes) == wanted:
            break
        if _value(fact) in changes:
            continue
        if fact.kind == "number":
            new = other_number(fact.surface.removesuffix(".0"), numbers, rng)
        elif fact.kind == "name":
            new = other_name(fact, [*found, *question], draft.foreign(), rng)
        else:
            new = other_word(fact, rng)
        if new and new not in {old for _, old in changes}:
            changes[_value(fact)] = new
            spots.add((fact.sentence, fact.start))
    if not changes:
        return Declined("no other name to exchange")
    # A relation is reversed once; a number or name is wrong wherever it stands, or the answer would mend itself.
    made = [
        fact
        for fact in found
        if _value(fact) in changes and (fact.kind not in ("opposite", "scale") or (fact.sentence, fact.start) in spots)
    ]
    return Rewrite(
        _substitute(draft, {(f.sentence, f.start): (f.end, _spelled(f, changes[_value(f)])) for f in made}),
        "stated wrongly: " + "; ".join(f"{old!r} as {new!r}" for (_, old), new in changes.items()),
    )


def _value(fact: Fact) -> tuple[str, str]:
    """Return what a fact states: 14 and 14.0 are one number."""
    return fact.kind, fact.surface.removesuffix(".0")


def _spelled(fact: Fact, new: str) -> str:
    return new + ".0" if fact.kind == "number" and fact.surface.endswith(".0") else new


def _substitute(draft: Draft, spots: dict[tuple[int, int], tuple[int, str]]) -> str:
    texts = {index: draft.document.sentences[index].text for index, _ in spots}
    for (index, start), (end, new) in sorted(spots.items(), reverse=True):
        texts[index] = texts[index][:start] + new + texts[index][end:]
    return draft.document.replaced(texts)


def upgrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Where a sentence says what one of the better answer says but for a value, take over the value."""
    if not applies(draft.prompt):
        return Declined("the prompt asks for invention")
    texts: dict[int, str] = {}
    said: list[str] = []
    for pair in align(draft.document, draft.reference, least=ALIKE):
        old, new = draft.document.sentences[pair.left].text, draft.reference.sentences[pair.right].text
        if old != new:
            text, exchanged = _take_values(old, new)
            if exchanged:
                texts[pair.left] = text
                said += exchanged
    if not said and _QUANTITY.search(draft.prompt):
        texts, said = _take_result(draft)
    if not said:
        return Declined("no fact differs")
    return Rewrite(draft.document.replaced(texts), "stated rightly: " + "; ".join(said[:6]))


def _take_values(old: str, new: str) -> tuple[str, list[str]]:
    if "=" in old and "=" in new:
        # Half of a calculation is wrong whatever the other half is.
        return new, [f"{quote(old)} as {quote(new)}"]
    ours, theirs = list(_VALUE.finditer(old)), list(_VALUE.finditer(new))
    if max(len(ours), len(theirs)) > LONGEST_SENTENCE:
        return old, []
    matcher = difflib.SequenceMatcher(None, [m[0] for m in ours], [m[0] for m in theirs], autojunk=False)
    text, exchanged = old, []
    for op, i, j, k, n in reversed(matcher.get_opcodes()):
        if op != "replace" or max(j - i, n - k) > LONGEST_VALUE:
            continue
        start, end = ours[i].start(), ours[j - 1].end()
        value = new[theirs[k].start() : theirs[n - 1].end()]
        if _same_sort(old[start:end], value, first=i == 0):
            text = text[:start] + value + text[end:]
            exchanged.insert(0, f"{old[start:end]!r} as {value!r}")
    return text, exchanged


def _same_sort(old: str, new: str, *, first: bool) -> bool:
    """Tell whether both are numbers, both names, or exchangeable words."""
    if NUMBER.search(old) and NUMBER.search(new):
        # Two calculations are no two values of one fact.
        return not re.search(r"[A-Za-z=*/+]", old + new)
    if any(c in old + new for c in '<>=*`|"'):
        return False
    if old in KIN or old.lower() in SCALE:
        return new in KIN.get(old, ()) or new.lower() in SCALE.get(old.lower(), ())
    if OPPOSITES.get(old.lower()) == new.lower():
        return True
    words = (old + " " + new).split()
    return (
        not first
        and len(old.split()) == len(new.split())
        and all(w[0].isupper() and w.lower() not in FUNCTION_WORDS for w in words)
    )


def _take_result(draft: Draft) -> tuple[dict[int, str], list[str]]:
    """Take over the result: the last number of the last sentence that states one."""
    ours, theirs = (_result(document.sentences) for document in (draft.document, draft.reference))
    if ours is None or theirs is None or ours[2] == theirs[2]:
        return {}, []
    index, start, number = ours
    text = draft.document.sentences[index].text
    new = text[:start] + theirs[2] + text[start + len(number) :]
    return {index: new}, [f"{number!r} as {theirs[2]!r}"]


def _result(sentences) -> tuple[int, int, str] | None:
    for index in range(len(sentences) - 1, max(-1, len(sentences) - 4), -1):
        if sentences[index].layout in (Layout.PROSE, Layout.ITEM) and (
            found := list(NUMBER.finditer(sentences[index].text))
        ):
            return index, found[-1].start(), found[-1][0]
    return None
