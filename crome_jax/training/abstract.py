"""State and batch as shapes on a mesh, without a number in them: what a step is compiled for ahead of time."""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from crome_jax.batch import Batch
from crome_jax.data.packing import RowShape
from crome_jax.models.config import DecoderConfig
from crome_jax.models.weights import Head, Params, Trainable, declare, is_weight, partition
from crome_jax.training.mesh import batch_sharding, replicated, weight_shardings
from crome_jax.training.step import TrainState

_FLOATS = ("target", "weight", "margin")
_SIZES = {"response_ends": "responses"}
_SIZES |= dict.fromkeys(("left", "right", "kind", "attribute", *_FLOATS), "comparisons")


def abstract_params(
    cfg: DecoderConfig, mesh: Mesh, trainable: Trainable = "all", head: Head = "scalar"
) -> tuple[Params, Params]:
    """Return (trained, frozen) weights as float32 shapes where they would lie."""
    declared = declare(cfg, trainable, head)
    params = jax.tree.map(
        lambda weight, sharding: jax.ShapeDtypeStruct(weight.shape, jnp.float32, sharding=sharding),
        declared,
        weight_shardings(declared, mesh),
        is_leaf=is_weight,
    )
    return partition(params, trainable)


def abstract_state(trained: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Return what `init_state` would, as shapes."""
    whole = replicated(jax.tree.leaves(trained)[0].sharding.mesh)
    on = lambda like, sharding: jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=sharding)  # noqa: E731
    moments = optax.tree_map_params(
        optimizer,
        lambda moment, weight: on(moment, weight.sharding),
        jax.eval_shape(optimizer.init, trained),
        trained,
        transform_non_params=lambda count: on(count, whole),
    )
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=whole), trained, moments)


def abstract_batch(rows: int, shape: RowShape, mesh: Mesh) -> Batch:
    """Return so many rows as shapes, split over the mesh."""
    sharding: NamedSharding = batch_sharding(mesh)
    return Batch(
        **{
            name: jax.ShapeDtypeStruct(
                (rows, getattr(shape, _SIZES.get(name, "tokens"))),
                jnp.float32 if name in _FLOATS else jnp.int32,
                sharding=sharding,
            )
            for name in Batch.__dataclass_fields__
            if name != "hidden"
        }
    )
