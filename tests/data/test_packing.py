"""The law everything hangs on: packed, prompt-once, score-once equals every (prompt, response) alone."""

import dataclasses
import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crome_jax.batch import HEAD, Batch
from crome_jax.data.packing import Rows, RowShape, TokenizedGroup, pack, pack_tightly
from crome_jax.errors import DataError
from crome_jax.models import weights
from crome_jax.models.config import tiny
from crome_jax.models.decoder import score
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.bsr import bsr
from crome_jax.objectives.crome import crome
from crome_jax.objectives.davidson import davidson
from crome_jax.objectives.mmd import mmd
from crome_jax.objectives.odin import odin
from crome_jax.objectives.pairwise import reads_whole_batch
from crome_jax.objectives.plackett_luce import plackett_luce
from crome_jax.objectives.rao_kupper import rao_kupper

CONFIGS = {
    "llama": tiny(),
    "gemma3": tiny(
        family="gemma3",
        layers=4,
        pattern=("local", "local", "global"),
        window=5,
        norm_plus_one=True,
        post_norms=True,
        qk_norm=True,
        activation="gelu_tanh",
        kv_heads=1,
        embedding_scale=32**0.5,
    ),
    "gemma2": tiny(
        family="gemma2",
        layers=4,
        pattern=("local", "global"),
        window=5,
        norm_plus_one=True,
        post_norms=True,
        attention_cap=0.5,
        activation="gelu_tanh",
        query_scale=12**-0.5,
        embedding_scale=32**0.5,
    ),
    "qwen2": tiny(family="qwen2", qkv_bias=True),
    "qwen3": tiny(family="qwen3", qk_norm=True),
    "llama3": tiny(rope_factor=8.0, rope_trained=16),
}


def make_groups(rng: np.random.Generator, n: int, longest: int = 12) -> list[TokenizedGroup]:
    groups = []
    for index in range(n):
        r = int(rng.integers(2, 6))
        c = int(rng.integers(1, 7))
        left = rng.integers(0, r, c)
        groups.append(
            TokenizedGroup(
                index=index,
                prompt=rng.integers(1, 500, rng.integers(1, 10)).tolist(),
                responses=[rng.integers(1, 500, rng.integers(1, longest)).tolist() for _ in range(r)],
                left=left.astype(np.int32),
                right=((left + rng.integers(1, r, c)) % r).astype(np.int32),
                kind=rng.integers(0, 3, c).astype(np.int32),
                target=rng.choice([0.0, 0.5, 1.0], c).astype(np.float32),
                weight=rng.uniform(0.5, 2.0, c).astype(np.float32),
                margin=rng.uniform(0.0, 0.5, c).astype(np.float32),
            )
        )
    return groups


def alone(group: TokenizedGroup) -> Batch:
    """Lay out every comparison of a group as a row with two groups of its own: no sharing, no packing.

    Rows and their length are the same for every group, so that one compilation serves all.
    """
    n, c = 24, 8
    fields = {f: np.zeros((c, 2 * n), np.int32) for f in ("tokens", "positions", "group_ids", "response_ids")}
    ends = np.full((c, 2), -1, np.int32)
    for i, pair in enumerate(zip(group.left, group.right, strict=True)):
        for side, r in enumerate(r for r in pair if r >= 0):
            ids = [*group.prompt, *group.responses[r]]
            at = slice(side * n, side * n + len(ids))
            fields["tokens"][i, at] = ids
            fields["positions"][i, at] = np.arange(len(ids))
            fields["group_ids"][i, at] = side + 1
            fields["response_ids"][i, at.start + len(group.prompt) : at.stop] = side + 1
            ends[i, side] = at.stop - 1
    column = lambda x: np.pad(x, (0, c - len(x)))[:, None]  # noqa: E731
    batch = Batch(
        **fields,
        response_ends=ends,
        left=np.zeros((c, 1), np.int32),
        right=np.full((c, 1), 1 if group.right[0] >= 0 else -1, np.int32),
        **{f: column(getattr(group, f)) for f in ("target", "weight", "margin", "kind")},
    )
    return jax.tree.map(jnp.asarray, batch)


