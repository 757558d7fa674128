"""Intervals hold the truth as often as they say."""

import numpy as np
import pytest

from crome_jax.errors import CromeError
from crome_jax.evaluation.bootstrap import Bootstrap


def test_accuracy_interval_covers_the_truth():
    rng = np.random.default_rng(1)
    # 120 prompts of 1 to 4 comparisons; half of a comparison's luck is its prompt's.
    covered = 0
    for trial in range(200):
        sizes = rng.integers(1, 5, 120)
        clusters = np.repeat(np.arange(120), sizes)
        shared = rng.random(120)[clusters]
        own = rng.random(len(clusters))
        correct = (np.where(rng.random(len(clusters)) < 0.5, shared, own) < 0.7).astype(float)
        low, high = Bootstrap(resamples=400, seed=trial).accuracy_interval(correct, clusters)
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_comparisons_of_one_prompt_do_not_count_as_independent():
    rng = np.random.default_rng(0)
    by_prompt = (rng.random(60) < 0.7).astype(float)
    once = Bootstrap().accuracy_interval(by_prompt, np.arange(60))
    repeated = Bootstrap().accuracy_interval(np.repeat(by_prompt, 10), np.repeat(np.arange(60), 10))
    assert repeated == pytest.approx(once)


def test_an_interval_is_repeatable_and_blind_to_order_of_comparisons():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(30), 3)
    values = rng.random(90)
    order = rng.permutation(90)
    interval = Bootstrap(seed=5).mean_interval(values, clusters)
    assert Bootstrap(seed=5).mean_interval(values[order], clusters[order]) == pytest.approx(interval)
    assert Bootstrap(seed=6).mean_interval(values, clusters) != interval


def test_chunks_draw_what_one_piece_would(monkeypatch):
    values, clusters = np.random.default_rng(0).random(50), np.arange(50)
    whole = Bootstrap(resamples=100).mean_interval(values, clusters)
    monkeypatch.setattr("crome_jax.evaluation.bootstrap._DRAWS_AT_ONCE", 777)
    assert Bootstrap(resamples=100).mean_interval(values, clusters) == whole


