"""The decoder against transformers, and the laws of its mask."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from reference import plain_batch, relative

from crome_jax.errors import CromeError
from crome_jax.models import weights
from crome_jax.models.config import Lora, tiny
from crome_jax.models.decoder import hidden_states, rewards, trunk
from crome_jax.models.execution import Execution
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.packages import find_backbone

TEXT = "The quick brown fox jumps over the lazy dog, 42 times. Naïve? 日本語!"


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("smollm2-135m", 3),
        ("gemma3-270m", 7),  # The sixth is its first global layer.
        pytest.param("smollm2-135m", None, marks=pytest.mark.slow),
    ],
)
def test_gguf_backbone_agrees_with_transformers(name, layers):
    try:
        path = find_backbone(name)
    except CromeError as e:
        pytest.skip(str(e))
    cut = {} if layers is None else {"num_hidden_layers": layers}
    model = transformers.AutoModel.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, **cut).eval()
    base = load_backbone(name, layers=layers)
    assert len(model.layers) == base.cfg.layers
    tokens = np.array([base.tokenizer.encode(TEXT)])
    with torch.no_grad():
        theirs = model(torch.tensor(tokens)).last_hidden_state.numpy()
    assert relative(hidden_states(jax.tree.map(jnp.asarray, base.params), plain_batch(tokens), base.cfg), theirs) < 1e-4


@pytest.mark.parametrize("attention", ["dense", "blocks"])
@pytest.mark.parametrize("lora", [None, Lora(rank=2), Lora(rank=2, base="int8")])
def test_float32_is_multiplied_as_float32_on_accelerators_too(lora, attention):
    cfg = tiny(lora=lora)
    params = weights.init_params(cfg, jax.random.key(0))
    batch, how = plain_batch(np.ones((1, 8), int)), Execution(attention)

    trained = params if lora is None else {name: params[name] for name in ("adapters", "head")}

    def asked_for(dtype):
        gradient = jax.jit(jax.grad(lambda trained: rewards(params | trained, batch, cfg, dtype, how).sum()))
        lowered = gradient.trace(trained).lower(lowering_platforms=("cuda",)).as_text()
        return re.findall(r"dot_general.*precision = \[(\w+), (\w+)\]", lowered)

    assert set(asked_for(jnp.float32)) == {("HIGHEST", "HIGHEST")}
    assert ("DEFAULT", "DEFAULT") in asked_for(jnp.bfloat16)


def test_cutting_the_layers_changes_nothing():
    cfg = tiny(layers=7, pattern=("local", "local", "global"), window=4)
    whole = weights.init_params(cfg, jax.random.key(0))
    whole["head"] = jnp.ones(cfg.width)
    batch = plain_batch(np.random.default_rng(0).integers(0, 512, (2, 11)))
    expected = rewards(whole, batch, cfg)
    stacked = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), whole["upper"], whole["last"])
    for trainable in (1, 2, 3, 5, "head"):
        cut = {
            **{k: whole[k] for k in ("embed", "final_norm", "head")},
            **weights.split_layers(stacked, weights.layer_runs(cfg, trainable)),
        }
        np.testing.assert_allclose(rewards(cut, batch, cfg), expected, rtol=1e-5)
        ahead = batch.replace(hidden=trunk(cut, batch, cfg))
        above = {k: v for k, v in cut.items() if k not in ("embed", "lower")}
        np.testing.assert_allclose(rewards(above, ahead, cfg), expected, rtol=1e-5)


def test_frozen_weights_get_no_gradient_and_trained_ones_do():
    cfg = tiny()
    params = weights.init_params(cfg, jax.random.key(0), trainable=2)
    params["head"] = jnp.ones(cfg.width)
    batch = plain_batch(np.random.default_rng(0).integers(0, 512, (2, 9)))
    grads = jax.jit(jax.grad(lambda p: rewards(p, batch, cfg).sum()))(params)
    for name in ("embed", "lower"):
        assert all(not np.any(g) for g in jax.tree.leaves(grads[name]))
    for name in ("upper", "last", "final_norm", "head"):
        assert all(np.any(g) for g in jax.tree.leaves(grads[name]))


def test_a_token_sees_only_its_prompt_and_its_own_past():
    # One row: prompt 0-2, response 3-5, response 6-8, another group 9-11, padding 12-13.
    group = np.array([[1] * 9 + [2] * 3 + [0] * 2], np.int32)
    response = np.array([[0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 3, 3, 0, 0]], np.int32)
    positions = np.array([[0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 2, 0, 0]], np.int32)
    base = plain_batch(np.random.default_rng(0).integers(0, 512, (1, 14)))
    batch = base.replace(
        positions=jnp.asarray(positions), group_ids=jnp.asarray(group), response_ids=jnp.asarray(response)
    )
    cfg = tiny()
    params = weights.init_params(cfg, jax.random.key(0))
    x = params["embed"][batch.tokens]

    def state(x, i):
        return hidden_states({**params, "embed": x[0]}, batch.replace(tokens=jnp.arange(14)[None]), cfg)[0, i].sum()

    gradient = jax.jit(jax.grad(state))
    for i, sees in {5: {0, 1, 2, 3, 4, 5}, 7: {0, 1, 2, 6, 7}, 10: {9, 10}, 1: {0, 1}}.items():
        touched = np.abs(gradient(x, i)[0]).sum(-1)
        assert {int(j) for j in touched.nonzero()[0]} == sees


def test_parameters_are_counted_from_their_declaration():
    cfg = load_backbone("smollm2-135m").cfg
    assert weights.count(weights.declare(cfg)) - cfg.width == 134_515_008  # the published count; less our head
    with pytest.raises(ValueError, match="1 to 30 upper layers"):
        weights.declare(cfg, 31)
