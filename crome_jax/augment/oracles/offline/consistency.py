"""Consistency: deny a claim the rest of the answer makes; or agree with the better answer on what is and is not.

Two answers seldom make one claim the other way round in nearly the same words: of pairs of UltraFeedback (399) and
AlpacaEval (525 prompts), raising consistency succeeds for 1 to 3 in a thousand.
"""

import random
import re

from crome_jax.augment.oracles.base import Declined, Rewrite
from crome_jax.augment.oracles.offline.alignment import align
from crome_jax.augment.oracles.offline.draft import Draft, key_sentences, quote, touched, weights
from crome_jax.augment.oracles.offline.sentences import Layout
from crome_jax.augment.words import WORD

ALIKE = 0.75
"""Similarity from which two sentences make the same claim, denied or not."""

_FINITE = WORD.findall("is are was were can could will would should must may might does do did has have had")
_NEGATIVE = {
    "can": "cannot",
    "may": "may not",
    **{verb: f"{verb} not" for verb in _FINITE if verb not in ("can", "may")},
}
_CONTRACTED = {
    **{f"{verb}n't": verb for verb in _FINITE},
    "can't": "can",
    "won't": "will",
    "cannot": "can",
}
_POLAR = re.findall(
    r"(\w+)/(\w+)",
    "yes/no always/never possible/impossible likely/unlikely able/unable everyone/nobody everything/nothing"
    " agree/disagree agrees/disagrees necessary/unnecessary true/false correct/incorrect certain/uncertain"
    " appropriate/inappropriate accurate/inaccurate",
)
POLAR = {a: b for pair in _POLAR for a, b in (pair, pair[::-1])}

_NEGATIVE_POLAR = frozenset(negative for _, negative in _POLAR)

_DENIED = re.compile(
    rf"\b(?P<verb>{'|'.join(_FINITE)}) not\b(?! only)|\b(?P<contracted>{'|'.join(sorted(_CONTRACTED))})\b",
    re.IGNORECASE,
)
_AFFIRMED = re.compile(
    r"\b(?P<verb>is|are|was|were|can|could|will|would|should|must)"
    r"(?= (?!(?:not|no|only|it|they|there|you|we|he|she|I)\b|n't)[A-Za-z])"
    r"|\b(?P<perfect>has|have|had)(?= (?:been|become|made|taken|\w{2,}ed)\b)",
)
_POLAR_WORD = re.compile(
    # 'No' before a noun is no answer.
    rf"\b(?:{'|'.join(word for word in POLAR if word not in ('yes', 'no'))}|(?:yes|no)(?=[,.;:!]|$))\b",
    re.IGNORECASE,
)
_OPENING = re.compile(r"(?P<answer>yes|no)\b(?P<gap>[,.;:!]+ )", re.IGNORECASE)
_EMPHASIS = re.compile(
    r" (?:also|very|really|quite|indeed|certainly|truly|simply|actually|generally|typically|often|usually)\b"
)
"""One word that may go where 'not' comes, so that denials do not add up to longer answers."""


def flip(claim: str) -> str | None:
    """Return the claim denied, or affirmed if it was denied; None where no finite verb or polar word is found."""
    if (opened := _OPENING.match(claim)) and (rest := flip(claim[opened.end() :])):
        return _opposite(opened["answer"]) + opened["gap"] + rest
    if found := _DENIED.search(claim):
        affirmed = found["verb"] or _CONTRACTED[found["contracted"].lower()]
        if found["contracted"] and found["contracted"][0].isupper():
            affirmed = affirmed.capitalize()
        return claim[: found.start()] + affirmed + claim[found.end() :]
    if found := _POLAR_WORD.search(claim):
        opposite = _opposite(found[0])
        return _article(claim[: found.start()], opposite) + opposite + claim[found.end() :]
    if found := _AFFIRMED.search(claim):
        verb = found["verb"] or found["perfect"]
        after = claim[found.end() :]
        if emphasis := _EMPHASIS.search(after):
            after = after[: emphasis.start()] + after[emphasis.end() :]
        return claim[: found.start()] + _NEGATIVE[verb] + after
    return None


def _opposite(word: str) -> str:
    opposite = POLAR[word.lower()]
    return opposite.capitalize() if word[0].isupper() else opposite


def _article(before: str, word: str) -> str:
    """Make a final 'a' or 'an' agree with the word that now follows it."""
    article = "an" if word[0].lower() in "aeiou" else "a"
    return re.sub(r"\b(a)n?( )$", rf"{article}\2", before)


def denials(claim: str) -> int:
    """Return the number of denials in a sentence."""
    polar = sum(word.lower() in _NEGATIVE_POLAR for word in _POLAR_WORD.findall(claim))
    return polar + sum(1 for _ in _DENIED.finditer(claim))


def degrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Turn some of the weightier claims into their denial, or the other way round."""
    document = draft.document
    claims = [
        i
        for i, s in enumerate(document.sentences)
        if s.layout in (Layout.PROSE, Layout.ITEM) and not s.text.endswith("?")
    ]
    keys = set(key_sentences(document, draft.topic, draft.rarity))
    claims = [i for i in claims if i in keys] or claims
    flipped = {i: text for i in claims if (text := flip(document.sentences[i].text))}
    if not flipped:
        return Declined("no claim to deny")
    weighed = weights(document, draft.topic, draft.rarity)
    most = max(weighed.values(), default=0.0) or 1.0
    denied = {i for i in flipped if denials(document.sentences[i].text)}

    def rank(i: int) -> tuple[float, int]:
        # Denials to take back come first: or 'not' itself would tell the worse answer.
        bears = weighed.get(i, 0.0) / most
        return -(bears + 0.5 * rng.random() + (0.3 if i in denied else 0)), i

    drawn = sorted(sorted(flipped, key=rank)[: touched(len(claims))])
    said = "; ".join(quote(flipped[i], 10) for i in drawn)
    return Rewrite(document.replaced({i: flipped[i] for i in drawn}), f"turned into the contrary: {said}")


def upgrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Turn claims that the better answer makes the other way round."""
    document = draft.document
    changes = {}
    for pair in align(document, draft.reference, least=ALIKE):
        ours, theirs = document.sentences[pair.left].text, draft.reference.sentences[pair.right].text
        if denials(ours) % 2 != denials(theirs) % 2 and (text := flip(ours)):
            changes[pair.left] = text
    if not changes:
        return Declined("no claim is denied by the other answer")
    return Rewrite(
        document.replaced(changes), "turned into the contrary: " + "; ".join(quote(t, 10) for t in changes.values())
    )
