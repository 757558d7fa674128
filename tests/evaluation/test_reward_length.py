"""Reward against length, where the answer is known."""

import numpy as np
import pytest

from crome_jax.evaluation.reward_length import measure_reward_length
from crome_jax.groups import build_group


def _groups(sizes):
    return [
        build_group(id=f"g{i}", prompt="why?", responses=["w " * n for n in row], comparisons=[])
        for i, row in enumerate(sizes)
    ]


def test_a_reward_made_of_length_is_found():
    sizes = [[2, 4, 8], [16, 32], [5]]
    # 3 nats per doubling, and a constant per prompt that runs against it.
    rewards = [3 * np.log2(row) - 100 * i for i, row in enumerate(sizes)]
    measured = measure_reward_length(_groups(sizes), rewards)
    assert measured["responses"] == 6
    assert measured["correlation_within_groups"] == pytest.approx(1)
    assert measured["slope_within_groups"] == pytest.approx(3)
    assert measured["correlation"] < 0
    assert measured["points"][:2] == [[2, 3.0], [4, 6.0]]


def test_the_correlation_is_numpys():
    rng = np.random.default_rng(0)
    sizes = [np.unique(rng.integers(1, 200, 4)) for _ in range(30)]
    rewards = [rng.normal(size=len(row)) for row in sizes]
    measured = measure_reward_length(_groups(sizes), rewards)
    expected = np.corrcoef(np.log2(np.concatenate(sizes)), np.concatenate(rewards))[0, 1]
    assert measured["correlation"] == pytest.approx(expected)


def test_a_constant_has_no_correlation():
    sizes = [[2, 4], [3, 9]]
    for rewards in ([np.full(2, 0.1), np.full(2, 0.1)], [np.full(2, 1e6), np.full(2, 1e6)]):
        measured = measure_reward_length(_groups(sizes), rewards)
        assert measured["correlation"] is None
        assert measured["correlation_within_groups"] is None
    # One response per prompt: nothing varies within one.
    measured = measure_reward_length(_groups([[2], [4], [9]]), [np.array([1.0]), np.array([2.0]), np.array([0.5])])
    assert measured["correlation"] is not None
    assert measured["slope_within_groups"] is None


def test_points_are_a_sample_of_the_responses():
    groups = _groups([[n] for n in range(1, 101)])
    rewards = [np.array([float(n)]) for n in range(1, 101)]
    points = measure_reward_length(groups, rewards, points=30)["points"]
    assert len(points) == 30
    assert len({words for words, _ in points}) == 30
    assert all(words == reward for words, reward in points)
    assert measure_reward_length(groups, rewards, points=30)["points"] == points


def test_no_groups():
    measured = measure_reward_length([], [])
    assert measured["responses"] == 0
    assert measured["correlation"] is None
