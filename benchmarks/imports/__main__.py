"""Measure what it takes to import backbones: time and memory to the first reward, streaming, parity.

  python -m benchmarks.imports

Each backbone is imported three times in processes of their own, without a compilation cache; the fastest counts, as
others on the machine only slow one down; of their memory the most. A checkpoint of 2.4 GB in the shape of
Qwen3-0.6B is generated for it and removed after. Hidden states and rewards are compared with those of transformers,
which the test extra installs. Needs Linux, 5 GB of memory and 3 GB of disk; takes some minutes.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.imports.checkpoint import write_checkpoint
from benchmarks.imports.exported import Apart, compare_exported
from benchmarks.imports.parity import Parity, compare, compare_classifier, random_classifier
from benchmarks.pages import make_parser, table
from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.weights.folder_configs import CLASSIFIERS
from crome_jax.weights.packages import BACKBONES, find_backbone

FOLDER = Path(__file__).resolve().parent
PACKAGES = ("crome_jax", "jax", "numpy", "gguf", "safetensors", "transformers", "torch")
GENERATED = "Qwen3-0.6B's shape, float32, 5 shards"
RUNS = 3
WANTED = {"smollm2-135m": 12, "gemma3-270m": 20}
"""Seconds to the first reward on two cores, at most; of the weights' memory at most 2.2 times."""


def run(argv: Sequence[str]) -> None:
    """Measure all, and write the page."""
    args = _make_parser().parse_args(argv)
    started = time.monotonic()
    installed = [name for name in BACKBONES if _is_installed(name)]
    load = os.getloadavg()[0]
    speed = _speed()
    imports = {name: _fastest(name) for name in installed}
    with tempfile.TemporaryDirectory(prefix="crome-imports-", dir=args.work) as folder:
        size = write_checkpoint(Path(folder))
        imports[GENERATED] = _fastest(folder)
        streamed = {"1 x 1": imports[GENERATED]} | {
            f"{fsdp} x {tensor}": _first_reward(folder, "--mesh", str(fsdp), str(tensor)) for fsdp, tensor in ((2, 2),)
        }
    exported = {name: _export(name, args.work) for name in installed}
    parity: list[tuple[Any, ...]] = []
    for name in installed:
        parity.append((name, *_errors(compare(name)), "", ""))
    for family in CLASSIFIERS:
        with tempfile.TemporaryDirectory(prefix="crome-imports-", dir=args.work) as folder:
            random_classifier(family, Path(folder))
            hidden, reward = compare_classifier(Path(folder))
            parity.append((f"{family}, 12 random layers", *_errors(hidden), *_errors(reward)))
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": "`python -m benchmarks.imports`",
        "minutes, all of it": f"{(time.monotonic() - started) / 60:.1f}",
        "machine": f"{_processor()}, {platform.machine()}, {os.cpu_count()} cores",
        "float32 products": f"{speed / 1e9:.0f} GFLOP/s, all cores together",
        "load when it began": f"{load:.1f} processes waiting or running, others' included",
        "versions": ", ".join((f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES))),
    }
    with whole_output(args.table, overwrite=True) as partial:
        partial.write_text(_render(facts, imports, streamed, size, exported, parity), encoding="utf-8")
    print(f"{args.table}: written", file=sys.stderr)


def _fastest(backbone: str) -> dict[str, Any]:
    """Import several times; returns the figures of the import that took least time, with the most memory of all."""
    every = [_first_reward(backbone) for _ in range(RUNS)]
    fastest = min(every, key=lambda found: sum(found["seconds"].values()))
    return fastest | {"peak": max(found["peak"] for found in every)}


