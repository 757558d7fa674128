"""Plans: the analytic count against the compiled one, what is tried when a step does not fit, and by hand the rest."""

import collections
import dataclasses
import functools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from toy import OPTIMIZER, mesh_of

from crome_jax.cli import main
from crome_jax.configuration import configure
from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError
from crome_jax.models.config import tiny
from crome_jax.models.presets import PRESETS
from crome_jax.objectives.crome import crome
from crome_jax.training.abstract import abstract_batch, abstract_params, abstract_state
from crome_jax.training.chips import Chip
from crome_jax.training.estimate import estimate_step
from crome_jax.training.flops import products_of_layer, step_flops
from crome_jax.training.mesh import AXES, make_mesh
from crome_jax.training.plan import needed_bytes, plan, speed_and_cost
from crome_jax.training.programs import Work, read_work
from crome_jax.training.step import init_state, make_train_step

FOLDER = Path(__file__).parents[2] / "gin" / "plans"
CFG = tiny(layers=4, width=64, ffn_width=256, head_width=16)


def compiled_flops(trainable, **options) -> float:
    mesh = mesh_of(1, 1, 1)
    trained, frozen = abstract_params(CFG, mesh, trainable)
    state = abstract_state(trained, OPTIMIZER)
    step = make_train_step(CFG, crome, OPTIMIZER, mesh, **options)
    lowered = step.compiled(state).lower(state, frozen, abstract_batch(4, RowShape(32, 4, 4), mesh), {})
    return read_work(lowered.compile().as_text()).flops


def test_the_compiled_step_computes_what_it_must_and_little_else():
    # Rows this short have the future's half of their pairs computed, too: a few hundredths, and nothing less.
    assert 1.0 <= compiled_flops("all") / step_flops(CFG, "all", 4, 32, 4) <= 1.10


def test_frozen_layers_are_computed_forwards_only():
    # A scan computes the input's gradient of its lowest layer, too, which nobody needs: a third of that layer's.
    needless = 4 * 2 * 32 * sum(products_of_layer(CFG))
    assert 1.0 <= (compiled_flops(2) - needless) / step_flops(CFG, 2, 4, 32, 4) <= 1.10


def test_remat_computes_the_forward_pass_of_the_scanned_layers_again():
    ratio = compiled_flops("all", remat="full") / step_flops(CFG, "all", 4, 32, 4)
    assert 1.25 <= ratio <= 1.45  # A third more, but for the last layer, and with the pairs as above.


def test_flop_by_hand():
    # Two layers of width 4, one head of 2, feed-forward 8: keys and values 2 x 4 x 2 = 16 weights, all else
    # 2 x 4 x 2 + 3 x 4 x 8 = 112. Of 10 tokens 2 are scored.
    cfg = tiny(layers=2, width=4, heads=1, kv_heads=1, head_width=2, ffn_width=8)
    first = 2 * 10 * (16 + 112) + 4 * 2 * 50  # pairs: 10 x 10 / 2
    last = 2 * (10 * 16 + 2 * 112) + 4 * 2 * 10  # of which 2 of 10 ask
    assert step_flops(cfg, "all", 3, 10, 2) == 3 * 3 * (first + last)
    assert step_flops(cfg, "head", 3, 10, 2) == 3 * (first + last)
    # The lowest trained layer hands no gradient down: of its three products with weights one falls away.
    assert step_flops(cfg, 1, 3, 10, 2) == 3 * (first + 2 * 2 * (10 * 16 + 2 * 112) + 3 * 4 * 2 * 10)


def test_a_window_bounds_the_pairs():
    cfg = tiny(layers=2, pattern=("local", "global"), window=3)
    wide = dataclasses.replace(cfg, window=10)
    # 10 x 3 - 3 x 3 / 2 pairs and not 50, in one of two layers, three times 4 H E FLOP each.
    assert step_flops(wide, "all", 1, 10, 2) - step_flops(cfg, "all", 1, 10, 2) == 3 * 4 * 4 * 8 * (50 - 25.5)


