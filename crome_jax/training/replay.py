"""One step's batch again, alone: which of its rows, and which records, gave a loss or gradient that is not finite."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.typing import DTypeLike

from crome_jax.data.loading import put
from crome_jax.data.packing import Rows
from crome_jax.data.row_files import RowFiles
from crome_jax.models.config import DecoderConfig
from crome_jax.models.execution import Execution
from crome_jax.models.weights import Params
from crome_jax.objectives.pairwise import Objective
from crome_jax.training.gradients import differentiate
from crome_jax.training.mesh import rows_of_process
from crome_jax.training.step import TrainState


def run_up_to(
    number: int, state: TrainState, frozen: Params, step: Callable, iterator: grain.DatasetIterator, mesh: Mesh
) -> TrainState:
    """Take the steps from the state's own to the one before step `number`, saving and logging nothing."""
    done = int(state.step)
    if done < number - 1:
        print(f"replay: the {number - 1 - done} steps from {done} to {number - 1} first", file=sys.stderr)
    for _ in range(done, number - 1):
        state, _ = step(state, frozen, put(next(iterator), mesh))
    return state


def replay(
    state: TrainState,
    frozen: Params,
    rows: Rows | RowFiles,
    numbers: Sequence[int],
    records: Callable[[int], Sequence[str]],
    objective: Objective,
    cfg: DecoderConfig,
    mesh: Mesh,
    *,
    how: Execution,
    micro_batches: int = 1,
    dtype: DTypeLike = jnp.float32,
    hidden: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Differentiate a step's batch as the step does, then each of its rows by itself; nothing is trained.

    A row fills a batch of its own, so that no other can spoil it.

    Args:
        state: as it was before the step.
        numbers: of the step's rows.
        records: from the number of a row to the ids of its records.
        how, micro_batches, dtype, seed: as the run's own steps are computed.

    Returns:
        {step, loss, grad_norm, rows: [{row, loss, grad_norm, finite, records}]}; loss in nats per comparison. Numbers
        that are not finite are text, since JSON has none.
    """
    mine = rows_of_process(mesh, len(numbers))

    @jax.jit  # Weights are given, not closed over: those of several hosts cannot be constants of a program.
    def measure(trained: Params, frozen: Params, step: Any, batch: Any):
        (loss, _), gradient = differentiate(
            trained,
            frozen,
            batch,
            objective,
            cfg,
            step=step,
            micro_batches=micro_batches,
            dtype=dtype,
            how=how,
            seed=seed,
        )
        return loss, optax.tree.norm(gradient)

    def ask(at: np.ndarray) -> dict[str, Any]:
        batch = rows.take(at[mine])
        if hidden is not None:
            batch["hidden"] = np.asarray(hidden[at[mine]])
        loss, grad_norm = (float(value) for value in measure(state.trained, frozen, state.step, put(batch, mesh)))
        told = {"loss": loss, "grad_norm": grad_norm}
        finite = all(np.isfinite(value) for value in told.values())
        return {name: value if np.isfinite(value) else str(value) for name, value in told.items()} | {"finite": finite}

    alone = [
        {"row": int(row)} | ask(np.full(len(numbers), row)) | {"records": list(records(int(row)))} for row in numbers
    ]
    return {"step": int(state.step) + 1} | ask(np.array(numbers)) | {"rows": alone}
