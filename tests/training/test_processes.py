"""Several real processes on this machine train as one would; where one dies, the others end with a message."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from toy import text_groups

from crome_jax.errors import CromeError
from crome_jax.groups import to_json
from crome_jax.training.processes import Cluster, find_cluster, first_host, join

ROOT = Path(__file__).parents[2]
HEARTBEAT = 10  # Seconds; the others end within twice as many.


def start(
    data, run, *, steps: int, method="bradley_terry", index=0, count=1, port=0, devices=1, verb="train", further=()
):
    """Start one process of a run, on so many pretend devices."""
    command = [sys.executable, "-m", "crome_jax", verb]
    if verb == "train":
        command += [f"--gin_file=gin/runs/{method}.gin", "--gin_file=gin/models/tiny.gin"]
        # Process 0 packs the data; the others read rows, and would not find the data.
        seen = data if index == 0 else "not/here.jsonl"
        command += [f"--gin.DATA='{seen}'", f"--gin.OUT='{run}'", f"--gin.STEPS={steps}", "--gin.ROWS_PER_STEP=4"]
        command += ["--gin.ROW_TOKENS=128", "--gin.train.checkpoint_every=2", "--gin.train.log_every=1"]
        command += ["--gin.adamw.warmup_fraction=0.0", "--gin.LEARNING_RATE=1e-3", "--gin.adamw.final_fraction=1.0"]
        command += ["--gin.make_mesh.fsdp=2", "--gin.adamw.weight_decay=0.0"]
    else:
        command += ["--checkpoint", str(run), "--data", f"toy={data}"]
    command += further
    if count > 1:
        command += ["--distributed=flags", f"--coordinator=127.0.0.1:{port}", f"--processes={count}"]
        command += [f"--process={index}", f"--heartbeat={HEARTBEAT}"]
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_all(count: int, *given, **options) -> list[subprocess.Popen]:
    port = free_port()
    return [start(*given, index=index, count=count, port=port, **options) for index in range(count)]


def finish(*processes: subprocess.Popen) -> list[str]:
    """Wait for all, and return what each wrote to stdout."""
    return [out for out, _ in finish_all(*processes)]


def finish_all(*processes: subprocess.Popen) -> list[tuple[str, str]]:
    """Wait for all, and return what each wrote to stdout and to stderr."""
    said = [process.communicate(timeout=540) for process in processes]
    for process, (_, err) in zip(processes, said, strict=True):
        assert process.returncode == 0, err[-3000:]
    return said


def assert_same_figures(ours, theirs, place: str = "") -> None:
    """Check that two reports say the same; rewards of rows that were scored in other company differ by rounding."""
    if isinstance(theirs, dict | list):
        assert len(ours) == len(theirs), place
        for key in theirs if isinstance(theirs, dict) else range(len(theirs)):
            assert_same_figures(ours[key], theirs[key], f"{place}/{key}")
    elif isinstance(theirs, float):
        # 1e-5 is what a reward's rounding may come to in float32 (`score_groups`); accuracies have no rounding.
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5), place
    else:
        assert ours == theirs, place


def state_of(run, step: int) -> list[tuple[str, bytes]]:
    """Return everything that a checkpoint holds, as names and bytes."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        folder = run / "checkpoints" / str(step) / "state"
        tree = checkpointer.metadata(folder).item_metadata.tree
        as_they_are = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        restored = checkpointer.restore(folder, restore_args=as_they_are)
    return [
        (jax.tree_util.keystr(path), np.asarray(leaf).tobytes()) for path, leaf in jax.tree.leaves_with_path(restored)
    ]


def newest(run) -> int:
    return max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())


def wait_for_checkpoint(run, processes) -> None:
    """Wait until a run has saved its fourth step; a process that ends before fails."""
    deadline = time.monotonic() + 300
    while not (run / "checkpoints" / "4").exists():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), processes[0].communicate()[1][-3000:]
        time.sleep(0.1)


def assert_goes_on_as_undisturbed(data, run, undisturbed) -> None:
    """Start both processes again, for four steps more, and compare with two that nothing happened to."""
    steps = newest(run) + 4
    finish(*start_all(2, data, run, steps=steps))
    finish(*start_all(2, data, undisturbed, steps=steps))
    assert len(state_of(run, steps)) > 10
    assert state_of(run, steps) == state_of(undisturbed, steps)
    assert curve(run) == curve(undisturbed)
    assert [*curve(run)] == [*range(1, steps + 1)]


