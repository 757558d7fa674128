"""Runs side by side: paired on what they share, with the figures that each one's report has, and nothing that runs."""

import dataclasses
import gzip
import json
import math
import re
import shutil

import numpy as np
import pytest
from browser import look

from crome_jax.cli import main
from crome_jax.data.datasets.benchmarks.groups import benchmark_group
from crome_jax.errors import CromeError
from crome_jax.evaluation.benchmark_figures import benchmark_figures, benchmark_rows
from crome_jax.evaluation.benchmark_tests import compare_scores
from crome_jax.evaluation.benchmarks.rewardbench import SECTIONS
from crome_jax.evaluation.best_of_n_figures import PARTS, best_of_n_figures
from crome_jax.evaluation.best_of_n_tests import compare_picks, picks_by_prompt, shown_tests
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.candidates import Candidates
from crome_jax.evaluation.comparison_markdown import render_markdown
from crome_jax.evaluation.outcome_files import read_outcomes, write_outcomes
from crome_jax.evaluation.page import render_page
from crome_jax.evaluation.paired_tests import biggest_disagreements, mcnemar, paired_test
from crome_jax.evaluation.part_files import PARTS as PARTS_FILE
from crome_jax.evaluation.part_files import read_parts, write_parts
from crome_jax.evaluation.report import build_report, write_report
from crome_jax.evaluation.run_additions import read_additions
from crome_jax.evaluation.run_comparison import Evaluated, compare_runs, read_evaluated
from crome_jax.evaluation.win_rate import length_controlled_win_rate
from crome_jax.groups import Comparison, Message, build_group

BOOTSTRAP = Bootstrap(resamples=50)
HOSTILE = "<script>document.title='taken'</script> {{7*7}} & |"


def test_mcnemar_by_hand():
    # 1 against 5 of 6: 2 (C(6,0) + C(6,1)) / 2^6 = 14/64.
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(14 / 64)
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1
    assert mcnemar(0, 10) == pytest.approx(2 / 1024)
    assert mcnemar(0, 2000) < 1e-300 or mcnemar(0, 2000) == 0


def test_a_paired_test_by_hand():
    left, right = np.array([1, 1, 1, 0, 0.5]), np.array([1, 0, 0, 1, 0.5])
    found = paired_test(left, right, np.arange(5), BOOTSTRAP)
    assert found["difference"] == pytest.approx(0.2)
    assert (found["only_left"], found["only_right"], found["comparisons"]) == (2, 1, 5)
    assert found["mcnemar"] == 1  # 2 (1 + 3) / 8
    assert (found["p"], found["prompts"]) == (BOOTSTRAP.paired_chance(left, right, np.arange(5)), 5)
    alone = paired_test(left, right, np.zeros(5, int), BOOTSTRAP)
    assert (alone["interval"], alone["p"], alone["mcnemar"], alone["prompts"]) == (None, None, 1, 1)


def test_disagreements_are_ranked_in_each_models_own_spread():
    # The second model's rewards are ten times as spread; scaled alike, the third comparison is the strongest.
    left, right = np.array([1.0, 1.0, -2.0, 1.0]), np.array([10.0, -10.0, 20.0, -1.0])
    assert biggest_disagreements(left, right, 2) == [2, 1]
    assert biggest_disagreements(left, -left, 9) == [2, 0, 1, 3]
    assert biggest_disagreements(left, left, 9) == []


def groups(count=12):
    subsets = ("alpacaeval-easy", "donotanswer")
    return [
        benchmark_group(
            id=f"g{n}",
            prompt=f"Question {n}? {HOSTILE}",
            chosen=[f"good {n} {HOSTILE}"],
            rejected=[f"bad {n}, in more words"],
            subset=subsets[n % 2],
            category=subsets[n % 2],
        )
        for n in range(count)
    ]


def styled_groups():
    """Of RM-Bench; rewards that rise with a response's place tell nothing of its style."""
    styles = lambda word, n: [f"{word} {n}", f"{word} {n}, at length", f"**{word}** {n}, at length"]  # noqa: E731
    return [
        benchmark_group(
            id=f"chat/{n}",
            prompt=f"Why {n}?",
            chosen=styles("right", n),
            rejected=styles("wrong", n),
            subset="chat",
            category="chat",
        )
        for n in range(6)
    ]


def rewards(some, right, scale=1.0):
    """Give the chosen response the higher reward in the first `right` groups."""
    found = []
    for n, group in enumerate(some):
        reward = np.zeros(2)
        reward[int(group.metadata["chosen_at"])] = scale * (1 if n < right else -1)
        found.append(reward)
    return found


def write_run(folder, method, some, right, left_out=0):
    styled = styled_groups()
    evaluations = {
        method: {"rewardbench": (some, rewards(some, right)), "rm_bench": (styled, [np.arange(6.0) for _ in styled])}
    }
    benchmarks = {
        name: benchmark_figures(name, {method: scored}, left_out=left_out)
        for name, scored in evaluations[method].items()
    }
    facts = {
        "runs": [{"method": method, "run": str(folder.parent / f"model of {method}")}],
        "data": [{"data": name, "sha256": f"print of {name}"} for name in benchmarks],
        "scoring": [{"method": method, "data": name, "responses cut": int(name == "rm_bench")} for name in benchmarks],
    }
    training = {method: [{"step": step, "loss": 1.0} for step in range(3)]}
    report = build_report(evaluations, benchmarks=benchmarks, facts=facts, training=training, bootstrap=BOOTSTRAP)
    write_report(report, folder)
    cut = {
        name: [np.full(len(group.responses), n > 0) for n, group in enumerate(some)]
        for name, (some, _) in evaluations[method].items()
    }
    write_outcomes(folder, evaluations, {method: cut})
    write_parts(folder, {name: benchmark_rows(name, {method: scored}) for name, scored in evaluations[method].items()})
    return folder


