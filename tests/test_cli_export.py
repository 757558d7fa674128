"""The way of a Hugging Face folder: trained from, scored with, and exported as one that transformers serves."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from reference import TOKENS, reference, write_tokenizer
from test_cli_models import run, score
from toy import text_groups

from crome_jax.augment.card_files import read_making
from crome_jax.errors import CromeError
from crome_jax.groups import prompt_text, to_json
from crome_jax.training.run_cards import read_card
from crome_jax.weights.model_cards import render_model_card


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a backbone of Qwen 2's family, preferences, and a run trained from them."""
    folder = tmp_path_factory.mktemp("place")
    reference("qwen2", 0, TOKENS)[0].save_pretrained(folder / "backbone")
    write_tokenizer(folder / "backbone")
    (folder / "prefs.jsonl").write_text("\n".join(to_json(group) for group in text_groups(8)))
    card = {"crome_jax": "data card", "making": {"seed": 5, "degrade_per_pair": 2, "baseline": None}}
    (folder / "prefs.jsonl.card.json").write_text(json.dumps(card))
    bindings = {"BACKBONE": f"'{folder / 'backbone'}'", "DATA": f"'{folder / 'prefs.jsonl'}'", "STEPS": 2}
    bindings |= {"OUT": f"'{folder / 'run'}'", "TRAINABLE": 1, "ROW_TOKENS": 256, "LEARNING_RATE": 1e-2}
    bindings |= {"train.checkpoint_every": 1, "train.keep_checkpoints": 1, "train.keep_best": "'loss'"}
    bindings |= {"train.validation": f"'{folder / 'prefs.jsonl'}'"}
    assert train(bindings) == 0
    (folder / "bindings.json").write_text(json.dumps(bindings))
    return folder


def train(bindings: dict) -> int:
    return run(
        "train", "--gin_file=gin/runs/bradley_terry.gin", *(f"--gin.{name}={value}" for name, value in bindings.items())
    )


def test_an_exported_run_scores_as_the_run_does(place, tmp_path, capsys):
    out = place / "exported"
    assert run("evaluate", "--checkpoint", place / "run", "--data", place / "prefs.jsonl") == 0
    assert run("export", "--checkpoint", place / "run", "--out", out) == 0
    assert {path.name for path in out.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"
    }  # fmt: skip
    records = [
        {"prompt": prompt_text(group.prompt), "response": response.text}
        for group in text_groups(4)
        for response in group.responses
    ]
    status, scored = score(records, "--checkpoint", str(place / "run"))
    assert status == 0
    classify = transformers.pipeline("text-classification", model=str(out), function_to_apply="none")
    texts = [
        classify.tokenizer.apply_chat_template(
            [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["response"]}], tokenize=False
        )
        for r in records
    ]
    for side in ("left", "right"):
        classify.tokenizer.padding_side = side
        for size in (1, 3, 8):
            found = [result["score"] for result in classify(texts, add_special_tokens=False, batch_size=size)]
            np.testing.assert_allclose(found, [record["reward"] for record in scored], atol=1e-4)
    before = reference("qwen2", 0, TOKENS)[0]
    after = transformers.AutoModelForSequenceClassification.from_pretrained(out)
    assert not torch.equal(before.score.weight, after.score.weight)
    torch.testing.assert_close(before.model.layers[0].mlp.up_proj.weight, after.model.layers[0].mlp.up_proj.weight)

    card = (out / "README.md").read_text()
    asked = "| | |\n|---|---|\n| seed | 5 |\n| degrade per pair | 2 |\n| baseline | none |"
    assert f"`crome augment` made the data `prefs.jsonl`:\n\n{asked}" in card
    assert "# Reward model: bradley_terry on backbone" in card
    assert "| optimizer steps | 2 |" in card
    assert "LEARNING_RATE = 0.01" in card
    report = json.loads((place / "run" / "evaluation" / "report.json").read_text())
    (figures,) = report["methods"].values()
    for split, measured in figures["splits"].items():
        assert f"| {split} | {100 * measured['accuracy']:.1f} |" in card
    # One of another step, as of before the run went on, is none of this checkpoint.
    table = report["facts"]["runs"]
    assert [row["optimizer steps"] for row in table] == [2]
    before = shutil.copytree(place / "run", tmp_path / "before")
    table[0]["optimizer steps"] = 1
    (before / "evaluation" / "report.json").write_text(json.dumps(report))
    card = render_model_card(before, read_card(before), 2)
    assert "None of this checkpoint was in the run's folder." in card
    # What the run measured when it was saved is what `evaluate` found.
    lines = map(json.loads, (place / "run" / "metrics.jsonl").read_text().splitlines())
    by_step = {line["step"]: line["validation/accuracy"] for line in lines if "validation/accuracy" in line}
    assert [*by_step] == [1, 2]
    assert by_step[2] == measured["accuracy"]


