"""The study's search: trials as long as the run are the run; shorter ones find its learning rate."""

import functools
import json

import pytest
from toy import text_groups

from crome_jax.data.packing import RowShape
from crome_jax.data.writers import write_groups
from crome_jax.errors import CromeError
from crome_jax.training import study as room
from crome_jax.training.train import Method
from crome_jax.weights.backbones import load_backbone


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a function that runs a study of one method on toy groups and returns its report."""
    folder = tmp_path_factory.mktemp("study")
    for split in ("train", "validation", "test"):
        write_groups(folder / "data" / f"{split}.jsonl", text_groups(40), description="toy")
    base = load_backbone("tiny", 1)  # Reading its tokenizer takes seconds.

    def run(**settings):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, "load_backbone", lambda *_: base)
            page = room.study(
                methods=[Method()],
                data=str(folder / "data"),
                groups=str(folder / "data" / "train.jsonl"),
                out=str(folder / "out"),
                test_splits=("test",),
                trainable=1,
                row_shape=RowShape(tokens=128, responses=16, comparisons=16),
                steps=3,
                rows_per_step=8,
                learning_rates=(1e-3, 1e-2),
                **settings,
            )
        return json.loads((page.parent / "report.json").read_text())

    return functools.cache(run)


def test_without_search_steps_the_best_trial_is_the_run(run):
    trials = run()["facts"]["search"]
    assert [trial["optimizer steps"] for trial in trials] == [3, 3]
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


def test_a_search_of_no_steps_is_refused(run):
    with pytest.raises(CromeError, match="search_steps is 0"):
        run(search_steps=0)
