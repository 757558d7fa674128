"""The step: a large batch is its micro-batches, many devices are one, and what is frozen stays."""

import functools
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_objective import OBJECTIVES
from toy import (
    CFG,
    ONE,
    OPTIMIZER,
    ROWS,
    WordTokenizer,
    batch,
    host_params,
    mesh_of,
    start,
    step_on,
    text_groups,
)

from crome_jax.batch import FIELDS
from crome_jax.data.loading import pack_groups, put
from crome_jax.data.packing import RowShape
from crome_jax.data.pairs import PairForm
from crome_jax.errors import CromeError
from crome_jax.evaluation.pair_scoring import score_pairs
from crome_jax.evaluation.scoring import RewardModel
from crome_jax.models import weights
from crome_jax.objectives.crome import crome
from crome_jax.objectives.pairwise import reads_whole_batch
from crome_jax.objectives.schedules import linear
from crome_jax.training.mesh import weight_shardings
from crome_jax.training.metrics import about_zero, summarize
from crome_jax.training.step import init_state, make_train_step


@functools.cache
def run(sizes=ONE, trainable=1, **options):
    """Return the trained weights after three steps, and each step's metrics."""
    mesh = mesh_of(*sizes)
    state, frozen = start(mesh, trainable)
    history = []
    for number in range(3):
        state, metrics = step_on(sizes, trainable, **options)(state, frozen, batch(mesh, number))
        history.append(about_zero(jax.device_get(metrics)))
    return jax.device_get(state.trained), history


