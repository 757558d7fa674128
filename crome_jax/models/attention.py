"""Attention within groups: a response sees its prompt and itself, never its sisters."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from crome_jax.batch import Batch


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


def attend(
    q: Float[Array, "B Q H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    mask: Bool[Array, "B Q T"],
) -> Float[Array, "B Q H E"]:
    """Attend with grouped queries; logits and softmax in float32, as their rounding decides rewards.

    Args:
        q: already scaled.
    """
    b, n, h, e = q.shape
    t, shared = k.shape[1], h // k.shape[2]
    # Query heads that share keys are laid end to end: one plain batched product for each key head.
    q = q.reshape(b, n, -1, shared, e).transpose(0, 2, 3, 1, 4).reshape(b, -1, shared * n, e)
    logits = jnp.einsum("bkxe,btke->bkxt", q, k, preferred_element_type=jnp.float32).reshape(b, -1, shared, n, t)
    logits = jnp.where(mask[:, None, None], logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype).reshape(b, -1, shared * n, t)
    y = jnp.einsum("bkxt,btke->bkxe", weights, v).reshape(b, -1, shared, n, e)
    return y.transpose(0, 3, 1, 2, 4).reshape(b, n, h, e)
