"""A run whose numbers go wrong stops before the records that did it, and can be asked which they were."""

import dataclasses
import json

import numpy as np
import pytest
from toy import ONE, mesh_of, text_groups

from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError
from crome_jax.groups import to_json
from crome_jax.training.train import train
from crome_jax.weights.backbones import load_backbone


def test_the_records_that_spoil_a_step_are_named_and_found_by_a_replay(tmp_path, monkeypatch, capsys):
    base = load_backbone("tiny", 1)  # Reading its tokenizer takes seconds.
    monkeypatch.setattr("crome_jax.training.train.load_backbone", lambda *_, **__: base)
    groups = text_groups(24)
    # So far apart that the loss of two such comparisons is beyond float32; as read, a record holds no such number.
    monkeypatch.setattr("crome_jax.groups.LARGEST", 3.1e38)
    bad = groups[7]
    wrong = tuple(dataclasses.replace(c, margin=3e38, weight=4.0) for c in bad.comparisons)
    groups[7] = dataclasses.replace(bad, comparisons=wrong)
    (tmp_path / "toy.jsonl").write_text("".join(to_json(group) + "\n" for group in groups))
    ask = lambda **settings: train(  # noqa: E731
        data=str(tmp_path / "toy.jsonl"), out=str(tmp_path / "run"), backbone="tiny", trainable=1,
        row_shape=RowShape(96, 6, 6), steps=40, rows_per_step=2, mesh=lambda: mesh_of(*ONE), checkpoint_every=2,
        max_skipped=0, **settings,
    )  # fmt: skip
    with pytest.raises(CromeError, match=rf"loss or gradient is not finite .*{bad.id}") as stopped:
        ask()
    first = int(str(stopped.value).split("steps ")[1].split(" ")[0])
    assert sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())[-1] == first - 1
    curve = (tmp_path / "run" / "metrics.jsonl").read_text()
    capsys.readouterr()
    assert ask(replay=first) is None
    told = json.loads(capsys.readouterr().out)
    assert (told["step"], told["finite"]) == (first, False)
    spoiled = [row for row in told["rows"] if not row["finite"]]
    assert len(spoiled) == 1
    assert bad.id in spoiled[0]["records"]
    assert len(told["rows"]) == 2
    fine = next(row for row in told["rows"] if row["finite"])
    assert bad.id not in fine["records"]
    assert np.isfinite([fine["loss"], fine["grad_norm"]]).all()
    # The run is as it was.
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == curve
    with pytest.raises(CromeError, match="a step from 1 to 40"):
        ask(replay=41)


def test_a_replay_computes_as_the_run_did_and_changes_nothing(tmp_path, monkeypatch, capsys):
    base = load_backbone("tiny", 1)
    monkeypatch.setattr("crome_jax.training.train.load_backbone", lambda *_, **__: base)
    (tmp_path / "toy.jsonl").write_text("".join(to_json(group) + "\n" for group in text_groups(24)) + "{}\n")
    run, bad = tmp_path / "run", tmp_path / "run.bad.jsonl"
    ask = lambda **settings: train(  # noqa: E731
        data=str(tmp_path / "toy.jsonl"), out=str(run), backbone="tiny", trainable=1, row_shape=RowShape(96, 6, 6),
        steps=6, rows_per_step=4, micro_batches=2, remat="full", attention="dense", dtype="bfloat16", log_every=1,
        mesh=lambda: mesh_of(*ONE), checkpoint_every=2, skip_bad=True, **settings,
    )  # fmt: skip
    with pytest.raises(CromeError, match=r"run: no model.json"):
        ask(replay=6)
    assert not run.exists()
    ask()
    curve = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    bad.write_text(bad.read_text() * 2)  # The second line is as of train.validation, which a replay does not read.
    there = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    ask(replay=6)
    told = json.loads(capsys.readouterr().out)
    assert told["loss"] == pytest.approx(curve[5]["loss"], rel=1e-6)
    assert told["grad_norm"] == pytest.approx(curve[5]["grad_norm"], rel=1e-6)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == there


def test_a_finished_run_whose_last_checkpoint_was_damaged_is_finished_again(tmp_path, monkeypatch, capsys):
    base = load_backbone("tiny", 1)
    monkeypatch.setattr("crome_jax.training.train.load_backbone", lambda *_, **__: base)
    (tmp_path / "toy.jsonl").write_text("".join(to_json(group) + "\n" for group in text_groups(24)))
    run = tmp_path / "run"
    ask = lambda: train(  # noqa: E731
        data=str(tmp_path / "toy.jsonl"), out=str(run), backbone="tiny", trainable=1, row_shape=RowShape(96, 6, 6),
        steps=4, rows_per_step=2, log_every=1, mesh=lambda: mesh_of(*ONE), checkpoint_every=2,
    )  # fmt: skip
    ask()
    (run / "checkpoints" / "4" / "state" / "_METADATA").write_bytes(b"{}")
    capsys.readouterr()
    assert ask() is not None
    said = capsys.readouterr().err
    assert "checkpoints/4: damaged (state/_METADATA has changed" in said
    assert "resumed at step 2" in said
    assert len(list((run / "damaged").iterdir())) == 1
    assert (run / "checkpoints" / "4").is_dir()
    assert ask() is None
    assert "finished already, at step 4" in capsys.readouterr().err
