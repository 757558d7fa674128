"""The benchmark of methods, on a tiny backbone and a small testbed: what the page says is what the sweep found."""

import json
import os
import sys
from pathlib import Path

import pytest

from crome_jax.cli import main
from crome_jax.errors import CromeError
from crome_jax.sweeps import launch
from crome_jax.training import study, train
from crome_jax.weights.backbones import load_backbone

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

from benchmarks.methods import __main__ as command
from benchmarks.methods.page import render

POINTS = {name: {"study.methods": f"[@{name}/Method()]"} for name in ("bradley_terry", "odin", "rrm")}
POINTS["rrm"]["GROUPS"] = "%RRM_GROUPS"
TINY = (
    *("--gin_file=gin/models/tiny.gin", "--gin.study.layers=None", "--gin.study.trainable=1", "--gin.ROW_TOKENS=320"),
    *("--gin.study.steps=2", "--gin.study.search_steps=1", "--gin.study.learning_rates=(1e-3,)"),
    *("--gin.study.rows_per_step=8", "--gin.study.rows_at_once=8", "--gin.sweep.seeds=(0, 1)"),
    f"--gin.sweep.points={POINTS}",
)
SMALL = ("--train=12", "--validation=4", "--test=8", "--unsure=0")  # A tiny baseline is sure of every tie.


@pytest.mark.slow
def test_the_page_holds_what_the_sweep_found_and_nothing_is_done_twice(tmp_path):
    ran, apart_from = [], []

    def apart(argv):
        apart_from.append(argv)
        assert main(argv) == 0

    def only(commands, seed):
        return {job: command for job, command in commands.items() if job.endswith(f"seed={seed}")}

    def page(folder):
        return (folder / "page.md").read_text()

    def run_here(commands, *, at_once):
        ran.extend(commands)
        return {job: "failed" for job, (arguments, _) in commands.items() if main(arguments[3:])}

    base = load_backbone("tiny", 1)  # Reading its tokenizer takes seconds.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "x")))
        patch.setenv("GLIBC_TUNABLES", os.environ.get("GLIBC_TUNABLES", ""))
        for module in (study, train):
            patch.setattr(module, "load_backbone", lambda *_: base)
        arguments = ["--work", str(tmp_path / "work"), "--table", str(tmp_path / "page.md"), *SMALL, *TINY]
        with pytest.raises(CromeError, match="--gather: not even the baseline is done"):
            command.run([*arguments, "--gather"])
        patch.setattr(command, "_apart", apart)
        # Cut off after the first seed: the page of what is done says what is missing.
        patch.setattr(launch, "run_side_by_side", lambda commands, at_once: run_here(only(commands, "0"), at_once=1))
        command.run(arguments)
        assert "- jobs: 3 of 6 done; missing: bradley_terry,seed=1; odin,seed=1; rrm,seed=1" in page(tmp_path)
        patch.setattr(launch, "run_side_by_side", run_here)
        command.run(arguments)
        whole = page(tmp_path)
        command.run([*arguments, "--gather"])
        assert page(tmp_path).replace(" --gather", "") == whole
    # The baseline came first, for RRM's filter, and was not run again; what was cut off was the second seed.
    assert ran == ["odin,seed=0", "rrm,seed=0", *(f"{name},seed=1" for name in POINTS)]
    trained, filtered = apart_from
    assert trained[-1] == "--job=bradley_terry,seed=0"
    assert filtered[:2] == ["augment", "--gin_file=gin/augment/rrm.gin"]
    assert "- jobs: 6 of 6 done\n" in whole
    # Later jobs found what the frozen layers gave for the texts of the first.
    reports = [*(tmp_path / "work" / "sweep").glob("jobs/odin*/run/report.json")]
    assert len(reports) == 2
    for report in reports:
        assert not any(row["not encoded before"] for row in json.loads(report.read_text())["facts"]["frozen layers"])
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    rankings = json.loads((tmp_path / "work" / "sweep" / "ranking.json").read_text())
    assert list(rankings) == ["in_distribution", "reversed", "unseen"]
    found = {place["name"]: place for place in rankings["reversed"]["all"]}
    ensembles = {f"{name}, {how} of 2 seeds" for name in POINTS for how in ("mean", "worst")}
    assert found.keys() == {*POINTS, *ensembles}
    rows = [line.split("|")[1:-1] for line in (tmp_path / "page.md").read_text().splitlines() if line.startswith("|")]
    table = {row[0].strip(): dict(zip(map(str.strip, rows[0]), map(str.strip, row), strict=True)) for row in rows[2:]}
    assert rows[2][0].strip() == "Bradley-Terry"  # The baseline comes first.
    labels = ("Bradley-Terry", "ODIN", "RRM")
    assert table.keys() == {*labels} | {f"{one}, {how} of 2 seeds" for one in labels for how in ("mean", "worst")}
    assert all(table[label]["seeds"] == "2" for label in labels)
    for label, name in (("Bradley-Terry", "bradley_terry"), ("ODIN", "odin")):
        assert float(table[label]["reversed"].split()[0].rstrip("*")) == round(100 * found[name]["accuracy"], 1)
    assert {title for title in table["ODIN"] if title.startswith("reversed: ")} == {
        f"reversed: {category}" for category in rankings["reversed"]["by_category"]
    }


def test_a_difference_that_is_sure_is_marked():
    place = {"seeds": 3, "accuracy": 0.5, "interval": [0.25, 0.75], "difference": None, "adjusted": None}
    ranked = [
        {**place, "name": "crome", "accuracy": 0.875, "difference": 0.375, "adjusted": 0.04},
        {**place, "name": "rrm", "seeds": 1, "accuracy": 0.625, "difference": 0.125, "adjusted": 0.06},
        {**place, "name": "bradley_terry"},
    ]
    page = render({"reversed": {"all": ranked, "by_category": {"chat": ranked[:1]}}}, {"date": "today"}, "x.png")
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines == [
        "| method | seeds | reversed | reversed: chat |",
        "|---|---|---|---|",
        "| Bradley-Terry | 3 | 50.0 [25.0, 75.0] | – |",
        "| Crome | 3 | 87.5* [25.0, 75.0] | 87.5* [25.0, 75.0] |",
        "| RRM | 1 | 62.5 [25.0, 75.0] | – |",
    ]