def curve(value):
    return [{"n": n, "value": value, "interval": [0.1, 0.9], "oracle": 0.9, "random": 0.5} for n in (1, 2, 4)]


def best_of_n(model, judge="exact", **parts):
    """What `crome best_of_n` writes."""
    facts = {"model": str(model), "sha256": "print of candidates"}
    return {
        "schema": "crome_jax.best_of_n/1",
        "judge": judge,
        "prompts": 3,
        "candidates": 4,
        "curve": curve(0.515),
        "facts": facts,
        **parts,
    }


def diagnosis(model):
    """What `crome diagnose` writes, as far as it is shown here."""
    return {"schema": "crome_jax.diagnosis/1", "facts": {"model": str(model)}, "effects": EFFECTS}


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


EFFECT = {"double": {"ate": 0.5, "ate_interval": [0.4, 0.6]}}
EFFECTS = {"causal": {"factuality": EFFECT}, "spurious": {"bullets": EFFECT}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    some = groups()
    plain, other = place / "plain" / "evaluation", place / "x"
    write_run(plain, "bradley_terry", some, 6)
    write_run(other, "crome", some[:10], 9)
    rates = {"attack_success": {"curve": curve(0.625)}, "over_refusal": {"curve": curve(0.375)}}
    model = place / "model of crome"
    write_json(other / "best_of_n.json", best_of_n(model))
    write_json(model / "best_of_n" / "best_of_n.json", best_of_n(model, "refusal", **rates))
    write_json(model / "diagnosis" / "diagnosis.json", diagnosis(model))
    baseline = plain.parent / "model of bradley_terry"
    wins = [{"n": n, "win_rate": 0.3125} for n in (1, 2, 4)]
    write_json(plain / "best_of_n.json", best_of_n(baseline, "preference", length_controlled=wins))
    return plain, other


@pytest.fixture(scope="module")
def comparison(folders):
    return compare_runs([read_evaluated(folders[0].parent), read_evaluated(folders[1])], BOOTSTRAP)


def test_runs_are_paired_on_the_comparisons_that_they_share(comparison):
    # Of ten shared comparisons the first gets 6 right, the second 9, the first six among them.
    test = comparison["comparison"]["tests"]["rewardbench"]["crome"]
    assert test["baseline"] == "bradley_terry"
    assert test["comparisons"] == 10
    assert test["difference"] == pytest.approx(0.3)
    assert (test["only_left"], test["only_right"]) == (3, 0)
    assert test["mcnemar"] == 0.25
    assert 0 < test["p"] < 0.25
    assert comparison["methods"]["bradley_terry"]["splits"]["rewardbench"]["comparisons"] == 12
    disagreements = comparison["comparison"]["disagreements"]
    assert {item["prompt"].split("?")[0] for item in disagreements} == {"Question 6", "Question 7", "Question 8"}
    assert all(item["cut"] for item in disagreements)  # As all are but the first.
    page = render_page(comparison, [])
    assert "<b>cut to fit a row</b>" in page
    assert '12<span class="range">12 prompts</span>' in page
    assert all(item["differences"]["crome"] > 0 > item["differences"]["bradley_terry"] for item in disagreements)


def test_benchmarks_stand_beside_published_numbers(comparison):
    found = comparison["benchmarks"]["rewardbench"]
    assert set(found["methods"]) == {"bradley_terry", "crome"}
    assert [row["name"] for row in found["methods"]["crome"]["rows"]] == [
        row["name"] for row in found["methods"]["bradley_terry"]["rows"]
    ]
    published = comparison["comparison"]["published"]["rewardbench"]
    assert {entry["score"] for entry in published} >= {80.61, 84.15}
    assert all(entry["source"].startswith("arXiv") for entry in published)
    # Of whatever part a number is, our table has a row of that name; there it stands, and nowhere else.
    assert {entry["section"] for entry in published} <= {None, *SECTIONS}
    assert [(e["section"], e["score"]) for e in published if e["section"]] == [("Safety", 13.18), ("Reasoning", 7.19)]
    text, page = render_markdown(comparison), render_page(comparison, [])
    lines = [line for line in text.splitlines() if line.startswith("| Safety |")]
    assert [line.split(" | ")[-1] for line in lines] == ["+13.18 points [4] |"]
    assert "| 80.61 [1], 84.15 [2], +5.4 points [3] |" in text
    assert "| [4] | Crome over standard baselines, up to | Safety | +13.18 points | arXiv 2506.16507" in text
    row = page.split("<bdi>Safety</bdi></th>\n")[1].split("</tr>")[0]
    assert "<td>+13.18 points [4]</td>" in row


def test_scores_of_benchmarks_are_paired_on_the_examples_that_both_have(comparison):
    # Of RewardBench's first ten examples, half in Chat and half in Safety, the first has 6 right, the second 9.
    rows = comparison["comparison"]["benchmark_tests"]["rewardbench"]["crome"]
    found = {row["name"]: row for row in rows}
    assert list(found) == ["RewardBench", "Chat", "alpacaeval-easy", "Safety", "donotanswer"]
    # Examples 0, 2, ... are of Chat: of five the first has 3 right, the second 5; of the others 3 and 4.
    assert found["Chat"]["difference"] == pytest.approx(2 / 5)
    assert found["donotanswer"]["difference"] == pytest.approx(1 / 5)
    assert found["RewardBench"]["difference"] == pytest.approx((2 / 5 + 1 / 5) / 2)
    assert (found["RewardBench"]["examples"], found["Chat"]["examples"]) == (10, 5)
    low, high = found["RewardBench"]["interval"]
    assert 0 <= low < 0.3 < high < 0.8
    assert 0 < found["RewardBench"]["p"] < 0.5
    # Equal rewards differ nowhere, in no resample.
    same = comparison["comparison"]["benchmark_tests"]["rm_bench"]["crome"]
    assert {row["name"] for row in same} >= {"RM-Bench", "hard", "chat"}
    assert all((row["difference"], row["interval"], row["p"]) == (0, [0, 0], 1) for row in same)
    page, text = render_page(comparison, []), render_markdown(comparison)
    shown = f"{found['Chat']['interval'][0] * 100:.1f}–{found['Chat']['interval'][1] * 100:.1f}"
    assert f'<td>+40.0<span class="range">{shown}</span></td>' in page
    assert "| Crome | Safety, donotanswer | +20.0 (" in text
    assert f"| Crome | Chat | +40.0 ({shown}) |" in text


def test_parts_come_back_and_an_example_that_changed_is_none_that_both_have(tmp_path):
    some = groups(6)
    write = lambda folder, some: write_parts(  # noqa: E731
        folder, {"rewardbench": benchmark_rows("rewardbench", {"m": (some, rewards(some, 4))})}
    )
    write(tmp_path / "a", some)
    write(tmp_path / "b", [some[0], *groups(6)[1:5], dataclasses.replace(some[5], prompt=some[0].prompt)])
    (one, other) = (read_parts(tmp_path / name)["rewardbench"]["m"] for name in "ab")
    overall = next(row for row in one if row.level == "overall")
    assert [share for share, _ in overall.parts] == [0.5, 0.5]
    assert [part.values.tolist() for _, part in overall.parts] == [[1, 1, 0], [1, 1, 0]]
    whole = {row["name"]: row["examples"] for row in compare_scores(one, one, BOOTSTRAP)}
    part = {row["name"]: row["examples"] for row in compare_scores(one, other, BOOTSTRAP)}
    assert (whole["RewardBench"], part["RewardBench"], part["Chat"], part["Safety"]) == (6, 5, 3, 2)
    # A table of other parts has no line that is the same sum.
    chat = [group for group in some if group.metadata["subset"] == "alpacaeval-easy"]
    write(tmp_path / "c", chat)
    third = read_parts(tmp_path / "c")["rewardbench"]["m"]
    assert [row["name"] for row in compare_scores(one, third, BOOTSTRAP)] == ["Chat", "alpacaeval-easy"]
    report = json.loads((write_run(tmp_path / "run", "m", some, 4) / "report.json").read_text())
    report["benchmarks"]["rewardbench"]["methods"]["m"]["score"] += 0.01
    write_json(tmp_path / "run" / "report.json", report)
    with pytest.raises(CromeError, match=f"{PARTS_FILE} has other scores of rewardbench by 'm' than report.json"):
        read_evaluated(tmp_path / "run")


def test_the_style_matrix_is_drawn_and_written(comparison):
    found = comparison["benchmarks"]["rm_bench"]["methods"]["crome"]
    assert found["matrix"] == comparison["benchmarks"]["rm_bench"]["methods"]["bradley_terry"]["matrix"]
    page, text = render_page(comparison, []), render_markdown(comparison)
    (drawn,) = re.findall(r'<svg[^>]*RM-Bench by style of both answers".*?</svg>', page, re.DOTALL)
    cells = [f"{100 * share:.1f}" for row in found["matrix"] for share in row]
    assert all(drawn.count(f">{cell}<") >= cells.count(cell) for cell in cells)
    assert all(drawn.count(f">{style}<") >= 3 for style in found["styles"])  # Columns of two matrices, and rows.
    for style, row in zip(found["styles"], found["matrix"], strict=True):
        assert f"| {style} | {' | '.join(f'{100 * share:.1f}' for share in row)} |" in text


def test_responses_that_were_cut_are_said(comparison):
    page, text = render_page(comparison, []), render_markdown(comparison)
    assert "Cut to fit a row:</b> 1 response of <bdi>rm bench</bdi> by <bdi>Bradley-Terry</bdi>" in page
    assert "| Crome | rm_bench | 1 | print of rm_bench |" in text
    assert "| Crome | rewardbench | 0 | print of rewardbench |" in text
    whole = json.loads(json.dumps(comparison))
    for row in whole["facts"]["scoring"]:
        row["responses cut"] = 0
    assert "No response was cut to fit a row." in render_page(whole, [])


def test_rates_of_every_judge_are_shown_of_the_model_that_they_are_of(comparison):
    found = comparison["comparison"]
    assert {judge: list(by_method) for judge, by_method in found["best_of_n"].items()} == {
        "preference": ["bradley_terry"],
        "exact": ["crome"],
        "refusal": ["crome"],
    }
    assert list(found["effects"]) == ["crome"]
    assert found["warnings"] == []
    page, text = render_page(comparison, []), render_markdown(comparison)
    for said in ("share of harmful prompts complied with", "share of benign prompts refused", "length-controlled win"):
        assert f"<h3>Best of N: {said}" in page
        assert f"## Best of N: {said}" in text
    for shown in ("62.5", "37.5", "31.2"):  # Attack success, over-refusal, length-controlled win rate.
        assert f"<td>{shown}" in page
        assert f"| 4 | {shown}" in text
    assert "| factuality | causal | +0.50 (+0.40 to +0.60) |" in text


def test_one_evaluation_of_several_models_gives_each_its_own_figures(tmp_path):
    some = groups(4)
    evaluations = {method: {"rewardbench": (some, rewards(some, 2))} for method in ("one", "two")}
    facts = {"runs": [{"method": method, "run": str(tmp_path / method)} for method in evaluations]}
    write_report(build_report(evaluations, facts=facts, bootstrap=BOOTSTRAP), tmp_path / "both")
    none_cut = {"rewardbench": [np.zeros(2, bool)] * 4}
    write_outcomes(tmp_path / "both", evaluations, dict.fromkeys(evaluations, none_cut))
    write_json(tmp_path / "two" / "best_of_n" / "best_of_n.json", best_of_n(tmp_path / "two"))
    write_json(tmp_path / "both" / "diagnosis.json", diagnosis("elsewhere/three"))
    found = compare_runs([read_evaluated(tmp_path / "both")], BOOTSTRAP)["comparison"]
    assert list(found["best_of_n"]["exact"]) == ["two"]
    assert found["effects"] == {}
    (warning,) = found["warnings"]
    assert "diagnosis.json: is of elsewhere/three, none of the models evaluated here" in warning
    write_json(tmp_path / "both" / "diagnosis.json", diagnosis("moved/one"))
    found = compare_runs([read_evaluated(tmp_path / "both")], BOOTSTRAP)["comparison"]
    assert list(found["effects"]) == ["one"]
    (warning,) = found["warnings"]
    assert "is of moved/one, and taken to be of " in warning
    # A second report by the same judge, or a second diagnosis, is not shown, and said.
    write_json(tmp_path / "two" / "best_of_n.json", best_of_n(tmp_path / "two") | {"prompts": 7})
    write_json(tmp_path / "both" / "diagnosis.json", diagnosis(tmp_path / "one"))
    write_json(tmp_path / "one" / "diagnosis" / "diagnosis.json", diagnosis(tmp_path / "one") | {"effects": {}})
    found = compare_runs([read_evaluated(tmp_path / "both")], BOOTSTRAP)["comparison"]
    assert found["effects"] == {"one": EFFECTS}
    assert found["best_of_n"]["exact"]["two"]["prompts"] == 7
    assert [warning.split("; left out")[0] for warning in found["warnings"]] == [
        f"{tmp_path / 'one' / 'diagnosis' / 'diagnosis.json'}: is another diagnosis of one than "
        f"{tmp_path / 'both' / 'diagnosis.json'}, which is shown",
        f"{tmp_path / 'two' / 'best_of_n' / 'best_of_n.json'}: is another best of N of two by judge exact than "
        f"{tmp_path / 'two' / 'best_of_n.json'}, which is shown",
    ]


@pytest.mark.parametrize(
    ("model", "digest", "evaluated", "method", "said"),
    [
        ("here/m", "a", "a", "m", None),
        ("moved/anywhere", "a", "a", "m", None),
        ("elsewhere/m", "b", "a", None, "is of elsewhere/m, none of the models evaluated here; left out"),
        ("here/m", "b", "a", None, "is of another checkpoint of here/m than was evaluated; left out"),
        ("elsewhere/m", None, "a", "m", "is of elsewhere/m, and taken to be of here/m by the folder's name alone"),
        ("elsewhere/m", "a", None, "m", "is of elsewhere/m, and taken to be of here/m by the folder's name alone"),
        ("here/m", None, "a", "m", None),
    ],
)
def test_a_report_belongs_to_the_model_whose_files_it_read(tmp_path, model, digest, evaluated, method, said):
    figures = best_of_n(model)
    if digest:
        figures["facts"]["model sha256"] = digest
    write_json(tmp_path / "best_of_n.json", figures)
    run = {"method": "m", "run": "here/m"} | ({"model sha256": evaluated} if evaluated else {})
    additions, warnings = read_additions([tmp_path], [run, {"method": "n", "run": "here/n", "model sha256": "n"}])
    assert [found.method for found in additions] == ([method] if method else [])
    assert len(warnings) == bool(said)
    assert all(f"best_of_n.json: {said}" in warning for warning in warnings)


def test_what_is_missing_of_any_run_is_said_and_other_data_warned_of(folders, tmp_path):
    some = [group for group in groups() if group.metadata["subset"] == "donotanswer"]
    other = write_run(tmp_path / "other", "rrm", some, 4, left_out=3)
    report = json.loads((other / "report.json").read_text())
    report["facts"]["data"][0]["sha256"] = "another print"
    write_json(other / "report.json", report)
    figures = compare_runs([read_evaluated(folders[1]), read_evaluated(other)], BOOTSTRAP)
    (warning,) = figures["comparison"]["warnings"]
    assert warning.startswith("data set rewardbench: its runs were measured on 2 versions of it")
    for shown in (render_page(figures, []), render_markdown(figures)):
        assert warning in shown
        assert "Not the whole benchmark (rrm): there was no example of alpacaeval-easy, " in shown.replace("RRM", "rrm")
        assert "3 examples were left out (rrm)" in shown.replace("RRM", "rrm")
        assert "overall (partial)" in shown


def test_scores_by_rules_that_differ_are_warned_of(tmp_path):
    runs = []
    for method, prior_sets in (("plain", False), ("with prior sets", True)):
        scored = {method: (groups(), rewards(groups(), 6))}
        found = benchmark_figures("rewardbench", scored, prior_sets=prior_sets, bootstrap=BOOTSTRAP)
        evaluations = {method: {"rewardbench": scored[method]}}
        report = build_report(evaluations, benchmarks={"rewardbench": found}, bootstrap=BOOTSTRAP)
        runs.append(Evaluated(tmp_path / method, report.figures, ()))
    (warning,) = compare_runs(runs, BOOTSTRAP)["comparison"]["warnings"]
    assert warning.startswith("RewardBench: overall scores are computed in 2 ways (mean of the sections")
    assert warning.endswith("; prior sets at half the weight of a section), so they do not compare")
    assert compare_runs(runs[:1], BOOTSTRAP)["comparison"]["warnings"] == []


def test_best_of_n_by_judges_that_differ_is_warned_of(folders, tmp_path):
    runs = []
    for n, (verdicts, by) in enumerate([("a", "the rule"), ("a", "the rule, elsewhere"), ("b", "mine.py:prefer")]):
        folder = shutil.copytree(folders[1], tmp_path / str(n))
        figures = best_of_n(folders[1].parent / "model of crome")
        figures["facts"] |= {"verdicts sha256": verdicts, "judged by": by}
        write_json(folder / "best_of_n.json", figures)
        runs.append(read_evaluated(folder))
    assert compare_runs(runs[:2], BOOTSTRAP)["comparison"]["warnings"] == []
    found = compare_runs([runs[0], runs[2]], BOOTSTRAP)["comparison"]
    (warning,) = found["warnings"]
    assert warning.startswith("best of N by judge exact: the same candidates were judged in 2 ways (by the rule, by m")
    assert {held["judged by"] for held in found["best_of_n"]["exact"].values()} == {"the rule", "mine.py:prefer"}


def picked(model, scores, judge="exact", **facts):
    """What `crome best_of_n` writes of prompts with two candidates, the first of them right."""
    items = [
        Candidates(f"c{n}", (Message("user", f"Sum {n}?"),), ("right", "wrong"), {"harmful": n < 3}, "", n)
        for n in range(len(scores))
    ]
    rewards, values = [np.array([s, 0.0]) for s in scores], [np.array([1.0, 0.0])] * len(scores)
    figures = best_of_n_figures(items, rewards, values, judge, BOOTSTRAP)
    told = {"model": str(model), "sha256": "candidates", "verdicts sha256": "verdicts", **facts}
    return figures | {"by_prompt": picks_by_prompt(items, rewards, values, [1, 2]), "facts": told}


def test_what_models_pick_of_the_same_candidates_is_paired():
    # Of eight prompts the one picks right in 3, which are the harmful ones, the other in 7.
    one, other = [picked("m", [1] * right + [-1] * (8 - right), "refusal") for right in (3, 7)]
    tests = compare_picks(other, one, BOOTSTRAP)
    first, second = tests["curve"]
    assert (first["n"], first["difference"], first["interval"], first["p"]) == (1, 0, [0, 0], 1)
    assert (second["n"], second["difference"], second["prompts"]) == (2, 0.5, 8)
    assert 0 < second["interval"][0] < 0.5 < second["interval"][1] < 1
    assert second["p"] < 0.2
    assert [point["difference"] for point in tests["attack_success"]] == [0, 0]
    assert [point["difference"] for point in tests["over_refusal"]] == [0, pytest.approx(-4 / 5)]
    assert [title for title, *_ in shown_tests({"refusal": {"x": tests}})][2:4] == [PARTS["attack_success"]] * 2
    assert list(compare_picks(picked("m", [1, 1]), picked("m", [-1, 1]), BOOTSTRAP)) == ["curve"]
    # Other candidates, other verdicts, and reports that do not say what was picked are not paired.
    assert compare_picks(other, picked("m", [1] * 8, "refusal", sha256="others"), BOOTSTRAP) == {}
    assert compare_picks(other, picked("m", [1] * 8, "refusal", **{"verdicts sha256": "x"}), BOOTSTRAP) == {}
    assert compare_picks(other, {**one, "by_prompt": None}, BOOTSTRAP) == {}


def test_length_controlled_win_rates_are_paired_by_the_sets_of_prompts_drawn(folders, tmp_path):
    rng = np.random.default_rng(0)
    texts = [tuple("a" * int(k) for k in rng.integers(5, 80, 2)) for _ in range(12)]
    values = list(rng.random((12, 2)))
    items = [
        Candidates(f"c{n}", (Message("user", f"Why {n % 6}?"),), texts[n], {"baseline": "b" * 40}, {}, n)
        for n in range(12)
    ]
    told = {"model": str(folders[1].parent / "model of crome"), "sha256": "c", "verdicts sha256": "v"}
    sides = {
        name: best_of_n_figures(items, rewards, values, "preference", BOOTSTRAP)
        | {"by_prompt": picks_by_prompt(items, rewards, values, [1, 2]), "facts": told}
        for name, rewards in (("plain", [-v for v in values]), ("x", values))
    }
    test = compare_picks(sides["x"], sides["plain"], BOOTSTRAP)["length_controlled"]
    points = [sides[name]["length_controlled"][1] for name in ("x", "plain")]
    assert [line["n"] for line in test] == [1, 2]
    assert (test[0]["difference"], test[0]["interval"], test[0]["p"]) == (0, [0, 0], 1)  # Both pick blindly.
    assert test[1]["difference"] == points[0]["win_rate"] - points[1]["win_rate"] > 0
    # By hand: the same draws of six prompts, with both of each one's records, fitted for both.
    draws, refits = np.random.default_rng(BOOTSTRAP.seed), []
    for _ in range(BOOTSTRAP.resamples):
        at = [n for prompt in draws.integers(6, size=6) for n in (prompt, prompt + 6)]
        refit = [
            length_controlled_win_rate(
                np.array([values[n][pick(values[n])] for n in at]),
                np.array([float(len(texts[n][pick(values[n])])) for n in at]),
                np.full(12, 40.0),
                Bootstrap(1),
            )["win_rate"]
            for pick in (np.argmax, np.argmin)
        ]
        refits.append(refit[0] - refit[1])
    assert test[1]["interval"] == pytest.approx(np.quantile(refits, [0.025, 0.975]).tolist(), abs=1e-8)
    far = np.abs(np.array(refits) - test[1]["difference"]) >= test[1]["difference"]
    assert (test[1]["p"], test[1]["prompts"]) == ((1 + far.sum()) / 51, 6)
    # Other draws, and reports of before the sets were kept, are not paired.
    other = best_of_n_figures(items, values, values, "preference", Bootstrap(50, seed=1))["length_controlled"]
    for points in (other, [{"n": 2, "win_rate": 0.5}]):
        assert "length_controlled" not in compare_picks(
            sides["x"] | {"length_controlled": points}, sides["plain"], BOOTSTRAP
        )
    runs = []
    for name, figures in sides.items():
        write_json(shutil.copytree(folders[1], tmp_path / name) / "best_of_n.json", figures)
        runs.append(read_evaluated(tmp_path / name))
    found = compare_runs(runs, BOOTSTRAP)
    held = found["comparison"]["best_of_n"]["preference"].values()
    assert not any("drawn" in point for figures in held for point in figures["length_controlled"])
    said = f"+{100 * test[1]['difference']:.1f}"
    assert f"| length-controlled win rate against the baseline | crome ({tmp_path / 'x'}) | 2 | {said} (" in (
        render_markdown(found)
    )


def test_paired_effects_are_shown(folders, tmp_path):
    runs = []
    for n, values in enumerate(([0.5, 0.25], [1.0, 0.25])):
        folder = shutil.copytree(folders[0], tmp_path / str(n))
        found = diagnosis(folders[0].parent / "model of bradley_terry")
        told = {"sha256": "rewrites", "prompts": [0, 1], "values": values}
        write_json(
            folder / "diagnosis.json",
            found | {"effects": {"causal": {}, "spurious": {"b": EFFECT | {"by_rewrite": told}}}},
        )
        runs.append(read_evaluated(folder))
    figures = compare_runs(runs, BOOTSTRAP)
    (tests,) = figures["comparison"]["effects_tests"].values()
    assert [test["difference"] for test in tests] == [0.25]
    assert all("by_rewrite" not in found["spurious"]["b"] for found in figures["comparison"]["effects"].values())
    page, text = render_page(figures, []), render_markdown(figures)
    assert '<td>+0.25<span class="range">+0.00 to +0.50</span></td>' in page
    assert "| b | spurious |" in text.split("attribute, paired")[1]


def test_paired_picks_are_shown(folders, tmp_path):
    runs = []
    for n, scores in enumerate(([1, -1, -1, 1], [1, 1, -1, 1])):
        folder = shutil.copytree(folders[1], tmp_path / str(n))
        write_json(folder / "best_of_n.json", picked(folders[1].parent / "model of crome", scores))
        runs.append(read_evaluated(folder))
    figures = compare_runs(runs, BOOTSTRAP)
    (tests,) = figures["comparison"]["best_of_n_tests"]["exact"].values()
    assert [test["difference"] for test in tests["curve"]] == [0, 0.25]
    page, text = render_page(figures, []), render_markdown(figures)
    assert "<h3>Best of N, paired</h3>" in page
    assert "<td>+25.0<span" in page
    assert f"({tmp_path / '1'}) | 2 | +25.0 (" in text


def test_a_changed_text_is_no_shared_comparison(folders, tmp_path):
    some = groups()
    changed = [*some[:1], *groups(4)[1:]]
    changed[1] = benchmark_group(
        id="g1", prompt="Another?", chosen=["good"], rejected=["bad"], subset="donotanswer", category="x"
    )
    other = write_run(tmp_path / "other", "rrm", changed, 4)
    found = compare_runs([read_evaluated(folders[1]), read_evaluated(other)], BOOTSTRAP)
    assert found["comparison"]["tests"]["rewardbench"]["rrm"]["comparisons"] == 3


def test_paired_tests_draw_prompts_whatever_records_they_are_in(tmp_path):
    # Ten prompts of four records each, all of which one model or the other gets right.
    some = [
        build_group(id=f"g{n}", prompt=f"Why {n % 10}?", responses=(f"a{n}", "b"), comparisons=[Comparison(0, 1)])
        for n in range(40)
    ]
    scores = {"one": [1.0] * 40, "two": [1.0 if n % 10 < 6 else -1.0 for n in range(40)]}
    for method, score in scores.items():
        evaluations = {method: {"data": (some, [np.array([s, 0.0]) for s in score])}}
        write_report(build_report(evaluations, facts={"runs": [], "data": [], "scoring": []}), tmp_path / method)
        write_outcomes(tmp_path / method, evaluations, {method: {"data": [np.zeros(2, bool)] * 40}})
    figures = compare_runs([read_evaluated(tmp_path / method) for method in scores], BOOTSTRAP)
    test = figures["comparison"]["tests"]["data"]["two"]
    by_prompt = BOOTSTRAP.mean_interval(np.array(scores["two"][:10]) / 2 - 0.5, np.arange(10))
    assert test["interval"] == pytest.approx(by_prompt)
    assert (test["comparisons"], test["prompts"]) == (40, 10)
    # Four of ten prompts: by comparison, 16 to 0, it is all but certain; ten prompts do not say so much.
    assert test["mcnemar"] == 2 / 2**16
    assert test["p"] == BOOTSTRAP.paired_chance(
        np.array(scores["two"][:10]), np.array(scores["one"][:10]), np.arange(10)
    )
    row = f"| {test['p']:.3g} | 0 / 16 | 3.05e-05 | 40 | 10 |"
    assert row in render_markdown(figures)
    cells = f"<td>{test['p']:.3g}</td><td>0</td><td>16</td><td>3.05e-05</td>"
    assert f'{cells}<td>40<span class="range">10 prompts</span></td>' in render_page(figures, [])
    assert [figures["methods"][m]["splits"]["data"]["prompts"] for m in scores] == [10, 10]


@pytest.mark.parametrize("case", ["a vote of each annotator", "texts alike at first"])
def test_no_comparison_is_lost(tmp_path, case):
    # Votes are three to one; of answers that are alike for long, each model is right about one of two comparisons, and
    # the second run has them in another order.
    votes, start = case == "a vote of each annotator", "same words " * 200
    texts = ("good", "bad") if votes else (f"{start}a", f"{start}b", f"{start}c")
    sides = [(0, 1), (0, 1), (1, 0), (0, 1)] if votes else [(0, 1), (0, 2)]
    scores = {"one": np.array([1.0, 0.0, 2.0][: len(texts)]), "two": np.array([0.0, 1.0, -1.0][: len(texts)])}
    for method, score in scores.items():
        in_order = sides if method == "one" else sides[::-1]
        compared = [Comparison(*pair) for pair in in_order]
        group = build_group(id="g", prompt="Why?", responses=texts, comparisons=compared)
        evaluations = {method: {"data": ([group], [score])}}
        write_report(build_report(evaluations, facts={"runs": [], "data": [], "scoring": []}), tmp_path / method)
        write_outcomes(tmp_path / method, evaluations, {method: {"data": [np.zeros(len(texts), bool)]}})
    figures = compare_runs([read_evaluated(tmp_path / method) for method in scores], BOOTSTRAP)
    found = {m: figures["methods"][m]["splits"]["data"] for m in scores}
    test = figures["comparison"]["tests"]["data"]["two"]
    assert test["comparisons"] == len(sides)
    assert test["difference"] == pytest.approx(found["two"]["accuracy"] - found["one"]["accuracy"])
    assert (test["only_left"], test["only_right"]) == ((1, 3) if votes else (1, 1))


def test_methods_of_one_name_are_told_apart_by_their_folders(folders):
    twice = compare_runs([read_evaluated(folders[1]), read_evaluated(folders[1].parent / "x")], BOOTSTRAP)
    assert len(twice["methods"]) == 1 or all("(" in name for name in twice["methods"])


def test_three_files_are_written_and_nothing_of_the_data_runs(folders, tmp_path, capsys):
    assert main(["report", str(folders[0].parent), str(folders[1]), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "## Paired tests" in printed
    assert "84.15" in printed
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert page.count("<script>") == 1
    assert "&lt;script&gt;document.title" in page
    assert "default-src 'none'" in page
    assert 'id="disagreements"' in page
    assert "<code>comparison.json</code> beside it" in page
    assert all(f"<h3>{title}" in page for title in ("Best of N", "Effects of attributes"))
    figures = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert figures["comparison"]["best_of_n"]["exact"]["crome"]["curve"] == curve(0.515)
    assert (tmp_path / "out" / "comparison.md").read_text() in printed
    for method in figures["methods"].values():
        assert f"{100 * method['splits']['rewardbench']['accuracy']:.1f}" in page


@pytest.mark.parametrize(
    ("right", "scale", "said"),
    [
        (5, 1.0, r"by outcomes.jsonl.gz the accuracy of 'm' on 'rewardbench' is 0.625, and by report.json 0.5: they"),
        (
            4,
            2.0,
            r"the expected accuracy of 'm' on 'rewardbench' is 0.880\d+, and by report.json 0.731\d+: they are of two",
        ),
    ],
)
def test_figures_of_one_evaluation_with_the_rewards_of_another_are_refused(tmp_path, right, scale, said):
    # As a kill leaves them: the report of the new evaluation was written, the outcomes are still the old one's.
    some, none_cut = groups(8), {"m": {"rewardbench": [np.zeros(2, bool)] * 8}}
    evaluated = lambda right, scale: {"m": {"rewardbench": (some, rewards(some, right, scale))}}  # noqa: E731
    facts = {"runs": [], "data": [], "scoring": []}
    write_report(build_report(evaluated(4, 1.0), facts=facts, bootstrap=BOOTSTRAP), tmp_path)
    write_outcomes(tmp_path, evaluated(4, 1.0), none_cut)
    read_evaluated(tmp_path)
    write_outcomes(tmp_path, evaluated(right, scale), none_cut)
    with pytest.raises(CromeError, match=said):
        read_evaluated(tmp_path)
    write_outcomes(tmp_path, {}, {})
    with pytest.raises(
        CromeError, match=r"'rewardbench' is None, and by report.json 0.5: .* run `crome evaluate` again"
    ):
        read_evaluated(tmp_path)


def gzipped(*lines):
    return gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())


LINE = {"data": "d", "group": "g", "category": None, "prompt": "p", "chosen": "c", "rejected": "r", "rewards": {}}
LINE |= {"prompt_sha256": "0" * 64, "texts_sha256": "0" * 64}
FAULTS = {
    "no report": ("report.json", None, "holds no report.json, nor does its evaluation/; run `crome evaluate`"),
    "half a report": ("report.json", b'{"schema": ', "report.json: cannot be read ("),
    "a list": ("report.json", b"[]", "report.json: holds no JSON object"),
    "another schema": ("report.json", b'{"schema": "x/9"}', "report.json: is of schema 'x/9', not crome_jax.report/"),
    "a report without methods": ("report.json", b'{"schema": "crome_jax.report/1"}', "report.json: lacks 'methods'"),
    "no outcomes": ("outcomes.jsonl.gz", None, "holds no outcomes.jsonl.gz; give the folder (--out)"),
    "outcomes cut": ("outcomes.jsonl.gz", b"\x1f\x8b\x08", "outcomes.jsonl.gz: is damaged ("),
    "outcomes plain": ("outcomes.jsonl.gz", b"{}", "outcomes.jsonl.gz: is damaged ("),
    "outcomes not JSON": ("outcomes.jsonl.gz", gzip.compress(b"{nope\n"), "outcomes.jsonl.gz: is damaged ("),
    "outcomes null": ("outcomes.jsonl.gz", gzipped(LINE, None), "record 2 of "),
    "outcomes without rewards": ("outcomes.jsonl.gz", gzipped(LINE, {"data": "d"}), "lacks 'category'; run `crome"),
    "outcomes of an earlier version": (
        "outcomes.jsonl.gz",
        gzipped({name: value for name, value in LINE.items() if name != "prompt_sha256"}),
        "lacks 'prompt_sha256'; run `crome evaluate` again",
    ),
    "another run's outcomes": (
        "outcomes.jsonl.gz",
        gzipped(LINE | {"rewards": {"z": [1, 0]}}),
        "rewards of 'z', which",
    ),
    "no parts": (
        "parts.json.gz",
        None,
        "holds no parts.json.gz, which benchmarks are compared by; run `crome",
    ),
    "parts cut": ("parts.json.gz", b"\x1f\x8b\x08", "parts.json.gz: is damaged ("),
    "parts of another version": ("parts.json.gz", gzipped({"schema": "x"}), "is of schema 'x', not crome_jax.parts/1"),
    "parts without benchmarks": (
        "parts.json.gz",
        gzipped({"schema": "crome_jax.parts/1"}),
        "is damaged (KeyError: 'b",
    ),
    "parts of another evaluation": (
        "parts.json.gz",
        gzipped({"schema": "crome_jax.parts/1", "benchmarks": {}}),
        "has other scores of rewardbench by 'crome' than report.json",
    ),
    "half a best of N": ("best_of_n.json", b"{", "best_of_n.json: cannot be read ("),
    "another best of N": ("best_of_n.json", b'{"schema": "x"}', "best_of_n.json: is of schema 'x', not crome_jax.best"),
    "another diagnosis": ("diagnosis.json", b"{}", "diagnosis.json: is of schema None, not crome_jax.diagnosis/1"),
}
"""What may be wrong with a folder that is compared: the file, what it holds, what is said."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_cannot_be_compared_is_named_and_nothing_written(folders, tmp_path, capsys, fault):
    name, content, said = FAULTS[fault]
    broken = shutil.copytree(folders[1], tmp_path / "broken")
    if content is None:
        (broken / name).unlink()
    else:
        (broken / name).write_bytes(content)
    assert main(["report", str(folders[0].parent), str(broken), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("crome: error: ")
    assert str(broken) in error
    assert said in error
    assert not (tmp_path / "out").exists()


def test_a_report_that_cannot_be_written_is_said(folders, tmp_path, capsys):
    (tmp_path / "file").write_text("text")
    assert main(["report", str(folders[0].parent), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot be written (" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "text"


def test_outcomes_come_back_as_they_were(tmp_path):
    some = groups(3)
    cut = [np.zeros(2, bool), np.array([False, True]), np.zeros(2, bool)]
    write_outcomes(tmp_path, {"m": {"data": (some, rewards(some, 2, scale=math.pi))}}, {"m": {"data": cut}})
    lines = read_outcomes(tmp_path)
    assert [line["cut"] for line in lines] == [False, True, False]
    assert [line["rewards"]["m"][0] > line["rewards"]["m"][1] for line in lines] == [True, True, False]
    assert lines[0]["rewards"]["m"][0] == math.pi


def test_a_benchmark_s_picture_is_of_its_scores(comparison):
    drawn = re.findall(r'<svg[^>]*aria-label="[^"]* by section".*?</svg>', render_page(comparison, []), re.DOTALL)
    assert len(drawn) == 2
    assert all("score (%); dashed: chance; right: examples" in picture for picture in drawn)
    without = {**comparison, "benchmarks": {"x": {**comparison["benchmarks"]["rm_bench"], "chance": None}}}
    assert "score (%); right: examples" in render_page(without, [])


@pytest.mark.parametrize(
    ("width", "scheme", "paper"),
    [
        (400, 1, "rgb(255, 255, 255)"),
        (1280, 0, "rgb(20, 24, 29)"),
        pytest.param(1280, 1, "rgb(255, 255, 255)", marks=pytest.mark.slow),
        pytest.param(400, 0, "rgb(20, 24, 29)", marks=pytest.mark.slow),
    ],
)
def test_a_browser_shows_the_comparison(comparison, tmp_path, width, scheme, paper):
    sections, background, wrong = look(render_page(comparison, []), tmp_path, width, scheme)
    assert wrong == []
    assert sections >= 10
    assert background == paper
