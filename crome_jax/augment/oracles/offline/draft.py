"""An answer on the editor's desk, with what the editor may look at."""

import dataclasses
import functools
from collections.abc import Iterator

from crome_jax.augment.oracles.base import Intervention
from crome_jax.augment.oracles.offline.markers import Markers
from crome_jax.augment.oracles.offline.rarity import Rarity
from crome_jax.augment.oracles.offline.refusals import refusals
from crome_jax.augment.oracles.offline.sentences import Document, Sentence, parse
from crome_jax.augment.words import content_words
from crome_jax.groups import prompt_text

TOUCHED_SHARE = 0.3
"""Share of an answer's sentences that one intervention touches: enough to decide, few enough to stay the answer."""

MOST_TOUCHED = 4

KEY_SHARE = 0.3
"""A sentence is a key sentence from this share of the weightiest one's weight."""

PADDING = 4
"""Words by which a sentence counts as longer when its weight is taken, lest the shortest weigh most."""


@dataclasses.dataclass(frozen=True)
class Draft:
    """A request with its own texts parsed.

    Args:
        document: the answer to edit.
        prompt: the question.
        conversation: the question with all turns before it.
        reference: the other answer of the pair, None where there is none.
        elsewhere: answers to other prompts.
        rarity: of word stems, among the answers of the data set.
        markers: of declining and answering, in the data set.
    """

    document: Document
    prompt: str
    conversation: str
    reference: Document | None
    elsewhere: tuple[str, ...]
    rarity: Rarity
    markers: Markers

    @classmethod
    def of(cls, request: Intervention, rarity: Rarity, markers: Markers) -> "Draft":
        """Parse a request's texts."""
        return cls(
            parse(request.text),
            prompt_text(request.prompt),
            "\n".join(message.content for message in request.prompt),
            None if request.reference is None else parse(request.reference),
            request.elsewhere,
            rarity,
            markers,
        )

    def foreign(self) -> Iterator[Document]:
        """Yield the answers to other prompts, parsed as far as they are read."""
        return map(parse, self.elsewhere)

    @functools.cached_property
    def topic(self) -> frozenset[str]:
        """Stems of the question's content words."""
        return content_words(self.prompt)

    @functools.cached_property
    def told_apart(self) -> bool:
        """Whether one of the two answers declines, and the data set tells in both what goes with that."""
        both = (self.document, self.reference)
        return self.reference is not None and (
            len({bool(refusals(one)) for one in both}) == 2 and all(map(self.markers.telling, both))
        )

    def matter(self, document: Document) -> list[int]:
        """Return the sentences of the answer, or of the other one, that decide how good it is, the weightiest first.

        Where one of the two declines, these are the sentences that go with declining or with answering; where the data
        set does not tell, and everywhere else, the key sentences.
        """
        if self.told_apart:
            return self.markers.telling(document)
        return key_sentences(document, self.topic, self.rarity)


def touched(count: int) -> int:
    """Return how many of `count` sentences an intervention touches."""
    return max(1, min(MOST_TOUCHED, round(TOUCHED_SHARE * count)))


def weights(document: Document, topic: frozenset[str], rarity: Rarity) -> dict[int, float]:
    """Return how much each replaceable sentence says about the topic for its length.

    A word of the topic counts twice a word that only this sentence brings, either by its rarity: a sentence of words
    that many answers have, whatever was asked, weighs little. The sum is divided by the sentence's length plus
    `PADDING`, which leaves the weight almost independent of length: what weighs most is removed and replaced, and must
    not be the longest for that.
    """
    seen: dict[str, int] = {}
    for sentence in document.sentences:
        for word in sentence.content:
            seen[word] = seen.get(word, 0) + 1

    def weight(sentence: Sentence) -> float:
        said = sum(rarity(word) * (2 * (word in topic) + (seen[word] == 1)) for word in sorted(sentence.content))
        return said / (sentence.words + PADDING)

    return {index: weight(document.sentences[index]) for index in document.replaceable}


def by_weight(document: Document, topic: frozenset[str], rarity: Rarity) -> list[int]:
    """Return the replaceable sentences, those first that weigh most."""
    return _heaviest_first(weights(document, topic, rarity))


def key_sentences(document: Document, topic: frozenset[str], rarity: Rarity) -> list[int]:
    """Return the sentences that weigh at least `KEY_SHARE` of what the weightiest does, that one first."""
    weighed = weights(document, topic, rarity)
    least = KEY_SHARE * max(weighed.values(), default=0.0)
    return [index for index in _heaviest_first(weighed) if weighed[index] >= least]


def _heaviest_first(weighed: dict[int, float]) -> list[int]:
    return sorted(weighed, key=lambda index: (-weighed[index], index))


def quote(text: str, words: int = 8) -> str:
    """Return the beginning of a sentence in quotation marks, for the account of an edit."""
    parts = text.split()
    return '"' + " ".join(parts[:words])[:80] + ('…"' if len(parts) > words else '"')
