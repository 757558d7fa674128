"""From groups to batches: nothing lost, nothing twice, and the order a function of seed and step."""

import dataclasses
import itertools

import numpy as np
import pytest
from toy import ROWS, WordTokenizer, holding, mesh_of, text_groups, token_groups

from crome_jax.batch import FIELDS
from crome_jax.data.loading import (
    batches,
    count_comparisons,
    fingerprint,
    fitting_groups,
    pack_groups,
    put,
    row_order,
    rows_of_step,
    select_kinds,
    tokenize,
)
from crome_jax.data.packing import RowShape, join_rows, pack
from crome_jax.data.pairs import PairForm
from crome_jax.data.quarantine import Quarantine
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Comparison, Kind, Message, Origin, Response
from crome_jax.training.mesh import batch_sharding

N = len(ROWS)
SHAPE = RowShape(64, 8, 8)


def row_numbers(batch: dict[str, np.ndarray]) -> list[int]:
    """Tell which rows a batch holds."""
    known = {tokens.tobytes(): number for number, tokens in enumerate(ROWS.batch.tokens)}
    assert len(known) == N
    return [known[tokens.tobytes()] for tokens in batch["tokens"]]


def order(steps: int, rows_per_step: int = 4, seed: int = 0) -> list[list[int]]:
    iterator = batches(ROWS, rows_per_step=rows_per_step, seed=seed)
    return [row_numbers(next(iterator)) for _ in range(steps)]


