"""What goes on when its starter leaves, what is started again, and what a signal does: with a stand-in that trains."""

import os
import signal
import subprocess
import time

import pytest
from test_launch_dry_run import Checkout

# It says when it starts and which signal comes, takes a while to save, and ends as the file `status` says, or waits.
TRAINING = """#!/bin/bash
told() { echo "$1" >> told; sleep 0.3; echo saved >> told; exit "$2"; }
trap 'told TERM 143' TERM
trap 'told INT 130' INT
echo started >> told
echo "prints of $*"
while [[ ! -e status ]]; do sleep 0.05; done
exit "$(cat status)"
"""


@pytest.fixture
def checkout(tmp_path):
    checkout = Checkout(tmp_path)
    checkout.stand_in(tmp_path / ".venv" / "bin" / "python", TRAINING)
    (tmp_path / "bin" / "setsid").unlink()  # Here it is to do what it does.
    yield checkout
    (tmp_path / "status").write_text("0")  # Nothing is left behind by a test that fails.


def eventually(what, seconds=20.0):
    """Return what a function gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def told(checkout) -> list[str]:
    path = checkout.folder / "told"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    ("sent", "passed_on", "status"),
    [(signal.SIGTERM, "TERM", 143), (signal.SIGHUP, "TERM", 143), (signal.SIGINT, "INT", 130)],
)
def test_a_workstation_passes_a_signal_on_once_and_waits_until_the_run_is_saved(checkout, sent, passed_on, status):
    # Whoever started the tests may have had them ignore signals (nohup, &), which a shell cannot undo.
    command = ["env", "--default-signal=HUP,INT,TERM", "bash", "launch/workstation.sh", "--", "x"]
    script = subprocess.Popen(command, cwd=checkout.folder, start_new_session=True)
    eventually(lambda: told(checkout))
    os.killpg(script.pid, sent)  # As a terminal does, or a machine that shuts down.
    assert script.wait(20) == status
    assert told(checkout) == ["started", passed_on, "saved"]


def test_a_run_in_the_background_outlives_its_starter_and_says_how_it_is(checkout):
    def background(*arguments):
        return checkout.bash("launch/background.sh", *arguments, timeout=20)

    assert background("state").stdout == "none\n"
    # Its output is not held open, or whoever started it by ssh could not leave.
    assert background("start", "--", "x y").returncode == 0
    eventually(lambda: told(checkout))
    assert background("state").stdout == "running\n"
    again = background("start", "--", "z")
    assert (again.returncode, told(checkout)) == (2, ["started"])
    assert "goes on here already" in again.stderr
    assert background("stop").returncode == 0
    assert told(checkout) == ["started", "TERM", "saved"]
    assert background("state").stdout == "143\n"
    assert background("log").stdout == "prints of -m crome_jax train x y\n"
    assert background("stop").returncode == 2


@pytest.mark.parametrize(("status", "starts"), [(0, 1), (2, 1), (3, 3)])
def test_a_run_in_the_background_is_started_again_and_leaves_its_status(checkout, status, starts):
    (checkout.folder / "status").write_text(str(status))
    assert checkout.bash("launch/background.sh", "start", "--restarts", "2", "--", "x").returncode == 0
    state = lambda: checkout.bash("launch/background.sh", "state").stdout  # noqa: E731
    assert eventually(lambda: state() not in ("none\n", "gone\n", "running\n") and state()) == f"{status}\n"
    assert told(checkout) == ["started"] * starts


def test_of_a_machine_that_was_switched_off_the_run_is_gone(checkout):
    at = checkout.folder / ".cache" / "background"
    at.mkdir(parents=True)
    (at / "lock").touch()
    assert checkout.bash("launch/background.sh", "state").stdout == "gone\n"
