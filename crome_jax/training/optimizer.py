"""AdamW with warm-up, cosine decay and clipping."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike


def adamw(
    *,
    steps: ArrayLike,
    learning_rate: ArrayLike = 1e-4,
    warmup_fraction: float = 0.1,
    final_fraction: float = 0.1,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.95,
    epsilon: float = 1e-8,
    clip_norm: float = 1.0,
) -> optax.GradientTransformation:
    """Build the optimizer: clip by global norm, then AdamW under a warmed-up cosine schedule.

    Args:
        steps: optimizer steps of the whole run.
        learning_rate: at the peak.
        warmup_fraction: of the steps, rising linearly from 0.
        final_fraction: of the peak rate, reached at the last step.
        weight_decay: decoupled; matrices only, since shrinking a norm's scale serves nothing.
        beta1, beta2: how much of the first and second moment stays at each step.
        epsilon: added to the root of the second moment.
        clip_norm: largest global norm of the gradient that is passed on unscaled.
    """
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(
            learning_rate_schedule(steps, learning_rate, warmup_fraction, final_fraction),
            b1=beta1,
            b2=beta2,
            eps=epsilon,
            weight_decay=weight_decay,
            mask=lambda params: jax.tree.map(_is_matrix, params),
        ),
    )


def learning_rate_schedule(
    steps: ArrayLike, peak: ArrayLike, warmup_fraction: float, final_fraction: float
) -> optax.Schedule:
    """Rise linearly to `peak`, then fall as a cosine to `final_fraction` of it at step `steps`.

    As optax.warmup_cosine_decay_schedule does, but of numbers that may be traced.
    """
    warmup = jnp.maximum(1.0, jnp.round(steps * warmup_fraction))
    falling = jnp.maximum(steps - warmup, 1.0)

    def rate(count: ArrayLike) -> jax.Array:
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip((count - warmup) / falling, 0, 1)))
        share = jnp.where(count < warmup, count / warmup, final_fraction + (1 - final_fraction) * cosine)
        return peak * share

    return rate


def tunable(make_optimizer: Callable[..., optax.GradientTransformation]) -> optax.GradientTransformationExtraArgs:
    """Make the numbers of a search arguments of the update, so that one compiled step serves every trial.

    Args:
        make_optimizer: called with `steps` and `learning_rate`, traced numbers in an update.

    Returns:
        an optimizer whose update wants `steps` and `learning_rate` as further arguments.
    """

    def update(grads, state, params, *, steps: ArrayLike, learning_rate: ArrayLike):
        return make_optimizer(steps=steps, learning_rate=learning_rate).update(grads, state, params)

    return optax.GradientTransformationExtraArgs(make_optimizer(steps=1, learning_rate=1.0).init, update)


def _is_matrix(weight: jax.Array) -> bool:
    # Stacked norms are [L, D]; matrices of stacked layers have three axes or more. The embedding table, the only
    # two-dimensional matrix, is left alone too: rows of absent tokens would decay without ever being trained.
    return weight.ndim >= 3
