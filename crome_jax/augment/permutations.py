"""RRM's permutations: an answer to its own prompt beats answers to other prompts, and those tie among themselves."""

import itertools
import random
from collections.abc import Iterator, Sequence

from crome_jax.augment.account import Account
from crome_jax.augment.rubrics import RELEVANCE
from crome_jax.augment.seeds import derive_seed
from crome_jax.groups import Comparison, Kind, Origin, PreferenceGroup, Response, build_group

SEARCHED = 64
"""Donors looked at for one host before it goes without."""


def add_permutations(
    groups: Sequence[PreferenceGroup], *, permutations: int = 2, seed: int = 0, account: Account | None = None
) -> Iterator[PreferenceGroup]:
    """Add to every group the pairs of other groups as answers that do not fit its prompt.

    With permutations j, k of the data, for the pair (w_i, l_i) of prompt i:
    - each contextual answer (w_i, l_i) is preferred to each non-contextual one (w_j, l_j, w_k, l_k): causal comparisons
      along relevance, since what decides is whether an answer bears on the prompt;
    - every two non-contextual answers tie: neutral comparisons.
    Two permutations give the paper's 8 + 6 comparisons. They are shifts of the groups on a ring in an order drawn with
    the seed, so none borrows from itself and all lend about equally often. As in the paper no donor is passed over for
    being related; one of the same prompt is, and one of which an answer is the host's already. A group with several
    human comparisons takes part with one, drawn with the seed; a group without any that prefers a side takes no part.
    The paper then drops augmented pairs that a trained reward model is sure of: `verification.drop_sure`.

    Args:
        groups: with unique ids.
        permutations: how many other pairs each prompt gets; 2 in the paper, 0 adds nothing.
        seed: of every draw.
        account: filled in with what was made and dropped.

    Yields:
        the groups, in order; their own responses and comparisons come first and are as they were.

    Source: Liu et al. 2024, "RRM: Robust Reward Model Training Mitigates Reward Hacking", arXiv 2409.13156.
    """
    if not permutations:
        yield from groups
        return
    account = Account() if account is None else account
    pairs = [_pair(group, seed) for group in groups]
    able = [g for g, pair in enumerate(pairs) if pair]
    ring = sorted(able, key=lambda g: (derive_seed(seed, "permutation", groups[g].id), groups[g].id))
    place = {g: p for p, g in enumerate(ring)}
    for g, host in enumerate(groups):
        if g not in place:
            account.dropped["permuted", "host", "no preference to lend"] += 1
            yield host
            continue
        taken = {response.text for response in host.responses}
        donors: list[int] = []
        for step in range(1, min(SEARCHED, len(ring) - 1) + 1):
            if len(donors) == permutations:
                break
            donor = ring[(place[g] + step) % len(ring)]
            if groups[donor].prompt == host.prompt:
                account.dropped["permuted", "donor", "same prompt"] += 1
            elif not taken.isdisjoint(pairs[donor]):
                account.dropped["permuted", "donor", "equals another answer"] += 1
            else:
                donors.append(donor)
                taken |= set(pairs[donor])
        account.short["permuted"] += permutations - len(donors)
        yield _extended(host, pairs[g], [(groups[donor].id, pairs[donor]) for donor in donors], account)


def _pair(group: PreferenceGroup, seed: int) -> tuple[str, str] | None:
    """Return the texts of the chosen and the rejected answer of one human comparison."""
    human = [c for c in group.comparisons if c.kind is Kind.HUMAN and c.target != 0.5]
    if not human:
        return None
    drawn = random.Random(derive_seed(seed, "permuted pair", group.id)).choice(human)
    sides = (drawn.left, drawn.right) if drawn.target > 0.5 else (drawn.right, drawn.left)
    return group.responses[sides[0]].text, group.responses[sides[1]].text


def _extended(
    host: PreferenceGroup,
    own: tuple[str, str],
    borrowed: Sequence[tuple[str, tuple[str, str]]],
    account: Account,
) -> PreferenceGroup:
    responses, comparisons = list(host.responses), list(host.comparisons)
    contextual = [r for r, response in enumerate(host.responses) if response.text in own]
    strange = range(len(responses), len(responses) + 2 * len(borrowed))
    for donor, texts in borrowed:
        for text in texts:
            edit = f"answers the prompt of {donor}"
            responses.append(Response(text, origin=Origin.PERMUTED, edit=edit, metadata={"donor": donor}))
    for fits, other in itertools.product(contextual, strange):
        comparisons.append(Comparison(fits, other, kind=Kind.CAUSAL, attribute=RELEVANCE.name))
        account.permuted["contextual"] += 1
    for first, second in itertools.combinations(strange, 2):
        comparisons.append(Comparison(first, second, target=0.5, kind=Kind.NEUTRAL))
        account.permuted["non-contextual"] += 1
    return build_group(
        id=host.id, prompt=host.prompt, responses=responses, comparisons=comparisons, metadata=host.metadata
    )
