"""The flag --skip-bad: bad records are set aside beside the output, and counted."""

import argparse
import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from crome_jax.data.quarantine import Quarantine, list_beside
from crome_jax.files import unwritable


def add_skip_bad(parser: argparse.ArgumentParser, place: str = "OUT.bad.jsonl") -> None:
    """Declare the flag; `place` says in its help where bad records go."""
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help=f"set bad records aside in {place}, say how many, and go on (default: the first one is an error)",
    )


@contextlib.contextmanager
def set_aside(out: Path, skip_bad: bool, *, inputs: Iterable[Path], overwrite: bool) -> Iterator[Quarantine | None]:
    """Yield where bad records go, None where the first is to be an error; in the end say how many there were.

    Args:
        out: the output that their list is put beside.
        inputs: what the verb reads.
        overwrite: whether the list of an earlier run is replaced (and removed, where this run has no bad record).

    Raises:
        CromeError: where another file is in the list's place.
    """
    if not skip_bad:
        yield None
        return
    fix = "move it away or pass --overwrite"  # Where it is not replaced, there is such a flag.
    with Quarantine(list_beside(out), overwrite=overwrite, inputs=inputs, fix=fix) as quarantine:
        quarantine.check_place()
        yield quarantine
    if quarantine.count:
        print(f"{quarantine.count} bad records set aside in {quarantine.path}", file=sys.stderr)
    elif overwrite:
        try:
            quarantine.path.unlink(missing_ok=True)
        except OSError as e:
            raise unwritable(quarantine.path, e) from None
