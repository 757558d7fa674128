"""Rao and Kupper's model of paired comparison with ties: a difference below a threshold goes unseen."""

import math

import jax
from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.errors import CromeError
from crome_jax.objectives.pairwise import Metrics, comparison_metrics, outcome_shares, reward_differences
from crome_jax.scored import Scored


def rao_kupper(scored: Scored, batch: Batch, *, theta: float = 2.0) -> tuple[Float[Array, ""], Metrics]:
    """Sum the negative log-likelihood of win, tie or loss over comparisons of every kind.

        P(i > j) = p_i / (p_i + theta p_j) = sigmoid(d - log theta),     p = exp(r),  d = r_i - r_j
        P(tie)   = (theta^2 - 1) P(i > j) P(j > i)

    A comparison's margin is subtracted from its d where it prefers a side; targets between are split as
    `outcome_shares` says. The sum is not divided here: the step divides it by the weight of the whole batch.

    Args:
        scored: rewards in nats.
        batch: its comparisons.
        theta: above 1, where ties would be impossible. 2, chosen here, makes win, tie and loss equally likely between
            equal rewards.

    Returns:
        The weighted sum of losses in nats, and metrics as sums and counts.

    Raises:
        CromeError: where theta is not above 1.

    Source: Rao and Kupper 1967, "Ties in paired-comparison experiments: a generalization of the Bradley-Terry model".
    """
    if not 1 < theta < float("inf"):
        raise CromeError(f"rao_kupper.theta is {theta}; give a number above 1")
    difference, threshold = reward_differences(scored.rewards, batch), math.log(theta)
    left, tie, right = outcome_shares(batch.target)
    above, below = (jax.nn.log_sigmoid(x - threshold) for x in (difference, -difference))
    losses = -(
        left * jax.nn.log_sigmoid(difference - batch.margin - threshold)
        + tie * (math.log(theta**2 - 1) + above + below)
        + right * jax.nn.log_sigmoid(-difference - batch.margin - threshold)
    )
    return (batch.weight * losses).sum(), comparison_metrics(difference, losses, batch)
