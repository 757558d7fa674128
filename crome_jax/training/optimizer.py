"""AdamW with warm-up, cosine decay and clipping."""

import jax
import optax


def adamw(
    *,
    steps: int,
    learning_rate: float = 1e-4,
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


def learning_rate_schedule(steps: int, peak: float, warmup_fraction: float, final_fraction: float) -> optax.Schedule:
    """Rise linearly to `peak`, then fall as a cosine to `final_fraction` of it at step `steps`."""
    warmup = max(1, round(steps * warmup_fraction))
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(steps, warmup + 1), peak * final_fraction)


def _is_matrix(weight: jax.Array) -> bool:
    # Stacked norms are [L, D]; matrices of stacked layers have three axes or more. The embedding table, the only
    # two-dimensional matrix, is left alone too: rows of absent tokens would decay without ever being trained.
    return weight.ndim >= 3
