"""What a run may spend and did spend: tokens and dollars, over all its processes and all its lives."""

import asyncio
import contextlib
import dataclasses
import sqlite3
import time

from crome_jax.augment.oracles.chat.database import Database
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.errors import CromeError

_LOST_S = 60.0
"""Seconds beyond its time-out after which what was set aside for a request is that of a process that was killed."""

_LOOK_S = 0.2
"""Seconds after which is looked again whether another process gave back what it had set aside."""


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a run sent and spent.

    Args:
        sent: attempts, answered: replies that came.
        prompt_tokens, reply_tokens: as the endpoint counts them; see Budget.
        failed: reason -> attempts that brought no reply.
    """

    sent: int = 0
    answered: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    failed: dict[str, int] = dataclasses.field(default_factory=dict)


class Budget:
    """Counts what a run spends, and lets a request be sent only if, whatever its reply, the budget holds.

    The counts are in the database of the cache, under the run's name: several processes of a run share them, and a run
    that was stopped or killed goes on counting where it was, until it is finished. Without a name or a cache they are
    this process's.

    Tokens of a prompt are estimated until the endpoint says how many they were, so that the budget can be passed by
    what the estimates of the last requests are wrong by. Of an attempt that timed out or broke, or was under way when
    its process was killed, the prompt is counted, as estimated: the endpoint may have worked on it. (Of one that was
    killed only where there is a budget, since nothing was set aside for it otherwise.) One that the endpoint turned
    away is not.

    Args:
        settings: the budget, the prices and the time-out.
        database: of the cache.
        run: its name; None is a run that no other process and no later one takes part in.
    """

    def __init__(self, settings: ChatSettings, database: Database | None = None, run: str | None = None):
        self._settings = settings
        self._database = database or Database(None)
        self._limited = settings.token_budget is not None or settings.money_budget is not None
        self._held: set[int] = set()
        self._settled = asyncio.Event()
        with self._database.writing() as connection:
            connection.execute("insert or ignore into runs (name) values (?)", (run,))
            where = "name = ?" if run is not None else "id = last_insert_rowid()"
            values = (run,) if run is not None else ()
            [self.run] = connection.execute(f"select id from runs where {where}", values).fetchone()

    def spent(self) -> Spent:
        """Return what was spent so far."""
        return _spent(self._database, self.run)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of prompts that were spent so far."""
        return self.spent().prompt_tokens

    @property
    def reply_tokens(self) -> int:
        """Tokens of replies that were spent so far."""
        return self.spent().reply_tokens

    async def reserve(self, prompt_tokens: int, reply_tokens: int) -> int | None:
        """Set aside what a request may cost at most; wait for replies under way where they decide whether it fits.

        Returns:
            The number of what was set aside, for `count` and `release`; None where there is no budget.

        Raises:
            CromeError: where it does not fit, which ends the run.
        """
        if not self._limited:
            return None
        while True:
            self._settled.clear()
            with self._database.writing() as connection:
                self._count_lost(connection)
                held = self._hold(connection, prompt_tokens, reply_tokens)
            if held is not None:
                self._held.add(held)
                return held
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._settled.wait()

    def release(self, held: int | None) -> None:
        """Give back what was set aside, unless `count` did."""
        if held in self._held:
            with self._database.writing() as connection:
                self._release(connection, held)

    def count(
        self, held: int | None = None, *, answered: int = 0, prompt: int = 0, reply: int = 0, failed: str | None = None
    ) -> None:
        """Count an attempt, and give back what was set aside for it.

        Args:
            answered: 1 where a reply came.
            prompt, reply: tokens that it did cost.
            failed: why no reply came.
        """
        with self._database.writing() as connection:
            connection.execute(
                "update runs set sent = sent + 1, answered = answered + ?, prompt_tokens = prompt_tokens + ?, "
                "reply_tokens = reply_tokens + ? where id = ?",
                (answered, prompt, reply, self.run),
            )
            if failed is not None:
                connection.execute(
                    "insert into failures values (?, ?, 1) on conflict do update set count = count + 1",
                    (self.run, failed),
                )
            if held in self._held:
                self._release(connection, held)

    def _hold(self, connection: sqlite3.Connection, prompt: int, reply: int) -> int | None:
        """Set aside what a request may cost; None where that depends on requests under way."""
        [spent] = connection.execute("select prompt_tokens, reply_tokens from runs where id = ?", (self.run,))
        sums = "select count(*), total(prompt_tokens), total(reply_tokens) from reserved where run = ?"
        [(under_way, *reserved)] = connection.execute(sums, (self.run,))
        if self._fits(spent[0] + reserved[0] + prompt, spent[1] + reserved[1] + reply):
            row = (self.run, prompt, reply, time.time() + self._settings.timeout_s + _LOST_S)
            # A number that nobody had before: who gives back what was counted already gives back nothing of another's.
            return connection.execute("insert into reserved values (random(), ?, ?, ?, ?)", row).lastrowid
        if under_way and self._fits(spent[0] + prompt, spent[1] + reply):
            return None
        said = f"{sum(spent):,} tokens"
        dollars = self._settings.cost(*spent)
        if dollars is not None:
            said += f", ${dollars:.2f}"
        raise CromeError(
            f"the budget is spent: {said}; every reply that came is kept, so raise ChatSettings.token_budget or "
            "money_budget and run the same command again"
        )

    def _fits(self, prompt: float, reply: float) -> bool:
        tokens, money = self._settings.token_budget, self._settings.money_budget
        return (tokens is None or prompt + reply <= tokens) and (
            money is None or self._settings.cost(prompt, reply) <= money
        )

    def _count_lost(self, connection: sqlite3.Connection) -> None:
        """Count the prompts of requests whose process was killed: nobody else lets them stand so long."""
        lost = connection.execute(
            "delete from reserved where run = ? and until < ? returning prompt_tokens", (self.run, time.time())
        ).fetchall()
        if lost:
            connection.execute(
                "update runs set sent = sent + ?, prompt_tokens = prompt_tokens + ? where id = ?",
                (len(lost), sum(prompt for (prompt,) in lost), self.run),
            )

    def _release(self, connection: sqlite3.Connection, held: int) -> None:
        connection.execute("delete from reserved where id = ?", (held,))
        self._held.discard(held)
        self._settled.set()


def spent_by(database: Database, run: str) -> Spent:
    """Return what an unfinished run has spent; nothing where there is no such run."""
    found = database.row("select id from runs where name = ?", (run,))
    return Spent() if found is None else _spent(database, found[0])


def finish_run(database: Database, run: str) -> None:
    """Let a run be over: another one of its name begins to count anew."""
    with database.writing() as connection:
        connection.execute("update runs set name = null where name = ?", (run,))


def _spent(database: Database, run: int) -> Spent:
    counts = database.row("select sent, answered, prompt_tokens, reply_tokens from runs where id = ?", (run,))
    failed = database.rows("select reason, count from failures where run = ? order by reason", (run,))
    return Spent(*counts, dict(failed))
