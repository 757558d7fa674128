"""Where a process of a run dies or cannot be reached, the others end: soon, and so that launchers start them again."""

import errno
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from test_processes import ROOT, free_port

from crome_jax.errors import CromeError
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.processes import ends_with_the_others
from crome_jax.training.step import TrainState

GLOO = ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer [127.0.0.1]:44974")
JAX = jax.errors.JaxRuntimeError("UNAVAILABLE: 1 stopped sending heartbeats")
TOO_LONG = TimeoutError("Timed out while waiting for async_write_complete barrier.")
FULL = OSError(errno.ENOSPC, "No space left on device")


def caused(error: Exception, root: Exception) -> Exception:
    """Return a new error like this one, whose cause is `root`."""
    error = type(error)(*error.args)
    error.__cause__ = root
    return error


@pytest.fixture
def of_two(monkeypatch):
    """Make this process one of two that ends by an exception a test can see."""

    def end(status):
        raise SystemExit(status)

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(os, "_exit", end)


class Fails:
    """Orbax's manager, which fails at whatever it is asked for but what was measured."""

    def __init__(self, error):
        self._error = error

    def metrics(self, step):
        return None

    def __getattr__(self, name):
        def fail(*_, **__):
            raise self._error

        return fail


@pytest.mark.parametrize(
    ("error", "status"),
    [(GLOO, 3), (JAX, 3), (caused(TOO_LONG, JAX), 3), (FULL, 2), (caused(JAX, FULL), 2), (ValueError("DATA_LOSS"), 2)],
)
@pytest.mark.parametrize("asked", ["save", "wait", "owes"])
def test_what_comes_of_another_s_death_is_told_from_an_error_of_this_machine(
    tmp_path, of_two, monkeypatch, capsys, error, status, asked
):
    with monkeypatch.context() as alone:
        alone.setattr(jax, "process_count", lambda: 1)
        checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(checkpoints, "_manager", Fails(error))
    given = {"save": (TrainState(np.int32(1), {}, ()), {}), "wait": (), "owes": (1,)}[asked]
    with pytest.raises(SystemExit) as ended, ends_with_the_others():
        getattr(checkpoints, asked)(*given)
    said = capsys.readouterr().err
    assert ended.value.code == status, said
    assert ("another process of the run died" in said) == (status == 3)
    assert ("nothing was changed" in said or "make room" in said) == (status == 2)


def test_alone_nobody_else_is_to_blame(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(checkpoints, "_manager", Fails(JAX))
    with pytest.raises(CromeError, match="cannot be written"):
        checkpoints.wait()


SAVES = """
import functools, os, resource, signal, sys, time
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint._src.checkpointers import async_checkpointer
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.mesh import make_mesh, spread
from crome_jax.training.processes import Cluster, ends_with_the_others, join
from crome_jax.training.step import TrainState

address, me, run, moment = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
join("flags", cluster=Cluster(address, 2, me), heartbeat=10)
with ends_with_the_others():
    whole = NamedSharding(make_mesh(2, 1, 1), PartitionSpec())
    weights = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    state = lambda step: TrainState(spread(np.int32(step), whole), {"w": spread(weights, whole)}, ())
    checkpoints = Checkpoints(run)
    checkpoints.save(state(1), {})
    checkpoints.wait()
    def die(*_, after=0, **__):
        time.sleep(after)
        os.kill(os.getpid(), signal.SIGKILL)
    if me == 1 and moment == "save":
        die()
    if me == 1 and moment == "background":  # Once all else of the save is done, and both wait for that alone.
        async_checkpointer._background_wait_for_commit_futures = functools.partial(die, after=2)
    if me == 0 and moment == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
    checkpoints.save(state(2), {})
    checkpoints.wait()
"""


def start_saving(run, moment: str) -> list[subprocess.Popen]:
    """Start two processes, to one of which something happens at its second save."""
    address, environment = f"127.0.0.1:{free_port()}", os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    return [
        subprocess.Popen(
            [sys.executable, "-c", SAVES, address, str(index), str(run), moment],
            env=environment, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for index in range(2)
    ]  # fmt: skip


def assert_ends_with_the_other(process: subprocess.Popen) -> None:
    """Check that a process says another is gone; a collective fails at once, what waits at a barrier JAX ends."""
    _, err = process.communicate(timeout=120)
    assert process.returncode in (3, -signal.SIGABRT), err[-3000:]
    assert "died or cannot be reached" in err or "JAX distributed service detected fatal errors" in err


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["save", "background"])
def test_a_death_while_a_checkpoint_is_saved_is_no_error_of_the_user_s(tmp_path, moment):
    first, other = start_saving(tmp_path / "run", moment)
    assert_ends_with_the_other(first)
    assert other.wait(timeout=10) == -signal.SIGKILL


@pytest.mark.slow
def test_where_the_disk_of_one_is_full_it_says_so_and_all_end(tmp_path):
    first, other = start_saving(tmp_path / "run", "disk")
    _, err = first.communicate(timeout=120)  # Orbax would wait for the other, as that for it, for 20 minutes.
    assert first.returncode == 2, err[-3000:]
    assert "checkpoints: cannot be written" in err
    assert "make room" in err
    assert_ends_with_the_other(other)
    assert Checkpoints(tmp_path / "run", read_only=True).latest == 1
