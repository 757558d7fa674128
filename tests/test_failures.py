"""The campaign of kills and the soak: what they do to a run, and what their pages say."""

import json
import random
import sys
import types
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

from benchmarks.failures import __main__ as command
from benchmarks.failures import campaign, soak, victim
from crome_jax.data.readers import read_groups
from crome_jax.training.digests import find_damage, write_digests
from crome_jax.training.loop import UNLOGGED


def test_its_data_can_be_trained_on(tmp_path):
    victim.write_data(tmp_path / "pairs.jsonl", groups=9)
    assert len(list(read_groups(tmp_path / "pairs.jsonl"))) == 9


@pytest.mark.parametrize("seed", range(9))
def test_only_the_newest_of_several_checkpoints_is_damaged(tmp_path, seed):
    folders = [tmp_path / "checkpoints" / step for step in ("2", "10")]
    for folder in folders:
        (folder / "state").mkdir(parents=True)
        for name in ("_METADATA", "manifest.ocdbt", "empty"):
            (folder / "state" / name).write_bytes(b"" if name == "empty" else b"0123456789")
        write_digests(folder)
        if folder is folders[0]:
            assert not victim.damage(tmp_path, random.Random(seed))
    assert victim.damage(tmp_path, random.Random(seed)) in ("deleted", "cut", "flipped")
    assert [find_damage(folder) is None for folder in folders] == [True, False]


def test_the_campaign_s_page_says_what_was_lost():
    tally = campaign.Tally(steps=60, differing=["parameters"], found=1)
    tally.killed.update(["save", "save", "step"])
    tally.damaged.update(["cut", "flipped"])
    told = command.page("Failures", "A run.", "--kills 3", tally.facts())
    assert "`.venv/bin/python -m benchmarks.failures --kills 3`" in told
    assert "| kill -9 during save | 2 |" in told
    assert "| newest checkpoint damaged while it was down: cut | 1 |" in told
    assert "| not as in the undisturbed run, to the bit | parameters |" in told
    assert "named and went round | 1 of 2 |" in told
    assert not tally.good
    assert not campaign.Tally(found=0, damaged=tally.damaged).good
    assert campaign.Tally().good


def test_what_is_written_by_hand_below_a_page_s_figures_stays(tmp_path):
    path = tmp_path / "soak.md"
    assert command.sections(path) == ""
    path.write_text(command.page("Soak", "A run.", "--soak 60", {"minutes": 62}))
    assert command.sections(path) == ""
    below = "\n## Another run\n\nWhy.\n\n## A third\n"
    path.write_text(path.read_text() + below)
    assert command.sections(path) == below


@pytest.mark.parametrize(
    ("lines", "measured"),
    [
        ([], False),
        ([{"step": 2, "loss": 1}], True),
        ([{"step": 2, "loss": 1}, {"step": 2, "validation/loss": 1}], False),
        ([{"step": 3, "loss": 1}], False),  # No step that is saved.
        ([{"step": 2, "loss": 1, "skipped": 1}], False),
    ],
)
def test_whether_a_run_is_being_measured_is_read_from_its_curve(tmp_path, lines, measured):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    assert victim.is_measured(tmp_path) == measured
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 4, "lo')  # A line that is not whole yet.
    assert not victim.is_measured(tmp_path)


def test_what_the_curve_has_not_told_yet_is_no_difference_of_two_ends(monkeypatch):
    kept = {
        "stopped": {"next": 3, UNLOGGED: {"sums": {"loss": 0.5}, "steps": 1}},
        "ended": {"next": 3},
        "other": {"next": 4},
    }
    checkpoints = lambda run, read_only: types.SimpleNamespace(restore=lambda state: (state, kept[run.name]))  # noqa: E731
    monkeypatch.setattr(victim, "Checkpoints", checkpoints)
    stopped, ended, other = (victim.final_bytes(Path(name), 3) for name in kept)
    assert stopped == ended != other


def test_growth_leaves_the_warm_up_out():
    assert soak.growth([1, 900, 1000, 1000, 1000, 1000, 1030, 1030]) == pytest.approx(0.03)
    assert soak.growth([1, 2, 3]) == 0.0
    grown = [1000] * 6 + [1030] * 2
    assert soak.Tally(lives=[True]).good
    assert not soak.Tally(lives=[True], undisturbed=grown).good
    assert not soak.Tally(lives=[True], peaks=grown).good
    assert not soak.Tally(lives=[True, False]).good


def test_steps_that_were_skipped_are_read_from_the_run(tmp_path):
    assert victim.skipped_steps(tmp_path) == []
    lines = [{"step": 4, "kind": "skipped"}, {"step": 5, "kind": "spike"}, {"step": 9, "kind": "skipped"}]
    (tmp_path / "incidents.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert victim.skipped_steps(tmp_path) == [4, 9]


@pytest.mark.slow
def test_a_run_that_is_killed_at_each_moment_ends_as_undisturbed(tmp_path, monkeypatch):
    page = tmp_path / "failures.md"
    monkeypatch.setattr(sys, "argv", ["failures", "--kills", "5", "--steps", "400", "--page", str(page)])
    assert command.main() == 0
    assert "to the bit | nothing |" in page.read_text()


@pytest.mark.slow
def test_a_run_that_meets_every_fault_ends_as_undisturbed(tmp_path):
    victim.write_data(tmp_path / "pairs.jsonl")
    data, faults = tmp_path / "pairs.jsonl", len(soak.FAULTS)
    tally = soak.run_soak(data, minutes=0.5, seed=0, every=2.0, least=faults, save_every=5)
    assert set(tally.faults) == set(soak.FAULTS)
    assert (tally.differing, tally.found) == ([], tally.damaged)