def test_more_confidence_is_a_wider_interval():
    values, clusters = np.random.default_rng(0).random(50), np.arange(50)
    narrow, wide = (Bootstrap(confidence=c).mean_interval(values, clusters) for c in (0.8, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("correct", "clusters", "expected"),
    [
        # Wilson, z = 1.95996: n = 10 all right gives 10 / (10 + z^2).
        (np.ones(10), np.arange(10), (0.72247, 1.0)),
        (np.zeros(10), np.arange(10), (0.0, 0.27753)),
        (np.ones(40), np.repeat(np.arange(10), 4), (0.72247, 1.0)),
        # One prompt with half of its comparisons right: n = 1, symmetric about a half.
        (np.array([1.0, 0.0]), np.array([7, 7]), (0.05462, 0.94538)),
    ],
)
def test_no_spread_does_not_mean_certainty(correct, clusters, expected):
    assert Bootstrap().accuracy_interval(correct, clusters) == pytest.approx(expected, abs=1e-5)


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(0)
    base = rng.random(200)
    better = base + 0.05 + 0.01 * rng.normal(size=200)
    clusters = np.arange(200)
    difference, (low, high) = Bootstrap().paired_difference(better, base, clusters)
    assert difference == pytest.approx((better - base).mean())
    assert low < difference < high
    alone = Bootstrap().mean_interval(base, clusters)
    assert high - low < 0.2 * (alone[1] - alone[0])
    negated, (low_back, high_back) = Bootstrap().paired_difference(base, better, clusters)
    assert (negated, low_back, high_back) == pytest.approx((-difference, -high, -low))


def test_one_prompt_leaves_a_difference_unbounded():
    assert Bootstrap().paired_difference(np.ones(3), np.zeros(3), np.zeros(3, int)) == (1.0, None)


def test_nothing_cannot_be_paired():
    with pytest.raises(ValueError, match="cannot be paired"):
        Bootstrap().paired_difference(np.ones(0), np.ones(0), np.ones(0, int))


def test_no_comparisons_have_no_interval():
    assert Bootstrap().accuracy_interval(np.ones(0), np.ones(0, int)) is None


@pytest.mark.parametrize("arguments", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(CromeError, match="bootstrap"):
        Bootstrap(**arguments)


def test_the_chance_of_a_difference_by_hand():
    # Two groups whose differences are 1 and 0: resamples have means 0, 1/2, 1/2, 1: half of them are 1/2 away.
    left, right, clusters = np.array([1.0, 1.0]), np.array([0.0, 1.0]), np.array([0, 1])
    bootstrap = Bootstrap(resamples=4000)
    # Four standard errors of a share of 1/2 among 4,000 draws are 0.032.
    assert bootstrap.paired_chance(left, right, clusters) == pytest.approx(0.5, abs=0.032)
    assert bootstrap.paired_chance(right, left, clusters) == bootstrap.paired_chance(left, right, clusters)
    assert bootstrap.paired_chance(left, left, clusters) == 1.0
    assert bootstrap.paired_chance(left, right, np.array([0, 0])) is None
    # Always right against always wrong: no resample is as far from what it is centred on.
    many = np.arange(50)
    assert bootstrap.paired_chance(np.ones(50), np.zeros(50), many) == 1 / 4001


def test_parts_of_the_same_groups_are_drawn_together():
    rng = np.random.default_rng(0)
    values, clusters, bootstrap = rng.integers(0, 2, 90) * 1.0, np.arange(90) % 30, Bootstrap(resamples=300)
    whole = bootstrap.mean_interval(values, clusters)
    same = [(1 / 23, values, clusters)] * 23
    assert bootstrap.composite_interval(same, together=True) == pytest.approx(whole)
    # Drawn apart, they would be as 23 sets of data.
    low, high = bootstrap.composite_interval(same)
    assert 4 * (high - low) < whole[1] - whole[0]
    # A part of fewer groups: where none of them is drawn, the others are what there is.
    few = clusters < 2
    two = [(0.5, values, clusters), (0.5, values[few], clusters[few])]
    drawn = bootstrap.resampled_sums(two, together=True)
    groups = np.random.default_rng(0).integers(30, size=(300, 30))
    for resample in (0, 7, *np.flatnonzero((groups >= 2).all(1))[:2]):
        times = np.bincount(groups[resample], minlength=30)[clusters]
        means = [np.average(values[kept], weights=times[kept]) for kept in (few | ~few, few) if times[kept].sum()]
        assert drawn[resample] == pytest.approx(np.mean(means))
    assert (groups >= 2).all(1).any()


def test_a_composite_difference_has_the_chance_of_its_parts():
    one, two = (np.array([1.0, 0.0]), np.arange(2)), (np.array([1.0, 1.0]), np.arange(2, 4))
    bootstrap = Bootstrap(resamples=4000)
    # The first part's mean is 0, 1/2, 1/2 or 1, the second's always 1: the sum is 1/2 to 1, three quarters at its own.
    difference, interval, chance = bootstrap.composite_difference([(0.5, *one), (0.5, *two)])
    assert (difference, interval, chance) == (0.75, (0.5, 1.0), 1 / 4001)
    alone = bootstrap.composite_difference([(1.0, *one)])
    assert alone[2] == bootstrap.paired_chance(one[0], np.zeros(2), one[1])
    assert bootstrap.composite_difference([(1.0, np.ones(3), np.zeros(3, int))]) == (1.0, None, None)


def test_parts_without_spread_have_the_trials_of_their_groups():
    ones = [(0.5, np.ones(10), np.arange(10))] * 2
    assert Bootstrap().composite_interval(ones, together=True) == pytest.approx((0.72247, 1.0), abs=1e-5)


def test_least_squares_finds_the_coefficients_and_each_resample_its_own():
    rng = np.random.default_rng(0)
    x = np.concatenate([np.ones((40, 1)), rng.integers(-1, 2, (40, 2))], axis=1)
    y = x @ [1.0, 2.0, -0.5] + rng.normal(size=40)
    clusters = np.arange(40) // 2
    found, drawn = Bootstrap(resamples=500).least_squares(x, y, clusters)
    np.testing.assert_allclose(found, np.linalg.lstsq(x, y, rcond=None)[0])
    assert drawn.shape == (500, 3)
    # What a resample gives is what the same rows give, each as often as it was drawn.
    times = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), 500)
    rows = np.repeat(np.arange(40), times[7][clusters])
    np.testing.assert_allclose(drawn[7], np.linalg.lstsq(x[rows], y[rows], rcond=None)[0])


def test_least_squares_shares_out_what_two_columns_say_alike():
    x = np.ones((6, 2))
    found, drawn = Bootstrap(resamples=10).least_squares(x, np.full(6, 3.0), np.arange(6))
    np.testing.assert_allclose(found, [1.5, 1.5])
    np.testing.assert_allclose(drawn, np.full((10, 2), 1.5))
