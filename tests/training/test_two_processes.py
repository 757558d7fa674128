"""Two real processes at every change; what takes them longer is in test_processes.py, and slow."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from test_processes import curve, finish_all, free_port
from toy import text_groups
from words_run import train_words

from crome_jax.cli import make_parser
from crome_jax.errors import CromeError
from crome_jax.groups import to_json
from crome_jax.training import processes
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.verbs import evaluate
from crome_jax.verbs.distributed import joined

PROGRAM = Path(__file__).parent / "words_run.py"
SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=1 --xla_cpu_use_fusion_emitters=false",
}


def who(where: str, port: int, index: int) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment that tell a process which of two it is."""
    if where == "flags":
        return [f"127.0.0.1:{port}", str(index)], {}
    job = {"SLURM_JOB_ID": str(port - 20_000), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    return [], job | {"SLURM_PROCID": str(index)}


@pytest.mark.parametrize("where", ["flags", pytest.param("slurm", marks=pytest.mark.slow)])
def test_two_processes_go_on_from_what_one_saved(tmp_path, where):
    alone, together = tmp_path / "alone", tmp_path / "together"
    data = tmp_path / "toy.jsonl"
    data.write_text("".join(to_json(group) + "\n" for group in text_groups(24)))
    train_words(data, alone, 4, validation=str(data), keep_best="loss")
    shutil.copytree(alone, together)
    (array,) = (together / "checkpoints" / "4" / "state" / "d").iterdir()
    array.write_bytes(array.read_bytes()[:-1])
    (together / "trace.request").write_text("1")
    started, port = [], free_port()
    for index in range(2):
        address, environment = who(where, port, index)
        # Process 0 packs the data; the other reads its rows, and would not find the data. What is measured on all read.
        command = [sys.executable, PROGRAM, (data, "not/here.jsonl")[index], together, "4", data, *address]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=os.environ | SETTINGS | environment, **pipes))
    said = finish_all(*started)
    assert all("resumed at step 2" in err for _, err in said)
    assert ["checkpoints/4: damaged (state/d/" in err for _, err in said] == [True, False]
    assert [path.name.partition("-")[0] for path in (together / "damaged").iterdir()] == ["4"]
    assert [re.search(r"process (\d) of 2: read \d+ packed rows", err)[1] for _, err in said] == ["0", "1"]
    # One of them read the request, and both recorded the step after that.
    assert sorted(path.name for path in (together / "trace" / "steps-3-3").iterdir()) == ["process-0", "process-1"]
    ours, theirs = curve(together), curve(alone)
    assert [*ours] == [*theirs] == [1, 2, 3, 4]
    for step, loss in theirs.items():
        # Sums of float32 in another order, through two steps of Adam.
        assert ours[step] == pytest.approx(loss, rel=1e-4)
    ours, theirs = (Checkpoints(run, read_only=True) for run in (together, alone))
    assert ours.is_whole(4)
    assert ours.measured(4) == pytest.approx(theirs.measured(4), rel=1e-4)
    assert "the best loss, " in said[0][1]


@pytest.fixture
def asked(monkeypatch):
    """Return what JAX is asked for when this process joins others, which are not there."""
    given = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda **keywords: given.update(keywords))
    # What joining changes of this process for good.
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    for what in ("let_sigterm_end", "_keep_stdout_for_results"):
        monkeypatch.setattr(processes, what, lambda: None)
    return given


WAITS = {"heartbeat_timeout_seconds": 60, "initialization_timeout": 600, "shutdown_timeout_seconds": 60}


def test_a_tpu_s_metadata_is_jax_s_to_ask(asked):
    processes.join("tpu")
    assert asked == WAITS


def test_a_jobset_s_pods_are_told_to_jax_which_is_to_ask_nobody_else(asked, monkeypatch):
    job = {"COORDINATOR": "crome-slice-0-0.crome", "PODS_PER_JOB": "4", "JOBS": "2"}
    for name, value in (job | {"JOB_INDEX": "1", "JOB_COMPLETION_INDEX": "2"}).items():
        monkeypatch.setenv(name, value)
    processes.join("jobset")
    named = {"coordinator_address": "crome-slice-0-0.crome:8476", "num_processes": 8, "process_id": 6}
    assert asked == WAITS | named | {"cluster_detection_method": "deactivate"}


def test_whoever_starts_the_processes_says_how_long_they_wait_for_each_other(asked):
    words = ["train", "--gin_file=x", "--distributed=tpu", "--patience=1800", "--heartbeat=20"]
    with joined(make_parser().parse_args(words)):
        pass
    # JAX's own wait is the longer one: it aborts the process, and ours says what to look at.
    assert asked["initialization_timeout"] == 3600
    assert (asked["heartbeat_timeout_seconds"], asked["shutdown_timeout_seconds"]) == (20, 20)


def test_several_that_evaluate_do_not_begin_where_bad_records_are_to_be_listed(asked):
    words = ["evaluate", "--checkpoint=x", "--data=y", "--distributed=tpu", "--skip-bad"]
    with pytest.raises(CromeError, match="--skip-bad lists bad records from one process; evaluate with one"):
        evaluate.run(make_parser().parse_args(words))
    assert not asked
