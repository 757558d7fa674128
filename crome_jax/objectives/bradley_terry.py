"""The Bradley-Terry loss on human comparisons: the plain reward model."""

from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.groups import Kind
from crome_jax.objectives.pairwise import Metrics, comparison_metrics, cross_entropy, reward_differences


def bradley_terry(scores: Float[Array, "B R"], batch: Batch) -> tuple[Float[Array, ""], Metrics]:
    """Sum -log sigmoid(r_w - r_l - margin) over human comparisons; a human tie has target 1/2.

    Other kinds of comparison count for nothing. The sum is not divided here: the step divides it by the weight of the
    whole batch, so that micro-batches add up.

    Args:
        scores: reward of every response slot, in nats.
        batch: its comparisons.

    Returns:
        The weighted sum of losses in nats, and metrics as sums and counts.

    Source: Bradley and Terry 1952; Ouyang et al. 2022 (arXiv 2203.02155), equation 1; the margin is that of Llama 2
    (arXiv 2307.09288), equation 2.
    """
    difference = reward_differences(scores, batch)
    losses = cross_entropy(difference, batch.target, batch.margin)
    loss = (batch.weight * (batch.kind == Kind.HUMAN) * losses).sum()
    return loss, comparison_metrics(difference, losses, batch)
