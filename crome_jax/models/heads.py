"""From the hidden state of a scored token to rewards: one head, ODIN's two, or that of a pairwise preference model."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.models.weights import Params, scoring_head
from crome_jax.scored import Scored


def read_heads(params: Params, features: Float[Array, "B R D"], batch: Batch) -> Scored:
    """Score the features with the heads that the parameters hold.

    Args:
        params: `head` [D] alone, or with it `length_head` [D] (see `weights.declare_head`). The reward is that of
            `head` whatever else there is: of ODIN's two heads the one that stands for quality. With `pair_head` [D]
            alone it is the log-odds that the first of a slot's two answers is the better.
        features: normed hidden states in float32, [B, R, D].
        batch: says which slots are empty, and how long each response is.
    """
    filled = batch.response_ends >= 0

    def read(head: Float[Array, " D"]) -> Float[Array, "B R"]:
        reward = jnp.einsum("brd,d->br", features, head, precision=jax.lax.Precision.HIGHEST)
        return jnp.where(filled, reward, 0.0)

    scored = Scored(read(scoring_head(params)), features, response_lengths(batch))
    if "length_head" not in params:
        return scored
    return scored.replace(
        length_rewards=read(params["length_head"]), heads_cosine=cosine(params["head"], params["length_head"])
    )


def response_lengths(batch: Batch) -> Float[Array, "B R"]:
    """Count the tokens of each response, its end-of-turn token included; 0 in empty slots."""
    # Counted, not compared: every token beside every slot would be T squared numbers, as slots grow with T.
    count = lambda ids: jnp.bincount(ids, length=batch.response_ends.shape[1] + 1)[1:]  # noqa: E731
    return jax.vmap(count)(batch.response_ids).astype(jnp.float32)


def cosine(a: Float[Array, " D"], b: Float[Array, " D"]) -> Float[Array, ""]:
    """Return the cosine of the angle between two vectors; 0, with gradient 0, where one of them has no direction."""
    squares = (a * a).sum() * (b * b).sum()
    directed = squares > 0
    return jnp.where(directed, (a * b).sum() / jnp.sqrt(jnp.where(directed, squares, 1.0)), 0.0)