@functools.cache
def model(family: str):
    cfg = CONFIGS[family]
    params = weights.init_params(cfg, jax.random.key(1), head="odin")
    for n, name in enumerate(("head", "length_head"), 2):
        params[name] = jax.random.normal(jax.random.key(n), params[name].shape)
    for run in (params["upper"], params["last"]):
        for name in run.keys() & {"q_bias", "k_bias", "v_bias"}:  # They start at zero: a mistake would not show.
            run[name] = 0.2 * jax.random.normal(jax.random.key(3), run[name].shape)
    return cfg, params


OBJECTIVES = {
    "bradley_terry": functools.partial(bradley_terry, label_smoothing=0.1, margin=0.2, centring=0.01),
    "crome": functools.partial(crome, causal_weight=0.7, neutral_weight=1.3),
    "rao_kupper": rao_kupper,
    "davidson": davidson,
}


# Every objective over one family, the family of most parts under one; the rest of the square takes two minutes.
@pytest.mark.parametrize(
    ("family", "objective"),
    [
        pytest.param(
            family,
            objective,
            id=f"{name}-{family}",
            marks=() if family == "llama" or (name, family) == ("crome", "gemma3") else pytest.mark.slow,
        )
        for name, objective in OBJECTIVES.items()
        for family in CONFIGS
    ],
)
def test_packed_equals_alone_in_rewards_losses_and_gradients(family, objective):
    cfg, params = model(family)
    groups = make_groups(np.random.default_rng(0), 7)
    rows = pack(groups, RowShape(96, 16, 16))
    assert len(rows) < len(groups)
    check_packed_is_alone(rows, groups, cfg, params, objective)


def test_two_answers_in_a_slot_equal_alone():
    cfg, params = model("llama")
    params = {name: weight for name, weight in params.items() if name not in weights.HEADS} | {
        "pair_head": params["head"]
    }
    drawn = make_groups(np.random.default_rng(2), 7)
    groups = [dataclasses.replace(group, right=np.full_like(group.right, -1)) for group in drawn]
    rows = pack(groups, RowShape(96, 16, 16))
    assert len(rows) < len(groups)
    pairs = sum(len(g.prompt) + len(g.responses[r]) for g in groups for r in g.left)
    assert rows.unpacked_tokens == pairs
    check_packed_is_alone(rows, groups, cfg, params, OBJECTIVES["crome"])


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=() if name in ("llama", "gemma3") else pytest.mark.slow) for name in CONFIGS]
)
def test_a_group_too_large_for_a_row_equals_alone(family):
    cfg, params = model(family)
    groups = make_groups(np.random.default_rng(0), 3)
    rng = np.random.default_rng(1)
    # Nine responses of eleven tokens, the first in all eight comparisons: every row that the group takes needs it.
    groups[1] = TokenizedGroup(
        index=1,
        prompt=rng.integers(1, 500, 9).tolist(),
        responses=[rng.integers(1, 500, 11).tolist() for _ in range(9)],
        left=np.zeros(8, np.int32),
        right=np.arange(1, 9, dtype=np.int32),
        kind=np.array([0, 1, 2] * 3, np.int32)[:8],
        target=rng.choice([0.0, 0.5, 1.0], 8).astype(np.float32),
        weight=rng.uniform(0.5, 2.0, 8).astype(np.float32),
        margin=rng.uniform(0.0, 0.5, 8).astype(np.float32),
    )
    rows = pack(groups, RowShape(96, 16, 16))
    first = (rows.groups == 1) & (rows.responses == 0)
    assert first.any(axis=1).sum() == 2
    assert rows.truncated == 0
    check_packed_is_alone(rows, groups, cfg, params, functools.partial(crome, causal_weight=0.7, neutral_weight=1.3))


