"""A step whose loss or gradient is not finite changes nothing, and counts as skipped."""

from typing import Any

import jax
import jax.numpy as jnp

from crome_jax.objectives.pairwise import Metrics


def skip_if_not_finite(new: Any, old: Any, metrics: Metrics) -> tuple[Any, Metrics]:
    """Choose between what a step would make of weights and optimizer, and what they were; inside the compiled step.

    One element that is not finite makes the norm of the whole gradient so, and the loss is looked at besides: where it
    is infinite its gradient may still be 0.

    Args:
        new, old: trees of the same shapes.
        metrics: of the step, with `loss` and `grad_norm`.

    Returns:
        The tree to go on with; and the metrics with `skipped`, 0 or 1. Of a skipped step all but these three are 0, so
        that sums over several steps stay numbers.
    """
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    counted = {name: jnp.where(finite, value, jnp.zeros_like(value)) for name, value in metrics.items()}
    told = {name: metrics[name] for name in ("loss", "grad_norm")}
    return kept, counted | told | {"skipped": 1.0 - finite.astype(jnp.float32)}
