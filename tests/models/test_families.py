"""Every family against transformers' ...ForSequenceClassification: hidden states, rewards, gradients, and bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import FAMILIES, PAD, draw_numbers, from_torch, padded, plain_batch, reference, relative
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from crome_jax.data.packing import RowShape, TokenizedGroup, pack
from crome_jax.models.config import tiny
from crome_jax.models.decoder import hidden_states, rewards, score
from crome_jax.models.rope import rope_frequencies
from crome_jax.objectives.bradley_terry import bradley_terry

CASES = [(family, seed) for family in FAMILIES for seed in (0, 1)]
LENGTH = 23


def draw_group(rng: np.random.Generator, index: int) -> TokenizedGroup:
    """Draw three responses to a prompt, the first preferred to the others; with the prompt, longer than a window."""
    ids = lambda low, high: rng.integers(PAD + 1, 101, rng.integers(low, high)).tolist()  # noqa: E731
    two = lambda value, dtype: np.array([value] * 2, dtype)  # noqa: E731
    return TokenizedGroup(
        index, ids(4, 9), [ids(6, LENGTH - 9) for _ in range(3)], two(0, np.int32), np.array([1, 2], np.int32),
        two(0, np.int32), two(1, np.float32), two(1, np.float32), two(0, np.float32),
    )  # fmt: skip


def their_rewards(model, tokens, real):
    return model(torch.tensor(tokens), attention_mask=torch.tensor(real.astype(np.int64))).logits[:, 0]


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_hidden_states_and_rewards_agree_whatever_the_padding(family, seed):
    model, cfg = reference(family, seed)
    params = from_torch(model.state_dict(), cfg)
    sequences = [np.random.default_rng(n).integers(PAD + 1, 101, n).tolist() for n in (LENGTH, 17, 9, 4)]
    run = jax.jit(lambda batch: (hidden_states(params, batch, cfg), rewards(params, batch, cfg)))
    for side in ("right", "left"):
        tokens, real = padded(sequences, side, LENGTH)
        with torch.no_grad():
            mask = torch.tensor(real.astype(np.int64))
            states = model.model(torch.tensor(tokens), attention_mask=mask).last_hidden_state.numpy()
            scores = their_rewards(model, tokens, real).numpy()
        ours, reward = run(plain_batch(tokens, real))
        # fp32 on both sides: only the order of additions differs.
        assert relative(np.asarray(ours)[real], states[real]) < 1e-5
        assert relative(reward[:, 0], scores) < 1e-5


@pytest.mark.parametrize(
    ("family", "seed"), [pytest.param(*case, marks=pytest.mark.slow if case[1] else ()) for case in CASES]
)
def test_packed_rewards_and_gradients_agree(family, seed):
    model, cfg = reference(family, seed)
    rng = np.random.default_rng(seed)
    groups = [draw_group(rng, index) for index in range(2)]
    rows = pack(groups, RowShape(96, 8, 8))
    assert len(rows) == 1
    batch = jax.tree.map(jnp.asarray, rows.batch)

    def loss(params):
        scored = score(params, batch, cfg)
        return bradley_terry(scored, batch)[0], scored.rewards

    (ours, scores), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(from_torch(model.state_dict(), cfg))
    sequences = [group.prompt + response for group in groups for response in group.responses]
    theirs = their_rewards(model, *padded(sequences, "left", LENGTH)).reshape(2, 3)
    model.zero_grad()
    summed = -torch.nn.functional.logsigmoid(theirs[:, :1] - theirs[:, 1:]).sum()
    summed.backward()
    slots = {(int(g), int(r)): n for n, (g, r) in enumerate(zip(rows.groups[0], rows.responses[0], strict=True))}
    placed = [[scores[0, slots[g, r]] for r in range(3)] for g in range(2)]
    assert relative(placed, theirs.detach().numpy()) < 1e-5
    assert relative(ours, summed.item()) < 1e-5
    expected = from_torch({name: p.grad for name, p in model.named_parameters()}, cfg)
    for path, theirs in jax.tree_util.tree_leaves_with_path(expected):
        mine = gradients
        for key in path:
            mine = mine[key.key]
        # Sums of some thousand products of float32, in another order.
        assert relative(mine, theirs) < 1e-4, path


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_bfloat16_is_no_further_off_than_transformers_bfloat16(family, seed):
    model, cfg = reference(family, seed)
    params = from_torch(model.state_dict(), cfg)
    tokens = np.random.default_rng(0).integers(PAD + 1, 101, (16, LENGTH))
    heads = np.random.default_rng(1).normal(size=(64, cfg.width)).astype(np.float32)  # One alone may be lucky.
    rounded = type(model)(model.config).eval()
    rounded.load_state_dict(model.state_dict())
    with torch.no_grad():
        state = lambda m: m.model(torch.tensor(tokens)).last_hidden_state[:, -1]  # noqa: E731
        truth = (state(model) @ torch.tensor(heads).T).numpy()
        theirs = (state(rounded.bfloat16()) @ torch.tensor(heads).bfloat16().T).float().numpy()
    batch = plain_batch(tokens)
    by_head = jax.vmap(lambda head: rewards({**params, "head": head}, batch, cfg, jnp.bfloat16)[:, 0], out_axes=1)
    assert relative(jax.jit(by_head)(heads), truth) <= relative(theirs, truth)


@pytest.mark.parametrize(("family", "kind"), [("llama", "llama3"), ("gemma3", "linear")])
def test_frequencies_of_stretched_rope_are_theirs_to_the_last_bits(family, kind):
    model, cfg = reference(family, 1)
    layer_type = "full_attention" if family == "gemma3" else None
    theirs, _ = ROPE_INIT_FUNCTIONS[kind](model.config, layer_type=layer_type)
    ours = rope_frequencies(cfg, "global")
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=3e-7)
    unscaled = rope_frequencies(tiny(rope_base=cfg.rope_base, head_width=cfg.head_width), "global")
    assert np.any(ours != unscaled)


def test_published_llama_3_frequencies_are_theirs():
    numbers = draw_numbers("llama", 1)
    model, _ = reference("llama", 1)
    rope = numbers["rope_parameters"] | {"rope_theta": 5e5, "original_max_position_embeddings": 8192}
    published = type(model.config)(**{**numbers, "head_dim": 128, "rope_parameters": rope})
    cfg = tiny(head_width=128, rope_base=5e5, rope_factor=8.0, rope_trained=8192)
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](published)
    np.testing.assert_allclose(rope_frequencies(cfg, "global"), theirs.numpy(), rtol=3e-7)
