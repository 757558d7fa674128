"""Crome's stage one: from a preference group to a larger one with causal and neutral comparisons."""

from crome_jax.augment.account import Account
from crome_jax.augment.augmentation import augment_groups
from crome_jax.augment.interventions import add_interventions
from crome_jax.augment.neutrals import add_neutrals

__all__ = ["Account", "add_interventions", "add_neutrals", "augment_groups"]
