"""SIGTERM is a request to save and to end: what a cluster sends before it takes a machine away."""

import contextlib
import itertools
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
    """Tells when to save and to end.

    One process ends after what it is at. Of several, one may be told and the others not, and no two are at the same
    instruction: JAX's coordination service takes the message to all of them and names an asking that none has passed.

    While it listens SIGTERM does not end the process at once; a second one, over SAME_REQUEST later, does.
    """

    def __init__(self):
        self._askings = itertools.count(1)
        self._asked = threading.Event()
        self._when = 0.0

    def __call__(self) -> bool:
        """Tell whether the run is to save and to end; several processes ask equally often, at the same places."""
        several = jax.process_count() > 1 and not self._asked.is_set()
        if several and multihost_utils.reached_preemption_sync_point(next(self._askings)):
            self._ask()
        return self._asked.is_set()

    @property
    def seconds(self) -> float:
        """Since it was asked to end; of several processes, since that reached all of them."""
        return time.monotonic() - self._when

    def _ask(self) -> None:
        self._when = time.monotonic()
        self._asked.set()

    @contextlib.contextmanager
    def listening(self) -> Iterator["Preemption"]:
        """Listen while the block runs. Of several processes JAX listens itself, from when they joined."""
        if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
            yield self
            return

        def ask(number: int, frame: object) -> None:
            if not self._asked.is_set():
                self._ask()
            elif self.seconds > SAME_REQUEST:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.raise_signal(signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)
