"""From packed rows to hidden states and rewards: embed, layers, norm, head."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from crome_jax.batch import Batch
from crome_jax.models.attention import KERNELS, attend, attend_all, attend_some_in_blocks, is_dense
from crome_jax.models.config import DecoderConfig
from crome_jax.models.execution import Execution
from crome_jax.models.heads import read_heads
from crome_jax.models.lora import adapt, has_adapter, with_adapters
from crome_jax.models.masks import Places, mask_to_bias, may_attend, places_of
from crome_jax.models.precision import multiply
from crome_jax.models.quantized import Layer, Quantized, times
from crome_jax.models.rope import rope_angles, rope_frequencies, rotate
from crome_jax.models.weights import Params
from crome_jax.scored import Scored

ACTIVATIONS: dict[str, Callable] = {"silu": jax.nn.silu, "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True)}


def rewards(
    params: Params,
    batch: Batch,
    cfg: DecoderConfig,
    dtype: DTypeLike = jnp.float32,
    how: Execution = Execution(),  # noqa: B008
) -> Float[Array, "B R"]:
    """Score every response slot; empty slots get 0.

    Args:
        dtype: of activations and matrix products; the head, norms and softmax stay in float32.
        how: the layers are computed.

    Returns:
        Rewards in nats: their difference is the log-odds of preference (Bradley-Terry).
    """
    return score(params, batch, cfg, dtype, how, training=False).rewards


def score(
    params: Params,
    batch: Batch,
    cfg: DecoderConfig,
    dtype: DTypeLike = jnp.float32,
    how: Execution = Execution(),  # noqa: B008
    *,
    training: bool = True,
    dropout_key: jax.Array | None = None,
) -> Scored:
    """Score every response slot, with all that an objective may read of how; `rewards` says the arguments.

    Args:
        training: whether a gradient will be taken; without one no copy of the trained layers is made.
        dropout_key: of the masks that cfg.lora.dropout asks for; None draws none.
    """
    x = batch.hidden if batch.hidden is not None else trunk(params, batch, cfg, dtype, how)
    if "lower" in params:
        # Frozen layers carry no gradient; cutting here also keeps their activations from being stored.
        x = jax.lax.stop_gradient(x)
    x = x.astype(dtype)
    if "upper" in params:
        first = cfg.layers - 1 - _length(params["upper"])
        unroll = how.turns_of(batch.tokens.shape[1]) if training else None
        x = apply_layers(with_adapters(params, "upper", cfg, dropout_key), x, batch, cfg, first, how, unroll=unroll)
    last = with_adapters(params, "last", cfg, dropout_key)
    scored = apply_last_layer(last, x, batch, cfg, how, at=jnp.maximum(batch.response_ends, 0))
    scored = rms_norm(scored.astype(jnp.float32), params["final_norm"], cfg)
    return read_heads(params, scored, batch)


def trunk(
    params: Params,
    batch: Batch,
    cfg: DecoderConfig,
    dtype: DTypeLike = jnp.float32,
    how: Execution = Execution(),  # noqa: B008
) -> Float[Array, "B T D"]:
    """Run the embedding and the frozen layers: the hidden states that enter the first layer of `upper`."""
    x = embed(params["embed"], batch.tokens, cfg, dtype)
    return apply_layers(params["lower"], x, batch, cfg, 0, how) if "lower" in params else x


def hidden_states(params: Params, batch: Batch, cfg: DecoderConfig) -> Float[Array, "B T D"]:
    """Return the normed output of the last layer for every token: what is compared with other implementations."""
    x = trunk(params, batch, cfg)
    if "upper" in params:
        layers = with_adapters(params, "upper", cfg)
        x = apply_layers(layers, x, batch, cfg, cfg.layers - 1 - _length(layers))
    return rms_norm(apply_last_layer(with_adapters(params, "last", cfg), x, batch, cfg), params["final_norm"], cfg)


def embed(
    table: Float[Array, "V D"], tokens: Int[Array, "B T"], cfg: DecoderConfig, dtype: DTypeLike
) -> Float[Array, "B T D"]:
    """Look tokens up and scale them; Gemma rounds the scale to the activations' dtype, so do we."""
    return table[tokens].astype(dtype) * jnp.asarray(cfg.embedding_scale, dtype)


