"""The figures of a sweep, worked out by hand on a handful of comparisons."""

import dataclasses
import json
import re

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.groups import Comparison, Kind, PreferenceGroup, build_group
from crome_jax.sweeps.heat_maps import heat_maps, plot_heat_map
from crome_jax.sweeps.page import render_sweep
from crome_jax.sweeps.plan import sweep
from crome_jax.sweeps.results import (
    COLUMNS,
    Measured,
    contenders,
    holm,
    rank,
    tidy_rows,
    with_ensembles,
    write_rankings,
    write_table,
)

BOOTSTRAP = Bootstrap(resamples=200)


def pair(number: int) -> PreferenceGroup:
    """Return a group of a preference and, for even numbers, a tie."""
    comparisons = [Comparison(0, 1)]
    if number % 2 == 0:
        comparisons.append(Comparison(0, 2, target=0.5, kind=Kind.NEUTRAL))
    return build_group(
        id=f"g{number}",
        prompt=f"question {number}",
        responses=["one answer", "another answer, longer", "a third"],
        comparisons=comparisons,
    )


GROUPS = [pair(number) for number in range(6)]


def rewards(right: list[int]) -> list[np.ndarray]:
    """Return rewards that get exactly the numbered preferences right."""
    return [np.array([1.0 if g in right else -1.0, 0.0, 0.5], np.float32) for g in range(len(GROUPS))]


def measured(**grid) -> list[Measured]:
    """Return a run for each job, whose rewards get as many preferences right as its place in the sweep."""
    jobs = sweep(grid={f"crome.{name}": values for name, values in grid.items()}, seeds=(0, 1))
    return [Measured(job, "crome", {"test": rewards(list(range(j % 7)))}) for j, job in enumerate(jobs)]


def test_rows_are_one_for_each_metric_with_hand_worked_values():
    (run,) = [Measured(sweep()[0], "crome", {"test": rewards([0, 1, 2])})]
    rows = {
        (row["family"], row["stratum"], row["metric"]): row for row in tidy_rows([run], {"test": GROUPS}, BOOTSTRAP)
    }
    whole = rows["all", "all", "accuracy"]
    assert (whole["value"], whole["count"]) == (0.5, 6)
    assert 0 <= whole["low"] < 0.5 < whole["high"] <= 1
    assert rows["kind", "human", "accuracy"]["value"] == 0.5
    # Ties of groups 0, 2, 4: |1 - 0.5| twice and |-1 - 0.5|.
    assert rows["all", "all", "tie_distance"]["value"] == pytest.approx((0.5 + 0.5 + 1.5) / 3)
    assert rows["all", "all", "ties_equal"]["value"] == 0
    # -log sigmoid(1) and -log sigmoid(-1), three of each.
    expected = (np.log1p(np.exp(-1)) + np.log1p(np.exp(1))) / 2
    assert rows["all", "all", "log_loss"]["value"] == pytest.approx(expected)
    assert rows["length", "shorter_preferred", "accuracy"]["count"] == 6
    assert all(row["value"] is not None for row in rows.values())


def test_the_table_is_the_same_in_both_formats(tmp_path):
    rows = tidy_rows(measured(causal_weight=[0.5, 1.0]), {"test": GROUPS}, BOOTSTRAP)
    parquet, text = write_table(rows, tmp_path)
    there = pyarrow.parquet.read_table(parquet)
    assert there.column_names == [*COLUMNS, "crome.causal_weight"]
    assert there.num_rows == len(rows)
    assert set(there["crome.causal_weight"].to_pylist()) == {0.5, 1.0}
    assert pyarrow.csv.read_csv(text)["value"].to_pylist() == pytest.approx(there["value"].to_pylist())


def test_a_binding_of_one_point_only_is_empty_for_the_others(tmp_path):
    jobs = sweep(points={"a": {}, "b": {"crome/Method.kinds": ("human",)}})
    runs = [Measured(job, "crome", {"test": rewards([0])}) for job in jobs]
    parquet, _ = write_table(tidy_rows(runs, {"test": GROUPS}, BOOTSTRAP), tmp_path)
    there = pyarrow.parquet.read_table(parquet).to_pylist()
    assert {(row["point"], row["crome/Method.kinds"]) for row in there} == {("a", None), ("b", "('human',)")}


