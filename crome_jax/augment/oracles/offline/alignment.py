"""Which sentence of one text says what a sentence of another says."""

import collections
import dataclasses
import functools

from crome_jax.augment.oracles.offline.sentences import Document, Sentence
from crome_jax.augment.words import WORD

COMMON = 12
"""A word in more sentences than this finds no partners: it keeps the work linear in the length of the texts."""


@dataclasses.dataclass(frozen=True)
class Aligned:
    """Sentence `left` of the first text and `right` of the second."""

    left: int
    right: int


def align(left: Document, right: Document, *, least: float) -> list[Aligned]:
    """Pair the sentences of two texts one to one, most alike first.

    Args:
        least: smallest similarity (Dice coefficient of the sets of words, all numbers counting as one word) to pair at.

    Returns:
        pairs in the order of the first text.
    """
    where: dict[str, list[int]] = collections.defaultdict(list)
    for j, sentence in enumerate(right.sentences):
        if sentence.editable:
            for word in _shape(sentence):
                where[word].append(j)
    found = []
    for i, sentence in enumerate(left.sentences):
        if not sentence.editable:
            continue
        shape = _shape(sentence)
        partners = {j for word in shape if len(where.get(word, ())) <= COMMON for j in where.get(word, ())}
        for j in partners:
            other = _shape(right.sentences[j])
            similarity = 2 * len(shape & other) / (len(shape) + len(other))
            if similarity >= least:
                found.append((-similarity, abs(i - j), i, j))
    pairs, lefts, rights = [], set(), set()
    for _, _, i, j in sorted(found):
        if i not in lefts and j not in rights:
            pairs.append(Aligned(i, j))
            lefts.add(i)
            rights.add(j)
    return sorted(pairs, key=lambda pair: pair.left)


def _shape(sentence: Sentence) -> frozenset[str]:
    return _shape_of(sentence.text)


@functools.lru_cache(maxsize=8192)
def _shape_of(text: str) -> frozenset[str]:
    return frozenset("#" if word[0].isdigit() else word.lower() for word in WORD.findall(text))
