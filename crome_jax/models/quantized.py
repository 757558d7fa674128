"""Frozen matrices in eight or four bits, under adapters that train (QLoRA, Dettmers et al. 2023, arXiv 2305.14314).

qwix makes the codes and reads them back; the rest of it, which replaces operations inside flax modules, has nothing to
replace in pure functions.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from crome_jax.models.config import LORA_TARGETS, Base, DecoderConfig
from crome_jax.models.precision import multiply

BLOCK = 64
"""Inputs that share a scale, as in QLoRA; the largest divisor below where they do not divide by it."""


@struct.dataclass
class Quantized:
    """A matrix, or several stacked, as a code for each number and a scale for each block of inputs of an output.

    Args:
        codes: array of int8, or of uint4 that count NF4's sixteen levels; shaped as the matrix is.
        scales: array of float32; the axis that is cut into blocks has one for each block.
        base: which code.
    """

    codes: Any  # As leaves of a tree they may be shapes or shardings, too.
    scales: Any
    base: Base = struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix."""
        return self.codes.shape


Layer = dict[str, Array | Quantized]
"""The weights of one layer, or of several stacked, by name."""


def is_quantized(name: str, cfg: DecoderConfig) -> bool:
    """Return whether a weight of a layer is kept in few bits: its matrices, where the adapters' base is."""
    return cfg.lora is not None and cfg.lora.base != "float32" and name in LORA_TARGETS


def blocked_axis(name: str) -> int:
    """Return which axis of a stacked matrix is cut into blocks: the last that is summed over."""
    return 2 if name == "o" else 1


def block_of(inputs: int) -> int:
    """Return how many inputs share a scale: the largest divisor of their number up to BLOCK."""
    return next(size for size in range(min(BLOCK, inputs), 0, -1) if inputs % size == 0)


def scales_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the scales of a stacked matrix."""
    at = blocked_axis(name)
    return (*shape[:at], shape[at] // block_of(shape[at]), *shape[at + 1 :])


def quantize(matrix: Float[Array, "n *IO"], name: str, base: Base) -> Quantized:
    """Round stacked matrices to the nearest code, each block by its largest number.

    Args:
        matrix: in float32.
        name: of the weight, such as "q".
        base: "int8" or "nf4".
    """
    import qwix  # Here: a second to import, and most runs never need it.

    at = blocked_axis(name)
    found = qwix.quantize(
        matrix,
        jnp.int8 if base == "int8" else base,
        channelwise_axes=[axis for axis in range(matrix.ndim) if axis != at],
        tiled_axes={at: block_of(matrix.shape[at])},
    )
    return Quantized(found.qvalue, found.scale, base)


def dequantize(matrix: Array | Quantized) -> Array:
    """Return a matrix in float32; one that is no code as it is."""
    if not isinstance(matrix, Quantized):
        return matrix
    import qwix

    qtype = matrix.base if matrix.base == "nf4" else matrix.codes.dtype
    return qwix.dequantize(qwix.QArray(matrix.codes, matrix.scales, None, qtype))


def dequantized(layers: Layer) -> dict[str, Array]:
    """Return a run's layers with every matrix in float32."""
    return {name: dequantize(weight) for name, weight in layers.items()}


@jax.custom_vjp
def times(x: Float[Array, "N I"], matrix: Quantized) -> Float[Array, "N O"]:
    """Multiply by a frozen matrix, which is read back when it is used: forward, and once more for the gradient of x.

    Differentiated without this rule, what was read back would be kept from one to the other: the whole model again.
    """
    return multiply(x, _as_matrix(x.shape[1], matrix, x.dtype))


def _forward(x: Float[Array, "N I"], matrix: Quantized) -> tuple[Float[Array, "N O"], Quantized]:
    return times(x, matrix), matrix


def _backward(matrix: Quantized, change: Float[Array, "N O"]) -> tuple[Float[Array, "N I"], Any]:
    outputs = change.shape[1]
    inputs = matrix.codes.size // outputs
    return multiply(change, _as_matrix(inputs, matrix, change.dtype).T), None  # None: a frozen matrix has no gradient.


times.defvjp(_forward, _backward)


def _as_matrix(inputs: int, matrix: Quantized, dtype: DTypeLike) -> Float[Array, "I O"]:
    return dequantize(matrix).reshape(inputs, -1).astype(dtype)
