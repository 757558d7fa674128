"""Weights that change while a run trains: numbers, or functions of the step."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from crome_jax.errors import CromeError

Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]
"""Optimizer steps done -> a weight."""


def weight_at(weight: float | Schedule, step: Int[Array, ""] | None, name: str) -> Float[Array, ""]:
    """Return a weight at a step.

    Args:
        weight: a number of at least 0, or a schedule.
        step: optimizer steps done; None, outside training, stands for 0.
        name: of the argument, for the error.

    Raises:
        CromeError: where a number is negative or infinite.
    """
    if callable(weight):
        return jnp.asarray(weight(jnp.zeros((), jnp.int32) if step is None else step), jnp.float32)
    if not 0 <= weight < float("inf"):
        raise CromeError(f"{name} is {weight}; give a number of at least 0")
    return jnp.asarray(weight, jnp.float32)


def linear(
    step: Int[Array, ""], *, start: float = 0.0, end: float = 1.0, first: int = 0, last: int
) -> Float[Array, ""]:
    """Stand at `start` up to step `first`, go in a straight line to `end` at step `last`, and stand there.

    Args:
        step: optimizer steps done.
        start, end: weights, at least 0.
        first, last: steps; `last` one after `first` is a switch.

    Raises:
        CromeError: where a weight is negative, or `last` does not come after `first`.
    """
    if not (0 <= start < float("inf") and 0 <= end < float("inf")):
        raise CromeError(f"linear.start is {start} and linear.end is {end}; give numbers of at least 0")
    if last <= first:
        raise CromeError(f"linear.last is {last} and linear.first is {first}; give a last step after the first")
    share = jnp.clip((step - first).astype(jnp.float32) / (last - first), 0.0, 1.0)
    return start + (end - start) * share
