"""A step's memory, traffic and collectives by formula: for chips that nothing can be compiled for without one."""

import collections

from crome_jax.models.config import DecoderConfig
from crome_jax.models.weights import count, declare
from crome_jax.training.flops import products_of_layer, step_flops
from crome_jax.training.programs import Work

_COMPUTE = 2
"""Bytes of a number in bfloat16."""


def estimate_step(
    cfg: DecoderConfig, mesh: tuple[int, int, int], rows: int, tokens: int, responses: int, micro_batches: int
) -> tuple[float, Work]:
    """Estimate a step that trains everything in bfloat16 with Adam and remat "full".

    Memory: float32 weights, two moments and gradients, shared over fsdp and tensor (with micro-batches the gradients'
    sum, too); two blocks of layers gathered in bfloat16, the one in use and the next; the input of every block; and
    what one block holds while it is computed again: 20 numbers a token and width, 18 bytes a token and feed-forward
    width. Links: each micro-batch gathers every weight three times, forwards, again, and for the gradient, and
    scatters the gradients once. FLOP: the analytic count and a third. The traffic of memory is left at that of weights.

    Args:
        mesh: sizes of data, fsdp and tensor.
        rows: of the whole step.
        tokens, responses: of a row.

    Returns:
        Bytes of a chip's memory, and the work of one chip.
    """
    data, fsdp, tensor = mesh
    chips = data * fsdp * tensor
    weights, period = count(declare(cfg)), len(cfg.pattern)
    share = weights / (fsdp * tensor)
    own = rows * tokens / (data * fsdp * micro_batches)  # tokens of a chip at a time
    block = period * sum(products_of_layer(cfg)) / tensor
    needed = share * 4 * (4 if micro_batches == 1 else 5)
    needed += 2 * block * _COMPUTE
    needed += own * cfg.width * _COMPUTE * -(-cfg.layers // period)
    needed += own * period * (20 * cfg.width * _COMPUTE + 18 * cfg.ffn_width / tensor)
    gathered = weights / tensor * _COMPUTE * (fsdp - 1) / fsdp * micro_batches
    work = Work(
        flops=step_flops(cfg, "all", rows, tokens, responses) * 4 / 3 / chips,
        traffic=share * 4 * 7 + 4 * micro_batches * weights / tensor * _COMPUTE,
        moved=collections.Counter({"all-gather": 3 * gathered, "reduce-scatter": gathered}),
    )
    if data > 1:
        work.moved["all-reduce"] = 2 * (data - 1) / data * share * 4
    if tensor > 1:
        # After attention and after the feed-forward, forwards, again, and for the gradient.
        work.moved["all-reduce"] += micro_batches * cfg.layers * 6 * 2 * (tensor - 1) / tensor * own * cfg.width * 2
    return needed, work
