"""The flags that make one process of several: who the others are, and how long to wait for them."""

import argparse
import contextlib
from collections.abc import Iterator

from crome_jax.errors import CromeError
from crome_jax.verbs.numbers import at_least


def add_distributed(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    group = parser.add_argument_group("several processes", "The same command is started once on every host.")
    group.add_argument(
        "--distributed",
        choices=("none", "tpu", "slurm", "jobset", "flags"),
        default="none",
        help="what says who takes part: the TPU's metadata, SLURM's or a JobSet's environment, or the flags below "
        "(default: %(default)s)",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens, with flags (default: none)")
    group.add_argument(
        "--processes", type=at_least(1), metavar="N", help="how many take part, with flags (default: none)"
    )
    group.add_argument("--process", type=int, metavar="I", help="which one this is, from 0, with flags (default: none)")
    group.add_argument(
        "--heartbeat",
        type=at_least(5),
        default=60,
        metavar="SECONDS",
        help="silence after which a process counts as dead; the others end within twice as long (default: %(default)s)",
    )
    group.add_argument(
        "--patience",
        type=at_least(1),
        default=300,
        metavar="SECONDS",
        help="how long to wait for all to come before ending with status 3; a cluster may start hosts minutes apart "
        "(default: %(default)s)",
    )


@contextlib.contextmanager
def joined(args: argparse.Namespace) -> Iterator[None]:
    """Join the other processes, if there are any, for what the block does."""
    from crome_jax.training.processes import Cluster, ends_with_the_others, join, wait_for_all

    given = (args.coordinator, args.processes, args.process)
    if args.distributed == "none" and any(value is not None for value in given):
        raise CromeError("--coordinator, --processes and --process need --distributed=flags")
    cluster = None
    if args.distributed == "flags" and None not in given:
        cluster = Cluster(*given)
    join(args.distributed, cluster=cluster, heartbeat=args.heartbeat, patience=args.patience)
    with ends_with_the_others():
        yield
        wait_for_all("done")  # Who has nothing more to do would be missed by those who have.
