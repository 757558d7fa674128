"""What a command tells JAX before it starts, and nobody else does."""

import os
import sys

import pytest

from crome_jax.cli import main
from crome_jax.verbs.jax_settings import CACHE, set_up_jax


def set_up(**environment: str) -> dict[str, str]:
    set_up_jax(environment)
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
    command = ["report", "nowhere", "--out", str(cache)]
    assert main(command) == 2
    assert CACHE not in os.environ
    monkeypatch.setattr(sys, "argv", ["crome", *command])
    assert main() == 2
    assert os.environ[CACHE] == str(cache / "crome_jax" / "compiled")
