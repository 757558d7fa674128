"""The composite Crome loss: move with causes, stand still for everything else."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.groups import Kind
from crome_jax.objectives.pairwise import Metrics, comparison_metrics, cross_entropy, reward_differences


def crome(
    scores: Float[Array, "B R"], batch: Batch, *, causal_weight: float = 1.0, neutral_weight: float = 1.0
) -> tuple[Float[Array, ""], Metrics]:
    """Sum the preference loss over human and causal comparisons and the tie loss over neutral ones.

        L = - sum over (human + causal)  log sigmoid(d)
            - lambda * sum over neutral  1/2 [log sigmoid(d) + log sigmoid(-d)],     d = R(Q, A1) - R(Q, A2)

    The sum is not divided here: the step divides it by the weight of the whole batch.

    Args:
        scores: reward of every response slot, in nats.
        batch: its comparisons.
        causal_weight: multiplies causal comparisons; 1 in the paper.
        neutral_weight: lambda; 1 in the paper.

    Returns:
        The weighted sum of losses in nats, and metrics as sums and counts.

    Source: Crome, arXiv 2506.16507, the composite loss of stage two.
    """
    difference = reward_differences(scores, batch)
    losses = cross_entropy(difference, batch.target, batch.margin)
    by_kind = jnp.zeros(len(Kind), jnp.float32)
    by_kind = by_kind.at[Kind.HUMAN].set(1.0).at[Kind.CAUSAL].set(causal_weight).at[Kind.NEUTRAL].set(neutral_weight)
    loss = (batch.weight * by_kind[batch.kind] * losses).sum()
    return loss, comparison_metrics(difference, losses, batch)
