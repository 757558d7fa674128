"""From preference groups to larger ones: Crome's stage one in one call."""

from collections.abc import Callable, Iterator, Sequence

from crome_jax.augment.account import Account
from crome_jax.augment.interventions import add_interventions
from crome_jax.augment.neutrals import add_neutrals
from crome_jax.augment.oracles.base import Oracle, SubmittingOracle
from crome_jax.augment.permutations import add_permutations
from crome_jax.augment.recipe import Recipe
from crome_jax.groups import PreferenceGroup


def augment_groups(
    groups: Sequence[PreferenceGroup],
    *,
    oracle: Oracle | SubmittingOracle,
    recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
    seed: int = 0,
    account: Account | None = None,
    done: Callable[[int], None] = lambda groups: None,
) -> Iterator[PreferenceGroup]:
    """Add causal and neutral comparisons to every group (Crome, arXiv 2506.16507, stage 1).

    The same groups and seed give the same bytes, in whatever order the groups come.

    Args:
        groups: with unique ids.
        oracle: who names attributes and rewrites answers.
        recipe: how much is added.
        account: filled in with what was made and dropped.
        done: called with 1 as the oracle is through with each group, which is what takes time.

    Yields:
        the groups, in order; their own responses and comparisons come first and are as they were.

    Raises:
        CromeError: where two groups have one id, and what the oracle raises.
    """
    account = Account() if account is None else account
    # Neutrals lend the causal pairs of any group, so all of those are made first.
    causal = []
    for group in add_interventions(groups, oracle=oracle, recipe=recipe, seed=seed, account=account):
        causal.append(group)
        done(1)
    extended = list(
        add_neutrals(
            causal,
            neutrals_per_group=recipe.neutrals_per_group,
            causal_share=recipe.causal_share,
            seed=seed,
            account=account,
        )
    )
    # Last: no neutral lends what permutations added, and they borrow human pairs alone.
    for group in add_permutations(extended, permutations=recipe.permutations, seed=seed, account=account):
        account.add_group(group)
        yield group
