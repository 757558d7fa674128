"""From packed rows to hidden states and rewards: embed, layers, norm, head."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from crome_jax.batch import Batch
from crome_jax.models.attention import attend, attend_backwards, attention_mask, mask_to_bias
from crome_jax.models.config import DecoderConfig
from crome_jax.models.heads import read_heads
from crome_jax.models.weights import Params
from crome_jax.scored import Scored

ACTIVATIONS: dict[str, Callable] = {"silu": jax.nn.silu, "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True)}


def rewards(params: Params, batch: Batch, cfg: DecoderConfig, dtype: DTypeLike = jnp.float32) -> Float[Array, "B R"]:
    """Score every response slot; empty slots get 0.

    Args:
        dtype: of activations and matrix products; the head, norms and softmax stay in float32.

    Returns:
        Rewards in nats: their difference is the log-odds of preference (Bradley-Terry).
    """
    return score(params, batch, cfg, dtype).rewards


def score(params: Params, batch: Batch, cfg: DecoderConfig, dtype: DTypeLike = jnp.float32) -> Scored:
    """Score every response slot, with all that an objective may read of how; `rewards` says the arguments."""
    x = batch.hidden if batch.hidden is not None else trunk(params, batch, cfg, dtype)
    if "lower" in params:
        # Frozen layers carry no gradient; cutting here also keeps their activations from being stored.
        x = jax.lax.stop_gradient(x)
    x = x.astype(dtype)
    if "upper" in params:
        x = apply_layers(params["upper"], x, batch, cfg, cfg.layers - 1 - _length(params["upper"]))
    scored = apply_last_layer(params["last"], x, batch, cfg, at=jnp.maximum(batch.response_ends, 0))
    scored = rms_norm(scored.astype(jnp.float32), params["final_norm"], cfg)
    return read_heads(params, scored, batch)


def trunk(params: Params, batch: Batch, cfg: DecoderConfig, dtype: DTypeLike = jnp.float32) -> Float[Array, "B T D"]:
    """Run the embedding and the frozen layers: the hidden states that enter the first layer of `upper`."""
    x = embed(params["embed"], batch.tokens, cfg, dtype)
    return apply_layers(params["lower"], x, batch, cfg, 0) if "lower" in params else x


def hidden_states(params: Params, batch: Batch, cfg: DecoderConfig) -> Float[Array, "B T D"]:
    """Return the normed output of the last layer for every token: what is compared with other implementations."""
    x = trunk(params, batch, cfg)
    if "upper" in params:
        x = apply_layers(params["upper"], x, batch, cfg, cfg.layers - 1 - _length(params["upper"]))
    return rms_norm(apply_last_layer(params["last"], x, batch, cfg), params["final_norm"], cfg)


def embed(
    table: Float[Array, "V D"], tokens: Int[Array, "B T"], cfg: DecoderConfig, dtype: DTypeLike
) -> Float[Array, "B T D"]:
    """Look tokens up and scale them; Gemma rounds the scale to the activations' dtype, so do we."""
    return table[tokens].astype(dtype) * jnp.asarray(cfg.embedding_scale, dtype)


def apply_layers(
    layers: dict[str, Array], x: Float[Array, "B T D"], batch: Batch, cfg: DecoderConfig, first: int
) -> Float[Array, "B T D"]:
    """Apply consecutive layers, scanned by the repeating block of their kinds.

    A run that starts amid a block has the same period, rotated; what is left over after the last whole block is
    unrolled.

    Args:
        layers: weights stacked on the first axis.
        batch: its positions and ids say who attends to whom.
        first: the number of the first of these layers in the whole decoder.
    """
    n, period = _length(layers), len(cfg.pattern)
    blocks, rest = divmod(n, period)
    views = {kind: _view(batch, kind, cfg) for kind in sorted(set(cfg.pattern))}

    def one(x, layer, weights):
        return _layer(weights, x, views[cfg.kind_of(layer)], cfg)

    def block(x, weights):
        for i in range(period):
            x = one(x, first + i, jax.tree.map(lambda w, i=i: w[i], weights))
        return x, None

    if blocks:
        stacked = jax.tree.map(lambda w: w[: n - rest].reshape(blocks, period, *w.shape[1:]), layers)
        x, _ = jax.lax.scan(block, x, stacked)
    for i in range(n - rest, n):
        x = one(x, first + i, jax.tree.map(lambda w, i=i: w[i], layers))
    return x


def apply_last_layer(
    layer: dict[str, Array],
    x: Float[Array, "B T D"],
    batch: Batch,
    cfg: DecoderConfig,
    at: Int[Array, "B R"] | None = None,
) -> Float[Array, "B Q D"]:
    """Apply the decoder's last layer for the tokens `at`, or for all: the others' output is never read."""
    view = _view(batch, cfg.kind_of(cfg.layers - 1), cfg, at)
    return _layer(jax.tree.map(lambda w: w[0], layer), x, view, cfg)


