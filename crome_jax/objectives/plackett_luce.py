"""The Plackett-Luce loss over the ranking that a row's comparisons imply."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from crome_jax.batch import Batch
from crome_jax.objectives.pairwise import Metrics, comparison_metrics, cross_entropy, reward_differences
from crome_jax.scored import Scored


def plackett_luce(scored: Scored, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
    """Sum, over responses that beat others, -log of the chance that each is chosen before all that it beats.

        L = - sum over i  w_i [ r_i - log( exp r_i + sum over j below i  exp r_j ) ]

    How a chain is read (chosen here): a comparison says that its preferred response stands above the other. j is below
    i where a path of such comparisons leads from i to j, so that A > B and B > C are the chain A > B > C as if A > C
    had been said. In a full ranking this is the Plackett-Luce likelihood; of a single comparison it is the
    Bradley-Terry loss; in a partial order (a graded chain beside others) each response competes with those below it
    alone. Comparisons of every kind count. One with target t has the weight w |2 t - 1|: a tie says nothing about
    order. w_i is the mean of these weights over the responses that i was directly compared with and preferred to,
    those of repeated comparisons added up. Margins are not read: the model knows none. A chain that packing split over
    rows is read as far as each row holds it.

    The sum is not divided here: the step divides it by the weight of the whole batch.

    Args:
        scored: rewards in nats.
        batch: its comparisons.

    Returns:
        The weighted sum of losses in nats, and metrics as sums and counts; the loss by kind is Bradley-Terry's.

    Source: Plackett 1975; Luce 1959.
    """
    rewards = scored.rewards.astype(jnp.float32)
    direct = preferred_weights(batch, rewards.shape[1])
    below = transitive_closure(direct > 0)
    among = below | jnp.eye(rewards.shape[1], dtype=bool)[None]
    best = jax.nn.logsumexp(jnp.where(among, rewards[:, None, :], -jnp.inf), axis=-1)
    weight = direct.sum(axis=-1) / jnp.maximum((direct > 0).sum(axis=-1), 1)
    loss = (weight * (best - rewards)).sum()
    difference = reward_differences(rewards, batch)
    alone = cross_entropy(difference, batch.target, jnp.zeros_like(batch.margin))
    return loss, comparison_metrics(difference, alone, batch)


def preferred_weights(batch: Batch, slots: int) -> Float[Array, "B R R"]:
    """Add up the weight with which each response is preferred to each other one; the first axis of R is preferred."""
    left, right = jax.nn.one_hot(batch.left, slots), jax.nn.one_hot(batch.right, slots)
    lead = batch.weight * (2.0 * batch.target - 1.0)
    highest = jax.lax.Precision.HIGHEST  # Weights are not rounded on the way, as a matrix unit would.
    won = jnp.einsum("bc,bcr,bcs->brs", jnp.maximum(lead, 0.0), left, right, precision=highest)
    return won + jnp.einsum("bc,bcr,bcs->brs", jnp.maximum(-lead, 0.0), right, left, precision=highest)


def transitive_closure(above: Bool[Array, "B R R"]) -> Bool[Array, "B R R"]:
    """Return whether a path leads from one to the other; each squaring doubles the length of the paths seen."""
    for _ in range(max(1, math.ceil(math.log2(above.shape[-1])))):
        paths = jnp.einsum("brs,bst->brt", above.astype(jnp.float32), above.astype(jnp.float32))
        above = above | (paths > 0)
    return above
