"""The benchmark of methods, on a tiny backbone and a small testbed: what the page says is what the sweep found."""

import json
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from crome_jax.cli import main
from crome_jax.errors import CromeError
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.groups import Comparison, Message, PreferenceGroup, Response
from crome_jax.sweeps import launch
from crome_jax.sweeps.plan import Job
from crome_jax.sweeps.results import Measured
from crome_jax.training import study, train
from crome_jax.weights.backbones import load_backbone

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

from benchmarks.methods import __main__ as command
from benchmarks.methods.evidence import Evidence, Given, Pulls, compare_expected, measure_pulls
from benchmarks.methods.page import render

POINTS = {name: {"study.methods": f"[@{name}/Method()]"} for name in ("bradley_terry", "odin", "rrm")}
POINTS["rrm"]["GROUPS"] = "%RRM_GROUPS"
POINTS["crome_paper"] = {"study.methods": "[@crome/Method()]", "GROUPS": "%PAPER_GROUPS"}
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
        with pytest.raises(CromeError, match=r"--gin.OUT='x': the benchmark makes this itself"):
            command.run([*arguments, "--gin.OUT='x'"])
        patch.setattr(command, "_apart", apart)
        # Cut off after the first seed: the page of what is done says what is missing.
        patch.setattr(launch, "run_side_by_side", lambda commands, at_once: run_here(only(commands, "0"), at_once=1))
        command.run(arguments)
        missing = "; ".join(f"{name},seed=1" for name in POINTS)
        assert f"- jobs: 4 of 8 done; missing: {missing}" in page(tmp_path)
        patch.setattr(launch, "run_side_by_side", run_here)
        command.run(arguments)
        whole = page(tmp_path)
        command.run([*arguments, "--gather"])
        assert page(tmp_path).replace(" --gather", "") == whole
    # The baseline came first, for RRM's filter, and was not run again; what was cut off was the second seed.
    assert ran == [*(f"{name},seed=0" for name in [*POINTS][1:]), *(f"{name},seed=1" for name in POINTS)]
    trained, *filtered = apart_from
    assert trained[-1] == "--job=bradley_terry,seed=0"
    assert [recipe[:2] for recipe in filtered] == [
        ["augment", f"--gin_file=gin/augment/{name}.gin"] for name in ("rrm", "crome")
    ]
    assert "- jobs: 8 of 8 done\n" in whole
    # Later jobs found what the frozen layers gave for the texts of the first.
    reports = [*(tmp_path / "work" / "sweep").glob("jobs/odin*/run/report.json")]
    assert len(reports) == 2
    for report in reports:
        assert not any(row["not encoded before"] for row in json.loads(report.read_text())["facts"]["frozen layers"])
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    rankings = json.loads((tmp_path / "work" / "sweep" / "ranking.json").read_text())
    assert list(rankings) == ["in_distribution", "reversed", "absent", "unseen"]
    found = {place["name"]: place for place in rankings["reversed"]["all"]}
    ensembles = {f"{name}, {how} of 2 seeds" for name in POINTS for how in ("mean", "worst")}
    assert found.keys() == {*POINTS, *ensembles}
    by_title = {}
    for part in whole.split("\n\n"):
        if part.startswith("| "):
            titles, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines()]
            by_title[titles[0], titles[1]] = {row[0]: dict(zip(titles, row, strict=True)) for row in rows}
    table = by_title["method", "seeds"]
    assert next(iter(table)) == "Bradley-Terry"  # The baseline comes first.
    labels = ("Bradley-Terry", "ODIN", "RRM", "Crome as in the paper")
    assert table.keys() == {*labels} | {f"{one}, {how} of 2 seeds" for one in labels for how in ("mean", "worst")}
    assert all(table[label]["seeds"] == "2" for label in labels)
    for label, name in (("Bradley-Terry", "bradley_terry"), ("ODIN", "odin")):
        assert float(table[label]["reversed"].split()[0].rstrip("*")) == round(100 * found[name]["accuracy"], 1)
    assert {title for title in table["ODIN"] if title.startswith("reversed: ")} == {
        f"reversed: {category}" for category in rankings["reversed"]["by_category"]
    }
    given = by_title["method", "learning rates"]
    assert given.keys() == {*labels}
    assert {row["learning rates"] for row in given.values()} == {"0.001, 0.001"}
    assert given["RRM"]["causal and neutral"] != "0" == given["ODIN"]["causal and neutral"]
    assert by_title["method", "long (told of)"].keys() == {*labels}
    assert by_title["expected", "difference"].keys() == {
        "Crome as in the paper above RRM",
        "Crome as in the paper above Bradley-Terry",
        "RRM above Bradley-Terry",
        "ODIN likes length less than the baseline does",
        "ODIN likes the other styles as much, in the mean",
    }


