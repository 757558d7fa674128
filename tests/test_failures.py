"""The campaign of kills: what it does to a run, and what its page says."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

from benchmarks.failures import __main__ as command
from crome_jax.data.readers import read_groups


def test_its_data_can_be_trained_on(tmp_path):
    command.write_data(tmp_path / "pairs.jsonl", groups=9)
    assert len(list(read_groups(tmp_path / "pairs.jsonl"))) == 9


@pytest.mark.parametrize("seed", range(6))
def test_only_the_newest_of_several_checkpoints_is_damaged(tmp_path, seed):
    content = {}
    for step in (2, 4):
        state = tmp_path / "checkpoints" / str(step) / "state"
        state.mkdir(parents=True)
        for name in ("_METADATA", "manifest.ocdbt"):
            (state / name).write_bytes(b"0123456789")
            content[state / name] = b"0123456789"
        if step == 2:
            assert not command.damage(tmp_path, random.Random(seed))
    assert command.damage(tmp_path, random.Random(seed))
    harmed = [path for path, whole in content.items() if not path.exists() or path.read_bytes() != whole]
    assert [path.parents[1].name for path in harmed] == ["4"]


def test_its_page_says_whether_the_runs_differ():
    tally = command.Tally(growth=[0.001, 0.015])
    tally.killed.update(["save", "save", "step"])
    told = command.page(tally, 60, False, 10.0, 0)
    assert "--kills 3 --steps 60" in told
    assert "| kill -9, at save | 2 |" in told
    assert "to the bit | NO |" in told
    assert "| 1.50% |" in told


@pytest.mark.slow
def test_a_run_that_is_killed_at_each_moment_ends_as_undisturbed(tmp_path, monkeypatch):
    page = tmp_path / "failures.md"
    monkeypatch.setattr(sys, "argv", ["failures", "--kills", "3", "--steps", "400", "--page", str(page)])
    assert command.main() == 0
    assert "to the bit | yes |" in page.read_text()
