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