def check_packed_is_alone(rows: Rows, groups: list[TokenizedGroup], cfg, params, objective):
    """Assert that rewards, the summed loss and its gradients are those of every pair alone."""

    def loss(params, batch):
        scored = score(params, batch, cfg)
        return objective(scored, batch)[0], scored.rewards

    differentiate = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (packed_loss, scores), packed_grads = differentiate(params, jax.tree.map(jnp.asarray, rows.batch))
    by_response: dict[tuple[int, int], list[float]] = {}  # Several where a split group's rows share a response.
    for row, slot in zip(*np.nonzero(rows.groups >= 0), strict=True):
        key = int(rows.groups[row, slot]), int(rows.responses[row, slot])
        by_response.setdefault(key, []).append(float(scores[row, slot]))
    alone_loss, alone_grads = 0.0, jax.tree.map(np.zeros_like, params)
    for group in groups:
        (part, single), grads = differentiate(params, alone(group))
        alone_loss += part
        alone_grads = jax.tree.map(np.add, alone_grads, grads)
        for c, pair in enumerate(zip(group.left, group.right, strict=True)):
            for side, r in enumerate(r for r in pair if r >= 0):
                # fp32 rounding of a few thousand additions in another order.
                for packed in by_response[group.index, int(r)]:
                    assert abs(packed - single[c, side]) < 2e-5
    np.testing.assert_allclose(packed_loss, alone_loss, rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(packed_grads), jax.tree.leaves(alone_grads), strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)


@pytest.mark.parametrize(
    "objective",
    [
        odin,
        mmd,
        *(
            pytest.param(other, marks=pytest.mark.slow)
            for other in (bsr, functools.partial(mmd, conditional=True), plackett_luce)
        ),
    ],
    ids=["odin", "mmd", "bsr", "mmd conditional", "plackett_luce"],
)
def test_what_reads_more_than_one_comparison_is_the_same_however_it_is_packed(objective):
    cfg, params = model("llama")
    groups = make_groups(np.random.default_rng(0), 7)
    # A statistic of the whole batch is the same of every pair alone; a ranking is that of a group.
    if reads_whole_batch(objective):
        layouts = [jax.tree.map(lambda *x: jnp.concatenate(x), *(alone(group) for group in groups))]
    else:
        layouts = [pack([group], RowShape(96, 16, 16)).batch for group in groups]

    @jax.jit
    @jax.value_and_grad
    def differentiate(params, batch):
        return objective(score(params, batch, cfg), batch)[0]

    packed, packed_grads = differentiate(params, jax.tree.map(jnp.asarray, pack(groups, RowShape(96, 16, 16)).batch))
    parts = [differentiate(params, jax.tree.map(jnp.asarray, layout)) for layout in layouts]
    loss, grads = jax.tree.map(lambda *x: sum(x), *parts)
    np.testing.assert_allclose(packed, loss, rtol=1e-5)
    # fp32 rounding; the gradient of a kernel is a difference of nearly equal sums over all pairs of responses.
    for ours, theirs in zip(jax.tree.leaves(packed_grads), jax.tree.leaves(grads), strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)


@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 12),
    tokens=st.integers(48, 160),
    slots=st.integers(2, 12),
    every=st.booleans(),
)
def test_every_comparison_is_placed_once_and_whole(seed, n, tokens, slots, every):
    groups = make_groups(np.random.default_rng(seed), n)
    rows = pack(groups, RowShape(tokens, slots, slots), every_response=every)
    check_layout(rows, groups)
    placed = sorted(
        (int(rows.groups[row, b.left[row, c]]), int(rows.responses[row, b.left[row, c]]),
         int(rows.responses[row, b.right[row, c]]), float(b.weight[row, c]), float(b.margin[row, c]))
        for b in [rows.batch]
        for row, c in zip(*np.nonzero(b.weight), strict=True)
    )  # fmt: skip
    given_ = sorted(
        (g.index, int(a), int(b), float(w), float(m))
        for g in groups
        for a, b, w, m in zip(g.left, g.right, g.weight, g.margin, strict=True)
    )
    assert placed == given_
    if every:
        scored = {(int(g), int(r)) for g, r in zip(rows.groups.ravel(), rows.responses.ravel(), strict=True) if g >= 0}
        assert scored == {(g.index, r) for g in groups for r in range(len(g.responses))}


