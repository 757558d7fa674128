"""From packed rows to hidden states and rewards: embed, layers, norm, head."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from crome_jax.batch import Batch
from crome_jax.models.attention import attend, attention_mask
from crome_jax.models.config import DecoderConfig
from crome_jax.models.weights import Params

Masks = dict[str, Bool[Array, "B T T"]]
ACTIVATIONS: dict[str, Callable] = {"silu": jax.nn.silu, "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True)}


def rewards(params: Params, batch: Batch, cfg: DecoderConfig, dtype: DTypeLike = jnp.float32) -> Float[Array, "B R"]:
    """Score every response slot; empty slots get 0.

    Args:
        dtype: of activations and matrix products; the head, norms and softmax stay in float32.

    Returns:
        Rewards in nats: their difference is the log-odds of preference (Bradley-Terry).
    """
    x = batch.hidden if batch.hidden is not None else trunk(params, batch, cfg, dtype)
    # Frozen layers carry no gradient; cutting here also keeps their activations from being stored.
    x = jax.lax.stop_gradient(x) if "lower" in params else x
    masks = build_masks(batch, cfg)
    if "upper" in params:
        first = cfg.layers - params["upper"]["q"].shape[0]
        x = apply_layers(params["upper"], x.astype(dtype), batch.positions, masks, cfg, first)
    ends = jnp.maximum(batch.response_ends, 0)
    scored = jnp.take_along_axis(x, ends[:, :, None], axis=1).astype(jnp.float32)
    scored = rms_norm(scored, params["final_norm"], cfg)
    reward = jnp.einsum("brd,d->br", scored, params["head"], precision=jax.lax.Precision.HIGHEST)
    return jnp.where(batch.response_ends >= 0, reward, 0.0)


def trunk(params: Params, batch: Batch, cfg: DecoderConfig, dtype: DTypeLike = jnp.float32) -> Float[Array, "B T D"]:
    """Run the embedding and the frozen layers: the hidden states that enter the first trained layer."""
    x = embed(params["embed"], batch.tokens, cfg, dtype)
    if "lower" in params:
        x = apply_layers(params["lower"], x, batch.positions, build_masks(batch, cfg), cfg, 0)
    return x


def hidden_states(params: Params, batch: Batch, cfg: DecoderConfig) -> Float[Array, "B T D"]:
    """Return the normed output of the last layer for every token: what is compared with other implementations."""
    x = trunk(params, batch, cfg)
    if "upper" in params:
        first = cfg.layers - params["upper"]["q"].shape[0]
        x = apply_layers(params["upper"], x, batch.positions, build_masks(batch, cfg), cfg, first)
    return rms_norm(x, params["final_norm"], cfg)


def embed(
    table: Float[Array, "V D"], tokens: Int[Array, "B T"], cfg: DecoderConfig, dtype: DTypeLike
) -> Float[Array, "B T D"]:
    """Look tokens up and scale them; Gemma rounds the scale to the activations' dtype, so do we."""
    return table[tokens].astype(dtype) * jnp.asarray(cfg.embedding_scale, dtype)


def build_masks(batch: Batch, cfg: DecoderConfig) -> Masks:
    """Build one mask for each kind of layer the decoder has."""
    windows = {"global": None, "local": cfg.window}
    ids = batch.positions, batch.group_ids, batch.response_ids
    return {kind: attention_mask(*ids, window=windows[kind]) for kind in sorted(set(cfg.pattern))}


def apply_layers(
    layers: dict[str, Array],
    x: Float[Array, "B T D"],
    positions: Int[Array, "B T"],
    masks: Masks,
    cfg: DecoderConfig,
    first: int,
) -> Float[Array, "B T D"]:
    """Apply consecutive layers, scanned by the repeating block of their kinds.

    A run that starts amid a block has the same period, rotated; what is left over after the last whole block is
    unrolled.

    Args:
        layers: weights stacked on the first axis.
        first: the number of the first of these layers in the whole decoder.
    """
    n, period = layers["q"].shape[0], len(cfg.pattern)
    blocks, rest = divmod(n, period)
    one = functools.partial(_layer, positions=positions, masks=masks, cfg=cfg)

    def block(x, weights):
        for i in range(period):
            x = one(jax.tree.map(lambda w, i=i: w[i], weights), x, kind=cfg.kind_of(first + i))
        return x, None

    if blocks:
        stacked = jax.tree.map(lambda w: w[: n - rest].reshape(blocks, period, *w.shape[1:]), layers)
        x, _ = jax.lax.scan(block, x, stacked)
    for i in range(n - rest, n):
        x = one(jax.tree.map(lambda w, i=i: w[i], layers), x, kind=cfg.kind_of(first + i))
    return x


def _layer(
    w: dict[str, Array],
    x: Float[Array, "B T D"],
    *,
    positions: Int[Array, "B T"],
    masks: Masks,
    cfg: DecoderConfig,
    kind: str,
) -> Float[Array, "B T D"]:
    base = cfg.rope_base if kind == "global" else cfg.local_rope_base
    y = _attention(w, rms_norm(x, w["attention_norm"], cfg), positions, masks[kind], cfg, base)
    x = x + (rms_norm(y, w["attention_post_norm"], cfg) if cfg.post_norms else y)
    y = _feed_forward(w, rms_norm(x, w["ffn_norm"], cfg), cfg)
    return x + (rms_norm(y, w["ffn_post_norm"], cfg) if cfg.post_norms else y)


def _attention(w, x, positions, mask, cfg: DecoderConfig, base: float) -> Float[Array, "B T D"]:
    dtype = x.dtype
    q = jnp.einsum("btd,dhe->bthe", x, w["q"].astype(dtype))
    k = jnp.einsum("btd,dke->btke", x, w["k"].astype(dtype))
    v = jnp.einsum("btd,dke->btke", x, w["v"].astype(dtype))
    if cfg.qk_norm:
        q, k = rms_norm(q, w["q_norm"], cfg), rms_norm(k, w["k_norm"], cfg)
    scale = cfg.head_width**-0.5 if cfg.query_scale is None else cfg.query_scale
    q, k = rotate(q, positions, base) * jnp.asarray(scale, dtype), rotate(k, positions, base)
    return jnp.einsum("bthe,hed->btd", attend(q, k, v, mask), w["o"].astype(dtype))


def _feed_forward(w, x, cfg: DecoderConfig) -> Float[Array, "B T D"]:
    gate = ACTIVATIONS[cfg.activation](jnp.einsum("btd,df->btf", x, w["gate"].astype(x.dtype)))
    return jnp.einsum(
        "btf,fd->btd", gate * jnp.einsum("btd,df->btf", x, w["up"].astype(x.dtype)), w["down"].astype(x.dtype)
    )


def rms_norm(x: Float[Array, "*N D"], w: Float[Array, "D"], cfg: DecoderConfig) -> Float[Array, "*N D"]:
    """Divide by the root mean square over the last axis, in float32, and multiply by the weight."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + cfg.norm_eps)
    w = w.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + w.shape)
    return (y * (1.0 + w if cfg.norm_plus_one else w)).astype(x.dtype)


def rotate(x: Float[Array, "B T H E"], positions: Int[Array, "B T"], base: float) -> Float[Array, "B T H E"]:
    """Rotate the halves of each head by angles that grow with position (RoPE, arXiv 2104.09864), in float32."""
    half = x.shape[-1] // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[:, :, None, None].astype(jnp.float32) * frequencies[None, None, None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
