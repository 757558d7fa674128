"""The decoder against transformers, and the laws of its mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from crome_jax.batch import Batch
from crome_jax.errors import CromeError
from crome_jax.models import weights
from crome_jax.models.config import DecoderConfig, tiny
from crome_jax.models.decoder import hidden_states, rewards, trunk
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.packages import find_backbone


def plain_batch(tokens: np.ndarray) -> Batch:
    """One response a row, after a one-token prompt, scored at its last token."""
    b, t = tokens.shape
    ids = np.tile(np.arange(t, dtype=np.int32), (b, 1))
    zeros, numbers = np.zeros((b, 1), np.int32), np.zeros((b, 1), np.float32)
    batch = Batch(
        tokens=tokens.astype(np.int32),
        positions=ids,
        group_ids=np.ones_like(ids),
        response_ids=(ids > 0).astype(np.int32),
        response_ends=np.full((b, 1), t - 1, np.int32),
        left=zeros, right=zeros, kind=zeros, target=numbers, weight=numbers, margin=numbers,
    )  # fmt: skip
    return jax.tree.map(jnp.asarray, batch)


def relative(ours, theirs) -> float:
    return float(np.linalg.norm(np.asarray(ours) - np.asarray(theirs)) / np.linalg.norm(np.asarray(theirs)))


def from_torch(model, cfg: DecoderConfig) -> weights.Params:
    """Lay a transformers decoder's weights out as ours."""
    state = {k: v.detach().float().numpy() for k, v in model.state_dict().items()}
    names = {
        "attention_norm": "input_layernorm",
        "ffn_norm": "pre_feedforward_layernorm" if cfg.post_norms else "post_attention_layernorm",
        "attention_post_norm": "post_attention_layernorm",
        "ffn_post_norm": "post_feedforward_layernorm",
        "q_norm": "self_attn.q_norm",
        "k_norm": "self_attn.k_norm",
    }

    def layer(i, name):
        get = lambda n: state[f"layers.{i}.{n}.weight"]  # noqa: E731
        if name in ("q", "k", "v"):
            return get(f"self_attn.{name}_proj").reshape(-1, cfg.head_width, cfg.width).transpose(2, 0, 1)
        if name == "o":
            return get("self_attn.o_proj").T.reshape(cfg.heads, cfg.head_width, cfg.width)
        return get(names[name]) if name in names else get(f"mlp.{name}_proj").T

    stacked = {name: np.stack([layer(i, name) for i in range(cfg.layers)]) for name in weights.declare_layers(cfg, 1)}
    params = {
        "embed": state["embed_tokens.weight"],
        **weights.split_layers(stacked, weights.layer_runs(cfg, "all")),
        "final_norm": state["norm.weight"],
        "head": np.zeros(cfg.width, np.float32),
    }
    return jax.tree.map(jnp.asarray, params)


def reference(family: str):
    """A small random transformers model and our numbers for it."""
    torch.manual_seed(0)
    if family == "llama":
        theirs = transformers.LlamaConfig(
            vocab_size=101, hidden_size=48, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
            head_dim=16, intermediate_size=56, rope_theta=1e5, rms_norm_eps=1e-5,
        )  # fmt: skip
        model = transformers.LlamaModel(theirs)
        cfg = tiny(
            vocab_size=101, width=48, heads=3, kv_heads=1, head_width=16, ffn_width=56, rope_base=1e5, norm_eps=1e-5
        )
    else:
        theirs = transformers.Gemma3TextConfig(
            vocab_size=101, hidden_size=40, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, intermediate_size=56, sliding_window=6, query_pre_attn_scalar=16,
        )  # fmt: skip
        model = transformers.Gemma3TextModel(theirs)
        cfg = DecoderConfig(
            family="gemma3", vocab_size=101, width=40, layers=8, heads=4, kv_heads=2, head_width=16, ffn_width=56,
            rope_base=1e6, local_rope_base=1e4, pattern=("local",) * 5 + ("global",), window=6, norm_plus_one=True,
            post_norms=True, qk_norm=True, activation="gelu_tanh", embedding_scale=40**0.5,
        )  # fmt: skip
    for p in model.parameters():
        # Norm weights start at one (or zero): a mistake in them would not show.
        torch.nn.init.normal_(p, std=0.2) if p.ndim == 1 else None
    return model.eval(), cfg


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_hidden_states_agree_with_transformers(family):
    model, cfg = reference(family)
    tokens = np.random.default_rng(0).integers(0, 101, (2, 23))
    with torch.no_grad():
        theirs = model(torch.tensor(tokens)).last_hidden_state.numpy()
    # fp32 on both sides: only the order of additions differs.
    assert relative(hidden_states(from_torch(model, cfg), plain_batch(tokens), cfg), theirs) < 1e-5


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
    assert relative(hidden_states(jax.tree.map(jnp.asarray, base.params), plain_batch(tokens), base.cfg), theirs) < 1e-3


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
    grads = jax.grad(lambda p: rewards(p, batch, cfg).sum())(params)
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


def test_bfloat16_is_no_further_off_than_transformers_bfloat16():
    model, cfg = reference("llama")
    params = from_torch(model, cfg)
    tokens = np.random.default_rng(0).integers(0, 101, (4, 23))
    batch = plain_batch(tokens)
    with torch.no_grad():
        truth = model(torch.tensor(tokens)).last_hidden_state[:, -1].sum(-1).numpy()
        theirs = model.bfloat16()(torch.tensor(tokens)).last_hidden_state[:, -1].float().sum(-1).numpy()
    ours = rewards({**params, "head": jnp.ones(cfg.width)}, batch, cfg, jnp.bfloat16)[:, 0]
    assert relative(ours, truth) <= relative(theirs, truth)


def test_parameters_are_counted_from_their_declaration():
    cfg = load_backbone("smollm2-135m").cfg
    assert weights.count(weights.declare(cfg)) - cfg.width == 134_515_008  # the published count; less our head
    with pytest.raises(ValueError, match="1 to 30 upper layers"):
        weights.declare(cfg, 31)
