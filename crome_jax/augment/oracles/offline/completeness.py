"""Completeness: leave out what matters and say again what is there; or put in what the better answer has more."""

import random

from crome_jax.augment.oracles.base import Declined, Rewrite
from crome_jax.augment.oracles.offline.clauses import drop_member
from crome_jax.augment.oracles.offline.draft import Draft, by_weight, key_sentences, quote, touched
from crome_jax.augment.oracles.offline.sentences import Layout, parse
from crome_jax.augment.oracles.offline.slots import fill
from crome_jax.augment.words import content_words, count_words, overlap

MOST_DROPPED = 0.06
"""Most that a member dropped from an enumeration may be of an answer, in words: nothing makes up for its length."""

SAID = 0.6
"""Share of a sentence's content words that the answer must have for the sentence to count as said."""

RIVAL = 0.5
"""Share of the content words of two sentences, of the fewer, from which on they are about the same."""


def degrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Leave out sentences that say most; in their places stand others of the answer again, or of the question."""
    document = draft.document
    ranked = by_weight(document, draft.topic, draft.rarity)
    if len(ranked) < 3:
        return _shorten_list(draft, rng)
    count = touched(len(ranked))
    # Drawn from the better half, so that the same sentence does not always fall.
    keys = key_sentences(document, draft.topic, draft.rarity)
    weighty = keys[: max(count, (len(ranked) + 1) // 2)]
    count = min(count, len(weighty))
    # For the longest sentence only shorter ones could be said again: without it answers do not shrink on average.
    longest = max(weighty, key=lambda i: document.sentences[i].words)
    if len(weighty) > count:
        weighty = [i for i in weighty if i != longest]
    gone = sorted(rng.sample(weighty, count))
    rest = [document.sentences[i].text for i in ranked if i not in gone]
    if all(document.sentences[i].layout is Layout.PROSE for i in gone):
        rest += [s.text for s in parse(draft.prompt).sentences if s.replaceable]
    texts = fill([(i, document.sentences[i]) for i in gone], rest, rng)
    if not texts:
        return Declined("nothing to say again")
    left_out = "; ".join(quote(document.sentences[i].text) for i in texts)
    return Rewrite(document.replaced(texts), f"left out, for what is said elsewhere: {left_out}")


def _shorten_list(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Drop a member of an enumeration within a sentence."""
    for index, sentence in enumerate(draft.document.sentences):
        if sentence.movable and (shorter := drop_member(sentence.text, rng)):
            text, member = shorter
            if count_words(member) > MOST_DROPPED * sum(s.words for s in draft.document.sentences):
                continue
            return Rewrite(draft.document.replaced({index: text}), f"left out of an enumeration: {quote(member)}")
    return Declined("too few sentences")


def upgrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Put key sentences that only the better answer has in place of what only this one says."""
    document, reference = draft.document, draft.reference
    missing = [
        reference.sentences[i].text
        for i in key_sentences(reference, draft.topic, draft.rarity)
        if reference.sentences[i].content
        and len(reference.sentences[i].content & document.content) < SAID * len(reference.sentences[i].content)
    ]
    if not missing:
        return Declined("nothing is missing")
    # What the better answer does not say gives way first, the weightiest before all; then what says least. Stock
    # phrases stay: an upgrade that took their places would teach that it is better to have none.
    keys = [
        i
        for i in key_sentences(document, draft.topic, draft.rarity)
        if document.sentences[i].layout is not Layout.INTRODUCTION
    ]
    if not keys or len(document.replaceable) < 2:
        return Declined("too few sentences")
    unsaid = [i for i in keys if overlap(document.sentences[i].content, reference.content) < SAID]
    places = unsaid + [i for i in reversed(keys) if i not in unsaid]
    count = touched(len(document.replaceable))
    # Before all, what says something else of the same: left standing, it would contradict what is put in.
    texts: dict[int, str] = {}
    for place in keys:
        sentence = document.sentences[place]
        if sentence.content <= reference.content:
            continue
        rival = max(missing, key=lambda text: overlap(content_words(text), sentence.content), default="")
        if len(texts) == count or overlap(content_words(rival), sentence.content) < RIVAL:
            continue
        if exchanged := fill([(place, sentence)], [rival], rng):
            texts |= exchanged
            missing.remove(rival)
    rest = [(i, document.sentences[i]) for i in places if i not in texts]
    texts |= fill(rest[: count - len(texts)], missing, rng)
    if not texts:
        return Declined("nothing of a fitting length")
    return Rewrite(document.replaced(texts), "put in: " + "; ".join(map(quote, texts.values())))
