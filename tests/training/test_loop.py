"""The loop by itself, around a step that costs nothing."""

import contextlib
import itertools
import json
import os
import re
import signal
import time
from concurrent.futures import Future

import jax.numpy as jnp
import numpy as np
import pytest
from jax.profiler import ProfileData
from toy import ONE, ROWS, AsksAt, mesh_of

from crome_jax.batch import FIELDS
from crome_jax.errors import CromeError, Diverged, Preempted
from crome_jax.training import preemption
from crome_jax.training.goodput import Goodput
from crome_jax.training.incidents import Incidents
from crome_jax.training.loop import UNLOGGED, fit
from crome_jax.training.preemption import Preemption
from crome_jax.training.spikes import SpikeDetector
from crome_jax.training.step import TrainState
from crome_jax.training.trace import Trace

KINDS = ("human", "causal", "neutral")
SUMS = ("count", "loss_sum", "preferring", "agree_sum", "distance_sum")


class Saves:
    """Checkpoints that only remember which steps were saved, and with what."""

    def __init__(self):
        self.steps, self.data, self.measured, self.waited, self.owed = [], [], [], False, set()

    @property
    def latest(self):
        return max(self.steps, default=None)

    def owes(self, step):
        return step in self.owed

    def save(self, state, iterator_state, measured=None, *, owed=False):
        self.owed |= {int(state.step)} if owed else set()
        self.steps.append(int(state.step))
        self.data.append(iterator_state)
        self.measured.append(measured)

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


def counting_step(spoiled: dict[int, str] | None = None, losses: dict[int, float] | None = None):
    """Make a step whose loss is its own number unless told otherwise; in `spoiled` steps one metric is not finite."""

    def step(state, frozen, batch):
        number = int(state.step) + 1
        metrics = {f"{kind}/{name}": 0.0 for kind in KINDS for name in SUMS}
        metrics |= {"human/count": 2.0, "human/loss_sum": 2.0 * number, "human/preferring": 2.0, "human/agree_sum": 1.0}
        metrics |= {
            "reward/count": 1.0,
            "reward/pivot": 0.0,
            "reward/sum": 0.0,
            "reward/square_sum": 0.0,
            "length/pivot": 0.0,
        }
        metrics |= {"length/sum": 5.0, "length/square_sum": 25.0, "length/reward_sum": 0.0}
        metrics |= {"loss": float(number), "grad_norm": 1.0, "tokens": 10.0, "comparisons": 3.0}
        metrics["loss"] = (losses or {}).get(number, metrics["loss"])
        if number in (spoiled or {}):
            metrics[spoiled[number]] = float("nan")
            metrics["skipped"] = 1.0
        return TrainState(jnp.asarray(number), {}, ()), metrics

    return step


def train(done: int, steps: int, step=None, *, numbers=None, **options):
    state = TrainState(jnp.asarray(done), {}, ())
    return fit(state, {}, step or counting_step(), numbers or Numbers(), mesh_of(*ONE), steps=steps, **options)


class AtOnce:
    """A pool that does what it is given at once, so that a clock of ours shows when."""

    def __init__(self, *_):
        pass

    def submit(self, function, *given):
        done = Future()
        done.set_result(function(*given))
        return done


def logged(done: int, steps: int, **options) -> dict[int, float]:
    lines = {}
    train(done, steps, log=lambda at, values: lines.update({at: values["loss"]}), **options)
    return lines


def test_metrics_are_averaged_from_line_to_line():
    assert logged(0, 7, log_every=3) == {3: 2.0, 6: 5.0, 7: 7.0}
    assert logged(0, 3, log_every=1) == {1: 1.0, 2: 2.0, 3: 3.0}


def test_a_steps_metrics_are_read_only_when_the_next_step_is_dispatched():
    told, step = [], counting_step()

    class Metric:
        """A number on a device: told is when the host reads it."""

        def __init__(self, number, value):
            self.number, self.value = number, value

        def __array__(self, dtype=None, copy=None):
            told.append(f"read {self.number}")
            return np.asarray(self.value, dtype)

    def dispatch(state, frozen, batch):
        state, metrics = step(state, frozen, batch)
        number = int(state.step)
        told.append(f"dispatched {number}")
        return state, metrics | {"loss": Metric(number, metrics["loss"])}

    train(0, 3, dispatch, log_every=1)
    assert told == ["dispatched 1", "dispatched 2", "read 1", "dispatched 3", "read 2", "read 3"]


