"""What a step remembers: of a long row no more than its tokens, and of layers what their gradient needs."""

import jax
import jax.numpy as jnp
from toy import mesh_of

from crome_jax.data.packing import RowShape
from crome_jax.models.config import DecoderConfig, tiny
from crome_jax.models.execution import Execution
from crome_jax.models.weights import Trainable
from crome_jax.objectives.crome import crome
from crome_jax.training.abstract import abstract_batch, abstract_params
from crome_jax.training.gradients import differentiate


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
    # Logits of 512 queries at a time, their weights, and the gradient of these; 2048 slots are scored, and all logits
    # of theirs would be four times as much.
    assert temporary(cfg, "all", tokens, Execution("xla")) < 4 * (4 * heads * 512 * tokens)
