"""Alignment: another answer's content in this answer's style."""

import random
import re
from collections.abc import Sequence

from crome_jax.augment.oracles.base import Declined, Rewrite
from crome_jax.augment.oracles.offline.draft import Draft, quote
from crome_jax.augment.oracles.offline.slots import fit

_STOPPED = re.compile(r"[.!?][\"'”’)]*$")


def align(draft: Draft, rng: random.Random) -> Rewrite | Declined:
    """Put the better answer's key sentences, all and in their order, in the places of this one's.

    What is not a key sentence, and the layout, stay: they are the style. Where the better answer has more key
    sentences than there are places, neighbours share one; with fewer, a place would keep its old content, and the
    answers would not be equally good.
    """
    places = sorted(draft.matter(draft.document))
    keys = sorted(draft.matter(draft.reference))
    if not places or len(keys) < len(places):
        return Declined("fewer key sentences than places")
    texts = {}
    for n, place in enumerate(places):
        share = keys[n * len(keys) // len(places) : (n + 1) * len(keys) // len(places)]
        slot = draft.document.sentences[place]
        texts[place] = _joined([fit(draft.reference.sentences[i].text, slot) for i in share])
    return Rewrite(draft.document.replaced(texts), "given the content of: " + "; ".join(map(quote, texts.values())))


def _joined(sentences: Sequence[str]) -> str:
    """Join the sentences of one place, with a semicolon where one has no stop, as items of a list have none."""
    *earlier, last = sentences
    return "".join(text + (" " if _STOPPED.search(text) else "; ") for text in earlier) + last
