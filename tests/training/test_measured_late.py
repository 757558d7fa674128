"""What a run is measured on is found before it begins; what is owed at its end is measured, and told, once."""

import pytest
from toy import AsksAt, text_groups
from words_run import train_words

from crome_jax.errors import CromeError, Preempted
from crome_jax.groups import to_json
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.metrics import read_curve
from crome_jax.training.train import train


def test_killed_before_what_it_measured_is_kept_a_run_measures_it_again_and_tells_it_once(tmp_path, monkeypatch):
    data, run = tmp_path / "toy.jsonl", tmp_path / "run"
    data.write_text("".join(to_json(group) + "\n" for group in text_groups(24)))

    def live() -> list[list[str]]:
        train_words(data, run, 2, validation=str(data))
        return [[name for name in line if name.startswith(("step", "validation"))] for line in read_curve(run)]

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("crome_jax.training.train.Preemption", lambda: AsksAt(3))  # By the first batch that is measured.
        with pytest.raises(Preempted, match="saved at step 2"):
            live()
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "add_measured", die)
        with pytest.raises(KeyboardInterrupt):
            live()
    measured = ["step", "validation/accuracy", "validation/loss"]
    assert live() == [["step"], ["step"], measured]
    assert live() == [["step"], ["step"], measured]  # Nothing is owed any more.


def test_shards_that_it_is_measured_on_and_lacks_are_told_before_a_model_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("crome_jax.training.train.load_backbone", lambda *_, **__: pytest.fail("read"))
    line = to_json(text_groups(1)[0])
    (tmp_path / "toy.jsonl").write_text(line)
    held_out = tmp_path / "held_out"
    held_out.mkdir()
    (held_out / "p-00001-of-00002.jsonl").write_text(line)
    with pytest.raises(CromeError, match=f"{held_out}: lacks 1 of its 2 shards: p-00000-of-00002.jsonl"):
        train(data=str(tmp_path / "toy.jsonl"), out=str(tmp_path / "run"), validation=str(held_out))
