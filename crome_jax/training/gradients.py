"""The gradient of an objective over a batch, at once or in micro-batches, with the same result."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from crome_jax.batch import Batch
from crome_jax.models.config import DecoderConfig
from crome_jax.models.decoder import score
from crome_jax.models.execution import Execution
from crome_jax.models.weights import Params
from crome_jax.objectives.pairwise import Metrics, Objective, reads_whole_batch
from crome_jax.objectives.response_metrics import response_metrics
from crome_jax.scored import Scored


def differentiate(
    trained: Params,
    frozen: Params,
    batch: Batch,
    objective: Objective,
    cfg: DecoderConfig,
    *,
    step: Int[Array, ""],
    micro_batches: int,
    dtype: DTypeLike,
    how: Execution = Execution(),  # noqa: B008
    seed: int = 0,
) -> tuple[tuple[Float[Array, ""], Metrics], Params]:
    """Compute the loss of a batch, divided by the weight of its comparisons, its metrics, and its gradient.

    An objective that is a sum over rows is differentiated part by part, and the gradients are added. One that reads
    the whole batch needs every score before it can say anything: all parts are scored first, the objective is
    differentiated with respect to the scores, and each part is then run again to carry its share of that gradient back
    to the weights. It is exact, and costs one forward pass more (Gao et al. 2021, arXiv 2101.06983).

    Args:
        trained, frozen: parameters; the gradient is of the first.
        step: optimizer steps done.
        micro_batches: divides the batch's rows.
        dtype: of activations.
        how: the decoder is run.
        seed: of the masks where cfg.lora.dropout is set, which follow from it and the step's number.

    Returns:
        (loss, metrics), and the gradient in the tree of `trained`.
    """
    weight = jnp.maximum(batch.weight.sum(), 1e-6)

    drops = cfg.lora is not None and cfg.lora.dropout > 0

    def scored_of(trained: Params, part: Batch, number: Int[Array, ""]):
        # Of the step and the part alone: run again, a part draws the same masks.
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), number) if drops else None
        return score({**frozen, **trained}, part, cfg, dtype, how, dropout_key=key)

    def loss_of(scored: Any, part: Batch):
        loss, metrics = objective(scored.replace(step=step), part)
        # Divided by the weight of the whole batch, so that gradients of its parts simply add up.
        return loss / weight, (metrics, Scored(scored.rewards, lengths=scored.lengths))

    whole = jax.value_and_grad(lambda trained, part, n: loss_of(scored_of(trained, part, n), part), has_aux=True)
    if micro_batches == 1:
        (loss, (metrics, said)), gradient = whole(trained, batch, jnp.zeros((), jnp.int32))
        return (loss, metrics | response_metrics(said, batch)), gradient
    parts = _cut(batch, micro_batches), jnp.arange(micro_batches)
    if not reads_whole_batch(objective):

        def take(at):
            (loss, (metrics, said)), gradient = whole(trained, *at)
            return ((loss, metrics), gradient), said

        ((loss, metrics), gradient), said = _add_up(take, parts)
        # Of all rewards at once: sums about the mean of each part would not add up.
        return (loss, metrics | response_metrics(_join(said), batch)), gradient
    together = _join(jax.lax.map(lambda at: scored_of(trained, *at), parts))
    (loss, (metrics, said)), gradient = jax.value_and_grad(loss_of, has_aux=True)(together, batch)
    metrics = metrics | response_metrics(said, batch)
    # What is no row's own (the angle of the heads) is computed by every part, and gets a part of the gradient in each.
    shares = jax.tree.map(
        lambda x: jnp.broadcast_to(x / micro_batches, (micro_batches,)) if x.ndim == 0 else x, gradient
    )
    shares = jax.tree.map(lambda x: x if x.ndim == 1 else _cut(x, micro_batches), shares)

    def carry_back(at):
        part, number, share = at
        return jax.vjp(lambda trained: scored_of(trained, part, number), trained)[1](share)[0], ()

    return (loss, metrics), _add_up(carry_back, (*parts, shares))[0]


def _cut(rows: Any, n: int) -> Any:
    # Row i goes to part i mod n: every part takes an equal share from every device.
    return jax.tree.map(lambda x: x.reshape(-1, n, *x.shape[1:]).swapaxes(0, 1), rows)


def _join(parts: Any) -> Any:
    """Bring parts back to the rows that `_cut` took; of what is no row's own any part's will do."""
    return jax.tree.map(lambda x: x[0] if x.ndim == 1 else x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), parts)


def _add_up(function: Any, parts: Any) -> tuple[Any, Any]:
    """Take a function of each part, one after the other: sum the first of what it gives, and stack the second."""
    function = jax.jit(function, inline=True)  # Traced once, for the shapes and for the sum.
    summed, _ = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), summed)

    def add(total: Any, part: Any) -> tuple[Any, Any]:
        addend, kept = function(part)
        return jax.tree.map(jnp.add, total, addend), kept

    return jax.lax.scan(add, zeros, parts)
