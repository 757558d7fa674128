"""Rotary positions (RoPE, arXiv 2104.09864), and how some families stretch them over longer texts."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from crome_jax.models.config import DecoderConfig, LayerKind


def rope_frequencies(cfg: DecoderConfig, kind: LayerKind) -> Float[np.ndarray, "half"]:
    """Return by how many radians each pair of a head's numbers turns from one token to the next.

    In NumPy's float32, step by step as other implementations compute it: far into a text a last bit of a frequency is
    a visible angle, and XLA's power is some bits off.
    """
    base = cfg.rope_base if kind == "global" else cfg.local_rope_base
    frequencies = 1.0 / np.float32(base) ** (np.arange(0, cfg.head_width, 2, dtype=np.float32) / cfg.head_width)
    if kind == "global" and cfg.rope_factor != 1.0:
        frequencies = _stretch(frequencies, cfg)
    return frequencies.astype(np.float32)


def _stretch(frequencies: Float[np.ndarray, "half"], cfg: DecoderConfig) -> Float[np.ndarray, "half"]:
    """Slow frequencies down: all of them (linear), or the more the fewer times they turn in the trained length.

    The second is Llama 3.1's: those that turn fewer than `rope_low_turns` times are slowed by the whole factor, those
    that turn more than `rope_high_turns` times not at all, those between in proportion.
    """
    slowed = frequencies / np.float32(cfg.rope_factor)
    if cfg.rope_trained is None:
        return slowed
    turns = np.float32(cfg.rope_trained) * frequencies / np.float32(2 * math.pi)
    kept = np.clip((turns - cfg.rope_low_turns) / (cfg.rope_high_turns - cfg.rope_low_turns), 0.0, 1.0)
    return (1.0 - kept) * slowed + kept * frequencies


def rope_angles(positions: Int[Array, "B T"], frequencies: Float[np.ndarray, "half"]) -> Float[Array, "2 B T half"]:
    """Return cosines and sines of the angles by which half a head's width is rotated."""
    angles = positions[:, :, None].astype(jnp.float32) * frequencies[None, None, :]
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)])


def rotate(x: Float[Array, "B T H E"], angles: Float[Array, "2 B T half"]) -> Float[Array, "B T H E"]:
    """Rotate the halves of each head by angles that grow with position, in float32.

    Args:
        angles: from rope_angles.
    """
    cos, sin = angles[:, :, :, None]
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
