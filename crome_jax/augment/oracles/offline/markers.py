"""Which words go with declining and which with answering: what a refusal is made of, and what is said around it."""

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Mapping

from crome_jax.augment.oracles.offline.refusals import only_some_decline, refusals
from crome_jax.augment.oracles.offline.sentences import Document, parse
from crome_jax.augment.words import WORD, content_words
from crome_jax.groups import PreferenceGroup

MARKED = 1.2
"""Mean log-odds of a sentence's markers from which on it belongs to one side."""

SEEN = 3
"""A word or pair of words in fewer responses tells nothing."""

SMOOTHING = 0.5
"""Added to every count, so that what one side never has is no proof by itself."""


@dataclasses.dataclass(frozen=True)
class Markers:
    """Log-odds of words and pairs of words between declining and answering responses to the same prompts.

    "Beyond what I do" follows refusals only and "the next step" answers only, while "good morning" opens either: what
    both sides have alike is style, whatever it is, and an edit that turns one into the other leaves it alone. Only
    groups in which some responses decline and others answer are counted, so that what they are about weighs on neither
    side.

    Source: the attribute markers of Li et al. 2018 (arXiv 1804.06437, section 3.1), with n-grams of one and two words.

    Args:
        declining, answering: stem of a content word, or two neighbouring words -> number of responses of that side that
            have it.
        sizes: number of declining and of answering responses.
    """

    declining: Mapping[str, int] = dataclasses.field(default_factory=dict)
    answering: Mapping[str, int] = dataclasses.field(default_factory=dict)
    sizes: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, groups: Iterable[PreferenceGroup]) -> "Markers":
        """Count the words of both sides; what comes out does not depend on the order of the groups."""
        counts: tuple[collections.Counter[str], collections.Counter[str]] = (
            collections.Counter(),
            collections.Counter(),
        )
        sizes = [0, 0]
        for group in groups:
            texts = [response.text for response in group.responses]
            if not only_some_decline(texts):
                continue
            for document in map(parse, texts):
                side = 0 if refusals(document) else 1
                counts[side].update(frozenset().union(*(_units(s.text) for s in document.sentences if s.editable)))
                sizes[side] += 1
        return cls(*counts, (sizes[0], sizes[1]))

    def __call__(self, sentence: str) -> float:
        """Return the mean log-odds of declining (above 0) against answering (below); 0 where nothing is known."""
        declining, answering = (size + 2 * SMOOTHING for size in self.sizes)
        odds = []
        for unit in _units(sentence):
            d, a = self.declining.get(unit, 0), self.answering.get(unit, 0)
            if d + a >= SEEN:
                odds.append(math.log((d + SMOOTHING) / declining) - math.log((a + SMOOTHING) / answering))
        return math.fsum(odds) / len(odds) if odds else 0.0

    def telling(self, document: Document) -> list[int]:
        """Return the sentences that belong to the document's own side, those first that do most.

        What says explicitly that it declines belongs to a refusal in any case.
        """
        explicit = refusals(document)
        side = 1 if explicit else -1
        scores = {i: side * self(document.sentences[i].text) for i in document.replaceable}
        scores |= {i: math.inf for i in explicit if document.sentences[i].movable}
        return sorted((i for i, score in scores.items() if score >= MARKED), key=lambda i: (-scores[i], i))


@functools.lru_cache(maxsize=8192)
def _units(sentence: str) -> frozenset[str]:
    words = WORD.findall(sentence.lower().replace("’", "'"))
    return content_words(sentence) | {f"{a} {b}" for a, b in itertools.pairwise(words)}
