"""Frozen matrices read onto the mesh in eight or four bits, a layer at a time."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from crome_jax.models.config import DecoderConfig
from crome_jax.models.quantized import Quantized, is_quantized, quantize, scales_shape
from crome_jax.models.weights import Params, Weight
from crome_jax.weights.sources import Source, place


def place_base(
    weights: Mapping[str, Any],
    runs: Mapping[str, range],
    source: Source,
    shardings: Mapping[str, Any],
    cfg: DecoderConfig,
) -> Params:
    """Read weights onto the mesh as `sources.place` does, and those that cfg.lora.base says in few bits.

    Of these one layer's matrix is held in float32 at a time. What is rounded is the whole matrix, however it is laid
    out: a block has one scale on every mesh.

    Args:
        weights, runs, source, shardings: as of `sources.place`.
        cfg: with the adapters.
    """
    coded = {run: [name for name in weights[run] if is_quantized(name, cfg)] for run in runs}
    plain = {
        key: {name: w for name, w in tree.items() if name not in coded[key]} if key in runs else tree
        for key, tree in weights.items()
    }
    same = {
        key: {name: shardings[key][name] for name in plain[key]} if key in runs else shardings[key] for key in plain
    }
    placed = place(plain, runs, source, same)
    for run, layers in runs.items():
        for name in coded[run]:
            placed[run][name] = _code(name, weights[run][name], layers, source, shardings[run][name], cfg)
    return placed


def _code(
    name: str, weight: Weight, layers: range, source: Source, sharding: NamedSharding, cfg: DecoderConfig
) -> Quantized:
    one = dataclasses.replace(weight, shape=(1, *weight.shape[1:]))
    lies = Quantized(sharding, _scales_sharding(name, one.shape, sharding), cfg.lora.base)
    code = jax.jit(functools.partial(quantize, name=name, base=cfg.lora.base), out_shardings=lies)
    parts = []
    for layer in layers:
        read = place({"one": {name: one}}, {"one": range(layer, layer + 1)}, source, {"one": {name: sharding}})
        # Waited for: what is read next would lie beside this one in float32.
        parts.append(jax.block_until_ready(code(read["one"][name])))
    stack = jax.jit(lambda *parts: jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts), out_shardings=lies)
    return stack(*parts)


def _scales_sharding(name: str, shape: tuple[int, ...], sharding: NamedSharding) -> NamedSharding:
    """Return how scales lie: as the matrix, but whole along an axis whose blocks the mesh does not divide."""
    mesh = sharding.mesh
    axes = [
        axis if axis is not None and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(sharding.spec, scales_shape(name, shape), strict=True)
    ]
    return NamedSharding(mesh, PartitionSpec(*axes))