def check_layout(rows: Rows, groups: list[TokenizedGroup]):
    """Assert that every slot holds exactly its response, behind exactly its prompt, with positions that say so."""
    b = rows.batch
    for row, slot in zip(*np.nonzero(rows.groups >= 0), strict=True):
        group = groups[rows.groups[row, slot]]
        end = b.response_ends[row, slot]
        own = (b.response_ids[row] == slot + 1).nonzero()[0]
        prompt = ((b.group_ids[row] == b.group_ids[row, end]) & (b.response_ids[row] == 0)).nonzero()[0]
        assert own[-1] == end
        assert b.tokens[row, own].tolist() == list(group.responses[rows.responses[row, slot]])
        assert b.tokens[row, prompt].tolist() == list(group.prompt)
        assert b.positions[row, [*prompt, *own]].tolist() == list(range(len(prompt) + len(own)))


def test_a_group_that_fits_is_never_split():
    groups = make_groups(np.random.default_rng(3), 40)
    rows = pack(groups, RowShape(128, 8, 8))
    for group in groups:
        assert len({row for row, slot in zip(*np.nonzero(rows.groups == group.index), strict=True)}) == 1


def sized(index: int, prompt: int, responses: list[int], pairs: list[tuple[int, int]]) -> TokenizedGroup:
    """Make a group of so many tokens; only the sizes matter."""
    ones = np.ones(len(pairs), np.float32)
    return TokenizedGroup(
        index, [1] * prompt, [[2] * n for n in responses],
        *(np.array([pair[side] for pair in pairs], np.int32) for side in (0, 1)),
        np.zeros(len(pairs), np.int32), ones, ones, 0 * ones,
    )  # fmt: skip


def placed(rows: Rows) -> list[list[tuple[int, list[int]]]]:
    """Return of every row which responses of which group it holds."""
    out = []
    for groups, responses in zip(rows.groups.tolist(), rows.responses.tolist(), strict=True):
        held = {g: [r for h, r in zip(groups, responses, strict=True) if h == g] for g in groups if g >= 0}
        out.append(list(held.items()))
    return out


def test_a_row_is_filled_by_those_that_leave_least_of_it_empty():
    # 60 of 100 tokens leave 40: first fit would take 30, and then nothing; 22 + 18 fill it.
    groups = [sized(i, 2, [n - 3, 1], [(0, 1)]) for i, n in enumerate([60, 30, 22, 18, 70])]
    rows = pack(groups, RowShape(100))
    assert [[g for g, _ in row] for row in placed(rows)] == [[1, 4], [0, 2, 3]]
    assert rows.real_tokens == rows.batch.tokens.size


def test_a_row_is_chosen_from_what_is_looked_ahead_at():
    rng = np.random.default_rng(2)
    groups = make_groups(rng, 30)
    others = [*groups[:11], *(dataclasses.replace(g, index=i) for i, g in enumerate(make_groups(rng, 19), 11))]
    first, second = (placed(pack(given, RowShape(128), lookahead=10)) for given in (groups, others))
    assert first[0] == second[0]  # Of the eleven that both have in common.
    assert first != second


def test_what_no_comparison_connects_is_split_first():
    # Two responses with an edit each, and a tie: 20 + 4 x 100 + 2 x 90 tokens, in rows of 450.
    group = sized(0, 20, [100, 100, 90, 90, 100, 100], [(0, 1), (2, 3), (0, 4), (5, 1)])
    rows = pack([group], RowShape(450))
    assert placed(rows) == [[(0, [0, 1, 4, 5])], [(0, [2, 3])]]
    assert rows.real_tokens == 420 + 200  # No response twice.
    # A long prompt costs more than what a part of its own would fill: the tie joins what has room for it.
    group = sized(0, 100, [150, 150, 40, 40, 150, 150], [(0, 1), (2, 3), (0, 4), (5, 1)])
    rows = pack([group], RowShape(560))
    assert sorted(len(slots) for row in placed(rows) for _, slots in row) == [3, 4]
    assert rows.real_tokens == 2 * 100 + 5 * 150 + 2 * 40


