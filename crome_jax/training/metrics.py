"""Sums and counts to the numbers a person reads, and where they are written."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crome_jax.errors import CromeError
from crome_jax.files import Lines, is_remote, unwritable, whole_output
from crome_jax.groups import Kind

KINDS = tuple(kind.name.lower() for kind in Kind)

MEASURED = "validation/"
"""What begins the names, in the curve, of what is measured on held-out comparisons."""

_SUMS = ("count", "loss_sum", "preferring", "agree_sum", "distance_sum")


def summarize(sums: Mapping[str, float | np.ndarray], steps: int, attributes: Sequence[str] = ()) -> dict[str, float]:
    """Divide sums by counts, over one step or several.

    Args:
        sums: metrics of the steps, about zero (see `about_zero`), added up.
        steps: how many steps were added; skipped ones are not.
        attributes: names of those that "attribute/" metrics are summed by, in order.

    Returns:
        `loss` in nats per comparison; by kind: `<kind>/loss`, `<kind>/accuracy` (a fraction), `<kind>/distance` (mean
        absolute reward difference, nats); the same three of the causal comparisons of each attribute, as
        `causal/<attribute>/loss` and so on; `reward/mean`, `reward/std` and `reward/length_correlation` (Pearson's, of
        reward and tokens, over all responses); `grad_norm`. What did not occur, or did not vary, is absent. Of a
        pairwise head the reward is the log-odds that the first answer is the better: their mean tells whether it
        favours a place, their spread how decided it is; the length correlation is absent.
    """
    out = {name: sums[name] / steps for name in ("loss", "grad_norm") if name in sums}
    if not sums:  # Every step was skipped.
        return out
    for kind in KINDS:
        out |= _means(kind, {name: sums[f"{kind}/{name}"] for name in _SUMS})
    for a, attribute in enumerate(attributes):
        out |= _means(f"causal/{attribute}", {name: float(sums[f"attribute/{name}"][a]) for name in _SUMS})
    if sums["reward/count"]:
        mean = sums["reward/sum"] / sums["reward/count"]
        out["reward/mean"] = mean
        variance = _spread(sums["reward/square_sum"] / sums["reward/count"], mean)
        out["reward/std"] = variance**0.5
        length = sums["length/sum"] / sums["reward/count"]
        length_variance = _spread(sums["length/square_sum"] / sums["reward/count"], length)
        if variance > 0 and length_variance > 0:
            covariance = sums["length/reward_sum"] / sums["reward/count"] - mean * length
            # Rounding may leave a little more than 1 of what goes along entirely.
            out["reward/length_correlation"] = min(max(covariance / (variance * length_variance) ** 0.5, -1.0), 1.0)
    return out


def about_zero(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Move a step's sums of rewards and lengths from its own pivots to zero, in float64, so that steps add up.

    Args:
        metrics: of a step, with sums as `objectives.response_metrics` gives them.

    Returns:
        The same without pivots; a mean of 1e6 and a spread of 1 leave the variance four digits.
    """
    out = {name: value for name, value in metrics.items() if not name.endswith("/pivot")}
    reward, length = float(metrics["reward/pivot"]), float(metrics["length/pivot"])
    count, rewards, lengths = (float(metrics[name]) for name in ("reward/count", "reward/sum", "length/sum"))
    squares = {"reward/square_sum": (reward, rewards), "length/square_sum": (length, lengths)}
    for name, (pivot, total) in squares.items():
        out[name] = float(metrics[name]) + 2.0 * pivot * total + count * pivot**2
    product = float(metrics["length/reward_sum"]) + reward * lengths + length * rewards
    out["length/reward_sum"] = product + count * reward * length
    moved = {"reward/sum": rewards + count * reward, "length/sum": lengths + count * length}
    return out | moved | {"reward/count": count}


def _spread(mean_square: float, mean: float) -> float:
    """Return a variance; 0 where it is no more than what rounding to float32 makes of equal numbers."""
    variance = mean_square - mean**2
    return variance if variance > 1e-14 * mean**2 else 0.0


def _means(what: str, sums: Mapping[str, float]) -> dict[str, float]:
    means = {}
    if sums["count"]:
        means[f"{what}/loss"] = sums["loss_sum"] / sums["count"]
        means[f"{what}/distance"] = sums["distance_sum"] / sums["count"]
    if sums["preferring"]:
        means[f"{what}/accuracy"] = sums["agree_sum"] / sums["preferring"]
    return means


class MetricsLog:
    """A run's training curves: metrics.jsonl for scripts and reports, event files for TensorBoard.

    In a bucket there are no event files: nothing can be appended to one.

    Args:
        run: the run's folder.
        resumed_at: the step training goes on from; lines after it, left by a run that was killed, are dropped.
        owed: whether that step is measured again: what a run that was killed before it kept that had logged goes, too.

    Attributes:
        latest: what was logged last by each name, before the run was resumed.

    Raises:
        CromeError: where a file cannot be written (in `write` and `close`, too), or metrics.jsonl is damaged.
    """

    def __init__(self, run: Path, resumed_at: int = 0, *, owed: bool = False):
        self._path = run / "metrics.jsonl"
        kept = [line for line in read_curve(run) if line["step"] <= resumed_at]
        if owed:
            kept = [line for line in kept if line["step"] < resumed_at or not _tells_measured(line)]
        self.latest: dict[str, Any] = {name: value for line in kept for name, value in line.items()}
        with whole_output(self._path, overwrite=True) as partial:  # A kill here must not cost the curve so far.
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._lines, self._events = Lines(self._path), None
        if is_remote(run):
            return
        # Here, as it imports torch where that is installed: seconds and 180 MB, to who only scores.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder = run / "events"
        with _explained(folder):
            folder.mkdir(exist_ok=True)
            # Not through tensorboardX's SummaryWriter: its thread dies of a full disk, with a traceback and unnoticed.
            self._events = EventsWriter(str(folder / "events"))
            # The start of a session makes TensorBoard hide what the killed run logged past the step it resumes from.
            start = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(wall_time=time.time(), step=resumed_at + 1, session_log=start))
            self._events.flush()
        self._folder = folder

    def flush(self) -> None:
        """See to it that every line is there: in a bucket they are otherwise written now and then."""
        with _explained(self._path):
            self._lines.flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one step's numbers."""
        with _explained(self._path):
            self._lines.add(json.dumps({"step": step, **values}))
        if self._events is None:
            return
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        with _explained(self._folder):
            for name, value in values.items():
                if np.isfinite(value):
                    self._events.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
            self._events.flush()

    def close(self) -> None:
        """Flush and close both files."""
        with _explained(self._path):
            self._lines.close()
        if self._events is not None:
            with _explained(self._folder):
                self._events.close()


def _tells_measured(line: Mapping[str, Any]) -> bool:
    return any(name.startswith(MEASURED) for name in line)


def read_curve(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl in order, as `read_lines` does."""
    return read_lines(run / "metrics.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log in order; a last line cut short by a kill is left out; none where there is no file.

    Raises:
        CromeError: where it cannot be read, or another line is damaged.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as e:
        raise CromeError(f"{path}: cannot be read ({e.strerror}); move it away") from None
    lines = []
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        try:
            values = json.loads(line) if line.strip() else {"step": None}
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict) and isinstance(values.get("step"), int):
            lines.append(values)
        elif line.strip() and line.endswith(b"\n"):
            raise CromeError(f"{path}: line {number} is damaged; mend or delete that line, or move the file away")
    return lines


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise unwritable(path, e) from None
