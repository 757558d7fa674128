"""The oracle that needs nothing: deterministic edits of English text, one attribute at a time."""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from crome_jax.augment import rubrics
from crome_jax.augment.oracles.base import Declined, Direction, Intervention, Rewrite
from crome_jax.augment.oracles.offline import completeness, compliance, consistency, factuality, order, relevance
from crome_jax.augment.oracles.offline.aligned import align
from crome_jax.augment.oracles.offline.band import leaves_band
from crome_jax.augment.oracles.offline.draft import Draft
from crome_jax.augment.oracles.offline.markers import Markers
from crome_jax.augment.oracles.offline.rarity import Rarity
from crome_jax.augment.oracles.offline.refusals import only_some_decline
from crome_jax.augment.oracles.offline.sentences import Layout, parse
from crome_jax.augment.seeds import derive_seed
from crome_jax.augment.words import is_english
from crome_jax.groups import Message, PreferenceGroup, prompt_text


class _Edit(Protocol):
    def __call__(self, draft: Draft, rng: random.Random) -> Rewrite | Declined: ...


class _Attribute(NamedTuple):
    degrade: _Edit
    upgrade: _Edit
    sentences: int
    """Fewest sentences an answer must have for the attribute to show in it."""


ATTRIBUTES = {
    rubrics.FACTUALITY.name: _Attribute(factuality.degrade, factuality.upgrade, 1),
    rubrics.COMPLETENESS.name: _Attribute(completeness.degrade, completeness.upgrade, 1),
    rubrics.RELEVANCE.name: _Attribute(relevance.degrade, relevance.upgrade, 1),
    rubrics.ORDER.name: _Attribute(order.degrade, order.upgrade, 3),
    rubrics.CONSISTENCY.name: _Attribute(consistency.degrade, consistency.upgrade, 1),
    rubrics.COMPLIANCE.name: _Attribute(compliance.degrade, compliance.upgrade, 1),
}


def _edit(request: Intervention) -> _Edit | None:
    if request.direction is Direction.ALIGN:
        return align
    attribute = ATTRIBUTES.get(request.attribute)
    return attribute and (attribute.upgrade if request.direction is Direction.UPGRADE else attribute.degrade)


class OfflineEditor:
    """Raises and lowers causal attributes of English text by rule, deterministically from each request's seed.

    Args:
        rarity: of words among the answers of the data set, which tells key sentences from stock phrases; without it
            all words count alike.
        markers: of declining and answering there, which tell what belongs to a refusal; without them, key sentences do.
    """

    name = "offline"

    def __init__(self, rarity: Rarity = Rarity(), markers: Markers = Markers()):  # noqa: B008 (frozen)
        self._rarity = rarity
        self._markers = markers

    @classmethod
    def of(cls, groups: Sequence[PreferenceGroup]) -> "OfflineEditor":
        """Make an editor that has counted the words of the data set it is going to edit."""
        return cls(Rarity.of(groups), Markers.of(groups))

    def rubrics(self, prompt: tuple[Message, ...], responses: tuple[str, ...], count: int) -> tuple[str, ...]:
        """Return the attributes that can show in answers of these lengths to this prompt, in an order drawn from it.

        Where some answers decline and others do not, whether to decline is what decides: compliance alone is named.
        """
        if only_some_decline(responses):
            return (rubrics.COMPLIANCE.name,)[:count]
        sentences = max(
            (sum(s.layout is not Layout.VERBATIM for s in parse(r).sentences) for r in responses), default=0
        )
        question = prompt_text(prompt)
        names = [
            name
            for name, attribute in ATTRIBUTES.items()
            if sentences >= attribute.sentences and (name != rubrics.FACTUALITY.name or factuality.applies(question))
        ]
        random.Random(derive_seed("rubrics", question)).shuffle(names)
        return tuple(names[:count])

    def rewrite(self, requests: Iterable[Intervention]) -> Iterator[Rewrite | Declined]:
        """Yield an edit within the length and formatting bands, or why there is none, for each request in order."""
        for request in requests:
            yield self._rewrite(request)

    def _rewrite(self, request: Intervention) -> Rewrite | Declined:
        if request.direction is Direction.PARAPHRASE:
            return Declined("no rule to paraphrase by")
        edit = _edit(request)
        if edit is None:
            return Declined("unknown attribute")
        toward = request.direction is not Direction.DEGRADE
        if toward and request.reference is None:
            return Declined("no better answer to move toward")
        if not is_english(request.text) or (toward and not is_english(request.reference)):
            return Declined("not English text")
        rng = random.Random(derive_seed("edit", request.seed, request.direction, request.attribute))
        reply = edit(Draft.of(request, self._rarity, self._markers), rng)
        if isinstance(reply, Declined):
            return reply
        if reply.text == request.text or not reply.text.strip():
            return Declined("nothing would change")
        if left := leaves_band(request.text, reply.text):
            return Declined(left)
        return reply
