"""A run with adapters: what trains, what is left alone, and what others make of what it exports."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from peft_folders import peft_rewards
from reference import TOKENS, reference, write_tokenizer
from toy import batch, mesh_of, text_groups

from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError
from crome_jax.evaluation.scoring import score_groups
from crome_jax.groups import to_json
from crome_jax.models import weights
from crome_jax.models.config import LORA_TARGETS, Lora, tiny
from crome_jax.models.lora import merge
from crome_jax.models.quantized import dequantize, dequantized, quantize
from crome_jax.objectives.crome import crome
from crome_jax.training.mesh import weight_shardings
from crome_jax.training.optimizer import adamw
from crome_jax.training.run_cards import read_card
from crome_jax.training.step import init_state, make_train_step
from crome_jax.training.train import load_run, train
from crome_jax.weights.adapters import write_adapter
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.export import write_folder
from crome_jax.weights.model_cards import render_model_card

SHAPE = RowShape(128, 8, 8)


def equal(ours, theirs):
    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), ours, theirs))


def test_only_adapters_and_head_have_gradients_and_moments():
    cfg = tiny(layers=3, vocab_size=64, lora=Lora(rank=2, dropout=0.1))
    mesh, optimizer = mesh_of(1, 1, 1), adamw(steps=4, learning_rate=1e-2)
    params = weights.init_params(cfg, jax.random.key(0), 2) | {"head": jnp.ones(cfg.width)}
    params = jax.tree.map(jax.device_put, params, weight_shardings(weights.declare(cfg, 2), mesh))
    trained, frozen = weights.partition(params, 2)
    before = jax.tree.map(np.asarray, trained)
    state = init_state(trained, optimizer)
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim)
    assert moments == 2 * weights.count({k: w for k, w in weights.declare(cfg, 2).items() if k in trained})
    step = make_train_step(cfg, crome, optimizer, mesh, micro_batches=2)
    for _ in range(2):  # B starts at zero: A has no gradient before it has moved.
        state, metrics = step(state, frozen, batch(mesh))
    assert np.isfinite(float(metrics["loss"]))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state.trained), strict=True):
        assert not np.array_equal(old, new)


@pytest.fixture(
    scope="module", params=["float32", *(pytest.param(base, marks=pytest.mark.slow) for base in ("int8", "nf4"))]
)
def place(request, tmp_path_factory):
    """A folder with a backbone of three layers, a run with adapters beside two of them, over one base or another."""
    folder = tmp_path_factory.mktemp("place")
    reference("qwen2", 0, TOKENS)[0].save_pretrained(folder / "backbone")
    write_tokenizer(folder / "backbone")
    (folder / "prefs.jsonl").write_text("\n".join(to_json(group) for group in text_groups(4)))
    run = lambda steps: train(  # noqa: E731
        data=str(folder / "prefs.jsonl"), out=str(folder / "run"), backbone=str(folder / "backbone"), trainable=2,
        lora=Lora(rank=3, alpha=6.0, targets=("q", "o", "up"), base=request.param), steps=steps,
        rows_per_step=2, row_shape=SHAPE,
        mesh=lambda: mesh_of(1, 1, 1), optimizer=lambda steps: adamw(steps=4, learning_rate=1e-2),
    )  # fmt: skip
    run(2)
    run(3)  # Resumed.
    return folder


def test_a_run_leaves_its_backbone_and_is_one_merged(place, tmp_path):
    model, base = load_run(place / "run", lambda: mesh_of(1, 1, 1)), load_backbone(str(place / "backbone"), 2)
    kept = model.cfg.lora.base
    assert model.cfg.lora == Lora(rank=3, alpha=6.0, targets=("q", "o", "up"), base=kept)
    before = {run: stands_for(base.params[run], kept) for run in ("lower", "upper", "last")}
    assert all(equal(dequantized(model.params[run]), before[run]) for run in before)
    np.testing.assert_array_equal(model.params["embed"], base.params["embed"])
    merged, plain = merge(model.params, model.cfg)
    assert not np.array_equal(merged["last"]["up"], before["last"]["up"])
    np.testing.assert_array_equal(merged["last"]["k"], before["last"]["k"])
    expected = np.concatenate(score_groups(model, text_groups(3)).rewards)
    as_one = dataclasses.replace(model, params=merged, cfg=plain)
    np.testing.assert_allclose(np.concatenate(score_groups(as_one, text_groups(3)).rewards), expected, atol=1e-5)
    again = load_backbone(str(place / "run"), 1).params
    np.testing.assert_allclose(again["lower"]["up"][-1], merged["upper"]["up"][0], atol=1e-6)
    np.testing.assert_allclose(again["last"]["o"], merged["last"]["o"], atol=1e-6)
    np.testing.assert_allclose(again["lower"]["k"][0], merged["lower"]["k"][0], atol=1e-6)
    np.testing.assert_array_equal(again["head"], model.params["head"])
    write_folder(tmp_path / "merged", model.params, model.cfg, model.tokenizer, context=256, card="")
    exported = load_backbone(str(tmp_path / "merged"), 2)
    as_exported = dataclasses.replace(model, params=jax.tree.map(jnp.asarray, exported.params), cfg=exported.cfg)
    np.testing.assert_allclose(np.concatenate(score_groups(as_exported, text_groups(3)).rewards), expected, atol=1e-5)
    # Of adapters by themselves the base is no part: they are the same files over any.
    write_adapter(
        tmp_path / "adapter",
        model.params,
        model.cfg,
        model.tokenizer,
        base=str(place / "backbone"),
        context=256,
        card="",
    )
    saved = safetensors.numpy.load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    name = "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight"
    np.testing.assert_array_equal(saved[name], np.asarray(model.params["adapters"]["last"]["q_a"][0]).T)


def stands_for(layers, kept):
    """Return a run's layers as a base in few bits has them."""
    return {
        name: np.asarray(dequantize(quantize(jnp.asarray(w), name, kept))) if kept != "float32" and name in LORA_TARGETS
        else w
        for name, w in layers.items()
    }  # fmt: skip


