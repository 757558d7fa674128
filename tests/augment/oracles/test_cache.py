"""The cache: a database that processes share, that kills leave whole, and that never says absent for unreadable."""

import asyncio
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from asking import ask, intervention
from fake_endpoint import FakeEndpoint, sensible

from crome_jax.augment.oracles.chat.cache import Cache, Completion, request_key, request_text
from crome_jax.augment.oracles.chat.database import FILE, Database
from crome_jax.errors import CromeError


def key(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def fill(cache, start, stop):
    for number in range(start, stop):
        cache.put(key(number), f"request {number}", Completion(f"reply {number}", "stop", number, 1))


def opened(folder):
    return Cache(folder, Database(folder))


def test_a_reply_is_kept_as_it_came_with_its_request_and_found_by_another_cache(tmp_path):
    odd = Completion("half a pair \ud800, and a \0", "stop", 3, 4)
    opened(tmp_path).put(key(0), "[]", odd)
    found = Cache(tmp_path).get(key(0))
    assert (found.completion, found.run) == (odd, None)
    assert Cache(tmp_path).get(key(1)) is None
    with FakeEndpoint() as endpoint:
        ask(endpoint, [intervention()], tmp_path)
    database = Database(tmp_path / "cache", create=False)
    [(digest, text, reply)] = database.rows("select key, request, reply from replies")
    prompts, body = json.loads(text)
    assert prompts.startswith("crome-1/")
    assert request_text(body, prompts) == text
    assert request_key(text) == digest.hex()
    assert [body] == endpoint.requests
    assert json.loads(reply)["content"] == sensible(endpoint.requests[0])


def test_of_two_replies_to_one_request_the_first_stays_and_both_go_on_with_it(tmp_path):
    first, second = Completion("first"), Completion("second")
    assert opened(tmp_path).put(key(0), "[]", first) == first
    assert opened(tmp_path).put(key(0), "[]", second) == first


def test_what_is_written_at_the_same_time_is_one_transaction_and_is_kept_when_anyone_goes_on(tmp_path):
    database, begun = Database(tmp_path), []
    cache = Cache(tmp_path, database)
    with database.writing() as connection:
        connection.set_trace_callback(begun.append)  # From here on: its end is the first that is told of.

    async def write(number):
        kept = await database.written(lambda: cache.put(key(number), "[]", Completion(f"reply {number}")))
        assert Cache(tmp_path).get(key(number)).completion == kept == Completion(f"reply {number}")

    async def write_all():
        *others, gone = [asyncio.ensure_future(write(number)) for number in range(21)]
        await asyncio.sleep(0)
        gone.cancel()  # Whoever waited for it is gone; it is written all the same.
        await asyncio.gather(*others)

    asyncio.run(write_all())
    assert key(20) in Cache(tmp_path)
    assert [line for line in begun if not line.startswith("insert")] == ["COMMIT", "begin immediate", "COMMIT"]


def test_of_what_is_written_at_the_same_time_a_failure_keeps_nothing_and_fails_each(tmp_path):
    database = Database(tmp_path)
    cache = Cache(tmp_path, database)

    def fail():
        raise CromeError("no space")

    async def write_all():
        writes = [lambda: cache.put(key(0), "[]", Completion("x")), fail, lambda: None]
        failed = await asyncio.gather(*map(database.written, writes), return_exceptions=True)
        assert [str(error) for error in failed] == ["no space"] * 3
        assert key(0) not in cache
        assert await database.written(lambda: cache.put(key(0), "[]", Completion("y"))) == Completion("y")

    asyncio.run(write_all())
    assert Cache(tmp_path).get(key(0)).completion == Completion("y")


def test_a_reply_that_is_written_holds_no_slot(tmp_path, monkeypatch):
    waiting = asyncio.Event()
    write = Database.written

    async def late(self, function):
        if len(endpoint.requests) < 3:
            await waiting.wait()
        waiting.set()
        return await write(self, function)

    with FakeEndpoint() as endpoint:
        monkeypatch.setattr(Database, "written", late)  # Until the third request came no reply is written.
        replies, _ = ask(endpoint, [intervention(f"Text {k}.") for k in range(3)], tmp_path, concurrency=1)
    assert [reply.text for reply in replies] == [json.loads(sensible(body))["text"] for body in endpoint.requests]


def test_looking_makes_nothing(tmp_path):
    assert Cache(tmp_path / "cache").get(key(0)) is None
    assert list(tmp_path.iterdir()) == []
    opened(tmp_path).put(key(0), "[]", Completion("x"))
    other = Cache(tmp_path)
    assert key(0) in other
    assert key(1) not in other


def test_a_recorded_folder_that_may_not_be_written_is_read_without_a_file_beside_it(tmp_path, monkeypatch):
    writer = Database(tmp_path)
    fill(Cache(tmp_path, writer), 0, 3)
    writer.close()
    monkeypatch.setattr(os, "access", lambda place, how: False)  # Tests may run as root, who may write everywhere.
    reader = Database(tmp_path, create=False)
    assert Cache(tmp_path, reader).get(key(2)).completion.content == "reply 2"
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_replies_that_an_earlier_version_kept_in_files_are_found_and_not_paid_for_again(tmp_path):
    with FakeEndpoint() as endpoint:
        (first,), _ = ask(endpoint, [intervention()], tmp_path)
        folder = tmp_path / "cache"
        [(digest, text, reply)] = Database(folder, create=False).rows("select key, request, reply from replies")
        for file in folder.iterdir():
            file.unlink()
        prompts, body = json.loads(text)
        file = folder / digest.hex()[:2] / f"{digest.hex()}.json"
        file.parent.mkdir()
        file.write_text(json.dumps({"prompts": prompts, "request": body, "reply": json.loads(reply)}))
        (again,), oracle = ask(endpoint, [intervention()], tmp_path)
        assert again == first
        assert len(endpoint.requests) == oracle.traffic.kept == 1
        # A machine lost power while it was written: what is damaged there cannot be read by anyone.
        for content in (b"", b'{"reply": {"content": "x"', b"[]", b'{"reply": {"contents": 1}}', b"\xff\xfe"):
            file.write_bytes(content)
            assert Cache(folder).get(digest.hex()) is None


def damage(folder):
    (folder / FILE).write_bytes(b"this is no database, " * 1000)


def bar_file(folder):
    path = folder / key(9)[:2] / f"{key(9)}.json"
    path.mkdir(parents=True)  # Read as a file it is an OSError, for root, too.


@pytest.mark.parametrize(("harm", "fix"), [(damage, "move it away and pay"), (bar_file, "check its permissions")])
def test_what_cannot_be_read_is_an_error_and_is_never_paid_for_again(harm, fix, tmp_path):
    harm(tmp_path)
    with pytest.raises(CromeError, match=f"cannot be read .*{fix}"):
        Cache(tmp_path).get(key(9))


def test_a_run_stops_where_its_cache_becomes_unreadable(tmp_path, monkeypatch):
    def broken(self, statement, values=()):
        raise CromeError(f"{self.path}: cannot be read (disk I/O error); check the disk")

    with FakeEndpoint() as endpoint:
        monkeypatch.setattr(Database, "row", broken)
        with pytest.raises(CromeError, match="check the disk"):
            ask(endpoint, [intervention(f"Text {k}.") for k in range(5)], tmp_path)
        assert endpoint.requests == []


def test_a_full_disk_is_said(tmp_path):
    database = Database(tmp_path)
    with database.writing() as connection:
        connection.execute("pragma max_page_count=20")
    with pytest.raises(CromeError, match=r"cannot be written \(database or disk is full\); free some space"):
        fill(Cache(tmp_path, database), 0, 2000)
    assert database.row("select count(*) from replies")[0] > 0  # And what was there is there.


def test_threads_and_processes_write_one_cache_at_once(tmp_path):
    program = (
        "import sys; sys.path.insert(0, 'tests/augment/oracles'); sys.path.insert(0, 'tests')\n"
        "from test_cache import fill, opened\n"
        "fill(opened(sys.argv[1]), int(sys.argv[2]), int(sys.argv[2]) + 300)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(start)], stderr=subprocess.PIPE)
        for start in (0, 200)  # They make the database at once, and a hundred replies are written by both.
    ]
    cache = opened(tmp_path)
    threads = [threading.Thread(target=fill, args=(cache, start, start + 100)) for start in range(500, 900, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        assert process.wait() == 0, process.stderr.read()
    assert all(cache.get(key(number)).completion.reply_tokens == 1 for number in range(900))


def test_killed_at_any_point_the_cache_is_whole_and_has_what_was_said_to_be_kept(tmp_path):
    program = (
        "import sys; sys.path.insert(0, 'tests/augment/oracles'); sys.path.insert(0, 'tests')\n"
        "from test_cache import fill, opened\n"
        "cache, number = opened(sys.argv[1]), int(sys.argv[2])\n"
        "while True:\n    fill(cache, number, number + 1); number += 1; print(number, flush=True)"
    )
    rng, said = random.Random(0), 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(said)], stdout=subprocess.PIPE, text=True
        )
        process.stdout.readline()
        time.sleep(rng.random() / 5)
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        said = int(rest[-1]) if rest else said + 1
        cache = Cache(tmp_path)
        assert all(cache.get(key(number)).completion.content == f"reply {number}" for number in range(said))
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
