"""How rewards are spread, and whether they follow length: what shows a run that hacks itself while it runs."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.batch import Batch
from crome_jax.objectives.pairwise import Metrics
from crome_jax.scored import Scored


def response_metrics(scored: Scored, batch: Batch) -> Metrics:
    """Sum rewards, lengths (tokens), their squares and their product over the responses of a batch.

    Each filled slot counts once, whatever comparisons it takes part in. A slot of two answers counts by its log-odds,
    and with no length: its tokens are those of both, and the batch does not say where the one ends.

    The sums are about the batch's own means, `reward/pivot` and `length/pivot`: in float32 the squares of rewards near
    1e4 leave nothing of a spread of 1. What adds them up moves them to zero first, where there is room for that (see
    `training.metrics.about_zero`); sums of parts about pivots of their own do not add up.
    """
    present = (batch.response_ends >= 0).astype(jnp.float32)
    of_pairs = (batch.right < 0).any(axis=1, keepdims=True)
    count = present.sum()

    def about_mean(values: Float[Array, "B R"]) -> tuple[Float[Array, "B R"], Float[Array, ""]]:
        values = values.astype(jnp.float32)
        mean = (present * values).sum() / jnp.maximum(count, 1.0)
        return present * (values - mean), mean

    rewards, reward_pivot = about_mean(scored.rewards)
    lengths, length_pivot = about_mean(jnp.where(of_pairs, 0.0, scored.lengths))
    return {
        "reward/count": count,
        "reward/pivot": reward_pivot,
        "reward/sum": rewards.sum(),
        "reward/square_sum": (rewards * rewards).sum(),
        "length/pivot": length_pivot,
        "length/sum": lengths.sum(),
        "length/square_sum": (lengths * lengths).sum(),
        "length/reward_sum": (lengths * rewards).sum(),
        "tokens": (batch.group_ids > 0).astype(jnp.float32).sum(),
    }
