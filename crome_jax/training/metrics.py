"""Sums and counts to the numbers a person reads, and where they are written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorboardX

from crome_jax.files import whole_output
from crome_jax.groups import Kind

KINDS = tuple(kind.name.lower() for kind in Kind)


def summarize(sums: dict[str, float], steps: int) -> dict[str, float]:
    """Divide sums by counts, over one step or several.

    Args:
        sums: metrics of the steps, added up.
        steps: how many steps were added; skipped ones are not.

    Returns:
        `loss` in nats per comparison; by kind: `<kind>/loss`, `<kind>/accuracy` (a fraction), `<kind>/distance` (mean
        absolute reward difference, nats); `reward/mean`, `reward/std` and `reward/length_correlation` (Pearson's, of
        reward and tokens, over all responses); `grad_norm`. What did not occur, or did not vary, is absent.
    """
    out = {name: sums[name] / steps for name in ("loss", "grad_norm") if name in sums}
    if not sums:  # Every step was skipped.
        return out
    for kind in KINDS:
        count, preferring = sums[f"{kind}/count"], sums[f"{kind}/preferring"]
        if count:
            out[f"{kind}/loss"] = sums[f"{kind}/loss_sum"] / count
            out[f"{kind}/distance"] = sums[f"{kind}/distance_sum"] / count
        if preferring:
            out[f"{kind}/accuracy"] = sums[f"{kind}/agree_sum"] / preferring
    if sums["reward/count"]:
        mean = sums["reward/sum"] / sums["reward/count"]
        out["reward/mean"] = mean
        variance = max(sums["reward/square_sum"] / sums["reward/count"] - mean**2, 0.0)
        out["reward/std"] = variance**0.5
        length = sums["length/sum"] / sums["reward/count"]
        length_variance = sums["length/square_sum"] / sums["reward/count"] - length**2
        if variance > 0 and length_variance > 0:
            covariance = sums["length/reward_sum"] / sums["reward/count"] - mean * length
            out["reward/length_correlation"] = covariance / (variance * length_variance) ** 0.5
    return out


class MetricsLog:
    """A run's training curves: metrics.jsonl for scripts and reports, event files for TensorBoard.

    Args:
        run: the run's folder.
        resumed_at: the step training goes on from; lines after it, left by a run that was killed, are dropped.
    """

    def __init__(self, run: Path, resumed_at: int = 0):
        self._path = run / "metrics.jsonl"
        kept = [line for line in read_curve(run) if line["step"] <= resumed_at]
        with whole_output(self._path, overwrite=True) as partial:  # A kill here must not cost the curve so far.
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = self._path.open("a")
        # purge_step makes TensorBoard hide what the killed run logged past the step training resumes from.
        self._events = tensorboardX.SummaryWriter(str(run / "events"), purge_step=resumed_at + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one step's numbers."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if np.isfinite(value):
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both files."""
        self._file.close()
        self._events.close()


def read_curve(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl in order; a last line cut short by a kill is left out."""
    return read_lines(run / "metrics.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log in order, up to one that a kill cut short; none where there is no file."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
