"""What a dry run prints is what runs: the printed commands and the script call the same programs in the same way."""

import shutil
import subprocess
from pathlib import Path

import pytest
from test_launch import ROOT

# It writes down its name, its arguments, what the scripts set in its environment, and what it is given to read.
STUB = """#!/bin/bash
if [[ "$*" == "-c import sys"* || "$*" == "-m ensurepip"* ]]; then exit 0; fi
{
  printf '<%s> ' "${0##*/}" "$@"
  env | grep -E '^(GLIBC|JAX|XLA)_' | sort | xargs
  if [[ ${0##*/} == kubectl ]]; then cat; fi
} >> "$CALLS"
if [[ $2 == venv ]]; then mkdir -p .venv/bin && cp "$0" .venv/bin/python && cp "$0" .venv/bin/ruff; fi
"""
PROGRAMS = ("gcloud", "kubectl", "sbatch", "git", "setsid", "python3.11", "nvidia-smi")
AWKWARD = "--gin.DATA=\"it's $HOME \\ {'a': 1}\""
TPU = ("tpu_vm.sh", "--name", "one", "--zone", "z", "--type", "v5p-32", "--spot")
COMMANDS = [
    ("workstation.sh", "--", AWKWARD),
    ("workstation.sh", "--", "sweep", AWKWARD),
    ("background.sh", "start", "--restarts", "7", "--", AWKWARD),
    ("slurm.sh", "--nodes", "2", "--sbatch", "--partition=a b", "--", AWKWARD),
    ("jobset.sh", "--image", "i", "--bucket", "b", "--", AWKWARD),
    *((*TPU, action) for action in ("create", "setup", "state", "log", "stop", "request", "delete")),
    (*TPU, "train", "--", AWKWARD),
    ("beam.sh", "flink", "--parallelism", "3", "--", "--data", "a b"),
    ("beam.sh", "dataflow", "--project", "p", "--region", "r", "--bucket", "b", "--image", "i", "--", "--data", "a"),
    ("beam.sh", "flink-worker"),
    ("setup.sh",),
    ("setup.sh", "beam"),
    ("quickstart.sh", "--seed", "3", "--gin.study.steps=9"),
    ("test.sh", "--all", "-k", "a b"),
]


class Checkout:
    """A copy of the scripts, where every program that they call is a stand-in that writes down how it was called."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("launch", "requirements.txt", "requirements-beam.txt", "pyproject.toml"):
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
        (folder / "bin").mkdir()
        for name in PROGRAMS:
            self.stand_in(folder / "bin" / name)

    def stand_in(self, path: Path, text: str = STUB) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def bash(self, *arguments: str, **keywords) -> subprocess.CompletedProcess:
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        environment = {"PATH": path, "CALLS": str(self.folder / "calls"), "HOME": "/nowhere", "GLIBC_TUNABLES": "mine"}
        return subprocess.run(
            ["bash", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, **keywords
        )

    def calls(self) -> list[str]:
        """Return how the stand-ins were called since it was last asked."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def train_here(self) -> None:
        for program in ("python", "ruff"):
            self.stand_in(self.folder / ".venv" / "bin" / program)


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_is_printed_is_what_runs(command, checkout):
    script, *arguments = command
    if script not in ("setup.sh", "quickstart.sh", "test.sh"):  # Which make .venv.
        checkout.train_here()
    shown = checkout.bash(f"launch/{script}", "--dry-run", *arguments)
    assert (shown.returncode, checkout.calls()) == (0, [])
    before = sorted(checkout.folder.rglob("*"))

    lines = shown.stdout.splitlines(keepends=True)
    if script == "jobset.sh":  # A manifest, with the command above it as a comment.
        printed = lines[0].removeprefix("# + ").partition(" <<< ")[0]
        assert checkout.bash("-c", printed, input="".join(lines[1:])).returncode == 0
    else:
        assert lines[0].startswith("+ ")
        printed = "".join(line.removeprefix("+ ") for line in lines)
        assert checkout.bash("-c", f"set -e\n{printed}").returncode == 0
    of_printed = checkout.calls()
    assert of_printed
    made = sorted(checkout.folder.rglob("*"))
    for path in {*made} - {*before}:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    assert checkout.bash(f"launch/{script}", *arguments).returncode == 0
    assert checkout.calls() == of_printed
    assert sorted(checkout.folder.rglob("*")) == made
