"""Davidson's model of paired comparison with ties: a tie is as likely as both are alike in strength."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.errors import CromeError
from crome_jax.objectives.pairwise import Metrics, comparison_metrics, outcome_shares, reward_differences
from crome_jax.scored import Scored


def davidson(scored: Scored, batch: Batch, *, nu: float = 1.0) -> tuple[Float[Array, ""], Metrics]:
    """Sum the negative log-likelihood of win, tie or loss over comparisons of every kind.

        P(i > j) = p_i / Z,   P(tie) = nu sqrt(p_i p_j) / Z,   Z = p_i + p_j + nu sqrt(p_i p_j),   p = exp(r)

    A comparison's margin is subtracted from its difference where it prefers a side; targets between are split as
    `outcome_shares` says. The sum is not divided here: the step divides it by the weight of the whole batch.

    Args:
        scored: rewards in nats.
        batch: its comparisons.
        nu: above 0, where ties would be impossible. 1, chosen here, makes win, tie and loss equally likely between
            equal rewards.

    Returns:
        The weighted sum of losses in nats, and metrics as sums and counts.

    Raises:
        CromeError: where nu is not above 0.

    Source: Davidson 1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments".
    """
    if not 0 < nu < float("inf"):
        raise CromeError(f"davidson.nu is {nu}; give a number above 0")
    difference = reward_differences(scored.rewards, batch)
    left, tie, right = outcome_shares(batch.target)

    def normaliser(d: Float[Array, "B C"]) -> Float[Array, "B C"]:
        # All of P divided by sqrt(p_i p_j), which leaves differences only.
        return jax.nn.logsumexp(jnp.stack([d / 2, -d / 2, jnp.full_like(d, math.log(nu))]), axis=0)

    above, below = difference - batch.margin, -difference - batch.margin
    losses = -(
        left * (above / 2 - normaliser(above))
        + tie * (math.log(nu) - normaliser(difference))
        + right * (below / 2 - normaliser(below))
    )
    return (batch.weight * losses).sum(), comparison_metrics(difference, losses, batch)
