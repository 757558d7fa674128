"""How fast may be asked: requests and tokens a minute, and pauses that the endpoint asks for."""

import asyncio
import contextlib
import time

BURST_S = 1.0
"""Seconds worth of a limit that may be used at once."""


class Rate:
    """So much in any minute, evenly: the generic cell rate algorithm.

    Args:
        per_minute: most in any 60 s. What may come at once is set aside for that, so that no minute holds more, but for
            the amount of the one that comes first in it.
    """

    def __init__(self, per_minute: float):
        self._seconds_each = 60.0 / (per_minute * (60.0 - BURST_S) / 60.0)
        self._burst = BURST_S * 60.0 / (60.0 - BURST_S)
        self._free = float("-inf")

    def reserve(self, now: float, amount: float) -> float:
        """Return when so much may be used, at the earliest now; later reservations come after it."""
        self._free = max(now, self._free) + amount * self._seconds_each
        return max(now, self._free - self._burst)


class Limits:
    """Lets requests through one after another, as fast as all limits allow.

    Args:
        requests_per_minute, tokens_per_minute: None is no limit.
    """

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None):
        self._requests = Rate(requests_per_minute) if requests_per_minute else None
        self._tokens = Rate(tokens_per_minute) if tokens_per_minute else None
        self._paused_until = float("-inf")

    def pause(self, seconds: float) -> None:
        """Let nothing through for so long."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    async def wait(self, tokens: int, stopping: asyncio.Event) -> None:
        """Return when a request of so many tokens may be sent, or at once when nothing will be sent any more."""
        now = time.monotonic()
        start = max(
            now,
            self._requests.reserve(now, 1) if self._requests else now,
            self._tokens.reserve(now, tokens) if self._tokens else now,
        )
        while not stopping.is_set() and (left := max(start, self._paused_until) - time.monotonic()) > 0:
            await asleep(left, stopping)


async def asleep(seconds: float, stopping: asyncio.Event) -> None:
    """Return after so long, or when the event is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
