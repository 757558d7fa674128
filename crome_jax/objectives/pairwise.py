"""What comparison losses share: reward differences and their cross-entropy with soft targets."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.groups import Kind

Metrics = dict[str, Float[Array, ""]]
"""Sums and counts, divided once when logged: accumulated micro-batches then equal the large batch."""


def reward_differences(scores: Float[Array, "B R"], batch: Batch) -> Float[Array, "B C"]:
    """Return left's reward minus right's, in float32, for every comparison slot (nats)."""
    scores = scores.astype(jnp.float32)
    left = jnp.take_along_axis(scores, batch.left, axis=1)
    return left - jnp.take_along_axis(scores, batch.right, axis=1)


def cross_entropy(
    difference: Float[Array, "B C"], target: Float[Array, "B C"], margin: Float[Array, "B C"]
) -> Float[Array, "B C"]:
    """Compute -[t log sigmoid(d - m) + (1 - t) log sigmoid(-d - m)] for each comparison, in nats.

    A target of 0.5 is Crome's tie, -1/2 [log sigmoid(d) + log sigmoid(-d)], least (log 2) at d = 0.
    """
    left_wins = -jax.nn.log_sigmoid(difference - margin)
    right_wins = -jax.nn.log_sigmoid(-difference - margin)
    return target * left_wins + (1.0 - target) * right_wins


def comparison_metrics(difference: Float[Array, "B C"], losses: Float[Array, "B C"], batch: Batch) -> Metrics:
    """Sum loss, agreement and size of difference by kind of comparison.

    Agreement counts comparisons with a preference (target apart from 0.5); equal rewards agree by half.
    """
    metrics = {}
    lead = jnp.where(batch.target > 0.5, difference, -difference)
    agrees = jnp.where(lead > 0, 1.0, jnp.where(lead == 0, 0.5, 0.0))
    for kind in Kind:
        here = ((batch.kind == kind) & (batch.weight > 0)).astype(jnp.float32)
        preferring = here * (batch.target != 0.5)
        name = kind.name.lower()
        metrics |= {
            f"{name}/count": here.sum(),
            f"{name}/loss_sum": (here * losses).sum(),
            f"{name}/preferring": preferring.sum(),
            f"{name}/agree_sum": (preferring * agrees).sum(),
            f"{name}/distance_sum": (here * jnp.abs(difference)).sum(),
        }
    return metrics
