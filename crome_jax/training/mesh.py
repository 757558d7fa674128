"""The device mesh and the one table that says how every array lies on it."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crome_jax.errors import CromeError
from crome_jax.models.attention import IMPLEMENTATIONS, Implementation
from crome_jax.models.execution import REMATS, Execution, Remat
from crome_jax.models.weights import is_weight

Attention = Implementation | Literal["auto"]
"""How training attends; auto goes by the mesh's devices: the kernel on TPU, XLA's products elsewhere."""

AXES = ("data", "fsdp", "tensor")

SHARDING = {
    # logical axis -> mesh axis, and why
    "batch": ("data", "fsdp"),  # rows are independent: both data-like axes share them
    "embed": "fsdp",  # every matrix has this axis once: gathered when used, so a chip stores only its share
    "heads": "tensor",  # heads attend apart from each other: one all-reduce, after the output projection
    "kv_heads": "tensor",  # with the query heads that read them
    "ffn": "tensor",  # element-wise between its two products: one all-reduce, after the second
    "vocab": "tensor",  # looked up, never projected to
    "layer": None,  # scanned over
    "head": None,  # inside one head; splitting it would split every dot product
    "rank": None,  # of adapters, so small that it is not worth a gather
    "norm": None,  # vectors: not worth a gather
}


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lay the devices out as data x fsdp x tensor.

    Args:
        data: -1 takes what the other two leave.

    Raises:
        CromeError: where the sizes do not multiply to the number of devices.
    """
    devices = list(devices or jax.devices())
    sizes = (len(devices) // max(fsdp * tensor, 1) if data == -1 else data, fsdp, tensor)
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        raise CromeError(f"a mesh of data x fsdp x tensor = {sizes} does not use {len(devices)} devices exactly")
    return jax.make_mesh(sizes, AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3, devices=devices)


def weight_shardings(declared: Any, mesh: Mesh) -> Any:
    """Return the sharding of every declared weight, in the declaration's tree.

    Raises:
        CromeError: where an axis does not divide by the mesh axis it lies on, with the sizes that would.
    """

    def one(weight):
        spec = []
        for size, axis in zip(weight.shape, weight.axes, strict=True):
            on = SHARDING[axis]
            if on is not None and size % mesh.shape[on]:
                fits = [n for n in range(1, mesh.shape[on]) if size % n == 0]
                raise CromeError(
                    f"{axis} has {size} entries, not divisible by {on} = {mesh.shape[on]}; use one of {fits}"
                )
            spec.append(on)
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(one, declared, is_leaf=is_weight)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return how rows lie on the mesh: split over the data-like axes, whole otherwise."""
    return NamedSharding(mesh, PartitionSpec(SHARDING["batch"]))


def row_shards(mesh: Mesh) -> int:
    """Return into how many parts the mesh splits rows."""
    return math.prod(mesh.shape[axis] for axis in SHARDING["batch"])


def execution_on(mesh: Mesh, attention: Attention = "auto", remat: Remat = "none") -> Execution:
    """Return how a mesh runs the decoder.

    Raises:
        CromeError: where a name is unknown.
    """
    for name, given, known in (("attention", attention, ("auto", *IMPLEMENTATIONS)), ("remat", remat, REMATS)):
        if given not in known:
            raise CromeError(f"{name} is {given!r}; give one of {', '.join(known)}")
    platform = mesh.devices.flat[0].platform
    if attention == "auto":
        attention = "tpu" if platform == "tpu" else "xla"
    return Execution(attention, remat, 8 if platform == "cpu" else 1, functools.partial(_spread, mesh))


def _spread(mesh: Mesh, function: Callable) -> Callable:
    """Run a function of q, k, v and ids on every device's own rows and heads: none of them needs another's."""
    ids = PartitionSpec(SHARDING["batch"])
    heads = PartitionSpec(SHARDING["batch"], None, SHARDING["heads"])

    def run(q, k, v, *of_tokens):
        specs = (heads, heads, heads, *(ids for _ in of_tokens))
        # The kernel's outputs do not say over which axes they vary.
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=heads, check_vma=False)(q, k, v, *of_tokens)

    return run


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())
