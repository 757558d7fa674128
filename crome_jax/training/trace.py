"""Steps of a run, recorded for XProf: what host and devices did, operation by operation."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.training.processes import first_word, is_first

REQUEST = "trace.request"
"""The file in a run's folder that asks for a record while the run goes on."""


class Trace:
    """Records steps that were named before the start, and those that a file asks for meanwhile.

    Steps that follow one another are one record, and only the last of them is waited for. A context manager: a record
    that the end of the run cuts short is kept, one that an error cuts short is not.

    Args:
        run: the run's folder. `trace/steps-FIRST-LAST` in it gets the record, and there each of several processes a
            folder of its own; `tensorboard --logdir` with the XProf plugin shows it. In a bucket it is put there when
            the last step is over. `trace.request` in it, which holds FIRST-LAST or how many steps from now, asks for
            one; it is deleted when it is read.
        steps: a first and a last step, or nothing; a resumed run records those that it still takes.
        every: steps between two looks for a request.

    Raises:
        CromeError: where there are no such steps.
    """

    def __init__(self, run: Path, steps: Sequence[int] = (), every: int = 10):
        if len(steps) not in (0, 2) or (steps and not 1 <= steps[0] <= steps[1]):
            raise CromeError(f"trace_steps is {steps}; give a first and a last step, from 1, as (10, 12)")
        self._run, self._every = run, every
        self._wanted = [(steps[0], steps[1])] if steps else []
        self._record = contextlib.ExitStack()
        self._last: int | None = None  # Of the record that goes on.

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *error: Any) -> None:
        self._record.__exit__(*error)

    def look(self, step: int) -> str | None:
        """Look for a request before a step is taken, where it is time to; all processes do, and take the first one's.

        Returns:
            What is to be told of it.
        """
        if (step - 1) % self._every:
            return None
        found, told = self._read(step) if is_first() else (None, None)
        if word := first_word(found):
            first, last = word.split("-")
            self._wanted.append((int(first), int(last)))
        return told

    @contextlib.contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Record what the block does, where the step is one of those."""
        if self._last is None and (wanted := next((w for w in self._wanted if w[0] <= step <= w[1]), None)):
            self._last = wanted[1]
            place = self._run / "trace" / "steps-{}-{}".format(*wanted)
            if jax.process_count() > 1:
                place /= f"process-{jax.process_index()}"
            partial = self._record.enter_context(whole_output(place, overwrite=True))
            self._record.enter_context(jax.profiler.trace(str(partial)))
        if self._last is None:
            yield
            return
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def end(self, step: int, result: Any) -> None:
        """End the record after its last step, once the devices have what that returns."""
        if step == self._last:
            jax.block_until_ready(result)
            self._record.close()
            self._last = None

    def _read(self, step: int) -> tuple[str | None, str | None]:
        """Return the steps that a request asks for, as FIRST-LAST, and what is to be told of it."""
        path = self._run / REQUEST
        try:
            text = path.read_bytes().decode(errors="replace").strip()
            if not text:  # Whoever makes it has not written it yet.
                return None, None
            path.unlink()
        except FileNotFoundError:
            return None, None
        except Exception as e:  # Of a bucket, whatever comes. No run ends because nobody can ask it for a record.
            return None, f"{path}: cannot be read ({e})"
        numbers = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text)
        first, last = (int(numbers[1]), int(numbers[2] or 0)) if numbers else (0, 0)
        if numbers and not numbers[2]:
            first, last = step, step + first - 1
        if not max(first, step) <= last:
            return None, f"{path}: {text[:50]!r} names no steps from {step} on; write FIRST-LAST, or how many from now"
        return f"{first}-{last}", f"{path}: steps {first} to {last} are recorded"
