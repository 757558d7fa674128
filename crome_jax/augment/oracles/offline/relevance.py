"""Relevance: let sentences speak of something else; or bring those that do back to the question."""

import random

from crome_jax.augment.oracles.base import Declined, Rewrite
from crome_jax.augment.oracles.offline.draft import Draft, key_sentences, quote, touched
from crome_jax.augment.oracles.offline.slots import fill, within_reach
from crome_jax.augment.words import overlap

FOREIGN = 0.15
"""Most of its content words that a borrowed sentence may share with the question or the answer's own."""

STRAY = 0.15
"""A sentence that shares at most this much with the question and the better answer is taken to be off topic."""


def degrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Put sentences of answers to other prompts in place of those that bear most on this one."""
    document = draft.document
    keys = key_sentences(document, draft.topic, draft.rarity)
    if not keys:
        return Declined("too few sentences")
    count = min(touched(len(document.replaceable)), len(keys))
    slots = rng.sample(keys[: max(count, (len(document.replaceable) + 1) // 2)], count)
    lengths = [document.sentences[i].words for i in slots]
    foreign = [
        sentence.text
        for answer in draft.foreign()
        for sentence in map(answer.sentences.__getitem__, key_sentences(answer, frozenset(), draft.rarity))
        if any(within_reach(sentence.words, length) for length in lengths)
        and sentence.content
        and _share(sentence.content, draft.topic) <= FOREIGN
    ]
    texts = fill([(i, document.sentences[i]) for i in slots], foreign, rng)
    if not texts:
        return Declined("nothing of a fitting length")
    said = "; ".join(f"{quote(document.sentences[i].text, 5)} by {quote(new, 5)}" for i, new in texts.items())
    return Rewrite(document.replaced(texts), f"replaced by what answers another prompt: {said}")


def upgrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Put the better answer's weightiest sentences in place of those that are off topic."""
    document, reference = draft.document, draft.reference
    known = draft.topic | reference.content
    # Without regard to the topic: what says most of something else is furthest off it. Stock phrases say nothing, and
    # stay: an upgrade that took their places would teach that it is better to have none.
    ranked = key_sentences(document, frozenset(), draft.rarity)
    stray = [i for i in ranked if overlap(document.sentences[i].content, known) <= STRAY]
    if not stray:
        return Declined("nothing is off topic")
    present = {sentence.text for sentence in document.sentences}
    key = [reference.sentences[i].text for i in key_sentences(reference, draft.topic, draft.rarity)]
    key = [text for text in key if text not in present]
    count = touched(len(document.replaceable))
    texts = fill([(i, document.sentences[i]) for i in stray[:count]], key[: 3 * count], rng)
    if not texts:
        return Declined("nothing of a fitting length")
    said = "; ".join(f"{quote(document.sentences[i].text, 5)} by {quote(new, 5)}" for i, new in texts.items())
    return Rewrite(document.replaced(texts), f"brought back to the question: {said}")


def _share(words: frozenset[str], topic: frozenset[str]) -> float:
    return len(words & topic) / len(words)