def test_a_part_of_a_large_group_is_as_full_as_it_can_be():
    # Beside 10 + 100 + 100 tokens there is room for 200: 130 + 70 and neither 120 nor 60 with anything.
    group = sized(0, 10, [100, 100, 120, 130, 70, 60], [(0, r) for r in range(1, 6)])
    rows = pack([group], RowShape(410))
    assert placed(rows) == [[(0, [0, 1, 3, 4])], [(0, [0, 2, 5])]]


def test_responses_that_nothing_compares_share_a_prompt_where_they_can():
    group = sized(0, 10, [30] * 9, [])
    rows = pack([group], RowShape(100, comparisons=1), every_response=True)
    assert placed(rows) == [[(0, [0, 1, 2])], [(0, [3, 4, 5])], [(0, [6, 7, 8])]]


@pytest.mark.parametrize("tokens", [2048, 8192])
def test_little_is_wasted_on_groups_of_real_sizes(tokens):
    # As augmented groups of chat data are: prompts of 20 to 400 tokens, answers of 20 to 600, their edits about as
    # long, ties of two borrowed answers. More than half are larger than the shorter row, none than the longer.
    rng = np.random.default_rng(0)
    groups = []
    for index in range(1000):
        prompt, one, two, *ties = np.exp(rng.normal([4.3, 5.3, 5.3, 5, 5, 5, 5], 0.8)).astype(int) + 8
        edits = [max(2, int(n * rng.uniform(0.8, 1.2))) for n in [one, two] * 2]
        sizes = [min(600, int(n)) for n in [one, two, *edits, *ties]]
        pairs = [(0, 1), (0, 2), (1, 3), (4, 0), (5, 1), (6, 7), (8, 9)]
        groups.append(sized(index, min(400, int(prompt)), sizes, pairs))
    rows = pack(groups, RowShape(tokens))
    assert 1 - rows.real_tokens / rows.batch.tokens.size < 0.05
    needed = sum(len(g.prompt) + sum(map(len, g.responses)) for g in groups)
    # What is split has its prompt, and often an answer of which there are edits in both parts, twice.
    larger = sum(len(g.prompt) + sum(map(len, g.responses)) > tokens for g in groups)
    assert larger > 500 if tokens == 2048 else larger == 0
    assert needed <= rows.real_tokens < (1.15 if larger else 1.0001) * needed


def test_slots_that_are_not_said_do_not_run_out_before_tokens_do():
    assert (RowShape(2048).responses, RowShape(2048).comparisons) == (128, 256)
    assert (RowShape(2048, 32).comparisons, RowShape(2048, comparisons=1).responses) == (64, 128)
    groups = [sized(i, 20, [20, 20], [(0, 1)]) for i in range(64)]
    assert len(pack(groups, RowShape(960))) == 4


def test_a_pair_too_long_is_cut_with_its_end_kept_and_counted():
    group = make_groups(np.random.default_rng(0), 1)[0]
    long = [list(range(1, 101)), list(range(200, 210))]
    one = lambda x, dtype: np.array([x], dtype)  # noqa: E731
    group = TokenizedGroup(
        0, [7] * 10, long, one(0, np.int32), one(1, np.int32), one(0, np.int32),
        one(1, np.float32), one(1, np.float32), one(0, np.float32),
    )  # fmt: skip
    rows = pack([group], RowShape(64, 4, 4))
    assert rows.truncated == 1
    own = rows.batch.tokens[0][rows.batch.response_ids[0] == 1].tolist()
    assert own == [*range(1, 44), 100]
    assert rows.batch.tokens[0][rows.batch.response_ids[0] == 2].tolist() == long[1]
    # By itself the pair has two prompts; what was cut is cut there as well.
    assert (rows.real_tokens, rows.unpacked_tokens) == (10 + 44 + 10, 10 + 44 + 10 + 10)


