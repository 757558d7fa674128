"""How much each response counts in a statistic over responses: as much as the comparisons it takes part in."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.batch import Batch


def side_weights(batch: Batch) -> tuple[Float[Array, "B R"], Float[Array, "B R"]]:
    """Return how much each response slot counts as chosen and as rejected.

    A comparison of weight w and target t gives w t to left as chosen and to right as rejected, and w (1 - t) the other
    way round: a tie makes each of its responses half chosen and half rejected. So a response of no comparison, or of
    those of weight 0, is absent; a repeated comparison counts twice; and it does not matter into which rows packing
    puts a response, nor how often.
    """
    slots = batch.response_ends.shape[1]
    left, right = jax.nn.one_hot(batch.left, slots), jax.nn.one_hot(batch.right, slots)
    for_left, for_right = batch.weight * batch.target, batch.weight * (1.0 - batch.target)

    def add(to_left: Float[Array, "B C"], to_right: Float[Array, "B C"]) -> Float[Array, "B R"]:
        # Weights are not rounded on the way, as a matrix unit would.
        highest = jax.lax.Precision.HIGHEST
        given = jnp.einsum("bc,bcr->br", to_left, left, precision=highest)
        return given + jnp.einsum("bc,bcr->br", to_right, right, precision=highest)

    return add(for_left, for_right), add(for_right, for_left)
