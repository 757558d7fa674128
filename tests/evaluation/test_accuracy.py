"""Accuracies worked out by hand, and what must not change them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import groups as any_group

from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.accuracy import accuracy_by, measure_accuracy, measure_ties, pairwise_outcomes
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.calibration import measure_calibration
from crome_jax.evaluation.figures import split_differences, split_figures
from crome_jax.groups import Comparison, Kind, Response, build_group

BOOTSTRAP = Bootstrap(resamples=200)


def _group(id="g", comparisons=None, texts=("one", "two", "three"), **metadata):
    return build_group(
        id=id,
        prompt=f"why {id}?",
        responses=texts,
        comparisons=[Comparison(0, 1)] if comparisons is None else comparisons,
        metadata=metadata,
    )


def test_hand_worked_accuracy():
    groups = [
        _group("a", [Comparison(0, 1), Comparison(2, 0, target=0.0), Comparison(1, 2, target=0.5)], category="x"),
        _group("b", [Comparison(0, 1, kind=Kind.CAUSAL, attribute="clarity"), Comparison(1, 2, target=0.3)]),
    ]
    rewards = [np.array([2.0, 1.0, 5.0]), np.array([1.0, 1.0, 0.0])]
    # a: 0 over 1 is right (+1); 0 over 2 is wrong (-3); the tie does not count. b: 0 against 1 is undecided (0);
    # 2 over 1 is wrong (-1). Right: 1 + 0 + 0.5 + 0 of 4.
    outcomes = pairwise_outcomes(groups, rewards)
    decided = outcomes.decided()
    np.testing.assert_array_equal(decided.difference, [1, -3, 0, -1])
    np.testing.assert_array_equal(decided.correct, [1, 0, 0.5, 0])
    np.testing.assert_allclose(decided.target, [1, 1, 1, 0.7])
    np.testing.assert_allclose(decided.probability, 1 / (1 + np.exp([-1, 3, 0, 1])))
    figures = split_figures(groups, rewards, BOOTSTRAP)
    assert figures["accuracy"] == 1.5 / 4
    assert (figures["comparisons"], figures["groups"], figures["prompts"]) == (4, 2, 2)
    low, high = figures["interval"]
    # Two groups with accuracies 1/2 and 1/4: no resample lies outside them.
    assert (low, high) == (0.25, 0.5)
    assert figures["by_kind"]["human"]["accuracy"] == pytest.approx(1 / 3)
    assert figures["by_kind"]["causal"]["accuracy"] == 0.5
    assert list(figures["by_category"]) == ["x"]
    assert figures["by_category"]["x"]["comparisons"] == 2
    assert figures["by_attribute"]["clarity"]["comparisons"] == 1
    assert figures["ties"]["comparisons"] == 1
    assert figures["ties"]["mean_absolute_difference"] == 4
    assert figures["ties"]["share_equal"] == 0


def test_hand_worked_calibration():
    # One comparison at odds 3:1 (confidence 0.75) and right, one at odds 3:1 and wrong, one at even odds, undecided.
    group = _group(comparisons=[Comparison(0, 1), Comparison(1, 0), Comparison(1, 2, target=0.6)])
    measured = measure_calibration(pairwise_outcomes([group], [np.log([3.0, 1.0, 1.0])]).decided())
    assert measured["expected_accuracy"] == pytest.approx(2 / 3)
    assert measured["log_loss"] == pytest.approx(-(np.log(0.75) + np.log(0.25) + np.log(0.5)) / 3)
    # The bin of 0.75 holds two, half of them right: off by 0.25. The bin of 0.5 holds one, half right: off by 0.
    assert measured["calibration_error"] == pytest.approx(0.25 * 2 / 3)
    assert [(b["accuracy"], b["comparisons"]) for b in measured["bins"]] == [(0.5, 1), (0.5, 2)]


def _mirrored(group):
    return dataclasses.replace(
        group,
        comparisons=tuple(
            dataclasses.replace(c, left=c.right, right=c.left, target=1 - c.target) for c in group.comparisons
        ),
    )


# Of the drawn targets 1 - (1 - t) must give t back, else a swap turns 0.5 - 1e-17 into a tie.
_groups = st.lists(
    any_group().filter(lambda group: all(1 - (1 - c.target) == c.target for c in group.comparisons)), max_size=3
)


def _without_side(figures):
    return {**figures, "ties": {**figures["ties"], "mean_left_probability": None}}


@given(_groups, st.integers(0, 9))
def test_swapping_left_and_right_changes_nothing(groups, seed):
    rng = np.random.default_rng(seed)
    rewards = [rng.integers(0, 3, len(g.responses)).astype(float) for g in groups]
    ours, swapped = (split_figures(g, rewards, BOOTSTRAP) for g in (groups, [_mirrored(g) for g in groups]))
    assert _without_side(ours) == _without_side(swapped)
    if ours["ties"]["comparisons"]:
        sides = [figures["ties"]["mean_left_probability"] for figures in (ours, swapped)]
        assert sum(sides) == pytest.approx(1)


@given(_groups, st.integers(0, 9))
def test_a_constant_per_prompt_changes_no_accuracy(groups, seed):
    rng = np.random.default_rng(seed)
    rewards = [rng.integers(0, 3, len(g.responses)).astype(float) for g in groups]
    moved = [r + rng.integers(-50, 50) for r in rewards]
    ours, theirs = (split_figures(groups, r, BOOTSTRAP) for r in (rewards, moved))
    for key in ("accuracy", "interval", "by_kind", "by_category", "by_stratum", "ties", "calibration"):
        assert ours[key] == theirs[key]


@given(_groups, st.integers(0, 9))
def test_parts_add_up(groups, seed):
    rng = np.random.default_rng(seed)
    rewards = [rng.normal(size=len(g.responses)) for g in groups]
    figures = split_figures(groups, rewards, BOOTSTRAP)
    for parts in (
        figures["by_kind"],
        figures["by_stratum"].get("length", {}),
        figures["by_stratum"].get("markdown", {}),
    ):
        assert sum(part["comparisons"] for part in parts.values()) == figures["comparisons"]
        right = sum(part["accuracy"] * part["comparisons"] for part in parts.values())
        assert right == pytest.approx((figures["accuracy"] or 0) * figures["comparisons"])
    assert figures["comparisons"] + figures["ties"]["comparisons"] == sum(len(g.comparisons) for g in groups)


def test_no_comparisons_give_no_accuracy():
    for groups in ([], [_group(comparisons=[])]):
        figures = split_figures(groups, [np.zeros(3)] * len(groups), BOOTSTRAP)
        assert (figures["accuracy"], figures["interval"], figures["comparisons"]) == (None, None, 0)
        assert figures["calibration"]["log_loss"] is None


def test_labels_come_in_their_order_and_none_is_left_out():
    group = _group(comparisons=[Comparison(0, 1), Comparison(1, 2), Comparison(0, 2)])
    outcomes = pairwise_outcomes([group], [np.arange(3.0)])
    assert list(accuracy_by(outcomes, ["b", "a", None], BOOTSTRAP)) == ["a", "b"]
    assert list(accuracy_by(outcomes, ["b", "a", None], BOOTSTRAP, order=["b"])) == ["b", "a"]


def test_a_model_that_does_not_move_holds_ties():
    group = _group(comparisons=[Comparison(0, 1, target=0.5), Comparison(1, 2, target=0.5)])
    measured = measure_ties(pairwise_outcomes([group], [np.array([1.0, 1.05, 3.0])]).ties(), BOOTSTRAP)
    assert measured["share_equal"] == 0.5
    assert measured["mean_absolute_difference"] == pytest.approx(1.0)
    assert measured["interval"] is None  # one prompt tells nothing of others


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite_is_named(bad):
    with pytest.raises(CromeError, match=r"group 'second'.*responses\[2\]"):
        pairwise_outcomes([_group(), _group("second")], [np.zeros(3), np.array([0, 0, bad])])


@pytest.mark.parametrize("shape", [(2,), (3, 1), ()])
def test_rewards_of_another_shape_are_refused(shape):
    with pytest.raises(CromeError, match=r"group 'g'.*3 responses"):
        pairwise_outcomes([_group()], [np.zeros(shape)])


def test_missing_groups_are_refused():
    with pytest.raises(CromeError, match="0 groups"):
        pairwise_outcomes([_group()], [])


def test_a_spurious_attribute_that_is_no_boolean_is_named():
    group = build_group(
        id="g7",
        prompt="why?",
        responses=[Response("one", metadata={"long": "yes"}), Response("two", metadata={"long": True})],
        comparisons=[Comparison(0, 1)],
        metadata={"spurious_attributes": "long"},
    )
    with pytest.raises(DataError, match=r"'g7'.*responses\[0\]\.metadata\['long'\]"):
        pairwise_outcomes([group], [np.zeros(2)])


def test_a_difference_is_measured_on_the_same_comparisons():
    groups = [_group(f"g{i}") for i in range(20)]
    right, wrong = [np.array([1.0, 0.0, 0.0])] * 20, [np.array([0.0, 1.0, 0.0])] * 20
    mixed = right[:15] + wrong[15:]
    found = split_differences(groups, right, groups, mixed, BOOTSTRAP)
    assert found["difference"] == 0.25
    assert found["interval"][0] > 0
    assert found["comparisons"] == 20
    assert split_differences(groups, right, groups[:-1], right[:-1], BOOTSTRAP) is None


def test_records_of_one_prompt_are_drawn_together():
    # Of 12 prompts each has three pairs: as records of their own they have the figures that one record of them has.
    rng = np.random.default_rng(0)
    texts = [f"answer {n}" for n in range(6)]
    pairs = [Comparison(2 * n, 2 * n + 1) for n in range(3)]
    together = [build_group(id=f"{n}", prompt=f"why {n}?", responses=texts, comparisons=pairs) for n in range(12)]
    rewards = [rng.normal(size=6) + rng.normal() * np.array([1, 0] * 3) for _ in together]
    apart = [
        build_group(id=f"{n}.{m}", prompt=f"why {n}?", responses=texts[2 * m : 2 * m + 2], comparisons=[pairs[0]])
        for n in range(12)
        for m in range(3)
    ]
    halves = [reward[2 * m : 2 * m + 2] for reward in rewards for m in range(3)]
    whole, parts = split_figures(together, rewards, BOOTSTRAP), split_figures(apart, halves, BOOTSTRAP)
    assert parts["interval"] == whole["interval"]
    assert (parts["groups"], parts["prompts"], whole["groups"], whole["prompts"]) == (36, 12, 12, 12)
    zeros = [np.zeros(2)] * 36, [np.zeros(6)] * 12
    ours = split_differences(apart, halves, apart, zeros[0], BOOTSTRAP)
    assert ours == split_differences(together, rewards, together, zeros[1], BOOTSTRAP)
    lengths = [outcomes.decided() for outcomes in map(pairwise_outcomes, (together, apart), (rewards, halves))]
    np.testing.assert_array_equal(lengths[0].prompt, lengths[1].prompt)


def test_accuracy_figures_are_plain_numbers():
    measured = measure_accuracy(pairwise_outcomes([_group()], [np.array([1, 0, 0])]).decided(), BOOTSTRAP)
    assert {name: type(value) for name, value in measured.items()} == {
        "accuracy": float,
        "interval": list,
        "comparisons": int,
        "groups": int,
        "prompts": int,
    }