def apply_layers(
    layers: Layer,
    x: Float[Array, "B T D"],
    batch: Batch,
    cfg: DecoderConfig,
    first: int,
    how: Execution = Execution(),  # noqa: B008
    *,
    unroll: int | None = None,
) -> Float[Array, "B T D"]:
    """Apply consecutive layers, scanned by the repeating block of their kinds.

    A run that starts amid a block has the same period, rotated; what is left over after the last whole block is
    unrolled. Without a gradient, and where attention has a bias, every layer is a turn by itself, whatever its kind.

    Args:
        layers: weights stacked on the first axis.
        batch: its positions and ids say who attends to whom.
        first: the number of the first of these layers in the whole decoder.
        how: they are computed.
        unroll: repeating blocks that one turn of the scan holds, where a gradient of the weights will be taken: they
            are then cut into blocks, which XLA does by a copy of them all. None reads each layer where it lies; a
            gradient would be added up over the whole stack once for each layer.
    """
    n, period = _length(layers), len(cfg.pattern)
    views = {kind: _view(batch, kind, cfg, how) for kind in sorted(set(cfg.pattern))}
    if unroll is None and len(views) > 1 and all(view.bias is not None for view in views.values()):
        kinds = list(views)
        numbers = jnp.array([kinds.index(cfg.kind_of(first + i)) for i in range(n)])
        return _apply_any_kind(layers, x, list(views.values()), numbers, cfg, how)
    blocks, rest = divmod(n, period)

    def run(x, start, weights_of, layers):
        for i in range(layers):
            x = _layer(weights_of(i), x, views[cfg.kind_of(start + i)], cfg, how)
        return x

    cut = lambda weights: lambda i: jax.tree.map(lambda w: w[i], weights)  # noqa: E731
    if blocks and unroll is None:
        at = lambda i: jax.tree.map(lambda w: jax.lax.dynamic_index_in_dim(w, i, keepdims=False), layers)  # noqa: E731
        turns = lambda x, turn: (run(x, first, lambda i: at(turn * period + i), period), None)  # noqa: E731
        x, _ = jax.lax.scan(turns, x, jnp.arange(blocks))
    elif blocks:
        block = how.remember(lambda x, weights: run(x, first, cut(weights), period))
        stacked = jax.tree.map(lambda w: w[: n - rest].reshape(blocks, period, *w.shape[1:]), layers)
        x, _ = jax.lax.scan(lambda x, weights: (block(x, weights), None), x, stacked, unroll=min(unroll, blocks))
    if rest:
        left_over = how.remember(lambda x, weights: run(x, first + n - rest, cut(weights), rest))
        x = left_over(x, jax.tree.map(lambda w: w[n - rest :], layers))
    return x


def _apply_any_kind(
    layers: Layer,
    x: Float[Array, "B T D"],
    views: list["_View"],
    kinds: Int[Array, " n"],
    cfg: DecoderConfig,
    how: Execution,
) -> Float[Array, "B T D"]:
    """Apply layers of several kinds as one scanned body that looks up what it has to know of its kind.

    A block of Gemma 3 is six bodies, and what is left over after the last block as many more: compiling them all takes
    longer than a first reward. Of the same arrays for each kind the sums and products are the same.
    """
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *(view._replace(window=None) for view in views))

    def turn(x: Float[Array, "B T D"], at: tuple[Int[Array, ""], Int[Array, ""]]) -> tuple[Float[Array, "B T D"], None]:
        layer, kind = at
        of = lambda tree, i: jax.tree.map(lambda w: jax.lax.dynamic_index_in_dim(w, i, keepdims=False), tree)  # noqa: E731
        return _layer(of(layers, layer), x, of(stacked, kind), cfg, how), None

    return jax.lax.scan(turn, x, (jnp.arange(len(kinds)), kinds))[0]


def apply_last_layer(
    layer: Layer,
    x: Float[Array, "B T D"],
    batch: Batch,
    cfg: DecoderConfig,
    how: Execution = Execution(),  # noqa: B008
    *,
    at: Int[Array, "B R"] | None = None,
) -> Float[Array, "B Q D"]:
    """Apply the decoder's last layer for the tokens `at`, or for all: the others' output is never read."""
    view = _view(batch, cfg.kind_of(cfg.layers - 1), cfg, how, at)
    return _layer(jax.tree.map(lambda w: w[0], layer), x, view, cfg, how)


def _length(layers: Layer) -> int:
    return layers["q"].shape[0]


class _View(NamedTuple):
    """What a layer's attention has to know of the rows; the same for all layers of a kind, so it is made once.

    Args:
        bias: added to the logits; None where the mask is made from the places.
        asks, places, window: who attends to whom: the places of the tokens that ask, and of all.
        asking, answering: cosines and sines by which queries and keys are rotated; those of queries times their scale,
            which is then rounded with them and not once more.
        at: indices of the tokens that ask; None for all.
    """

    bias: Float[Array, "B Q T"] | None
    asks: Places
    places: Places
    window: int | None
    asking: Float[Array, "2 B Q half"]
    answering: Float[Array, "2 B T half"]
    at: Int[Array, "B Q"] | None


def _view(batch: Batch, kind: str, cfg: DecoderConfig, how: Execution, at: Int[Array, "B Q"] | None = None) -> _View:
    window = cfg.window if kind == "local" else None
    places = places_of(batch)
    asks = places if at is None else places_of(batch, at)
    # The kernel is for all tokens of a row: what some of them ask is left to XLA.
    implementation = "xla" if how.attention == "tpu" and at is not None else how.attention
    dense = is_dense(implementation, batch.tokens.shape[1])
    bias = mask_to_bias(may_attend(asks, places, window)) if dense else None
    answering = rope_angles(batch.positions, rope_frequencies(cfg, kind))
    asking = answering if at is None else jnp.take_along_axis(answering, at[None, :, :, None], axis=2)
    asking *= cfg.head_width**-0.5 if cfg.query_scale is None else cfg.query_scale
    return _View(bias, asks, places, window, asking, answering, at)


