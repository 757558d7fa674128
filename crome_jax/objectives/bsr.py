"""Batch-wise sum-to-zero regularisation: rewards whose mean over the batch stays at zero."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.errors import CromeError
from crome_jax.objectives.pairwise import (
    Metrics,
    comparison_metrics,
    cross_entropy,
    leads,
    reward_differences,
    whole_batch,
)
from crome_jax.objectives.response_weights import side_weights
from crome_jax.scored import Scored


@whole_batch
def bsr(scored: Scored, batch: Batch, *, coefficient: float = 0.016) -> tuple[Float[Array, ""], Metrics]:
    """Fit preferences; draw the mean reward of the whole batch to zero, where centring draws that of each pair.

        L = - sum over comparisons  w log sigmoid(d)  +  W c (mean of r)^2

    The mean is over the responses of the whole batch, each counting as much as the comparisons it takes part in
    (`side_weights`); W is the weight of all comparisons, so that after the step's division c stands beside a mean loss.
    Comparisons of every kind that the recipe takes count, with their own margins.

    Args:
        scored: rewards in nats.
        batch: its comparisons.
        coefficient: c, at least 0. The released code takes lambda times the pairs of a device's batch, and the mean
            over that batch: 1e-3 times 16 in its recipe, 0.016. c does not grow with the batch (chosen here).

    Returns:
        The weighted sum of losses in nats, and metrics as sums and counts; the loss by kind is Bradley-Terry's.

    Raises:
        CromeError: where the coefficient is out of its range.

    Source: Hong et al. 2025, "On the Robustness of Reward Models for Language Model Alignment", arXiv 2505.07271,
    section 4.2, as its released code computes it.
    """
    if not 0 <= coefficient < float("inf"):
        raise CromeError(f"bsr.coefficient is {coefficient}; give a number of at least 0")
    difference = reward_differences(scored.rewards, batch)
    losses = cross_entropy(difference, batch.target, leads(batch))
    chosen, rejected = side_weights(batch)
    counts = chosen + rejected
    mean = (counts * scored.rewards.astype(jnp.float32)).sum() / jnp.maximum(counts.sum(), 1e-6)
    loss = (batch.weight * losses).sum() + batch.weight.sum() * coefficient * mean**2
    return loss, comparison_metrics(difference, losses, batch)
