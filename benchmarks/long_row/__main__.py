"""Measure how much memory, and how long, a training step on one long row takes.

  python -m benchmarks.long_row

SmolLM2-135M, every layer run, float32, on the CPU: one step on one row of each length, in a process of its own each.
Needs Linux (memory is read from /proc) and 8 GB of it; hours on two cores, nearly all of them for the longest rows.
With --compile the steps are compiled only, in minutes: the memory is what XLA says that they take.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.pages import make_parser, table
from crome_jax.files import whole_output
from crome_jax.models.execution import Remat
from crome_jax.models.weights import Trainable
from crome_jax.verbs.numbers import at_least

FOLDER = Path(__file__).resolve().parent
PACKAGES = ("crome_jax", "jax", "numpy")
WAYS: tuple[tuple[Trainable, Remat], ...] = ((4, "full"), ("all", "full"))
"""What trains, and what is kept for the gradient: of 32k tokens each layer would keep about 2 GB otherwise."""
WANTED = {32768: 8}
"""GB that a row of so many tokens may take at most."""


def run(argv: Sequence[str]) -> None:
    """Measure all, and write the page."""
    args = _make_parser().parse_args(argv)
    started, load = time.monotonic(), os.getloadavg()[0]
    found = [(tokens, *way, _step(tokens, *way, run=not args.compile)) for way in WAYS for tokens in args.row_tokens]
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": f"`{shlex.join(['python', '-m', 'benchmarks.long_row', *argv])}`",
        "minutes, all of it": f"{(time.monotonic() - started) / 60:.0f}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load when it began": f"{load:.1f} processes waiting or running, others' included",
        "versions": ", ".join((f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES))),
    }
    with whole_output(args.table, overwrite=True) as partial:
        partial.write_text(_render(facts, found), encoding="utf-8")
    print(f"{args.table}: written", file=sys.stderr)


def _step(tokens: int, trainable: Trainable, remat: Remat, *, run: bool = True) -> dict[str, Any]:
    """Take a step in a process of its own, or compile it."""
    print(f"+ step {tokens} {trainable} {remat}", file=sys.stderr)
    command = [sys.executable, "-m", "benchmarks.long_row.step", str(tokens), str(trainable), remat]
    command += [] if run else ["--compile"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment["JAX_PLATFORMS"] = "cpu"
    taken = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=FOLDER.parents[1])
    return json.loads(taken.stdout.splitlines()[-1])


def _render(facts: dict[str, str], found: Sequence[tuple[int, Trainable, Remat, dict[str, Any]]]) -> str:
    parts = [
        "# One long row",
        "One training step of SmolLM2-135M in float32 on one row, every layer run. Written by `python -m "
        "benchmarks.long_row`; what it does is in [README.md](README.md).",
        table(("", ""), facts.items()),
        "The peak is of the whole process, Python, weights and optimizer included; what the step takes beside weights, "
        "optimizer and batch is XLA's own count. Compiling is not among the seconds of the step. Of a step that was "
        "compiled only, the peak is the sum of what the process held before it and XLA's count: a run holds more.",
        table(
            ("tokens of the row", "trains", "remat", "peak, GB", "wanted", "beside the weights, GB", "compiling, s",
             "step, s", "tokens/s"),
            [
                (
                    f"{tokens:,}",
                    "all" if trainable == "all" else f"the last {trainable} layers",
                    remat,
                    f"**{(taken['peak'] + ('step' not in taken) * taken['temporary']) / 1e9:.2f}**",
                    f"below {WANTED[tokens]}" if tokens in WANTED else "",
                    f"{taken['temporary'] / 1e9:.2f}",
                    f"{taken['compiling']:.0f}",
                    *((f"{taken['step']:.0f}", f"{taken['tokens'] / taken['step']:.0f}") if "step" in taken else "––"),
                )
                for tokens, trainable, remat, taken in found
            ],
        ),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("long_row", __doc__)
    add, lengths = parser.add_argument, [8192, 16384, 32768]
    help_ = "tokens of the row (default: 8192 16384 32768)"
    add("--row-tokens", nargs="+", type=at_least(1024), default=lengths, metavar="N", help=help_)
    add("--compile", action="store_true", help="compile the steps, and run none (default: run them)")
    page = FOLDER.with_suffix(".md")
    add("--table", type=Path, default=page, metavar="FILE", help="the page to write (default: benchmarks/long_row.md)")
    return parser


if __name__ == "__main__":
    run(sys.argv[1:])
