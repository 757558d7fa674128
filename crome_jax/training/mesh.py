"""The device mesh and the one table that says how every array lies on it."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from crome_jax.errors import CromeError
from crome_jax.models.attention import IMPLEMENTATIONS, Implementation
from crome_jax.models.execution import REMATS, Execution, Remat
from crome_jax.models.weights import is_weight

Attention = Implementation | Literal["auto"]
"""How training attends; auto goes by the mesh's devices: the kernel on TPU, XLA's products elsewhere (on a GPU, too:
that kernel has not been tried on one)."""

AXES = ("replica", "data", "fsdp", "tensor")
"""From the slowest network to the fastest: between slices, between hosts, between the chips of a slice."""

SHARDING = {
    # logical axis -> mesh axis, and why
    "batch": ("replica", "data", "fsdp"),  # rows are independent: all axes but tensor share them
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


def make_mesh(
    data: int = -1, fsdp: int = 1, tensor: int = 1, replica: int = 1, devices: Sequence[jax.Device] | int | None = None
) -> Mesh | AbstractMesh:
    """Lay the devices out as replica x data x fsdp x tensor.

    Weights are whole in every replica and over data, so that between slices only gradients travel, once a step. Where
    the devices are of several TPU slices, no axis but replica crosses from one to another.

    Args:
        data: copies of the weights within a slice, which share its rows; -1 takes what the others leave.
        fsdp: parts that every matrix is stored in, gathered when used; they share the rows, too.
        tensor: parts that heads and feed-forward are computed in.
        replica: of several slices, their number or a multiple of it.
        devices: None takes all that JAX sees; a number stands for as many that are not there: the mesh is abstract.

    Raises:
        CromeError: where the sizes do not multiply to the number of devices, or fsdp or tensor would cross slices;
            naming sizes that do.
    """
    if not isinstance(devices, int):
        devices = list(devices or jax.devices())
    n = devices if isinstance(devices, int) else len(devices)
    others = replica * fsdp * tensor
    sizes = (replica, n // max(others, 1) if data == -1 else data, fsdp, tensor)
    if min(sizes) < 1 or math.prod(sizes) != n:
        fits = ", ".join(str(size) for size in divisors(n))
        raise CromeError(
            f"a mesh of {' x '.join(AXES)} = {sizes} does not use {n} devices exactly; give sizes whose product is "
            f"{n} (each one of {fits}), or leave make_mesh.data at -1 and the product of the others at one of {fits}"
        )
    auto = (jax.sharding.AxisType.Auto,) * len(AXES)
    if isinstance(devices, int):
        return AbstractMesh(sizes, AXES, axis_types=auto)
    # The devices of a topology that is not there may lie in one slice without a number.
    slices = len({getattr(device, "slice_index", 0) for device in devices}) if devices[0].platform == "tpu" else 1
    if slices == 1:
        return jax.make_mesh(sizes, AXES, axis_types=auto, devices=devices)
    if replica % slices:
        raise CromeError(
            f"make_mesh.replica is {replica}, but the devices are of {slices} slices, between which only replicas are "
            f"to talk; use one of {[size for size in divisors(n) if size % slices == 0]}"
        )
    within = (replica // slices, *sizes[1:])
    laid_out = mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1, 1), devices, allow_split_physical_axes=True)
    return Mesh(laid_out, AXES, axis_types=auto)


def weight_shardings(declared: Any, mesh: Mesh | AbstractMesh) -> Any:
    """Return the sharding of every declared weight, in the declaration's tree.

    Raises:
        CromeError: where an axis does not divide by the mesh axis it lies on, with the sizes of that which every weight
            divides by and the devices do, too.
    """
    leaves = jax.tree.leaves(declared, is_leaf=is_weight)
    lying = {axis: [] for axis in AXES}  # mesh axis -> the sizes of what lies on it
    for weight in leaves:
        for size, axis in zip(weight.shape, weight.axes, strict=True):
            if SHARDING[axis] is not None:
                lying[SHARDING[axis]].append(size)

    def one(weight):
        spec = []
        for size, axis in zip(weight.shape, weight.axes, strict=True):
            on = SHARDING[axis]
            if on is not None and size % mesh.shape[on]:
                fits = divisors(math.gcd(mesh.size, *lying[on]))
                raise CromeError(
                    f"{axis} has {size} entries, not divisible by {on} = {mesh.shape[on]}; use one of {fits}"
                )
            spec.append(on)
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(one, declared, is_leaf=is_weight)


def spread(array: Any, sharding: NamedSharding) -> jax.Array:
    """Put an array, the same on every process, on the mesh; each process gives its own devices their parts."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return how rows lie on the mesh: split over the data-like axes, whole otherwise."""
    return NamedSharding(mesh, PartitionSpec(SHARDING["batch"]))


