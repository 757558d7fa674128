"""The study's search: trials as long as the run are the run; shorter ones find its learning rate."""

import dataclasses
import functools
import json
import types

import pytest
from toy import text_groups

from crome_jax.data.packing import RowShape
from crome_jax.data.writers import write_groups
from crome_jax.errors import CromeError, Diverged
from crome_jax.groups import Comparison, Kind, Message, PreferenceGroup, Response
from crome_jax.objectives.crome import crome
from crome_jax.training import bench
from crome_jax.training import study as room
from crome_jax.training.train import Method
from crome_jax.weights.backbones import load_backbone

ONE = (Method(),)
LONG = PreferenceGroup(  # Its answers differ beyond where a row ends.
    "long",
    (Message("user", "Go on"),),
    tuple(Response("word " * 200 + last) for last in ("well", "badly")),
    (Comparison(0, 1),),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a function that runs a study, of one method unless told otherwise, on toy groups: returns its report."""
    folder = tmp_path_factory.mktemp("study")
    for split in ("train", "validation", "test", "harder"):
        further = [LONG] if split == "harder" else []
        write_groups(folder / "data" / f"{split}.jsonl", [*text_groups(40), *further], description="toy")
    human, causal = Comparison(0, 1), Comparison(1, 0, kind=Kind.CAUSAL)
    tie = Comparison(0, 1, target=0.5)
    for split, comparisons in (("contrary", (human, causal)), ("undecided", (tie, causal))):
        groups = [dataclasses.replace(group, comparisons=comparisons) for group in text_groups(40)]
        write_groups(folder / "data" / f"{split}.jsonl", groups, description="toy")
    base = load_backbone("tiny", 1)  # Reading its tokenizer takes seconds.

    def run(methods=ONE, test_splits=("test",), learning_rates=(1e-3, 1e-2), further_tests=None, **settings):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench, "load_backbone", lambda *_: base)
            page = room.study(
                methods=methods,
                data=str(folder / "data"),
                groups=str(folder / "data" / "train.jsonl"),
                out=str(folder / "out"),
                test_splits=test_splits,
                further_tests=further_tests and {further_tests: str(folder / "data" / f"{further_tests}.jsonl")},
                trainable=1,
                row_shape=RowShape(tokens=128, responses=16, comparisons=16),
                steps=3,
                rows_per_step=8,
                learning_rates=learning_rates,
                **settings,
            )
        return json.loads((page.parent / "report.json").read_text())

    return functools.cache(run)


def test_without_search_steps_the_best_trial_is_the_run(run):
    trials = run()["facts"]["search"]
    assert [trial["optimizer steps"] for trial in trials] == [3, 3]
    (packed,) = run()["facts"]["packing"]
    assert packed["passes over the data"] == round(3 * 8 / packed["rows"], 2)
    assert sum(trial["kept"] for trial in trials) == 1


def test_with_fewer_search_steps_the_best_rate_is_trained_anew(run):
    *trials, kept = run(search_steps=2)["facts"]["search"]
    assert [(trial["optimizer steps"], trial["kept"]) for trial in trials] == [(2, False)] * 2
    assert (kept["optimizer steps"], kept["kept"]) == (3, True)
    best = min(trials, key=lambda trial: (-trial["validation accuracy"], trial["validation loss, nats"]))
    assert kept["learning rate"] == best["learning rate"]
    # The same rate and steps as the whole-length trial of the other study: the same run.
    (same,) = (trial for trial in run()["facts"]["search"] if trial["learning rate"] == kept["learning rate"])
    assert kept["validation loss, nats"] == same["validation loss, nats"]


def test_trials_are_measured_on_human_comparisons_alone(run):
    # Causal comparisons that say the contrary of each human one would make every accuracy 50%.
    (contrary,) = run(learning_rates=(1e-3,), validation_split="contrary")["facts"]["search"]
    own = run()["facts"]["search"][0]
    for figure in ("learning rate", "validation accuracy", "validation loss, nats"):
        assert contrary[figure] == own[figure]


def test_a_validation_split_that_decides_nothing_is_refused_before_anything_is_encoded(run, monkeypatch):
    def encode(*_, **__):
        raise AssertionError("the frozen layers ran first")

    monkeypatch.setattr(bench, "compute_hidden", encode)
    said = r"data, split 'undecided': holds no human comparison with a preferred side; give study\.validation_split"
    with pytest.raises(CromeError, match=said):
        run(validation_split="undecided")


def test_peak_memory_is_told_in_billions_of_bytes(run, monkeypatch):
    monkeypatch.setattr(room.resource, "getrusage", lambda who: types.SimpleNamespace(ru_maxrss=2_000_000))  # KiB.
    assert run(learning_rates=(1e-4,))["facts"]["run"]["peak memory, GB"] == 2.05


def test_a_search_of_no_steps_is_refused(run):
    with pytest.raises(CromeError, match="search_steps is 0"):
        run(search_steps=0)


def test_a_further_test_of_a_splits_name_is_refused(run):
    with pytest.raises(CromeError, match="'test' is one of test_splits, too"):
        run(further_tests="test")


def test_data_that_the_last_of_the_methods_lacks_are_told_before_anything_is_encoded(run, monkeypatch):
    def encode(*_, **__):
        raise AssertionError("the frozen layers ran first")

    monkeypatch.setattr(bench, "compute_hidden", encode)
    with pytest.raises(CromeError, match=r"train\.jsonl holds no neutral comparison"):
        run((Method(), Method("crome", ("human", "causal", "neutral"), objective=crome)))


def test_a_rate_that_diverges_is_recorded_and_ends_the_study_only_where_all_do(run, monkeypatch):
    fit = bench.fit

    def diverge_at_the_highest(*args, name, **kwargs):
        if name.endswith("rate 1"):
            raise Diverged("steps 1 to 6: loss or gradient is not finite")
        return fit(*args, name=name, **kwargs)

    monkeypatch.setattr(bench, "fit", diverge_at_the_highest)
    diverged, kept = run(learning_rates=(1.0, 1e-3))["facts"]["search"]
    assert (diverged["validation accuracy"], diverged["kept"]) == (0.0, False)
    assert diverged["note"] == "diverged: steps 1 to 6: loss or gradient is not finite"
    assert (kept["learning rate"], kept["kept"], kept["note"]) == (1e-3, True, "")
    assert diverged.keys() == kept.keys()
    with pytest.raises(CromeError, match="diverged with every learning rate"):
        run(learning_rates=(1.0,))


def test_two_methods_get_the_same_search_and_figures_on_every_split(run):
    methods = (
        Method(),
        Method("crome", ("human", "causal"), objective=functools.partial(crome, causal_weight=8.0, neutral_weight=0.0)),
    )
    report = run(methods, search_steps=2, further_tests="harder")
    given = {
        method.name: [
            (trial["learning rate"], trial["optimizer steps"])
            for trial in report["facts"]["search"]
            if trial["method"] == method.name and not trial["kept"]
        ]
        for method in methods
    }
    assert given == {name: [(1e-3, 2), (1e-2, 2)] for name in ("bradley_terry", "crome")}
    kept = [(trial["method"], trial["optimizer steps"]) for trial in report["facts"]["search"] if trial["kept"]]
    assert kept == [("bradley_terry", 3), ("crome", 3)]
    assert list(report["methods"]) == ["bradley_terry", "crome"]
    for measured in report["methods"].values():
        assert list(measured["splits"]) == ["test", "harder"]
        for split, figures in measured["splits"].items():
            low, high = figures["interval"]
            assert 0 <= low <= figures["accuracy"] <= high <= 1
            assert figures["comparisons"] == 80 + (split == "harder")  # Two of each group, and that of the long one.
    equal = {row["data"]: row["equal once cut"] for row in report["facts"]["frozen layers"]}
    assert (equal["test"], equal["harder"]) == (0, 1)
    # The causal comparisons say the contrary of the human ones, and outweigh them: the runs are not one run twice.
    losses = {t["method"]: t["validation loss, nats"] for t in report["facts"]["search"] if t["kept"]}
    assert losses["bradley_terry"] != losses["crome"]
    assert report["differences"].keys() == {"test", "harder"}
    assert report["facts"]["further tests"]["harder"].endswith("harder.jsonl")
    # The texts of Bradley-Terry are part of Crome's: none is encoded twice.
    encoded = {row["data"]: row["not encoded before"] for row in report["facts"]["frozen layers"]}
    assert encoded["training of bradley_terry"] == 0 < encoded["training of crome"]


@pytest.mark.slow
def test_a_pairwise_model_is_studied_beside_one_of_rewards(run):
    report = run((Method(), Method("pair_pm", head="pairwise")), ("test",))
    for figures in report["methods"].values():
        assert figures["splits"]["test"]["comparisons"] == 80
    assert report["methods"]["pair_pm"]["splits"]["test"]["reward_length"]["responses"] == 0
    # The toy's two comparisons say the same of the same two answers: one pair in either order.
    rows = {row["data"]: row for row in report["facts"]["frozen layers"]}
    assert {"validation", "validation, pairs", "test", "test, pairs", "training of pair_pm, pairs"} <= rows.keys()
    losses = {trial["method"]: trial["validation loss, nats"] for trial in report["facts"]["search"] if trial["kept"]}
    assert abs(losses["pair_pm"] - 0.6931) > 1e-4
