"""SIGTERM is a request to save and to end: what a cluster sends before it takes a machine away."""

import contextlib
import ctypes
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

SHORTEST_GRACE = 15.0
"""Seconds from SIGTERM to the end that the hastiest of clusters gives: GKE, to a pod of a spot node."""


_handler_of_jax: int | None = None


def let_sigterm_end() -> None:
    """Let SIGTERM end this process at once again, after it joined others, but for while a `Preemption` listens.

    JAX listens from when it joined, and nothing comes of that where nobody asks it.
    """
    global _handler_of_jax
    _handler_of_jax = _set_handler(None)


def _set_handler(handler: int | None) -> int | None:
    """Set what SIGTERM calls, None for its default, and return what it called: JAX's handler is none of Python's."""
    of_c = ctypes.CDLL(None).signal
    of_c.argtypes, of_c.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    return of_c(signal.SIGTERM, handler)


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
        """Listen while the block runs; of several processes JAX does, from when `let_sigterm_end` was called."""
        if jax.process_count() > 1:
            _set_handler(_handler_of_jax)
            try:
                yield self
            finally:
                _set_handler(None)
            return
        if threading.current_thread() is not threading.main_thread():
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
