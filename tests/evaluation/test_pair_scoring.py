"""A pair's log-odds are its own, and negated when it is turned round; and what is measured of them."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import CFG, ONE, WordTokenizer, host_params, mesh_of, text_groups

from crome_jax.data.datasets.benchmarks.groups import benchmark_group
from crome_jax.data.loading import tokenize_groups
from crome_jax.data.packing import RowShape, pack
from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.accuracy import pairwise_outcomes
from crome_jax.evaluation.benchmarks.examples import pair_results, read_examples
from crome_jax.evaluation.benchmarks.rewardbench2 import measure_rewardbench2
from crome_jax.evaluation.benchmarks.rm_bench import style_wins
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.ensembles import combine
from crome_jax.evaluation.leads import sides, tie_probabilities, win_probabilities
from crome_jax.evaluation.pair_scoring import (
    BOTH,
    gather_pairs,
    judge_groups,
    pack_pairs,
    score_candidates,
    score_pairs,
    tokens_alone,
)
from crome_jax.evaluation.reward_length import measure_reward_length
from crome_jax.evaluation.rewards_files import read_rewards, write_rewards
from crome_jax.evaluation.scoring import RewardModel, make_scorer, score_groups, score_rows
from crome_jax.groups import Comparison, Message, PreferenceGroup, Response
from crome_jax.models.decoder import rewards
from crome_jax.models.weights import declare
from crome_jax.training.mesh import weight_shardings
from crome_jax.verbs.score import Item, compare_items

SHAPE = RowShape(128, 8, 8)
GROUPS = text_groups(9)


def model(sizes: tuple[int, ...] = ONE, shape: RowShape = SHAPE) -> RewardModel:
    mesh = mesh_of(*sizes)
    params = dict(host_params("all"))
    params["pair_head"] = params.pop("head")
    params = jax.tree.map(jax.device_put, params, weight_shardings(declare(CFG, head="pairwise"), mesh))
    return RewardModel(params, CFG, WordTokenizer(), shape, mesh)


@functools.cache
def expected() -> dict[tuple[str, int, int], float]:
    """Return the log-odds of every two responses, each pair in each order in a row of its own."""
    found = {}
    for group in GROUPS:
        for low, high in itertools.combinations(range(len(group.responses)), 2):
            alone = dataclasses.replace(group, comparisons=(Comparison(low, high),))
            (item,) = tokenize_groups([alone], WordTokenizer(), SHAPE, pairs=BOTH)
            logits = []
            for order in (0, 1):
                one = dataclasses.replace(
                    item, responses=[item.responses[order]],
                    **{f: getattr(item, f)[:1] for f in ("left", "right", "kind", "target", "weight", "margin")},
                )  # fmt: skip
                batch = jax.tree.map(jnp.asarray, pack([one], SHAPE).batch)
                logits.append(float(run(model().params, batch)[0, 0]))
            found[group.id, low, high] = (logits[0] - logits[1]) / 2
            found[group.id, high, low] = (logits[1] - logits[0]) / 2
    return found


run = jax.jit(lambda params, batch: rewards(params, batch, CFG))


def check(judged, groups, every: bool):
    for matrix, group in zip(judged, groups, strict=True):
        n = len(group.responses)
        assert matrix.shape == (n, n)
        compared = {tuple(sorted((c.left, c.right))) for c in group.comparisons}
        for a, b in itertools.permutations(range(n), 2):
            if every or tuple(sorted((a, b))) in compared:
                # fp32 rounding of additions in another order, on logits of a few nats.
                assert abs(matrix[a, b] - expected()[group.id, a, b]) < 2e-5
                assert matrix[a, b] == -matrix[b, a]
            else:
                assert np.isnan(matrix[a, b])
        assert not np.diagonal(matrix).any()


def test_the_log_odds_of_the_toy_differ_and_order_matters_to_the_model():
    assert np.ptp(list(expected().values())) > 0.5


@pytest.mark.parametrize(("sizes", "shape"), [(ONE, SHAPE), (ONE, RowShape(64, 3, 1)), ((8, 1, 1), SHAPE)])
def test_a_pair_is_scored_the_same_whatever_it_is_packed_with_and_wherever(sizes, shape):
    check(score_pairs(model(sizes, shape), GROUPS, every_pair=True).rewards, GROUPS, every=True)


def test_only_what_is_compared_is_scored_and_a_prompt_and_a_pair_are_encoded_once():
    scores = judge_groups(model(), GROUPS)
    check(scores.rewards, GROUPS, every=False)
    assert scores.truncated == 0
    turned = [
        dataclasses.replace(group, id=f"{group.id}-again", responses=group.responses[:2][::-1]) for group in GROUPS
    ]
    both = judge_groups(model(), [*GROUPS, *turned])
    assert both.tokens == scores.tokens
    for ours, theirs in zip(both.rewards[len(GROUPS) :], scores.rewards, strict=True):
        assert ours[0, 1] == theirs[1, 0]


def test_a_study_packs_and_gathers_the_same():
    on = model()
    rows = pack_pairs(GROUPS, WordTokenizer(), SHAPE, name="toy")
    values = score_rows(make_scorer(CFG, on.mesh), on.params, rows, on.mesh)
    check(gather_pairs(rows, values, GROUPS), GROUPS, every=False)


def test_a_group_refused_is_told_of_and_has_no_log_odds():
    long = dataclasses.replace(GROUPS[0], id="long", prompt=(Message("user", "word " * 120),))
    refused = []
    scores = score_pairs(model(), [long, *GROUPS], on_bad=lambda group, error: refused.append((group.id, str(error))))
    assert [name for name, _ in refused] == ["long"]
    assert np.isnan(scores.rewards[0]).all()
    check(scores.rewards[1:], GROUPS, every=False)
    with pytest.raises(DataError, match=r"^group .long.: .prompt. takes \d+ tokens"):
        score_pairs(model(), [long])


def test_answers_that_were_cut_are_counted():
    words = [" ".join(f"{side}{n}" for n in range(90)) for side in "abc"]
    group = PreferenceGroup("long", (Message("user", "Go on"),), tuple(map(Response, words)), (Comparison(0, 1),))
    assert score_pairs(model(), [group]).truncated == 2
    assert score_pairs(model(), [group], every_pair=True).truncated == 6


def test_pairs_by_themselves_are_counted_cut_as_they_are_scored():
    words = [" ".join(f"{side}{n}" for n in range(90)) for side in "ab"]
    group = PreferenceGroup("long", (Message("user", "Go on"),), tuple(map(Response, words)), (Comparison(0, 1),))
    refused = dataclasses.replace(group, id="refused", prompt=(Message("user", "word " * 120),))
    shape = RowShape(64, 8, 8)
    # Each answer, with a prompt of its own, fills a row; and so do both together, in either order.
    assert tokens_alone([group, refused], WordTokenizer(), shape) == 2 * 64
    assert tokens_alone([group, refused], WordTokenizer(), shape, pairwise=True) == 2 * 64


def test_a_model_of_the_other_kind_is_refused():
    with pytest.raises(CromeError, match="a pairwise model says which of two answers is better"):
        score_groups(model(), GROUPS)
    scalar = dataclasses.replace(model(), params={**host_params("all")})
    with pytest.raises(CromeError, match="gives rewards to responses and compares no pairs"):
        score_pairs(scalar, GROUPS)
    with pytest.raises(CromeError, match="an ensemble is of rewards"):
        combine([np.zeros((2, 2)), np.zeros((2, 2))], "mean")


def test_candidates_are_ranked_by_their_mean_win_probability():
    # Log-odds log 3 and log 4 give 3/4 and 4/5: (3/4 + 4/5) / 2, (1/4 + 1/2) / 2, (1/5 + 1/2) / 2.
    odds = np.array([[0, np.log(3), np.log(4)], [-np.log(3), 0, 0], [-np.log(4), 0, 0]])
    np.testing.assert_allclose(win_probabilities(odds), [0.775, 0.375, 0.35])
    assert win_probabilities(np.zeros((1, 1))).tolist() == [0.5]
    alone = [dataclasses.replace(group, comparisons=()) for group in GROUPS]
    scores = score_candidates(model(), alone)
    for group, wins in zip(GROUPS, scores.rewards, strict=True):
        n = len(group.responses)
        for a in range(n):
            by_hand = np.mean([1 / (1 + np.exp(-expected()[group.id, a, b])) for b in range(n) if b != a])
            assert abs(wins[a] - by_hand) < 1e-5


def test_a_tie_is_as_likely_as_the_losses_of_win_tie_and_loss_make_it():
    # Log-odds 2 log 2: cosh(log 2) = 5/4, 1 / (1 + 5/2) = 2/7; of 0: 1/3; of infinity none.
    odds = np.array([[0, 2 * np.log(2), np.inf], [-2 * np.log(2), 0, 0], [-np.inf, 0, 0]])
    np.testing.assert_allclose(tie_probabilities(odds), [1 / 7, (2 / 7 + 1 / 3) / 2, 1 / 6])
    np.testing.assert_allclose(tie_probabilities(np.zeros((1, 1))), [1 / 3])
    for d in (-3.0, 0.4, 9.0):
        log_win, log_loss = -np.log1p(np.exp(-d)), -np.log1p(np.exp(d))
        shares = np.exp([log_win, 0.5 * (log_win + log_loss), log_loss])
        pair = np.array([[0, d], [-d, 0]])
        np.testing.assert_allclose(tie_probabilities(pair), shares[1] / shares.sum())
    # What davidson.nu = 2 says of two alike is 2 / (1 + 1 + 2).
    np.testing.assert_allclose(tie_probabilities(np.zeros((2, 2)), nu=2.0), 0.5)


def test_score_gives_each_response_its_means_over_the_others_of_its_record():
    items = [
        Item("f", number, group.prompt, response.text, {}, None)
        for number, group in enumerate(GROUPS)
        for response in group.responses
    ]
    given, cut = compare_items(model(), items, rows_at_once=8, on_bad=pytest.fail)
    judged = [np.zeros((len(group.responses),) * 2) for group in GROUPS]
    for group, odds in zip(GROUPS, judged, strict=True):
        for a, b in itertools.permutations(range(len(odds)), 2):
            odds[a, b] = expected()[group.id, a, b]
    assert (len(given), sum(cut)) == (sum(map(len, judged)), 0)
    for name, mean in (("win_probability", win_probabilities), ("tie_probability", tie_probabilities)):
        by_hand = np.concatenate([mean(odds) for odds in judged])
        np.testing.assert_allclose([one[name] for one in given], by_hand, atol=1e-5)


ODDS = np.array([[0.0, 0.5, np.nan], [-0.5, 0.0, 2.0], [np.nan, -2.0, 0.0]])
"""Response 0 beats 1, and 1 beats 2; 0 and 2 were not compared."""
THREE = PreferenceGroup(
    "three", (Message("user", "Why?"),), tuple(map(Response, ("a", "b b", "c c c"))),
    (Comparison(0, 1), Comparison(2, 1), Comparison(1, 2, target=0.5)),
)  # fmt: skip


def test_outcomes_are_the_log_odds_of_each_comparison():
    outcomes = pairwise_outcomes([THREE], [ODDS])
    assert outcomes.difference.tolist() == [0.5, -2.0, 2.0]
    assert outcomes.correct.tolist() == [1.0, 0.0, 1.0]
    assert sides(ODDS, 1, 2) == (1.0, -1.0)
    assert measure_reward_length([THREE], [ODDS])["responses"] == 0
    more = dataclasses.replace(THREE, comparisons=(*THREE.comparisons, Comparison(0, 2)))
    with pytest.raises(CromeError, match=r"group 'three': the log-odds of comparisons\[3\] are nan"):
        pairwise_outcomes([more], [ODDS])


def test_log_odds_are_kept_beside_a_run_and_come_back(tmp_path):
    groups = [THREE, dataclasses.replace(THREE, id="two", responses=THREE.responses[:2], comparisons=())]
    judged = [ODDS.astype(np.float32), np.zeros((2, 2), np.float32)]
    write_rewards(tmp_path, groups, judged)
    for ours, theirs in zip(read_rewards(tmp_path, groups), judged, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_benchmarks_of_pairs_read_log_odds_and_those_of_rewards_refuse_them():
    pair = benchmark_group(id="p", prompt="Why?", chosen=["yes"], rejected=["no"], subset="s", category="c")
    at = [r.text for r in pair.responses].index("yes")
    odds = np.array([[0.0, 1.0], [-1.0, 0.0]]) * (1 if at == 0 else -1)
    assert pair_results(read_examples([pair, pair], [odds, -odds])).tolist() == [1.0, 0.0]
    # A circle, which no rewards make: right answer 0 beats wrong 1, and 1 loses to 0 alone.
    grid = benchmark_group(id="g", prompt="Why?", chosen=["a", "b", "c"], rejected=["d", "e", "f"], subset="chat",
                           category="c")  # fmt: skip
    place = {r.text: n for n, r in enumerate(grid.responses)}
    circle = np.zeros((6, 6))
    won = [("a", "d"), ("b", "e"), ("c", "f"), ("a", "e"), ("b", "f"), ("c", "d")]
    for better, worse in itertools.product("abc", "def"):
        sign = 1.0 if (better, worse) in won else -1.0
        circle[place[better], place[worse]], circle[place[worse], place[better]] = sign, -sign
    assert style_wins(read_examples([grid], [circle])).tolist() == [[[1, 1, 0], [0, 1, 1], [1, 0, 1]]]
    with pytest.raises(CromeError, match="RewardBench 2 takes the highest of several rewards"):
        measure_rewardbench2(read_examples([pair], [odds]), Bootstrap(resamples=10))