def assert_same_run(ours, theirs):
    """Assert equality to fp32 rounding of additions in another order."""
    for a, b in zip(jax.tree.leaves(ours[0]), jax.tree.leaves(theirs[0]), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            # A sum of signed rewards may be near zero: it is measured against their size.
            other = {"reward/sum": "reward/count", "length/reward_sum": "length/square_sum"}.get(name)
            scale = np.sqrt(b["reward/square_sum"] * b[other]) if other else abs(value)
            assert np.all(abs(a[name] - value) <= 1e-5 * scale), name


def test_attributes_are_summed_apart_and_make_up_the_causal_comparisons():
    for metrics in run()[1]:
        for name in ("count", "loss_sum", "preferring", "agree_sum", "distance_sum"):
            by_attribute = metrics[f"attribute/{name}"]
            assert by_attribute[:2].min() > 0
            assert not by_attribute[2:].any()
            assert by_attribute.sum() == pytest.approx(metrics[f"causal/{name}"], rel=1e-6)


@pytest.mark.parametrize("micro_batches", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_accumulated_equals_the_large_batch(micro_batches):
    assert_same_run(run(micro_batches=micro_batches), run())


@pytest.mark.parametrize(
    "remat", ["projections", *(pytest.param(remat, marks=pytest.mark.slow) for remat in ("attention", "full"))]
)
def test_what_is_computed_twice_changes_nothing(remat):
    assert_same_run(run(trainable="all", remat=remat), run(trainable="all"))


@pytest.mark.slow
def test_attention_in_blocks_of_micro_batches_on_many_devices_equals_the_whole():
    assert_same_run(run((2, 2, 2), "all", micro_batches=2, attention="blocks", remat="full"), run(trainable="all"))


def test_an_unknown_way_is_refused():
    with pytest.raises(CromeError, match="remat is 'some'; give one of none, projections, attention, full"):
        step_on(remat="some")
    with pytest.raises(CromeError, match="attention is 'flash'; give one of auto, xla"):
        step_on(attention="flash")


@pytest.mark.parametrize(
    "sizes", [(2, 2, 2), *(pytest.param(sizes, marks=pytest.mark.slow) for sizes in ((8, 1, 1), (1, 4, 2), (4, 2, 1)))]
)
def test_many_devices_equal_one(sizes):
    assert_same_run(run(sizes, "all"), run(trainable="all"))


@functools.cache
def run_objective(objective, sizes=ONE, micro_batches=1):
    """Return the weights of a model with two heads after two steps of an objective, and each step's metrics."""
    mesh = mesh_of(*sizes)
    rng = np.random.default_rng(3)
    given = {
        **host_params(1),
        **{name: rng.normal(size=CFG.width).astype(np.float32) for name in ("head", "length_head")},
    }
    shardings = weight_shardings(weights.declare(CFG, 1, "odin"), mesh)
    trained, frozen = weights.partition(jax.tree.map(jax.device_put, given, shardings), 1)
    state = init_state(trained, OPTIMIZER)
    step = make_train_step(CFG, objective, OPTIMIZER, mesh, micro_batches=micro_batches)
    history = []
    for number in range(2):
        state, metrics = step(state, frozen, batch(mesh, number))
        history.append(about_zero(jax.device_get(metrics)))
    return jax.device_get(state.trained), history


def among(names) -> list:
    """Return these objectives as parameters; all but one of each kind, by rows and by the whole batch, are slow."""
    quick = ("odin", "plackett_luce")
    return [pytest.param(OBJECTIVES[name], id=name, marks=() if name in quick else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("objective", among(OBJECTIVES))
def test_every_objective_is_the_same_in_parts(objective):
    assert_same_run(run_objective(objective, micro_batches=4), run_objective(objective))


@pytest.mark.parametrize("objective", among(name for name in OBJECTIVES if reads_whole_batch(OBJECTIVES[name])))
def test_statistics_of_the_whole_batch_are_the_same_in_parts_on_many_devices(objective):
    assert_same_run(run_objective(objective, (2, 2, 1), micro_batches=2), run_objective(objective))


def test_a_schedule_reads_the_step():
    mesh = mesh_of(*ONE)
    # Only causal comparisons, switched on after the first step: without them there is no gradient.
    objective = functools.partial(crome, causal_weight=functools.partial(linear, first=0, last=1))
    state, frozen = start(mesh)
    step = make_train_step(CFG, objective, OPTIMIZER, mesh)
    causal = np.ones_like(ROWS.batch.kind[:8])
    norms = []
    for _ in range(2):
        state, metrics = step(state, frozen, batch(mesh, kind=causal))
        norms.append(float(metrics["grad_norm"]))
    assert norms[0] == 0
    assert norms[1] > 0


def test_micro_batches_on_many_devices_equal_the_large_batch_on_one():
    assert_same_run(run((2, 2, 1), micro_batches=2), run())


def test_the_state_stays_where_it_lies_and_one_compilation_serves(caplog):
    mesh = mesh_of(2, 2, 2)
    state, frozen = start(mesh, "all")
    before = jax.tree.map(lambda x: x.sharding, state)
    state, _ = step_on((2, 2, 2), "all")(state, frozen, batch(mesh))
    assert jax.tree.map(lambda x: x.sharding, state) == before
    with jax.log_compiles(), caplog.at_level(logging.DEBUG):
        step_on((2, 2, 2), "all")(state, frozen, batch(mesh))
    assert not [message for message in caplog.messages if "compil" in message.lower()]


def test_weights_and_moments_are_shared_out():
    state, _ = start(mesh_of(2, 2, 2), "all")
    moments = state.optimizer[1][0]
    for table in (state.trained["embed"], moments.mu["embed"], moments.nu["embed"]):
        assert table.addressable_shards[0].data.size == table.size // 4


@pytest.mark.parametrize("trainable", ["head", 1])
def test_frozen_weights_have_no_state_and_are_untouched(trainable):
    mesh = mesh_of(*ONE)
    state, frozen = start(mesh, trainable)
    given = host_params(trainable)
    moments = state.optimizer[1][0]
    assert state.trained.keys() == moments.mu.keys() == moments.nu.keys() == weights.trained_names(trainable) & {*given}
    assert frozen.keys() == given.keys() - state.trained.keys()
    for number in range(2):
        state, _ = step_on(ONE, trainable)(state, frozen, batch(mesh, number))
    for name in given:
        for a, b in zip(jax.tree.leaves({**frozen, **state.trained}[name]), jax.tree.leaves(given[name]), strict=True):
            assert np.array_equal(a, b) == (name in frozen)


def test_the_given_state_is_used_up_and_nothing_else_is():
    mesh = mesh_of(*ONE)
    copies = jax.tree.map(np.copy, host_params("all"))
    state, frozen = start(mesh, "all")
    given = batch(mesh)
    after, _ = step_on(ONE, "all")(state, frozen, given)
    again, _ = step_on(ONE, "all")(after, frozen, given)
    assert all(x.is_deleted() for x in jax.tree.leaves((state, after)))
    assert not any(x.is_deleted() for x in jax.tree.leaves((frozen, given, again)))
    # A CPU device may read the host's arrays in place; reusing their memory would change the backbone of the next run.
    for a, b in zip(jax.tree.leaves(host_params("all")), jax.tree.leaves(copies), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bfloat16_trains_float32_weights():
    trained, history = run(dtype=jnp.bfloat16)
    assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in jax.tree.leaves(trained))
    for ours, exact in zip(history, run()[1], strict=True):
        # bfloat16 has 8 bits of precision; losses are means over a dozen comparisons.
        assert ours["loss"] == pytest.approx(exact["loss"], rel=2**-6)
        assert ours["loss"] != exact["loss"]


def test_a_learnable_task_is_learned():
    mesh = mesh_of(*ONE)
    state, frozen = start(mesh, head=np.zeros_like(host_params(1)["head"]))
    history = []
    for number in range(40):
        state, metrics = step_on()(state, frozen, batch(mesh, number % (len(ROWS) - 8)))
        history.append(summarize(about_zero(jax.device_get(metrics)), 1))
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)  # every reward is zero
    assert history[-1]["loss"] < 0.1
    assert history[-1]["human/accuracy"] == 1.0


@pytest.mark.slow
def test_a_pairwise_model_learns_which_is_better_wherever_it_stands():
    mesh = mesh_of(*ONE)
    rows = pack_groups(text_groups(96), WordTokenizer(), RowShape(96, 8, 8), pairs=PairForm())
    first_is_better = rows.batch.target[rows.batch.weight > 0]
    assert 0.3 < first_is_better.mean() < 0.7
    params = {name: weight for name, weight in host_params("all").items() if name != "head"}
    params["pair_head"] = np.zeros(CFG.width, np.float32)
    params = jax.tree.map(jax.device_put, params, weight_shardings(weights.declare(CFG, head="pairwise"), mesh))
    state = init_state(params, OPTIMIZER)
    step = make_train_step(CFG, crome, OPTIMIZER, mesh)
    history = []
    for number in range(40):
        at = (np.arange(8) + 8 * number) % len(rows)
        state, metrics = step(state, {}, put({name: getattr(rows.batch, name)[at] for name in FIELDS}, mesh))
        history.append(summarize(about_zero(jax.device_get(metrics)), 1))
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)  # every logit is zero
    new = text_groups(40, seed=1)
    judged = score_pairs(RewardModel(state.trained, CFG, WordTokenizer(), RowShape(96, 8, 8), mesh), new).rewards
    assert np.mean([odds[0, 1] > 0 for odds in judged]) > 0.9


def test_a_batch_without_weight_changes_nothing():
    mesh = mesh_of(*ONE)
    state, frozen = start(mesh)
    before = jax.device_get(state.trained)
    for _ in range(2):  # The first step's learning rate is zero.
        state, metrics = step_on()(state, frozen, batch(mesh, weight=np.zeros((8, 8), np.float32)))
        assert metrics["loss"] == metrics["grad_norm"] == 0
    assert "human/accuracy" not in summarize(about_zero(jax.device_get(metrics)), 1)
    for a, b in zip(jax.tree.leaves(state.trained), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_that_do_not_divide_into_micro_batches_are_an_error():
    mesh = mesh_of(*ONE)
    with pytest.raises(CromeError, match="8 rows do not divide into 3 micro-batches; change rows_per_step"):
        step_on(micro_batches=3)(*start(mesh), batch(mesh))


@pytest.mark.parametrize(("field", "value"), [("margin", 3e38), ("weight", np.inf), ("target", np.nan)])
def test_a_step_whose_loss_or_gradient_is_not_finite_changes_nothing_and_says_so(field, value):
    mesh = mesh_of(*ONE)
    state, frozen = start(mesh)
    state, _ = step_on()(state, frozen, batch(mesh))
    before = jax.tree.map(np.copy, jax.device_get(state))
    spoiled = getattr(ROWS.batch, field)[1:9].copy()
    spoiled[3, :2] = value
    weights_of = {"weight": np.where(ROWS.batch.weight[1:9] > 0, 4.0, 0.0).astype(np.float32)}
    state, metrics = step_on()(state, frozen, batch(mesh, 1, **{**weights_of, field: spoiled}))
    assert metrics["skipped"] == 1
    assert not np.isfinite(metrics["loss"]) or not np.isfinite(metrics["grad_norm"])
    assert not any(np.any(metrics[name]) for name in metrics if name not in ("loss", "grad_norm", "skipped"))
    assert state.step == 2
    for a, b in zip(
        jax.tree.leaves((state.trained, state.optimizer)),
        jax.tree.leaves((before.trained, before.optimizer)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    # The step after it is the one that would have come in its place.
    after, metrics = step_on()(state, frozen, batch(mesh, 1))
    straight, _ = step_on()(jax.tree.map(jax.device_put, before), frozen, batch(mesh, 1))
    assert metrics["skipped"] == 0
    for a, b in zip(jax.tree.leaves(after.trained), jax.tree.leaves(straight.trained), strict=True):
        np.testing.assert_array_equal(a, b)
