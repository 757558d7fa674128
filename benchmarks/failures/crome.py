"""The command `crome`, with one objective more: Bradley-Terry's, which is not finite at some steps.

Its steps are the same in every life of a run, and in the run that is left alone.
"""

import sys

import gin
import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.cli import main
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.pairwise import Metrics
from crome_jax.scored import Scored


@gin.configurable(module="crome_jax")
def sometimes_nan(scored: Scored, batch: Batch, *, every: int = 1) -> tuple[Float[Array, ""], Metrics]:
    """Return Bradley-Terry's loss, and NaN where half of `every` steps were done, once in as many."""
    loss, metrics = bradley_terry(scored, batch)
    if scored.step is None:
        return loss, metrics
    return jnp.where(scored.step % every == every // 2, jnp.nan, loss), metrics


if __name__ == "__main__":
    sys.exit(main())
