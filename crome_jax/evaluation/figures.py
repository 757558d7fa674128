"""The figures of one method on one split: all that a report says of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from crome_jax.evaluation.accuracy import (
    Outcomes,
    accuracy_by,
    measure_accuracy,
    measure_ties,
    pairwise_outcomes,
)
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.calibration import measure_calibration
from crome_jax.evaluation.reward_length import measure_reward_length
from crome_jax.evaluation.strata import CUE, LENGTH, MARKDOWN
from crome_jax.groups import Kind, PreferenceGroup

STRATA = {"cue": CUE, "length": LENGTH, "markdown": MARKDOWN}
"""Families of strata that come first, with the order of their strata; `attribute:<name>` families follow."""


def split_figures(
    groups: Sequence[PreferenceGroup], rewards: Sequence[np.ndarray], bootstrap: Bootstrap, *, points: int = 500
) -> dict[str, Any]:
    """Measure a method on a split.

    Args:
        rewards: one array [R] per group, the reward of each response (nats).
        points: at most so many responses are kept for the plot of reward against length.

    Returns:
        What measure_accuracy gives of all comparisons that prefer one side, the same `by_kind`, `by_category`,
        `by_attribute` and `by_stratum` (family, then stratum), then `ties`, `calibration` and `reward_length`.

    Raises:
        CromeError: where rewards do not fit the groups or are not finite.
    """
    outcomes = pairwise_outcomes(groups, rewards)
    decided = outcomes.decided()
    return {
        **measure_accuracy(decided, bootstrap),
        "by_kind": accuracy_by(decided, decided.kind, bootstrap, order=[kind.name.lower() for kind in Kind]),
        "by_category": accuracy_by(decided, decided.category, bootstrap),
        "by_attribute": accuracy_by(decided, decided.attribute, bootstrap),
        "by_stratum": _by_stratum(decided, bootstrap),
        "ties": measure_ties(outcomes.ties(), bootstrap),
        "calibration": measure_calibration(decided),
        "reward_length": measure_reward_length(groups, rewards, points=points),
    }


def split_differences(
    groups: Sequence[PreferenceGroup],
    rewards: Sequence[np.ndarray],
    baseline_groups: Sequence[PreferenceGroup],
    baseline_rewards: Sequence[np.ndarray],
    bootstrap: Bootstrap,
) -> dict[str, Any] | None:
    """Return by how much a method's accuracy exceeds a baseline's on the comparisons of a split.

    Returns:
        `difference` in [-1, 1], its `interval` (None for a single prompt) and the number of `comparisons`; None where
        the two were not measured on the same comparisons, or there are none.
    """
    if list(groups) != list(baseline_groups):
        return None
    ours = pairwise_outcomes(groups, rewards).decided()
    theirs = pairwise_outcomes(groups, baseline_rewards).decided()
    if not len(ours):
        return None
    difference, interval = bootstrap.paired_difference(ours.correct, theirs.correct, ours.prompt)
    return {"difference": difference, "interval": list(interval) if interval else None, "comparisons": len(ours)}


def _by_stratum(decided: Outcomes, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    families = {family for strata in decided.strata for family in strata}
    attributes = sorted(family for family in families if family not in STRATA)
    return {
        family: accuracy_by(
            decided, [strata.get(family) for strata in decided.strata], bootstrap, order=STRATA.get(family, CUE)
        )
        for family in [*(f for f in STRATA if f in families), *attributes]
    }