@pytest.mark.parametrize("done", [2, 3, 5])
def test_a_resumed_run_writes_its_lines_at_the_same_steps(done):
    whole = logged(0, 12, log_every=3)
    resumed = logged(done, 12, log_every=3)
    assert [*resumed] == [at for at in whole if at > done]
    assert [resumed[at] for at in (9, 12)] == [whole[at] for at in (9, 12)]


@pytest.mark.parametrize(
    ("saved_at", "spoiled"), [(7, (3,)), (4, (3,)), (7, (3, 8)), (10, (2,)), (10, (10,)), (12, (9, 10, 11, 12))]
)
def test_a_line_tells_of_all_its_steps_also_where_the_run_was_cut_off_between(saved_at, spoiled):
    step = lambda: counting_step(dict.fromkeys(spoiled, "loss"))  # noqa: E731

    def lines(done, steps, **options):
        told = {}
        log = lambda at, values: told.update({at: (values["loss"], values.get("skipped", 0))})  # noqa: E731
        with contextlib.suppress(Preempted):
            train(done, steps, step(), log=log, log_every=10, **options)
        return told

    whole, saves = lines(0, 20), Saves()
    first = lines(0, 20, checkpoints=saves, checkpoint_every=100, preempted=AsksAt(saved_at))
    *_, data = saves.data
    resumed = lines(saves.latest, 20, unlogged=json.loads(json.dumps(data)).get(UNLOGGED))
    assert first | resumed == whole
    assert [*whole] == [10, 20]
    assert whole[10][1] == sum(at <= 10 for at in spoiled)


def test_what_is_saved_is_measured_and_logged_with_its_checkpoint():
    saves, lines = Saves(), []
    train(
        0, 5, checkpoints=saves, checkpoint_every=2, log_every=5, log=lambda *line: lines.append(line),
        validate=lambda trained, _: {"loss": 1.0 / len(saves.steps) if saves.steps else 2.0},
    )  # fmt: skip
    assert saves.steps == [2, 4, 5]
    assert saves.measured == [{"loss": 2.0}, {"loss": 1.0}, {"loss": 0.5}]
    logged = [(at, values["validation/loss"]) for at, values in lines if "validation/loss" in values]
    assert logged == [(2, 2.0), (4, 1.0), (5, 0.5)]


def test_what_cannot_be_measured_is_told_with_its_record_and_trained_on(tmp_path, capsys):
    """The run is not ended by what only looks at it, least of all before it is saved, and so again at every start."""
    saves, lines = Saves(), []

    def validate(trained, _):
        if len(saves.steps) < 2:
            raise Diverged("group 'g-7': the reward of responses[0] is nan; a model whose training diverged cannot be")
        return {"loss": 0.5}

    def life(done, steps):
        train(
            done, steps, checkpoints=saves, checkpoint_every=2, log_every=2, log=lambda *line: lines.append(line),
            validate=validate, incidents=Incidents(tmp_path, resumed_at=done, owed=done in saves.owed),
        )  # fmt: skip

    life(0, 2)
    saves.owed = {2}  # As if it was killed there before it had gone on from an owed measuring.
    life(2, 6)
    assert (saves.steps, saves.measured) == ([2, 4, 6], [None, None, {"loss": 0.5}])
    assert [at for at, values in lines if "validation/loss" in values] == [6]
    written = [json.loads(line) for line in (tmp_path / "incidents.jsonl").read_text().splitlines()]
    assert [(line["step"], line["kind"]) for line in written] == [(2, "unmeasured"), (4, "unmeasured")]
    assert all(line["problem"].startswith("group 'g-7': the reward of responses[0] is nan") for line in written)
    assert "step 4: not measured, and trained on: group 'g-7': the reward of" in capsys.readouterr().err


