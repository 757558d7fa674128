"""A run with adapters: what trains, what is left alone, and what others make of what it exports."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import safetensors.numpy
import torch
import transformers
from reference import FAMILIES, TOKENS, from_torch, reference, write_tokenizer
from toy import batch, mesh_of, text_groups

from crome_jax.data.packing import RowShape
from crome_jax.data.tokenizers import load_tokenizer
from crome_jax.errors import CromeError
from crome_jax.evaluation.scoring import RewardModel, score_groups
from crome_jax.groups import to_json
from crome_jax.models import weights
from crome_jax.models.config import LORA_TARGETS, Lora, tiny
from crome_jax.models.lora import merge
from crome_jax.models.quantized import dequantize, dequantized, quantize
from crome_jax.objectives.crome import crome
from crome_jax.training.mesh import weight_shardings
from crome_jax.training.optimizer import adamw
from crome_jax.training.step import init_state, make_train_step
from crome_jax.training.train import load_run, train
from crome_jax.weights.adapters import write_adapter
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.export import write_folder

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


@pytest.fixture(scope="module", params=["float32", "int8", "nf4"])
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


def conversations(reader, groups):
    return [
        reader.apply_chat_template(
            [*({"role": m.role, "content": m.content} for m in group.prompt),
             {"role": "assistant", "content": response.text}],
            tokenize=False,
        )
        for group in groups
        for response in group.responses
    ]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_the_adapters_with_the_same_rewards(family, tmp_path):
    theirs, plain = reference(family, 0, TOKENS)
    theirs.save_pretrained(tmp_path / "base")
    write_tokenizer(tmp_path / "base")
    tokenizer, groups = load_tokenizer(tmp_path / "base"), text_groups(2)
    upper = plain.layers - 1
    cfg = dataclasses.replace(plain, lora=Lora(rank=3, alpha=5.0))
    stacked = from_torch(theirs.state_dict(), plain)
    layers = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), stacked["upper"], stacked["last"])
    cut = weights.split_layers(layers, weights.layer_runs(cfg, upper))
    rng = np.random.default_rng(0)
    adapters = jax.tree.map(
        lambda w: jnp.asarray(0.2 * rng.normal(size=w.shape), jnp.float32),
        weights.declare_adapters(cfg, upper)["adapters"],
        is_leaf=weights.is_weight,
    )
    params = {k: v for k, v in stacked.items() if k not in ("upper", "last")} | cut | {"adapters": adapters}
    params["head"] = jnp.asarray(rng.normal(size=cfg.width), jnp.float32)
    expected = np.concatenate(
        score_groups(RewardModel(params, cfg, tokenizer, SHAPE, mesh_of(1, 1, 1)), groups).rewards
    )
    write_adapter(
        tmp_path / "adapter", params, cfg, tokenizer, base=str(tmp_path / "base"), context=256, card="# A card\n"
    )
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "adapter")
    # As the model card says: the base's own padding is another token, in which the tokenizer does not pad.
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "base", num_labels=1, pad_token_id=reader.pad_token_id
    )
    model = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    saved = safetensors.numpy.load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert set(saved) == set(peft.get_peft_model_state_dict(model))
    inputs = reader(conversations(reader, groups), padding=True, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        found = model(**inputs).logits[:, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    write_folder(tmp_path / "merged", params, cfg, tokenizer, context=256, card="")
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        np.testing.assert_allclose(whole(**inputs).logits[:, 0].numpy(), expected, rtol=1e-4, atol=1e-4)


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
