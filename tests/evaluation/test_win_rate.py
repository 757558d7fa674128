"""AlpacaEval 2's win rate, with length held equal: its fit, its interval, and of what a reward model picks from N."""

import itertools

import numpy as np
import pytest

from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.best_of_n_figures import best_of_n_figures
from crome_jax.evaluation.best_of_n_page import render_best_of_n
from crome_jax.evaluation.best_of_n_panels import best_of_n_panels
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.candidates import Candidates, read_difficulty
from crome_jax.evaluation.page import interval
from crome_jax.evaluation.win_rate import length_controlled_win_rate
from crome_jax.groups import Message

BOOTSTRAP = Bootstrap(resamples=50)


def item(n, texts=("b", "bb"), **facts):
    return Candidates(
        str(n), (Message("user", f"Prompt {n}?"),), tuple(texts), {"baseline": "b" * 40} | facts, {}, n + 1
    )


def test_length_control_of_a_judge_that_likes_length():
    rng = np.random.default_rng(0)
    difference = rng.normal(size=3000) + 0.5
    lengths = 1000 + 300 * difference
    x = np.tanh((lengths - 1000) / (lengths - 1000).std(ddof=1))
    preferences = 1 / (1 + np.exp(-(2.0 * x - 0.4)))
    plain = np.mean(preferences)
    found = length_controlled_win_rate(preferences, lengths, np.full(3000, 1000.0), BOOTSTRAP)
    assert found["weights"]["length"] == pytest.approx(2.0, abs=0.02)
    assert found["win_rate"] == pytest.approx(1 / (1 + np.exp(0.4)), abs=0.005)  # What the model itself is worth.
    assert plain > found["win_rate"] + 0.05
    difficulty = rng.normal(size=3000)
    harder = 1 / (1 + np.exp(-(2.0 * x - 0.4 + 0.7 * difficulty)))
    found = length_controlled_win_rate(harder, lengths, np.full(3000, 1000.0), BOOTSTRAP, difficulty)
    assert found["weights"]["difficulty"] == pytest.approx(0.7, abs=0.02)


def test_the_length_controlled_win_rate_of_picks_is_that_of_all_draws():
    # Three instructions with four candidates each: the fit to every set of two that can be drawn, each draw a row.
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(3, 4)), rng.random((3, 4))
    texts = [[f"{'a' * int(k)}" for k in rng.integers(1, 90, 4)] for _ in range(3)]
    items = [item(n, some, instruction_difficulty=float(n)) for n, some in enumerate(texts)]
    figures = best_of_n_figures(items, list(rewards), list(values), "preference", BOOTSTRAP)
    drawn = list(itertools.combinations(range(4), 2))
    picks = [[max(pair, key=lambda k: rewards[n, k]) for pair in drawn] for n in range(3)]
    flat = lambda of: np.array([of(n, k) for n in range(3) for k in picks[n]], float)  # noqa: E731
    expected = length_controlled_win_rate(
        flat(lambda n, k: values[n, k]),
        flat(lambda n, k: len(texts[n][k])),
        np.full(18, 40.0),
        BOOTSTRAP,
        flat(lambda n, k: n),
        np.full(18, 1 / 6),
        np.repeat(np.arange(3), 6),
    )
    (found,) = (point for point in figures["length_controlled"] if point["n"] == 2)
    assert found["win_rate"] == pytest.approx(expected["win_rate"], abs=1e-9)
    assert found["weights"] == pytest.approx(expected["weights"], abs=1e-7)
    assert found["interval"] == pytest.approx(expected["interval"], abs=1e-9)
    # Of all four the one with the highest reward alone: as if there were no other.
    best = rewards.argmax(1)
    alone = length_controlled_win_rate(
        np.array([values[n, k] for n, k in enumerate(best)]),
        np.array([float(len(texts[n][k])) for n, k in enumerate(best)]),
        np.full(3, 40.0),
        BOOTSTRAP,
        np.arange(3.0),
    )
    assert figures["length_controlled"][-1]["win_rate"] == pytest.approx(alone["win_rate"], abs=1e-9)


def test_equal_lengths_leave_the_win_rate_as_it_is():
    preferences = np.array([0.9, 0.6, 0.3, 0.8])
    found = length_controlled_win_rate(preferences, np.full(4, 10.0), np.full(4, 10.0), BOOTSTRAP)
    assert found["win_rate"] == pytest.approx(preferences.mean(), abs=1e-3)  # The ridge pulls a little.
    with pytest.raises(CromeError, match="is no probability"):
        length_controlled_win_rate(np.array([1.5]), np.ones(1), np.ones(1), BOOTSTRAP)