def _layer(
    w: Layer, x: Float[Array, "B T D"], view: _View, cfg: DecoderConfig, how: Execution
) -> Float[Array, "B Q D"]:
    y = _attention(w, rms_norm(x, w["attention_norm"], cfg), view, cfg, how)
    x = _asking(x, view)
    x = _add(x, y, w.get("attention_post_norm"), cfg)
    y = _feed_forward(w, rms_norm(x, w["ffn_norm"], cfg), cfg)
    return _add(x, y, w.get("ffn_post_norm"), cfg)


def _add(
    x: Float[Array, "B Q D"], y: Float[Array, "B Q D"], post_norm: Float[Array, "D"] | None, cfg: DecoderConfig
) -> Float[Array, "B Q D"]:
    """Add to the residual stream what a sublayer gave, normed first where the family does so, and round once."""
    if post_norm is None:
        return x + y
    return (x.astype(jnp.float32) + rms_norm(y.astype(jnp.float32), post_norm, cfg)).astype(x.dtype)


def _attention(
    w: Layer, x: Float[Array, "B T D"], view: _View, cfg: DecoderConfig, how: Execution
) -> Float[Array, "B Q D"]:
    q, k, v = _project(_asking(x, view), w, "q", cfg), _project(x, w, "k", cfg), _project(x, w, "v", cfg)
    if cfg.qkv_bias:
        q, k, v = _add_bias(q, w["q_bias"]), _add_bias(k, w["k_bias"]), _add_bias(v, w["v_bias"])
    if cfg.qk_norm:
        q, k = rms_norm(q, w["q_norm"], cfg), rms_norm(k, w["k_norm"], cfg)
    q, k = rotate(q, view.asking), rotate(k, view.answering)
    y = _attend(q, k, v, view, cfg.attention_cap, how)
    return _project(y.reshape(*y.shape[:2], -1), w, "o", cfg)


def _attend(
    q: Float[Array, "B Q H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    view: _View,
    cap: float | None,
    how: Execution,
) -> Float[Array, "B Q H E"]:
    if view.at is not None:
        if view.bias is None:
            return attend_some_in_blocks(q, k, v, view.asks, view.places, view.window, cap)
        return attend(q, k, v, view.bias, cap)
    if how.attention not in KERNELS:
        return attend_all(q, k, v, view.places, view.window, cap, how.attention, view.bias)

    def kernel(q, k, v, *places):
        return attend_all(q, k, v, Places(*places), view.window, cap, how.attention)

    return (how.spread(kernel) if how.spread is not None else kernel)(q, k, v, *view.places)


def _add_bias(x: Float[Array, "B T N E"], bias: Float[Array, "N E"]) -> Float[Array, "B T N E"]:
    return x + bias[None, None].astype(x.dtype)


def _asking(x: Float[Array, "B T D"], view: _View) -> Float[Array, "B Q D"]:
    return x if view.at is None else jnp.take_along_axis(x, view.at[:, :, None], axis=1)


def _feed_forward(w: Layer, x: Float[Array, "B T D"], cfg: DecoderConfig) -> Float[Array, "B T D"]:
    # In float32: an activation is a dozen operations, and bfloat16 would round after each of them.
    gate, up = _project(x, w, "gate", cfg).astype(jnp.float32), _project(x, w, "up", cfg).astype(jnp.float32)
    return _project((ACTIVATIONS[cfg.activation](gate) * up).astype(x.dtype), w, "down", cfg)


def _project(x: Float[Array, "B T N"], w: Layer, name: str, cfg: DecoderConfig) -> Float[Array, "B T *M"]:
    """Multiply by a layer's matrix as one plain matrix product, and add what an adapter beside it gives.

    XLA's CPU backend takes half as long again over an einsum with several batch axes, and twice as long for its
    gradient.
    """
    b, t, n = x.shape
    flat = x.reshape(b * t, n)
    matrix = w[name]
    y = times(flat, matrix) if isinstance(matrix, Quantized) else multiply(flat, matrix.reshape(n, -1).astype(x.dtype))
    if has_adapter(w, name):
        y += adapt(w, name, flat, cfg.lora, x.dtype)
    return y.reshape(b, t, *matrix.shape[2 if name == "o" else 1 :])


def rms_norm(x: Float[Array, "*N D"], w: Float[Array, "D"], cfg: DecoderConfig) -> Float[Array, "*N D"]:
    """Divide by the root mean square over the last axis, in float32, and multiply by the weight."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + cfg.norm_eps)
    w = w.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + w.shape)
    return (y * (1.0 + w if cfg.norm_plus_one else w)).astype(x.dtype)