@pytest.mark.parametrize("tokens", [64, 65])
def test_a_comparison_of_answers_that_differ_beyond_the_cut_alone_is_left_out_and_counted(tokens):
    same = list(range(1, 101))
    beyond = sized(0, 10, [0, 0, 4], [(0, 1), (0, 2)])
    beyond = dataclasses.replace(beyond, responses=[[*same, 300, 6], [*same, 301, 6], [5, 5, 5, 6]])
    rows = pack([beyond, sized(1, 10, [8, 8], [(0, 1)])], RowShape(tokens, 4, 4))
    assert rows.equal == 1
    assert int((rows.batch.weight > 0).sum()) == 2
    # To score them all, the responses stay.
    every = pack([beyond], RowShape(tokens, 4, 4), every_response=True)
    assert set(every.responses[every.groups == 0].tolist()) == {0, 1, 2}
    alone = dataclasses.replace(sized(0, 10, [0, 0, 4], [(0, 1)]), responses=beyond.responses)
    with pytest.raises(DataError, match="nothing to train on"):
        pack([alone], RowShape(tokens, 4, 4))


def test_a_group_without_comparisons_takes_no_room():
    groups = [sized(0, 10, [30, 30], []), sized(1, 10, [20, 20], [(0, 1)])]
    assert placed(pack(groups, RowShape(100))) == [[(1, [0, 1])]]
    with pytest.raises(DataError, match="holds nothing to train on"):
        pack(groups[:1], RowShape(100))


def test_a_prompt_that_fills_the_row_is_an_error():
    group = dataclasses.replace(make_groups(np.random.default_rng(0), 1)[0], prompt=[7] * 10)
    with pytest.raises(DataError, match="leaves 0 tokens"):
        pack([group], RowShape(len(group.prompt), 4, 4))


def test_packing_is_deterministic_and_counts_what_it_saves():
    groups = make_groups(np.random.default_rng(5), 30)
    first, second = (pack(groups, RowShape(96, 16, 16)) for _ in range(2))
    for a, b in zip(jax.tree.leaves(first.batch), jax.tree.leaves(second.batch), strict=True):
        np.testing.assert_array_equal(a, b)
    pairs = sum(
        2 * len(g.prompt) + len(g.responses[a]) + len(g.responses[b])
        for g in groups
        for a, b in zip(g.left, g.right, strict=True)
    )
    assert first.unpacked_tokens == pairs
    assert first.real_tokens == int((first.batch.group_ids > 0).sum())


def texts_of(rows: list[Rows]) -> dict[tuple[int, int], list[int]]:
    """Return group and response to the tokens that stand where its slot says, its prompt's before them."""
    found = {}
    for some in rows:
        for row, slot in zip(*np.nonzero(some.groups >= 0), strict=True):
            batch, end = some.batch, some.batch.response_ends[row, slot]
            mine = np.isin(batch.group_ids[row], (HEAD, batch.group_ids[row, end]))
            seen = mine & np.isin(batch.response_ids[row], (0, slot + 1))
            key = int(some.groups[row, slot]), int(some.responses[row, slot])
            assert key not in found
            assert batch.positions[row, seen].tolist() == list(range(seen.sum()))
            found[key] = batch.tokens[row, seen].tolist()
    return found


@hypothesis.given(st.integers(0, 2**32), st.integers(1, 40), st.integers(2, 6), st.sampled_from([0, 1, 5, 13, 30]))
@hypothesis.settings(max_examples=60, deadline=None)
def test_tight_rows_hold_every_response_once_after_its_prompt(seed, count, slots, head):
    groups = begin_alike(make_groups(np.random.default_rng(seed), count), [7] * head)
    rows = pack_tightly(groups, [RowShape(16, slots, 1), RowShape(32, slots, 1), RowShape(64, slots, 1)])
    assert texts_of(rows) == {
        (g.index, r): [*g.prompt, *response] for g in groups for r, response in enumerate(g.responses)
    }
    assert [some.batch.tokens.shape[1] for some in rows] == sorted({some.batch.tokens.shape[1] for some in rows})
    assert sum(some.truncated for some in rows) == 0


def begin_alike(groups: list[TokenizedGroup], head: list[int]) -> list[TokenizedGroup]:
    """Let all prompts begin with the same tokens, and no further."""
    return [dataclasses.replace(group, prompt=[*head, 500 + n % 2, *group.prompt]) for n, group in enumerate(groups)]


