"""Each objective's value worked by hand, its gradient against finite differences, and its invariances."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crome_jax.batch import Batch
from crome_jax.groups import Kind
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.crome import crome

OBJECTIVES = {
    "bradley_terry": bradley_terry,
    "crome": crome,
    "crome weighted": functools.partial(crome, causal_weight=0.5, neutral_weight=2.0),
}


def comparisons(*rows, slots: int = 4) -> Batch:
    """One row of a batch: comparisons given as (left, right, target, kind, weight, margin)."""
    columns = [np.array([column]) for column in zip(*rows, strict=True)]
    empty = np.zeros((1, 1), np.int32)
    left, right, target, kind, weight, margin = columns
    batch = Batch(
        tokens=empty, positions=empty, group_ids=empty, response_ids=empty,
        response_ends=np.arange(slots, dtype=np.int32)[None],
        left=left.astype(np.int32), right=right.astype(np.int32), kind=kind.astype(np.int32),
        target=target.astype(np.float32), weight=weight.astype(np.float32), margin=margin.astype(np.float32),
    )  # fmt: skip
    return jax.tree.map(jnp.asarray, batch)


MIXED = comparisons(
    (0, 1, 1.0, Kind.HUMAN, 1.0, 0.0),
    (0, 2, 1.0, Kind.CAUSAL, 1.0, 0.0),
    (3, 1, 0.0, Kind.CAUSAL, 2.0, 0.5),
    (2, 3, 0.5, Kind.NEUTRAL, 1.0, 0.0),
)
SCORES = jnp.array([[1.0, 0.0, -1.0, 2.0]])


def test_bradley_terry_by_hand():
    # d = 1 - 0 = 1: -log sigmoid(1) = log(1 + e^-1). The causal and neutral comparisons count for nothing.
    loss, metrics = bradley_terry(SCORES, MIXED)
    assert math.isclose(loss, math.log(1 + math.exp(-1)), rel_tol=1e-6)
    assert metrics["human/count"] == 1
    assert metrics["human/agree_sum"] == 1
    assert metrics["causal/count"] == 2


def test_crome_by_hand():
    # human:   d = 1 - 0 = 1                         -> log(1 + e^-1)
    # causal:  d = 1 + 1 = 2                         -> log(1 + e^-2)
    # causal:  d = 2 - 0 = 2, right preferred, margin 1/2, weight 2: -log sigmoid(-2 - 1/2) = log(1 + e^2.5)
    # neutral: d = -1 - 2 = -3 -> 1/2 [log(1 + e^3) + log(1 + e^-3)]
    human, first = math.log1p(math.exp(-1)), math.log1p(math.exp(-2))
    second = 2 * math.log1p(math.exp(2.5))
    tie = 0.5 * (math.log1p(math.exp(3)) + math.log1p(math.exp(-3)))
    loss, metrics = crome(SCORES, MIXED)
    assert math.isclose(loss, human + first + second + tie, rel_tol=1e-6)
    loss, _ = crome(SCORES, MIXED, causal_weight=0.5, neutral_weight=2.0)
    assert math.isclose(loss, human + 0.5 * (first + second) + 2.0 * tie, rel_tol=1e-6)
    assert metrics["causal/agree_sum"] == 1
    assert metrics["neutral/preferring"] == 0
    assert metrics["neutral/distance_sum"] == 3


def test_a_tie_is_least_at_equal_rewards():
    tie = comparisons((0, 1, 0.5, Kind.NEUTRAL, 1.0, 0.0))
    at = lambda d: float(crome(jnp.array([[d, 0.0, 0.0, 0.0]]), tie)[0])  # noqa: E731
    assert math.isclose(at(0.0), math.log(2), rel_tol=1e-6)
    assert at(0.5) > at(0.0) < at(-0.5)
    assert math.isclose(at(0.5), at(-0.5), rel_tol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
class TestLaws:
    def test_gradient_agrees_with_finite_differences(self, objective):
        grad = jax.grad(lambda s: objective(s, MIXED)[0])(SCORES)[0]
        for i in range(4):
            h = jnp.zeros_like(SCORES).at[0, i].set(1e-2)
            slope = (float(objective(SCORES + h, MIXED)[0]) - float(objective(SCORES - h, MIXED)[0])) / 2e-2
            assert abs(slope - grad[i]) < 2e-3

    def test_swapping_sides_changes_nothing(self, objective):
        swapped = MIXED.replace(left=MIXED.right, right=MIXED.left, target=1 - MIXED.target)
        assert math.isclose(objective(SCORES, MIXED)[0], objective(SCORES, swapped)[0], rel_tol=1e-6)

    def test_a_constant_added_to_all_rewards_changes_nothing(self, objective):
        assert math.isclose(objective(SCORES, MIXED)[0], objective(SCORES + 8.0, MIXED)[0], rel_tol=1e-6)

    def test_order_of_comparisons_does_not_matter(self, objective):
        order = np.array([2, 0, 3, 1])
        names = ("left", "right", "target", "weight", "margin", "kind")
        shuffled = MIXED.replace(**{name: getattr(MIXED, name)[:, order] for name in names})
        assert math.isclose(objective(SCORES, MIXED)[0], objective(SCORES, shuffled)[0], rel_tol=1e-6)

    def test_weight_zero_is_absent_and_weight_two_is_twice(self, objective):
        names = ("left", "right", "target", "weight", "margin", "kind")
        first = MIXED.replace(**{name: getattr(MIXED, name)[:, :1] for name in names})
        alone = objective(SCORES, first)[0]
        masked = objective(SCORES, MIXED.replace(weight=jnp.array([[1.0, 0.0, 0.0, 0.0]])))
        assert math.isclose(masked[0], alone, rel_tol=1e-6)
        assert masked[1]["causal/count"] == 0
        twice = first.replace(**{name: jnp.repeat(getattr(first, name), 2, axis=1) for name in names})
        assert math.isclose(objective(SCORES, twice)[0], 2 * alone, rel_tol=1e-6)
        assert math.isclose(objective(SCORES, first.replace(weight=2 * first.weight))[0], 2 * alone, rel_tol=1e-6)

    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
    def test_extreme_scores_stay_finite(self, objective, dtype):
        extreme = jnp.array([[1e4, -1e4, 1e4, -1e4]], dtype)
        loss, grad = jax.value_and_grad(lambda s: objective(s, MIXED)[0])(extreme)
        assert np.isfinite(loss)
        assert np.all(np.isfinite(grad.astype(jnp.float32)))
