"""Reward against length: how much of a reward goes along with the number of words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from crome_jax.evaluation.accuracy import check_rewards
from crome_jax.evaluation.leads import is_pairwise
from crome_jax.evaluation.strata import word_count
from crome_jax.groups import PreferenceGroup

_CONSTANT = 1e-9
"""A column that varies by less is constant: rounding alone leaves one some spread, to correlate with which is noise."""


def measure_reward_length(
    groups: Sequence[PreferenceGroup], rewards: Sequence[np.ndarray], *, points: int = 500, seed: int = 0
) -> dict[str, Any]:
    """Correlate the reward of every response with the logarithm of its word count.

    A reward is defined up to a constant per prompt, so the figures within groups, where both are taken less their
    group's mean, are those that tell of a preference for length.

    A pairwise model has no reward of a response: nothing is measured of it.

    Args:
        points: at most so many responses are kept for the scatter plot, drawn without replacement.

    Returns:
        `responses`; Pearson `correlation` and `correlation_within_groups`, in [-1, 1]; `slope_within_groups`, nats of
        reward per doubling of length (all None where length or reward does not vary); `points`, [words, reward].
    """
    rewards = check_rewards(groups, rewards)
    if not any(len(reward) for reward in rewards) or any(map(is_pairwise, rewards)):
        return {
            "responses": 0,
            "correlation": None,
            "correlation_within_groups": None,
            "slope_within_groups": None,
            "points": [],
        }
    rewards = [reward for reward in rewards if len(reward)]
    words = [np.array([word_count(r.text) for r in group.responses], np.float64) for group in groups if group.responses]
    doublings = [np.log2(w) for w in words]
    length, reward = np.concatenate(doublings), np.concatenate(rewards)
    centred_length = np.concatenate([x - x.mean() for x in doublings])
    centred_reward = np.concatenate([x - x.mean() for x in rewards])
    spread = float(centred_length @ centred_length)
    kept = np.arange(len(length))
    if len(kept) > points:
        kept = np.sort(np.random.default_rng(seed).choice(len(length), points, replace=False))
    every_word = np.concatenate(words)
    return {
        "responses": len(length),
        "correlation": _correlation(length, reward),
        "correlation_within_groups": _correlation(centred_length, centred_reward),
        "slope_within_groups": float(centred_length @ centred_reward) / spread if spread > _CONSTANT else None,
        "points": [[int(every_word[k]), float(reward[k])] for k in kept],
    }


def _correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    x, y = x - x.mean(), y - y.mean()
    if min(x.std(), y.std()) < _CONSTANT:
        return None
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))
