"""Put sentences into the places of others so that neither length nor layout gives the exchange away."""

import random
import re
from collections.abc import Iterable, Sequence

from crome_jax.augment.oracles.offline.band import WORD_SLACK
from crome_jax.augment.oracles.offline.sentences import MARKUP, Sentence
from crome_jax.augment.words import count_words

NEAREST = 3
"""Of this many candidates nearest in length one is drawn: the nearest alone would always be the same."""

REACH = 0.5
"""Most by which a substitute's length may differ from its slot's, as a share of the slot's."""

SIDE = 0.2
"""How much farther in length, as a share of the slot's, a candidate counts on the side that was not drawn."""

_INLINE = re.compile(r"\*\*|__|`")
_STOP = re.compile(r"[.!?]+$")


def fit(text: str, slot: Sentence) -> str:
    """Return a sentence in the manner of its slot: no inline markup, ended and capitalised as the slot is."""
    text = _INLINE.sub("", text).strip()
    stopped = _STOP.search(slot.text)
    if stopped and not text.endswith((".", "!", "?", ".”", '."', ".)")):
        text = text.rstrip(":;,") + "."
    elif not stopped and not slot.text.endswith((".”", '."', ".)")):
        text = re.sub(r"(?<!\.)\.$", "", text)
    if slot.text[:1].isupper() and text[:1].islower():
        text = text[0].upper() + text[1:]
    return text


def within_reach(words: int, slot: int) -> bool:
    """Tell whether a sentence of so many words may stand in for one of `slot` words."""
    return abs(words - slot) <= max(WORD_SLACK - 1, REACH * slot)


def fill(
    slots: Iterable[tuple[int, Sentence]], candidates: Sequence[str], rng: random.Random, *, in_order: bool = False
) -> dict[int, str]:
    """Choose for each slot a candidate near it in length, and make up in the next slot what one was too long or short.

    Args:
        slots: index and sentence of each place to fill, in order of importance.
        candidates: texts to draw from.
        in_order: whether those drawn come in the order of the candidates, where the slots are.

    Returns:
        index -> new text; a slot for which nothing is near enough is left out.
    """
    pool = [(count_words(text), text) for text in dict.fromkeys(candidates) if not MARKUP.search(_INLINE.sub("", text))]
    carried = 0
    filled: dict[int, tuple[Sentence, str]] = {}
    for index, slot in slots:
        # Sentences that matter are longer than those that do not: the nearest alone would shorten most answers, and
        # length would tell the edited one. So a side is drawn first, and candidates on the other stand back a little.
        longer = carried < 0 if carried else rng.random() < 0.5
        near = sorted(
            (
                abs(words + carried - slot.words)
                + (SIDE * slot.words if words != slot.words and (words > slot.words) != longer else 0),
                place,
            )
            for place, (words, text) in enumerate(pool)
            if within_reach(words, slot.words) and text != slot.text
        )[:NEAREST]
        if not near:
            continue
        _, place = rng.choice(near)
        words, text = pool.pop(place)
        carried += words - slot.words
        filled[index] = slot, text
    texts = [text for _, text in filled.values()]
    if in_order:
        texts.sort(key=candidates.index)
    return {index: fit(text, slot) for (index, (slot, _)), text in zip(filled.items(), texts, strict=True)}
