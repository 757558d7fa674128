"""Pairwise accuracy: how often the response that was preferred has the higher reward."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crome_jax.errors import CromeError, DataError, Diverged
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.distinct import number_prompts
from crome_jax.evaluation.leads import Judged, lead
from crome_jax.evaluation.strata import stratify
from crome_jax.groups import PreferenceGroup

TIE_TOLERANCE = 0.1
"""Rewards of a tie closer than this (nats) count as equal: a win probability within 0.475 and 0.525."""


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Comparisons as columns, each seen from its preferred response (a tie: from its left one).

    Args:
        group: index of the group.
        prompt: number of its prompt, the unit that the bootstrap draws: equal numbers are equal prompts.
        comparison: index of the comparison in its group.
        difference: reward of the preferred response less the other's (nats).
        target: probability that the preferred response is preferred, in [0.5, 1]; 0.5 is a tie.
        kind: human, causal or neutral.
        attribute: the causal attribute that differs, None where unknown.
        category: the group's metadata `category`, None where it has none.
        strata: family to stratum, as strata.stratify gives it.
    """

    group: Int[np.ndarray, "N"]
    prompt: Int[np.ndarray, "N"]
    comparison: Int[np.ndarray, "N"]
    difference: Float[np.ndarray, "N"]
    target: Float[np.ndarray, "N"]
    kind: tuple[str, ...]
    attribute: tuple[str | None, ...]
    category: tuple[str | None, ...]
    strata: tuple[dict[str, str], ...]

    def __len__(self) -> int:
        return len(self.group)

    @property
    def correct(self) -> Float[np.ndarray, "N"]:
        """1 where the preferred response has the higher reward, 0 the lower, 0.5 the same."""
        return 0.5 + 0.5 * np.sign(self.difference)

    @property
    def probability(self) -> Float[np.ndarray, "N"]:
        """The reward model's probability that the preferred response is preferred (Bradley-Terry)."""
        return 0.5 + 0.5 * np.tanh(0.5 * self.difference)

    def decided(self) -> "Outcomes":
        """Return the comparisons that prefer one side."""
        return self.select(np.flatnonzero(self.target > 0.5))

    def ties(self) -> "Outcomes":
        """Return the comparisons that prefer neither side."""
        return self.select(np.flatnonzero(self.target == 0.5))

    def select(self, rows: Int[np.ndarray, "M"]) -> "Outcomes":
        """Return the rows given by index."""
        columns = {}
        for field in dataclasses.fields(self):
            column = getattr(self, field.name)
            columns[field.name] = column[rows] if isinstance(column, np.ndarray) else tuple(column[r] for r in rows)
        return Outcomes(**columns)


def pairwise_outcomes(groups: Sequence[PreferenceGroup], rewards: Sequence[np.ndarray]) -> Outcomes:
    """Line up every comparison with the rewards of its two responses.

    A soft target counts as preferring the likelier side. Comparisons count alike: their weight concerns the loss.

    Args:
        rewards: one array [R] per group, the reward of each response (nats); of a pairwise model log-odds [R, R].

    Raises:
        CromeError: where rewards do not fit the groups or are not finite.
        DataError: where a spurious attribute is no boolean.
    """
    rewards = check_rewards(groups, rewards)
    prompts = number_prompts(groups)
    rows: dict[str, list[Any]] = {field.name: [] for field in dataclasses.fields(Outcomes)}
    for g, (group, reward) in enumerate(zip(groups, rewards, strict=True)):
        category = group.metadata.get("category")
        for c, comparison in enumerate(group.comparisons):
            preferred, other = comparison.left, comparison.right
            if comparison.target < 0.5:
                preferred, other = other, preferred
            try:
                strata = stratify(group, preferred, other)
            except DataError as e:
                raise e.at(f"group {group.id!r}") from None
            rows["group"].append(g)
            rows["prompt"].append(prompts[g])
            rows["comparison"].append(c)
            rows["difference"].append(lead(reward, preferred, other))
            rows["target"].append(max(comparison.target, 1 - comparison.target))
            rows["kind"].append(comparison.kind.name.lower())
            rows["attribute"].append(comparison.attribute)
            rows["category"].append(None if category is None else str(category))
            rows["strata"].append(strata)
    return Outcomes(
        group=np.array(rows["group"], np.int64),
        prompt=np.array(rows["prompt"], np.int64),
        comparison=np.array(rows["comparison"], np.int64),
        difference=np.array(rows["difference"], np.float64),
        target=np.array(rows["target"], np.float64),
        **{name: tuple(rows[name]) for name in ("kind", "attribute", "category", "strata")},
    )


