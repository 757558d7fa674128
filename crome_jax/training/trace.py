"""Some steps of a run, recorded for XProf: what the devices did, operation by operation."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax

from crome_jax.errors import CromeError
from crome_jax.files import whole_output


@dataclasses.dataclass(frozen=True)
class Trace:
    """Which steps are recorded, and where.

    Each is waited for, so a run with a trace is slower by what the host otherwise does beside the device.

    Args:
        first, last: steps; a resumed run records those that it still takes.
        folder: each step gets a folder of its own in it, and there each of several processes, which
            `tensorboard --logdir` with the XProf plugin shows; in a bucket it is put there when the step is over.

    Raises:
        CromeError: where there is no such step.
    """

    first: int
    last: int
    folder: Path

    def __post_init__(self):
        if not 1 <= self.first <= self.last:
            raise CromeError(f"trace_steps is {(self.first, self.last)}; give a first and a last step, from 1")

    @contextlib.contextmanager
    def recording(self, step: int) -> Iterator[None]:
        """Record what the block does, where the step is one of those."""
        if not self.first <= step <= self.last:
            yield
            return
        place = self.folder / f"step-{step}"
        if jax.process_count() > 1:
            place /= f"process-{jax.process_index()}"
        with whole_output(place, overwrite=True) as partial, jax.profiler.trace(str(partial)):
            yield
