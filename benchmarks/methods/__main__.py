"""Every method on the causal testbed, three seeds each: one table and one figure, with intervals.

  python -m benchmarks.methods

Writes the testbed, augments it (Crome's comparisons, and RRM's permutations beside them), runs gin/sweeps/methods.gin
over it, a job for each method and seed, and writes benchmarks/methods.md and benchmarks/methods.png, whatever they say.
The same command again does what is missing only. Any value of the gin file can be overridden: --gin.study.steps=50.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.methods.page import draw, render
from crome_jax.cli import main as crome_main
from crome_jax.errors import CromeError
from crome_jax.evaluation.plots import to_png
from crome_jax.files import whole_output
from crome_jax.verbs.gin_flags import Binding, add_gin_flags, split_bindings
from crome_jax.verbs.numbers import at_least

FOLDER = Path(__file__).resolve().parent
GIN = "gin/sweeps/methods.gin"


def run(argv: Sequence[str]) -> None:
    """Write the data where they are not there yet, sweep, and write table and figure.

    Raises:
        SystemExit: where a verb has told what is wrong.
        CromeError: where an output cannot be written.
    """
    arguments, bindings = split_bindings(argv)
    args = _make_parser().parse_args(arguments)
    # Named after what they hold: another size is another data set, and the old one is not taken for it.
    sizes = f"{args.train}_{args.validation}_{args.test}"
    testbed, groups = args.work / f"testbed_{sizes}", args.work / f"groups_{sizes}"
    if not testbed.exists():
        _crome(
            *("testbed", "--out", testbed, "--train", args.train),
            *("--validation", args.validation, "--test", args.test),
        )
    if not groups.exists():
        _crome(
            *("augment", "--data", testbed, "--split", "train", "--out", groups, "--degrade-per-pair", 1),
            *("--upgrade-per-pair", 1, "--neutrals-per-group", 1, "--permutations", 2),
        )
    out = args.work / "sweep"
    own = [Binding(name, repr(str(path))) for name, path in (("DATA", testbed), ("GROUPS", groups), ("OUT", out))]
    _crome(
        "sweep",
        *(f"--gin_file={file}" for file in (GIN, *args.gin_file)),
        *(f"--gin.{name}={value}" for name, value in [*bindings, *own]),
        *("--jobs", args.jobs, "--ensemble", "mean", "worst"),
    )
    rankings = json.loads((out / "ranking.json").read_text())
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": f"`{shlex.join(['python', '-m', 'benchmarks.methods', *argv])}`",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": ", ".join(f"{package} {version(package)}" for package in ("crome_jax", "jax", "optax", "numpy")),
        "pairs": f"{args.train} to train on, {args.validation} to search with, {args.test} a test split",
    }
    figure = args.table.with_suffix(".png")
    with whole_output(figure, overwrite=True) as partial:
        partial.write_bytes(to_png(draw(rankings)))
    with whole_output(args.table, overwrite=True) as partial:
        partial.write_text(render(rankings, facts, figure.name))
    print(f"table: {args.table}\nfigure: {figure}")


def _make_parser() -> argparse.ArgumentParser:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.methods",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    work = FOLDER.parents[1] / "runs" / "methods"
    add("--work", type=Path, default=work, metavar="DIR", help="where data and jobs go (default: runs/methods)")
    add(
        "--table",
        type=Path,
        default=FOLDER.with_suffix(".md"),
        metavar="FILE",
        help="the page to write, and beside it the figure, .png (default: benchmarks/methods.md)",
    )
    for name, default in (("train", 360), ("validation", 80), ("test", 200)):
        whom = "of each test split" if name == "test" else f"of the split {name}"
        add(f"--{name}", type=at_least(2), default=default, metavar="N", help=f"pairs {whom} (default: %(default)s)")
    add("--jobs", type=at_least(1), default=1, metavar="N", help="jobs side by side (default: %(default)s)")
    add_gin_flags(parser)
    return parser


def _crome(*arguments: Any) -> None:
    """Run a verb as the command line does."""
    argv = [str(argument) for argument in arguments]
    print(f"+ crome {shlex.join(argv)}", file=sys.stderr)
    status = crome_main(argv)
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except CromeError as error:
        print(f"methods: error: {error}", file=sys.stderr)
        sys.exit(2)
