"""The composite Crome loss: move with causes, stand still for everything else."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.groups import Kind
from crome_jax.objectives.pairwise import Metrics, comparison_metrics, preference_losses
from crome_jax.objectives.schedules import Schedule, weight_at
from crome_jax.scored import Scored


def crome(
    scored: Scored,
    batch: Batch,
    *,
    causal_weight: float | Schedule = 1.0,
    neutral_weight: float | Schedule = 1.0,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    centring: float = 0.0,
) -> tuple[Float[Array, ""], Metrics]:
    """Sum the preference loss over human and causal comparisons and the tie loss over neutral ones.

        L = - sum over (human + causal)  log sigmoid(d)
            - lambda * sum over neutral  1/2 [log sigmoid(d) + log sigmoid(-d)],     d = R(Q, A1) - R(Q, A2)

    The sum is not divided here: the step divides it by the weight of the whole batch.

    Args:
        scored: rewards in nats; the step, where a weight is a schedule.
        batch: its comparisons.
        causal_weight: multiplies causal comparisons; 1 in the paper. A number, or a schedule (see `schedules`).
        neutral_weight: lambda, likewise; 1 in the paper.
        label_smoothing, margin, centring: off at 0, of all kinds; see `preference_losses`.

    Returns:
        The weighted sum of losses in nats, and metrics as sums and counts.

    Source: Crome, arXiv 2506.16507, the composite loss of stage two.
    """
    difference, losses = preference_losses(
        scored, batch, label_smoothing=label_smoothing, margin=margin, centring=centring
    )
    weights = {
        Kind.HUMAN: jnp.ones((), jnp.float32),
        Kind.CAUSAL: weight_at(causal_weight, scored.step, "crome.causal_weight"),
        Kind.NEUTRAL: weight_at(neutral_weight, scored.step, "crome.neutral_weight"),
    }
    by_kind = jnp.stack([weights[kind] for kind in Kind])
    loss = (batch.weight * by_kind[batch.kind] * losses).sum()
    return loss, comparison_metrics(difference, losses, batch)