@pytest.mark.parametrize("head", [0, 3, 40])
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=() if name in ("llama", "gemma3") else pytest.mark.slow) for name in CONFIGS]
)
def test_rows_with_a_head_equal_alone(family, head):
    cfg, params = model(family)
    none = dict.fromkeys(("left", "right", "kind", "target", "weight", "margin"), np.zeros(0, np.int32))
    rng = np.random.default_rng(3)
    groups = begin_alike(make_groups(rng, 8), rng.integers(1, 500, head).tolist())
    texts = [(group.index, r) for group in groups for r in range(len(group.responses))]
    single = lambda index, r: dataclasses.replace(groups[index], responses=[groups[index].responses[r]], **none)  # noqa: E731
    batches = [pack([single(*text)], RowShape(96, 2, 1), every_response=True).batch for text in texts]
    run = jax.jit(lambda batch: score(params, batch, cfg).rewards)
    alone = np.asarray(run(jax.tree.map(lambda *x: jnp.concatenate(x), *batches)))[:, 0]
    (rows,) = pack_tightly(groups, [RowShape(96, 16, 1)])
    assert 1 < len(rows) < len(groups)
    assert ((rows.batch.group_ids == HEAD).sum(1) == head).all()
    packed = np.asarray(run(jax.tree.map(jnp.asarray, rows.batch)))
    ours = {(int(rows.groups[at]), int(rows.responses[at])): packed[at] for at in np.ndindex(packed.shape)}
    # fp32 rounding of a few thousand additions in another order.
    np.testing.assert_allclose([ours[text] for text in texts], alone, rtol=0, atol=1e-5)


def test_small_groups_fill_what_large_ones_leave():
    z = np.zeros(0, np.int32)
    sized = lambda n, size: TokenizedGroup(n, [n] * 10, [[2] * (size - 10)], z, z, z, z, z, z)  # noqa: E731
    # 40 + 24 fill a row of 64 and 20 + 12 one of 32; rows of one length at a time would take 64 and three of 32.
    rows = pack_tightly(
        [sized(n, size) for n, size in enumerate((20, 24, 12, 40))], [RowShape(32, 8, 1), RowShape(64, 8, 1)]
    )
    assert [some.batch.tokens.shape for some in rows] == [(1, 32), (1, 64)]
    assert sum(some.real_tokens for some in rows) == 96


def test_little_of_tight_rows_is_padding():
    z, rng = np.zeros(0, np.int32), np.random.default_rng(0)
    sizes = rng.integers(20, 500, 300)
    groups = [TokenizedGroup(n, [n] * 10, [[2] * (size - 10)], z, z, z, z, z, z) for n, size in enumerate(sizes)]
    shapes = [RowShape(tokens, 64, 1) for tokens in (64, 128, 256, 512)]
    tight = sum(some.batch.tokens.size for some in pack_tightly(groups, shapes))
    assert tight < 1.05 * sizes.sum()
    # Each length of row by itself, in the order given, leaves a quarter of what is computed empty.
    fits = lambda size: next(shape for shape in shapes if size <= shape.tokens)  # noqa: E731
    apart = [[g for g, size in zip(groups, sizes, strict=True) if fits(size) is shape] for shape in shapes]
    rows = [pack(some, shape, every_response=True) for some, shape in zip(apart, shapes, strict=True)]
    assert tight < 0.85 * sum(some.batch.tokens.size for some in rows)


def test_what_no_row_holds_is_cut_and_counted_in_the_longest():
    z = np.zeros(0, np.int32)
    group = TokenizedGroup(0, [1] * 4, [[2] * 59 + [3], [5] * 9, [2] * 59 + [3]], z, z, z, z, z, z)
    rows = pack_tightly([group], [RowShape(16, 8, 1), RowShape(32, 8, 1)])
    assert [some.truncated for some in rows] == [0, 2]
    assert {key: (len(tokens), tokens[-1]) for key, tokens in texts_of(rows).items()} == {
        (0, 0): (32, 3),
        (0, 1): (13, 5),
        (0, 2): (32, 3),
    }
