"""What went wrong in a run without ending it: steps that were skipped, and spikes of the loss."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from crome_jax.files import Lines, unwritable, whole_output
from crome_jax.training.metrics import read_lines
from crome_jax.training.processes import is_first

FILE = "incidents.jsonl"


class Incidents:
    """Tells of every incident on stderr, and writes it down with the records that were in play.

    A line of incidents.jsonl is `{step, kind, loss, grad_norm, records}`, where `kind` is "skipped" or "spike" and a
    number that is not finite is text.

    Args:
        run: the run's folder; None only tells.
        resumed_at: the step training goes on from; what a killed run wrote of later ones is dropped.
        records: from the number of a step to the ids of the records it trains on.
    """

    def __init__(
        self, run: Path | None = None, resumed_at: int = 0, records: Callable[[int], Sequence[str]] = lambda step: ()
    ):
        self.records = records
        self._path = None if run is None else run / FILE
        if self._path is not None and self._path.exists():
            kept = [line for line in read_lines(self._path) if line["step"] <= resumed_at]
            with whole_output(self._path, overwrite=True) as partial:
                partial.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def add(self, step: int, kind: str, loss: float, grad_norm: float) -> None:
        """Take one incident.

        Raises:
            CromeError: where it cannot be written.
        """
        records = list(self.records(step))
        what = "its update is skipped" if kind == "skipped" else "a spike"
        if is_first():
            print(f"step {step}: loss {loss:.4g}, gradient {grad_norm:.4g}: {what}{_named(records)}", file=sys.stderr)
        if self._path is not None:
            numbers = {"loss": loss, "grad_norm": grad_norm}
            line = {"step": step, "kind": kind} | {
                name: value if math.isfinite(value) else str(value) for name, value in numbers.items()
            }
            try:
                lines = Lines(self._path)
                lines.add(json.dumps(line | {"records": records}))
                lines.close()
            except OSError as e:
                raise unwritable(self._path, e) from None

    def name(self, first: int, last: int) -> str:
        """Return which records were in play from one step to another, the first few of each."""
        return "".join(f"; step {step}{_named(self.records(step))}" for step in range(first, last + 1))


def _named(records: Sequence[str], most: int = 8) -> str:
    if not records:
        return ""
    return f": records {', '.join(records[:most])}" + (
        f" and {len(records) - most} more" if len(records) > most else ""
    )