def test_a_ranking_takes_the_mean_of_seeds_and_pairs_comparisons():
    # The baseline is right on 0, 1, 2 with one seed and on 0 with the other; its rival on all but 5 with both.
    ranked = rank(
        GROUPS,
        {"base": [rewards([0, 1, 2]), rewards([0])], "rival": [rewards([0, 1, 2, 3, 4])] * 2},
        Bootstrap(resamples=4000),
    )
    assert [place.name for place in ranked] == ["rival", "base"]
    rival, base = ranked
    assert base.accuracy == pytest.approx((3 + 1) / 12)
    assert (base.lowest, base.highest, base.seeds) == (pytest.approx(1 / 6), pytest.approx(1 / 2), 2)
    assert base.difference is base.chance is base.adjusted is None
    # Differences by group: 0, 1/2, 1/2, 1, 1, 0.
    assert rival.difference == pytest.approx(0.5)
    # All of their 6 ** 6 equally likely resamples; those as far from 1/2 as 0 is have a mean of 0 or of 1.
    changes = np.array([0, 0.5, 0.5, 1, 1, 0])
    every = changes[np.stack(np.meshgrid(*[np.arange(6)] * 6), -1).reshape(-1, 6)].mean(-1)
    exact = float((np.abs(every - 0.5) >= 0.5).mean())
    assert rival.chance == pytest.approx(exact, abs=0.003)  # Of 4,000 draws: five standard errors of a share of 0.003.
    assert rival.adjusted == rival.chance  # One test needs no correction.
    low, high = rival.difference_interval
    assert 0 <= low < 0.5 < high <= 1


def test_ensembles_are_corrected_for_by_themselves():
    base, rival = [rewards([0])], [rewards([0, 1, 2, 3, 4])]
    given = {"base": base, "rival": rival, "mean": rival, "worst": rival}
    together = {place.name: place for place in rank(GROUPS, given, BOOTSTRAP)}
    apart = {place.name: place for place in rank(GROUPS, given, BOOTSTRAP, ensembles=("mean", "worst"))}
    chance = together["rival"].chance
    assert {together[name].adjusted for name in given if name != "base"} == {3 * chance}
    assert apart["rival"].adjusted == chance
    assert apart["mean"].adjusted == apart["worst"].adjusted == 2 * chance


def test_equal_contenders_are_not_told_apart():
    _, same = rank(GROUPS, {"base": [rewards([0, 3])], "same": [rewards([0, 3])]}, BOOTSTRAP)
    assert (same.difference, same.chance) == (0.0, 1.0)


def test_without_a_preference_there_is_no_ranking():
    ties = [build_group(id="t", prompt="q", responses=["a", "b"], comparisons=[Comparison(0, 1, target=0.5)])]
    assert rank(ties, {"base": [[np.zeros(2)]]}, BOOTSTRAP) == []


def test_a_category_is_ranked_by_itself_and_kept_with_the_whole(tmp_path):
    groups = [dataclasses.replace(g, metadata={"category": "a" if n < 2 else "b"}) for n, g in enumerate(GROUPS)]
    given = {"base": [rewards([2])], "rival": [rewards([0, 1])]}
    whole, some = rank(groups, given, BOOTSTRAP), rank(groups, given, BOOTSTRAP, category="a")
    assert [(place.name, place.accuracy) for place in some] == [("rival", 1.0), ("base", 0.0)]
    path = write_rankings({"test": whole}, {"test": {"a": some}}, tmp_path)
    kept = json.loads(path.read_text())["test"]
    assert [place["name"] for place in kept["all"]] == ["rival", "base"]
    assert kept["by_category"]["a"][0]["accuracy"] == 1.0