def test_the_interval_of_equal_lengths_is_the_plain_win_rates():
    preferences = np.random.default_rng(0).random(40)
    plain = BOOTSTRAP.mean_interval(preferences, np.arange(len(preferences)))
    found = length_controlled_win_rate(preferences, np.full(40, 10.0), np.full(40, 10.0), BOOTSTRAP)["interval"]
    assert found == pytest.approx(plain, abs=1e-3)  # The ridge pulls a little.
    alone = length_controlled_win_rate(preferences[:1], np.ones(1), np.ones(1), BOOTSTRAP)
    assert alone["interval"] is None


def test_the_interval_draws_instructions_and_fits_each_set_again():
    rng = np.random.default_rng(1)
    lengths, difficulty = rng.integers(1, 90, 30).astype(float), np.repeat(rng.normal(size=10), 3)
    preferences = np.clip(lengths / 90 + 0.2 * difficulty, 0, 1)
    columns = preferences, lengths, np.full(30, 40.0)
    instructions = np.repeat(np.arange(10), 3)
    shares = np.tile([0.5, 0.5, 0.0], 10)  # The third output is never picked.
    found = length_controlled_win_rate(*columns, BOOTSTRAP, difficulty, shares, instructions)
    draws = np.random.default_rng(BOOTSTRAP.seed)
    refits = []
    for _ in range(BOOTSTRAP.resamples):
        rows = np.concatenate([np.arange(3 * i, 3 * i + 2) for i in draws.integers(10, size=10)])
        refit = length_controlled_win_rate(*(c[rows] for c in columns), Bootstrap(1), difficulty[rows], shares[rows])
        refits.append(refit["win_rate"])
    assert found["interval"] == pytest.approx(np.quantile(refits, [0.025, 0.975]).tolist(), abs=1e-8)
    # Outputs of one instruction are not independent: as if each had an instruction of its own, it would be narrower.
    apart = length_controlled_win_rate(*columns, BOOTSTRAP, difficulty, shares)["interval"]
    assert apart[1] - apart[0] < found["interval"][1] - found["interval"][0]


def test_records_of_one_prompt_are_one_instruction():
    rewards, values = [np.array([0.0, 1.0])] * 6, [np.array([0.1 * n, 0.3 + 0.1 * n]) for n in range(6)]
    once = best_of_n_figures([item(n) for n in range(6)], rewards, values, "preference", BOOTSTRAP)
    records = [item(n) for n in range(6)] * 3
    thrice = best_of_n_figures(records, rewards * 3, values * 3, "preference", BOOTSTRAP)
    for one, three in zip(once["length_controlled"], thrice["length_controlled"], strict=True):
        assert three["interval"] == pytest.approx(one["interval"], abs=1e-2)  # The ridge weighs less against more.


@pytest.mark.parametrize("preference", [0.0, 0.5, 1.0])
def test_a_win_rate_without_spread_is_not_certain(preference):
    lengths = np.arange(10.0)
    found = length_controlled_win_rate(np.full(10, preference), lengths, np.full(10, 5.0), BOOTSTRAP)
    # Wilson, z = 1.95996, of 10: half to either side of 1/2 is 0.26341; all or none right leaves 0.27753.
    low, high = {0.0: (0, 0.27753), 0.5: (0.23659, 0.76341), 1.0: (0.72247, 1)}[preference]
    assert found["interval"] == pytest.approx([low, high], abs=1e-2)  # The ridge pulls a little.


def test_the_interval_stands_on_the_page_and_in_comparisons():
    items = [item(n, preferences=[0.2, 0.7]) for n in range(4)]
    values = [np.array([0.1 * n, 0.3 + 0.1 * n]) for n in range(4)]
    figures = best_of_n_figures(items, [np.array([0.0, 1.0])] * 4, values, "preference", BOOTSTRAP)
    low, high = figures["length_controlled"][1]["interval"]
    assert low < figures["length_controlled"][1]["win_rate"] < high
    page = render_best_of_n({**figures, "title": "Best of N", "facts": {}})
    assert interval([low, high]) in page
    panel = best_of_n_panels({"preference": {"crome": figures}})[-1]
    assert [point["interval"] for point in panel.curves["crome"]][1] == [low, high]


def test_difficulties_are_of_all_records_or_of_none():
    hard = [item(n, instruction_difficulty=n) for n in range(3)]
    assert read_difficulty(hard).tolist() == [0, 1, 2]
    assert read_difficulty([item(0), item(1, instruction_difficulty=None)]) is None  # As a column of Parquet has it.
    problem = (
        "'instruction_difficulty' is missing of 1 of 4 records, the first with the id '7'; give it in every record"
    )
    with pytest.raises(DataError, match=problem) as error:
        read_difficulty([*hard, item(7)])
    assert error.value.record == 8
