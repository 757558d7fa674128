"""Attention within groups: a response sees its prompt and itself, never its sisters. One function, several ways."""

import functools
import itertools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.models.masks import Places, mask_to_bias, may_attend, may_meet
from crome_jax.models.precision import multiply

Implementation = Literal["xla", "dense", "blocks", "cpu", "tpu", "gpu"]
"""How every token attends; the result is the same, to rounding.

dense: what lies ahead of 128 queries is left out, the rest computed whole; fastest on a CPU for rows of quickstart's
    length. Memory grows with T squared.
blocks: the same in a scan that keeps nothing of the logits: memory grows with T.
xla: dense up to 2048 tokens, blocks beyond.
cpu: the same for one CPU device; of rows up to 2048 tokens what lies before the groups of 128 queries is left out, too,
    as it is found while it runs. A gradient would keep the logits of every length that there might have been.
tpu: a Pallas kernel; blocks of keys that no token of a block of queries may see are skipped. Memory grows with T.
gpu: the same for a GPU, by Triton. It is tested step by step on a CPU and lowered for CUDA, but has not run on a GPU.
"""

IMPLEMENTATIONS = get_args(Implementation)
KERNELS = ("tpu", "gpu")
"""Implementations that run on one device: on several, each has to be given its own rows and heads."""

_BLOCK = 128
"""Tokens whose queries are answered together: fewer skip more of what lies ahead, but make smaller products."""
_NEAR = (2, 4, 8)
"""Blocks of keys, the queries' own the last, that `cpu` chooses from, each compiled for every block of queries. The
row's first, where its head is, comes besides."""
_SCANNED_BLOCK = 512
"""The same in a scan: more tokens make a shorter scan, and more logits at a time."""
_SCANNED_KEYS = 8192
"""Tokens of the longest row of which so many are answered together: of longer ones fewer, for as many logits."""
_SHORTEST_BLOCK = 64
_STAGES = 4
"""Scans over a quarter of the queries each, that see no key beyond their quarter: 5/8 of the products of one scan."""
LONGEST_DENSE = 2048
"""Tokens of the longest rows that `xla` computes densely."""


