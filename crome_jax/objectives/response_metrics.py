"""How rewards are spread, and whether they follow length: what shows a run that hacks itself while it runs."""

import jax.numpy as jnp

from crome_jax.batch import Batch
from crome_jax.objectives.pairwise import Metrics
from crome_jax.scored import Scored


def response_metrics(scored: Scored, batch: Batch) -> Metrics:
    """Sum rewards, lengths (tokens), their squares and their product over the responses of a batch.

    Each filled slot counts once, whatever comparisons it takes part in. A slot of two answers counts by its log-odds,
    and with no length: its tokens are those of both, and the batch does not say where the one ends.
    """
    present = (batch.response_ends >= 0).astype(jnp.float32)
    rewards = present * scored.rewards.astype(jnp.float32)
    of_pairs = (batch.right < 0).any(axis=1, keepdims=True)
    lengths = jnp.where(of_pairs, 0.0, present * scored.lengths)
    return {
        "reward/count": present.sum(),
        "reward/sum": rewards.sum(),
        "reward/square_sum": (rewards * rewards).sum(),
        "length/sum": lengths.sum(),
        "length/square_sum": (lengths * lengths).sum(),
        "length/reward_sum": (lengths * rewards).sum(),
        "tokens": (batch.group_ids > 0).astype(jnp.float32).sum(),
    }
