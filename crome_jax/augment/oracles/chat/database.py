"""The SQLite database of a folder of replies, which every process of this machine that asks shares."""

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from crome_jax.errors import CromeError
from crome_jax.files import unwritable

T = TypeVar("T")

FILE = "replies.sqlite"

_BUSY_S = 60.0
"""Waited for another process that writes; a write takes less than a millisecond."""

_CHECKPOINT_PAGES = 4000
"""Of the log, after which they are written to their places: a wait of tens of milliseconds, so not often."""

_SCHEMA = """
create table if not exists replies (key blob primary key, run integer, request text not null, reply text not null);
create table if not exists runs (
  id integer primary key, name text unique, sent integer not null default 0, answered integer not null default 0,
  prompt_tokens integer not null default 0, reply_tokens integer not null default 0);
create table if not exists failures (
  run integer not null, reason text not null, count integer not null, primary key (run, reason)) without rowid;
create table if not exists reserved (
  id integer primary key, run integer not null, prompt_tokens integer not null, reply_tokens integer not null,
  until real not null);
create table if not exists rates (name text primary key, free real not null);
create table if not exists pauses (name text primary key, until real not null);
"""
# replies: by the hash of their requests (cache.py). runs, failures, reserved: what a run sent and spent (budget.py);
# `run` of a reply is the one that paid for it. rates, pauses: when the next request may be sent (limits.py).

_FIXES = {
    "FULL": "free some space",
    "CORRUPT": "restore a copy of it, or move it away and pay for its replies again",
    "NOTADB": "restore a copy of it, or move it away and pay for its replies again",
    "BUSY": "another process holds it; end that one",
    "CANTOPEN": "check the permissions of the folder",
    "READONLY": "check the permissions of the folder",
    "PERM": "check the permissions of the folder",
    "IOERR": "check the disk",
}


class Database:
    """A connection, opened when it is first needed, that several threads may use.

    It is in WAL mode: readers and the one that writes do not wait for each other, and what was committed is there
    whenever a process is killed. (When the machine itself loses power, the last replies may be lost; what is there
    is whole.) WAL wants all processes on one machine; the file system may be any that locks files.

    Args:
        folder: made where it is not there; None keeps everything in memory, for this process alone.
        create: whether to make what is not there; without, nothing is ever written, and what is not there is empty.
    """

    def __init__(self, folder: str | os.PathLike | None, *, create: bool = True):
        self.path = None if folder is None else Path(folder) / FILE
        self._create = create
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._depth = 0
        self._gathered: list[tuple[Callable[[], Any], asyncio.Future]] = []

    def row(self, statement: str, values: Sequence[Any] = ()) -> tuple | None:
        """Return the first row of a query, None where there is none.

        Raises:
            CromeError: where the database cannot be read.
        """
        rows = self.rows(statement, values)
        return rows[0] if rows else None

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple]:
        """Return the rows of a query.

        Raises:
            CromeError: where the database cannot be read.
        """
        with self._lock:
            connection = self._open()
            if connection is None:
                return []
            try:
                return connection.execute(statement, values).fetchall()
            except sqlite3.Error as e:
                raise self._failed("read", e) from None

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction, which is committed as a whole; one inside another is part of it.

        Raises:
            CromeError: where the database cannot be written.
        """
        with self._lock:
            try:
                connection = self._open()
                assert connection is not None, "a database that may not be created is not written"
                if not self._depth:
                    connection.execute("begin immediate")
                self._depth += 1
                try:
                    yield connection
                except BaseException:
                    if self._depth == 1:
                        connection.rollback()
                    raise
                else:
                    if self._depth == 1:
                        connection.commit()
                finally:
                    self._depth -= 1
            except sqlite3.Error as e:
                if self._connection is not None and not self._depth and self._connection.in_transaction:
                    self._connection.rollback()  # Of a commit that failed.
                raise self._failed("written", e) from None

    async def written(self, write: Callable[[], T]) -> T:
        """Return what a function returns that writes, called in one transaction with others that come at the same time.

        A transaction takes as much CPU as what is written in it. To be awaited in one event loop only. All of them are
        written or none: where one raises, so does each.

        Raises:
            CromeError: where the database cannot be written.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._gathered.append((write, done))
        if len(self._gathered) == 1:
            loop.call_soon(self._write_gathered)  # After all that is ready now; to wait for more would be to risk it.
        return await done

    def _write_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        try:
            with self.writing():
                results = [write() for write, _ in gathered]
        except Exception as e:
            for _, done in gathered:
                if not done.done():  # Whoever waited for it may be gone.
                    done.set_exception(e)
            return
        for (_, done), result in zip(gathered, results, strict=True):
            if not done.done():
                done.set_result(result)

    def close(self) -> None:
        """Let the file go, until it is needed again; what is in memory stays."""
        with self._lock:
            if self._connection is not None and self.path is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection | None:
        if self._connection is None:
            if self.path is None:
                self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
                self._connection.executescript(_SCHEMA)
            elif self._create:
                self._connection = self._made()
            elif self.path.exists():
                self._connection = self._found()
        return self._connection

    def _made(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise unwritable(self.path, e) from None
        connection, ends = None, time.monotonic() + _BUSY_S
        while True:
            try:
                connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
                connection.execute("pragma journal_mode=wal")
                connection.execute("pragma synchronous=normal")  # A kill loses nothing so; power does the last rows.
                connection.execute(f"pragma wal_autocheckpoint={_CHECKPOINT_PAGES}")
                connection.executescript(f"begin immediate;{_SCHEMA}commit;")
                return connection
            except sqlite3.Error as e:
                if connection is not None:
                    connection.close()
                # Of two that make it at once SQLite tells one at once that it is busy, however long it may wait.
                if e.sqlite_errorname[:11] != "SQLITE_BUSY" or time.monotonic() > ends:
                    raise self._failed("written", e) from None
                time.sleep(0.02)

    def _found(self) -> sqlite3.Connection:
        # Where nothing can be written there is no place for the file by which readers and writers of WAL agree.
        how = "mode=ro" if os.access(self.path.parent, os.W_OK) else "immutable=1"
        try:
            place = f"{self.path.absolute().as_uri()}?{how}"
            return sqlite3.connect(place, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as e:
            raise self._failed("read", e) from None

    def _failed(self, done: str, error: sqlite3.Error) -> CromeError:
        name = getattr(error, "sqlite_errorname", "").split("_")
        fix = _FIXES.get(name[1] if len(name) > 1 else "", "check the folder")
        return CromeError(f"{self.path}: cannot be {done} ({error}); {fix}")
