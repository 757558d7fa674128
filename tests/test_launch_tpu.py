"""A TPU slice from the first request to the end of the run; a stand-in for gcloud has folders here as the workers."""

import shlex
import subprocess

import pytest
from test_launch_dry_run import Checkout
from test_launch_signals import eventually

# Of the request it answers what the next line of the file `states` says (nothing where there is none: no such request);
# `ACTIVE=N` lets the run end with the status N before. What it copies and runs, it copies to and runs in `worker`, and
# in `worker-1` where that is there.
GCLOUD = """#!/bin/bash
set -e
echo "$*" >> "$CALLS"
at=${CALLS%/*}
ended() { echo "$1" > "$at/worker/ends" && flock "$at/worker/crome_jax/.cache/background/lock" true; }
case "$4" in
  describe)
    state="$(head -n 1 "$at/states")" && sed -i 1d "$at/states"
    if [[ $state == *=* ]]; then ended "${state#*=}"; fi
    [[ $state ]] && echo "${state%=*}"
    ;;
  delete) ended 143 && rm -r "$at/worker" && mkdir "$at/worker" ;;
  scp) for worker in "$at"/worker{,-1}/; do if [[ -d $worker ]]; then cp "$5" "$worker"; fi; done ;;
  ssh)
    status=0
    for worker in "$at"/worker{,-1}/; do
      if cd "$worker" 2> /dev/null; then PATH="$at/worker-bin:$PATH" bash -c "${8#--command=}" || status=$?; fi
    done
    exit "$status"
    ;;
esac
"""
# A worker's Python 3.11: it trains until it is told how to end.
PYTHON = """#!/bin/bash
if [[ $2 == venv ]]; then mkdir -p .venv/bin && cp "$0" .venv/bin/python; fi
if [[ $2 == crome_jax ]]; then
  shift 2 && echo "$*" >> "${CALLS%/*}/trained"
  while [[ ! -e ../ends ]]; do sleep 0.05; done
  status="$(cat ../ends)" && rm ../ends && exit "$status"
fi
"""


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "here").mkdir()
    checkout = Checkout(tmp_path / "here")
    here = checkout.folder
    checkout.stand_in(here / "bin" / "gcloud", GCLOUD)
    checkout.stand_in(here / "bin" / "sleep", "#!/bin/sh\nexec /bin/sleep 0.05\n")
    checkout.stand_in(here / "worker-bin" / "python3.11", PYTHON)
    for program in ("setsid", "git", "python3.11"):
        (here / "bin" / program).unlink()
    (here / "worker").mkdir()
    for name in ("crome_jax", "gin"):
        (here / name).mkdir()
        (here / name / "committed").touch()
    (here / ".gitignore").write_text(".venv/\n.cache/\ncalls\n")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x"]
    for command in (["init", "-q"], ["add", "launch", "crome_jax", "gin", "*.txt", "*.toml"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=here, check=True)
    (here / ".venv").mkdir()
    (here / ".venv" / "large").touch()
    (here / "gin" / "mine").touch()
    yield checkout
    for worker in here.glob("worker*/crome_jax"):
        (worker.parent / "ends").write_text("143")


SLICE = ("--name", "one", "--zone", "z", "--type", "v5p-32", "--spot")


def slice_(checkout, *arguments) -> str:
    done = checkout.bash("launch/tpu_vm.sh", *SLICE, *arguments, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_worker_gets_what_is_committed_and_trains_on_without_who_started_it(checkout):
    assert slice_(checkout, "state") == "none\n"
    slice_(checkout, "setup")
    worker = checkout.folder / "worker" / "crome_jax"
    assert (worker / "gin" / "committed").exists()
    assert not (worker / ".venv" / "large").exists()
    assert not (worker / "gin" / "mine").exists()
    assert (worker / ".venv" / "installed-tpu").exists()
    slice_(checkout, "train", "--", "--gin.DATA='a b'")
    trained = checkout.folder / "trained"
    eventually(trained.exists)
    assert trained.read_text() == "train --distributed=tpu --gin.DATA='a b'\n"
    assert slice_(checkout, "state") == "running\n"
    (worker.parent / "ends").write_text("0")
    assert eventually(lambda: slice_(checkout, "state") == "0\n")
    # Files that are no longer committed do not stay.
    (worker / "gin" / "of-before").touch()
    slice_(checkout, "setup")
    assert not (worker / "gin" / "of-before").exists()


def test_a_worker_without_python_3_11_gets_it(checkout):
    python = checkout.folder / "worker-bin" / "python3.11"
    python.rename(checkout.folder / "python")
    checkout.stand_in(python, "#!/bin/sh\nexit 1\n")  # As where it is there, but for what makes a .venv.
    sudo = f'#!/bin/bash\necho "$*" >> sudo\n[[ "$*" != *python3.11-venv ]] || cp {checkout.folder}/python {python}\n'
    checkout.stand_in(checkout.folder / "worker-bin" / "sudo", sudo)
    slice_(checkout, "setup")
    assert (checkout.folder / "worker" / "crome_jax" / ".venv" / "installed-tpu").exists()


def steps(checkout) -> list[str]:
    """Return what gcloud was asked for, each kind of question once in a row."""
    names = [" ".join(call.split()[3:4] + call.split("background.sh ")[1:]) for call in checkout.calls()]
    return [name for name, before in zip(names, [None, *names], strict=False) if name != before]


@pytest.mark.parametrize("status", [0, 2])
def test_a_slice_that_is_taken_away_is_asked_for_again_until_the_run_has_ended(checkout, status):
    states = ["", "WAITING_FOR_RESOURCES", "ACTIVE", "ACTIVE", "SUSPENDED", "", "ACTIVE", f"ACTIVE={status}"]
    (checkout.folder / "states").write_text("".join(f"{state}\n" for state in states))
    kept = checkout.bash("launch/tpu_vm_keep.sh", *SLICE, "--", "x", timeout=60)
    assert kept.returncode == status, kept.stderr
    assert (checkout.folder / "trained").read_text() == "train --distributed=tpu x\n" * 2
    state = "ssh state; else echo none; fi"
    train = "ssh start --restarts 20 -- '--distributed=tpu' 'x'"
    began = ["create", "describe", state, "scp", "ssh", train, "describe", state]
    stopped = ["ssh stop"] if status == 2 else []
    assert steps(checkout) == ["describe", *began, "describe", "delete", "describe", *began, *stopped]


def test_a_dry_run_of_keeping_prints_the_steps_that_keeping_takes(checkout):
    shown = checkout.bash("launch/tpu_vm_keep.sh", "--dry-run", *SLICE, "--", "x")
    assert checkout.calls() == []
    (checkout.folder / "states").write_text("\nACTIVE\nSUSPENDED\n\nACTIVE\nACTIVE=2\n")
    assert checkout.bash("launch/tpu_vm_keep.sh", *SLICE, "--", "x", timeout=60).returncode == 2
    called = checkout.calls()
    printed = [" ".join(shlex.split(line)[2:]) for line in shown.stdout.splitlines() if line.startswith("+ 'gcloud'")]
    assert sorted({*called}) == sorted(printed)


def test_a_machine_that_was_started_anew_trains_again_and_is_not_set_up_again(checkout):
    slice_(checkout, "setup")
    at = checkout.folder / "worker" / "crome_jax" / ".cache" / "background"
    at.mkdir(parents=True)
    (at / "lock").touch()
    checkout.calls()
    (checkout.folder / "states").write_text("ACTIVE\nACTIVE=0\n")
    assert checkout.bash("launch/tpu_vm_keep.sh", *SLICE, "--", "x", timeout=60).returncode == 0
    assert "scp" not in steps(checkout)
    assert (checkout.folder / "trained").read_text() == "train --distributed=tpu x\n"


def test_an_error_that_one_worker_alone_met_ends_the_run_of_the_others(checkout):
    (checkout.folder / "worker-1").mkdir()
    (checkout.folder / "states").write_text("ACTIVE\nACTIVE=2\nACTIVE\n")  # Of the first worker, as of wrong data.
    kept = checkout.bash("launch/tpu_vm_keep.sh", *SLICE, "--", "x", timeout=60)
    assert kept.returncode == 2, kept.stderr
    assert slice_(checkout, "state") == "2\n143\n"
    assert "an error to mend" in kept.stderr


def test_a_run_that_has_ended_before_goes_on_when_its_slice_is_kept_again(checkout):
    for states in ("ACTIVE", "ACTIVE=2"), ("ACTIVE", "ACTIVE=0"):  # The error was mended in between.
        (checkout.folder / "states").write_text("".join(f"{state}\n" for state in states))
        kept = checkout.bash("launch/tpu_vm_keep.sh", *SLICE, "--", "x", timeout=60)
        assert kept.returncode == int(states[-1][-1]), kept.stderr
    assert (checkout.folder / "trained").read_text() == "train --distributed=tpu x\n" * 2