def curve(run) -> dict[int, float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}  # Others are of what it is measured on.


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.jsonl"
    path.write_text("".join(to_json(group) + "\n" for group in text_groups(40)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_train_and_evaluate_as_one(data, tmp_path, count):
    alone, together = tmp_path / "alone", tmp_path / "together"
    finish(start(data, alone, steps=6, devices=count))
    said = finish_all(*start_all(count, data, together, steps=4))
    rows_read = [int(re.search(r"read (\d+) packed rows", err)[1]) for _, err in said]
    share = 4 // count
    # Of the 4 steps and of those that were read ahead, its share of each and no more.
    assert all(4 * share <= rows <= 20 * share and rows % share == 0 for rows in rows_read), rows_read
    assert [*curve(together)] == [1, 2, 3, 4]
    # Another number of hosts, and another mesh, goes on from their checkpoint, with the data in the same order.
    finish(start(data, together, steps=6, devices=2))
    ours, theirs = curve(together), curve(alone)
    assert [*ours] == [*theirs] == [*range(1, 7)]
    for step, loss in theirs.items():
        # Sums of float32 in another order, through six steps of Adam.
        assert ours[step] == pytest.approx(loss, rel=1e-4)
    # And the other way round, to evaluate.
    *_, said = finish(start(data, together, steps=6, devices=2, verb="evaluate"))
    figures = lambda: json.loads((together / "evaluation" / "report.json").read_text())["methods"]  # noqa: E731
    by_one = figures()
    first, *others = finish(*start_all(count, data, together, steps=6, verb="evaluate"))
    assert_same_figures(figures(), by_one)
    assert first.splitlines()[:-1] == said.splitlines()[:-1] != []
    assert others == [""] * (count - 1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["odin", "mmd"])
def test_statistics_of_the_whole_batch_are_those_of_one_process(data, tmp_path, method):
    alone, together = tmp_path / "alone", tmp_path / "together"
    finish(start(data, alone, steps=4, method=method, devices=2))
    finish(*start_all(2, data, together, steps=4, method=method))
    ours, theirs = curve(together), curve(alone)
    assert [*ours] == [*theirs] == [1, 2, 3, 4]
    for step, loss in theirs.items():
        # Sums of float32 in another order, through four steps of Adam.
        assert ours[step] == pytest.approx(loss, rel=1e-4)


@pytest.mark.slow
def test_a_step_is_replayed_by_several_as_they_took_it(data, tmp_path):
    run = tmp_path / "run"
    further = ["--gin.train.micro_batches=2"]
    finish(*start_all(2, data, run, steps=6, further=further))
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file() and "rows" not in path.parts}
    said = finish(*start_all(2, data, run, steps=6, further=[*further, "--replay=6"]))
    told = json.loads(said[0])
    assert (told["step"], told["loss"]) == (6, pytest.approx(curve(run)[6], rel=1e-5))
    assert len(told["rows"]) == 4
    assert said[1] == ""
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_where_a_process_dies_the_other_ends_with_a_message(data, tmp_path, victim):
    processes = start_all(2, data, tmp_path / "run", steps=100_000)
    wait_for_checkpoint(tmp_path / "run", processes)
    died = time.monotonic()
    processes[victim].kill()
    _, err = processes[1 - victim].communicate(timeout=6 * HEARTBEAT)
    assert time.monotonic() - died < 2 * HEARTBEAT + 5
    # Neither is 2, after which launchers give a run up: JAX ends those that wait at a barrier, not in a step.
    assert processes[1 - victim].returncode in (3, -signal.SIGABRT), err[-2000:]
    assert "died or cannot be reached" in err or "JAX distributed service detected fatal errors" in err
    assert_goes_on_as_undisturbed(data, tmp_path / "run", tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_where_a_process_falls_silent_the_other_ends_inside_the_stated_time(data, tmp_path, victim):
    """As where a host loses its power or its network: no connection of it is closed."""
    processes = start_all(2, data, tmp_path / "run", steps=100_000)
    wait_for_checkpoint(tmp_path / "run", processes)
    processes[victim].send_signal(signal.SIGSTOP)
    silent = time.monotonic()
    try:
        _, err = processes[1 - victim].communicate(timeout=6 * HEARTBEAT)
    finally:
        took = time.monotonic() - silent
        processes[victim].kill()
        processes[victim].communicate()
    assert took < 2 * HEARTBEAT, (took, err[-2000:])
    assert processes[1 - victim].returncode in (3, -signal.SIGABRT), err[-2000:]
    assert "died or cannot be reached" in err or "JAX distributed service detected fatal errors" in err


@pytest.mark.slow
def test_where_one_process_is_asked_to_end_all_save_the_same_step(data, tmp_path):
    processes = start_all(2, data, tmp_path / "run", steps=100_000)
    wait_for_checkpoint(tmp_path / "run", processes)
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], said[0][-2000:]
    told = {
        line.split(" s after ")[0].rpartition(" ")[0]
        for err in said
        for line in err.splitlines()
        if "asked to end: saved at step" in line
    }
    assert len(told) == 1
    assert f"saved at step {newest(tmp_path / 'run')}," in told.pop()
    assert_goes_on_as_undisturbed(data, tmp_path / "run", tmp_path / "undisturbed")


def wait_for_line(process: subprocess.Popen, what: str) -> None:
    """Wait until a process has said this on stderr."""
    for line in process.stderr:
        if what in line:
            return
    raise AssertionError(f"ended without saying {what}")


@pytest.mark.slow
def test_sigterm_ends_a_process_at_once_but_while_it_listens():
    program = """
import sys, time
from crome_jax.training.preemption import Preemption
from crome_jax.training.processes import Cluster, join, wait_for_all

join("flags", cluster=Cluster(sys.argv[1], 2, int(sys.argv[2])), heartbeat=10)
with Preemption().listening() as preempted:
    while not preempted():
        time.sleep(0.1)
wait_for_all("asked")
print("asked", file=sys.stderr, flush=True)
time.sleep(600)
"""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", program, f"127.0.0.1:{free_port()}"]
    processes = [
        subprocess.Popen([*command, str(index)], env=environment, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        for index in range(2)
    ]
    for process in processes:
        wait_for_line(process, "of 2: ")
    time.sleep(1.0)  # Then they listen.
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:  # Both are told, and neither ends.
        wait_for_line(process, "asked")
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM
        process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "evaluate"])