def _length(layers: dict[str, Array]) -> int:
    return layers["q"].shape[0]


class _View(NamedTuple):
    """What a layer's attention has to know of the rows; the same for all layers of a kind, so it is made once.

    Args:
        bias: added to the logits.
        asking, answering: cosines and sines by which queries and keys are rotated.
        at: indices of the tokens that ask; None for all.
    """

    bias: Float[Array, "B Q T"]
    asking: Float[Array, "2 B Q half"]
    answering: Float[Array, "2 B T half"]
    at: Int[Array, "B Q"] | None


def _view(batch: Batch, kind: str, cfg: DecoderConfig, at: Int[Array, "B Q"] | None = None) -> _View:
    window, base = (cfg.window, cfg.local_rope_base) if kind == "local" else (None, cfg.rope_base)
    answering = rope_angles(batch.positions, base, cfg.head_width)
    asking = answering if at is None else jnp.take_along_axis(answering, at[None, :, :, None], axis=2)
    return _View(mask_to_bias(attention_mask(batch, window, at)), asking, answering, at)


def _layer(w: dict[str, Array], x: Float[Array, "B T D"], view: _View, cfg: DecoderConfig) -> Float[Array, "B Q D"]:
    y = _attention(w, rms_norm(x, w["attention_norm"], cfg), view, cfg)
    x = _asking(x, view)
    x = x + (rms_norm(y, w["attention_post_norm"], cfg) if cfg.post_norms else y)
    y = _feed_forward(w, rms_norm(x, w["ffn_norm"], cfg), cfg)
    return x + (rms_norm(y, w["ffn_post_norm"], cfg) if cfg.post_norms else y)


def _attention(w: dict[str, Array], x: Float[Array, "B T D"], view: _View, cfg: DecoderConfig) -> Float[Array, "B Q D"]:
    q, k, v = _project(_asking(x, view), w["q"]), _project(x, w["k"]), _project(x, w["v"])
    if cfg.qk_norm:
        q, k = rms_norm(q, w["q_norm"], cfg), rms_norm(k, w["k_norm"], cfg)
    scale = cfg.head_width**-0.5 if cfg.query_scale is None else cfg.query_scale
    q = rotate(q, view.asking) * jnp.asarray(scale, x.dtype)
    k = rotate(k, view.answering)
    y = attend_backwards(q, k, v, view.bias) if view.at is None else attend(q, k, v, view.bias)
    return _project(y.reshape(*y.shape[:2], -1), w["o"].reshape(-1, cfg.width))


def _asking(x: Float[Array, "B T D"], view: _View) -> Float[Array, "B Q D"]:
    return x if view.at is None else jnp.take_along_axis(x, view.at[:, :, None], axis=1)


def _feed_forward(w: dict[str, Array], x: Float[Array, "B T D"], cfg: DecoderConfig) -> Float[Array, "B T D"]:
    return _project(ACTIVATIONS[cfg.activation](_project(x, w["gate"])) * _project(x, w["up"]), w["down"])


def _project(x: Float[Array, "B T N"], w: Float[Array, "N *M"]) -> Float[Array, "B T *M"]:
    """Multiply over the last axis as one plain matrix product.

    XLA's CPU backend takes half as long again over an einsum with several batch axes, and twice as long for its
    gradient.
    """
    b, t, n = x.shape
    return (x.reshape(b * t, n) @ w.reshape(n, -1).astype(x.dtype)).reshape(b, t, *w.shape[1:])


def rms_norm(x: Float[Array, "*N D"], w: Float[Array, "D"], cfg: DecoderConfig) -> Float[Array, "*N D"]:
    """Divide by the root mean square over the last axis, in float32, and multiply by the weight."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + cfg.norm_eps)
    w = w.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + w.shape)
    return (y * (1.0 + w if cfg.norm_plus_one else w)).astype(x.dtype)


def rope_angles(positions: Int[Array, "B T"], base: float, head_width: int) -> Float[Array, "2 B T half"]:
    """Return cosines and sines of the angles by which half a head's width is rotated (RoPE, arXiv 2104.09864)."""
    half = head_width // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[:, :, None].astype(jnp.float32) * frequencies[None, None, :]
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)])


def rotate(x: Float[Array, "B T H E"], angles: Float[Array, "2 B T half"]) -> Float[Array, "B T H E"]:
    """Rotate the halves of each head by angles that grow with position, in float32.

    Args:
        angles: from rope_angles.
    """
    cos, sin = angles[:, :, :, None]
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
