"""Each objective's value worked by hand, its gradient against finite differences, and its invariances."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_objective import OBJECTIVES

from crome_jax.batch import ATTRIBUTES, Batch
from crome_jax.errors import CromeError
from crome_jax.groups import Kind
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.bsr import bsr
from crome_jax.objectives.crome import crome
from crome_jax.objectives.davidson import davidson
from crome_jax.objectives.mmd import between_bins, gaussian_kernel, length_bins, mmd
from crome_jax.objectives.odin import correlation, odin
from crome_jax.objectives.pairwise import reads_whole_batch
from crome_jax.objectives.plackett_luce import plackett_luce
from crome_jax.objectives.rao_kupper import rao_kupper
from crome_jax.objectives.schedules import linear
from crome_jax.scored import Scored

COLUMNS = ("left", "right", "target", "weight", "margin", "kind")


def comparisons(*rows, slots: int = 4) -> Batch:
    """One row of a batch, each response a token: comparisons given as (left, right, target, kind, weight, margin)."""
    columns = [np.array([column]) for column in zip(*rows, strict=True)]
    places = np.arange(slots, dtype=np.int32)[None]
    left, right, target, kind, weight, margin = columns
    batch = Batch(
        tokens=places, positions=places, group_ids=np.ones_like(places), response_ids=places + 1, response_ends=places,
        left=left.astype(np.int32), right=right.astype(np.int32), kind=kind.astype(np.int32),
        target=target.astype(np.float32), weight=weight.astype(np.float32), margin=margin.astype(np.float32),
    )  # fmt: skip
    return jax.tree.map(jnp.asarray, batch)


MIXED = comparisons(
    (0, 1, 1.0, Kind.HUMAN, 1.0, 0.0),
    (0, 2, 1.0, Kind.CAUSAL, 1.0, 0.0),
    (3, 1, 0.0, Kind.CAUSAL, 2.0, 0.5),
    (2, 3, 0.5, Kind.NEUTRAL, 1.0, 0.0),
    (1, 2, 0.75, Kind.HUMAN, 0.5, 0.0),
)
PAIRS = MIXED.replace(right=jnp.full_like(MIXED.right, -1))
"""Comparisons of two answers in one slot: the scores are the log-odds that the first is the better."""

OF_PAIRS = {name: OBJECTIVES[name] for name in ("bradley_terry smoothed", "crome weighted", "rao_kupper", "davidson")}

SCORED = Scored(
    rewards=jnp.array([[1.0, 0.0, -1.0, 2.0]]),
    features=jnp.array([[[0.5, 0.1], [-0.3, 1.0], [0.9, -0.2], [0.0, 0.4]]]),
    lengths=jnp.array([[5.0, 3.0, 9.0, 4.0]]),
    length_rewards=jnp.array([[0.2, 0.4, 0.3, -0.1]]),
    heads_cosine=jnp.array(0.3),
    step=jnp.array(2),
)


def of(*rewards: float, **fields) -> Scored:
    return Scored(jnp.array([rewards]), **fields)


def log1pexp(x: float) -> float:
    return math.log1p(math.exp(x))


def test_bradley_terry_by_hand():
    # d = 1 - 0 = 1: -log sigmoid(1) = log(1 + e^-1).
    # The other human comparison, weight 1/2: d = 0 + 1 = 1, target 3/4: 3/4 log(1 + e^-1) + 1/4 log(1 + e).
    # The causal and neutral comparisons count for nothing.
    loss, metrics = bradley_terry(SCORED, MIXED)
    soft = 0.75 * log1pexp(-1) + 0.25 * log1pexp(1)
    assert math.isclose(loss, log1pexp(-1) + 0.5 * soft, rel_tol=1e-6)
    assert metrics["human/count"] == 2
    assert metrics["human/agree_sum"] == 2
    assert metrics["causal/count"] == 2


def test_smoothing_margin_and_centring_by_hand():
    pair = comparisons((0, 1, 1.0, Kind.HUMAN, 1.0, 0.25))
    at = lambda **options: float(bradley_terry(of(1.0, 0.5, 0.0, 0.0), pair, **options)[0])  # noqa: E731
    # d = 1/2, the comparison's own margin 1/4: log(1 + e^-(1/4)).
    assert math.isclose(at(), log1pexp(-0.25), rel_tol=1e-6)
    # A further margin of 1: log(1 + e^(3/4)).
    assert math.isclose(at(margin=1.0), log1pexp(0.75), rel_tol=1e-6)
    # Smoothing 0.1: nine tenths as labelled, one tenth the other way, -log sigmoid(-1/2 - 1/4).
    assert math.isclose(at(label_smoothing=0.1), 0.9 * log1pexp(-0.25) + 0.1 * log1pexp(0.75), rel_tol=1e-6)
    # Centring: 0.01 (1 + 1/2)^2.
    assert math.isclose(at(centring=0.01), log1pexp(-0.25) + 0.01 * 2.25, rel_tol=1e-6)


def test_a_tie_is_neither_smoothed_nor_given_a_margin():
    tie = comparisons((0, 1, 0.5, Kind.NEUTRAL, 1.0, 0.0))
    scored = of(1.0, 0.25, 0.0, 0.0)
    assert crome(scored, tie)[0] == crome(scored, tie, label_smoothing=0.2, margin=1.0)[0]


@pytest.mark.parametrize(
    "objective", [crome, mmd, *(pytest.param(other, marks=pytest.mark.slow) for other in (rao_kupper, davidson, odin))]
)
def test_a_ties_own_margin_takes_nothing_from_its_pull(objective):
    at = jax.value_and_grad(lambda r, margin: objective(SCORED.replace(rewards=r), comparisons(
        (0, 1, 0.5, Kind.NEUTRAL, 1.0, margin)))[0])  # fmt: skip
    (loss, pull), (with_margin, pull_with_margin) = (at(SCORED.rewards, margin) for margin in (0.0, 2.0))
    assert loss == with_margin
    np.testing.assert_array_equal(pull, pull_with_margin)
    assert abs(pull[0, 0]) > 0.1


def test_a_margin_counts_as_far_as_a_side_is_preferred():
    # Target 3/4, half way from tie to win: of the margins 1/4 (its own) and 1 (added) half. d = 1.
    leaning = comparisons((0, 1, 0.75, Kind.HUMAN, 1.0, 0.25))
    expected = 0.75 * log1pexp(-(1 - 0.625)) + 0.25 * log1pexp(1 + 0.625)
    assert math.isclose(bradley_terry(of(1.0, 0.0, 0.0, 0.0), leaning, margin=1.0)[0], expected, rel_tol=1e-6)


def test_centring_is_least_where_a_pair_lies_around_zero():
    pair = comparisons((0, 1, 1.0, Kind.HUMAN, 1.0, 0.0))
    at = lambda shift: float(bradley_terry(of(1 + shift, shift - 1, 0, 0), pair, centring=0.5)[0])  # noqa: E731
    assert at(0.0) < at(0.1) < at(0.2)
    assert at(0.0) < at(-0.1)


def test_crome_by_hand():
    # human:   d = 1 - 0 = 1                         -> log(1 + e^-1)
    # human:   as in test_bradley_terry_by_hand, weight 1/2
    # causal:  d = 1 + 1 = 2                         -> log(1 + e^-2)
    # causal:  d = 2 - 0 = 2, right preferred, margin 1/2, weight 2: -log sigmoid(-2 - 1/2) = log(1 + e^2.5)
    # neutral: d = -1 - 2 = -3 -> 1/2 [log(1 + e^3) + log(1 + e^-3)]
    human = log1pexp(-1) + 0.5 * (0.75 * log1pexp(-1) + 0.25 * log1pexp(1))
    causal = log1pexp(-2) + 2 * log1pexp(2.5)
    tie = 0.5 * (log1pexp(3) + log1pexp(-3))
    loss, metrics = crome(SCORED, MIXED)
    assert math.isclose(loss, human + causal + tie, rel_tol=1e-6)
    loss, _ = crome(SCORED, MIXED, causal_weight=0.5, neutral_weight=2.0)
    assert math.isclose(loss, human + 0.5 * causal + 2.0 * tie, rel_tol=1e-6)
    assert metrics["causal/agree_sum"] == 1
    assert metrics["neutral/preferring"] == 0
    assert metrics["neutral/distance_sum"] == 3


def test_metrics_by_attribute_by_hand():
    # Two causal comparisons of attribute 1 (d = 1 + 1 = 2, right; d = 2 - 0 = 2 where the right side is preferred,
    # wrong), one of attribute 3 (d = -1 - 2 = -3, a tie), one of weight 0, and one of no attribute.
    batch = comparisons(
        (0, 2, 1.0, Kind.CAUSAL, 1.0, 0.0),
        (3, 1, 0.0, Kind.CAUSAL, 2.0, 0.0),
        (2, 3, 0.5, Kind.CAUSAL, 1.0, 0.0),
        (0, 1, 1.0, Kind.CAUSAL, 0.0, 0.0),
        (0, 1, 1.0, Kind.HUMAN, 1.0, 0.0),
    ).replace(attribute=jnp.array([[1, 1, 3, 1, 0]]))
    _, metrics = crome(SCORED, batch)
    losses = {0: log1pexp(-2) + log1pexp(2), 2: 0.5 * (log1pexp(3) + log1pexp(-3))}
    expected = {"count": {0: 2, 2: 1}, "preferring": {0: 2}, "agree_sum": {0: 1}, "distance_sum": {0: 4, 2: 3}}
    for name, values in (expected | {"loss_sum": losses}).items():
        assert metrics[f"attribute/{name}"].shape == (ATTRIBUTES,)
        assert metrics[f"attribute/{name}"].tolist() == pytest.approx([values.get(a, 0) for a in range(ATTRIBUTES)])


def test_a_pairwise_model_by_hand():
    # PairPM: the score of a slot is the log-odds l that its first answer is the better; cross-entropy with the target.
    # human:   l = 1, target 1                          -> log(1 + e^-1)
    # human:   l = 0, target 3/4, weight 1/2            -> 1/2 log 2
    # causal:  l = 1, target 1                          -> log(1 + e^-1)
    # causal:  l = 2, target 0, margin 1/2, weight 2    -> 2 log(1 + e^2.5)
    # neutral: l = -1, target 1/2                       -> 1/2 [log(1 + e) + log(1 + e^-1)]
    human = log1pexp(-1) + 0.5 * math.log(2)
    causal = log1pexp(-1) + 2 * log1pexp(2.5)
    tie = 0.5 * (log1pexp(1) + log1pexp(-1))
    assert math.isclose(bradley_terry(SCORED, PAIRS)[0], human, rel_tol=1e-6)
    loss, metrics = crome(SCORED, PAIRS, causal_weight=0.5, neutral_weight=2.0)
    assert math.isclose(loss, human + 0.5 * causal + 2.0 * tie, rel_tol=1e-6)
    assert metrics["human/agree_sum"] == 1.5  # l = 0 agrees by half.
    assert metrics["causal/agree_sum"] == 1
    assert metrics["neutral/distance_sum"] == 1


@pytest.mark.parametrize("objective", OF_PAIRS.values(), ids=OF_PAIRS)
def test_a_pair_turned_round_is_its_log_odds_negated(objective):
    turned = PAIRS.replace(target=1 - PAIRS.target)
    negated = SCORED.replace(rewards=-SCORED.rewards)
    assert math.isclose(objective(SCORED, PAIRS)[0], objective(negated, turned)[0], rel_tol=1e-6)
    slopes = [
        jax.grad(lambda r, batch=batch: objective(SCORED.replace(rewards=r), batch)[0])(scored.rewards)
        for scored, batch in ((SCORED, PAIRS), (negated, turned))
    ]
    np.testing.assert_allclose(slopes[0], -slopes[1], rtol=1e-6)
    assert np.abs(slopes[0]).max() > 0.1


def test_schedules_by_hand():
    # From 1 to 3 between steps 4 and 12: 1 before, 2 half way, 3 after. Weights of each kind go their own ways.
    schedule = functools.partial(linear, start=1.0, end=3.0, first=4, last=12)
    assert [float(schedule(jnp.array(step))) for step in (0, 4, 8, 12, 99)] == [1, 1, 2, 3, 3]
    objective = functools.partial(crome, causal_weight=schedule, neutral_weight=functools.partial(linear, last=16))
    for step, causal, neutral in ((0, 1.0, 0.0), (8, 2.0, 0.5), (16, 3.0, 1.0)):
        fixed = crome(SCORED, MIXED, causal_weight=causal, neutral_weight=neutral)[0]
        assert math.isclose(objective(SCORED.replace(step=jnp.array(step)), MIXED)[0], fixed, rel_tol=1e-6)
    assert objective(SCORED.replace(step=None), MIXED)[0] == objective(SCORED.replace(step=jnp.array(0)), MIXED)[0]


def test_a_tie_is_least_at_equal_rewards():
    tie = comparisons((0, 1, 0.5, Kind.NEUTRAL, 1.0, 0.0))
    for objective in (crome, rao_kupper, davidson):
        at = lambda d, objective=objective: float(objective(of(d, 0.0, 0.0, 0.0), tie)[0])  # noqa: E731
        assert at(0.5) > at(0.0) < at(-0.5)
        assert math.isclose(at(0.5), at(-0.5), rel_tol=1e-6)
    assert math.isclose(crome(of(0.0, 0.0, 0.0, 0.0), tie)[0], math.log(2), rel_tol=1e-6)


def likelihoods(objective, d: float) -> list[float]:
    """Probabilities of left, tie and right that an objective gives to a difference."""
    losses = [objective(of(d, 0.0, 0.0, 0.0), comparisons((0, 1, t, 0, 1.0, 0.0)))[0] for t in (1.0, 0.5, 0.0)]
    return [math.exp(-float(loss)) for loss in losses]


def test_rao_kupper_by_hand():
    # p_i = 4, p_j = 1, theta = 2: win 4 / (4 + 2), loss 1 / (1 + 8), tie (4 - 1) 4 / ((4 + 2) (1 + 8)) = 2/9.
    assert likelihoods(rao_kupper, math.log(4)) == pytest.approx([2 / 3, 2 / 9, 1 / 9], rel=1e-5)
    assert likelihoods(rao_kupper, 0.0) == pytest.approx([1 / 3] * 3, rel=1e-5)


def test_davidson_by_hand():
    # p_i = 4, p_j = 1, nu = 1: sqrt(p_i p_j) = 2, Z = 7: win 4/7, tie 2/7, loss 1/7.
    assert likelihoods(davidson, math.log(4)) == pytest.approx([4 / 7, 2 / 7, 1 / 7], rel=1e-5)
    assert likelihoods(davidson, 0.0) == pytest.approx([1 / 3] * 3, rel=1e-5)
    # nu = 4: Z = 4 + 1 + 8 = 13.
    four = functools.partial(davidson, nu=4.0)
    assert likelihoods(four, math.log(4)) == pytest.approx([4 / 13, 8 / 13, 1 / 13], rel=1e-5)


@pytest.mark.parametrize("objective", [rao_kupper, davidson])
def test_a_target_between_win_and_tie_is_half_of_each_and_a_margin_is_a_lead(objective):
    at = lambda t, d=1.0, m=0.0: float(objective(of(d, 0.0, 0.0, 0.0), comparisons((0, 1, t, 0, 1.0, m)))[0])  # noqa: E731
    assert math.isclose(at(0.75), (at(1.0) + at(0.5)) / 2, rel_tol=1e-6)
    assert math.isclose(at(1.0, 1.0, 0.25), at(1.0, 0.75), rel_tol=1e-6)
    assert math.isclose(at(0.0, 1.0, 0.25), at(0.0, 1.25), rel_tol=1e-6)
    assert at(0.5, 1.0, 0.25) == at(0.5)


def test_plackett_luce_by_hand():
    # exp(rewards) 4, 2, 1. A > B > C: P = 4/7 * 2/3; the chain of two comparisons is the full ranking.
    scored = of(math.log(4), math.log(2), 0.0, 5.0)
    chain = comparisons((0, 1, 1.0, Kind.CAUSAL, 1.0, 0.0), (2, 1, 0.0, Kind.HUMAN, 1.0, 0.0))
    assert math.isclose(plackett_luce(scored, chain)[0], -math.log(4 / 7 * 2 / 3), rel_tol=1e-5)
    every_pair = comparisons((0, 1, 1.0, 0, 1.0, 0.0), (1, 2, 1.0, 0, 1.0, 0.0), (0, 2, 1.0, 0, 1.0, 0.0))
    assert math.isclose(plackett_luce(scored, every_pair)[0], -math.log(4 / 7 * 2 / 3), rel_tol=1e-5)
    # Two chains with one top, A > B and A > C: A before both, of which neither stands above the other.
    fork = comparisons((0, 1, 1.0, 0, 1.0, 0.0), (0, 2, 1.0, 0, 1.0, 0.0))
    assert math.isclose(plackett_luce(scored, fork)[0], -math.log(4 / 7), rel_tol=1e-5)
    # A tie puts nothing above anything, and a lean of 3/4 counts half.
    tied = comparisons((0, 1, 0.75, 0, 1.0, 0.0), (1, 2, 0.5, 0, 1.0, 0.0))
    assert math.isclose(plackett_luce(scored, tied)[0], -0.5 * math.log(4 / 6), rel_tol=1e-5)


def test_plackett_luce_reads_a_long_chain_and_survives_a_circle():
    # Nine responses in a chain of neighbours, equal rewards: 9! rankings are equally likely.
    chain = comparisons(*((i, i + 1, 1.0, 0, 1.0, 0.0) for i in range(8)), slots=9)
    assert math.isclose(plackett_luce(of(*[0.5] * 9), chain)[0], math.log(math.factorial(9)), rel_tol=1e-5)
    # A > B > A: each once among both.
    circle = comparisons((0, 1, 1.0, 0, 1.0, 0.0), (1, 0, 1.0, 0, 1.0, 0.0))
    assert math.isclose(plackett_luce(of(0.0, 0.0, 0.0, 0.0), circle)[0], 2 * math.log(2), rel_tol=1e-5)


def test_plackett_luce_of_one_comparison_is_bradley_terry():
    pair = comparisons((0, 1, 1.0, Kind.HUMAN, 1.5, 0.0))
    assert math.isclose(plackett_luce(SCORED, pair)[0], bradley_terry(SCORED, pair)[0], rel_tol=1e-6)


def test_odin_by_hand():
    # Rewards 1, 3 (quality) and 2, 1 (length head), lengths 10, 20. Two responses, the first preferred, weight 2.
    # d_Q + d_L = (1 + 2) - (3 + 1) = -1: 2 log(1 + e). Of two points a correlation is 1 or -1: quality 1, length -1.
    # W = 2: 2 [ 0.5 (|1| - -1) + 0.25 |-0.6| ] = 2 [1 + 0.15].
    pair = comparisons((0, 1, 1.0, Kind.HUMAN, 2.0, 0.0), slots=2)
    fields = {"lengths": jnp.array([[10.0, 20.0]]), "length_rewards": jnp.array([[2.0, 1.0]])}
    scored = of(1.0, 3.0, **fields, heads_cosine=jnp.array(-0.6))
    loss, metrics = odin(scored, pair, length_weight=0.5, orthogonality_weight=0.25)
    assert math.isclose(loss, 2 * log1pexp(1) + 2 * 1.15, rel_tol=1e-6)
    assert metrics["human/agree_sum"] == 0
    assert metrics["human/distance_sum"] == 2  # of the quality head


def test_bsr_by_hand():
    # Rewards 3, 1, 0 and one that nothing compares. d = 2, weight 2, and d = 3, weight 1: responses count 3, 2 and 1.
    # Mean (9 + 2 + 0) / 6 = 11/6; W = 3.
    pairs = comparisons((0, 1, 1.0, Kind.HUMAN, 2.0, 0.0), (0, 2, 1.0, Kind.HUMAN, 1.0, 0.0))
    loss, metrics = bsr(of(3.0, 1.0, 0.0, 50.0), pairs, coefficient=0.5)
    assert math.isclose(loss, 2 * log1pexp(-2) + log1pexp(-3) + 3 * 0.5 * (11 / 6) ** 2, rel_tol=1e-6)
    assert math.isclose(metrics["human/loss_sum"], log1pexp(-2) + log1pexp(-3), rel_tol=1e-6)


def test_correlation_agrees_with_numpy_and_is_none_of_a_constant():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 5))
    ours = correlation(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), jnp.ones((3, 5)))
    assert math.isclose(ours, np.corrcoef(x.ravel(), y.ravel())[0, 1], rel_tol=1e-5)
    value, grad = jax.value_and_grad(correlation)(jnp.full((1, 3), 7.0), jnp.array([[1.0, 2, 3]]), jnp.ones((1, 3)))
    assert value == 0
    assert not grad.any()


def test_mmd_by_hand():
    # Two short responses, features 0 and 2, and two long ones, 2 and 4. Squared distances: 4 within either bin, and
    # 4, 16, 0, 4 across. Mean over all sixteen pairs: 2 (4 + 4 + 4 + 16 + 0 + 4) / 16 = 4. Width 1: k = e^-square/8.
    # MMD^2 = e^-1/2 + e^-1/2 - 2 (e^-1/2 + e^-2 + 1 + e^-1/2) / 4. The weight of comparisons is 6, lambda 1/2.
    pairs = comparisons((0, 2, 1.0, Kind.HUMAN, 3.0, 0.0), (1, 3, 1.0, Kind.HUMAN, 3.0, 0.0))
    scored = of(1.0, 1.0, 0.0, 0.0, features=jnp.array([[[0.0], [2.0], [2.0], [4.0]]]))
    scored = scored.replace(lengths=jnp.array([[4.0, 4.0, 9.0, 9.0]]))
    options = {"bins": 2, "widths": (1.0,), "coefficient": 0.5}
    half = math.exp(-0.5)
    across = 2 * (2 * half + math.exp(-2) + 1) / 4
    at = lambda **further: float(mmd(scored, pairs, **options, **further)[0])  # noqa: E731
    assert math.isclose(at(), 6 * log1pexp(-1) + 6 * 0.5 * (2 * half - across), rel_tol=1e-6)
    # Biased: each response is as like itself as can be, k = 1.
    biased = 2 * (2 * half + 2) / 4 - across
    assert math.isclose(at(estimate="biased"), 6 * log1pexp(-1) + 6 * 0.5 * biased, rel_tol=1e-6)
    # Conditional: all chosen responses are short and all rejected ones long.
    assert math.isclose(at(conditional=True), 6 * log1pexp(-1), rel_tol=1e-6)


def test_mmd_of_one_response_a_bin_by_hand():
    # Features 0 and 2: squared distance 4. Mean over all four pairs: 2. Width 1: k = e^-1.
    # Biased: MMD^2 = k(x, x) + k(y, y) - 2 k(x, y) = 2 - 2 / e. The weight of comparisons is 3, lambda 1/2.
    pair = comparisons((0, 1, 1.0, Kind.HUMAN, 3.0, 0.0), slots=2)
    scored = of(1.0, 0.0, features=jnp.array([[[0.0], [2.0]]]), lengths=jnp.array([[4.0, 9.0]]))
    options = {"bins": 2, "widths": (1.0,), "coefficient": 0.5}
    biased = functools.partial(mmd, estimate="biased", **options)
    assert math.isclose(biased(scored, pair)[0], 3 * log1pexp(-1) + 3 * 0.5 * (2 - 2 / math.e), rel_tol=1e-6)
    # Conditional: the only chosen and the only rejected response each have nobody to be compared with.
    assert math.isclose(biased(scored, pair, conditional=True)[0], 3 * log1pexp(-1), rel_tol=1e-6)
    # Of equal length there is one bin, and nothing to compare.
    alike = scored.replace(lengths=jnp.array([[4.0, 4.0]]))
    assert math.isclose(biased(alike, pair)[0], 3 * log1pexp(-1), rel_tol=1e-6)
    # Unbiased: one response does not say how alike those of its bin are.
    assert math.isclose(mmd(scored, pair, **options)[0], 3 * log1pexp(-1), rel_tol=1e-6)


def test_weights_within_a_bin_by_hand():
    # A bin of three with weights 1, 2, 1, likenesses 0.5, 0.2 and 0.4; one of two, 0.6; 0.1 across; one of one.
    # Unbiased: 2 (1 2 0.5 + 1 1 0.2 + 2 1 0.4) / (4^2 - 6) = 0.4, and 0.6: 0.4 + 0.6 - 2 0.1. The last is left out.
    kernel = np.full((6, 6), 0.1, np.float32)
    kernel[:3, :3] = [[1.0, 0.5, 0.2], [0.5, 1.0, 0.4], [0.2, 0.4, 1.0]]
    kernel[3:5, 3:5] = [[1.0, 0.6], [0.6, 1.0]]
    kernel[5, 5] = 1.0
    weight = np.zeros((6, 3), np.float32)
    weight[:3, 0], weight[3:5, 1], weight[5, 2] = (1.0, 2.0, 1.0), 7.0, 1.0
    assert math.isclose(between_bins(jnp.asarray(kernel), jnp.asarray(weight), 1.0 - jnp.eye(6)), 0.8, rel_tol=1e-6)
    # Biased: (4 + 6) / 4^2 = 0.625 and (1 + 0.6) / 2 = 0.8, of the third 1; each pair less 2 0.1.
    biased = (0.625 + 0.8 - 0.2) + (0.625 + 1 - 0.2) + (0.8 + 1 - 0.2)
    assert math.isclose(between_bins(jnp.asarray(kernel), jnp.asarray(weight), jnp.ones((6, 6))), biased, rel_tol=1e-6)


def test_mmd_of_equal_distributions_is_nothing_on_average_however_small_the_batch():
    # Four responses a bin, all features drawn alike; every reward is 0, so that the rest of the loss is log 2.
    pairs = comparisons(*((2 * i, 2 * i + 1, 1.0, Kind.HUMAN, 0.25, 0.0) for i in range(4)), slots=8)
    lengths = jnp.arange(1.0, 9.0)[None]

    def discrepancies(estimate, batches=400):
        features = jax.random.normal(jax.random.key(0), (batches, 1, 8, 3))
        at = lambda x: mmd(of(*[0.0] * 8, features=x, lengths=lengths), pairs, bins=2, estimate=estimate)[0]  # noqa: E731
        return jax.jit(jax.vmap(at))(features) - math.log(2)

    unbiased, biased = discrepancies("unbiased"), discrepancies("biased")
    standard_error = unbiased.std() / math.sqrt(unbiased.size)
    assert abs(unbiased.mean()) < 4 * standard_error < 0.03
    assert unbiased.min() < 0 < unbiased.max()
    assert biased.mean() > 0.2
    assert biased.min() >= 0


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("estimate", ["unbiased", pytest.param("biased", marks=pytest.mark.slow)])
def test_a_response_in_several_rows_is_one_and_one_of_weight_zero_is_none(estimate, conditional):
    objective = functools.partial(mmd, bins=2, estimate=estimate, conditional=conditional)
    once = float(objective(SCORED, MIXED)[0])
    doubled = lambda tree: jax.tree.map(lambda x: jnp.concatenate([x, x]) if x.ndim else x, tree)  # noqa: E731
    assert math.isclose(objective(doubled(SCORED), doubled(MIXED))[0], 2 * once, rel_tol=1e-6)
    # A second row of other responses, far away from those of the first, whose comparisons have no weight.
    both, far = doubled(MIXED), doubled(SCORED)
    both = both.replace(tokens=both.tokens.at[1].add(9), weight=both.weight.at[1].set(0.0))
    far = far.replace(features=far.features.at[1].multiply(1e3))
    assert math.isclose(objective(far, both)[0], once, rel_tol=1e-6)


def test_bins_weigh_alike_and_equal_lengths_share_one():
    lengths = jnp.array([5.0, 1.0, 3.0, 3.0, 9.0, 7.0])
    # Sorted: 1, 3, 3, 5, 7, 9; shares below each: 0, 1/6, 1/6, 3/6, 4/6, 5/6.
    assert length_bins(lengths, jnp.ones(6), 3).tolist() == [1, 0, 0, 0, 2, 2]
    assert length_bins(lengths, jnp.array([0.0, 1.0, 0.0, 0.0, 1.0, 0.0]), 2).tolist() == [1, 0, 1, 1, 1, 1]


def test_mmd_is_nothing_between_equal_samples_and_grows_as_they_part():
    x = jax.random.normal(jax.random.key(0), (6, 3))
    weight = jnp.concatenate([jnp.eye(2)] * 6)

    def between(shift):
        both = jnp.stack([x, x + shift], axis=1).reshape(12, 3)
        return float(between_bins(gaussian_kernel(both, jnp.ones(12), (0.5, 1.0)), weight, jnp.ones((12, 12))))

    assert abs(between(0.0)) < 1e-6  # fp32 rounding of sums of 36 terms
    assert 0 < between(0.5) < between(2.0)


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (bradley_terry, {"label_smoothing": 0.5}, "label_smoothing is 0.5; give 0 or more, and less than 0.5"),
        (bradley_terry, {"margin": -1.0}, "margin is -1.0"),
        (crome, {"centring": -0.1}, "centring is -0.1"),
        (crome, {"causal_weight": -0.5}, r"crome\.causal_weight is -0\.5"),
        (crome, {"neutral_weight": math.nan}, r"crome\.neutral_weight is nan"),
        (crome, {"neutral_weight": functools.partial(linear, first=4, last=4)}, r"linear\.last is 4 and linear\.first"),
        (crome, {"neutral_weight": functools.partial(linear, end=-1.0, last=4)}, r"linear\.end is -1\.0"),
        (rao_kupper, {"theta": 1.0}, r"rao_kupper\.theta is 1\.0; give a number above 1"),
        (davidson, {"nu": 0.0}, r"davidson\.nu is 0\.0; give a number above 0"),
        (odin, {"length_weight": -1.0}, r"odin\.length_weight is -1\.0"),
        (bsr, {"coefficient": -1.0}, r"bsr\.coefficient is -1\.0"),
        (mmd, {"coefficient": -1.0}, r"mmd\.coefficient is -1\.0"),
        (mmd, {"bins": 1}, r"mmd\.bins is 1; give 2 or more"),
        (mmd, {"widths": ()}, r"mmd\.widths is \(\)"),
        (mmd, {"estimate": "some"}, r"mmd\.estimate is 'some'; give 'unbiased' or 'biased'"),
    ],
)
def test_a_number_out_of_range_is_named(objective, options, message):
    with pytest.raises(CromeError, match=message):
        objective(SCORED, MIXED, **options)


def test_odin_without_its_head_says_which_binding_to_change():
    with pytest.raises(CromeError, match=r"reads a head for length.*set Method\.head to 'odin'"):
        odin(dataclasses.replace(SCORED, length_rewards=None), MIXED)


def test_what_reads_the_whole_batch_says_so_whatever_is_bound():
    assert {name for name, objective in OBJECTIVES.items() if reads_whole_batch(objective)} == {
        "bsr",
        "odin",
        "mmd",
        "mmd conditional",
        "mmd biased",
    }


READ = ("rewards", "features", "length_rewards", "heads_cosine")


def drawn(objective) -> float:
    """Return what centring adds where 8 is added to all rewards.

    c w ((s + 16)^2 - s^2), s the sum of two rewards; of the whole batch c W ((m + 8)^2 - m^2), m the mean reward.
    """
    left, right = (np.take_along_axis(np.asarray(SCORED.rewards), side, axis=1) for side in (MIXED.left, MIXED.right))
    if objective is bsr:
        mean = float((MIXED.weight * (left + right)).sum() / (2 * MIXED.weight.sum()))
        return 0.016 * float(MIXED.weight.sum()) * ((mean + 8) ** 2 - mean**2)
    both = ((left + right + 16) ** 2 - (left + right) ** 2) * MIXED.weight
    return getattr(objective, "keywords", {}).get("centring", 0.0) * float(both.sum())


LAWFUL = {name: (objective, MIXED) for name, objective in OBJECTIVES.items()}
LAWFUL |= {f"{name} of pairs": (objective, PAIRS) for name, objective in OF_PAIRS.items()}


@pytest.mark.parametrize(("objective", "mixed"), LAWFUL.values(), ids=LAWFUL)
class TestLaws:
    def test_gradient_agrees_with_finite_differences(self, objective, mixed):
        loss = jax.jit(lambda fields: objective(SCORED.replace(**fields), mixed)[0])
        fields = {name: getattr(SCORED, name) for name in READ}
        grads = jax.jit(jax.grad(loss))(fields)
        # No gradient goes through the scale of MMD's kernel, though it moves with the features: see below.
        names = [name for name in READ if name != "features" or "mmd" not in str(objective)]
        for name in names:
            for i in range(fields[name].size):
                h = jnp.zeros(fields[name].size).at[i].set(1e-2).reshape(fields[name].shape)
                up, down = (float(loss(fields | {name: fields[name] + sign * h})) for sign in (1, -1))
                assert abs((up - down) / 2e-2 - grads[name].reshape(-1)[i]) < 2e-3, name

    def test_order_of_comparisons_does_not_matter(self, objective, mixed):
        order = np.array([2, 0, 4, 3, 1])
        shuffled = mixed.replace(**{name: getattr(mixed, name)[:, order] for name in COLUMNS})
        assert math.isclose(objective(SCORED, mixed)[0], objective(SCORED, shuffled)[0], rel_tol=1e-6)

    def test_order_of_responses_does_not_matter(self, objective, mixed):
        order = np.array([2, 0, 3, 1])
        place = jnp.argsort(order)
        moved = mixed.replace(left=place[mixed.left], right=jnp.where(mixed.right < 0, -1, place[mixed.right]))
        fields = {
            name: getattr(SCORED, name)[:, order] for name in ("rewards", "features", "lengths", "length_rewards")
        }
        assert math.isclose(objective(SCORED, mixed)[0], objective(SCORED.replace(**fields), moved)[0], rel_tol=1e-6)

    def test_weight_zero_is_absent_and_weight_two_is_twice(self, objective, mixed):
        first = mixed.replace(**{name: getattr(mixed, name)[:, :1] for name in COLUMNS})
        alone = objective(SCORED, first)[0]
        masked = objective(SCORED, mixed.replace(weight=jnp.array([[1.0, 0.0, 0.0, 0.0, 0.0]])))
        assert math.isclose(masked[0], alone, rel_tol=1e-6)
        assert masked[1]["causal/count"] == 0
        twice = first.replace(**{name: jnp.repeat(getattr(first, name), 2, axis=1) for name in COLUMNS})
        assert math.isclose(objective(SCORED, twice)[0], 2 * alone, rel_tol=1e-6)
        assert math.isclose(objective(SCORED, first.replace(weight=2 * first.weight))[0], 2 * alone, rel_tol=1e-6)

    def test_one_of_several_repeated_is_the_same_with_twice_its_weight(self, objective, mixed):
        for c in range(5):
            at = np.array([*range(5), c])
            repeated = mixed.replace(**{name: getattr(mixed, name)[:, at] for name in COLUMNS})
            doubled = mixed.replace(weight=mixed.weight.at[0, c].multiply(2.0))
            at = jax.value_and_grad(lambda r, b: objective(SCORED.replace(rewards=r), b)[0])
            (once, of_once), (twice, of_twice) = (at(SCORED.rewards, batch) for batch in (repeated, doubled))
            assert math.isclose(once, twice, rel_tol=1e-6)
            np.testing.assert_allclose(of_once, of_twice, rtol=1e-5, atol=1e-6)

    def test_rows_add_up_unless_the_whole_batch_is_read(self, objective, mixed):
        other = mixed.replace(
            tokens=mixed.tokens + 9, target=1 - mixed.target, kind=mixed.kind[:, ::-1], weight=2 * mixed.weight
        )
        scored = SCORED.replace(rewards=-0.5 * SCORED.rewards, lengths=SCORED.lengths + 2, features=SCORED.features**2)
        together = lambda *rows: jax.tree.map(lambda *x: jnp.concatenate(x) if x[0].ndim else x[0], *rows)  # noqa: E731
        both = objective(together(SCORED, scored), together(mixed, other))
        apart = objective(SCORED, mixed), objective(scored, other)
        added = jax.tree.map(jnp.add, *apart)
        assert math.isclose(both[0], added[0], rel_tol=1e-6) != reads_whole_batch(objective)
        for name, value in both[1].items():  # Metrics are sums and counts, whatever the loss reads.
            assert math.isclose(value, added[1][name], rel_tol=1e-6), name

    def test_nothing_to_compare_is_no_loss(self, objective, mixed):
        loss, grad = jax.value_and_grad(lambda r: objective(SCORED.replace(rewards=r), mixed.replace(
            weight=jnp.zeros_like(mixed.weight)))[0])(SCORED.rewards)  # fmt: skip
        assert loss == 0
        assert not grad.any()

    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
    def test_extreme_scores_stay_finite(self, objective, mixed, dtype):
        extreme = jnp.array([[1e4, -1e4, 1e4, -1e4]], dtype)
        given = {"rewards": extreme, "length_rewards": extreme, "features": SCORED.features.astype(dtype) * 1e4}
        loss, grads = jax.value_and_grad(lambda f: objective(SCORED.replace(**f), mixed)[0])(given)
        assert np.isfinite(loss)
        for grad in jax.tree.leaves(grads):
            assert np.all(np.isfinite(grad.astype(jnp.float32)))

    def test_bfloat16_scores_give_the_float32_loss_of_their_values(self, objective, mixed):
        given = {name: getattr(SCORED, name).astype(jnp.bfloat16) for name in ("rewards", "features", "length_rewards")}
        exact = {name: value.astype(jnp.float32) for name, value in given.items()}
        losses = [objective(SCORED.replace(**fields), mixed)[0] for fields in (given, exact)]
        assert losses[0].dtype == jnp.float32
        assert math.isclose(*losses, rel_tol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_swapping_sides_changes_nothing(objective):
    swapped = MIXED.replace(left=MIXED.right, right=MIXED.left, target=1 - MIXED.target)
    assert math.isclose(objective(SCORED, MIXED)[0], objective(SCORED, swapped)[0], rel_tol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_constant_added_to_all_rewards_changes_nothing_but_what_centring_adds(objective):
    added = SCORED.replace(rewards=SCORED.rewards + 8.0, length_rewards=SCORED.length_rewards - 2.0)
    assert math.isclose(objective(SCORED, MIXED)[0], objective(added, MIXED)[0] - drawn(objective), rel_tol=1e-5)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("estimate", ["unbiased", "biased"])
def test_gradient_of_mmd_agrees_with_finite_differences_once_its_scale_moves_too(estimate, conditional, monkeypatch):
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    options = {"estimate": estimate, "conditional": conditional, "bins": 2}
    loss = jax.jit(lambda f: mmd(SCORED.replace(features=f), MIXED, **options)[0])
    grad = jax.grad(loss)(SCORED.features).reshape(-1)
    assert np.abs(grad).max() > 1e-2
    for i in range(grad.size):
        h = jnp.zeros(grad.size).at[i].set(1e-2).reshape(SCORED.features.shape)
        assert abs((loss(SCORED.features + h) - loss(SCORED.features - h)) / 2e-2 - grad[i]) < 2e-3
