"""The baseline's part in augmentation: pairs that a reward model trained without them is sure of teach it nothing."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from crome_jax.augment.account import Account
from crome_jax.augment.verification import UNSURE, drop_sure
from crome_jax.evaluation.scoring import RewardModel, check_rewarding, score_groups
from crome_jax.groups import PreferenceGroup
from crome_jax.training.train import load_run

CHUNK = 256
"""Groups scored together: a bound on memory."""


def keep_unsure(
    groups: Iterable[PreferenceGroup],
    baseline: RewardModel | Path | str,
    *,
    account: Account,
    unsure: float = UNSURE,
    kinds: tuple[str, ...] = ("causal",),
) -> Iterator[PreferenceGroup]:
    """Drop what the baseline is sure of; see `verification.drop_sure`.

    A group whose prompt is too long for the baseline's rows stays whole, and is counted as a verdict that was wanted
    and not had.

    Args:
        baseline: a reward model trained on the human comparisons alone, or the folder of its run.
        account: its counts of groups and comparisons become those of what is left.

    Raises:
        CromeError: where the run cannot be loaded, or is a pairwise model's.
    """
    model = baseline if isinstance(baseline, RewardModel) else load_run(baseline)
    check_rewarding(model)
    account.groups = 0
    account.comparisons.clear()
    remaining = iter(groups)
    while chunk := list(itertools.islice(remaining, CHUNK)):
        # Counted here anew, as they are left; those who yield the groups count them as they were made.
        account.groups -= len(chunk)
        for group in chunk:
            account.comparisons.subtract(c.kind.name.lower() for c in group.comparisons)
        rewards = _rewards(model, chunk, account)
        able = [g for g, reward in enumerate(rewards) if reward is not None]
        left = drop_sure(
            [chunk[g] for g in able], [rewards[g] for g in able], account=account, unsure=unsure, kinds=kinds
        )
        kept = dict(zip(able, left, strict=True))
        for g, group in enumerate(chunk):
            finished = kept.get(g, group)
            account.add_group(finished)
            yield finished


def _rewards(model: RewardModel, groups: list[PreferenceGroup], account: Account) -> list[np.ndarray | None]:
    refused: set[str] = set()
    packed = [group for group in groups if group.responses]
    scored = score_groups(model, packed, on_bad=lambda group, error: refused.add(group.id))
    rewards = dict(zip((group.id for group in packed), scored.rewards, strict=True))
    account.short["verdict of the baseline"] += len(refused)
    return [None if group.id in refused else rewards.get(group.id, np.zeros(0)) for group in groups]
