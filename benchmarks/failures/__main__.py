"""Kill a run again and again, damage what it saved, and see whether it ends where an undisturbed one does, to the bit.

  .venv/bin/python -m benchmarks.failures --kills 50
  .venv/bin/python -m benchmarks.failures --soak 60

Writes benchmarks/failures.md: what was done to the run, whether anything was lost, and its memory. Exits with status 1
where the runs differ, or memory grew by 2% or more.
"""

import argparse
import collections
import dataclasses
import datetime
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from crome_jax.files import whole_output
from crome_jax.groups import Comparison, Message, PreferenceGroup, Response, to_json
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.mesh import make_mesh
from crome_jax.training.optimizer import adamw
from crome_jax.training.placing import place_params
from crome_jax.training.step import init_state
from crome_jax.weights.backbones import load_backbone

ROOT = Path(__file__).parents[2]
MOMENTS = ("start-up", "save", "step")
"""When a run is killed: before its first new checkpoint, just as one appears, or somewhere after."""


@dataclasses.dataclass
class Tally:
    """What was done to a run, and what came of it.

    Args:
        killed: moments, and how often the run was killed then.
        damaged: how often the newest checkpoint was damaged while the run was down.
        growth: of the resident memory of each process that lived long enough to tell, as a fraction.
        seconds: the disturbed run took, from its first start to its end.
    """

    killed: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    damaged: int = 0
    growth: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


def write_data(path: Path, groups: int = 60) -> None:
    """Write pairs of short answers; what they say does not matter here."""
    draw = random.Random(0)
    words = ["river", "stone", "lamp", "cloud", "paper", "wheel", "garden", "violin", "copper", "winter"]
    lines = []
    for index in range(groups):
        texts = [" ".join(draw.choices(words, k=draw.randint(2, 9))) for _ in range(2)]
        group = PreferenceGroup(
            id=f"pair-{index}",
            prompt=(Message("user", f"Say {draw.choice(words)}"),),
            responses=(Response(f"Gladly: {texts[0]}."), Response(f"No: {texts[1]}.")),
            comparisons=(Comparison(0, 1),),
        )
        lines.append(to_json(group) + "\n")
    path.write_text("".join(lines))


def start(data: Path, run: Path, steps: int) -> subprocess.Popen:
    """Start, or go on with, a training run of a tiny model that saves at every second step."""
    settings = {
        "DATA": f"'{data}'", "OUT": f"'{run}'", "STEPS": steps, "TRAINABLE": 1, "ROWS_PER_STEP": 4, "ROW_TOKENS": 128,
        "train.checkpoint_every": 2, "train.log_every": 2,
    }  # fmt: skip
    files = ("gin/runs/bradley_terry.gin", "gin/models/tiny.gin")
    command = [sys.executable, "-m", "crome_jax", "train", *(f"--gin_file={file}" for file in files)]
    command += [f"--gin.{name}={value}" for name, value in settings.items()]
    # What is compiled once serves every start; a kill in the middle of writing it must not matter either.
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(data.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    log = (data.parent / f"{run.name}.log").open("a")
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)


def newest(run: Path) -> int:
    """Return the newest step in the run's folder, 0 where there is none."""
    return max((int(p.name) for p in (run / "checkpoints").glob("*") if p.name.isdecimal()), default=0)