@pytest.mark.parametrize("asked", [0, 1])
def test_before_and_after_the_training_sigterm_ends_a_process_at_once(data, tmp_path, verb, asked):
    run = tmp_path / "run"
    if verb == "evaluate":
        finish(start(data, run, steps=2, devices=2))
    processes = start_all(2, data, run, steps=100_000, verb=verb)
    for index, process in enumerate(processes):
        wait_for_line(process, f"process {index} of 2: 1 devices")
    began = time.monotonic()
    processes[asked].send_signal(signal.SIGTERM)
    assert processes[asked].wait(timeout=10) == -signal.SIGTERM
    _, err = processes[1 - asked].communicate(timeout=6 * HEARTBEAT)
    assert time.monotonic() - began < 2 * HEARTBEAT + 5
    assert processes[1 - asked].returncode in (3, -signal.SIGABRT), err[-2000:]
    assert "died or cannot be reached" in err or "JAX distributed service detected fatal errors" in err


@pytest.mark.parametrize("index", [0, 1])
def test_where_the_others_do_not_come_a_process_says_so_and_ends(index):
    program = "from crome_jax.training.processes import Cluster, join\n"
    program += f"join('flags', cluster=Cluster('127.0.0.1:{free_port()}', 2, {index}), patience=2)"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 3, ended.stderr[-2000:]
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("crome: error: "))
    assert "did not come together within 2 s; check that all were started, that process 0 can be reached" in line


def test_slurm_says_who_takes_part():
    environment = {"SLURM_JOB_ID": "123456", "SLURM_STEP_NODELIST": "gpu[007-009,12]", "SLURM_NTASKS": "4"}
    cluster = find_cluster("slurm", environment | {"SLURM_PROCID": "3"})
    assert cluster == Cluster("gpu007:23456", 4, 3)
    with pytest.raises(CromeError, match="SLURM_PROCID is not set; is this a slurm job"):
        find_cluster("slurm", environment)
    with pytest.raises(CromeError, match="SLURM_STEP_NODELIST is not set; start the processes with srun"):
        find_cluster("slurm", {})


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("a", "a"),
        ("a,b", "a"),
        ("a[3-5]", "a3"),
        ("n-[01,07-09]-x,b", "n-01-x"),
        ("rack1-n[10]", "rack1-n10"),
        ("r[1-2]n[03-04,7],s[1]", "r1n03"),
        ("a[1,2],b[3]", "a1"),
    ],
)
def test_the_first_host_of_a_list_coordinates(nodes, host):
    assert first_host(nodes) == host


def test_a_jobset_s_pods_number_themselves_over_all_slices():
    environment = {"COORDINATOR": "crome-slice-0-0.crome", "PODS_PER_JOB": "4", "JOBS": "2"}
    seen = [
        find_cluster("jobset", environment | {"JOB_INDEX": str(job), "JOB_COMPLETION_INDEX": str(pod)})
        for job in range(2)
        for pod in range(4)
    ]
    assert [one.process for one in seen] == [*range(8)]
    assert {(one.coordinator, one.processes) for one in seen} == {("crome-slice-0-0.crome:8476", 8)}
    with pytest.raises(CromeError, match="JOB_INDEX is 'x', no number"):
        find_cluster("jobset", environment | {"JOB_INDEX": "x"})
    with pytest.raises(CromeError, match=r"COORDINATOR is not set; use the manifest of launch/jobset\.sh"):
        find_cluster("jobset", {})


def test_numbers_that_do_not_go_together_are_an_error():
    with pytest.raises(CromeError, match="--process is 2 of 2"):
        Cluster("host:1", 2, 2)
    with pytest.raises(CromeError, match="give HOST:PORT of process 0"):
        Cluster("host", 2, 0)
    with pytest.raises(CromeError, match="needs --coordinator, --processes and --process"):
        join("flags")
