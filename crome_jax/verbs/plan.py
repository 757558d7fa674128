"""Compile the training step for TPU chips that are not there: memory, FLOP, collectives, step time, cost.

  crome plan --gin_file=gin/plans/gemma2_9b_v5e_64.gin --gin.plan.dollars_per_chip_hour=1.2

Needs libtpu (./launch/setup.sh plan) and no TPU. The exit status is 1 where the step does not fit; the smallest
change with which it does (remat, micro-batches, mesh) is then looked for, a compilation for each that is tried.
Any argument of plan, make_mesh, RowShape, adamw, Method or an objective: --gin.make_mesh.fsdp=32
"""

import argparse
import json
import sys

from crome_jax.verbs.gin_flags import add_gin_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_gin_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Plan as configured, and print the figures as JSON."""
    from crome_jax.configuration import configure
    from crome_jax.training.plan import plan

    configured = configure(plan, args.gin_file, args.bindings, allow_imports=args.allow_gin_imports)
    made = configured(on_progress=lambda line: print(line, file=sys.stderr))
    print(json.dumps(dict(made.figures), indent=1))
    return 0 if made.fits else 1
