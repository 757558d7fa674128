"""`crome sweep` on a tiny backbone: what is done is not done again, what fails is named, and the rest goes on."""

import functools
import json
import re
import shlex
import shutil
import sys

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from test_cli_models import last_of_each
from toy import text_groups

from crome_jax.cli import main
from crome_jax.groups import to_json
from crome_jax.sweeps import jobs as room
from crome_jax.sweeps import launch
from crome_jax.training import train as training

BASE = (
    "--gin_file=gin/runs/crome.gin",
    "--gin_file=gin/models/tiny.gin",
    "--gin.TRAINABLE='head'",
    "--gin.ROW_TOKENS=128",
    "--gin.crome/Method.kinds=('human', 'causal')",
)
GRID = "--gin.sweep.grid={'crome.causal_weight': [0.5, 1.0], 'crome.neutral_weight': [0.0]}"


@pytest.fixture(scope="module", autouse=True)
def one_backbone():
    """Read the tokenizer once for all tests: it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load_backbone", functools.cache(training.load_backbone))
        yield


def run_here(commands) -> dict[str, str]:
    """Run the commands of jobs in this process, and return those that failed."""
    return {job: "failed" for job, (command, _) in commands.items() if main(command[3:])}


@pytest.fixture
def here(monkeypatch):
    """Run jobs in this process, and return the list of those that ran."""
    ran = []

    def run_side_by_side(commands, *, at_once):
        ran.extend(commands)
        return run_here(commands)

    monkeypatch.setattr(launch, "run_side_by_side", run_side_by_side)
    room.digest_files.cache_clear()
    return ran


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with training and test groups."""
    folder = tmp_path_factory.mktemp("place")
    for seed, name in enumerate(("train", "test", "other")):
        groups = text_groups(16, seed=seed)
        (folder / f"{name}.jsonl").write_text("".join(to_json(group) + "\n" for group in groups))
    return folder


def sweep(place, out, *further, data=("test",)) -> list[str]:
    paths = [str(place / f"{name}.jsonl") for name in data]
    given = (f"--gin.DATA='{place / 'train.jsonl'}'", f"--gin.OUT='{out}'", "--data", *paths, *further)
    return last_of_each(["sweep", *BASE, "--gin.STEPS=2", *given])


@pytest.fixture(scope="module")
def swept(place, tmp_path_factory):
    """A sweep over two points and two seeds that is done."""
    out = tmp_path_factory.mktemp("swept") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "run_side_by_side", lambda commands, *, at_once: run_here(commands))
        assert main(sweep(place, out, GRID, "--gin.sweep.seeds=(0, 1)")) == 0
    return out


def copy_of(swept, tmp_path):
    return shutil.copytree(swept, tmp_path / "out")


def test_the_table_has_every_job_and_the_page_its_ranking(swept, place):
    table = pyarrow.parquet.read_table(swept / "results.parquet").to_pylist()
    whole = [row for row in table if row["family"] == "all" and row["metric"] == "accuracy"]
    assert {(row["crome.causal_weight"], row["seed"]) for row in whole} == {(w, s) for w in (0.5, 1.0) for s in (0, 1)}
    assert all(row["low"] <= row["value"] <= row["high"] and row["count"] == 32 for row in whole)
    assert pyarrow.csv.read_csv(swept / "results.csv").num_rows == len(table)
    page = (swept / "sweep.html").read_text()
    assert "causal_weight=0.5" in page
    assert "4 jobs, 0 of them failed" in page
    # What the table says is what `crome score` of the job's own run gives.
    (folder,) = (swept / "jobs").glob("causal_weight=0.5*seed=1-*")
    assert main(["score", "--checkpoint", str(folder / "run"), "--data", str(place / "test.jsonl"),
                 "--out", str(folder / "scored.jsonl")]) == 0  # fmt: skip
    scored = [json.loads(line)["reward"] for line in (folder / "scored.jsonl").read_text().splitlines()]
    (kept,) = (folder / "run" / "rewards").glob("*.npz")
    np.testing.assert_allclose(np.load(kept)["rewards"], scored, atol=1e-6)  # Rows packed otherwise: rounding.


def test_the_same_command_again_does_nothing_again(swept, place, tmp_path, here, capsys):
    out = copy_of(swept, tmp_path)
    before = (out / "results.csv").read_bytes()
    assert main(sweep(place, out, GRID, "--gin.sweep.seeds=(0, 1)")) == 0
    assert here == []
    printed = capsys.readouterr()
    assert "4 jobs, 4 of them done already" in printed.err
    assert "test, against causal_weight=0.5,neutral_weight=0.0:" in printed.out
    assert (out / "results.csv").read_bytes() == before


