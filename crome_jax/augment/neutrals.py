"""Irrelevant-query neutrals: two answers to another prompt, placed under this one, where neither can be better."""

import random
from collections.abc import Iterator, Sequence, Set

from crome_jax.augment.account import Account
from crome_jax.augment.oracles.offline.refusals import only_some_decline
from crome_jax.augment.seeds import derive_seed
from crome_jax.augment.words import content_words, overlap
from crome_jax.groups import Comparison, Kind, Origin, PreferenceGroup, Response, build_group, prompt_text

PROMPT_OVERLAP = 0.1
"""Most of its content words that the shorter of two prompts may share with the other for them to be unrelated."""

ANSWER_OVERLAP = 0.34
"""Most of a prompt's content words that an answer placed under it may use."""

LEAST_WORDS = 3
"""Content words a prompt must have: to 'go on' no answer is irrelevant."""

SEARCHED = 64
"""Donors looked at for one host before it goes without."""


def add_neutrals(
    groups: Sequence[PreferenceGroup],
    *,
    neutrals_per_group: int = 2,
    causal_share: float = 0.5,
    seed: int = 0,
    account: Account | None = None,
) -> Iterator[PreferenceGroup]:
    """Add to every group irrelevant-query neutrals (IQN; Crome, arXiv 2506.16507): ties between borrowed answers.

    The groups stand on a ring in an order drawn with the seed, and each borrows from those that follow it, so none
    borrows from itself and all lend about equally often. A donor whose prompt or answers have too much to do with the
    host's prompt is passed over; so is a pair of which one answer declines, since a refusal is about no prompt in
    particular and may be the right answer, or the wrong one, to any.

    Args:
        groups: with unique ids, as `add_interventions` leaves them where causal pairs are to be lent.
        neutrals_per_group: ties wanted for each group.
        causal_share: chance that a donor with both lends a causal pair rather than a human one.
        account: filled in with what was made and dropped.

    Yields:
        the groups, in order; their own responses and comparisons come first and are as they were.
    """
    account = Account() if account is None else account
    ring = sorted(range(len(groups)), key=lambda g: (derive_seed(seed, "ring", groups[g].id), groups[g].id))
    place = {g: p for p, g in enumerate(ring)}
    topics = [_topic(group) for group in groups]
    for g, host in enumerate(groups):
        borrowed: list[tuple[PreferenceGroup, Comparison]] = []
        taken = {response.text for response in host.responses}
        if not topics[g]:
            account.dropped["neutral", "host", "too few content words in the prompt"] += 1
        for step in range(1, min(SEARCHED, len(groups) - 1) + 1 if topics[g] else 0):
            if len(borrowed) == neutrals_per_group:
                break
            donor = ring[(place[g] + step) % len(ring)]
            pair = _pair(groups[donor], host.id, causal_share, seed)
            texts = {groups[donor].responses[r].text for r in (pair.left, pair.right)} if pair else set()
            if reason := _unfit(topics[g], topics[donor], texts, taken):
                account.dropped["neutral", "donor", reason] += 1
                continue
            taken |= texts
            borrowed.append((groups[donor], pair))
            account.neutrals[pair.kind.name.lower()] += 1
        account.short["neutral"] += neutrals_per_group - len(borrowed)
        yield _extended(host, borrowed)


def _unfit(topic: frozenset[str], other: frozenset[str], texts: Set[str], taken: Set[str]) -> str | None:
    """Return why a donor's pair cannot be a neutral for a host, None where it can."""
    if not unrelated(topic, other):
        return "related prompt"
    if not texts:
        return "no pair to lend"
    if not texts.isdisjoint(taken):
        return "equals another answer"
    if only_some_decline(texts):
        return "one answer declines"
    if any(len(content_words(text) & topic) > ANSWER_OVERLAP * len(topic) for text in texts):
        return "related answers"
    return None


def unrelated(topic: Set[str], other: Set[str]) -> bool:
    """Tell whether two prompts share so few content words that an answer to one cannot serve the other.

    Args:
        topic, other: stems of the content words of the prompts.
    """
    return min(len(topic), len(other)) >= LEAST_WORDS and overlap(topic, other) <= PROMPT_OVERLAP


def _topic(group: PreferenceGroup) -> frozenset[str]:
    """Return the content words of the whole conversation, and none where its last turn alone has too few."""
    if len(content_words(prompt_text(group.prompt))) < LEAST_WORDS:
        return frozenset()
    return frozenset().union(*(content_words(message.content) for message in group.prompt))


def _pair(donor: PreferenceGroup, host: str, causal_share: float, seed: int) -> Comparison | None:
    lent = {
        kind: [c for c in donor.comparisons if c.kind is kind and c.target != 0.5] for kind in (Kind.HUMAN, Kind.CAUSAL)
    }
    rng = random.Random(derive_seed(seed, "neutral", donor.id, host))
    first, second = (Kind.CAUSAL, Kind.HUMAN) if rng.random() < causal_share else (Kind.HUMAN, Kind.CAUSAL)
    pairs = lent[first] or lent[second]
    return rng.choice(pairs) if pairs else None


def _extended(host: PreferenceGroup, borrowed: Sequence[tuple[PreferenceGroup, Comparison]]) -> PreferenceGroup:
    responses, comparisons = list(host.responses), list(host.comparisons)
    for donor, pair in borrowed:
        left = len(responses)
        for r in (pair.left, pair.right):
            responses.append(
                Response(
                    donor.responses[r].text,
                    origin=Origin.IRRELEVANT,
                    edit=f"answers the prompt of {donor.id}",
                    metadata={"donor": donor.id},
                )
            )
        comparisons.append(Comparison(left, left + 1, target=0.5, kind=Kind.NEUTRAL, attribute=pair.attribute))
    return build_group(
        id=host.id, prompt=host.prompt, responses=responses, comparisons=comparisons, metadata=host.metadata
    )
