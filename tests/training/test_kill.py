"""A run that is killed again and again, and started again each time, ends where an undisturbed one does."""

import json
import os
import random
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from toy import mesh_of, text_groups

from crome_jax.groups import to_json
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.optimizer import adamw
from crome_jax.training.placing import place_params
from crome_jax.training.step import init_state
from crome_jax.weights.backbones import load_backbone

STEPS = 60
PROGRAM = f"""
import sys
from crome_jax.data.packing import RowShape
from crome_jax.training.train import train

train(
    data=sys.argv[1], out=sys.argv[2], backbone="tiny", trainable=1, row_shape=RowShape(128, 8, 8), steps={STEPS},
    rows_per_step=4, log_every=2, checkpoint_every=2,
)
"""


def start_training(data, run) -> subprocess.Popen:
    environment = {
        **os.environ,
        "XLA_FLAGS": "",  # one device: what users of a small machine have
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(data.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(data), str(run)], env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> str:
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return err


def newest(run) -> int:
    names = [path.name for path in (run / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def kill_after_progress(process: subprocess.Popen, run, delay: float) -> None:
    """Let the run save a checkpoint that was not there before, wait a moment more, and kill it."""
    before, deadline = newest(run), time.monotonic() + 120
    while newest(run) <= before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    process.communicate()


def restore(run):
    """Return the last state of a run, its data position with it."""
    trained, _ = place_params(load_backbone("tiny", 1), 1, mesh_of(1, 1, 1))
    return jax.device_get(Checkpoints(run).restore(init_state(trained, adamw(steps=STEPS))))


@pytest.mark.slow
def test_a_killed_run_ends_where_an_undisturbed_one_does(tmp_path):
    data = tmp_path / "toy.jsonl"
    data.write_text("".join(to_json(group) + "\n" for group in text_groups(60)))
    finish(start_training(data, tmp_path / "straight"))
    run = tmp_path / "killed"
    moments = random.Random(0)
    for _ in range(3):
        process = start_training(data, run)
        kill_after_progress(process, run, moments.uniform(0.0, 0.15))
        assert process.returncode != 0, "finished before it was killed: give it more steps"
    assert "resumed at step" in finish(start_training(data, run))
    assert "finished already" in finish(start_training(data, run))
    (straight, position), (killed, its_position) = restore(tmp_path / "straight"), restore(run)
    assert killed.step == straight.step == STEPS
    assert its_position == position
    for a, b in zip(jax.tree.leaves(killed), jax.tree.leaves(straight), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    curves = [
        [
            {
                name: value
                for name, value in json.loads(line).items()
                if not name.startswith(("goodput", "tokens/s", "pairs/s"))
            }
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in (run, tmp_path / "straight")
    ]
    assert curves[0] == curves[1]
    assert len(curves[0]) == STEPS / 2