def test_an_older_checkpoint_can_be_exported(place, tmp_path, capsys):
    curve = map(json.loads, (place / "run" / "metrics.jsonl").read_text().splitlines())
    losses = {line["step"]: line["validation/loss"] for line in curve if "validation/loss" in line}
    kept = sorted({min(losses, key=losses.get), 2})  # The best, and the newest.
    assert sorted(int(path.name) for path in (place / "run" / "checkpoints").iterdir()) == kept
    assert run("export", "--checkpoint", place / "run", "--out", tmp_path / "out", "--step", kept[0]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| optimizer steps | {kept[0]} |" in card
    assert run("export", "--checkpoint", place / "run", "--out", tmp_path / "none", "--step", "7") == 2
    assert f"holds no step 7; it holds {', '.join(map(str, kept))}" in capsys.readouterr().err


def test_after_other_data_is_measured_on_the_best_is_of_that(place, tmp_path, capsys):
    shutil.copytree(place / "run", tmp_path / "run")
    kept = ", ".join(sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()))
    others = tmp_path / "others.jsonl"
    others.write_text("\n".join(to_json(group) for group in text_groups(4)))
    bindings = json.loads((place / "bindings.json").read_text()) | {"OUT": f"'{tmp_path / 'run'}'", "STEPS": 3}
    assert train(bindings | {"train.validation": f"'{others}'"}) == 0
    said = capsys.readouterr().err
    assert f"measured on other data than {others} is now: step {kept}; left out where the best loss is kept" in said
    assert "is that of step 3" in said
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["3"]


def test_a_folder_that_is_there_is_replaced_only_when_asked(place, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "letters").touch()
    assert run("export", "--checkpoint", place / "run", "--out", out) == 2
    assert "exists already" in capsys.readouterr().err
    assert run("export", "--checkpoint", place / "run", "--out", out, "--overwrite") == 2
    assert "is a folder of something else than a model" in capsys.readouterr().err
    (out / "letters").rename(out / "config.json")
    assert run("export", "--checkpoint", place / "run", "--out", out, "--overwrite", "--dtype=bfloat16") == 0
    assert transformers.AutoConfig.from_pretrained(out).dtype == torch.bfloat16


def test_a_run_whose_backbone_s_folder_changed_is_refused(place, tmp_path, capsys):
    path = place / "backbone" / "config.json"
    content = path.read_text()
    try:
        path.write_text(content + "\n")
        assert run("export", "--checkpoint", place / "run", "--out", tmp_path / "out") == 2
        assert "whose file has changed since" in capsys.readouterr().err
    finally:
        path.write_text(content)


def test_a_damaged_data_card_is_named(place, tmp_path):
    data = tmp_path / "prefs.jsonl"
    data.write_text((place / "prefs.jsonl").read_text())
    card = tmp_path / "prefs.jsonl.card.json"
    card.write_text('{"making": {"seed": 5}}')
    assert read_making(str(data)) == {}  # Somebody else's file.
    for damaged in ('{"crome_jax": "data card", "making": [1]}', "{"):
        card.write_text(damaged)
        with pytest.raises(CromeError, match=r"prefs.jsonl.card.json: .*augment again, or delete it"):
            read_making(str(data))
