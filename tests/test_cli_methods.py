"""Every method of another head, statistic or recipe goes the whole way: train, evaluate, score; and several as one."""

import functools
import json

import numpy as np
import pytest

from crome_jax.cli import main
from crome_jax.data.datasets.causal_testbed import CausalTestbedConfig, generate_groups
from crome_jax.data.readers import read_groups
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.groups import to_json
from crome_jax.training import train as training
from crome_jax.training.run_cards import read_card

METHODS = ("odin", "mmd", "mmd_conditional", "rrm", "plackett_luce")
SMALL = CausalTestbedConfig(name="small", train=16, in_distribution=12)


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module", autouse=True)
def one_backbone():
    """Read the tokenizer once for all tests: it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load_backbone", functools.cache(training.load_backbone))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with groups that have permutations, too, and a held-out set."""
    folder = tmp_path_factory.mktemp("place")
    for name, split in (("prefs", "train"), ("held_out", "in_distribution")):
        (folder / f"{name}.jsonl").write_text("".join(to_json(g) + "\n" for g in generate_groups(SMALL, split)))
    augment = ("augment", "--data", folder / "prefs.jsonl", "--out", folder / "groups", "--permutations", 2)
    assert run(*augment) == 0
    return folder


@pytest.fixture(scope="module")
def trained(place):
    """Returns a function from a method to its run."""

    def train(name):
        out = place / name
        # MMD acts on hidden states, of which some must train.
        trainable = 1 if name.startswith("mmd") else "'head'"
        flags = ("--gin_file=gin/models/tiny.gin", f"--gin.TRAINABLE={trainable}", "--gin.ROW_TOKENS=256")
        flags += ("--gin.STEPS=2",)
        # A rate at which two steps tell methods apart.
        flags += ("--gin.LEARNING_RATE=0.1", f"--gin.DATA='{place / 'groups'}'", f"--gin.OUT='{out}'")
        assert run("train", f"--gin_file=gin/runs/{name}.gin", *flags) == 0
        return out

    return functools.cache(train)


def score(place, out, *flags) -> list[float]:
    assert run("score", "--data", place / "held_out.jsonl", "--out", out, "--overwrite", *flags) == 0
    return [json.loads(line)["reward"] for line in out.read_text().splitlines()]


def accuracy(place, rewards) -> float:
    """Return how often the preferred answer of the held-out pairs has the higher of the rewards that were written."""
    preferred = [group.comparisons[0] for group in read_groups(place / "held_out.jsonl")]
    pairs = np.reshape(rewards, (-1, 2))
    right = [pair[c.left] > pair[c.right] for pair, c in zip(pairs, preferred, strict=True)]
    return float(np.mean(right))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("odin", "rrm") else pytest.mark.slow) for name in METHODS]
)
def test_a_method_goes_the_whole_way(place, trained, tmp_path, name):
    out = trained(name)
    assert read_card(out).method == name
    assert read_card(out).head == ("odin" if name == "odin" else "scalar")
    (line,) = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(list(line.values())).all()
    by_attribute = {key for key in line if key.startswith("causal/") and key.count("/") == 2}
    assert ("causal/relevance/accuracy" in by_attribute) == bool(by_attribute) == (name in ("rrm", "plackett_luce"))
    assert run("evaluate", "--checkpoint", out, "--data", place / "held_out.jsonl", "--out", tmp_path / "report") == 0
    figures = json.loads((tmp_path / "report" / "report.json").read_text())["methods"][name]["splits"]["held_out"]
    rewards = score(place, tmp_path / "scored.jsonl", "--checkpoint", out)
    assert np.std(rewards) > 0
    assert figures["accuracy"] == pytest.approx(accuracy(place, rewards))


def pairwise_flags(place):
    return (
        "--gin_file=gin/models/tiny.gin",
        "--gin.TRAINABLE='head'",
        "--gin.ROW_TOKENS=384",
        "--gin.LEARNING_RATE=0.1",
        f"--gin.DATA='{place / 'groups'}'",
        f"--gin.OUT='{place / 'crome_pair_pm'}'",
        f"--gin.train.validation='{place / 'held_out.jsonl'}'",
    )


@pytest.fixture(scope="module")
def pairwise(place):
    """A run of Crome's pairwise model, cut off after one step and resumed."""
    for steps in (1, 3):
        command = ("--gin_file=gin/runs/crome_pair_pm.gin", *pairwise_flags(place), f"--gin.STEPS={steps}")
        assert run("train", *command) == 0
    return place / "crome_pair_pm"


def win_probabilities(place, out, model) -> np.ndarray:
    """Return what was written of the held-out pairs, a row for each."""
    assert run("score", "--checkpoint", model, "--data", place / "held_out.jsonl", "--out", out, "--chunk", 5) == 0
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert not any("reward" in record for record in written)
    assert all(0 < record["tie_probability"] < 0.334 for record in written)
    return np.reshape([record["win_probability"] for record in written], (-1, 2))


