"""What went wrong in a run without ending it: steps skipped or not measured, and spikes of the loss."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from crome_jax.files import Lines, unwritable, whole_output
from crome_jax.training.metrics import read_lines
from crome_jax.training.processes import is_first

FILE = "incidents.jsonl"


class Incidents:
    """Tells of every incident on stderr, and writes it down with the records that were in play.

    A line of incidents.jsonl is `{step, kind, loss, grad_norm, records}`, where `kind` is "skipped" or "spike" and a
    number that is not finite is text; or `{step, kind, problem}`, where `kind` is "unmeasured".

    Args:
        run: the run's folder; None only tells.
        resumed_at: the step training goes on from; what a killed run wrote of later ones is dropped.
        records: from the number of a step to the ids of the records it trains on.
        owed: whether the step it goes on from is measured again: that it could not be is dropped, too.
    """

    def __init__(
        self,
        run: Path | None = None,
        resumed_at: int = 0,
        records: Callable[[int], Sequence[str]] = lambda step: (),
        *,
        owed: bool = False,
    ):
        self.records = records
        self._path = None if run is None else run / FILE
        if self._path is not None and self._path.exists():
            again = (resumed_at, "unmeasured") if owed else None
            lines = [line for line in read_lines(self._path) if line["step"] <= resumed_at]
            kept = [line for line in lines if (line["step"], line.get("kind")) != again]
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
        numbers = {"loss": loss, "grad_norm": grad_norm}
        told = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        self._write({"step": step, "kind": kind} | told | {"records": records})

    def add_unmeasured(self, step: int, problem: object) -> None:
        """Take what held-out comparisons cannot be measured for.

        Raises:
            CromeError: where it cannot be written.
        """
        if is_first():
            print(f"step {step}: not measured, and trained on: {problem}", file=sys.stderr)
        self._write({"step": step, "kind": "unmeasured", "problem": str(problem)})

    def _write(self, line: dict[str, Any]) -> None:
        if self._path is None:
            return
        try:
            lines = Lines(self._path)
            lines.add(json.dumps(line))
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
