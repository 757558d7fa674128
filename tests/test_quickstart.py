"""The quickstart's own commands, from testbed to report, on few questions and a tiny backbone."""

import functools
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from crome_jax.cli import main
from crome_jax.training import bench

ROOT = Path(__file__).parents[1]
SIZES = {"--train": "12", "--validation": "4", "--test": "4"}


def commands(seed: int) -> list[list[str]]:
    """Return the verbs that the quickstart calls with their flags, as it prints them itself."""
    said = subprocess.run(
        ["launch/quickstart.sh", "--dry-run", "--seed", str(seed)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    calls = [shlex.split(line.removeprefix("+ ")) for line in said.stdout.splitlines()]
    return [call[call.index("crome_jax") + 1 :] for call in calls if "crome_jax" in call]


def test_its_commands_lead_from_a_testbed_to_a_report_of_every_method_and_split(tmp_path, monkeypatch, capsys):
    load = bench.load_backbone
    monkeypatch.setattr(bench, "load_backbone", functools.cache(lambda _, trainable, layers: load("tiny", 1)))
    monkeypatch.chdir(tmp_path)  # It writes to runs/quickstart.
    asked = commands(seed=3)
    assert [call[0] for call in asked] == ["testbed", "augment", "augment", "study"]
    for verb, *flags in asked:
        for flag, size in SIZES.items():
            if flag in flags:
                flags[flags.index(flag) + 1] = size
        if verb == "study":
            flags += ["--gin.study.steps=4", "--gin.study.search_steps=2", "--gin.study.trainable=1"]
            flags += [
                "--gin.study.rows_per_step=8",
                "--gin.ROW_TOKENS=256",
            ]  # The pretend devices of the tests are eight.
        assert main([verb, *flags]) == 0, capsys.readouterr().err
    out = tmp_path / "runs" / "quickstart"
    assert capsys.readouterr().out.splitlines()[-1] == "report: runs/quickstart/report.html"
    assert (out / "report.html").stat().st_size > 10_000
    report = json.loads((out / "report.json").read_text())
    assert [*report["methods"]] == ["bradley_terry", "crome"]
    for method in report["methods"].values():
        assert [*method["splits"]] == ["in_distribution", "reversed", "unseen", "edited"]
        assert [*method["splits"]["edited"]["by_kind"]] == ["human", "causal"]
        assert method["splits"]["edited"]["ties"]["comparisons"] > 0
        for split in method["splits"].values():
            low, high = split["interval"]
            assert 0 <= low <= split["accuracy"] <= high <= 1
            assert split["comparisons"] > 0
    making = report["facts"]["how the groups were made"]
    wanted = {"seed": 3, "oracle": "offline", "degrade_per_pair": 1, "upgrade_per_pair": 1, "neutrals_per_group": 0}
    assert making.items() >= {**wanted, "align_per_pair": 1, "implied": True}.items()
    for method in report["methods"]:
        assert json.loads((out / method / "data_cards.json").read_text()) == {"runs/quickstart/groups": making}
    assert "degrade per pair" in (out / "groups.card.html").read_text()
    packed = {row["method"]: row["comparisons"] for row in report["facts"]["packing"]}
    assert packed["crome"] > packed["bradley_terry"] > 0
    assert {path.name for path in out.iterdir()} >= {"bradley_terry", "crome", "testbed", "groups", "groups.card.html"}


@pytest.mark.parametrize("wrong", [["--seed", "x"], ["--seed"], ["--sed"]])
def test_what_it_does_not_know_it_explains(wrong):
    said = subprocess.run(["launch/quickstart.sh", *wrong], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 2
    assert said.stderr.startswith("usage: launch/quickstart.sh")


def test_its_seed_is_that_of_the_data_as_well():
    said = subprocess.run(["launch/quickstart.sh", "--gin.SEED=1"], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 2
    assert "give --seed 1 instead" in said.stderr