@pytest.mark.parametrize(("done", "steps"), list(itertools.product([0, 2, 4], [7, 8])))
def test_checkpoints_are_saved_every_so_often_and_at_the_end(done, steps):
    saves = Saves()
    state, throughput = train(done, steps, checkpoints=saves, checkpoint_every=4)
    assert saves.steps == [n for n in range(done + 1, steps + 1) if n % 4 == 0 or n == steps]
    # The iterator's state belongs to the same step: what it gave is what was trained on.
    assert [data["next_index"] + done for data in saves.data] == saves.steps
    assert saves.waited
    assert saves.measured == [None] * len(saves.steps)
    assert int(state.step) == steps
    # The first step compiles, so it counts for nothing.
    assert throughput.tokens == 10.0 * (steps - done - 1)
    assert throughput.pairs == 3.0 * (steps - done - 1)


def test_goodput_is_the_share_of_the_time_that_steps_took_which_counted(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("crome_jax.training.loop.time.monotonic", lambda: now[0])
    monkeypatch.setattr("crome_jax.training.goodput.ThreadPoolExecutor", AtOnce)
    take = counting_step({3: "loss"})

    def slow(*given):
        now[0] += 2.0
        return take(*given)

    class SlowNumbers(Numbers):
        def __next__(self):
            now[0] += 1.0
            return super().__next__()

    class SlowSaves(Saves):
        def save(self, *given, **options):
            now[0] += 3.0
            super().save(*given, **options)

    lines = {}
    # The loop begins 7 seconds after the launch, and the first step compiles.
    train(
        0, 5, slow, numbers=SlowNumbers(), checkpoints=SlowSaves(), checkpoint_every=2, log_every=1,
        goodput=Goodput(93.0, {"goodput/seconds": 30.0, "goodput/since": time.time() - 50.0}),
        log=lambda at, values: lines.update({at: values}),
    )  # fmt: skip
    # After step 4: steps 2 and 4 counted, 2 seconds each; 7 + 4 x (1 + 2) + 3 have passed.
    assert lines[4]["goodput"] == pytest.approx(4.0 / 22.0)
    # After step 5, before it is saved: three steps, and two saves.
    assert lines[5]["goodput"] == pytest.approx(6.0 / 28.0)
    # Before this process was one that had computed for 30 seconds, and was launched 50 seconds ago.
    assert lines[5]["goodput/seconds"] == 36.0
    assert lines[5]["goodput/run"] == pytest.approx(36.0 / 50.0, rel=0.05)
    # Saved at the second step's end, a resumed run goes on from what was logged then.
    assert 0 < Goodput(None, lines[4]).figures()["goodput/run"] < 1


def recorded(run) -> dict[str, list[int]]:
    """Return the steps that each record of a run holds."""
    found = {}
    for folder in (run / "trace").iterdir():
        (path,) = folder.rglob("*.xplane.pb")
        lines = [line for plane in ProfileData.from_file(str(path)).planes for line in plane.lines]
        steps = [dict(event.stats)["step_num"] for line in lines for event in line.events if event.name == "train"]
        found[folder.name] = sorted(steps)
    return found


def test_steps_that_follow_one_another_are_one_record(tmp_path):
    with Trace(tmp_path, (2, 3)) as trace:
        train(0, 4, trace=trace)
    assert recorded(tmp_path) == {"steps-2-3": [2, 3]}
    for wrong in ((3, 2), (0, 2), (2,)):
        with pytest.raises(CromeError, match=rf"trace_steps is {re.escape(str(wrong))}"):
            Trace(tmp_path, wrong)


def test_a_record_that_the_end_cuts_short_is_kept_and_one_that_an_error_cuts_short_is_not(tmp_path):
    with Trace(tmp_path / "ended", (2, 9)) as trace:
        train(0, 3, trace=trace)
    assert recorded(tmp_path / "ended") == {"steps-2-9": [2, 3]}
    with pytest.raises(Preempted), Trace(tmp_path / "cut", (2, 9)) as trace:
        train(0, 9, trace=trace, checkpoints=Saves(), preempted=AsksAt(3))
    assert list((tmp_path / "cut" / "trace").iterdir()) == []


def test_a_running_run_is_asked_for_a_record_by_a_file(tmp_path, capsys):
    request = tmp_path / "trace.request"
    asks = {2: "", 4: "2", 6: "three", 8: "1-11"}  # One that is empty is still being written.

    def log(at, values):
        if at in asks:
            request.write_text(asks[at])

    with Trace(tmp_path, every=2) as trace:
        train(0, 12, trace=trace, log=log, log_every=2)
    assert recorded(tmp_path) == {"steps-7-8": [7, 8], "steps-1-11": [11]}
    assert not request.exists()
    said = capsys.readouterr().err
    assert f"{request}: steps 7 to 8 are recorded" in said
    assert f"{request}: 'three' names no steps from 9 on; write FIRST-LAST, or how many from now" in said


def test_a_request_that_cannot_be_read_ends_no_run_and_others_take_the_first_process_s_word(tmp_path, monkeypatch):
    (tmp_path / "trace.request").mkdir()
    with Trace(tmp_path) as trace:
        assert "trace.request: cannot be read" in trace.look(1)
        monkeypatch.setattr("crome_jax.training.trace.is_first", lambda: False)
        monkeypatch.setattr("crome_jax.training.trace.first_word", lambda here: here or "1-2")
        assert trace.look(1) is None
        train(1, 2, trace=trace)
    assert recorded(tmp_path) == {"steps-1-2": [2]}


def test_a_finished_run_has_nothing_to_do():
    saves = Saves()
    state, throughput = train(5, 5, checkpoints=saves)
    assert int(state.step) == 5
    assert saves.steps == []
    assert throughput.tokens == 0


@pytest.mark.parametrize("metric", ["loss", "grad_norm"])
@pytest.mark.parametrize(
    ("spoiled", "allowed", "saved"),
    [
        ((3, 4), 1, [2]),
        ((3,), 0, [2]),
        ((4, 5), 1, [3]),
        ((5, 6), 1, [4]),
        ((1, 2, 3), 2, [0]),
        ((2, 4, 6, 7), 1, [5]),
        ((3, 4, 5, 6), 3, [2]),
    ],
)
def test_too_many_skipped_steps_in_a_row_stop_the_run_as_it_was_before_them(spoiled, allowed, saved, metric):
    saves = Saves()
    first, last = spoiled[-allowed - 1], spoiled[-1]
    named = rf"step {last}: records record-{last}$"
    with pytest.raises(CromeError, match=rf"steps {first} to {last}: .*--replay {first}; .*{named}"):
        train(
            0,
            8,
            counting_step(dict.fromkeys(spoiled, metric)),
            checkpoints=saves,
            checkpoint_every=4 if saved != [5] else 5,
            max_skipped=allowed,
            incidents=Incidents(records=lambda step: [f"record-{step}"]),
        )
    assert saves.steps == saved
    # What is trained on next is the first of the batches that were skipped.
    assert saves.data[-1]["next_index"] == saves.steps[-1] == first - 1
    assert saves.waited


def test_a_skipped_step_counts_for_nothing_but_is_counted(tmp_path, capsys):
    lines = {}
    saves = Saves()
    state, throughput = train(
        0,
        6,
        counting_step({2: "loss", 4: "grad_norm"}),
        log=lambda at, values: lines.update({at: values}),
        log_every=3,
        checkpoints=saves,
        checkpoint_every=4,
        incidents=Incidents(tmp_path, records=lambda step: ["a", "b"]),
    )
    assert int(state.step) == 6
    assert [(line["loss"], line["skipped"]) for line in lines.values()] == [(2.0, 1), (5.5, 1)]
    assert throughput.tokens == 10.0 * 3
    assert saves.steps == [5, 6]  # The checkpoint due at step 4 waits for a good step.
    assert [data["next_index"] for data in saves.data] == [5, 6]
    written = [json.loads(line) for line in (tmp_path / "incidents.jsonl").read_text().splitlines()]
    assert [(line["step"], line["kind"], line["loss"]) for line in written] == [
        (2, "skipped", "nan"),
        (4, "skipped", 4.0),
    ]
    assert all(line["records"] == ["a", "b"] for line in written)
    assert "step 2: loss nan, gradient 1: its update is skipped: records a, b" in capsys.readouterr().err


def test_a_resumed_run_writes_its_incidents_anew(tmp_path):
    spoiled = counting_step({2: "loss", 4: "loss"})
    train(0, 5, spoiled, incidents=Incidents(tmp_path))
    whole = (tmp_path / "incidents.jsonl").read_text()
    train(3, 5, spoiled, incidents=Incidents(tmp_path, resumed_at=3))
    assert (tmp_path / "incidents.jsonl").read_text() == whole


@pytest.mark.parametrize(
    ("asked", "spoiled", "saved"), [(5, (), [4, 5]), (4, (), [4]), (6, (5, 6), [4]), (3, (2, 3), [1])]
)
def test_a_run_that_is_asked_to_end_saves_where_it_is(asked, spoiled, saved):
    saves = Saves()
    with pytest.raises(Preempted, match=rf"saved at step {saved[-1]}, 0\.\d s after it was asked; the same command"):
        train(
            0,
            8,
            counting_step(dict.fromkeys(spoiled, "loss")),
            checkpoints=saves,
            checkpoint_every=4,
            preempted=AsksAt(asked + (asked > 4)),  # It is asked twice after step 4, which is saved.
        )
    assert saves.steps == saved
    assert saves.data[-1]["next_index"] == saved[-1]
    assert saves.waited


@pytest.mark.parametrize(("took", "told"), [(14.0, ""), (16.0, r" \(a pod of a spot node has 15 s, .*\)")])
def test_a_save_for_which_some_machine_gives_no_time_is_told(monkeypatch, took, told):
    monkeypatch.setattr(Preemption, "seconds", took)
    with pytest.raises(Preempted, match=rf"saved at step 1, {took} s after it was asked{told}; the same command"):
        train(0, 8, checkpoints=Saves(), preempted=AsksAt(1))


def test_a_run_that_is_asked_to_end_while_it_is_measured_saves_without(tmp_path):
    saves, preempted = Saves(), AsksAt(4)

    def validate(trained, give_up):
        return None if any(give_up() for _ in range(3)) else {"loss": 1.0}

    with pytest.raises(Preempted, match="saved at step 2"):
        train(0, 8, checkpoints=saves, checkpoint_every=2, validate=validate, preempted=preempted)
    assert (saves.steps, saves.measured, saves.owed) == ([2], [None], {2})


def test_only_what_an_undisturbed_run_would_have_measured_is_still_owed(tmp_path):
    saves = Saves()
    with pytest.raises(Preempted, match="saved at step 3"):
        train(0, 8, checkpoints=saves, checkpoint_every=2, validate=lambda *_: {"loss": 1.0}, preempted=AsksAt(4))
    assert (saves.steps, saves.measured, saves.owed) == ([2, 3], [{"loss": 1.0}, None], set())


def test_sigterm_asks_once_however_many_pass_it_on_and_ends_when_it_comes_again_later(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    ended = []
    monkeypatch.setattr(signal, "raise_signal", lambda number: ended.append((number, signal.getsignal(number))))
    with Preemption().listening() as preempted:
        assert not preempted()
        os.kill(os.getpid(), signal.SIGTERM)
        assert preempted()
        assert 0 <= preempted.seconds < 60
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended == []
        monkeypatch.setattr(preemption, "SAME_REQUEST", 0.0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended == [(signal.SIGTERM, signal.SIG_DFL)]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_spike_is_told_with_its_records_and_trained_on(capsys):
    losses = {step: 1.0 + 0.01 * (step % 5) for step in range(1, 60)} | {50: 9.0}
    state, _ = train(0, 59, counting_step(losses=losses), incidents=Incidents(records=lambda step: [f"record-{step}"]))
    told = [line for line in capsys.readouterr().err.splitlines() if "spike" in line]
    assert told == ["step 50: loss 9, gradient 1: a spike: records record-50"]
    assert int(state.step) == 59


def test_neither_scatter_nor_a_steady_rise_nor_a_flat_loss_is_a_spike():
    rng = np.random.default_rng(0)
    for losses in (rng.normal(1, 0.3, 400), np.linspace(0.5, 2, 400), np.full(400, 0.7), 2 + np.sin(np.arange(400))):
        detector = SpikeDetector()
        assert [detector.update(float(loss)) for loss in losses] == [None] * 400
        assert detector.update(float(losses.max() + 20)) == pytest.approx(20, abs=3)


def test_progress_goes_to_stderr_and_names_what_was_learned(capsys):
    train(0, 2, name="toy")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("toy: step 2/2  ")
    assert "pairs/s  loss 1.500  human 50%" in err
    assert np.char.count(err, "\n") == 1
