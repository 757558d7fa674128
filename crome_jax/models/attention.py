"""Attention within groups: a response sees its prompt and itself, never its sisters."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def attention_mask(
    positions: Int[Array, "B T"],
    group_ids: Int[Array, "B T"],
    response_ids: Int[Array, "B T"],
    window: int | None = None,
) -> Bool[Array, "B T T"]:
    """Build the mask of who attends (second axis) to whom (third).

    Padding attends to padding that came before it, so that no row of the softmax is empty and nothing becomes NaN.

    Args:
        window: how many positions back may be seen, the token itself included; None for all.
    """
    t = positions.shape[1]
    earlier = (jnp.arange(t)[:, None] >= jnp.arange(t)[None, :])[None]
    same_group = group_ids[:, :, None] == group_ids[:, None, :]
    shared = (response_ids[:, None, :] == 0) | (response_ids[:, :, None] == response_ids[:, None, :])
    mask = earlier & same_group & shared
    if window is not None:
        mask &= positions[:, :, None] - positions[:, None, :] < window
    return mask


def attend(
    q: Float[Array, "B T H E"],
    k: Float[Array, "B S K E"],
    v: Float[Array, "B S K E"],
    mask: Bool[Array, "B T S"],
) -> Float[Array, "B T H E"]:
    """Attend with grouped queries; logits and softmax in float32, as their rounding decides rewards.

    Args:
        q: already scaled.
    """
    b, t, h, e = q.shape
    groups = h // k.shape[2]
    q = q.reshape(b, t, k.shape[2], groups, e)
    logits = jnp.einsum("btkge,bske->bkgts", q, k, preferred_element_type=jnp.float32)
    logits = jnp.where(mask[:, None, None], logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bske->btkge", weights, v).reshape(b, t, h, e)
