"""What a step remembers: of a long row no more than its tokens, and of layers what their gradient needs."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from toy import mesh_of

from crome_jax.data.packing import RowShape
from crome_jax.models.config import DecoderConfig, tiny
from crome_jax.models.execution import Execution
from crome_jax.models.weights import Trainable
from crome_jax.objectives.crome import crome
from crome_jax.training.abstract import abstract_batch, abstract_params
from crome_jax.training.gradients import differentiate

SCANNED = Execution("dense", unroll=1)


def temporary(cfg: DecoderConfig, trainable: Trainable, tokens: int, how: Execution) -> int:
    """Return the bytes that a row's loss and gradient take beside what is given and returned."""
    mesh = mesh_of(1, 1, 1)

    def step(trained, frozen, batch):
        return differentiate(
            trained, frozen, batch, crome, cfg, step=jnp.zeros((), int), micro_batches=1, dtype=jnp.float32, how=how
        )

    given = (*abstract_params(cfg, mesh, trainable), abstract_batch(1, RowShape(tokens), mesh))
    return jax.jit(step).lower(*given).compile().memory_analysis().temp_size_in_bytes


def test_memory_of_a_row_grows_with_its_tokens_and_not_their_square():
    tokens, heads = 32768, 2
    # The last layer by itself: what all tokens ask of the others is measured where attention is tested.
    cfg = tiny(layers=1, heads=heads, kv_heads=1, width=16, ffn_width=32, vocab_size=64)
    # Logits of 128 queries at a time, their weights, and the gradient of these; 2048 slots are scored, and all logits
    # of theirs would be sixteen times as much.
    assert temporary(cfg, "all", tokens, Execution("xla")) < 4 * (4 * heads * 128 * tokens)


@pytest.mark.slow
def test_activations_of_frozen_layers_are_not_kept():
    """Two layers train: with 4 or 16 frozen ones below them a step takes the same; if all train, 17 times as much."""
    few, many = (temporary(tiny(layers=frozen + 2), 2, 256, SCANNED) for frozen in (4, 16))
    assert few == many
    assert temporary(tiny(layers=18), "all", 256, SCANNED) > 10 * many


@pytest.mark.slow
def test_the_less_remat_keeps_the_less_memory_a_step_takes():
    how = (dataclasses.replace(SCANNED, remat=remat) for remat in ("none", "projections", "full"))
    none, projections, full = (temporary(tiny(layers=9), "all", 256, execution) for execution in how)
    # Eight scanned layers, measured: 21.7, 4.7 and 3.0 MB.
    assert projections < none / 3
    assert full < projections / 1.4


@pytest.mark.slow
@pytest.mark.parametrize(("tokens", "remat"), [(2304, "none"), (256, "full")], ids=["long", "remat"])
def test_where_memory_counts_layers_are_scanned_one_by_one_whatever_is_unrolled(tokens, remat):
    cfg = tiny(layers=10, width=64, ffn_width=2048, vocab_size=64)
    one, eight = (temporary(cfg, "all", tokens, Execution("xla", remat, unroll=unroll)) for unroll in (1, 8))
    assert eight < 1.1 * one  # Eight blocks in a turn took six times as much where remat is full.
