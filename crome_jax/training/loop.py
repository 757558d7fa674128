"""The training loop: restore; for each step: batch, step, late metrics, save."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from crome_jax.data.loading import put
from crome_jax.errors import Diverged, Preempted
from crome_jax.models.weights import Params
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.goodput import Goodput
from crome_jax.training.incidents import Incidents
from crome_jax.training.mesh import spread
from crome_jax.training.metrics import KINDS, MEASURED, about_zero, summarize
from crome_jax.training.preemption import SHORTEST_GRACE, Preemption
from crome_jax.training.processes import is_first
from crome_jax.training.progress import Progress
from crome_jax.training.spikes import SpikeDetector
from crome_jax.training.step import TrainState
from crome_jax.training.trace import Trace

UNLOGGED = "unlogged"
"""What is kept by this name beside the iterator's state is what `fit` takes by it."""


@dataclasses.dataclass(frozen=True)
class Throughput:
    """How fast a run went, its first (compiling) step apart.

    Args:
        seconds: spent in steps.
        tokens: real tokens that went through the model.
        pairs: comparisons that entered the loss.
    """

    seconds: float
    tokens: float
    pairs: float


@dataclasses.dataclass
class _Pending:
    """What the next line of the curve will tell of: sums of the metrics of so many steps, and how many were skipped."""

    sums: dict[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = 0
    skipped: int = 0

    def add(self, values: Mapping[str, Any]) -> None:
        """Take the metrics of a step."""
        self.sums = {name: np.asarray(self.sums.get(name, 0.0)) + value for name, value in values.items()}
        self.steps += 1

    def state(self) -> dict[str, Any]:
        """Return it as JSON values, for a checkpoint."""
        if not self.steps and not self.skipped:
            return {}
        sums = {name: np.asarray(value).tolist() for name, value in self.sums.items()}
        return {UNLOGGED: {"sums": sums, "steps": self.steps, "skipped": self.skipped}}


def fit(
    state: TrainState,
    frozen: Params,
    step: Callable,
    iterator: grain.DatasetIterator,
    mesh: Mesh,
    *,
    steps: int,
    name: str = "train",
    log: Callable[[int, dict[str, float]], None] = lambda step, values: None,
    log_every: int = 10,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: int = 100,
    before_save: Callable[[], None] = lambda: None,
    validate: Callable[[Params, Callable[[], bool]], dict[str, float] | None] | None = None,
    max_skipped: int = 5,
    incidents: Incidents | None = None,
    preempted: Preemption | None = None,
    trace: Trace | None = None,
    goodput: Goodput | None = None,
    unlogged: Mapping[str, Any] | None = None,
    attributes: Sequence[str] = (),
) -> tuple[TrainState, Throughput]:
    """Train from the state's step up to `steps`.

    Metrics of a step are fetched after the next one was dispatched, so the device never waits for the host; only while
    updates are being skipped each step is waited for.

    Args:
        step: from make_train_step.
        log: called with a step and its numbers, every `log_every` steps.
        log_every: steps between two calls of log, over which metrics are summed.
        checkpoints: where state and iterator are saved together; None saves nothing.
        checkpoint_every: steps between two checkpoints; the last step is always saved. One that is due after a skipped
            step waits for the next good one, so that a resumed run counts skipped steps as the uninterrupted one does.
        before_save: called before a step is saved; what was logged up to there is to be there as well.
        validate: from the trained parameters to what is measured whenever they are saved, kept with the checkpoint and
            logged as validation/...; not before an end that was asked for, and None where that was asked meanwhile:
            then whoever goes on from the checkpoint measures it first. Where it raises Diverged the step is not
            measured, and the run goes on.
        max_skipped: how many steps in a row may be skipped because loss or gradient is not finite.
        incidents: told of every skipped step, every spike of the loss, and every step that cannot be measured.
        preempted: asked after each step, and while it is measured, whether to save and stop there; None never is.
        trace: records steps for XProf; None records nothing.
        unlogged: what a checkpoint kept of the steps before it that no line had told of yet.
        goodput: told when each step began and ended; its figures are logged.
        attributes: names of those that batches number from 1; see `tell_commonest_apart`.

    Raises:
        Preempted: where it was, once the run is saved.
        Diverged: where more steps in a row are not finite. What the run was before the first of them is saved then.
        CromeError: where a checkpoint cannot be written.
    """
    done = int(state.step)
    incidents = incidents or Incidents()
    progress, spikes = Progress(name, steps, done=done, silent=not is_first()), SpikeDetector()
    pending = _Pending(**unlogged or {})
    untold = pending  # As it was before the first of the steps that are being skipped.
    in_a_row = 0
    started = time.monotonic()
    goodput, preempted = goodput or Goodput(), preempted or Preemption()
    seen = {"tokens": 0.0, "comparisons": 0.0}

    def measure(at: int) -> dict[str, float] | None:
        """Measure, and tell it; nothing where it cannot be, None where an end was asked for meanwhile."""
        try:
            measured = validate(state.trained, preempted)
        except Diverged as e:  # The loss and its gradient tell whether the training diverged, not what looks at it.
            progress.close()
            incidents.add_unmeasured(at, e)
            return {}
        if measured:
            log(at, {f"{MEASURED}{name}": value for name, value in measured.items()})
        return measured

    def take(at: int, metrics: dict[str, Any], dispatched: float, finished: Future[float]) -> None:
        nonlocal pending, untold, in_a_row, started
        values = {k: v if np.ndim(v) else float(v) for k, v in jax.device_get(metrics).items()}
        loss, grad_norm, bad = values["loss"], values["grad_norm"], values.pop("skipped", 0.0)
        if at == done + 1:
            started = time.monotonic()
        goodput.take(dispatched, finished.result(), counts=not bad and at > done + 1)  # The first step compiles.
        if bad:
            untold = untold if in_a_row else dataclasses.replace(pending)
            pending.skipped, in_a_row = pending.skipped + 1, in_a_row + 1
            progress.close()
            incidents.add(at, "skipped", loss, grad_norm)
        else:
            in_a_row = 0
            if spikes.update(loss) is not None:
                progress.close()
                incidents.add(at, "spike", loss, grad_norm)
            for key in seen if at > done + 1 else ():
                seen[key] += values[key]
            pending.add(about_zero(values))
        elapsed = max(time.monotonic() - started, 1e-9)
        rates = {"tokens/s": seen["tokens"] / elapsed, "pairs/s": seen["comparisons"] / elapsed}
        progress.update(at, *progress_facts(summarize(pending.sums, pending.steps), rates))
        # By the step's number, so that a resumed run writes its lines where the uninterrupted one would.
        if at % log_every == 0 or at == steps:
            told = {"skipped": pending.skipped} if pending.skipped else {}
            log(at, {**summarize(pending.sums, pending.steps, attributes), **told, **rates, **goodput.figures()})
            pending = _Pending()

    if validate is not None and checkpoints is not None and checkpoints.latest == done and checkpoints.owes(done):
        measured = measure(done)
        if measured is None:
            raise _saved(checkpoints, preempted)
        if measured:
            before_save()
            checkpoints.add_measured(done, measured)

    late: tuple[int, dict, float, Future[float]] | None = None
    good = iterator.get_state()  # After the last step that was not skipped, as far as is known.
    due = False
    for number in range(done + 1, steps + 1):
        before = iterator.get_state()
        if trace and (told := trace.look(number)):
            progress.close()
            print(told, file=sys.stderr)
        with trace.step(number) if trace else contextlib.nullcontext():
            batch = put(next(iterator), mesh)
            dispatched = time.monotonic()
            state, metrics = step(state, frozen, batch)
            finished = goodput.watch(metrics)
        if trace:
            trace.end(number, metrics)
        if late is not None:
            take(*late)
            if not in_a_row:
                good = before
        late = (number, metrics, dispatched, finished)
        stop = checkpoints is not None and preempted() and number < steps
        scheduled = due or number % checkpoint_every == 0 or number == steps
        due = checkpoints is not None and (scheduled or stop)
        if due or in_a_row or not max_skipped:
            take(*late)
            late = None
            if in_a_row > max_skipped:
                progress.close()
                first = number - in_a_row + 1
                before_save()
                _save_before(first, state, good | untold.state(), checkpoints)
                raise Diverged(_too_many(first, number, metrics, incidents))
            if not in_a_row:
                good = iterator.get_state()
        if due and (not in_a_row or number == steps):
            measured = measure(number) if validate is not None and not stop else None
            before_save()
            owed = validate is not None and scheduled and measured is None
            checkpoints.save(state, iterator.get_state() | pending.state(), measured or None, owed=owed)
            due = False
            stop = stop or owed or (number < steps and preempted())  # Once more: measuring takes long.
        if stop:
            if in_a_row:
                before_save()
                _save_before(number - in_a_row + 1, state, good | untold.state(), checkpoints)
            checkpoints.wait()
            progress.close()
            raise _saved(checkpoints, preempted)
    if late is not None:
        take(*late)
    if checkpoints is not None:
        checkpoints.wait()
    progress.close()
    return state, Throughput(time.monotonic() - started, seen["tokens"], seen["comparisons"])


def _save_before(first: int, state: TrainState, data: dict[str, Any], checkpoints: Checkpoints | None) -> None:
    """Save the run as it was before the first of several skipped steps: since then nothing but the step has changed."""
    if checkpoints is None:
        return
    if checkpoints.latest is None or checkpoints.latest < first - 1:
        number = spread(np.asarray(first - 1, np.int32), state.step.sharding)
        checkpoints.save(state.replace(step=number), data)
    checkpoints.wait()


def _saved(checkpoints: Checkpoints, preempted: Preemption) -> Preempted:
    took = preempted.seconds
    late = f" (a pod of a spot node has {SHORTEST_GRACE:.0f} s, as GKE sets it up)" if took > SHORTEST_GRACE else ""
    return Preempted(
        f"asked to end: saved at step {checkpoints.latest}, {took:.1f} s after it was asked{late}; the same command "
        "goes on from there"
    )


def _too_many(first: int, last: int, metrics: dict[str, Any], incidents: Incidents) -> str:
    loss, grad_norm = (float(metrics[name]) for name in ("loss", "grad_norm"))
    return (
        f"steps {first} to {last}: loss or gradient is not finite (the last: {loss:.4g}, {grad_norm:.4g}), and no "
        f"update was made; the run stops as it was at step {first - 1}. See a batch with --replay {first}; take its "
        f"records out, lower adamw.learning_rate, or train in float32{incidents.name(first, last)}"
    )


def progress_facts(values: Mapping[str, float], rates: Mapping[str, float]) -> tuple[str, str]:
    """Return what the progress line tells of the steps since the last logged one, in full and short.

    Args:
        values: from `metrics.summarize`.
        rates: tokens/s and pairs/s of the run.

    Returns:
        Rates, loss, and of each kind of comparison the accuracy, or of ties the mean distance of their rewards (nats);
        and the same where there is little room: 12.3k for 12,345, and H, C and N for the kinds.
    """
    loss = f"loss {values.get('loss', 0):.3f}"
    facts = [f"{rates['tokens/s']:,.0f} tokens/s", f"{rates['pairs/s']:.1f} pairs/s", loss]
    short = [f"{_rounded(rates['tokens/s'])} tok/s", f"{_rounded(rates['pairs/s'])} pair/s", loss]
    kinds = []
    for kind in KINDS:
        if f"{kind}/accuracy" in values:
            facts.append(f"{kind} {values[f'{kind}/accuracy']:.0%}")
            kinds.append(f"{kind[0].upper()}{values[f'{kind}/accuracy']:.0%}")
        elif f"{kind}/distance" in values:
            facts.append(f"{kind} |d| {values[f'{kind}/distance']:.2f}")
            kinds.append(f"{kind[0].upper()}{values[f'{kind}/distance']:.2f}")
    return "  ".join(facts), "  ".join([*short, " ".join(kinds)]).rstrip()


def _rounded(number: float) -> str:
    """Write a number of at least 0.1 with three digits."""
    for letter, size in (("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
