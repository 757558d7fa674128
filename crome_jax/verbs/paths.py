"""Paths on the command line."""

import argparse
from pathlib import Path

from crome_jax.files import is_remote


def local(text: str) -> Path:
    """Read a path of this machine's file system; pathlib would make a folder `gs:` of a bucket's."""
    if is_remote(text):
        raise argparse.ArgumentTypeError(f"{text} is in a bucket; copy it here, or name a folder where it is mounted")
    return Path(text)
