"""The same training by crome_jax: packed rows, batches as the loop draws them, and one again and again."""

import time
from collections.abc import Callable

import jax

from benchmarks.trl.timing import Timing
from crome_jax.batch import FIELDS
from crome_jax.data.loading import batches, put
from crome_jax.data.packing import Rows
from crome_jax.models.weights import Trainable
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.training.mesh import make_mesh
from crome_jax.training.optimizer import adamw
from crome_jax.training.step import TrainState, init_state, make_train_step
from crome_jax.training.train import place_params
from crome_jax.weights.backbones import Backbone


def train(base: Backbone, rows: Rows, trainable: Trainable, rows_per_step: int) -> tuple[float, Timing, Timing]:
    """Train as many steps as go through all rows once, after one that compiles.

    Args:
        base: loaded with this `trainable`.
        rows_per_step: divides the number of rows, or some rows are taken twice.

    Returns:
        The loss of the first `rows_per_step` rows before any step, in nats; what training took; and what as many steps
        on one batch took that is on the device already.
    """
    mesh = make_mesh(devices=jax.devices()[:1])
    trained, frozen = place_params(base, trainable, mesh)
    steps = -(-len(rows) // rows_per_step)
    optimizer = adamw(steps=2 * steps + 1)
    state = init_state(trained, optimizer)
    step = make_train_step(base.cfg, bradley_terry, optimizer, mesh)
    first = {name: getattr(rows.batch, name)[:rows_per_step] for name in FIELDS}
    constant = put(first, mesh)
    state, metrics = step(state, frozen, constant)  # Compiles.
    loss = float(metrics["loss"])
    iterator = batches(rows, rows_per_step=rows_per_step, seed=0, mesh=mesh)
    next(iterator)  # Its threads have started.
    state, drawn = _time(steps, state, frozen, step, lambda: next(iterator), lambda batch: put(batch, mesh))
    _, held = _time(steps, state, frozen, step, lambda: first, lambda batch: constant)
    return loss, drawn, held


def _time(
    steps: int, state: TrainState, frozen, step: Callable, draw: Callable, place: Callable
) -> tuple[TrainState, Timing]:
    clock, cpu = time.monotonic(), time.process_time()
    pairs = tokens = size = 0
    for _ in range(steps):
        batch = draw()
        pairs += int((batch["weight"] > 0).sum())
        tokens += int((batch["group_ids"] > 0).sum())
        size += batch["tokens"].size
        state, metrics = step(state, frozen, place(batch))
    jax.block_until_ready((state, metrics))
    return state, Timing(time.monotonic() - clock, time.process_time() - cpu, pairs, tokens, size - tokens)
