"""A response's reward is its own: whatever it is packed with, wherever it runs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import CFG, ONE, WordTokenizer, host_params, mesh_of, text_groups

from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.scoring import (
    RewardModel,
    gather_rewards,
    make_scorer,
    pack_for_scoring,
    score_groups,
    score_rows,
)
from crome_jax.groups import Comparison, Message, PreferenceGroup, Response
from crome_jax.models.weights import declare
from crome_jax.training.mesh import weight_shardings

SHAPE = RowShape(64, 8, 8)
GROUPS = text_groups(14)


def model(sizes: tuple[int, ...] = ONE, shape: RowShape = SHAPE) -> RewardModel:
    mesh = mesh_of(*sizes)
    params = jax.tree.map(jax.device_put, host_params("all"), weight_shardings(declare(CFG), mesh))
    return RewardModel(params, CFG, WordTokenizer(), shape, mesh)


@functools.cache
def expected() -> list[np.ndarray]:
    """Score each response in a group of its own, which shares nothing with others."""
    alone = [
        dataclasses.replace(group, id=f"{group.id}-{r}", responses=(response,), comparisons=())
        for group in GROUPS
        for r, response in enumerate(group.responses)
    ]
    rows, of = pack_for_scoring(alone, WordTokenizer(), SHAPE), model()
    scores = iter(gather_rewards(rows, score_rows(make_scorer(CFG, of.mesh), of.params, rows, of.mesh), alone))
    return [np.concatenate([next(scores) for _ in group.responses]) for group in GROUPS]


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray]):
    for a, b in zip(ours, theirs, strict=True):
        # fp32 rounding of additions in another order, on rewards of a few nats.
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def test_the_rewards_of_the_toy_differ():
    assert np.ptp(np.concatenate(expected())) > 1.0
    assert all(np.unique(rewards).size == rewards.size for rewards in expected())


@pytest.mark.parametrize("rows_at_once", [1, 3, 8, 50])
def test_any_number_of_rows_at_once(rows_at_once):
    assert_close(score_groups(model(), GROUPS, rows_at_once=rows_at_once).rewards, expected())


@pytest.mark.parametrize("shape", [RowShape(48, 3, 1), RowShape(48, 8, 8), RowShape(160, 24, 2)])
def test_any_shape_of_rows(shape):
    assert_close(score_groups(model(shape=shape), GROUPS).rewards, expected())


@pytest.mark.parametrize(("sizes", "rows_at_once"), [((8, 1, 1), 8), ((8, 1, 1), 3), ((2, 2, 2), 4)])
def test_any_mesh(sizes, rows_at_once):
    assert_close(score_groups(model(sizes), GROUPS, rows_at_once=rows_at_once).rewards, expected())


def test_any_order_of_groups_and_responses():
    order = np.random.default_rng(0).permutation(len(GROUPS))
    turned = [
        dataclasses.replace(GROUPS[i], responses=GROUPS[i].responses[::-1], comparisons=GROUPS[i].comparisons[:1])
        for i in order
    ]
    assert_close(score_groups(model(), turned).rewards, [expected()[i][::-1] for i in order])


def test_every_response_is_scored_whether_compared_or_not():
    scores = score_groups(model(), GROUPS, rows_at_once=1)
    assert [len(rewards) for rewards in scores.rewards] == [len(group.responses) for group in GROUPS]
    assert all(rewards.dtype == np.float32 and np.isfinite(rewards).all() for rewards in scores.rewards)
    assert scores.truncated == 0
    tokenizer = WordTokenizer()
    prompts = sum(len(tokenizer.encode_prompt(group.prompt)) for group in GROUPS)
    responses = sum(len(tokenizer.encode_response(r.text)) for group in GROUPS for r in group.responses)
    # Each prompt once, and what they begin with, [8, "Say"], once for each of nine rows.
    assert scores.tokens + scores.padding == 9 * 64
    assert scores.tokens == prompts + responses - 2 * (len(GROUPS) - 9)


def test_what_all_prompts_begin_with_is_encoded_once_for_each_row():
    system = "word " * 40  # More than half of a row.
    taught = [
        dataclasses.replace(group, prompt=(Message("user", f"{system}{group.prompt[0].content}"),)) for group in GROUPS
    ]
    shape = RowShape(128, 16, 8)
    rows, of = pack_for_scoring(taught, WordTokenizer(), shape), model(shape=shape)
    plain = gather_rewards(rows, score_rows(make_scorer(CFG, of.mesh), of.params, rows, of.mesh), taught)
    scores = score_groups(of, taught, rows_at_once=1)
    assert_close(scores.rewards, plain)
    assert np.ptp(np.concatenate(plain)) > 1.0
    used = (scores.tokens + scores.padding) // 128
    assert used < len(rows)
    assert scores.tokens == rows.real_tokens - 42 * (len(GROUPS) - used)


def test_a_prompt_that_several_groups_ask_is_encoded_once():
    # Each group once more, its responses turned and without the last, and a group with one of its own between.
    again = [
        dataclasses.replace(group, id=f"{group.id}-again", responses=group.responses[::-1][1:], comparisons=())
        for group in GROUPS
    ]
    mixed = [*again[:5], *GROUPS, *again[5:]]
    scores = score_groups(model(), mixed)
    assert scores.tokens == score_groups(model(), GROUPS).tokens
    assert_close(scores.rewards[5 : 5 + len(GROUPS)], expected())
    turned = [rewards[::-1][1:] for rewards in expected()]
    assert_close([*scores.rewards[:5], *scores.rewards[5 + len(GROUPS) :]], turned)


def test_rows_are_as_short_as_their_groups_allow():
    # 700 tokens halve once: rows of 350 hold all but the long group, which is alone in a row of 700.
    long = PreferenceGroup("long", (Message("user", "Go on"),), (Response("word " * 600),), ())
    wide = model(shape=RowShape(700, 8, 8))
    scores = score_groups(wide, [*GROUPS, long])
    assert scores.truncated == 0
    assert_close(scores.rewards[:-1], expected())
    np.testing.assert_allclose(scores.rewards[-1], score_groups(wide, [long]).rewards[0], atol=1e-5)


def test_a_group_refused_is_told_of_each_that_asks_its_prompt():
    long = dataclasses.replace(GROUPS[0], id="long", prompt=(Message("user", "word " * 60),))
    refused = []
    groups = [long, *GROUPS, dataclasses.replace(long, id="long too")]
    scores = score_groups(model(), groups, on_bad=lambda group, error: refused.append((group.id, str(error))))
    assert [name for name, _ in refused] == ["long", "long too"]
    assert all(said.startswith(f"group '{name}': 'prompt' takes 62") for name, said in refused)
    assert np.isnan(scores.rewards[0]).all()
    assert_close(scores.rewards[1:-1], expected())
    with pytest.raises(DataError, match="holds nothing to score"):
        score_groups(model(), [long], on_bad=lambda *_: None)


def test_responses_that_were_cut_are_counted_and_scored_as_cut():
    words = [f"w{n}" for n in range(100)]
    texts = [" ".join(words), "short one", " ".join(words[::-1])]
    group = PreferenceGroup("long", (Message("user", "Go on"),), tuple(map(Response, texts)), ())
    scores = score_groups(model(), [group, *GROUPS])
    assert scores.truncated == 2
    assert_close(scores.rewards[1:], expected())
    # A row has 64 tokens, the prompt takes 4, and the last one stays the end of turn.
    cut = [Response(" ".join(some[:59])) for some in (words, words[::-1])]
    short = dataclasses.replace(group, responses=tuple(cut))
    np.testing.assert_allclose(scores.rewards[0][[0, 2]], score_groups(model(), [short]).rewards[0], atol=1e-5)


def test_comparisons_whose_answers_differ_beyond_the_cut_alone_are_counted():
    long = " ".join(f"w{n}" for n in range(100))
    group = PreferenceGroup(
        "long",
        (Message("user", "Go on"),),
        (Response(f"{long} well"), Response(f"{long} badly"), Response("short")),
        (Comparison(0, 1), Comparison(0, 2)),
    )
    scores = score_groups(model(), [group, *GROUPS])
    assert (scores.equal, scores.truncated) == (1, 2)
    rows = pack_for_scoring([*GROUPS, group], WordTokenizer(), SHAPE)
    assert (rows.equal, rows.truncated) == (1, 2)
    assert scores.rewards[0][0] == pytest.approx(scores.rewards[0][1], abs=1e-6)


def test_a_reward_that_is_no_number_is_an_error_and_never_passes_for_a_refused_group():
    diverged = model()
    diverged.params["head"] = jnp.full_like(diverged.params["head"], jnp.nan)
    long = dataclasses.replace(GROUPS[0], id="long", prompt=(Message("user", "word " * 60),))
    with pytest.raises(CromeError, match=r"the reward of responses\[0\] is nan; a model whose training diverged"):
        score_groups(diverged, [long, *GROUPS], on_bad=lambda *_: None)


def test_padding_is_what_of_the_rows_is_no_token():
    one = score_groups(model(), GROUPS[:1])
    assert one.tokens + one.padding == 64


def test_rewards_come_back_to_their_response():
    rows = pack_for_scoring(GROUPS, WordTokenizer(), SHAPE)
    values = 100.0 * rows.groups + rows.responses
    for g, rewards in enumerate(gather_rewards(rows, values, GROUPS)):
        assert rewards.tolist() == [100.0 * g + r for r in range(len(rewards))]


def test_a_prompt_without_room_is_an_error_naming_its_group():
    long = dataclasses.replace(GROUPS[0], id="long", prompt=(Message("user", "word " * 60),))
    with pytest.raises(DataError, match=r"^group 'long': 'prompt' takes 62 tokens"):
        score_groups(model(), [GROUPS[0], long])


def test_a_scorer_is_compiled_once_however_often_it_is_asked_for():
    scorer = make_scorer(CFG, mesh_of(*ONE))
    assert scorer is make_scorer(dataclasses.replace(CFG), mesh_of(*ONE))
    assert scorer is not make_scorer(dataclasses.replace(CFG, norm_eps=1e-5), mesh_of(*ONE))
    assert scorer is not make_scorer(CFG, mesh_of(2, 1, 1))


def test_what_all_responses_begin_with_is_encoded_once():
    begun = "river stone lamp cloud"
    texts = [f"{begun} paper", begun, f"{begun} paper wheel garden", f"{begun} violin"]
    group = PreferenceGroup("alike", (Message("user", "Say river"),), tuple(map(Response, texts)), ())
    alone = [dataclasses.replace(group, responses=(response,)) for response in group.responses]
    together = score_groups(model(), [group])
    # Each in a data set of its own: in one they would be put together again, having one prompt.
    apart = [score_groups(model(), [one]) for one in alone]
    assert_close(together.rewards, [np.concatenate([scores.rewards[0] for scores in apart])])
    tokenizer = WordTokenizer()
    lengths = [len(tokenizer.encode_response(text)) for text in texts]
    shared = len(begun.split())
    assert together.tokens == len(tokenizer.encode_prompt(group.prompt)) + sum(lengths) - 3 * shared
    assert_close(score_groups(model(), [*GROUPS, group]).rewards[-1:], together.rewards)
    # One is cut: nothing is moved, and which are cut is as it was.
    longer = dataclasses.replace(group, responses=(*group.responses, Response(begun + " word" * 80)))
    scores = score_groups(model(), [longer])
    assert scores.truncated == 1
    assert_close([scores.rewards[0][:4]], together.rewards)