def test_points_of_other_names_are_not_done_again(swept, place, tmp_path, here, capsys):
    out = copy_of(swept, tmp_path)
    renamed = {"half": {"crome.causal_weight": 0.5}, "whole": {"crome.causal_weight": 1.0}}
    further = (f"--gin.sweep.points={renamed}", "--gin.crome.neutral_weight=0.0", "--gin.sweep.seeds=(0, 1)")
    assert main(sweep(place, out, *further, "--gin.sweep.grid={'adamw.weight_decay': [0.01]}")) == 0
    assert here == []
    assert "half,weight_decay=0.01" in capsys.readouterr().out


def test_a_larger_sweep_does_only_what_is_new(swept, place, tmp_path, here):
    out = copy_of(swept, tmp_path)
    larger = GRID.replace("1.0]", "1.0, 2.0]")
    assert main(sweep(place, out, larger, "--gin.sweep.seeds=(0,)")) == 0
    assert here == ["causal_weight=2.0,neutral_weight=0.0,seed=0"]


@pytest.mark.slow
def test_what_decides_nothing_changes_nothing_and_what_decides_is_done_anew(swept, place, tmp_path, here):
    out = copy_of(swept, tmp_path)
    grid = (GRID, "--gin.sweep.seeds=(0,)")
    assert main(sweep(place, out, *grid, "--gin.train.log_every=1", "--gin.train.cache_frozen=True")) == 0
    assert here == []
    assert main(sweep(place, out, *grid, "--gin.adamw.beta2=0.9")) == 0
    assert len(here) == 2
    changed = tmp_path / "changed"
    shutil.copytree(place, changed)
    lines = (changed / "train.jsonl").read_text().splitlines(keepends=True)
    (changed / "train.jsonl").write_text("".join(lines[:-1]))
    assert main(sweep(changed, out, *grid)) == 0
    assert len(here) == 4


def test_more_data_to_measure_on_is_scored_without_training(swept, place, tmp_path, here):
    out = copy_of(swept, tmp_path)
    logs = {path: path.stat().st_mtime_ns for path in out.glob("jobs/*/run/metrics.jsonl")}
    grid = (GRID, "--gin.sweep.seeds=(0, 1)")
    assert main(sweep(place, out, *grid, data=("test", "other"))) == 0
    assert len(here) == 4
    assert {path: path.stat().st_mtime_ns for path in out.glob("jobs/*/run/metrics.jsonl")} == logs
    table = pyarrow.parquet.read_table(out / "results.parquet").to_pylist()
    assert {row["data"] for row in table} == {"test", "other"}


def test_a_job_that_fails_is_named_and_the_others_go_on(place, tmp_path, here, capsys):
    points = {"broken": {"RowShape.tokens": 24}, "fine": {}, "fine, too": {"adamw.beta2": 0.9}}
    command = sweep(place, tmp_path / "out", f"--gin.sweep.points={points}", "--gin.crome.neutral_weight=0.0")
    assert main(command) == 2
    printed = capsys.readouterr()
    assert "1 of 3 jobs failed: broken,seed=0" in printed.err
    assert "'prompt' takes" in printed.err
    assert len(here) == 3
    table = pyarrow.parquet.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    assert {row["point"] for row in table} == {"fine", "fine, too"}
    page = (tmp_path / "out" / "sweep.html").read_text()
    assert "broken,seed=0" in page
    # The baseline is the point that failed: no other takes its place.
    assert "test, without tests: broken, the baseline, has no result:" in printed.out
    assert "The baseline, <bdi>broken</bdi>, has no result" in page
    assert "baseline</td>" not in page
    ranked = json.loads((tmp_path / "out" / "ranking.json").read_text())["test"]["all"]
    assert [(place["difference"], place["chance"], place["adjusted"]) for place in ranked] == [(None,) * 3] * 2