@pytest.mark.parametrize("rows_per_step", [1, 4, 7, 100])
def test_every_row_comes_once_in_every_epoch(rows_per_step):
    flat = [*itertools.chain(*order(-(-3 * N // rows_per_step), rows_per_step))]
    epochs = [flat[n * N : (n + 1) * N] for n in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [[*range(N)]] * 3
    assert epochs[0] != epochs[1] != epochs[2] != [*range(N)]


def test_the_order_is_a_function_of_seed_and_step():
    assert order(9, seed=1) == order(9, seed=1)
    assert order(9, seed=1) != order(9, seed=2)
    # The rows of a step do not depend on how many the steps before it had.
    assert [*itertools.chain(*order(8, rows_per_step=2))] == [*itertools.chain(*order(4, rows_per_step=4))]


@pytest.mark.parametrize("at", [0, 1, 5, 40])
def test_a_restored_iterator_goes_on_where_the_other_was(at):
    iterator = batches(ROWS, rows_per_step=4, seed=3)
    for _ in range(at):
        next(iterator)
    state = iterator.get_state()
    expected = [next(iterator) for _ in range(5)]
    resumed = batches(ROWS, rows_per_step=4, seed=3)
    resumed.set_state(state)
    for batch in expected:
        restored = next(resumed)
        assert restored.keys() == batch.keys() == {*FIELDS, "attribute"}
        for name in FIELDS:
            np.testing.assert_array_equal(restored[name], batch[name])


@pytest.mark.parametrize("rows_per_step", [1, 4, 7])
def test_which_rows_a_step_trains_on_can_be_asked_without_running_to_it(rows_per_step):
    for step, rows in enumerate(order(3 * N // rows_per_step, rows_per_step, seed=2), start=1):
        assert rows_of_step(step, rows=N, rows_per_step=rows_per_step, seed=2) == rows


@pytest.mark.parametrize("sizes", [(8, 1, 1), (4, 1, 2), (2, 2, 1, 2), (1, 1, 8)])
def test_processes_share_each_step_s_rows(sizes):
    """Three quarters of the devices here are another process's; what it takes is what its devices hold, no more."""
    alone = order(6, rows_per_step=16)
    mesh = mesh_of(*sizes)
    shares = []
    for first in range(0, 8, 2):
        with holding(mesh.devices.flat[first : first + 2]):
            iterator = batches(ROWS, rows_per_step=16, seed=0, mesh=mesh)
        shares.append([row_numbers(next(iterator)) for _ in range(6)])
    placed = batch_sharding(mesh).devices_indices_map((16,))
    for step, rows in enumerate(alone):
        for first, share in zip(range(0, 8, 2), shares, strict=True):
            held = {row for d in mesh.devices.flat[first : first + 2] for row in range(16)[placed[d][0]]}
            assert share[step] == [rows[at] for at in sorted(held)]
    with pytest.raises(CromeError, match=r"12 rows do not divide over .* = 8 devices"):
        batches(ROWS, rows_per_step=12, seed=0, mesh=mesh_of(8, 1, 1))


def test_a_mixture_takes_from_each_data_set_by_its_weight():
    mixture = ((N - 8, 3.0), (8, 1.0))
    numbers = [int(row_order(N, 5, mixture)[at]) for at in range(8 * N)]
    assert sum(number >= N - 8 for number in numbers) == 2 * N
    for start in range(0, 8 * N, 16):  # In any stretch, not over the whole alone.
        assert abs(sum(number >= N - 8 for number in numbers[start : start + 16]) - 4) <= 1
    few = [number for number in numbers if number >= N - 8]  # Perhaps the last time not all of them.
    assert all(sorted(few[at : at + 8]) == [*range(N - 8, N)] for at in range(0, len(few) - 7, 8))
    assert numbers == [int(row_order(N, 5, mixture)[at]) for at in range(8 * N)]
    iterator = batches(ROWS, rows_per_step=4, seed=5, mixture=mixture)
    assert [row_numbers(next(iterator)) for _ in range(4)] == [numbers[at : at + 4] for at in range(0, 16, 4)]
    with pytest.raises(CromeError, match=r"weights of the data are \[1, 0\]; give positive numbers"):
        row_order(N, 5, ((8, 1), (8, 0)))


def test_rows_of_several_data_sets_point_at_the_groups_of_all():
    shape = RowShape(48, 8, 8)
    first, second = token_groups(9, seed=1), token_groups(7, seed=2)
    together = join_rows([(pack(first, shape), len(first)), (pack(second, shape), len(second))])
    apart = pack(first, shape), pack(second, shape)
    assert len(together) == len(apart[0]) + len(apart[1])
    assert {*together.groups[: len(apart[0])].flat} == {-1, *range(9)}
    assert {*together.groups[len(apart[0]) :].flat} == {-1, *range(9, 16)}
    for name in FIELDS:
        both = np.concatenate([getattr(rows.batch, name) for rows in apart])
        np.testing.assert_array_equal(getattr(together.batch, name), both)
    assert together.real_tokens == sum(rows.real_tokens for rows in apart)


def test_a_data_set_of_a_mixture_need_not_hold_every_kind():
    groups = [dataclasses.replace(group, comparisons=group.comparisons[:1]) for group in text_groups(3)]
    assert select_kinds(groups, ["human", "causal"], complete=False) == groups


def test_hidden_states_go_with_their_row():
    hidden = np.arange(N, dtype=np.float32)[:, None, None] * np.ones((1, 48, 2), np.float32)
    batch = next(batches(ROWS, rows_per_step=8, seed=0, hidden=hidden))
    assert batch["hidden"].shape == (8, 48, 2)
    assert batch["hidden"][:, 0, 0].tolist() == row_numbers(batch)


def test_rows_are_split_over_the_data_like_axes():
    batch = next(batches(ROWS, rows_per_step=8, seed=0))
    placed = put(batch, mesh_of(2, 2, 2))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(placed, name), batch[name])
    assert {shard.data.shape for shard in placed.tokens.addressable_shards} == {(2, 48)}


def test_the_kinds_a_method_trains_on_are_kept():
    groups = text_groups(5)
    assert select_kinds(groups, ["human", "causal"]) == groups
    kept = select_kinds(groups, ("causal",))
    assert [group.responses for group in kept] == [group.responses for group in groups]
    assert {c.kind for group in kept for c in group.comparisons} == {Kind.CAUSAL}
    plain = [dataclasses.replace(group, comparisons=group.comparisons[:1]) for group in groups[:2]]
    assert [group.id for group in select_kinds([*plain, *groups[2:]], ["causal"])] == ["toy-2", "toy-3", "toy-4"]


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["humane"], "kind 'humane' is none of human, causal, neutral"),
        ("human", "kind 'h' is none of"),
        (["human", "neutral"], "the data holds no neutral comparison; augment it, or take 'neutral' out"),
    ],
)
def test_kinds_that_cannot_be_had_are_told(kinds, message):
    with pytest.raises(CromeError, match=message):
        select_kinds(text_groups(3), kinds)


def test_the_origins_a_method_trains_on_are_kept():
    (group,) = text_groups(1)
    responses = [Response("a"), Response("b"), Response("c", Origin.DEGRADED), Response("d", Origin.PERMUTED)]
    compared = [Comparison(0, 1), Comparison(0, 2, kind=Kind.CAUSAL), Comparison(0, 3, kind=Kind.CAUSAL)]
    group = dataclasses.replace(group, responses=tuple(responses), comparisons=tuple(compared))
    kinds = ("human", "causal")
    assert select_kinds([group], kinds) == [group]
    (kept,) = select_kinds([group], kinds, ("original", "permuted"))
    assert kept.comparisons == (compared[0], compared[2])
    with pytest.raises(CromeError, match="no causal comparison between responses of original, upgraded; augment it"):
        select_kinds([group], kinds, ("original", "upgraded"))
    with pytest.raises(CromeError, match=r"origin .shuffled. is none of original, .*permuted"):
        select_kinds([group], kinds, ("original", "shuffled"))


def test_comparisons_are_counted_by_kind_and_origins():
    origins = (Origin.ORIGINAL, Origin.ORIGINAL, Origin.DEGRADED, Origin.ALIGNED)
    responses = tuple(Response(f"text {n}", origin) for n, origin in enumerate(origins))
    compared = [(0, 1, Kind.HUMAN), (0, 2, Kind.CAUSAL), (3, 2, Kind.CAUSAL), (2, 1, Kind.CAUSAL), (3, 0, Kind.NEUTRAL)]
    comparisons = tuple(Comparison(a, b, 0.5 if kind is Kind.NEUTRAL else 1.0, kind) for a, b, kind in compared)
    group = dataclasses.replace(text_groups(1)[0], responses=responses, comparisons=comparisons)
    assert count_comparisons([group, group]) == [
        {"kind": "human", "between": "original and original", "comparisons": 2},
        {"kind": "causal", "between": "degraded and original", "comparisons": 4},
        {"kind": "causal", "between": "aligned and degraded", "comparisons": 2},
        {"kind": "neutral", "between": "aligned and original", "comparisons": 2},
    ]


def test_a_tokenized_group_is_its_conversations_and_comparisons():
    tokenizer = WordTokenizer()
    (group,) = text_groups(1)
    item = tokenize(group, 5, tokenizer)
    assert item.index == 5
    assert item.prompt == tokenizer.encode_prompt(group.prompt)
    assert item.responses == [tokenizer.encode_response(response.text) for response in group.responses]
    for name in ("left", "right", "kind", "target", "weight", "margin"):
        assert getattr(item, name).tolist() == [getattr(c, name) for c in group.comparisons]


def unusable():
    """Three groups of which the second does not fit and the third is refused by the template."""
    good, long, refused = text_groups(3)
    prompt = (Message("user", "word " * 40),)
    greeted = (Message("assistant", "Hello."), *refused.prompt)
    return [good, dataclasses.replace(long, prompt=prompt), dataclasses.replace(refused, prompt=greeted)]


def test_a_group_that_cannot_be_used_stops_with_its_name():
    good, long, refused = unusable()
    message = (
        r"^group 'toy-1': 'prompt' takes 42 tokens; a row has 64 and its responses need 32; raise the row's tokens"
    )
    with pytest.raises(DataError, match=message):
        pack_groups([good, long], WordTokenizer(), SHAPE)
    with pytest.raises(DataError, match=r"^group 'toy-2': 'prompt' starts with the assistant's turn"):
        pack_groups([good, refused], WordTokenizer(), SHAPE)


def test_a_group_that_cannot_be_used_can_be_set_aside():
    groups, bad = unusable(), []
    rows = pack_groups(groups, WordTokenizer(), SHAPE, on_bad=lambda group, error: bad.append((group, str(error))))
    assert [group for group, _ in bad] == groups[1:]
    assert all(error.startswith(f"group {group.id!r}: 'prompt'") for group, error in bad)
    assert set(rows.groups[rows.groups >= 0].tolist()) == {0}
    with pytest.raises(DataError, match="holds nothing to train on"):
        pack_groups(groups[1:], WordTokenizer(), SHAPE, on_bad=lambda group, error: None)


def test_rows_point_back_at_groups_that_come_after_one_set_aside():
    good, long, _ = unusable()
    later = dataclasses.replace(good, id="later", responses=(*good.responses[:2], Response("one more")))
    rows = pack_groups([good, long, later], WordTokenizer(), SHAPE, every_response=True, on_bad=lambda *bad: None)
    placed = {(int(g), int(r)) for g, r in zip(rows.groups.ravel(), rows.responses.ravel(), strict=True) if g >= 0}
    assert placed == {*((0, r) for r in range(len(good.responses))), (2, 0), (2, 1), (2, 2)}


def test_the_fingerprint_changes_with_any_number_and_nothing_else():
    groups = token_groups(6)
    shape = RowShape(48, 8, 8)
    first = fingerprint(pack(groups, shape))
    assert fingerprint(pack(token_groups(6), shape)) == first
    assert fingerprint(pack(groups[::-1], shape)) != first
    assert fingerprint(pack(groups, RowShape(64, 8, 8))) != first
    for name in FIELDS:
        rows = pack(groups, shape)
        array = getattr(rows.batch, name)
        array[0, 0] += 1
        assert fingerprint(rows) != first, name


@pytest.mark.parametrize("forms", [(None,), (PairForm("both"),), (None, PairForm("both"))])
def test_groups_that_some_form_has_no_room_for_are_set_aside_once(forms):
    groups = [dataclasses.replace(group, id="one id for all") for group in text_groups(3)]
    groups[1] = dataclasses.replace(groups[1], prompt=(Message("user", "word " * 200),))
    quarantine = Quarantine()
    assert fitting_groups(groups, WordTokenizer(), RowShape(tokens=128), quarantine, forms=forms) == [
        groups[0],
        groups[2],
    ]
    assert quarantine.count == 1
    assert "prompt" in str(quarantine.first)
