"""Order: put steps and sentences where they cannot be followed; or in the order of the better answer.

Two answers seldom say the same in another order: of pairs of UltraFeedback (399) and AlpacaEval (525 prompts), raising
order succeeds for 2 to 3 in a thousand. Nearly all others are declined because the answers go different ways.
"""

import itertools
import random
import re

from crome_jax.augment.oracles.base import Declined, Rewrite
from crome_jax.augment.oracles.offline.alignment import align
from crome_jax.augment.oracles.offline.draft import Draft, quote
from crome_jax.augment.oracles.offline.sentences import MARKUP, Document, Layout
from crome_jax.augment.oracles.offline.slots import fit

MOST_MOVED = 8
"""Longest run of sentences that is put out of order."""

ALIKE = 0.75
"""Similarity from which two sentences count as the same step."""

COVERED = 0.5
"""Share of an answer's sentences that must have a partner: only the same answer in another order has a better order."""

STEP = re.compile(r"^[ \t]*\(?\d{1,3}[.)][ \t]+", re.MULTILINE)
SEQUENCE = re.compile(
    r"\b(?:then|next|after(?:wards?)?|before|finally|once|until|steps?|repeat|now|begin|start)\b", re.IGNORECASE
)
PROCEDURE = re.compile(
    r"\bhow (?:to|do|does|did|can|could|should|would)\b"
    r"|\b(?:steps?|recipe|instructions?|procedure|process|guide|plan)\b",
    re.IGNORECASE,
)


def degrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Shuffle the steps of a numbered list, or a run of sentences: its end comes first, its beginning later."""
    return _shuffle_steps(draft, rng) or _shuffle_sentences(draft, rng) or Declined("no order to break")


def _shuffle_steps(draft: Draft, rng: random.Random) -> Rewrite | None:
    text = str(draft.document)
    bodies = _steps(text)
    told = "\n".join(text[start:end] for start, end in bodies)
    if len(bodies) < 3 or not (SEQUENCE.search(told) or PROCEDURE.search(draft.prompt)):
        return None
    run = _run(len(bodies), rng)
    places = _disorder(len(run), rng)
    moved = {run[a]: text[slice(*bodies[run[b]])] for a, b in enumerate(places)}
    for index, (start, end) in reversed(list(enumerate(bodies))):
        text = text[:start] + moved.get(index, text[start:end]) + text[end:]
    return Rewrite(
        text, f"steps {run[0] + 1} to {run[-1] + 1} in the order " + " ".join(str(run[b] + 1) for b in places)
    )


def _steps(text: str) -> list[tuple[int, int]]:
    """Return where the bodies of the first numbered list of at least three items begin and end."""
    marks = list(STEP.finditer(text))
    bodies: list[tuple[int, int]] = []
    for mark, following in itertools.zip_longest(marks, marks[1:]):
        end = following.start() if following else len(text)
        if not following and (blank := re.search(r"\n[ \t]*\n", text[mark.end() :])):
            end = mark.end() + blank.start()
        body = text[mark.end() : end].rstrip()
        number = int(re.search(r"\d+", mark[0])[0])
        if number != len(bodies) + 1 or not body or "```" in body:
            if len(bodies) >= 3:
                break
            bodies = []
            if number != 1 or not body or "```" in body:
                continue
        bodies.append((mark.end(), mark.end() + len(body)))
    return bodies


def _shuffle_sentences(draft: Draft, rng: random.Random) -> Rewrite | None:
    document = draft.document
    prose = [
        i
        for i, s in enumerate(document.sentences)
        if s.layout is Layout.PROSE and s.movable and not s.text.endswith((",", ":"))
    ]
    if len(prose) < 3:
        return None
    run = [prose[k] for k in _run(len(prose), rng)]
    texts = [document.sentences[i].text for i in run]
    places = _disorder(len(run), rng)
    changes = {run[a]: fit_plain(texts[b], document, run[a]) for a, b in enumerate(places)}
    if all(changes[i] == document.sentences[i].text for i in run):
        return None
    return Rewrite(
        document.replaced(changes), f"{len(run)} sentences in the order " + " ".join(str(b + 1) for b in places)
    )


def fit_plain(text: str, document: Document, index: int) -> str:
    """Fit a sentence to its new place only where it would run into the next: elsewhere it moves as it is."""
    following = document.sentences[index + 1] if index + 1 < len(document.sentences) else None
    runs_on = following is not None and "\n" not in following.lead
    return fit(text, document.sentences[index]) if runs_on and not MARKUP.search(text) else text


def _run(count: int, rng: random.Random) -> range:
    length = min(count, MOST_MOVED)
    start = rng.randrange(count - length + 1)
    return range(start, start + length)


def _disorder(count: int, rng: random.Random) -> list[int]:
    """Return a permutation that begins with the last, and in which the first comes no earlier than third."""
    middle = list(range(1, count - 1))
    rng.shuffle(middle)
    order = [count - 1, *middle]
    order.insert(rng.randrange(2, count) if count > 2 else 1, 0)
    return order


def _in_sequence(document: Document, index: int) -> bool:
    """Tell whether the place of a sentence means something: in running text or a numbered list, not among bullets."""
    sentence = document.sentences[index]
    return sentence.movable and (sentence.layout is Layout.PROSE or bool(STEP.match(sentence.lead.split("\n")[-1])))


def upgrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Put the sentences that the better answer also has in its order."""
    document = draft.document
    pairs = [
        p
        for p in align(document, draft.reference, least=ALIKE)
        if _in_sequence(document, p.left) and _in_sequence(draft.reference, p.right)
    ]
    in_sequence = sum(_in_sequence(document, i) for i in range(len(document.sentences)))
    if len(pairs) < COVERED * in_sequence:
        return Declined("the answers go different ways")
    wanted = sorted(pairs, key=lambda p: p.right)
    if [p.left for p in wanted] == [p.left for p in pairs]:
        return Declined("the order does not differ")
    changes = {
        place.left: fit_plain(document.sentences[p.left].text, document, place.left)
        for place, p in zip(pairs, wanted, strict=True)
        if place.left != p.left
    }
    first = quote(document.sentences[wanted[0].left].text)
    return Rewrite(document.replaced(changes), f"{len(changes)} sentences in the better order, {first} first")
