"""SIGTERM is a request to save and to end: what a cluster sends before it takes a machine away."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

SAME_REQUEST = 5.0
"""Seconds within which another SIGTERM is the same request, come by two ways: a machine that shuts down signals every
process, a launch script among them, which passes it on."""


class Preemption:
    """Tells at which step to save and to end.

    One process ends after the step it is in. Of several, one may be told and the others not, and no two are at the same
    instruction: JAX's coordination service takes the message to all of them and names a step that none has passed.

    While it listens SIGTERM does not end the process at once; a second one, over SAME_REQUEST later, does.
    """

    def __init__(self):
        self._asked = threading.Event()
        self._asked_at = 0.0

    def __call__(self, step: int) -> bool:
        """Tell whether the run ends after this step; with several processes all of them ask at every step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked.is_set()

    @contextlib.contextmanager
    def listening(self) -> Iterator["Preemption"]:
        """Listen while the block runs. Of several processes JAX listens itself, from when they joined."""
        if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
            yield self
            return

        def ask(number: int, frame: object) -> None:
            if not self._asked.is_set():
                self._asked_at = time.monotonic()
                self._asked.set()
            elif time.monotonic() - self._asked_at > SAME_REQUEST:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.raise_signal(signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)
