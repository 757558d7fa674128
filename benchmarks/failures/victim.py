"""A training run of a tiny model as a process that can be killed, and what its folder says of it."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from crome_jax.groups import Comparison, Message, PreferenceGroup, Response, to_json
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.digests import DIGESTS_FILE
from crome_jax.training.loop import UNLOGGED
from crome_jax.training.mesh import make_mesh
from crome_jax.training.optimizer import adamw
from crome_jax.training.placing import place_params
from crome_jax.training.step import init_state
from crome_jax.weights.backbones import load_backbone

ROOT = Path(__file__).parents[2]


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


def train(
    data: Path, run: Path, steps: int, *, save_every: int = 2, nan_every: int = 97, validation: Path | None = None
) -> subprocess.Popen:
    """Start, or go on with, a run whose learning rate is the same at every step, however many they are.

    Args:
        save_every: steps between two checkpoints.
        nan_every: steps between two whose loss is not finite.
        validation: what it is measured on whenever it is saved, the best checkpoint being kept; None measures nothing.
    """
    settings = {
        "DATA": f"'{data}'", "OUT": f"'{run}'", "STEPS": steps, "TRAINABLE": 1, "ROWS_PER_STEP": 4, "ROW_TOKENS": 128,
        "train.checkpoint_every": save_every, "train.log_every": 2,
        "adamw.warmup_fraction": 0.0, "adamw.final_fraction": 1.0,
        "bradley_terry/Method.objective": "@sometimes_nan", "sometimes_nan.every": nan_every,
    }  # fmt: skip
    if validation is not None:
        settings |= {"train.validation": f"'{validation}'", "train.keep_best": "'loss'"}
    files = ("gin/runs/bradley_terry.gin", "gin/models/tiny.gin")
    given = [*(f"--gin_file={file}" for file in files), *(f"--gin.{name}={value}" for name, value in settings.items())]
    return _start("train", given, data, run)


def evaluate(data: Path, run: Path) -> subprocess.Popen:
    """Start an evaluation of the newest checkpoint, in the place of an earlier one."""
    return _start("evaluate", ["--checkpoint", str(run), "--data", f"pairs={data}"], data, run)


def _start(verb: str, given: list[str], data: Path, run: Path) -> subprocess.Popen:
    # What is compiled once serves every start; a kill in the middle of writing it must not matter either.
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(data.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with log_of(run).open("w") as log:
        command = [sys.executable, "-m", "benchmarks.failures.crome", verb, *given]
        return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)


def log_of(run: Path) -> Path:
    """Return where the newest process of a run writes what it says."""
    return run.parent / f"{run.name}.log"


def must_end(process: subprocess.Popen, run: Path, status: int = 0, patience: float | None = None) -> None:
    """Wait for a process, and raise SystemExit where it does not end as it should, saying what it said last."""
    try:
        ended = process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        ended = f"none within {patience:g} s"
    if ended != status:
        raise SystemExit(f"a process ended with status {ended}, not {status}:\n{log_of(run).read_text()[-3000:]}")


def saved_steps(run: Path) -> list[int]:
    """Return the steps whose checkpoints are in the run's folder under their final names."""
    return sorted(int(path.name) for path in (run / "checkpoints").glob("*") if path.name.isdecimal())


def newest(run: Path) -> int:
    """Return the newest of those, 0 where there is none."""
    return max(saved_steps(run), default=0)


def unfinished(run: Path) -> set[tuple[str, int]]:
    """Return the checkpoints in the run's folder that are not finished, by name and inode: names come again."""
    return {(path.name, path.lstat().st_ino) for path in (run / "checkpoints").glob("*tmp*")}


def is_measured(run: Path, save_every: int = 2) -> bool:
    """Tell whether a run is being measured: of a step that is due the loss is told, and not yet what was measured."""
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if not lines or not lines[-1].endswith(b"\n"):
        return False
    told = json.loads(lines[-1])
    # After a skipped step a measuring that is due waits for the next good one.
    return told["step"] % save_every == 0 and not {"validation/loss", "skipped"} & told.keys()


def kept(run: Path) -> dict[int, dict]:
    """Return what was measured of each checkpoint that is in the run's folder."""
    checkpoints = Checkpoints(run, read_only=True)
    return {step: checkpoints.measured(step) for step in saved_steps(run)}


def skipped_steps(run: Path) -> list[int]:
    """Return the steps that were skipped since their loss was not finite, in order."""
    path = run / "incidents.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line["step"] for line in lines if line["kind"] == "skipped"]


def damage(run: Path, draw: random.Random) -> str:
    """Cut, change or delete a file of the newest checkpoint, where there is one before it; return what was done."""
    steps = saved_steps(run)
    if len(steps) < 2:
        return ""
    folder = run / "checkpoints" / str(steps[-1])
    named = json.loads((folder / DIGESTS_FILE).read_text())
    file = folder / draw.choice(["state/manifest.ocdbt", *sorted(named)])
    content = file.read_bytes()
    how = draw.choice(["deleted", "cut", "flipped"] if content else ["deleted"])
    if how == "deleted":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        at = draw.randrange(len(content))
        file.write_bytes(content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :])
    return how


def found_damaged(run: Path) -> int:
    """Return how many checkpoints the run found damaged and moved away."""
    return len(list((run / "damaged").glob("*")))


def memory(process: subprocess.Popen) -> int:
    """Return the resident memory of a process in kB; 0 where it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)


def final_bytes(run: Path, steps: int) -> list[bytes]:
    """Return a run's last weights, optimizer state, step and place in the data, as bytes.

    Not what no line of the curve has told of yet: a run that ends at a step has told of it, one that is stopped there
    may be between two lines.
    """
    trained, _ = place_params(load_backbone("tiny", 1), 1, make_mesh(devices=jax.devices()[:1]))
    state, data = Checkpoints(run, read_only=True).restore(init_state(trained, adamw(steps=steps)))
    place_in_data = {name: value for name, value in data.items() if name != UNLOGGED}
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(jax.device_get(state))] + [
        json.dumps(place_in_data, sort_keys=True).encode()
    ]
