"""Attention within groups: a response sees its prompt and itself, never its sisters."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from crome_jax.batch import Batch

_BLOCK = 128
"""Tokens whose queries are answered together: fewer skip more of what lies ahead, but make smaller products."""


def attention_mask(
    batch: Batch, window: int | None = None, at: Int[Array, "B Q"] | None = None
) -> Bool[Array, "B Q T"]:
    """Build the mask of who attends (second axis) to whom (third).

    Padding attends to padding that came before it, so that no row of the softmax is empty and nothing becomes NaN.

    Args:
        batch: its positions, group_ids and response_ids.
        window: how many positions back may be seen, the token itself included; None for all.
        at: indices of the tokens that ask; None for all tokens.
    """
    asks = lambda ids: (ids if at is None else jnp.take_along_axis(ids, at, axis=1))[:, :, None]  # noqa: E731
    answers = lambda ids: ids[:, None, :]  # noqa: E731
    place = jnp.broadcast_to(jnp.arange(batch.tokens.shape[1]), batch.tokens.shape)
    mask = asks(place) >= answers(place)
    mask &= asks(batch.group_ids) == answers(batch.group_ids)
    mask &= (answers(batch.response_ids) == 0) | (asks(batch.response_ids) == answers(batch.response_ids))
    if window is not None:
        mask &= asks(batch.positions) - answers(batch.positions) < window
    return mask


def mask_to_bias(mask: Bool[Array, "B Q T"]) -> Float[Array, "B Q T"]:
    """Return what is added to the logits: 0 where one may attend, the lowest finite number elsewhere.

    Made once for all layers: on a CPU, choosing by a mask within each layer takes longer than the softmax.
    """
    return jnp.where(mask, 0.0, jnp.finfo(jnp.float32).min)


def attend(
    q: Float[Array, "B Q H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    bias: Float[Array, "B Q T"],
    cap: float | None = None,
) -> Float[Array, "B Q H E"]:
    """Attend with grouped queries; logits and softmax in float32, as their rounding decides rewards.

    Args:
        q: already scaled.
        bias: from mask_to_bias.
        cap: bounds the logits softly, before the mask: cap tanh(logits / cap) (Gemma 2, arXiv 2408.00118); None for
            no bound.
    """
    b, n, h, e = q.shape
    t, shared = k.shape[1], h // k.shape[2]
    # Query heads that share keys are laid end to end: one plain batched product for each key head. Keys are turned
    # beforehand, as XLA's CPU backend takes four times as long over a product whose right side has to be turned.
    q = q.reshape(b, n, -1, shared, e).transpose(0, 2, 3, 1, 4).reshape(b, -1, shared * n, e)
    k, v = k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)
    logits = jnp.matmul(q, k, preferred_element_type=jnp.float32).reshape(b, -1, shared, n, t)
    if cap is not None:
        logits = cap * jnp.tanh(logits / cap)
    weights = jax.nn.softmax(logits + bias[:, None, None], axis=-1).astype(v.dtype).reshape(b, -1, shared * n, t)
    y = jnp.matmul(weights, v).reshape(b, -1, shared, n, e)
    return y.transpose(0, 3, 1, 2, 4).reshape(b, n, h, e)


def attend_backwards(
    q: Float[Array, "B T H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    bias: Float[Array, "B T T"],
    cap: float | None = None,
) -> Float[Array, "B T H E"]:
    """Attend as `attend` does where no token may see a later one: what lies ahead of a block is never computed."""
    t = q.shape[1]
    blocks = [(start, min(start + _BLOCK, t)) for start in range(0, t, _BLOCK)]
    parts = [attend(q[:, a:b], k[:, :b], v[:, :b], bias[:, a:b, :b], cap) for a, b in blocks]
    return jnp.concatenate(parts, axis=1)
