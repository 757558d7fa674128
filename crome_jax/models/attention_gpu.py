"""Attention as a Pallas kernel for GPU (Triton): blocks of keys that no token of a block of queries sees are skipped.

The softmax is summed up block by block (FlashAttention-2, arXiv 2307.08691); the gradient computes the logits again
from their log-sum-exp. A program goes through the blocks that `visits_of` lists for its own, and through no others.
Pallas can write for Triton on a machine without a GPU, so that the tests see this lowered; JAX 0.11 announces that it
will go, in favour of Mosaic, which only newer GPUs have.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float

from crome_jax.models.attention_kernels import NOT_SEEN, attend_padded, bound, differentiable
from crome_jax.models.masks import Places, may_meet, sees, visits_of
from crome_jax.models.precision import precision_of


def attend_gpu(
    q: Float[Array, "B T H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    places: Places,
    window: int | None = None,
    cap: float | None = None,
    *,
    block: int | None = None,
    interpret: bool = False,
) -> Float[Array, "B T H E"]:
    """Attend from every token of the rows, as `may_attend` says.

    Args:
        q: already scaled.
        cap: bounds the logits softly; None for no bound.
        block: tokens of a block, a power of two of at least 16; None takes 64, or 32 for heads wider than 128, whose
            blocks would not fit into registers.
        interpret: run the kernel step by step in XLA, on any device: for tests.
    """
    wide = max(16, pl.next_power_of_2(q.shape[-1]))  # Triton's tensors have such sizes only.
    block = (32 if wide > 128 else 64) if block is None else block
    return attend_padded(_attend, q, k, v, places, window, cap, block, wide, interpret)


def _forward(
    q: Float[Array, "B H T E"],
    k: Float[Array, "B K T E"],
    v: Float[Array, "B K T E"],
    places: Places,
    window: int | None,
    cap: float | None,
    block: int,
    interpret: bool,
) -> tuple[Float[Array, "B H T E"], Float[Array, "B H T"]]:
    """Return what was attended to, and the log of each query's sum of exponentials."""
    (b, h, t, e), shared = q.shape, q.shape[1] // k.shape[1]
    visits = visits_of(may_meet(places, block, window))

    def kernel(blocks, count, q, k, v, place, position, group, response, y, lse):
        ids, i = (place, position, group, response), pl.program_id(2)
        asks = _at(ids, i, block)
        queries = q[...]

        def visit(step, carry):
            top, total, sum_ = carry
            j = blocks[step]
            keys, values = (x[pl.ds(j * block, block), :] for x in (k, v))
            logits, _ = bound(_product(queries, keys.T), cap)
            logits = jnp.where(_mask(asks, _at(ids, j, block), window), logits, NOT_SEEN)
            now = jnp.maximum(top, logits.max(-1))
            weights, shrunk = jnp.exp(logits - now[:, None]), jnp.exp(top - now)
            sum_ = shrunk[:, None] * sum_ + _product(weights.astype(values.dtype), values)
            return now, shrunk * total + weights.sum(-1), sum_

        start = jnp.full((block,), NOT_SEEN, jnp.float32), jnp.zeros((block,)), jnp.zeros((block, e), jnp.float32)
        top, total, sum_ = jax.lax.fori_loop(0, count[0], visit, start)
        y[...] = (sum_ / total[:, None]).astype(y.dtype)
        lse[...] = top + jnp.log(total)

    of_query = pl.BlockSpec((None, None, block, e), lambda row, head, i: (row, head, i, 0))
    of_key = pl.BlockSpec((None, None, t, e), lambda row, head, i: (row, head // shared, 0, 0))
    return _call(
        kernel,
        visits,
        grid=(b, h, t // block),
        inputs=[(q, of_query), (k, of_key), (v, of_key)],
        places=places,
        outputs=[
            (jax.ShapeDtypeStruct(q.shape, q.dtype), of_query),
            (
                jax.ShapeDtypeStruct((b, h, t), jnp.float32),
                pl.BlockSpec((None, None, block), lambda row, head, i: (row, head, i)),
            ),
        ],
        interpret=interpret,
    )


def _query_gradient(q, k, v, dy, lse, drift, places, *, window, cap, block, interpret):
    """Return dq: for each block of queries, summed over the blocks of keys it saw."""
    (b, h, t, e), shared = q.shape, q.shape[1] // k.shape[1]
    visits = visits_of(may_meet(places, block, window))

    def kernel(blocks, count, q, k, v, dy, lse, drift, place, position, group, response, dq):
        ids, i = (place, position, group, response), pl.program_id(2)
        asks = _at(ids, i, block)
        queries, slopes_of_y, lses, drifts = q[...], dy[...], lse[...], drift[...]

        def visit(step, sum_):
            j = blocks[step]
            keys, values = (x[pl.ds(j * block, block), :] for x in (k, v))
            mask = _mask(asks, _at(ids, j, block), window)
            _, slopes = _slopes(queries, keys, values, slopes_of_y, lses, drifts, mask, cap)
            return sum_ + _product(slopes.astype(keys.dtype), keys)

        dq[...] = jax.lax.fori_loop(0, count[0], visit, jnp.zeros((block, e), jnp.float32)).astype(dq.dtype)

    of_query = pl.BlockSpec((None, None, block, e), lambda row, head, i: (row, head, i, 0))
    of_key = pl.BlockSpec((None, None, t, e), lambda row, head, i: (row, head // shared, 0, 0))
    of_sum = pl.BlockSpec((None, None, block), lambda row, head, i: (row, head, i))
    [dq] = _call(
        kernel,
        visits,
        grid=(b, h, t // block),
        inputs=[(q, of_query), (k, of_key), (v, of_key), (dy, of_query), (lse, of_sum), (drift, of_sum)],
        places=places,
        outputs=[(jax.ShapeDtypeStruct(q.shape, q.dtype), of_query)],
        interpret=interpret,
    )
    return dq


def _key_gradients(q, k, v, dy, lse, drift, places, *, window, cap, block, interpret):
    """Return dk and dv: for each block of keys, summed over the heads that share it and the queries that saw it."""
    (b, h, t, e), shared = q.shape, q.shape[1] // k.shape[1]
    visits = visits_of(may_meet(places, block, window).swapaxes(1, 2))

    def kernel(blocks, count, q, k, v, dy, lse, drift, place, position, group, response, dk, dv):
        ids, j = (place, position, group, response), pl.program_id(2)
        answers = _at(ids, j, block)
        keys, values = k[...], v[...]

        def visit(step, carry):
            key_sum, value_sum = carry
            # Plainly, as Triton has no rule for what Python makes of signs.
            head, i = jax.lax.rem(step, shared), blocks[jax.lax.div(step, shared)]
            at = pl.ds(i * block, block)
            queries, slopes_of_y = (x[head, at, :] for x in (q, dy))
            mask = _mask(_at(ids, i, block), answers, window)
            weights, slopes = _slopes(queries, keys, values, slopes_of_y, lse[head, at], drift[head, at], mask, cap)
            key_sum += _product(slopes.T.astype(queries.dtype), queries)
            value_sum += _product(weights.T.astype(slopes_of_y.dtype), slopes_of_y)
            return key_sum, value_sum

        nothing = jnp.zeros((block, e), jnp.float32)
        key_sum, value_sum = jax.lax.fori_loop(0, count[0] * shared, visit, (nothing, nothing))
        dk[...], dv[...] = key_sum.astype(dk.dtype), value_sum.astype(dv.dtype)

    of_query = pl.BlockSpec((None, shared, t, e), lambda row, head, j: (row, head, 0, 0))
    of_key = pl.BlockSpec((None, None, block, e), lambda row, head, j: (row, head, j, 0))
    of_sum = pl.BlockSpec((None, shared, t), lambda row, head, j: (row, head, 0))
    return _call(
        kernel,
        visits,
        grid=(b, h // shared, t // block),
        inputs=[(q, of_query), (k, of_key), (v, of_key), (dy, of_query), (lse, of_sum), (drift, of_sum)],
        places=places,
        outputs=[(jax.ShapeDtypeStruct(x.shape, x.dtype), of_key) for x in (k, v)],
        interpret=interpret,
    )


_attend = differentiable(_forward, _query_gradient, _key_gradients)


def _slopes(q, k, v, dy, lse, drift, mask, cap):
    """Return the weights and the gradient of the logits of a block, queries first."""
    logits, slope = bound(_product(q, k.T), cap)
    weights = jnp.exp(jnp.where(mask, logits, NOT_SEEN) - lse[:, None])
    slopes = weights * (_product(dy, v.T) - drift[:, None])
    return weights, slopes if slope is None else slopes * slope


def _product(a: Float[Array, "N C"], b: Float[Array, "C M"]) -> Float[Array, "N M"]:
    return jax.lax.dot(a, b, precision=precision_of(a.dtype), preferred_element_type=jnp.float32)


def _at(ids, n, block):
    """Read the places of a block's tokens."""
    return Places(*(x[pl.ds(n * block, block)] for x in ids))


def _mask(asks: Places, answers: Places, window):
    return sees(Places(*(x[:, None] for x in asks)), Places(*(x[None, :] for x in answers)), window)


def _call(kernel, visits, *, grid, inputs, places, outputs, interpret):
    """Run a kernel, each program on its own block; it reads which blocks to visit, how many, and all tokens' places."""
    n, t = grid[2], places.place.shape[1]
    of_row = pl.BlockSpec((None, t), lambda row, head, i: (row, 0))
    own = [
        (visits.blocks, pl.BlockSpec((None, None, n), lambda row, head, i: (row, i, 0))),
        (visits.counts[:, :, None], pl.BlockSpec((None, None, 1), lambda row, head, i: (row, i, 0))),
    ]
    given = [*own, *inputs, *((ids, of_row) for ids in places)]
    wide = inputs[0][0].shape[-1]
    return pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=[spec for _, spec in given],
        out_specs=[spec for _, spec in outputs],
        out_shape=[shape for shape, _ in outputs],
        compiler_params=plgpu.CompilerParams(num_warps=4 if wide <= 64 else 8, num_stages=2),
        interpret=interpret,
    )(*(x for x, _ in given))
