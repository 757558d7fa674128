"""What the attention kernels of all devices share: rows cut in blocks, the gradient's way, what bounds a logit."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from crome_jax.models.execution import SAVED
from crome_jax.models.masks import Places

NOT_SEEN = -0.7 * float(jnp.finfo(jnp.float32).max)
"""The logit of what may not be seen: finite, so that the difference of two is 0 and never NaN."""


def attend_padded(
    attend: Callable,
    q: Float[Array, "B T H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    places: Places,
    window: int | None,
    cap: float | None,
    block: int,
    width: int,
    interpret: bool,
) -> Float[Array, "B T H E"]:
    """Attend over whole blocks of tokens, heads first and so wide, and take the filling off again.

    Args:
        attend: from differentiable.
    """
    t, e = q.shape[1], q.shape[-1]
    fill = -t % block
    along_heads = lambda x: jnp.pad(x, ((0, 0), (0, fill), (0, 0), (0, width - e))).swapaxes(1, 2)  # noqa: E731
    places = Places(*(jnp.pad(ids, ((0, 0), (0, fill))) for ids in places))  # With more padding, seen by padding alone.
    y = attend(along_heads(q), along_heads(k), along_heads(v), places, window, cap, block, interpret)
    return y.swapaxes(1, 2)[:, :t, :, :e]


def differentiable(forward: Callable, query_gradient: Callable, key_gradients: Callable) -> Callable:
    """Return attention (q, k, v, places, window, cap, block, interpret) -> y with the gradient that kernels compute.

    Args:
        forward: the same -> y and each query's log of its sum of exponentials.
        query_gradient: (q, k, v, dy, that sum's log, drift, places, **the rest) -> dq.
        key_gradients: the same -> dk and dv.
    """

    @functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7))
    def attend(q, k, v, places, window, cap, block, interpret):
        return forward(q, k, v, places, window, cap, block, interpret)[0]

    def run(q, k, v, places, window, cap, block, interpret):
        y, lse = (checkpoint_name(x, SAVED) for x in forward(q, k, v, places, window, cap, block, interpret))
        return y, (q, k, v, places, y, lse)

    def run_back(window, cap, block, interpret, kept, dy):
        q, k, v, places, y, lse = kept
        # What the softmax takes off each logit's gradient: the same for all keys of a query.
        drift = (y.astype(jnp.float32) * dy.astype(jnp.float32)).sum(-1).reshape(lse.shape)
        options = {"window": window, "cap": cap, "block": block, "interpret": interpret}
        dq = query_gradient(q, k, v, dy, lse, drift, places, **options)
        dk, dv = key_gradients(q, k, v, dy, lse, drift, places, **options)
        return dq, dk, dv, None

    attend.defvjp(run, run_back)
    return attend


def bound(logits: Float[Array, "N M"], cap: float | None) -> tuple[Float[Array, "N M"], Float[Array, "N M"] | None]:
    """Return the softly bounded logits and by what their gradient is to be multiplied."""
    if cap is None:
        return logits, None
    bent = jnp.tanh(logits / cap)
    return cap * bent, 1.0 - bent * bent