def test_a_pairwise_model_goes_the_whole_way(place, pairwise, tmp_path, capsys):
    card = read_card(pairwise)
    assert (card.method, card.head) == ("crome_pair_pm", "pairwise")
    curve = [json.loads(line) for line in (pairwise / "metrics.jsonl").read_text().splitlines()]
    *curve, measured = [line for line in curve if "loss" in line or line["step"] == 3]
    assert [line["step"] for line in curve] == [1, 3]
    assert all(np.isfinite(line[f"{kind}/loss"]) for line in curve for kind in ("human", "causal", "neutral"))
    wins = win_probabilities(place, tmp_path / "scored.jsonl", pairwise)
    np.testing.assert_allclose(wins.sum(axis=1), 1.0, rtol=1e-6)
    assert np.std(wins) > 0
    assert run("evaluate", "--checkpoint", pairwise, "--data", place / "held_out.jsonl", "--out", tmp_path / "a") == 0
    figures = json.loads((tmp_path / "a" / "report.json").read_text())["methods"]["crome_pair_pm"]["splits"]["held_out"]
    assert figures["accuracy"] == pytest.approx(accuracy(place, wins))
    assert measured["validation/accuracy"] == pytest.approx(accuracy(place, wins))
    assert figures["reward_length"]["responses"] == 0
    # What it is exported as is read back as the same model.
    assert run("export", "--checkpoint", pairwise, "--out", tmp_path / "exported") == 0
    assert "# Pairwise preference model: crome_pair_pm on tiny" in (tmp_path / "exported" / "README.md").read_text()
    again = win_probabilities(place, tmp_path / "again.jsonl", tmp_path / "exported")
    np.testing.assert_allclose(again, wins, atol=1e-5)


def test_before_training_it_is_said_that_a_pairwise_model_cannot_be_exported(place, pairwise, capsys, monkeypatch):
    command = ("train", "--gin_file=gin/runs/crome_pair_pm.gin", *pairwise_flags(place), "--gin.STEPS=3")
    said = "so this pairwise model cannot be exported"
    assert run(*command) == 0
    assert said not in capsys.readouterr().err
    monkeypatch.setattr(Tokenizer, "writes_pairs", lambda self, request: False)
    assert run(*command) == 0
    assert said in capsys.readouterr().err


def test_a_pairwise_model_picks_the_candidate_that_beats_the_others(place, pairwise, tmp_path):
    texts = ["It is four.", "Five, I think.", "It is four.", "I cannot say."]
    record = {"prompt": "What is two and two?", "candidates": texts, "answer": "4"}
    (tmp_path / "c.jsonl").write_text(json.dumps(record) + "\n")
    flags = ("--model", pairwise, "--candidates", tmp_path / "c.jsonl", "--judge", "exact", "--out", tmp_path / "out")
    assert run("best_of_n", *flags) == 0
    curve = json.loads((tmp_path / "out" / "best_of_n.json").read_text())["curve"]
    assert [point["n"] for point in curve] == [1, 2, 4]


def test_what_a_pairwise_model_cannot_do_is_said(place, pairwise, tmp_path, capsys, monkeypatch):
    lone = {"prompt": "Why?", "messages": None, "response": "So."}
    (tmp_path / "lone.jsonl").write_text(json.dumps({k: v for k, v in lone.items() if v}) + "\n")
    assert run("score", "--checkpoint", pairwise, "--data", tmp_path / "lone.jsonl") == 2
    said = capsys.readouterr().err
    assert "'response' is the only one to its prompt, and a pairwise model says which of two is the better" in said
    assert f"{tmp_path / 'lone.jsonl'}" in said
    both = ("--checkpoint", pairwise, pairwise, "--ensemble", "mean")
    for verb in ("score", "evaluate"):
        place_of = ("--data", place / "held_out.jsonl", "--out", tmp_path / verb)
        assert run(verb, *both, *place_of) == 2
        assert "--ensemble is of rewards, and a pairwise model gives none" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["mean", "worst"])
def test_several_runs_are_scored_and_evaluated_as_one(place, trained, tmp_path, how):
    members = [trained("mmd"), trained("plackett_luce")]
    alone = [score(place, tmp_path / "scored.jsonl", "--checkpoint", member) for member in members]
    together = score(place, tmp_path / "scored.jsonl", "--checkpoint", *members, "--ensemble", how)
    by_hand = np.mean(alone, axis=0) if how == "mean" else np.min(alone, axis=0)
    # Float32 rounds by the size of the terms that are added, however small their sum.
    rounding = np.finfo(np.float32).eps * np.abs(alone).max()
    np.testing.assert_allclose(together, by_hand, rtol=0, atol=rounding)
    command = ("evaluate", "--checkpoint", *members, "--ensemble", how, "--data", place / "held_out.jsonl")
    assert run(*command, "--out", tmp_path / "report") == 0
    figures = json.loads((tmp_path / "report" / "report.json").read_text())
    assert list(figures["methods"]) == ["mmd", "plackett_luce", f"ensemble of 2 ({how})"]
    measured = figures["methods"][f"ensemble of 2 ({how})"]["splits"]["held_out"]["accuracy"]
    assert measured == pytest.approx(accuracy(place, together))


def test_an_ensemble_is_of_several_and_several_are_an_ensemble(place, tmp_path, capsys):
    one = ("--checkpoint", tmp_path / "a", "--data", place / "held_out.jsonl")
    assert run("score", *one, "--ensemble", "mean") == 2
    assert "several runs are scored with --ensemble" in capsys.readouterr().err
    assert run("score", "--checkpoint", tmp_path / "a", tmp_path / "b", *one[2:]) == 2
    assert "several runs are scored with --ensemble" in capsys.readouterr().err
    assert run("evaluate", *one, "--ensemble", "mean") == 2
    assert "--ensemble takes several runs" in capsys.readouterr().err
