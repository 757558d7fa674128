"""The printed tables say what report.json does, and so do the page and the comparison."""

import re
from pathlib import Path

import numpy as np

from crome_jax.data.datasets.benchmarks.groups import benchmark_group
from crome_jax.evaluation.benchmark_figures import benchmark_figures
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.comparison_markdown import render_markdown
from crome_jax.evaluation.page import render_page
from crome_jax.evaluation.printed_tables import accuracy_table, benchmark_table
from crome_jax.evaluation.report import build_report
from crome_jax.evaluation.run_comparison import Evaluated, compare_runs


def accuracy(share, comparisons):
    return {"accuracy": share, "interval": share and [share - 0.1, share + 0.1], "comparisons": comparisons}


def test_data_of_several_kinds_have_a_row_for_each():
    mixed = accuracy(0.75, 12) | {"by_kind": {"human": accuracy(0.5, 4), "causal": accuracy(0.875, 8)}}
    plain = accuracy(0.6, 10) | {"by_kind": {"human": accuracy(0.6, 10)}}
    ties = accuracy(None, 0) | {"by_kind": {}}
    splits = {"mixed": mixed, "plain": plain, "ties": ties}
    packing = [{"method": "crome", "data": name, "responses cut": 3, "equal once cut": 1} for name in splits]
    table = accuracy_table({"methods": {"crome": {"splits": splits}}}, packing)
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["mixed", "crome", "75.0%", "65.0%", "to", "85.0%", "12", "3", "1"],
        ["human", "ones", "50.0%", "40.0%", "to", "60.0%", "4"],
        ["causal", "ones", "87.5%", "77.5%", "to", "97.5%", "8"],
        ["plain", "crome", "60.0%", "50.0%", "to", "70.0%", "10", "3", "1"],
        ["ties", "crome", "-", "-", "0", "3", "1"],
    ]


def test_what_rewording_loses_is_shown_wherever_scores_are():
    # Four pairs, all but one right as they were: 75.0 before. Quoted one of four is right: 25.0, 50.0 points less and
    # two thirds of what was there.
    right = {"original": (1, 1, 1, -1), "quotes": (1, -1, -1, -1)}
    groups, rewards = [], []
    for name, signs in right.items():
        for n, sign in enumerate(signs):
            texts = {"chosen": [f"good {n}"], "rejected": [f"bad {n}"]}
            group = benchmark_group(id=f"{name}/{n}", prompt=f"{name} {n}?", subset=name, category=name, **texts)
            groups.append(group)
            rewards.append(sign * np.array([1.0, -1.0] if group.metadata["chosen_at"] == "0" else [-1.0, 1.0]))
    bootstrap = Bootstrap(resamples=20)
    scored = {"crome": (groups, rewards)}
    benchmarks = {"rewordbench": benchmark_figures("rewordbench", scored, bootstrap=bootstrap)}
    printed = benchmark_table(benchmarks)
    assert printed.splitlines()[0].split()[-2:] == ["before", "drop"]
    (line,) = [line.split() for line in printed.splitlines() if line.split()[:2] == ["quotes", "crome"]]
    assert (line[2], line[-3:]) == ("25.0", ["4", "75.0", "50.0"])
    report = build_report({"crome": {"rewordbench": (groups, rewards)}}, benchmarks=benchmarks, bootstrap=bootstrap)
    page = render_page(report.figures, [])
    assert re.search(r"<bdi>quotes</bdi></th><td>75\.0</td><td>50\.0<span", page)
    assert page.count("<br>before") == page.count("<br>drop") == 1
    markdown = render_markdown(compare_runs([Evaluated(Path("a run"), report.figures, ())], bootstrap))
    assert "| reworded | Crome: before | Crome: drop |" in markdown
    assert re.search(r"^\| quotes \| 75\.0 \| 50\.0 \(", markdown, re.MULTILINE)
    for shown in (printed, page, markdown):
        assert re.search(r"Mean drop: 50\.0 points \(.* to .*\), on average 66\.7% of the accuracy before\.", shown)


def test_no_columns_of_drops_are_printed_of_what_is_not_reworded():
    group = benchmark_group(id="1", prompt="Why?", chosen=["a"], rejected=["b"], subset="s", category="s")
    figures = benchmark_figures("pairs", {"crome": ([group], [np.array([1.0, 0.0])])}, bootstrap=Bootstrap(20))
    printed = benchmark_table({"pairs": figures})
    assert printed.splitlines()[0].split()[-1] == "examples"
    assert "drop" not in printed
