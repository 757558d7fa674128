"""The flag --skip-bad: bad records are set aside beside the output, and counted."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from crome_jax.data.quarantine import Quarantine


def add_skip_bad(parser: argparse.ArgumentParser, place: str = "OUT.bad.jsonl") -> None:
    """Declare the flag; `place` says in its help where bad records go."""
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help=f"set bad records aside in {place}, say how many, and go on (default: the first one is an error)",
    )


@contextlib.contextmanager
def set_aside(out: Path, skip_bad: bool) -> Iterator[Quarantine | None]:
    """Yield where bad records go, None where the first is to be an error; in the end say how many there were.

    Args:
        out: the output that their file is put beside, in the place of an earlier run's.
    """
    if not skip_bad:
        yield None
        return
    with Quarantine(out.with_name(f"{out.name}.bad.jsonl"), overwrite=True) as quarantine:
        yield quarantine
    if quarantine.count:
        print(f"{quarantine.count} bad records set aside in {quarantine.path}", file=sys.stderr)
