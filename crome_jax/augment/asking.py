"""Plans that ask and wait, and who runs them: many groups at a time, each at its own pace, results in order.

A plan is a generator that yields the requests of one step and is sent their replies, and returns what it made. It does
no I/O and knows no oracle, so the same plan runs against rules, a network, recorded replies or an estimate.
"""

import collections
import itertools
import queue
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TypeVar

from crome_jax.augment.oracles.base import (
    Declined,
    Intervention,
    Judgement,
    Oracle,
    Question,
    Reply,
    Request,
    SubmittingOracle,
)
from crome_jax.augment.rubrics import RUBRICS, Rubric

T = TypeVar("T")
Plan = Generator[Sequence[Request], Sequence[Reply], T]

WINDOW = 256
"""Plans under way together: so many that an oracle behind a network always has requests to run concurrently."""


def run_plans(plans: Iterable[Plan[T]], oracle: Oracle | SubmittingOracle, window: int = WINDOW) -> Iterator[T]:
    """Run plans to their ends and yield what they return, in order; at most `window` are held at a time.

    Raises:
        CromeError: what a plan or the oracle raises; nobody waits then for what was under way but whoever closes the
            oracle.
    """
    if isinstance(oracle, SubmittingOracle):
        yield from _run_submitting(iter(plans), oracle, window)
    else:
        remaining = iter(plans)
        while held := list(itertools.islice(remaining, window)):
            yield from _run_rounds(held, oracle)


def together(plans: Sequence[Plan[T]]) -> Plan[list[T]]:
    """Make one plan of several: what they ask at one step is asked together."""
    done: dict[int, T] = {}
    asked: dict[int, Sequence[Request]] = {}

    def advance(p: int, replies: Sequence[Reply] | None) -> None:
        try:
            asked[p] = plans[p].send(replies)
        except StopIteration as stop:
            done[p] = stop.value

    for p in range(len(plans)):
        advance(p, None)
    while asked:
        step, asked = asked, {}
        replies = iter((yield [request for requests in step.values() for request in requests]))
        # All replies first: a plan that goes on sees what the plans before it made of theirs, as it would alone.
        for p, own in [(p, list(itertools.islice(replies, len(requests)))) for p, requests in step.items()]:
            advance(p, own)
    return [done[p] for p in range(len(plans))]


def _run_rounds(plans: Sequence[Plan[T]], oracle: Oracle) -> list[T]:
    """Take all plans one step at a time, so that an oracle that answers in order gets a step's rewrites at once."""
    joint = together(plans)
    replies: Sequence[Reply] | None = None
    while True:
        try:
            requests = joint.send(replies)
        except StopIteration as stop:
            return stop.value
        rewrites = oracle.rewrite(r for r in requests if isinstance(r, Intervention))
        replies = [next(rewrites) if isinstance(r, Intervention) else _other(r, oracle) for r in requests]


def _other(request: Question | Judgement, oracle: Oracle) -> Reply:
    if isinstance(request, Judgement):
        return Declined("this oracle does not judge")
    names = oracle.rubrics(request.prompt, request.responses, request.count)
    return tuple(RUBRICS.get(name, Rubric(name, "")) for name in names)


def _run_submitting(plans: Iterator[Plan[T]], oracle: SubmittingOracle, window: int) -> Iterator[T]:
    answered: queue.SimpleQueue[int] = queue.SimpleQueue()
    running: dict[int, tuple[Plan[T], list]] = {}  # Number of a plan -> the plan, and the replies that it waits for.
    missing: collections.Counter[int] = collections.Counter()
    finished: dict[int, T] = {}
    started = yielded = 0

    def advance(number: int, plan: Plan[T], replies: Sequence[Reply] | None) -> None:
        requests: Sequence[Request] = ()
        while not requests:  # A step without requests would never be answered.
            try:
                requests = plan.send(replies)
            except StopIteration as stop:
                finished[number] = stop.value
                return
            replies = []
        futures = [oracle.submit(request) for request in requests]
        running[number] = plan, futures
        missing[number] = len(futures)
        for future in futures:
            future.add_done_callback(lambda _: answered.put(number))

    try:
        while True:
            while started - yielded < window and (plan := next(plans, None)) is not None:
                started += 1
                advance(started - 1, plan, None)
            if yielded in finished:
                yielded += 1
                yield finished.pop(yielded - 1)
            elif running:
                number = answered.get()
                missing[number] -= 1
                if not missing[number]:
                    plan, futures = running.pop(number)
                    advance(number, plan, [future.result() for future in futures])
            else:  # The plans ran out, and all that came of them was yielded.
                return
    finally:
        # An oracle of threads finishes what it has begun. One of an event loop lets go at once of who asked: what it
        # has sent comes in while it is closed.
        for _, futures in running.values():
            for future in futures:
                _ = future.cancel() or future.exception()
