"""Goodput: which share of a run's time its devices spent on steps that counted."""

import math
import time
import types
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax


class Goodput:
    """Adds up, in seconds, how long the devices computed steps that were not skipped.

    A step's time is from when it was dispatched, or the one before it was done, to when it is done: waiting for data,
    saving, measuring and compiling are no part of it. Nothing here waits for a device: a thread does, beside the loop.

    Args:
        launched: when this process was started, on time.monotonic's clock; None for now.
        before: the last line that the run logged before it was resumed: what of it counted goes on.
    """

    def __init__(self, launched: float | None = None, before: Mapping[str, float] = types.MappingProxyType({})):
        now = time.monotonic()
        self._launched = now if launched is None else launched
        self._since = before.get("goodput/since", time.time() - (now - self._launched))
        self._earlier = before.get("goodput/seconds", 0.0)
        self._useful, self._done = 0.0, -math.inf
        self._watcher = ThreadPoolExecutor(1, "goodput")

    def watch(self, result: Any) -> Future[float]:
        """Return when what a dispatched step returned is there, once it is."""
        return self._watcher.submit(_when_done, result)

    def take(self, dispatched: float, done: float, counts: bool) -> None:
        """Take one step's times, in the order of the steps."""
        if counts:
            self._useful += done - max(self._done, dispatched)
        self._done = done

    def figures(self) -> dict[str, float]:
        """Return `goodput`, of this process, and of the run with all its earlier ones and the time between them.

        The latter is `goodput/run` = `goodput/seconds` / the time since `goodput/since`, in seconds since 1970.
        """
        seconds = self._earlier + self._useful
        return {
            "goodput": self._useful / max(time.monotonic() - self._launched, 1e-9),
            "goodput/run": seconds / max(time.time() - self._since, 1e-9),
            "goodput/seconds": seconds,
            "goodput/since": self._since,
        }


def _when_done(result: Any) -> float:
    jax.block_until_ready(result)
    return time.monotonic()
