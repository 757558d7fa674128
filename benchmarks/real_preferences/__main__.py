"""Train Bradley-Terry and Crome on AlpacaEval's comparisons, and measure both on LLMBar, RewardBench and RM-Bench.

  python -m benchmarks.real_preferences

In AlpacaEval the longer answer wins 85% of the time; the other data sets ask whether that was learned instead of
quality. Takes a sample unless --full is given, runs `crome augment` and `crome study` on it, and writes the table,
whatever it says. Any value of gin/runs/real_preferences.gin can be overridden: --gin.STEPS=200.
"""

import argparse
import datetime
import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.pages import make_parser
from benchmarks.real_preferences.page import measure_length, render
from benchmarks.real_preferences.sampling import (
    FULL,
    TRAINING,
    VALIDATION,
    Sample,
    check_data,
    count_alone,
    prepare,
    read_file,
    steps_of_a_pass,
)
from crome_jax.cli import main as crome_main
from crome_jax.configuration import configure
from crome_jax.data.readers import read_groups
from crome_jax.data.writers import write_groups
from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.training.study import study
from crome_jax.verbs.gin_flags import Binding, add_gin_flags, split_bindings
from crome_jax.verbs.numbers import at_least
from crome_jax.weights.backbones import load_backbone

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
GIN = "gin/runs/real_preferences.gin"
PACKAGES = ("crome_jax", "jax", "optax", "numpy")


def run(argv: Sequence[str]) -> None:
    """Prepare, augment, study, and write the page.

    Raises:
        CromeError: where the data folder or a file of it is absent, or a verb's configuration is wrong.
        SystemExit: where a verb has told what is wrong.
    """
    started = time.monotonic()
    arguments, bindings = split_bindings(argv)
    args = _make_parser().parse_args(arguments)
    sample = FULL if args.full else Sample(prompts=args.prompts, held_out=args.held_out, pairs=args.pairs)
    check_data(args.data)
    paths = {"DATA": args.work / "data", "GROUPS": args.work / "groups.jsonl", "OUT": args.work}
    own = [Binding("SEED", str(args.seed)), *(Binding(name, repr(str(path))) for name, path in paths.items())]
    bindings = [*bindings, *own]
    files = [GIN, *args.gin_file]
    configured = configure(study, files, bindings).keywords
    tokenizer = load_backbone(configured["backbone"], "head", configured["layers"]).tokenizer
    shape = configured["row_shape"]
    splits, account = prepare(lambda name: read_file(args.data, name, tokenizer, shape), sample, args.seed)
    training = splits.pop(TRAINING)
    for name, groups in splits.items():
        write_groups(paths["DATA"] / f"{name}.jsonl", groups, overwrite=True)
    write_groups(args.work / "train.jsonl", training, overwrite=True)
    _crome(
        *("augment", "--data", args.work / "train.jsonl", "--out", paths["GROUPS"], "--max-pairs-per-group", 2),
        *("--degrade-per-pair", 1, "--upgrade-per-pair", 1, "--seed", args.seed, "--overwrite"),
    )
    if sample.once and {"STEPS", "study.steps"}.isdisjoint(binding.name for binding in bindings):
        groups = list(read_groups(paths["GROUPS"]))
        steps = steps_of_a_pass(groups, tokenizer, shape, configured["rows_per_step"])
        bindings.append(Binding("STEPS", str(steps)))
        configured = configure(study, files, bindings).keywords
    _crome(
        "study",
        *(f"--gin_file={file}" for file in files),
        *(f"--gin.{binding.name}={binding.value}" for binding in bindings),
    )
    figures = json.loads((args.work / "report.json").read_text())
    del splits[VALIDATION]  # It chose the learning rates: no figure of it goes into the page.
    alone = {name: count_alone(groups, tokenizer, shape) for name, groups in splits.items()}
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": f"`{shlex.join(['python', '-m', 'benchmarks.real_preferences', *argv])}`",
        "minutes, all of it": f"{(time.monotonic() - started) / 60:.1f}",
        "peak memory": f"{figures['facts']['run']['peak memory, GB']} GB",
        "machine": f"{_processor()}, {figures['facts']['run']['machine']}",
        "versions": ", ".join([f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES)]),
        "backbone": figures["facts"]["run"]["backbone"],
        "steps of each trial": str(configured["steps"]),
        "training data": figures["facts"]["run"]["data fingerprint"],
    }
    with whole_output(args.table, overwrite=True) as partial:
        partial.write_text(render(figures, measure_length(splits), alone, account, facts))
    print(f"table: {args.table}")


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("real_preferences", __doc__)
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        metavar="DIR",
        help="folder with train/ and eval/ (default: ../shared/data beside the repository)",
    )
    add(
        "--work",
        type=Path,
        default=ROOT / "runs" / "real_preferences",
        metavar="DIR",
        help="where data, runs and report go (default: runs/real_preferences)",
    )
    add(
        "--table",
        type=Path,
        default=FOLDER.with_suffix(".md"),
        metavar="FILE",
        help="the page to write (default: benchmarks/real_preferences.md)",
    )
    add(
        "--prompts",
        type=at_least(1),
        default=Sample.prompts,
        metavar="N",
        help="training prompts, at most (default: %(default)s)",
    )
    add(
        "--held-out",
        type=at_least(1),
        default=Sample.held_out,
        metavar="N",
        help="prompts to choose learning rates by, and as many more to be measured (default: %(default)s)",
    )
    add(
        "--pairs",
        type=at_least(1),
        default=Sample.pairs,
        metavar="N",
        help="pairs of each evaluation file but LLMBar's and RM-Bench's, which are taken whole (default: %(default)s)",
    )
    add(
        "--full",
        action="store_true",
        help="take all of the data, and the steps with which Crome sees it once, about 1,030: hours, and 20 GB of "
        "temporary files (default: a sample)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of every draw (default: %(default)s)")
    add_gin_flags(parser)
    return parser


def _crome(*arguments: Any) -> None:
    """Run a verb as the command line does."""
    argv = [str(argument) for argument in arguments]
    print(f"+ crome {shlex.join(argv)}", file=sys.stderr)
    status = crome_main(argv)
    if status:
        raise SystemExit(status)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # Not Linux.
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except CromeError as error:
        print(f"real_preferences: error: {error}", file=sys.stderr)
        sys.exit(2)
