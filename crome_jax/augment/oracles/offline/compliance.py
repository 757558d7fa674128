"""Compliance: break a limit the prompt sets, decline what should be answered, answer what should be declined."""

import random

from crome_jax.augment.oracles.base import Declined, Rewrite
from crome_jax.augment.oracles.offline.clauses import beginnings
from crome_jax.augment.oracles.offline.draft import Draft, quote
from crome_jax.augment.oracles.offline.limits import breach
from crome_jax.augment.oracles.offline.refusals import declines, may_deserve_refusal, refusals
from crome_jax.augment.oracles.offline.sentences import Document
from crome_jax.augment.oracles.offline.slots import fill

MOST_DECLINED = 5
"""Most sentences of an answer that give way to a refusal, or the reverse; where the data set does not tell what goes
with either, half of the answer at most."""


def degrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Break a limit, or turn an answer into a refusal, or a refusal into the other answer."""
    document, reference = draft.document, draft.reference
    if refusals(document):
        if reference is None or refusals(reference):
            return Declined("both answers decline")
        return _answer(document, reference, draft, rng)
    if broken := breach(draft, rng):
        return Rewrite(broken[0], f"broke a limit: {broken[1]}")
    wrong = reference is not None and bool(refusals(reference))
    if not wrong and may_deserve_refusal(draft.conversation):
        return Declined("declining might be right")
    if wrong:
        return _refuse(document, reference, draft, rng)
    slots = _deciding(document, draft)
    if not slots:
        return Declined("too few sentences")
    lengths = [document.sentences[i].words for i in slots]
    texts = fill(
        [(i, document.sentences[i]) for i in slots], declines(draft.prompt, document.content, lengths, rng), rng
    )
    if not texts:
        return Declined("nothing of a fitting length")
    return Rewrite(
        document.replaced(texts), "declined in place of: " + "; ".join(quote(document.sentences[i].text) for i in texts)
    )


def upgrade(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Answer where the better answer does, decline where it does."""
    document, reference = draft.document, draft.reference
    ours, theirs = bool(refusals(document)), bool(refusals(reference))
    if ours == theirs:
        return Declined("both answers decline" if ours else "neither answer declines")
    return _answer(document, reference, draft, rng) if ours else _refuse(document, reference, draft, rng)


def _answer(document: Document, other: Document, draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Put an answer's weightiest sentences in place of a refusal and of what goes with it."""
    refused = [i for i in refusals(document) if document.sentences[i].movable]
    places = sorted({*refused, *_deciding(document, draft)})
    sentences = [text for i in sorted(draft.matter(other)) for text in beginnings(other.sentences[i].text)]
    texts = fill([(i, document.sentences[i]) for i in places], sentences, rng, in_order=True)
    if not texts.keys() & set(refused):
        return Declined("nothing of a fitting length")
    return Rewrite(document.replaced(texts), "answered in place of declining: " + "; ".join(map(quote, texts.values())))


def _refuse(document: Document, other: Document, draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Put a refusal and what goes with it in place of an answer's key sentences."""
    places = _deciding(document, draft)
    if not places:
        return Declined("too few sentences")
    refused = refusals(other)
    refusal = [text for i in refused for text in beginnings(other.sentences[i].text)]
    rest = [other.sentences[i].text for i in sorted(draft.matter(other)) if i not in refused]
    texts = fill([(i, document.sentences[i]) for i in places], [*refusal, *rest], rng, in_order=True)
    if not any(text.rstrip(".") in refused for text in texts.values() for refused in refusal):
        return Declined("nothing of a fitting length")
    return Rewrite(document.replaced(texts), "declined in place of answering: " + "; ".join(map(quote, texts.values())))


def _deciding(document: Document, draft: Draft) -> list[int]:
    """Return the key sentences that must change for an answer to become a refusal or the reverse, in their order."""
    most = MOST_DECLINED if draft.told_apart else max(1, min(MOST_DECLINED, (len(document.replaceable) + 1) // 2))
    return sorted(draft.matter(document)[:most])
