"""What a command tells JAX before it starts, and nobody else does."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from crome_jax.cli import main
from crome_jax.verbs.jax_settings import CACHE, PLATFORMS, set_up_jax


def set_up(root: Path = Path("/"), **environment: str) -> dict[str, str]:
    set_up_jax(environment, root)
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


def test_a_command_of_the_command_line_keeps_them_and_a_call_from_python_does_not(cache, monkeypatch):
    monkeypatch.setenv(CACHE, "as it was")  # Set again at the end, whatever a command did.
    monkeypatch.delenv(CACHE)
    monkeypatch.setenv(PLATFORMS, "cpu")
    command = ["report", "nowhere", "--out", str(cache)]
    assert main(command) == 2
    assert CACHE not in os.environ
    # What is submitted runs elsewhere.
    monkeypatch.setattr(sys, "argv", ["crome", "sweep", "--submit=launch/slurm.sh"])
    assert main() == 2
    assert CACHE not in os.environ
    monkeypatch.setattr(sys, "argv", ["crome", *command])
    assert main() == 2
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


def test_no_tpu_is_looked_for_where_libtpu_is_installed_without_one(machine):
    assert set_up(machine)[PLATFORMS] == "cpu"
    assert set_up(machine, **{PLATFORMS: "tpu,cpu"})[PLATFORMS] == "tpu,cpu"


@pytest.mark.parametrize("variable", ["TPU_WORKER_ID", "JAX_FORCE_TPU_INIT", "PJRT_NAMES_AND_LIBRARY_PATHS"])
def test_a_variable_may_speak_for_an_accelerator(machine, variable):
    assert PLATFORMS not in set_up(machine, **{variable: "0"})


@pytest.mark.parametrize("file", ["accel0", "vfio/0"])
def test_a_device_file_may_speak_for_a_tpu(machine, file):
    path = machine / "dev" / file
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert PLATFORMS not in set_up(machine)


def test_a_tpu_on_the_bus_is_found(machine):
    on_bus(machine, "0x120000")
    assert PLATFORMS not in set_up(machine)


@pytest.mark.parametrize("packages", [{"libtpu": None}, {"libtpu": "yes", "jax_plugins": "yes"}])
def test_jax_chooses_where_there_is_no_libtpu_or_a_plugin_for_gpus(machine, monkeypatch, packages):
    monkeypatch.setattr(importlib.util, "find_spec", packages.get)
    assert PLATFORMS not in set_up(machine)
