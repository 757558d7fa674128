"""One optimizer step, pure and jitted."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from crome_jax.batch import Batch
from crome_jax.errors import CromeError
from crome_jax.models.config import DecoderConfig
from crome_jax.models.execution import Remat
from crome_jax.models.weights import Params
from crome_jax.objectives.pairwise import Metrics, Objective
from crome_jax.training.finite import skip_if_not_finite
from crome_jax.training.gradients import differentiate
from crome_jax.training.mesh import Attention, batch_sharding, execution_on, replicated, spread


@struct.dataclass
class TrainState:
    """What changes from step to step; frozen parameters are kept apart and never copied.

    Args:
        step: optimizer steps done.
        trained: the parameters that train, float32.
        optimizer: optax state, for those only.
    """

    step: Int[Array, ""]
    trained: Params
    optimizer: Any


def init_state(trained: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Start at step 0; moments lie as their parameters do, counters whole on every device.

    Args:
        trained: on the mesh.
        optimizer: of the parameters.
    """
    whole = replicated(jax.tree.leaves(trained)[0].sharding.mesh)
    shardings = optax.tree_map_params(
        optimizer,
        lambda _, weight: weight.sharding,
        jax.eval_shape(optimizer.init, trained),
        trained,
        transform_non_params=lambda _: whole,
    )
    # Compiled: arrays that lie on several hosts cannot be made and moved one by one.
    moments = jax.jit(optimizer.init, out_shardings=shardings)(trained)
    return TrainState(spread(np.zeros((), np.int32), whole), trained, moments)


def make_train_step(
    cfg: DecoderConfig,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    micro_batches: int = 1,
    dtype: DTypeLike = jnp.float32,
    attention: Attention = "auto",
    remat: Remat = "none",
    seed: int = 0,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Build the jitted step (state, frozen, batch) -> (state, metrics); the given state's memory is reused.

    Args:
        optimizer: where its update wants further arguments, the step takes them by name.
        micro_batches: how many equal parts the batch's rows are computed in, one after the other, to save memory.
        dtype: of activations; master weights, gradients and optimizer stay in float32.
        attention: which implementation.
        remat: what of a block of layers is kept for the gradient.
        seed: of dropout.

    Returns:
        The step; its attribute `compiled` gives the jitted function for a state, from which a plan is made. What the
        step returns lies on the mesh as the first state it was given did. Its metrics are sums and counts, `grad_norm`
        before clipping, and `skipped`, 1 where loss or gradient was not finite: weights and optimizer then are what
        they were, and the other metrics count nothing. It raises CromeError where the batch's rows do not divide into
        micro-batches.
    """
    on_data = batch_sharding(mesh)
    how = execution_on(mesh, attention, remat)

    def step(state: TrainState, frozen: Params, batch: Batch, further: dict) -> tuple[TrainState, Metrics]:
        batch = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, on_data), batch)
        comparisons = jnp.maximum(batch.weight.sum(), 1e-6)
        rows = batch.tokens.shape[0]
        if rows % micro_batches:
            raise CromeError(f"{rows} rows do not divide into {micro_batches} micro-batches; change rows_per_step")

        (loss, metrics), grads = differentiate(
            state.trained,
            frozen,
            batch,
            objective,
            cfg,
            step=state.step,
            micro_batches=micro_batches,
            dtype=dtype,
            how=how,
            seed=seed,
        )
        updates, opt_state = optimizer.update(grads, state.optimizer, state.trained, **further)
        trained = optax.apply_updates(state.trained, updates)
        metrics = metrics | {"loss": loss, "grad_norm": optax.tree.norm(grads), "comparisons": comparisons}
        (trained, opt_state), metrics = skip_if_not_finite(
            (trained, opt_state), (state.trained, state.optimizer), metrics
        )
        return TrainState(state.step + 1, trained, opt_state), metrics

    jitted: Callable | None = None

    def compiled(state: TrainState) -> Callable:
        # Left to itself, XLA names the new state's layout otherwise than the old one's, and compiles again for it.
        stays = jax.tree.map(lambda x: x.sharding, state)
        return jax.jit(step, donate_argnums=0, out_shardings=(stays, replicated(mesh)))

    def run(state: TrainState, frozen: Params, batch: Batch, **further: jax.typing.ArrayLike):
        nonlocal jitted
        jitted = compiled(state) if jitted is None else jitted
        return jitted(state, frozen, batch, further)

    run.compiled = compiled
    return run
