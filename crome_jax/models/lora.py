"""Low-rank adapters beside frozen matrices (LoRA, arXiv 2106.09685): declared, applied, merged."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from crome_jax.models.config import DecoderConfig, Lora
from crome_jax.models.precision import multiply
from crome_jax.models.quantized import Layer, dequantized
from crome_jax.models.weights import Params


def has_adapter(weights: Layer, name: str) -> bool:
    """Return whether a layer's weights have an adapter beside the matrix `name`."""
    return f"{name}_a" in weights


def adapt(
    weights: Layer, name: str, x: Float[Array, "N I"], lora: Lora, dtype: jax.typing.DTypeLike
) -> Float[Array, "N O"]:
    """Return what the adapter beside a matrix adds to its product: (alpha / rank) B A dropout(x).

    Args:
        weights: of one layer; `<name>_a` [*I, r], `<name>_b` [r, *O] and, in training with dropout, `dropout_key`.
        x: what enters the matrix.
        dtype: of the products.
    """
    a, b = weights[f"{name}_a"], weights[f"{name}_b"]
    if "dropout_key" in weights:
        # A mask of its own for each adapter, as PEFT draws them.
        key = jax.random.fold_in(weights["dropout_key"], lora.targets.index(name))
        kept = jax.random.bernoulli(key, 1.0 - lora.dropout, x.shape)
        x = jnp.where(kept, x / (1.0 - lora.dropout), 0).astype(x.dtype)
    within = multiply(x, a.reshape(-1, lora.rank).astype(dtype))
    return jnp.asarray(lora.scale, dtype) * multiply(within, b.reshape(lora.rank, -1).astype(dtype))


def with_adapters(params: Params, run: str, cfg: DecoderConfig, key: jax.Array | None = None) -> Layer:
    """Return a run's weights with the adapters beside them, and a key for each of its layers where masks are drawn.

    Args:
        run: "lower", "upper" or "last"; the first has no adapters.
        key: in training with dropout; None elsewhere.
    """
    adapters = params.get("adapters", {}).get(run)
    if adapters is None:
        return params[run]
    layers = params[run] | adapters
    if key is not None and cfg.lora.dropout > 0:
        keys = jax.random.split(jax.random.fold_in(key, ("upper", "last").index(run)), layers["q"].shape[0])
        layers["dropout_key"] = keys
    return layers


def merge(params: Params, cfg: DecoderConfig) -> tuple[Params, DecoderConfig]:
    """Add adapters to the matrices they are beside; returns weights and numbers of a decoder without any.

    Of a base in few bits all matrices are read back: what was trained is what they then are.
    """
    if cfg.lora is None:
        return params, cfg
    merged = {name: value for name, value in params.items() if name != "adapters"}
    for run in sorted({"lower", "upper", "last"} & merged.keys()):
        adapters = params["adapters"].get(run)
        added = {} if adapters is None else {name: product(adapters, name, cfg.lora) for name in cfg.lora.targets}
        whole = dequantized(params[run])
        merged[run] = {name: w + added[name] if name in added else w for name, w in whole.items()}
    return merged, dataclasses.replace(cfg, lora=None)


def product(adapters: dict[str, Array], name: str, lora: Lora) -> Float[Array, "n *IO"]:
    """Return (alpha / rank) A B of stacked layers, in float32, shaped as the matrices are."""
    a, b = adapters[f"{name}_a"], adapters[f"{name}_b"]
    n, inputs = a.shape[0], math.prod(a.shape[1:-1])
    flat = multiply(a.reshape(n, inputs, lora.rank), b.reshape(n, lora.rank, -1))
    return lora.scale * flat.reshape(*a.shape[:-1], *b.shape[2:])