def memory(process: subprocess.Popen) -> int:
    """Return the resident memory of a process in kB; 0 where it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)


def live(process: subprocess.Popen, run: Path, moment: str, draw: random.Random, startup: float, soak: float) -> float:
    """Let a process live until its moment has come or it has ended; return by what fraction its memory grew.

    Args:
        startup: seconds a start takes, within which it is killed at random.
        soak: seconds it may live; 0 is as long as its moment wants.
    """
    before, began = newest(run), time.monotonic()
    until = began + draw.uniform(0, startup) if moment == "start-up" else None
    samples = []
    while process.poll() is None:
        now = time.monotonic()
        if until is None and newest(run) > before:
            until = now + (draw.uniform(0, 0.05) if moment == "save" else draw.uniform(0, 1.0))
        if (soak and now >= began + soak) or (not soak and until is not None and now >= until):
            break
        if newest(run) > before:  # Warm: compiled, and has saved.
            samples.append(memory(process))
        time.sleep(0.25 if soak else 0.005)
    samples = [sample for sample in samples if sample]
    if not soak or len(samples) < 40:
        return 0.0
    quarter = len(samples) // 4
    return statistics.median(samples[-quarter:]) / statistics.median(samples[quarter : 2 * quarter]) - 1


def damage(run: Path, draw: random.Random) -> bool:
    """Cut or delete a file of the newest checkpoint, where there is one before it; return whether that was done."""
    steps = sorted(int(p.name) for p in (run / "checkpoints").glob("*") if p.name.isdecimal())
    if len(steps) < 2:
        return False
    state = run / "checkpoints" / str(steps[-1]) / "state"
    file = draw.choice([state / "_METADATA", state / "manifest.ocdbt"])
    if draw.random() < 0.5:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return True


def disturb(data: Path, run: Path, steps: int, kills: int, soak: float, seed: int) -> Tally:
    """Kill a run `kills` times, or once a minute for `soak` minutes, and let it end."""
    tally, draw, began, startup = Tally(), random.Random(seed), time.monotonic(), 0.0
    while sum(tally.killed.values()) < kills or time.monotonic() < began + 60 * soak:
        moment = "step" if soak else MOMENTS[sum(tally.killed.values()) % len(MOMENTS)]
        started = time.monotonic()
        process = start(data, run, steps)
        grown = live(process, run, moment, draw, startup or 5.0, 60.0 if soak else 0.0)
        if moment != "start-up":
            startup = time.monotonic() - started
        if process.poll() is not None:
            raise SystemExit(f"the run ended with {process.returncode} before it was killed: give it more --steps")
        process.kill()
        process.wait()
        tally.killed[moment] += 1
        tally.growth += [grown] if grown else []
        # Not after a death at start-up: of what was saved since the last damage one must stay whole.
        if moment != "start-up" and draw.random() < 0.2:
            tally.damaged += damage(run, draw)
        print(f"{sum(tally.killed.values())} kills, at step {newest(run)}", file=sys.stderr)
    if status := start(data, run, steps).wait():
        raise SystemExit(f"the last start ended with status {status}; see {data.parent}/{run.name}.log")
    tally.seconds = time.monotonic() - began
    return tally


def same(a: Path, b: Path, steps: int) -> bool:
    """Tell whether two runs ended with the same weights, optimizer and place in the data, to the bit."""

    def final(run: Path) -> list[bytes]:
        trained, _ = place_params(load_backbone("tiny", 1), 1, make_mesh(devices=jax.devices()[:1]))
        state, data = Checkpoints(run).restore(init_state(trained, adamw(steps=steps)))
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(jax.device_get(state))] + [str(data).encode()]

    return final(a) == final(b)


def page(tally: Tally, steps: int, equal: bool, straight: float, soak: float) -> str:
    """Return the page of results."""
    told = {
        "date": str(datetime.date.today()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}",
        "steps of the run": steps,
        **{f"kill -9, at {moment}": tally.killed[moment] for moment in MOMENTS},
        "newest checkpoint damaged while it was down": tally.damaged,
        "parameters, optimizer and data position as undisturbed, to the bit": "yes" if equal else "NO",
        "seconds, undisturbed": round(straight),
        "seconds, disturbed": round(tally.seconds),
    }
    if tally.growth:
        told["worst growth of memory of a process after warm-up"] = f"{max(tally.growth):.2%}"
    command = f"--soak {soak:g}" if soak else f"--kills {sum(tally.killed.values())}"
    rows = "".join(f"| {name} | {value} |\n" for name, value in told.items())
    return (
        "# Failures\n\nA run of a tiny model that is killed and damaged while it trains, beside one left alone.\nMade "
        f"by `.venv/bin/python -m benchmarks.failures {command} --steps {steps}`.\n\n| | |\n|---|---|\n{rows}"
    )


def main() -> int:
    """Run the campaign or the soak, and write its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how often the run is killed (default: %(default)s)")
    parser.add_argument("--soak", type=float, default=0, help="minutes of one kill each, instead (default: none)")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps of the run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=ROOT / "benchmarks" / "failures.md", help="where results go")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crome-failures-") as folder:
        data = Path(folder) / "pairs.jsonl"
        write_data(data)
        began = time.monotonic()
        if status := start(data, data.parent / "straight", args.steps).wait():
            raise SystemExit(f"the undisturbed run ended with status {status}")
        straight = time.monotonic() - began
        tally = disturb(data, data.parent / "killed", args.steps, 0 if args.soak else args.kills, args.soak, args.seed)
        equal = same(data.parent / "straight", data.parent / "killed", args.steps)
    with whole_output(args.page, overwrite=True) as partial:
        partial.write_text(page(tally, args.steps, equal, straight, args.soak))
    print(args.page.read_text())
    return 0 if equal and max(tally.growth, default=0.0) < 0.02 else 1


if __name__ == "__main__":
    sys.exit(main())
