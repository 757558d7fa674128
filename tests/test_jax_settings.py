"""What a command tells JAX before it starts, and nobody else does."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crome_jax.cli import main
from crome_jax.verbs.jax_settings import CACHE, QUIET, set_up_jax


def set_up(root: Path = Path("/nowhere"), **environment: str) -> dict[str, str]:
    set_up_jax("train", environment, root)
    return environment


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's folder for caches, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_compiled_programs_are_kept_in_the_user_s_cache_unless_it_is_said_where(cache, monkeypatch):
    assert set_up()[CACHE] == str(cache / "crome_jax" / "compiled")
    assert not cache.exists()
    assert set_up(**{CACHE: "elsewhere"})[CACHE] == "elsewhere"
    assert set_up(**{CACHE: ""})[CACHE] == ""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(cache.parent))
    assert set_up()[CACHE] == str(cache.parent / ".cache" / "crome_jax" / "compiled")


def test_where_nothing_can_be_written_nothing_is_kept_and_that_is_no_error(cache, monkeypatch):
    cache.write_text("")  # A file in the place of the folder.
    assert CACHE not in set_up()
    cache.unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert CACHE not in set_up()


@pytest.mark.parametrize("given", [{}, {CACHE: "elsewhere"}])
def test_plans_are_not_kept_since_jax_could_not_read_them(cache, given):
    environment = {**given}
    set_up_jax("plan", environment)
    assert environment["JAX_ENABLE_COMPILATION_CACHE"] == "false"
    assert environment.get(CACHE) == given.get(CACHE)


def test_a_command_of_the_command_line_keeps_them_and_a_call_from_python_does_not(cache, monkeypatch):
    monkeypatch.setenv(CACHE, "as it was")  # Set again at the end, whatever a command did.
    monkeypatch.delenv(CACHE)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for verb in ("report", "sweep"):
        monkeypatch.setattr(f"crome_jax.verbs.{verb}.run", lambda args: None)
    command = ["report", "run", "--out", "out"]
    assert main(command) == 0
    assert CACHE not in os.environ
    # What is submitted runs elsewhere.
    monkeypatch.setattr(sys, "argv", ["crome", "sweep", "--submit=launch/slurm.sh"])
    assert main() == 0
    assert CACHE not in os.environ
    monkeypatch.setattr(sys, "argv", ["crome", *command])
    assert main() == 0
    assert os.environ[CACHE] == str(cache / "crome_jax" / "compiled")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with libtpu and a network card of Google's, as its virtual machines have."""
    monkeypatch.setattr(importlib.util, "find_spec", {"libtpu": "yes"}.get)
    on_bus(tmp_path, "0x020000")
    return tmp_path


def on_bus(machine, kind):
    device = machine / "sys" / "bus" / "pci" / "devices" / kind
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1ae0\n")
    (device / "class").write_text(f"{kind}\n")


def test_libtpu_is_quiet_where_there_is_no_tpu(machine):
    assert QUIET.items() <= set_up(machine).items()


@pytest.mark.parametrize("variable", ["TPU_WORKER_ID", "JAX_FORCE_TPU_INIT"])
def test_a_variable_may_speak_for_a_tpu(machine, variable):
    assert set_up(machine, **{CACHE: "", variable: "0"}) == {CACHE: "", variable: "0"}


@pytest.mark.parametrize("file", ["accel0", "vfio/0"])
def test_a_device_file_may_speak_for_a_tpu(machine, file):
    path = machine / "dev" / file
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert not QUIET.keys() & set_up(machine)


def test_a_tpu_on_the_bus_is_found(machine):
    on_bus(machine, "0x120000")
    assert not QUIET.keys() & set_up(machine)


def test_nothing_is_said_of_tpus_where_there_is_no_libtpu(machine, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not QUIET.keys() & set_up(machine)


def test_libtpu_says_nothing_on_a_machine_without_a_tpu():
    pytest.importorskip("libtpu", reason="./launch/setup.sh plan installs it")
    environment = {"PATH": os.environ["PATH"], "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    set_up_jax("train", environment)
    if not QUIET.keys() & environment:
        pytest.skip("this machine may have a TPU")
    code = "import jax; jax.devices()"
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
