"""What comparison losses share: reward differences and their cross-entropy with soft targets."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.batch import ATTRIBUTES, Batch
from crome_jax.errors import CromeError
from crome_jax.groups import Kind
from crome_jax.scored import Scored

Metrics = dict[str, Float[Array, "..."]]
"""Sums and counts, divided once when logged: accumulated micro-batches then equal the large batch. Numbers, and, under
names that begin with "attribute/", vectors [ATTRIBUTES]."""


def reward_differences(scores: Float[Array, "B R"], batch: Batch) -> Float[Array, "B C"]:
    """Return left's reward minus right's, in float32, for every comparison slot (nats): the log-odds that left wins."""
    left, right = reward_sides(scores, batch)
    return left - right


def reward_sides(scores: Float[Array, "B R"], batch: Batch) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """Return left's and right's reward, in float32, for every comparison slot (nats).

    Of two answers in one slot the score is the whole difference: right's is 0.
    """
    scores = scores.astype(jnp.float32)
    left, right = (jnp.take_along_axis(scores, jnp.maximum(side, 0), axis=1) for side in (batch.left, batch.right))
    return left, jnp.where(batch.right >= 0, right, 0.0)


def cross_entropy(
    difference: Float[Array, "B C"], target: Float[Array, "B C"], margin: Float[Array, "B C"]
) -> Float[Array, "B C"]:
    """Compute -[t log sigmoid(d - m) + (1 - t) log sigmoid(-d - m)] for each comparison, in nats.

    A target of 0.5 is Crome's tie, -1/2 [log sigmoid(d) + log sigmoid(-d)], least (log 2) at d = 0.
    """
    left_wins = -jax.nn.log_sigmoid(difference - margin)
    right_wins = -jax.nn.log_sigmoid(-difference - margin)
    return target * left_wins + (1.0 - target) * right_wins


def leads(batch: Batch, added: float = 0.0) -> Float[Array, "B C"]:
    """Return how far each comparison's preferred reward should lead, in nats: its margin as far as it prefers a side.

    The margin counts times |2 t - 1|. A tie has none: in its cross-entropy a margin would be one against either side,
    which only weakens what draws the two together. (Rao-Kupper and Davidson have a likelihood of the tie itself, which
    no margin enters; of a target between tie and win they move the share that is a win by the whole margin.)

    Args:
        added: nats, to each comparison's own margin.
    """
    return (batch.margin + added) * jnp.abs(2.0 * batch.target - 1.0)


def preference_losses(
    scored: Scored, batch: Batch, *, label_smoothing: float, margin: float, centring: float
) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """Compute the Bradley-Terry loss of each comparison with its usual additions.

    With soft target t of a comparison and smoothing s the target is t (1 - 2 s) + s: a label is taken to be wrong with
    probability s (Mitchell 2023, conservative DPO; Wang et al. 2024, arXiv 2401.06080). A tie stays what it is.

    Args:
        label_smoothing: s, in [0, 0.5).
        margin: nats, at least 0; added to each comparison's own margin (Llama 2, arXiv 2307.09288, equation 2), of
            which `leads` says how much counts.
        centring: c, at least 0; adds c (r_left + r_right)^2, which keeps rewards around zero (Eisenstein et al. 2023,
            arXiv 2312.09244). TRL advises 0.01.

    Returns:
        Reward differences and losses, both in nats.

    Raises:
        CromeError: where a number is out of its range.
    """
    if not 0 <= label_smoothing < 0.5:
        raise CromeError(f"label_smoothing is {label_smoothing}; give 0 or more, and less than 0.5")
    for name, value in (("margin", margin), ("centring", centring)):
        if not 0 <= value < float("inf"):
            raise CromeError(f"{name} is {value}; give a number of at least 0")
    left, right = reward_sides(scored.rewards, batch)
    difference = left - right
    target = (1.0 - 2.0 * label_smoothing) * batch.target + label_smoothing
    losses = cross_entropy(difference, target, leads(batch, margin))
    if centring:
        losses = losses + centring * (left + right) ** 2
    return difference, losses


def outcome_shares(
    target: Float[Array, "B C"],
) -> tuple[Float[Array, "B C"], Float[Array, "B C"], Float[Array, "B C"]]:
    """Split a target into shares of left wins, tie and right wins, for models that know three outcomes.

    1, 0.5 and 0 are wholly one of them. Between two of them it is split linearly (chosen here): 0.75 is half a win and
    half a tie, the mixture of definite outcomes that is nearest to certain.
    """
    left, right = jnp.maximum(2.0 * target - 1.0, 0.0), jnp.maximum(1.0 - 2.0 * target, 0.0)
    return left, 1.0 - left - right, right


def comparison_metrics(difference: Float[Array, "B C"], losses: Float[Array, "B C"], batch: Batch) -> Metrics:
    """Sum loss, agreement and size of difference by kind of comparison and, where the batch says it, by attribute.

    Agreement counts comparisons with a preference (target apart from 0.5); equal rewards agree by half.
    """
    lead = jnp.where(batch.target > 0.5, difference, -difference)
    agrees = jnp.where(lead > 0, 1.0, jnp.where(lead == 0, 0.5, 0.0))
    prefers = (batch.target != 0.5).astype(jnp.float32)
    sums = {
        "count": jnp.ones_like(losses),
        "loss_sum": losses,
        "preferring": prefers,
        "agree_sum": prefers * agrees,
        "distance_sum": jnp.abs(difference),
    }
    metrics = {}
    for kind in Kind:
        here = ((batch.kind == kind) & (batch.weight > 0)).astype(jnp.float32)
        metrics |= {f"{kind.name.lower()}/{name}": (here * values).sum() for name, values in sums.items()}
    if batch.attribute is not None:
        # Compared with each number, not scattered to it: rows lie on many devices, and a sum over them is all it takes.
        numbers = jnp.arange(1, ATTRIBUTES + 1)[None, None, :]
        of = (batch.attribute[..., None] == numbers) & (batch.weight > 0)[..., None]
        metrics |= {
            f"attribute/{name}": jnp.where(of, values[..., None], 0.0).sum(axis=(0, 1)) for name, values in sums.items()
        }
    return metrics


Objective = Callable[[Scored, Batch], tuple[Float[Array, ""], Metrics]]
"""What the model says of a batch, and the batch -> summed loss, and sums and counts."""


def whole_batch(objective: Callable) -> Callable:
    """Mark an objective that is no sum over rows, because it reads statistics of the batch (a correlation, say).

    Its gradient cannot be accumulated part by part, so the step takes another way (see `training.gradients`).
    """
    objective.whole_batch = True
    return objective


def reads_whole_batch(objective: Objective) -> bool:
    """Tell whether an objective, or the function that it binds arguments of, was so marked."""
    return getattr(getattr(objective, "func", objective), "whole_batch", False)