def test_seeds_taken_together_are_further_contenders():
    runs = contenders(measured(causal_weight=[0.5]))
    together = with_ensembles(runs, "test", ["mean", "worst"])
    assert list(together) == [
        "causal_weight=0.5",
        *(f"causal_weight=0.5, {how} of 2 seeds" for how in ("mean", "worst")),
    ]
    # One seed gets nothing right, the other the first: 1 and -1 have the mean 0, and -1 is the lowest.
    assert together["causal_weight=0.5, mean of 2 seeds"][0][0][0] == 0.0
    assert together["causal_weight=0.5, worst of 2 seeds"][0][0][0] == -1.0


def test_holm_by_hand():
    # Sorted: 0.01 x 3; 0.02 x 2 = 0.04; 0.5 x 1.
    assert holm({"a": 0.5, "b": 0.01, "c": 0.02}) == pytest.approx({"b": 0.03, "c": 0.04, "a": 0.5})
    # 0.03 x 2 = 0.06, and the larger chance is no less; no chance exceeds 1.
    assert holm({"a": 0.03, "b": 0.04}) == pytest.approx({"a": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=6))
def test_holm_keeps_the_order_and_never_lowers_a_chance(chances):
    adjusted = holm(chances)
    assert adjusted.keys() == chances.keys()
    assert all(chances[name] <= adjusted[name] <= 1 for name in chances)
    order = sorted(chances, key=lambda name: chances[name])
    assert [adjusted[name] for name in order] == sorted(adjusted.values())


def test_a_contender_is_a_point_or_a_point_with_its_method():
    job = sweep(points={"p": {}})[0]
    two = [Measured(job, method, {}) for method in ("odin", "mmd")]
    assert contenders(two[:1]).keys() == {"p"}
    assert contenders(two).keys() == {"p, odin", "p, mmd"}


def test_two_swept_numbers_make_a_map_and_one_does_not():
    runs = contenders(measured(causal_weight=[0.5, 1.0, 2.0], neutral_weight=[0.0, 1.0]))
    ranked = rank(GROUPS, {who: [run.rewards["test"] for run in some] for who, some in runs.items()}, BOOTSTRAP)
    (one,) = heat_maps(runs, ranked)
    assert (one.title, one.across, one.down) == ("", "crome.causal_weight", "crome.neutral_weight")
    assert one.cells.keys() == {(x, y) for x in (0.5, 1.0, 2.0) for y in (0.0, 1.0)}
    # Jobs 0 and 1, the seeds of the first cell, are right on 0 and on 1 of 6 preferences.
    assert one.cells[0.5, 0.0].accuracy == pytest.approx(1 / 12)
    texts = [text.get_text() for text in plot_heat_map(one, 0.0, 1.0).axes[0].texts]
    assert "8.3" in texts
    assert len(texts) == 2 * 6  # An accuracy and an interval each.
    alone = contenders(measured(causal_weight=[0.5, 1.0]))
    assert heat_maps(alone, ranked[:0]) == []


@pytest.mark.parametrize("grid", [{"causal_weight": [0.5, 1.0]}, {"causal_weight": [1, 2], "neutral_weight": [0, 1]}])
def test_the_page_needs_no_network_and_escapes_what_it_is_given(grid):
    runs = contenders(measured(**grid))
    rankings = {
        "<test>": rank(GROUPS, {who: [run.rewards["test"] for run in some] for who, some in runs.items()}, BOOTSTRAP)
    }
    first = next(iter(runs))
    page = render_sweep("A & B", rankings, runs, first, {"job <1>": "out of <memory>"}, ["job <2>"], 9, BOOTSTRAP)
    assert "9 jobs, 1 of them failed, 1 not run yet" in page
    assert "job &lt;2&gt;" in page
    assert "A &amp; B" in page
    assert "&lt;memory&gt;" in page
    assert "<test>" not in page
    assert "<svg" in page
    assert not re.findall(r'(?:src|href|action)="(?!#)[^"]*"|url\((?!#)|@import|<script', page)
    assert page.count("baseline</td>") == 1
