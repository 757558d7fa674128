"""Budgets and limits: of a run, not of a process; what was spent is known to the next life and to the other worker."""

import asyncio
import contextlib
import dataclasses
import time

import pytest
from asking import ask, intervention, settings
from fake_endpoint import Answer, FakeEndpoint

from crome_jax.augment.oracles.chat.budget import Budget, Spent, finish_run, spent_by
from crome_jax.augment.oracles.chat.database import Database
from crome_jax.augment.oracles.chat.limits import Limits
from crome_jax.augment.oracles.chat.oracle import ChatOracle
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.errors import CromeError

TOKENS = ChatSettings("m", cache=None, token_budget=1000)


def budget(folder, run="r", how=TOKENS):
    """Return what another process of the run would have."""
    return Budget(how, Database(folder), run)


def reserve(of, *tokens):
    return asyncio.run(of.reserve(*tokens))


def test_what_one_process_spends_or_sets_aside_another_cannot(tmp_path):
    first, second = budget(tmp_path), budget(tmp_path)
    first.count(answered=1, prompt=300, reply=200)
    held = reserve(first, 200, 100)
    assert second.spent() == Spent(sent=1, answered=1, prompt_tokens=300, reply_tokens=200)
    assert reserve(second, 100, 100) is not None  # 1000 in all.
    with pytest.raises(CromeError, match="the budget is spent: 500 tokens"):
        reserve(second, 501, 0)  # It would not fit even if all that is under way came to nothing.

    async def wait_for_the_other():
        waiting = asyncio.create_task(second.reserve(100, 0))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        first.count(held, answered=1, prompt=100, reply=50)  # It cost less than was set aside.
        return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(wait_for_the_other()) is not None


def test_what_is_given_back_twice_is_nobody_elses(tmp_path):
    one = budget(tmp_path)
    held = reserve(one, 300, 200)
    one.count(held, answered=1, prompt=1, reply=1)
    assert reserve(one, 500, 400) is not None  # In the place of the first.
    one.release(held)  # As whoever held it does at its end.
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(one.reserve(200, 0), 0.1))


def test_the_next_life_of_a_run_knows_what_was_spent_and_a_run_after_it_begins_anew(tmp_path):
    budget(tmp_path).count(answered=1, prompt=600, reply=300)
    budget(tmp_path).count(failed="HTTP 503")
    with pytest.raises(CromeError, match="the budget is spent: 900 tokens"):
        reserve(budget(tmp_path), 101, 0)
    database = Database(tmp_path, create=False)
    assert spent_by(database, "r") == Spent(2, 1, 600, 300, {"HTTP 503": 1})
    assert budget(tmp_path, "other").spent() == spent_by(database, "no such run") == Spent()
    finish_run(Database(tmp_path), "r")
    assert budget(tmp_path).spent() == Spent()
    # Without a name nobody else counts with it.
    alone = budget(tmp_path, None)
    alone.count(prompt=900)
    assert budget(tmp_path, None).spent() == Spent()


def test_the_prompt_of_a_request_whose_process_was_killed_is_counted_once_its_time_is_over(tmp_path, monkeypatch):
    reserve(budget(tmp_path), 400, 500)  # And then its process is gone.
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(budget(tmp_path).reserve(200, 0), 0.1))
    later = time.time() + TOKENS.timeout_s + 61
    monkeypatch.setattr(time, "time", lambda: later)
    after = budget(tmp_path)
    assert reserve(after, 200, 300) is not None
    assert after.spent() == Spent(sent=1, prompt_tokens=400)


def test_a_budget_of_money_counts_the_life_before(tmp_path):
    priced = dataclasses.replace(TOKENS, token_budget=None, money_budget=1.0, prompt_price=1e6, reply_price=2e6)
    budget(tmp_path, how=priced).count(answered=1, prompt=0, reply=0)
    assert reserve(budget(tmp_path, how=priced), 1, 0) is not None
    budget(tmp_path, how=priced).count(answered=1, prompt=1)
    with pytest.raises(CromeError, match=r"the budget is spent: 1 tokens, \$1.00"):
        reserve(budget(tmp_path, how=priced), 0, 1)


def test_a_run_that_is_run_again_spends_its_budget_once(tmp_path):
    requests = [intervention(f"Text {k} is here.") for k in range(60)]
    with FakeEndpoint() as endpoint:
        # 150 tokens a request, and room for so many more until it is there.
        few = settings(endpoint, tmp_path, token_budget=3000, max_reply_tokens=100, concurrency=2)
        for _ in range(3):
            with ChatOracle(few, run="out") as oracle, contextlib.suppress(CromeError):
                for future in [oracle.submit(request) for request in requests]:
                    future.result()
            assert oracle.budget.spent().answered == len(endpoint.requests)
        assert 15 <= len(endpoint.requests) <= 20


def limits(folder, requests=None, tokens=None, name="m"):
    return Limits(requests, tokens, Database(folder), name)


async def through(of, times, tokens=1):
    started = time.monotonic()
    for _ in range(times):
        await of.wait(tokens, asyncio.Event())
    return time.monotonic() - started


def test_processes_keep_a_limit_together_and_other_models_have_their_own(tmp_path):
    async def run():
        # 20 a second, of which a second's worth may come at once.
        both = await asyncio.gather(*(through(limits(tmp_path, requests=1200), 20) for _ in range(2)))
        assert max(both) > 0.9
        assert await through(limits(tmp_path, requests=1200, name="other"), 20) < 0.5
        assert await through(limits(tmp_path, tokens=12000), 2, 100) < 0.5
        assert await through(limits(tmp_path, tokens=12000), 2, 100) > 0.5

    asyncio.run(run())


def test_a_process_that_was_killed_while_it_waited_leaves_nobody_waiting(tmp_path):
    async def run():
        one = limits(tmp_path, requests=60)
        await through(one, 1)
        waiting = [asyncio.create_task(through(one, 1)) for _ in range(50)]
        await asyncio.sleep(0.1)
        for task in waiting:
            task.cancel()
        assert await through(limits(tmp_path, requests=60), 1) < 1.5

    asyncio.run(run())


def test_a_pause_is_every_ones_that_keeps_the_limit(tmp_path):
    async def run():
        one, other = (limits(tmp_path, requests=6000) for _ in range(2))
        one.pause(0.4)
        assert await through(other, 1) > 0.3

    asyncio.run(run())


def test_the_oracles_of_two_workers_keep_one_limit_over_the_wire(tmp_path):
    with FakeEndpoint(lambda number, body: Answer(latency_s=0.01)) as endpoint:
        chosen = settings(endpoint, tmp_path, requests_per_minute=1200)
        started = time.monotonic()
        with ChatOracle(chosen, run="out") as one, ChatOracle(chosen, run="out") as two:
            futures = [
                oracle.submit(intervention(f"Text {k} of {name} is here."))
                for k in range(20)
                for name, oracle in (("one", one), ("two", two))
            ]
            for future in futures:
                future.result()
            assert time.monotonic() - started >= 0.9
            assert one.budget.spent() == two.budget.spent() == Spent(40, 40, 4000, 2000)
            assert one.traffic.answered == two.traffic.answered == 20


def test_without_a_cache_a_process_counts_for_itself():
    with FakeEndpoint() as endpoint:
        _, oracle = ask(endpoint, [intervention(f"Text {k} is here.") for k in range(3)])
    assert oracle.budget.spent() == Spent(3, 3, 300, 150)