def test_the_abstract_state_is_the_state():
    mesh = mesh_of(2, 2, 2)
    trained, _ = abstract_params(CFG, mesh)
    shapes = abstract_state(trained, OPTIMIZER)
    real = init_state(
        jax.tree.map(lambda x: jax.device_put(jnp.zeros(x.shape, x.dtype), x.sharding), trained), OPTIMIZER
    )
    told = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), tree)  # noqa: E731
    assert told(shapes) == told(real)


def test_speed_and_cost_by_hand():
    chip = Chip(flops=100.0, memory=0.0, bandwidth=50.0, links=10.0)
    work = Work(flops=400.0, traffic=100.0, moved=collections.Counter({"all-gather": 30.0}))
    figures = speed_and_cost(work, chip, chips=2, analytic=640.0, comparisons=8.0, dollars_per_chip_hour=9.0)
    assert figures["roofline, s"] == {"products": 4.0, "memory": 2.0, "links": 3.0}
    assert (figures["step, s at least"], figures["bound by"]) == (4.0, "products")
    assert figures["done / needed"] == 1.25
    assert figures["MFU at most"] == 0.8  # 640 of 2 x 4 x 100
    # A million comparisons take 4 / 8 s each, on two chips at 9 dollars an hour.
    assert figures["dollars per million comparisons at least"] == 2500.0


def test_the_formula_by_hand():
    # One layer of width 4, one head of 2, feed-forward 8: 128 products with weights, 12 numbers of norms; table and
    # head 10 x 4 + 4: 184 in all, on two chips 92 each.
    cfg = tiny(layers=1, width=4, heads=1, kv_heads=1, head_width=2, ffn_width=8, vocab_size=10)
    needed, work = estimate_step(cfg, (1, 2, 1), rows=4, tokens=10, responses=2, micro_batches=1)
    # Masters, two moments, gradients of 4 bytes; two layers of 2; of 20 tokens the input, and what a layer holds.
    assert needed == 92 * 16 + 2 * 128 * 2 + 20 * 4 * 2 + 20 * (20 * 4 * 2 + 18 * 8)
    assert work.moved == {"all-gather": 3 * 184, "reduce-scatter": 184}  # half of 2 bytes each
    assert work.flops == step_flops(cfg, "all", 4, 10, 2) * 4 / 3 / 2
    parts, more = estimate_step(cfg, (1, 2, 1), rows=4, tokens=10, responses=2, micro_batches=2)
    assert parts == needed + 92 * 4 - 10 * 4 * 2 - 10 * (20 * 4 * 2 + 18 * 8)
    assert more.moved["all-gather"] == 2 * work.moved["all-gather"]


def of_gpus(n: int, *mesh: int, model: str = "gemma2_9b", **arguments):
    """Plan for a host of n GPUs on a mesh of data x fsdp x tensor; weights shared among all unless told otherwise."""
    laid_out = functools.partial(make_mesh, *(mesh or (1, n, 1)))
    return plan(**{"model": model, "chip": "h100", "topology": str(n), "mesh": laid_out} | arguments)


def test_gpus_are_planned_by_formula_and_say_so():
    planned = of_gpus(8, rows_per_step=32, micro_batches=4)
    assert planned.fits
    assert planned.figures["compilation, s"] == "none: estimated by formula"
    assert planned.figures["chips"] == "8 h100 (8)"
    assert not of_gpus(1, rows_per_step=8).fits
    with pytest.raises(CromeError, match="the formula is for"):
        of_gpus(8, remat="none")


def test_gpus_lie_on_the_mesh_that_is_given():
    told = lambda *mesh: of_gpus(8, *mesh, model="smollm2_360m").figures  # noqa: E731
    assert told(8, 1, 1)["layout"].startswith("mesh data 8 x fsdp 1 x tensor 1,")
    assert told(1, 8, 1)["memory needed, GB a chip"] < told(2, 4, 1)["memory needed, GB a chip"]
    assert {"all-gather", "reduce-scatter"} == told(1, 8, 1)["bytes moved by a chip"].keys()
    assert {"all-reduce"} == told(8, 1, 1)["bytes moved by a chip"].keys()


