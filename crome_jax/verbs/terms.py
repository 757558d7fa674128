"""The terms that a backbone comes under, said where it is put to use."""

import sys

from crome_jax.weights.packages import BACKBONES


def say_terms(backbone: str) -> None:
    """Print the terms of a backbone that a package ships."""
    if backbone in BACKBONES:
        print(f"{backbone}: {BACKBONES[backbone].terms}", file=sys.stderr)
