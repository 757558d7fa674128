"""From preference groups to larger ones: Crome's stage one in one call."""

from collections.abc import Iterator, Sequence

from crome_jax.augment.account import Account
from crome_jax.augment.interventions import add_interventions
from crome_jax.augment.neutrals import add_neutrals
from crome_jax.augment.oracles.base import Oracle
from crome_jax.augment.permutations import add_permutations
from crome_jax.groups import PreferenceGroup


def augment_groups(
    groups: Sequence[PreferenceGroup],
    *,
    oracle: Oracle,
    degrade_per_pair: int = 2,
    upgrade_per_pair: int = 2,
    align_per_pair: int = 1,
    implied: bool = True,
    neutrals_per_group: int = 2,
    max_pairs_per_group: int | None = 4,
    causal_share: float = 0.5,
    permutations: int = 0,
    seed: int = 0,
    account: Account | None = None,
) -> Iterator[PreferenceGroup]:
    """Add causal and neutral comparisons to every group (Crome, arXiv 2506.16507, stage 1).

    The same groups and seed give the same bytes, in whatever order the groups come.

    Args:
        groups: with unique ids.
        oracle: who names attributes and rewrites answers.
        degrade_per_pair, upgrade_per_pair: causal comparisons wanted for each human comparison that is no tie.
        align_per_pair: causally-aligned ties wanted for each human comparison that is no tie, 0 or 1.
        implied: whether to add the causal comparisons that such a tie implies; see `add_interventions`.
        neutrals_per_group: irrelevant-query ties wanted for each group.
        max_pairs_per_group: most human comparisons of a group that are intervened on; None uses all.
        causal_share: chance that a neutral is a causal pair of its donor rather than a human one.
        permutations: pairs of other groups that RRM's recipe puts under each prompt; see `add_permutations`.
        account: filled in with what was made and dropped.

    Yields:
        the groups, in order; their own responses and comparisons come first and are as they were.

    Raises:
        CromeError: where two groups have one id.
    """
    account = Account() if account is None else account
    # Neutrals lend the causal pairs of any group, so all of those are made first.
    causal = list(
        add_interventions(
            groups,
            oracle=oracle,
            degrade_per_pair=degrade_per_pair,
            upgrade_per_pair=upgrade_per_pair,
            align_per_pair=align_per_pair,
            implied=implied,
            max_pairs_per_group=max_pairs_per_group,
            seed=seed,
            account=account,
        )
    )
    extended = list(
        add_neutrals(
            causal, neutrals_per_group=neutrals_per_group, causal_share=causal_share, seed=seed, account=account
        )
    )
    # Last: no neutral lends what permutations added, and they borrow human pairs alone.
    for group in add_permutations(extended, permutations=permutations, seed=seed, account=account):
        account.add_group(group)
        yield group
