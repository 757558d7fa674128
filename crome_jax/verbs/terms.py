"""The terms that a backbone comes under, said where it is put to use."""

import sys

from crome_jax.weights.packages import BACKBONES


def say_terms(backbone: str) -> None:
    """Print the terms of a backbone that a package ships, or of the one that a run was trained from."""
    from crome_jax.weights.backbones import original_backbone

    backbone = original_backbone(backbone)
    if backbone in BACKBONES:
        print(f"{backbone}: {BACKBONES[backbone].terms}", file=sys.stderr)