REFUSED = {
    "rows that do not divide into micro-batches": (
        ["--gin.ROWS_PER_STEP=8"],
        "rows_per_step is 8, in 4 micro-batches over replica x data x fsdp = 8 devices; take a multiple of 32",
    ),
    "no rows": (["--gin.ROWS_PER_STEP=0"], "rows_per_step is 0; give 1 or more"),
    "no micro-batches": (["--gin.plan.micro_batches=0"], "micro_batches is 0; give 1 or more"),
    "no layers": (["--gin.plan.layers=0"], "layers is 0; give 1 or more"),
    "no such dtype": (["--gin.plan.dtype='bf16'"], "dtype is 'bf16'; give 'float32' or 'bfloat16'"),
    "no comparisons": (["--gin.plan.tokens_per_comparison=0"], "plan.tokens_per_comparison is 0, padding 0.05,"),
    "padding only": (["--gin.plan.padding=1.0"], "padding 1.0, dollars_per_chip_hour 3.0; give a number above 0,"),
    "a price below nothing": (["--gin.plan.dollars_per_chip_hour=-1"], "dollars_per_chip_hour -1; give"),
    "a slice of GPUs": (
        ["--gin.plan.topology='8x8'"],
        "plan.topology is '8x8'; of h100 give how many there are, as '8'",
    ),
    "no GPUs": (["--gin.plan.topology='0'"], "plan.topology is '0'; of h100 give how many there are, as '8'"),
    "more GPUs than there are": (["--gin.make_mesh.fsdp=16"], "(1, 0, 16, 1) does not use 8 devices exactly; give"),
    "key heads that do not divide": (
        ["--gin.plan.model='qwen2_5_7b'", "--gin.make_mesh.fsdp=1", "--gin.make_mesh.tensor=8"],
        "kv_heads has 4 entries, not divisible by tensor = 8; use one of [1, 2, 4]",
    ),
    "a kernel of TPUs": (["--gin.plan.attention='tpu'"], "plan.chip is 'h100': the formula is for"),
    "devices": (["--gin.make_mesh.devices=4"], "denylisted"),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_planned_is_said_in_one_line_and_is_not_the_status_of_what_does_not_fit(capsys, flags, problem):
    assert main(["plan", "--gin_file=gin/plans/gemma2_9b_h100_8.gin", *flags]) == 2
    said, error = capsys.readouterr()
    assert said == ""
    assert error.startswith("crome: error: ")
    assert len(error.splitlines()) == 1
    assert problem in error


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--gin.ROWS_PER_STEP=4"], "rows_per_step is 4, in 1 micro-batches over replica x data x fsdp = 8 devices"),
        (["--gin.plan.micro_batches=16"], "rows_per_step is 64, in 16 micro-batches over"),
        (["--gin.plan.trainable=99"], "plan.trainable is 99; give 'all', 'head', or 1 to 42 upper layers"),
    ],
)
def test_of_tpus_nothing_is_compiled_that_cannot_be_shared_among_them(monkeypatch, capsys, flags, problem):
    monkeypatch.setattr("crome_jax.training.plan.tpu_devices", lambda topology: jax.devices())
    command = ["plan", "--gin_file=gin/plans/gemma2_9b_v5e_64.gin", "--gin.make_mesh.fsdp=8"]
    assert main([*command, *flags]) == 2
    said, error = capsys.readouterr()
    assert said == ""
    assert problem in error
    assert "compiling" not in error


def test_xla_says_how_much_is_missing():
    error = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 23.45G of "
    )
    assert needed_bytes(error + "15.75G hbm. Exceeded hbm capacity by 7.70G.") == pytest.approx(23.45 * 2**30)
    error = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (57.12G) exceeds "
    )
    assert needed_bytes(error + "available HBM (15.75G).") == pytest.approx(57.12 * 2**30)
    assert needed_bytes("INVALID_ARGUMENT: something else") is None