def row_shards(mesh: Mesh | AbstractMesh) -> int:
    """Return into how many parts the mesh splits rows."""
    return math.prod(mesh.shape[axis] for axis in SHARDING["batch"])


def execution_on(
    mesh: Mesh, attention: Attention = "auto", remat: Remat = "none", *, gradient: bool = True
) -> Execution:
    """Return how a mesh runs the decoder.

    Args:
        gradient: whether one is taken.

    Raises:
        CromeError: where a name is unknown, or a kernel is not for the mesh's devices.
    """
    for name, given, known in (("attention", attention, ("auto", *IMPLEMENTATIONS)), ("remat", remat, REMATS)):
        if given not in known:
            raise CromeError(f"{name} is {given!r}; give one of {', '.join(known)}")
    platform = mesh.devices.flat[0].platform
    if attention == "auto":
        alone = platform == "cpu" and mesh.size == 1 and not gradient
        attention = "tpu" if platform == "tpu" else "cpu" if alone else "xla"
    if attention == "tpu" != platform:
        raise CromeError(
            f"attention is 'tpu', but the devices are {platform}, for which that kernel does not compile; give 'auto' "
            "or 'xla'"
        )
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


def rows_of_process(mesh: Mesh, rows: int) -> np.ndarray:
    """Return which of a step's rows this process's devices hold, in order; all of them where there is one process.

    Two processes hold the same rows where a tensor axis reaches over both.

    Raises:
        CromeError: where the rows do not divide over the mesh.
    """
    shards = row_shards(mesh)
    if rows % shards:
        raise CromeError(
            f"{rows} rows do not divide over replica x data x fsdp = {shards} devices; take a multiple of {shards}"
        )
    places = batch_sharding(mesh).addressable_devices_indices_map((rows,)).values()
    return np.unique(np.concatenate([np.arange(rows)[place] for place in places]))


def check_parts(mesh: Mesh | AbstractMesh, rows: int, micro_batches: int) -> None:
    """Check that a step's rows give every device an equal share of each micro-batch.

    Raises:
        CromeError: where they do not, naming what does, with these rows too: a run that goes on keeps them.
    """
    shards = row_shards(mesh)
    if rows % (shards * micro_batches) == 0:
        return
    fits = []
    if rows % shards == 0:
        fits.append(f"micro_batches at one of {divisors(rows // shards)}")
    if rows % micro_batches == 0:
        at_once = rows // micro_batches
        sizes = [size for size in divisors(mesh.size) if at_once % (mesh.size // size) == 0]
        fewer = max(parts for parts in divisors(at_once) if parts < shards)
        fits += [f"make_mesh.tensor at one of {sizes}", f"{fewer * mesh.shape['tensor']} devices"]
    instead = f"; with these rows, which a run that goes on keeps, {', or '.join(fits)}" if fits else ""
    raise CromeError(
        f"rows_per_step is {rows}, in {micro_batches} micro-batches over replica x data x fsdp = {shards} devices; "
        f"take a multiple of {shards * micro_batches}{instead}"
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def divisors(n: int) -> list[int]:
    """Return the numbers that divide n, from 1 to n."""
    return [size for size in range(1, n + 1) if n % size == 0]