def _export(backbone: str, work: Path | None) -> Apart:
    print(f"+ export {backbone}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="crome-imports-", dir=work) as folder:
        return compare_exported(backbone, Path(folder) / "exported")


def _first_reward(backbone: str, *flags: str) -> dict[str, Any]:
    """Import in a process of its own."""
    print(f"+ first_reward {backbone} {' '.join(flags)}", file=sys.stderr)
    command = [sys.executable, "-m", "benchmarks.imports.first_reward", backbone, *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=FOLDER.parents[1])
    return json.loads(found.stdout.splitlines()[-1])


def _render(
    facts: dict[str, str],
    imports: dict[str, dict[str, Any]],
    streamed: dict[str, dict[str, Any]],
    size: int,
    exported: dict[str, Apart],
    parity: Iterable[Sequence[Any]],
) -> str:
    stages = list(next(iter(imports.values()))["seconds"])
    parts = [
        "# Imports",
        "From a backbone's file to the first reward, and how exact it is. Written by `python -m benchmarks.imports`; "
        "what it does is in [README.md](README.md).",
        table(("", ""), facts.items()),
        "## Time to the first reward",
        "Seconds on the clock, and in brackets of processor, all cores together, of the fastest of "
        f"{RUNS} imports: on a machine that does other things the clock says more than the import took. The first "
        "reward is that of two answers in a row of 512 tokens, compilation included.",
        table(
            ("", *stages, "all", "wanted"),
            [
                (
                    name,
                    *(f"{found['seconds'][stage]:.1f} ({found['processor'][stage]:.1f})" for stage in stages),
                    f"**{sum(found['seconds'].values()):.1f}** ({sum(found['processor'].values()):.1f})",
                    f"below {WANTED[name]}" if name in WANTED else "",
                )
                for name, found in imports.items()
            ],
        ),
        "## Memory",
        "Peak of the process, up to and with the first reward, against the weights in float32; below 2.2 times these "
        "is wanted. Python with JAX alone, and the modules imported, are in it.",
        table(
            ("", "weights, MB", "peak, MB", "peak / weights", "Python and JAX, MB", "with crome_jax, MB"),
            [
                (
                    name,
                    _mega(found["weights"]),
                    _mega(found["peak"]),
                    f"**{found['peak'] / found['weights']:.2f}**",
                    _mega(found["Python and JAX"]),
                    _mega(found["imports"]),
                )
                for name, found in imports.items()
            ],
        ),
        "## Streaming",
        f"The generated checkpoint, {size / 1e9:.2f} GB in 5 files, onto meshes of pretend devices. On a CPU the "
        "devices' memory is the host's: what was placed before is taken off. Beside the shard that is being placed "
        "there may be 1.25 times the largest tensor.",
        table(
            ("fsdp x tensor", "largest shard, MB", "most held with it, MB", "most beside a shard, MB",
             "largest tensor, MB", "beside / largest tensor"),
            [
                (
                    mesh,
                    _mega(found["largest shard"]),
                    _mega(found["shard and beside"]),
                    _mega(found["beside the shard"]),
                    _mega(found["largest tensor"]),
                    f"**{found['beside the shard'] / found['largest tensor']:.2f}**",
                )
                for mesh, found in streamed.items()
            ],
        ),
        "## Export",
        "The backbone under a head drawn at random, exported, and scored by transformers' text-classification pipeline "
        "in batches of 1 to 8, padded left and right, against our packed rows: prompts and answers in several scripts, "
        "code, emoji, white space. Below 1e-3 is wanted.",
        table(
            ("", "texts", "largest difference, nats", "standard deviation of the rewards, nats"),
            [(name, found.texts, f"**{found.worst:.1e}**", f"{found.spread:.2f}") for name, found in exported.items()],
        ),
        "## Parity",
        "Errors against transformers on the same weights, in float32, relative: of all tokens together, and of the one "
        "that is furthest off.",
        table(("", "hidden states", "worst token", "rewards", "worst reward"), parity),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _errors(parity: Parity) -> tuple[str, str]:
    return f"{parity.together:.1e}", f"{parity.worst:.1e}"


def _mega(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def _speed(width: int = 2048) -> float:
    """Return how many operations on float32 a second matrix products take, the best of five."""
    matrix, seconds = np.ones((width, width), np.float32), []
    for _ in range(5):
        started = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - started)
    return 2 * width**3 / min(seconds)


def _is_installed(name: str) -> bool:
    try:
        find_backbone(name)
    except CromeError:
        return False
    return True


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("imports", __doc__)
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="where the generated checkpoint goes meanwhile (default: the folder of temporary files)",
    )
    parser.add_argument(
        "--table",
        type=Path,
        default=FOLDER.with_suffix(".md"),
        metavar="FILE",
        help="the page to write (default: benchmarks/imports.md)",
    )
    return parser


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except CromeError as error:
        print(f"imports: error: {error}", file=sys.stderr)
        sys.exit(2)
