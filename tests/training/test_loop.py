"""The loop by itself, around a step that costs nothing."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from toy import ONE, ROWS, mesh_of

from crome_jax.batch import FIELDS
from crome_jax.errors import CromeError
from crome_jax.training.loop import fit
from crome_jax.training.step import TrainState

KINDS = ("human", "causal", "neutral")
SUMS = ("count", "loss_sum", "preferring", "agree_sum", "distance_sum")


class Saves:
    """Checkpoints that only remember which steps were saved, and with what."""

    def __init__(self):
        self.steps, self.data, self.waited = [], [], False

    def save(self, state, iterator_state):
        self.steps.append(int(state.step))
        self.data.append(iterator_state)

    def wait(self):
        self.waited = True


class Numbers:
    """An iterator over the first row, whose state is how often it was asked."""

    def __init__(self):
        self.asked = 0

    def __next__(self):
        self.asked += 1
        return {name: getattr(ROWS.batch, name)[:1] for name in FIELDS}

    def get_state(self):
        return {"next_index": self.asked}


def counting_step(spoiled: dict[int, str] | None = None):
    """Make a step whose loss is its own number; in `spoiled` steps one metric is not finite."""

    def step(state, frozen, batch):
        number = int(state.step) + 1
        metrics = {f"{kind}/{name}": 0.0 for kind in KINDS for name in SUMS}
        metrics |= {"human/count": 2.0, "human/loss_sum": 2.0 * number, "human/preferring": 2.0, "human/agree_sum": 1.0}
        metrics |= {"reward/count": 1.0, "reward/sum": 0.0, "reward/square_sum": 0.0}
        metrics |= {"length/sum": 5.0, "length/square_sum": 25.0, "length/reward_sum": 0.0}
        metrics |= {"loss": float(number), "grad_norm": 1.0, "tokens": 10.0, "comparisons": 3.0}
        if number in (spoiled or {}):
            metrics[spoiled[number]] = float("nan")
        return TrainState(jnp.asarray(number), {}, ()), metrics

    return step


def train(done: int, steps: int, step=None, **options):
    state = TrainState(jnp.asarray(done), {}, ())
    return fit(state, {}, step or counting_step(), Numbers(), mesh_of(*ONE), steps=steps, **options)


def logged(done: int, steps: int, **options) -> dict[int, float]:
    lines = {}
    train(done, steps, log=lambda at, values: lines.update({at: values["loss"]}), **options)
    return lines


def test_metrics_are_averaged_from_line_to_line():
    assert logged(0, 7, log_every=3) == {3: 2.0, 6: 5.0, 7: 7.0}
    assert logged(0, 3, log_every=1) == {1: 1.0, 2: 2.0, 3: 3.0}


@pytest.mark.parametrize("done", [2, 3, 5])
def test_a_resumed_run_writes_its_lines_at_the_same_steps(done):
    whole = logged(0, 12, log_every=3)
    resumed = logged(done, 12, log_every=3)
    assert [*resumed] == [at for at in whole if at > done]
    assert [resumed[at] for at in (9, 12)] == [whole[at] for at in (9, 12)]


@pytest.mark.parametrize(("done", "steps"), itertools.product([0, 2, 4], [7, 8]))
def test_checkpoints_are_saved_every_so_often_and_at_the_end(done, steps):
    saves = Saves()
    state, throughput = train(done, steps, checkpoints=saves, checkpoint_every=4)
    assert saves.steps == [n for n in range(done + 1, steps + 1) if n % 4 == 0 or n == steps]
    # The iterator's state belongs to the same step: what it gave is what was trained on.
    assert [data["next_index"] + done for data in saves.data] == saves.steps
    assert saves.waited
    assert int(state.step) == steps
    # The first step compiles, so it counts for nothing.
    assert throughput.tokens == 10.0 * (steps - done - 1)
    assert throughput.pairs == 3.0 * (steps - done - 1)


def test_a_finished_run_has_nothing_to_do():
    saves = Saves()
    state, throughput = train(5, 5, checkpoints=saves)
    assert int(state.step) == 5
    assert saves.steps == []
    assert throughput.tokens == 0


@pytest.mark.parametrize("spoiled", [3, 4, 5])
@pytest.mark.parametrize("metric", ["loss", "grad_norm"])
def test_numbers_that_are_not_finite_stop_the_run_before_they_are_saved(spoiled, metric):
    saves = Saves()
    with pytest.raises(CromeError, match=rf"step {spoiled}: {metric} is nan; lower adamw\.learning_rate"):
        train(0, 6, counting_step({spoiled: metric}), checkpoints=saves, checkpoint_every=4)
    assert all(step < spoiled for step in saves.steps)


def test_progress_goes_to_stderr_and_names_what_was_learned(capsys):
    train(0, 2, name="toy")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("toy: step 2/2  ")
    assert "pairs/s  loss 1.500  human 50%" in err
    assert np.char.count(err, "\n") == 1