def test_peft_loads_the_adapters_over_what_they_were_trained_over(place, tmp_path):
    model, groups = load_run(place / "run", lambda: mesh_of(1, 1, 1)), text_groups(3)
    expected, kept = np.concatenate(score_groups(model, groups).rewards), model.cfg.lora.base
    write = functools.partial(write_adapter, params=model.params, cfg=model.cfg, tokenizer=model.tokenizer)
    write(tmp_path / "adapter", base=str(place / "backbone"), context=256, card="")
    apart = np.abs(peft_rewards(place / "backbone", tmp_path / "adapter", groups) - expected).max()
    assert (apart < 1e-5) == (kept == "float32")
    bare = model.params | {"adapters": jax.tree.map(jnp.zeros_like, model.params["adapters"])}
    write_folder(tmp_path / "base", bare, model.cfg, model.tokenizer, context=256, card="")
    np.testing.assert_allclose(peft_rewards(tmp_path / "base", tmp_path / "adapter", groups), expected, atol=1e-5)
    card = read_card(place / "run")
    said = f"trained over the backbone's matrices in {kept}"
    assert (said in render_model_card(place / "run", card, 3, adapter=True)) == (kept != "float32")
    assert said not in render_model_card(place / "run", card, 3)
    folded = "The chat template has no place for a system turn."
    assert folded in render_model_card(place / "run", card, 3, folds_system=True)
    assert folded not in render_model_card(place / "run", card, 3)
    rounded = "In training and in what was evaluated, activations were bfloat16."
    assert rounded in render_model_card(place / "run", dataclasses.replace(card, dtype="bfloat16"), 3)
    assert rounded not in render_model_card(place / "run", card, 3)


def test_what_has_no_adapters_is_told(place, tmp_path):
    base = load_backbone(str(place / "backbone"), 2)
    write = lambda cfg, base_name: write_adapter(  # noqa: E731
        tmp_path / "out", base.params, cfg, base.tokenizer, base=base_name, context=64, card=""
    )
    with pytest.raises(CromeError, match="the run trained no adapters; leave out --adapter"):
        write(base.cfg, str(place / "backbone"))
    with pytest.raises(CromeError, match="which backbone 'tiny' is not; leave out --adapter"):
        write(base.with_adapters(Lora()).cfg, "tiny")
    fewer = dataclasses.replace(base.with_adapters(Lora()).cfg, layers=base.cfg.layers - 1)
    with pytest.raises(CromeError, match=r"on the first \d of .* layers, and PEFT would put them and .* over all"):
        write(fewer, str(place / "backbone"))
    with pytest.raises(CromeError, match="leaves adapters no layer; set it to 'all' or a number"):
        train(data="x", out=str(tmp_path / "x"), trainable="head", lora=Lora())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_dropout_follows_the_seed():
    cfg = tiny(layers=2, vocab_size=64, lora=Lora(rank=2, dropout=0.5))
    mesh, optimizer = mesh_of(1, 1, 1), adamw(steps=4)
    params = jax.tree.map(jnp.ones_like, weights.init_params(cfg, jax.random.key(0), 1))

    def loss(seed):
        placed = jax.tree.map(jax.device_put, params, weight_shardings(weights.declare(cfg, 1), mesh))
        trained, frozen = weights.partition(jax.tree.map(jnp.copy, placed), 1)
        _, metrics = make_train_step(cfg, crome, optimizer, mesh, seed=seed)(
            init_state(trained, optimizer), frozen, batch(mesh)
        )
        return float(metrics["loss"])

    assert loss(0) == loss(0)
    assert loss(0) != loss(1)
