"""How exact a matrix product is: as exact as its dtype, on every device."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def precision_of(dtype: DTypeLike) -> jax.lax.Precision | None:
    """Return the precision of a product of such numbers: float32 is multiplied as float32.

    Left to itself XLA rounds it first, to TF32 on a GPU and to bfloat16 on a TPU: rewards would differ from others' by
    a hundred times what they do on a CPU. Who wants that speed asks for bfloat16.
    """
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None


def multiply(a: Float[Array, "*N I"], b: Float[Array, "*M O"], out: DTypeLike | None = None) -> Float[Array, "*N O"]:
    """Multiply matrices, batched as jnp.matmul does, as exactly as their dtype is.

    Args:
        out: dtype of what is added up and returned; None for that of the inputs.
    """
    return jnp.matmul(a, b, precision=precision_of(a.dtype), preferred_element_type=out)
