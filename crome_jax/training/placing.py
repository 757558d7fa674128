"""A backbone's weights, heads and adapters on the mesh: what training, and scoring without a run, start from."""

import jax
from jax.sharding import Mesh

from crome_jax.models.weights import (
    HEADS,
    Head,
    Params,
    Trainable,
    declare,
    declare_head,
    init_declared,
    layer_runs,
    partition,
)
from crome_jax.training.mesh import spread, weight_shardings
from crome_jax.weights.backbones import Backbone
from crome_jax.weights.coded import place_base


def place_params(
    base: Backbone, trainable: Trainable, mesh: Mesh, head: Head = "scalar", *, seed: int = 0
) -> tuple[Params, Params]:
    """Read a backbone's weights onto the mesh, in (trained, frozen).

    Args:
        seed: of the heads and adapters that the backbone lacks.

    Raises:
        CromeError: where a mesh axis does not divide a weight, or a tensor holds numbers that are not finite.
    """
    declared = declare(base.cfg, trainable, head)
    shardings = weight_shardings(declared, mesh)
    kept = {name: w for name, w in declared.items() if name not in {"adapters", *HEADS}}
    placed = place_base(kept, layer_runs(base.cfg, trainable), base.source, shardings, base.cfg)
    if base.cfg.lora is not None:
        adapters = init_declared(declared["adapters"], jax.random.key(seed))
        placed["adapters"] = jax.tree.map(spread, adapters, shardings["adapters"])
    return partition(placed | place_head(base, mesh, head, seed=seed), trainable)


def place_head(base: Backbone, mesh: Mesh, head: Head, *, seed: int = 0) -> Params:
    """Put what reads rewards on the mesh, as `place_params` does."""
    shardings = weight_shardings(declare_head(base.cfg, head), mesh)
    return jax.tree.map(spread, _heads(base, head, seed), shardings)


def _heads(base: Backbone, head: Head, seed: int) -> Params:
    """Return the backbone's own head, of a sequence classifier say, and draw the one that it lacks."""
    drawn = init_declared(declare_head(base.cfg, head), jax.random.key(seed))
    return {name: base.heads.get(name, weight) for name, weight in drawn.items()}
