"""The Bradley-Terry loss on human comparisons: the plain reward model."""

from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.groups import Kind
from crome_jax.objectives.pairwise import Metrics, comparison_metrics, preference_losses
from crome_jax.scored import Scored


def bradley_terry(
    scored: Scored, batch: Batch, *, label_smoothing: float = 0.0, margin: float = 0.0, centring: float = 0.0
) -> tuple[Float[Array, ""], Metrics]:
    """Sum -log sigmoid(r_w - r_l - margin) over human comparisons; a target between 0 and 1 mixes both directions.

    Other kinds of comparison count for nothing. The sum is not divided here: the step divides it by the weight of the
    whole batch, so that micro-batches add up.

    Args:
        scored: rewards in nats.
        batch: its comparisons.
        label_smoothing, margin, centring: off at 0; see `preference_losses`.

    Returns:
        The weighted sum of losses in nats, and metrics as sums and counts.

    Source: Bradley and Terry 1952; Ouyang et al. 2022 (arXiv 2203.02155), equation 1; the margin is that of Llama 2
    (arXiv 2307.09288), equation 2.
    """
    difference, losses = preference_losses(
        scored, batch, label_smoothing=label_smoothing, margin=margin, centring=centring
    )
    loss = (batch.weight * (batch.kind == Kind.HUMAN) * losses).sum()
    return loss, comparison_metrics(difference, losses, batch)
