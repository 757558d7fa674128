"""Who rewrites text: the interface, and the offline editor that implements it without any model."""

from crome_jax.augment.oracles.base import Declined, Direction, Intervention, Oracle, Rewrite
from crome_jax.augment.oracles.offline import OfflineEditor

__all__ = ["Declined", "Direction", "Intervention", "OfflineEditor", "Oracle", "Rewrite"]