def test_unknown_names_are_refused():
    with pytest.raises(CromeError, match=r"plan\.model is 'gpt'; give one of smollm2_135m"):
        plan(model="gpt", chip="v5e", topology="2x2")
    with pytest.raises(CromeError, match=r"plan\.chip is 'abacus'; give one of v5e, v5p, v6e, h100, h200"):
        plan(model="gemma2_2b", chip="abacus", topology="2x2")


@pytest.mark.parametrize(
    "path", sorted(path for path in FOLDER.glob("*.gin") if path.stem != "plan"), ids=lambda p: p.stem
)
def test_a_file_of_a_plan_shards_its_model_over_all_chips(path):
    assert path.read_text().startswith("# ")
    arguments = configure(plan, [str(path)], []).keywords
    assert path.stem == f"{arguments['model']}_{arguments['chip']}_{path.stem.rpartition('_')[2]}"
    assert arguments["method"].kinds == ("human", "causal", "neutral")
    chips = math.prod(int(n) for n in arguments["topology"].split("x"))
    assert arguments["rows_per_step"] % chips == 0
    assert chips == int(path.stem.rpartition("_")[2]) // (2 if arguments["chip"] == "v5p" else 1)  # v5p counts cores
    assert f"make_mesh.fsdp = {chips}" in path.read_text()
    abstract_params(PRESETS[arguments["model"]].cfg, jax.sharding.AbstractMesh((1, 1, chips, 1), AXES))


@pytest.mark.slow
def test_a_plan_is_made_without_a_chip_and_its_status_says_whether_it_fits(capsys):
    pytest.importorskip("libtpu", reason="./launch/setup.sh plan compiles for TPU without one")
    small = ["plan", "--gin_file=gin/plans/gemma2_9b_v5e_64.gin", "--gin.plan.model='smollm2_135m'"]
    small += ["--gin.plan.layers=3", "--gin.plan.topology='2x2'", "--gin.make_mesh.fsdp=2"]
    assert main([*small, "--gin.ROWS_PER_STEP=8"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["fits"]
    assert figures["chips"] == "4 v5e (2x2)"
    assert figures["collectives"]["all-gather"] > 0
    assert 1.2 < figures["done / needed"] < 1.6
    assert main([*small, "--gin.ROWS_PER_STEP=8192", "--gin.plan.search=False"]) == 1
    figures = json.loads(capsys.readouterr().out)
    assert not figures["fits"]
    assert figures["memory needed, GB a chip"] > figures["memory there, GB a chip"]


@pytest.mark.slow
def test_compiled_for_tpus_a_large_model_s_step_without_remat_does_little_that_it_need_not():
    pytest.importorskip("libtpu", reason="./launch/setup.sh plan compiles for TPU without one")
    on_four = functools.partial(make_mesh, fsdp=4)
    # The layers of the whole model are scanned; three compile to the same loop.
    model = {"model": "qwen2_5_7b", "layers": 3, "row_shape": RowShape(2048, 32, 64), "rows_per_step": 4}
    planned = plan(**model, chip="v5e", topology="2x2", mesh=on_four, remat="none", search=False)
    assert planned.fits
    assert planned.figures["loops of unknown length"] == 0
    assert 1.0 <= planned.figures["done / needed"] <= 1.10


def test_every_preset_can_be_counted():
    for preset in PRESETS.values():
        cfg = preset.cfg
        # 6 FLOP for each weight and token is the rule of thumb; pairs add to it, the table and the last layer do not.
        rule = 6 * (preset.parameters - cfg.vocab_size * cfg.width * (1 if preset.tied else 2)) * 2048
        assert 0.9 * rule * (cfg.layers - 1) / cfg.layers < step_flops(cfg, "all", 1, 2048, 16) < 1.35 * rule
