"""A run as a backbone: what it trained over what it left frozen, wherever either run cuts the layers."""

import json
import shutil

import jax
import numpy as np
import pytest
from reference import TOKENS, reference, write_tokenizer
from toy import mesh_of, text_groups

from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError
from crome_jax.evaluation.scoring import score_groups
from crome_jax.groups import to_json
from crome_jax.models.weights import layer_runs, split_layers
from crome_jax.training.train import load_run, train
from crome_jax.weights.backbones import context_length, load_backbone, original_backbone


def train_from(backbone, out, data, trainable, **settings):
    train(
        data=str(data), out=str(out), backbone=str(backbone), trainable=trainable, steps=2, rows_per_step=2,
        row_shape=RowShape(128, 8, 8), mesh=lambda: mesh_of(1, 1, 1), **settings,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a backbone of three layers, preferences, and a run that trained two of the layers."""
    folder = tmp_path_factory.mktemp("place")
    reference("qwen3", 0, TOKENS)[0].save_pretrained(folder / "backbone")
    write_tokenizer(folder / "backbone")
    (folder / "prefs.jsonl").write_text("\n".join(to_json(group) for group in text_groups(4)))
    train_from(folder / "backbone", folder / "run", folder / "prefs.jsonl", 2)
    return folder


def whole(params):
    """Return weights with their layers stacked in one."""
    runs = [params[run] for run in ("lower", "upper", "last") if run in params]
    layers = jax.tree.map(lambda *parts: np.concatenate([np.asarray(part) for part in parts]), *runs)
    return {k: np.asarray(v) for k, v in params.items() if not isinstance(v, dict)} | {"layers": layers}


@pytest.mark.parametrize("trainable", ["all", "head", 1, 3])
def test_a_run_is_taken_with_its_head(trainable, place):
    expected = whole(load_run(place / "run").params)
    base = load_backbone(str(place / "run"), trainable)
    assert base.params.keys() >= {"embed", *layer_runs(base.cfg, trainable)}
    jax.tree.map(np.testing.assert_array_equal, whole(base.params), expected)
    before = whole(load_backbone(str(place / "backbone")).params)["layers"]["up"]
    changed = [not np.array_equal(a, b) for a, b in zip(before, expected["layers"]["up"], strict=True)]
    assert changed == [False, True, True]
    assert base.tokenizer.fingerprint == load_backbone(str(place / "backbone")).tokenizer.fingerprint


def test_a_run_of_a_run_goes_on_from_it(place, tmp_path):
    groups = text_groups(3)
    second = train_from(place / "run", tmp_path / "second", place / "prefs.jsonl", "head")
    model, first = load_run(second), load_run(place / "run")
    jax.tree.map(np.testing.assert_array_equal, whole(model.params)["layers"], whole(first.params)["layers"])
    assert not np.array_equal(model.params["head"], first.params["head"])
    assert all(np.isfinite(values).all() for values in score_groups(model, groups).rewards)
    assert original_backbone(str(second)) == str(place / "backbone")
    assert context_length(str(second)) == context_length(str(place / "backbone"))


def test_a_new_head_is_asked_for_or_that_of_fewer_layers(place, tmp_path):
    base = load_backbone(str(place / "run"), new_head=True)
    np.testing.assert_array_equal(base.params["head"], np.zeros(base.cfg.width))
    fewer = load_backbone(str(place / "run"), layers=2)
    assert not fewer.params["head"].any()
    everything = whole(load_backbone(str(place / "run")).params)["layers"]
    expected = split_layers(everything, {"first": range(2)})["first"]
    jax.tree.map(np.testing.assert_array_equal, whole(fewer.params)["layers"], expected)
    run = train_from(place / "run", tmp_path / "run", place / "prefs.jsonl", "head", new_head=True)
    assert load_run(run).params["head"].any()


def test_weights_are_read_onto_a_mesh_as_they_are_to_the_host(place):
    expected = whole(load_run(place / "run", mesh=lambda: mesh_of(1, 1, 1)).params)
    sharded = load_run(place / "run", mesh=lambda: mesh_of(2, 4, 1)).params
    assert len(sharded["upper"]["up"].sharding.device_set) == 8
    jax.tree.map(np.testing.assert_array_equal, whole(sharded), expected)


def test_what_is_wrong_with_a_run_is_told(place, tmp_path):
    run = shutil.copytree(place / "run", tmp_path / "run")
    again = load_backbone(str(run)).fingerprint
    assert again == load_backbone(str(place / "run")).fingerprint
    card = json.loads((run / "model.json").read_text())
    for change, problem in (
        ({"backbone_fingerprint": "0"}, r"run: trained on backbone '.*' whose file has changed since"),
        ({"trainable": 1}, r"checkpoint is of another architecture"),
        ({"backbone": str(tmp_path / "gone")}, r"gone: neither a file or folder nor a known backbone"),
    ):
        (run / "model.json").write_text(json.dumps(card | change))
        with pytest.raises(CromeError, match=problem):
            load_backbone(str(run))
    (run / "model.json").write_text(json.dumps(card))
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CromeError, match=r"run/checkpoints: holds no whole checkpoint"):
        load_backbone(str(run))
    (run / "model.json").write_text("{")
    with pytest.raises(CromeError, match=r"model\.json: damaged"):
        load_backbone(str(run))
    (run / "model.json").unlink()
    with pytest.raises(CromeError, match=r"run: holds neither config\.json nor model\.json"):
        load_backbone(str(run))
