"""How rare a word is among the answers of a data set: what recurs in answers to many prompts says little about any."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping

from crome_jax.augment.words import content_words
from crome_jax.groups import PreferenceGroup


@dataclasses.dataclass(frozen=True)
class Rarity:
    """Squared inverse document frequency of word stems (Sparck Jones 1972), scaled to (0, 1].

    The square parts the words of stock phrases, which recur in a few answers of a hundred, from those of the matter.

    Args:
        counts: stem -> number of groups in whose answers it occurs.
        groups: how many groups were counted; with none, every word is as rare as can be.
    """

    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    groups: int = 0

    @classmethod
    def of(cls, groups: Iterable[PreferenceGroup]) -> "Rarity":
        """Count the words of every group's answers; what comes out does not depend on the order of the groups."""
        counts: collections.Counter[str] = collections.Counter()
        total = 0
        for group in groups:
            counts.update(frozenset().union(*(content_words(response.text) for response in group.responses)))
            total += 1
        return cls(counts, total)

    def __call__(self, stem: str) -> float:
        """Return 1 for a word that no group has, less the more groups have it."""
        if self.groups < 2:
            return 1.0
        return max(math.log((self.groups + 1) / (self.counts.get(stem, 0) + 1)) / math.log(self.groups + 1), 0.05) ** 2