def test_a_difference_that_is_sure_is_marked():
    place = {"seeds": 3, "accuracy": 0.5, "interval": [0.25, 0.75], "difference": None, "adjusted": None}
    place |= {"lowest": 0.375, "highest": 0.625}
    ranked = [
        {**place, "name": "crome", "accuracy": 0.875, "difference": 0.375, "adjusted": 0.04},
        {**place, "name": "rrm", "seeds": 1, "accuracy": 0.625, "difference": 0.125, "adjusted": 0.06},
        {**place, "name": "bradley_terry"},
    ]
    evidence = Evidence(
        [("crome", "rrm", 0.25, (0.125, 0.5), 0.01)],
        Pulls(("long",), {"crome": [(0.5, (0.25, 0.75)), (-0.125, (-0.25, 0.0))]}, {}),
        {"crome": Given((1e-3, 5e-4), 1.5, 30, 60, 9000, 4.25)},
    )
    page = render({"reversed": {"all": ranked, "by_category": {"chat": ranked[:1]}}}, evidence, {"date": "x"}, "x.png")
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines == [
        "| method | seeds | reversed | reversed: chat |",
        "| --- | --- | --- | --- |",
        "| Bradley-Terry | 3 | 50.0 [25.0, 75.0] (37.5–62.5) | – |",
        "| Crome | 3 | 87.5* [25.0, 75.0] (37.5–62.5) | 87.5* [25.0, 75.0] (37.5–62.5) |",
        "| RRM | 1 | 62.5 [25.0, 75.0] | – |",
        "| expected | difference | chance |",
        "| --- | --- | --- |",
        "| Crome above RRM | +25.0 [+12.5, +50.0] | 0.010 |",
        "| method | long (told of) | mean of the others |",
        "| --- | --- | --- |",
        "| Crome | +50.0 [+25.0, +75.0] | -12.5 [-25.0, +0.0] |",
        "| method | learning rates | passes | human comparisons | causal and neutral | tokens | minutes a job |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| Crome | 0.001, 0.0005 | 1.5 | 30 | 60 | 9,000 | 4.2 |",
    ]


STYLES = ("long", "bullets", "polite")


def styled_pairs(count: int, agreeing: float, seed: int) -> list[PreferenceGroup]:
    """Pairs whose first answer is the better one, each style in it with the probability `agreeing`."""
    rng, groups = random.Random(seed), []
    for n in range(count):
        texts = ("right", "wrong")
        held = [{name: rng.random() < p for name in STYLES} for p in (agreeing, 1 - agreeing)]
        responses = tuple(Response(text, metadata=has) for text, has in zip(texts, held, strict=True))
        groups.append(
            PreferenceGroup(
                id=f"q{n}",
                prompt=(Message("user", f"Question {n}?"),),
                responses=responses,
                comparisons=(Comparison(0, 1),),
                metadata={"spurious_attributes": ", ".join(STYLES)},
            )
        )
    return groups


def rewarded(groups: list[PreferenceGroup], likes: dict[str, float], quality: float) -> list[np.ndarray]:
    worth = [[sum(v * r.metadata[k] for k, v in likes.items()) for r in group.responses] for group in groups]
    return [np.array([first + quality, second]) for first, second in worth]


def measured(point: str, tests: dict, likes: dict[str, float], quality: float = 1.0, seed: int = 0) -> Measured:
    rewards = {split: rewarded(groups, likes, quality) for split, groups in tests.items()}
    return Measured(Job(f"{point},seed={seed}", point, {}, seed), point, rewards)


def test_a_style_pulls_by_what_it_is_worth_itself():
    tests = {"in_distribution": styled_pairs(200, 0.8, 0), "reversed": styled_pairs(200, 0.2, 1)}
    likes = {"long": 2.0, "bullets": 1.0, "polite": 0.0}
    runs = {
        "bradley_terry": [measured("bradley_terry", tests, likes, seed=seed) for seed in (0, 1)],
        "odin": [measured("odin", tests, likes | {"long": 0.0})],
    }
    pulls = measure_pulls(runs, tests, "bradley_terry", Bootstrap(resamples=200))
    assert not measure_pulls(runs, tests, "absent", Bootstrap(resamples=2)).told
    assert pulls.styles == ("long", "bullets", "polite")
    spread = {}
    for name, seeds in runs.items():
        pooled = np.concatenate([[a - b for a, b in seeds[0].rewards[split]] for split in tests])
        spread[name] = np.sqrt(np.mean(pooled**2))
    worth = [value for value, _ in pulls.of["bradley_terry"]]
    np.testing.assert_allclose(worth, np.array([2.0, 1.0, 0.0, 0.5]) / spread["bradley_terry"], atol=1e-9)
    told, others = pulls.told["odin"]
    assert pulls.told.keys() == {"odin"}
    assert told[0] == pytest.approx(-2.0 / spread["bradley_terry"])
    assert others[0] == pytest.approx(0.5 / spread["odin"] - 0.5 / spread["bradley_terry"])
    assert told[1] == pytest.approx((told[0], told[0]))  # Nothing of it is chance.


def test_what_is_expected_is_tested_on_the_same_comparisons():
    groups = styled_pairs(40, 0.2, 0)
    tests = {"reversed": groups}
    runs = {
        "bradley_terry": [measured("bradley_terry", tests, {"long": 3.0})],
        "rrm": [measured("rrm", tests, {"long": 0.5})],
        "crome": [measured("crome", tests, {})],
    }
    compared = compare_expected(runs, groups, "reversed", Bootstrap(resamples=200))
    assert [(ahead, behind) for ahead, behind, *_ in compared] == [
        ("crome", "rrm"),
        ("rrm", "bradley_terry"),
        ("crome", "bradley_terry"),
    ]
    (_, _, none, _, sure), (_, _, some, interval, chance), _ = compared
    fooled = sum(not group.responses[0].metadata["long"] and group.responses[1].metadata["long"] for group in groups)
    assert (none, sure) == (0.0, 1.0)
    assert some == pytest.approx(fooled / 40)
    assert interval[0] > 0
    assert chance < 0.05
