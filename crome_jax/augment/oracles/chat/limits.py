"""How fast may be asked: requests and tokens a minute, and pauses that the endpoint asks for."""

import asyncio
import contextlib
import time

from crome_jax.augment.oracles.chat.database import Database

BURST_S = 1.0
"""Seconds worth of a limit that may be used at once."""


class Rate:
    """So much in any minute, evenly: the generic cell rate algorithm.

    Its state is one number, the moment at which all that was used so far is worked off.

    Args:
        per_minute: most in any 60 s. What may come at once is set aside for that, so that no minute holds more, but for
            the amount of the one that comes last in it.
    """

    def __init__(self, per_minute: float):
        self._seconds_each = 60.0 / (per_minute * (60.0 - BURST_S) / 60.0)
        self._burst = BURST_S * 60.0 / (60.0 - BURST_S)

    def start(self, free: float, amount: float) -> float:
        """Return when so much may be used, at the earliest; what is more than a burst waits for all before it."""
        return free - max(0.0, self._burst - amount * self._seconds_each)

    def used(self, free: float, now: float, amount: float) -> float:
        """Return the state after so much was used."""
        return max(now, free) + amount * self._seconds_each


class Limits:
    """Lets requests through one after another, as fast as all limits allow.

    The limits' state is in the database, so that all processes of this machine that share it keep them together.

    Args:
        requests_per_minute, tokens_per_minute: None is no limit.
        database: of the cache.
        name: of what is limited: processes that ask the same endpoint for the same model share its limits.
    """

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        database: Database | None = None,
        name: str = "",
    ):
        limits = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        self._rates = {f"{kind} {name}": Rate(most) for kind, most in limits.items() if most}
        self._database, self._name = database or Database(None), name
        self._paused_until = float("-inf")
        self._turn = asyncio.Lock()

    def pause(self, seconds: float) -> None:
        """Let nothing through for so long."""
        self._paused_until = max(self._paused_until, time.time() + seconds)
        if self._rates:
            with self._database.writing() as connection:
                connection.execute(
                    "insert into pauses values (?, ?) on conflict do update set until = max(until, excluded.until)",
                    (self._name, self._paused_until),
                )

    async def wait(self, tokens: int, stopping: asyncio.Event) -> None:
        """Return when a request of so many tokens may be sent, or at once when nothing will be sent any more."""
        async with self._turn:  # First come, first served.
            while not stopping.is_set() and (left := self._take(tokens)) > 0:
                await asleep(left, stopping)

    def _take(self, tokens: int) -> float:
        """Use the limits for a request and return 0, or the seconds after which that may be tried again."""
        now = time.time()
        if self._paused_until > now or not self._rates:
            return self._paused_until - now
        amounts = [(name, rate, 1 if name.startswith("requests") else tokens) for name, rate in self._rates.items()]
        with self._database.writing() as connection:
            states = dict(connection.execute("select name, free from rates"))
            paused = connection.execute("select until from pauses where name = ?", (self._name,)).fetchone()
            starts = [rate.start(states.get(name, now), amount) for name, rate, amount in amounts]
            if (left := max([*starts, *(paused or ())]) - now) > 0:
                return left
            connection.executemany(
                "insert or replace into rates values (?, ?)",
                [(name, rate.used(states.get(name, now), now, amount)) for name, rate, amount in amounts],
            )
        return 0.0


async def asleep(seconds: float, stopping: asyncio.Event) -> None:
    """Return after so long, or when the event is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
