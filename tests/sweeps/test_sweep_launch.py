"""A process that fails takes no other with it, and what it said last is what is told."""

import sys

import pytest

from crome_jax.sweeps.launch import LOG, run_side_by_side


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_others_go_on_where_one_fails(tmp_path, at_once):
    programs = {
        "good": "print('fine')",
        "told": "import sys; print('crome: error: no room'); print('and more'); sys.exit(2)",
        "crashed": "raise ValueError('broken')",
        "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "silent": "import sys; sys.exit(3)",
        "last": "print('fine, too')",
    }
    commands = {job: (program(text), tmp_path / job) for job, text in programs.items()}
    said = []
    failed = run_side_by_side(commands, at_once=at_once, say=said.append)
    assert failed == {
        "told": "no room",
        "crashed": "ValueError: broken",
        "killed": "killed by SIGKILL",
        "silent": "exit status 3",
    }
    assert (tmp_path / "last" / LOG).read_text() == "fine, too\n"
    assert len(said) == 2 * len(programs)
    assert any(line.startswith("told: failed (no room)") for line in said)
    assert said[-1].endswith("6 of 6 ended")


def test_a_second_attempt_is_added_to_the_log_and_only_it_is_told(tmp_path):
    run_side_by_side({"a": (program("print('crome: error: old'); raise SystemExit(2)"), tmp_path)}, at_once=1)
    failed = run_side_by_side({"a": (program("raise SystemExit(2)"), tmp_path)}, at_once=1)
    assert failed == {"a": "exit status 2"}
    assert (tmp_path / LOG).read_text() == "crome: error: old\n"