def check_rewards(groups: Sequence[PreferenceGroup], rewards: Sequence[np.ndarray]) -> list[Judged]:
    """Return the rewards, or log-odds of pairs, as float64 arrays, one per group.

    Raises:
        CromeError: naming the group and the response or comparison whose score is missing, too many or, then Diverged,
            not finite.
    """
    if len(groups) != len(rewards):
        raise CromeError(f"rewards for {len(rewards)} groups, but there are {len(groups)}; score every group once")
    checked = []
    for group, reward in zip(groups, rewards, strict=True):
        reward = np.asarray(reward, np.float64)
        if reward.shape == (len(group.responses),) * 2:
            for c, comparison in enumerate(group.comparisons):
                if not np.isfinite(found := lead(reward, comparison.left, comparison.right)):
                    raise Diverged(
                        f"group {group.id!r}: the log-odds of comparisons[{c}] are {found}; score every comparison, "
                        "by a model whose training did not diverge"
                    )
            checked.append(reward)
            continue
        if reward.shape != (len(group.responses),):
            raise CromeError(
                f"group {group.id!r}: rewards of shape {reward.shape} for {len(group.responses)} responses; "
                "give one reward per response, in their order"
            )
        bad = np.flatnonzero(~np.isfinite(reward))
        if len(bad):
            raise Diverged(
                f"group {group.id!r}: the reward of responses[{bad[0]}] is {reward[bad[0]]}; "
                "a model whose training diverged cannot be evaluated"
            )
        checked.append(reward)
    return checked


def measure_accuracy(outcomes: Outcomes, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the accuracy of comparisons that prefer one side.

    Returns:
        `accuracy` in [0, 1] and its `interval` (both None where there are no comparisons), the number of
        `comparisons`, and of the `groups` and the `prompts` they belong to.
    """
    correct = outcomes.correct
    interval = bootstrap.accuracy_interval(correct, outcomes.prompt)
    return {
        "accuracy": float(correct.mean()) if len(correct) else None,
        "interval": list(interval) if interval else None,
        "comparisons": len(outcomes),
        "groups": len(np.unique(outcomes.group)),
        "prompts": len(np.unique(outcomes.prompt)),
    }


def accuracy_by(
    outcomes: Outcomes, labels: Sequence[str | None], bootstrap: Bootstrap, order: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return measure_accuracy of the comparisons under each label; those labelled None are left out.

    Args:
        labels: one per comparison.
        order: labels that come first, in this order; the rest follow by name.
    """
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if label is not None:
            rows.setdefault(label, []).append(row)
    rank = {label: place for place, label in enumerate(order)}
    names = sorted(rows, key=lambda label: (rank.get(label, len(rank)), label))
    return {name: measure_accuracy(outcomes.select(np.array(rows[name])), bootstrap) for name in names}


def measure_ties(ties: Outcomes, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return how far the model moves on comparisons where it must not.

    Returns:
        `comparisons`; `mean_absolute_difference` of the two rewards (nats) and its `interval`;
        `mean_left_probability`; `share_equal`, of ties whose rewards differ by less than TIE_TOLERANCE nats.
        All but the count are None where there are no ties.
    """
    gap = np.abs(ties.difference)
    interval = bootstrap.mean_interval(gap, ties.prompt)
    return {
        "comparisons": len(ties),
        "mean_absolute_difference": float(gap.mean()) if len(ties) else None,
        "interval": list(interval) if interval else None,
        "mean_left_probability": float(ties.probability.mean()) if len(ties) else None,
        "share_equal": float((gap < TIE_TOLERANCE).mean()) if len(ties) else None,
    }
