"""Train a reward model on groups or preference records; the same command again resumes a run that was cut off.

  crome train --gin_file=gin/runs/crome.gin --gin.DATA="'groups/'" --gin.OUT="'runs/x'"

Macros of gin/runs/crome.gin and gin/runs/bradley_terry.gin, with defaults:
  DATA             groups or preference records: TFDS folder, .jsonl, .jsonl.gz, .parquet (required)
  OUT              folder of the run ('runs/crome', 'runs/bradley_terry')
  BACKBONE         'smollm2-135m', 'gemma3-270m', 'tiny', a Hugging Face folder or a .gguf file ('smollm2-135m')
  TRAINABLE        'all', 'head', or how many upper layers train (4)
  ROW_TOKENS       tokens of a packed row (1024)
  ROWS_PER_STEP    packed rows of an optimizer step (8)
  STEPS            optimizer steps (500)
  LEARNING_RATE    at the peak of the schedule (1e-4)
  SEED             of the data order (0)
Any other argument of train, adamw, Method, RowShape, make_mesh or an objective: --gin.train.dtype="'bfloat16'".
The live line tells loss and accuracy by kind of comparison; on a narrow terminal H, C and N stand for human, causal and
neutral. Of ties, N as a rule, it is the mean distance of their rewards, in nats.
Each method has a run file in gin/runs/: odin, mmd, mmd_conditional, rrm, davidson, rao_kupper, plackett_luce, ...
"""

import argparse
import time

from crome_jax.verbs.distributed import add_distributed, joined
from crome_jax.verbs.gin_flags import Binding, add_gin_flags
from crome_jax.verbs.numbers import at_least
from crome_jax.verbs.skip_bad import add_skip_bad
from crome_jax.verbs.stdout import say
from crome_jax.verbs.terms import say_terms


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_gin_flags(parser)
    add_skip_bad(parser)
    add_distributed(parser)
    parser.add_argument(
        "--replay",
        type=at_least(1),
        metavar="STEP",
        help="train nothing: print loss and gradient of this step's batch, whole and row by row, with its records "
        "(default: train)",
    )


def run(args: argparse.Namespace) -> None:
    """Train as configured."""
    launched = time.monotonic()  # What is imported below takes seconds.
    from crome_jax.configuration import configure
    from crome_jax.training.processes import is_first
    from crome_jax.training.train import train

    flags = [Binding("train.skip_bad", "True")] if args.skip_bad else []
    if args.replay is not None:
        flags.append(Binding("train.replay", str(args.replay)))
    configured = configure(train, args.gin_file, [*args.bindings, *flags], allow_imports=args.allow_gin_imports)
    say_terms(configured.keywords["backbone"])
    with joined(args):
        throughput = configured(launched=launched)
    if throughput is not None and is_first():
        rates = f"{throughput.tokens / throughput.seconds:,.0f} tokens/s, {throughput.pairs / throughput.seconds:.1f}"
        say(f"{configured.keywords['out']}: trained at {rates} pairs/s")