def attend_all(
    q: Float[Array, "B T H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    places: Places,
    window: int | None = None,
    cap: float | None = None,
    implementation: Implementation = "xla",
    bias: Float[Array, "B T T"] | None = None,
) -> Float[Array, "B T H E"]:
    """Attend from every token of the rows, as `may_attend` says.

    Args:
        q: already scaled.
        places: of all tokens.
        window: how many positions back may be seen; None for all.
        cap: as in `attend`.
        bias: from mask_to_bias, for "dense", which makes it where it is not given.
    """
    if is_dense(implementation, q.shape[1]):
        bias = mask_to_bias(may_attend(places, places, window)) if bias is None else bias
        if implementation == "cpu":
            return attend_near(q, k, v, bias, places, cap)
        return attend_backwards(q, k, v, bias, cap)
    if implementation == "tpu":
        from crome_jax.models.attention_tpu import attend_tpu  # Here, as Pallas takes half a second to import.

        return attend_tpu(q, k, v, places, window, cap)
    if implementation == "gpu":
        from crome_jax.models.attention_gpu import attend_gpu

        return attend_gpu(q, k, v, places, window, cap)
    return attend_in_blocks(q, k, v, places, window, cap)


def is_dense(implementation: Implementation, tokens: int) -> bool:
    """Return whether rows of so many tokens are computed with a bias of every pair of tokens."""
    return implementation == "dense" or (implementation in ("xla", "cpu") and tokens <= LONGEST_DENSE)


def attend(
    q: Float[Array, "B Q H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    bias: Float[Array, "B Q T"],
    cap: float | None = None,
) -> Float[Array, "B Q H E"]:
    """Attend with grouped queries; logits and softmax in float32, as their rounding decides rewards.

    Args:
        q: already scaled.
        bias: from mask_to_bias.
        cap: bounds the logits softly, before the mask: cap tanh(logits / cap) (Gemma 2, arXiv 2408.00118); None for
            no bound.
    """
    b, n, h, e = q.shape
    t, shared = k.shape[1], h // k.shape[2]
    # Query heads that share keys are laid end to end: one plain batched product for each key head. Keys are turned
    # beforehand, as XLA's CPU backend takes four times as long over a product whose right side has to be turned.
    q = q.reshape(b, n, -1, shared, e).transpose(0, 2, 3, 1, 4).reshape(b, -1, shared * n, e)
    k, v = k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)
    logits = multiply(q, k, jnp.float32).reshape(b, -1, shared, n, t)
    if cap is not None:
        logits = cap * jnp.tanh(logits / cap)
    weights = jax.nn.softmax(logits + bias[:, None, None], axis=-1).astype(v.dtype).reshape(b, -1, shared * n, t)
    y = multiply(weights, v).reshape(b, -1, shared, n, e)
    return y.transpose(0, 3, 1, 2, 4).reshape(b, n, h, e)


def attend_backwards(
    q: Float[Array, "B T H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    bias: Float[Array, "B T T"],
    cap: float | None = None,
) -> Float[Array, "B T H E"]:
    """Attend as `attend` does where no token may see a later one: what lies ahead of a block is never computed."""
    t = q.shape[1]
    blocks = [(start, min(start + _BLOCK, t)) for start in range(0, t, _BLOCK)]
    parts = [attend(q[:, a:b], k[:, :b], v[:, :b], bias[:, a:b, :b], cap) for a, b in blocks]
    return jnp.concatenate(parts, axis=1)


def attend_near(
    q: Float[Array, "B T H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    bias: Float[Array, "B T T"],
    places: Places,
    cap: float | None = None,
) -> Float[Array, "B T H E"]:
    """Attend as `attend_backwards`; what lies before the groups of a block's tokens is not computed either.

    How much that is the data say: one of few lengths is chosen while it runs, the same for all rows.
    """
    t = q.shape[1]
    if t <= _BLOCK * (_NEAR[0] + 1):  # Nothing is long enough to be left out.
        return attend_backwards(q, k, v, bias, cap)
    fill = [(0, 0), (0, -t % _BLOCK)]
    meet = may_meet(Places(*(jnp.pad(ids, fill) for ids in places)), _BLOCK).any(0)
    first = 1 + jnp.argmax(meet[:, 1:], axis=-1)  # Block that is met, the row's first apart.
    parts = []
    for i, start in enumerate(range(0, t, _BLOCK)):
        end = min(start + _BLOCK, t)

        def of(seen: list[slice], asked: slice = slice(start, end)) -> Float[Array, "B Q H E"]:
            keys, values = (jnp.concatenate([x[:, part] for part in seen], axis=1) for x in (k, v))
            biases = jnp.concatenate([bias[:, asked, part] for part in seen], axis=2)
            return attend(q[:, asked], keys, values, biases, cap)

        lengths = [n for n in _NEAR if n < i]  # With the first block they are fewer than all.
        spans = [[slice(0, _BLOCK), slice((i + 1 - n) * _BLOCK, end)] for n in lengths]
        choice = sum(((i + 1 - first[i] > n).astype(jnp.int32) for n in lengths), jnp.int32(0))
        ways = [functools.partial(of, seen) for seen in [*spans, [slice(0, end)]]]
        parts.append(jax.lax.switch(choice, ways) if lengths else ways[0]())
    return jnp.concatenate(parts, axis=1)


def attend_in_blocks(
    q: Float[Array, "B T H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    places: Places,
    window: int | None = None,
    cap: float | None = None,
    block: int | None = None,
) -> Float[Array, "B T H E"]:
    """Attend block by block of queries, each computed again for its gradient: memory grows with T, not its square.

    Args:
        block: queries at a time; any number; None takes 512, or fewer for long rows.
    """
    block = _scanned_block(q.shape[1]) if block is None else block
    return _attend_in_blocks(q, k, v, places, places, window, cap, block, _stages(q.shape[1], block))


def attend_some_in_blocks(
    q: Float[Array, "B Q H E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K E"],
    asks: Places,
    answers: Places,
    window: int | None = None,
    cap: float | None = None,
    block: int | None = None,
) -> Float[Array, "B Q H E"]:
    """Attend as `attend_in_blocks` does from some tokens of the rows, in any order.

    Args:
        asks, answers: places of the tokens that ask, and of all.
    """
    block = min(_scanned_block(k.shape[1]) if block is None else block, q.shape[1])
    return _attend_in_blocks(q, k, v, asks, answers, window, cap, block, ((0, q.shape[1], k.shape[1]),))


# A gradient of our own: left to itself, JAX keeps every block's mask for it, T squared of them.
@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7, 8))
def _attend_in_blocks(q, k, v, asks, answers, window, cap, block, stages):
    def stage(span, seen):
        keys, values, answering = _until(seen, k, v, answers)
        asked = jax.tree.map(lambda x: _cut(x[:, span], block), (q, asks))
        return _join(jax.lax.map(lambda part: _attend_block(part, keys, values, answering, window, cap), asked), span)

    return jnp.concatenate([stage(slice(start, end), seen) for start, end, seen in stages], axis=1)


def _attend_in_blocks_forward(q, k, v, asks, answers, window, cap, block, stages):
    return _attend_in_blocks(q, k, v, asks, answers, window, cap, block, stages), (q, k, v, asks, answers)


def _attend_in_blocks_backward(window, cap, block, stages, kept, dy):
    q, k, v, asks, answers = kept
    gradients = tuple(jnp.zeros(x.shape, jnp.float32) for x in (k, v))  # Summed over blocks: not in bfloat16.
    parts = []
    for start, end, seen in stages:
        span = slice(start, end)
        keys, values, answering = _until(seen, k, v, answers)

        def one(total, asked, keys=keys, values=values, answering=answering):
            (q, asking), dy = asked
            attend_block = lambda q, k, v: _attend_block((q, asking), k, v, answering, window, cap)  # noqa: E731
            dq, *shares = jax.vjp(attend_block, q, keys, values)[1](dy)
            return tuple(sum_ + share.astype(jnp.float32) for sum_, share in zip(total, shares, strict=True)), dq

        asked = jax.tree.map(lambda x, span=span: _cut(x[:, span], block), ((q, asks), dy))
        total, dq = jax.lax.scan(one, tuple(x[:, :seen] for x in gradients), asked)
        gradients = tuple(x.at[:, :seen].set(sum_) for x, sum_ in zip(gradients, total, strict=True))
        parts.append(_join(dq, span))
    dk, dv = (x.astype(of.dtype) for x, of in zip(gradients, (k, v), strict=True))
    return jnp.concatenate(parts, axis=1), dk, dv, None, None


_attend_in_blocks.defvjp(_attend_in_blocks_forward, _attend_in_blocks_backward)


def _scanned_block(tokens: int) -> int:
    return max(_SHORTEST_BLOCK, min(_SCANNED_BLOCK, _SCANNED_BLOCK * _SCANNED_KEYS // tokens))


def _stages(tokens: int, block: int) -> tuple[tuple[int, int, int], ...]:
    """Cut a row into spans of whole blocks, of about the same length: where each starts and ends, and what it sees."""
    blocks = -(-tokens // block)
    stages = min(_STAGES, blocks)
    bounds = [min(tokens, block * (blocks * stage // stages)) for stage in range(stages + 1)]
    return tuple((start, end, end) for start, end in itertools.pairwise(bounds))


def _until(seen: int, k: Array, v: Array, places: Places) -> tuple[Array, Array, Places]:
    return k[:, :seen], v[:, :seen], Places(*(x[:, :seen] for x in places))


def _attend_block(asked: tuple[Array, Places], k: Array, v: Array, answers: Places, window, cap) -> Array:
    q, asks = asked
    return attend(q, k, v, mask_to_bias(may_attend(asks, answers, window)), cap)


def _cut(x: Array, block: int) -> Array:
    """Cut [B, N, ...] into [blocks, B, block, ...], the last filled up: what is asked there is thrown away."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % block)) + ((0, 0),) * (x.ndim - 2))
    return x.reshape(x.shape[0], -1, block, *x.shape[2:]).swapaxes(0, 1)


def _join(blocks: Array, span: slice) -> Array:
    """Bring blocks back to the span that `_cut` took."""
    rows = blocks.swapaxes(0, 1)
    return rows.reshape(rows.shape[0], -1, *rows.shape[3:])[:, : span.stop - span.start]
