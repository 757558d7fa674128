"""A sweep that is killed and started again does what is left, and finds what an undisturbed one finds."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from toy import text_groups

from crome_jax.groups import to_json

SEEDS = (0, 1)


def start(place, out) -> subprocess.Popen:
    environment = {
        **os.environ,
        "XLA_FLAGS": "",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [
        *(sys.executable, "-m", "crome_jax", "sweep"),
        *("--gin_file=gin/runs/crome.gin", "--gin_file=gin/models/tiny.gin"),
        *(f"--gin.DATA='{place / 'train.jsonl'}'", f"--gin.OUT='{out}'", f"--gin.sweep.seeds={SEEDS}"),
        *("--gin.TRAINABLE=1", "--gin.ROW_TOKENS=128", "--gin.STEPS=40", "--gin.train.checkpoint_every=2"),
        *("--gin.crome/Method.kinds=('human', 'causal')", "--gin.crome.neutral_weight=0.0"),
        *("--data", str(place / "test.jsonl")),
    ]
    # A group of its own, so that the sweep and the job it started can be killed together.
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen) -> str:
    _, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return err


def rewards(out) -> dict[str, bytes]:
    files = sorted(out.glob("jobs/*/run/rewards/*.npz"))
    return {str(file.relative_to(out)): np.load(file)["rewards"].tobytes() for file in files}


@pytest.mark.slow
def test_a_killed_sweep_does_what_is_left(tmp_path):
    for seed, name in enumerate(("train", "test")):
        groups = text_groups(40, seed=seed)
        (tmp_path / f"{name}.jsonl").write_text("".join(to_json(group) + "\n" for group in groups))
    finish(start(tmp_path, tmp_path / "straight"))
    out = tmp_path / "killed"
    process = start(tmp_path, out)
    deadline = time.monotonic() + 200
    # Until seed 0 is done and seed 1 on its way; one that is still being written has more than a number for a name.
    while not any(path.name.isdecimal() for path in out.glob("jobs/seed=1-*/run/checkpoints/*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (first,), (second,) = (list(out.glob(f"jobs/seed={seed}-*")) for seed in SEEDS)
    assert (first / "done.json").exists()
    assert not (second / "done.json").exists(), "finished before it was killed: give it more steps"
    told = finish(start(tmp_path, out))
    assert "2 jobs, 1 of them done already" in told
    assert "resumed at step" in (second / "log.txt").read_text()
    assert (first / "log.txt").read_text().count("responses cut") == 1
    assert rewards(out) == rewards(tmp_path / "straight")
    assert len(rewards(out)) == 2
    assert (out / "results.csv").read_bytes() == (tmp_path / "straight" / "results.csv").read_bytes()
