"""What JAX is told before it starts in the process of a command, by the variables that it reads when it is imported."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from crome_jax.weights.packages import cache_folder

CACHE = "JAX_COMPILATION_CACHE_DIR"
"""Names the folder in which compiled programs are kept for the next process; given empty, none are kept."""


def set_up_jax(environment: MutableMapping[str, str]) -> None:
    """Have compiled programs kept in the user's cache, unless the environment says where, or nothing can be written.

    Args:
        environment: of this process; changed.
    """
    try:
        folder = cache_folder() / "compiled"
    except RuntimeError:  # Whoever runs in a container may have no home.
        return
    if CACHE not in environment and _may_be_written(folder):
        environment[CACHE] = str(folder)


def _may_be_written(folder: Path) -> bool:
    """Return whether a folder can be made and written to, without making it: JAX does, with the first program."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