def test_commands_are_printed_for_what_is_left_and_do_it(place, tmp_path, here, capsys):
    command = sweep(place, tmp_path / "out", GRID)
    assert main([*command, "--print"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert here == []
    assert len(printed) == 2
    assert main([*command, "--gather"]) == 2
    assert "none of the 2 jobs is done" in capsys.readouterr().err
    for line in printed:
        program, *arguments = shlex.split(line)
        assert program == "crome"
        assert main(arguments) == 0
        if line == printed[0]:
            assert not (tmp_path / "out" / "results.csv").exists()
            assert main([*command, "--gather"]) == 0
            assert here == []
            page = (tmp_path / "out" / "sweep.html").read_text()
            assert "2 jobs, 0 of them failed, 1 not run yet" in page
            assert shlex.split(printed[1])[-1].removeprefix("--job=") in page
            (tmp_path / "out" / "results.csv").unlink()
            capsys.readouterr()
    assert not (tmp_path / "out" / "results.csv").exists()
    assert main([*command, "--print"]) == 0
    assert capsys.readouterr().out == ""
    assert main(command) == 0
    assert here == []
    assert (tmp_path / "out" / "results.csv").exists()


def test_jobs_are_submitted_one_by_one_by_a_script_of_ones_own(place, tmp_path, here, capsys):
    script, calls = tmp_path / "submit.py", tmp_path / "calls"
    script.write_text(f"import json, sys; print(json.dumps(sys.argv[1:]), file=open({str(calls)!r}, 'a'))")
    command = sweep(place, tmp_path / "out", GRID)
    submit = f"{shlex.join([sys.executable, str(script)])} --name crome-{{job}}"
    assert main([*command, "--submit", submit, "--print"]) == 0
    printed = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert not calls.exists()
    assert main([*command, "--submit", submit]) == 0
    called = [json.loads(line) for line in calls.read_text().splitlines()]
    assert called == [line[2:] for line in printed]
    assert [call[0] for call in called] == ["--name"] * 2
    assert len({call[1] for call in called}) == 2
    assert all(re.fullmatch("crome-[0-9a-f]{12}", call[1]) for call in called)
    assert here == []
    assert main(called[0][3:]) == 0
    # What is done is not submitted again.
    calls.unlink()
    assert main([*command, "--submit", submit]) == 0
    assert [json.loads(line) for line in calls.read_text().splitlines()] == called[1:]
    for bad, problem in (("false", "false ended with status 1 at job"), ("no/such", "no/such cannot be run (No such")):
        assert main([*command, "--submit", bad]) == 2
        assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (
            ["--gin.crome.causal_weight=1.0"],
            "--gin.crome.causal_weight=1.0: the sweep binds crome.causal_weight itself",
        ),
        (["--gin.SEED=3"], "SEED: the seeds of a sweep are sweep.seeds"),
        (["--gin.sweep.points={'x': {'train.out': \"'y'\"}}"], "train.out: the sweep gives each job a folder"),
        (
            ["--gin.sweep.grid={'crome.neutral_weight': [0.5]}"],
            "crome.neutral_weight is not 0, but crome/Method.kinds takes no",
        ),
        (["--gin.sweep.points={'x': {'mmd.bins': 4}}"], "job x,causal_weight=0.5"),
        (["--gin.sweep.points={'x': {'crome.nothing': 4}}"], "crome' doesn't have a parameter named 'nothing'"),
        (["--gin.sweep.points={'x': {'Method.kinds': ('human',)}}"], "this run reads crome/Method.kinds in its place"),
        (
            ["--gin.sweep.points={'x': {}, 'y': {'train.log_every': 3}}"],
            "jobs x,causal_weight=0.5,neutral_weight=0.0,seed=0 and y,causal_weight=0.5,neutral_weight=0.0,seed=0 are "
            "the same",
        ),
        (
            ["--gin.Method.kinds=('human',)"],
            "--gin.Method.kinds=('human',): no job reads it; job causal_weight=0.5,neutral_weight=0.0,seed=0: this run "
            "reads crome/Method.kinds in its place; bind that instead",
        ),
        (["--gin.odin.length_weight=0.1"], "no job reads it; job causal_weight=0.5,neutral_weight=0.0,seed=0: no meth"),
        (["--gin.STEPS=2", "--gin.train.steps=3"], "--gin.STEPS=2: --gin.train.steps=3 takes its place"),
        (["--gin_file=gin/runs/quickstart.gin"], "configures both train and study"),
        (["--job=nothing"], "--job 'nothing': the sweep has no such job"),
        (["--gin.DATA='nowhere.jsonl'"], "nowhere.jsonl: does not exist"),
        (["--gin.OUT='gs://bucket/x'"], "train.out is gs://bucket/x: a sweep keeps logs and locks"),
    ],
)
def test_bad_input_is_told_before_any_job_runs(place, tmp_path, here, capsys, flags, problem):
    assert main(sweep(place, tmp_path / "out", GRID, *flags)) == 2
    assert problem in capsys.readouterr().err
    assert here == []
    assert not (tmp_path / "out").exists()


def test_a_run_is_measured_on_something(place, tmp_path, capsys):
    assert main(["sweep", *BASE, f"--gin.DATA='{place / 'train.jsonl'}'", f"--gin.OUT='{tmp_path}'", GRID]) == 2
    assert "nothing to measure on; give preference data with --data" in capsys.readouterr().err
