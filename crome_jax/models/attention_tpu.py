"""Attention as a Pallas kernel for TPU: blocks of keys that no token of a block of queries may see are skipped.

The softmax is summed up block by block (FlashAttention-2, arXiv 2307.08691); the gradient computes the logits again
from their log-sum-exp. Which blocks meet is a table that the kernel's index maps read ahead of the data, as splash
attention of JAX does for masks known in advance. Splash attention takes a mask known only at run time, too, but as T
squared booleans in memory; here the ids of the tokens are enough.
"""

import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from crome_jax.models.attention_kernels import NOT_SEEN, attend_padded, bound, differentiable
from crome_jax.models.masks import Places, Visits, may_meet, sees, visits_of
from crome_jax.models.precision import precision_of

_BLOCK = 512
"""Tokens of a block: smaller ones skip more, but leave the matrix unit waiting for its operands."""
_LANES = 128


def attend_tpu(
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
        block: tokens of a block, a multiple of 128; None takes 512, or fewer for short rows.
        interpret: run the kernel step by step in XLA, on any device: for tests.
    """
    t = q.shape[1]
    block = min(_BLOCK, _LANES * math.ceil(t / _LANES)) if block is None else block
    return attend_padded(_attend, q, k, v, places, window, cap, block, q.shape[-1], interpret)


def _forward(
    q: Float[Array, "B H T E"],
    k: Float[Array, "B K T E"],
    v: Float[Array, "B K T E"],
    places: Places,
    window: int | None,
    cap: float | None,
    block: int,
    interpret: bool,
) -> tuple[Float[Array, "B H T E"], Float[Array, "B H 1 T"]]:
    """Return what was attended to, and the log of each query's sum of exponentials."""
    (b, h, t, e), shared = q.shape, q.shape[1] // k.shape[1]
    n = t // block
    visits = visits_of(may_meet(places, block, window))

    def kernel(blocks, counts, q, k, v, asks, answers, y, lse, top, total, sum_):
        row, i, step = pl.program_id(0), pl.program_id(2), pl.program_id(3)

        @pl.when(step == 0)
        def _():
            top[...] = jnp.full_like(top, NOT_SEEN)
            total[...] = jnp.zeros_like(total)
            sum_[...] = jnp.zeros_like(sum_)

        @pl.when(step < counts[row * n + i])
        def _():
            j = blocks[(row * n + i) * n + step]
            logits = _product(q[0, 0], k[0, 0], 1, 1)
            logits, _ = bound(logits, cap)
            mask = _mask(asks[0], answers[0], i, j, block, window, turned=False)
            logits = jnp.where(mask, logits, NOT_SEEN)
            before = top[...]
            now = jnp.maximum(before, logits.max(-1, keepdims=True))
            weights = jnp.exp(logits - now[:, :1])
            shrunk = jnp.exp(before - now)
            top[...] = now
            total[...] = shrunk * total[...] + weights.sum(-1, keepdims=True)
            sum_[...] = shrunk[:, :1] * sum_[...] + _product(weights.astype(v.dtype), v[0, 0], 1, 0)

        @pl.when(step == n - 1)
        def _():
            y[0, 0] = (sum_[...] / total[:, :1]).astype(y.dtype)
            # Turned, so that a block of it fills lanes and not one of 128.
            lse[0, 0] = (top[...] + jnp.log(total[...])).T[:1]

    of_query = lambda row, head, i, step, blocks, counts: (row, head, i, 0)  # noqa: E731
    of_key = lambda row, head, i, step, blocks, counts: (row, head // shared, blocks[(row * n + i) * n + step], 0)  # noqa: E731
    return _call(
        kernel,
        visits,
        grid=(b, h, n, n),
        inputs=[
            (q, (1, 1, block, e), of_query),
            (k, (1, 1, block, e), of_key),
            (v, (1, 1, block, e), of_key),
            (_columns(places), (1, block, 3), lambda row, head, i, step, blocks, counts: (row, i, 0)),
            (
                _rows(places),
                (1, 3, block),
                lambda row, head, i, step, blocks, counts: (row, 0, blocks[(row * n + i) * n + step]),
            ),
        ],
        outputs=[
            (jax.ShapeDtypeStruct(q.shape, q.dtype), (1, 1, block, e), of_query),
            (
                jax.ShapeDtypeStruct((b, h, 1, t), jnp.float32),
                (1, 1, 1, block),
                lambda row, head, i, step, blocks, counts: (row, head, 0, i),
            ),
        ],
        scratch=[(block, _LANES), (block, _LANES), (block, e)],
        products=2,
        interpret=interpret,
    )


def _query_gradient(q, k, v, dy, lse, drift, places, *, window, cap, block, interpret):
    """Return dq: for each block of queries, summed over the blocks of keys it saw."""
    (b, h, t, e), shared = q.shape, q.shape[1] // k.shape[1]
    n = t // block
    visits = visits_of(may_meet(places, block, window))

    def kernel(blocks, counts, q, k, v, dy, lse, drift, asks, answers, dq, sum_):
        row, i, step = pl.program_id(0), pl.program_id(2), pl.program_id(3)

        @pl.when(step == 0)
        def _():
            sum_[...] = jnp.zeros_like(sum_)

        @pl.when(step < counts[row * n + i])
        def _():
            j = blocks[(row * n + i) * n + step]
            mask = _mask(asks[0], answers[0], i, j, block, window, turned=True)
            _, slopes = _turned_slopes(q[0, 0], k[0, 0], v[0, 0], dy[0, 0], lse[0, 0], drift[0, 0], mask, cap)
            sum_[...] += _product(slopes.T.astype(k.dtype), k[0, 0], 1, 0)

        @pl.when(step == n - 1)
        def _():
            dq[0, 0] = sum_[...].astype(dq.dtype)

    of_query = lambda row, head, i, step, blocks, counts: (row, head, i, 0)  # noqa: E731
    of_key = lambda row, head, i, step, blocks, counts: (row, head // shared, blocks[(row * n + i) * n + step], 0)  # noqa: E731
    of_sum = lambda row, head, i, step, blocks, counts: (row, head, 0, i)  # noqa: E731
    return _call(
        kernel,
        visits,
        grid=(b, h, n, n),
        inputs=[
            (q, (1, 1, block, e), of_query),
            (k, (1, 1, block, e), of_key),
            (v, (1, 1, block, e), of_key),
            (dy, (1, 1, block, e), of_query),
            (lse, (1, 1, 1, block), of_sum),
            (drift, (1, 1, 1, block), of_sum),
            (_rows(places), (1, 3, block), lambda row, head, i, step, blocks, counts: (row, 0, i)),
            (
                _columns(places),
                (1, block, 3),
                lambda row, head, i, step, blocks, counts: (row, blocks[(row * n + i) * n + step], 0),
            ),
        ],
        outputs=[(jax.ShapeDtypeStruct(q.shape, q.dtype), (1, 1, block, e), of_query)],
        scratch=[(block, e)],
        products=3,
        interpret=interpret,
    )[0]


def _key_gradients(q, k, v, dy, lse, drift, places, *, window, cap, block, interpret):
    """Return dk and dv: for each block of keys, summed over the heads that share it and the queries that saw it."""
    (b, h, t, e), shared = q.shape, q.shape[1] // k.shape[1]
    n = t // block
    visits = visits_of(may_meet(places, block, window).swapaxes(1, 2))

    def kernel(blocks, counts, q, k, v, dy, lse, drift, asks, answers, dk, dv, key_sum, value_sum):
        row, j, step = pl.program_id(0), pl.program_id(2), pl.program_id(3)

        @pl.when(step == 0)
        def _():
            key_sum[...] = jnp.zeros_like(key_sum)
            value_sum[...] = jnp.zeros_like(value_sum)

        @pl.when(step % n < counts[row * n + j])
        def _():
            i = blocks[(row * n + j) * n + step % n]
            mask = _mask(asks[0], answers[0], i, j, block, window, turned=True)
            weights, slopes = _turned_slopes(q[0, 0], k[0, 0], v[0, 0], dy[0, 0], lse[0, 0], drift[0, 0], mask, cap)
            value_sum[...] += _product(weights.astype(dy.dtype), dy[0, 0], 1, 0)
            key_sum[...] += _product(slopes.astype(q.dtype), q[0, 0], 1, 0)

        @pl.when(step == shared * n - 1)
        def _():
            dk[0, 0] = key_sum[...].astype(dk.dtype)
            dv[0, 0] = value_sum[...].astype(dv.dtype)

    def asking(row, head, j, step, blocks):
        return head * shared + step // n, blocks[(row * n + j) * n + step % n]

    def of_query(row, head, j, step, blocks, counts):
        head, i = asking(row, head, j, step, blocks)
        return row, head, i, 0

    def of_sum(row, head, j, step, blocks, counts):
        head, i = asking(row, head, j, step, blocks)
        return row, head, 0, i

    of_key = lambda row, head, j, step, blocks, counts: (row, head, j, 0)  # noqa: E731
    return _call(
        kernel,
        visits,
        grid=(b, h // shared, n, shared * n),
        inputs=[
            (q, (1, 1, block, e), of_query),
            (k, (1, 1, block, e), of_key),
            (v, (1, 1, block, e), of_key),
            (dy, (1, 1, block, e), of_query),
            (lse, (1, 1, 1, block), of_sum),
            (drift, (1, 1, 1, block), of_sum),
            (
                _rows(places),
                (1, 3, block),
                lambda row, head, j, step, blocks, counts: (row, 0, asking(row, head, j, step, blocks)[1]),
            ),
            (_columns(places), (1, block, 3), lambda row, head, j, step, blocks, counts: (row, j, 0)),
        ],
        outputs=[(jax.ShapeDtypeStruct(x.shape, x.dtype), (1, 1, block, e), of_key) for x in (k, v)],
        scratch=[(block, e), (block, e)],
        products=4,
        interpret=interpret,
    )


_attend = differentiable(_forward, _query_gradient, _key_gradients)


def _turned_slopes(q, k, v, dy, lse, drift, mask, cap):
    """Return the weights and the gradient of the logits of a block, keys first: lse and drift are rows of lanes."""
    logits, slope = bound(_product(k, q, 1, 1), cap)
    weights = jnp.exp(jnp.where(mask, logits, NOT_SEEN) - lse)
    slopes = weights * (_product(v, dy, 1, 1) - drift)
    return weights, slopes if slope is None else slopes * slope


def _product(a: Float[Array, "N C"], b: Array, axis_a: int, axis_b: int) -> Float[Array, "N M"]:
    return jax.lax.dot_general(
        a, b, (((axis_a,), (axis_b,)), ((), ())), precision=precision_of(a.dtype), preferred_element_type=jnp.float32
    )


def _columns(places: Places) -> Int[Array, "B T 3"]:
    return jnp.stack([places.position, places.group, places.response], axis=-1)


def _rows(places: Places) -> Int[Array, "B 3 T"]:
    return jnp.stack([places.position, places.group, places.response], axis=1)


def _mask(asks, answers, i, j, block, window, *, turned):
    """Write `may_attend` for a block of queries and one of keys, keys first where turned."""
    columns, rows = (answers, asks) if turned else (asks, answers)
    columns, rows = (tuple(columns[:, n : n + 1] for n in range(3)), tuple(rows[n : n + 1] for n in range(3)))
    asks, answers = (rows, columns) if turned else (columns, rows)
    queries = jax.lax.broadcasted_iota(jnp.int32, (block, block), 1 if turned else 0) + i * block
    keys = jax.lax.broadcasted_iota(jnp.int32, (block, block), 0 if turned else 1) + j * block
    return sees(Places(queries, *asks), Places(keys, *answers), window)


def _call(kernel, visits: Visits, *, grid, inputs, outputs, scratch, products, interpret):
    """Run a kernel over a grid whose last axis is summed over."""
    q = inputs[0][0]
    b, h, t, e = q.shape
    pairs = b * h * t * t // 2  # At most: what else is skipped is known only when it runs.
    return pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=grid,
            in_specs=[pl.BlockSpec(shape, index) for _, shape, index in inputs],
            out_specs=[pl.BlockSpec(shape, index) for _, shape, index in outputs],
            scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
        ),
        out_shape=[shape for shape, _, _ in outputs],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(
            flops=2 * products * pairs * e,
            transcendentals=pairs,
            bytes_accessed=sum(x.size * x.dtype.itemsize for x, _, _ in inputs)
            + sum(math.prod(x.shape) * x.dtype.itemsize for x, _, _ in outputs),
        ),
        interpret=interpret,
    )(visits.blocks.reshape(-1), visits.counts.reshape(-1), *(x for x, _, _ in inputs))
