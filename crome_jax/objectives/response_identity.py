"""Which slots of a batch hold the same response: a group that is split over rows stands in several of them."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from crome_jax.batch import Batch


def between_different_responses(batch: Batch) -> Float[Array, "N N"]:
    """Return 1 for two slots of different responses, 0 for a slot and itself or another slot of the same; N = B R."""
    digests = response_digests(batch).reshape(-1)
    return (digests[:, None] != digests[None, :]).astype(jnp.float32)


def response_digests(batch: Batch) -> UInt32[Array, "B R"]:
    """Return a number for each slot that follows from the tokens of its prompt and response, wherever they stand.

    Two responses share one by a chance of 2^-32; empty slots share theirs.
    """
    slots = jnp.arange(1, batch.response_ends.shape[1] + 1)
    own = batch.response_ids[:, None, :] == slots[None, :, None]
    group = jnp.take_along_axis(batch.group_ids, jnp.maximum(batch.response_ends, 0), axis=1)
    prompt = (batch.response_ids == 0)[:, None, :] & (batch.group_ids[:, None, :] == group[:, :, None])
    read = (own | prompt) & (batch.response_ends >= 0)[:, :, None]
    # A sum of what each token and its place give is the same in whatever order it is added, on however many devices.
    token = _scatter(_scatter(batch.tokens.astype(jnp.uint32)) + batch.positions.astype(jnp.uint32))
    return jnp.where(read, token[:, None, :], jnp.uint32(0)).sum(axis=-1, dtype=jnp.uint32)


def _scatter(x: UInt32[Array, "B T"]) -> UInt32[Array, "B T"]:
    """Scatter numbers over 32 bits, each to one of its own: the last steps of MurmurHash3."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
