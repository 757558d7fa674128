"""ODIN: one head for quality and one for length on the same features, parted by correlation and by angle."""

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
def odin(
    scored: Scored, batch: Batch, *, length_weight: float = 1.0, orthogonality_weight: float = 1.0
) -> tuple[Float[Array, ""], Metrics]:
    """Fit preferences with the sum of both heads; keep length out of the first and draw it into the second.

        L = - sum over comparisons  w log sigmoid(d_Q + d_L)
            + W { lambda_L [ |rho(r_Q, length)| - rho(r_L, length) ] + lambda_O |cos(w_Q, w_L)| }

    rho is Pearson's correlation over the responses of the whole batch, each counting as much as the comparisons it
    takes part in (`side_weights`); W is the weight of all comparisons, so that after the step's division lambda_L and
    lambda_O stand beside a mean loss. Where rewards or lengths are all equal rho is 0. Lengths are tokens. Comparisons
    of every kind that the recipe takes count, with their own margins.

    Args:
        scored: rewards of both heads in nats, the cosine of their weights, and lengths.
        batch: its comparisons.
        length_weight, orthogonality_weight: lambda_L and lambda_O, at least 0; 1 each, chosen here.

    Returns:
        The weighted sum of losses in nats, and metrics as sums and counts; by kind, agreement and distance are those
        of the quality head, which scores alone, and the loss is that of the sum.

    Raises:
        CromeError: where the model has one head only, or a weight is negative.

    Source: Chen et al. 2024, "ODIN: Disentangled Reward Mitigates Hacking in RLHF", arXiv 2402.07319.
    """
    if scored.length_rewards is None:
        raise CromeError("the objective odin reads a head for length, the model has none; set Method.head to 'odin'")
    for name, value in (("length_weight", length_weight), ("orthogonality_weight", orthogonality_weight)):
        if not 0 <= value < float("inf"):
            raise CromeError(f"odin.{name} is {value}; give a number of at least 0")
    both = scored.rewards.astype(jnp.float32) + scored.length_rewards.astype(jnp.float32)
    losses = cross_entropy(reward_differences(both, batch), batch.target, leads(batch))
    chosen, rejected = side_weights(batch)
    counts = chosen + rejected
    parting = jnp.abs(correlation(scored.rewards, scored.lengths, counts))
    parting = parting - correlation(scored.length_rewards, scored.lengths, counts)
    regularizer = length_weight * parting + orthogonality_weight * jnp.abs(scored.heads_cosine)
    loss = (batch.weight * losses).sum() + batch.weight.sum() * regularizer
    return loss, comparison_metrics(reward_differences(scored.rewards, batch), losses, batch)


def correlation(x: Float[Array, "B R"], y: Float[Array, "B R"], weight: Float[Array, "B R"]) -> Float[Array, ""]:
    """Return Pearson's correlation under weights; 0, with gradient 0, where one side does not vary."""
    share = weight / jnp.maximum(weight.sum(), 1e-6)
    x, y = (z.astype(jnp.float32) - (share * z.astype(jnp.float32)).sum() for z in (x, y))
    x_square, y_square = ((share * z * z).sum() for z in (x, y))
    # Rounding leaves some of a mean in a constant: what is that small does not vary.
    varies = (x_square > 1e-12) & (y_square > 1e-12)
    spread = jnp.sqrt(jnp.where(varies, x_square, 1.0)) * jnp.sqrt(jnp.where(varies, y_square, 1.0))
    return jnp.where(varies, (share * x * y).sum() / spread, 0.0)
