"""The training loop: restore; for each step: batch, step, late metrics, save."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from crome_jax.data.loading import put
from crome_jax.errors import CromeError
from crome_jax.models.weights import Params
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.metrics import KINDS, summarize
from crome_jax.training.progress import Progress
from crome_jax.training.step import TrainState


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
) -> tuple[TrainState, Throughput]:
    """Train from the state's step up to `steps`.

    Metrics of a step are fetched after the next one was dispatched, so the device never waits for the host.

    Args:
        step: from make_train_step.
        log: called with a step and its numbers, every `log_every` steps.
        log_every: steps between two calls of log, over which metrics are summed.
        checkpoints: where state and iterator are saved together; None saves nothing.
        checkpoint_every: steps between two checkpoints; the last step is always saved.

    Raises:
        CromeError: where loss or gradient is not finite, or a checkpoint cannot be written.
    """
    done = int(state.step)
    progress = Progress(name, steps, done=done)
    sums: dict[str, float] = {}
    summed = 0
    started = time.monotonic()
    seen = {"tokens": 0.0, "comparisons": 0.0}

    def take(at: int, metrics: dict[str, Any]) -> None:
        nonlocal sums, summed, started
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        # A gradient that is not finite has ruined the weights already, though the loss will show it a step later only.
        for name in ("loss", "grad_norm"):
            if not np.isfinite(values[name]):
                raise CromeError(f"step {at}: {name} is {values[name]}; lower adamw.learning_rate, or train in float32")
        if at == done + 1:
            started = time.monotonic()
        else:
            for key in seen:
                seen[key] += values[key]
        sums = {k: sums.get(k, 0.0) + v for k, v in values.items()}
        summed += 1
        elapsed = max(time.monotonic() - started, 1e-9)
        rates = {"tokens/s": seen["tokens"] / elapsed, "pairs/s": seen["comparisons"] / elapsed}
        progress.update(at, _facts(summarize(sums, summed), rates))
        # By the step's number, so that a resumed run writes its lines where the uninterrupted one would.
        if at % log_every == 0 or at == steps:
            log(at, {**summarize(sums, summed), **rates})
            sums, summed = {}, 0

    late: tuple[int, dict] | None = None
    for number in range(done + 1, steps + 1):
        state, metrics = step(state, frozen, put(next(iterator), mesh))
        if late is not None:
            take(*late)
        late = (number, metrics)
        if checkpoints is not None and (number % checkpoint_every == 0 or number == steps):
            take(*late)
            late = None
            checkpoints.save(state, iterator.get_state())
    if late is not None:
        take(*late)
    if checkpoints is not None:
        checkpoints.wait()
    progress.close()
    return state, Throughput(time.monotonic() - started, seen["tokens"], seen["comparisons"])


def _facts(values: dict[str, float], rates: dict[str, float]) -> str:
    parts = [f"{rates['tokens/s']:,.0f} tokens/s  {rates['pairs/s']:.1f} pairs/s  loss {values.get('loss', 0):.3f}"]
    for kind in KINDS:
        if f"{kind}/accuracy" in values:
            parts.append(f"{kind} {values[f'{kind}/accuracy']:.0%}")
        elif f"{kind}/distance" in values:
            parts.append(f"{kind} |d| {values[f'{kind}/distance']:.2f}")
    return "  ".join(parts)
