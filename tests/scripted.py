"""An oracle whose replies a test writes down, and which gives them from several threads in any order."""

import collections
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from crome_jax.augment.oracles.base import Declined, Direction, Intervention, Judgement, Question, Rewrite, Verdict
from crome_jax.augment.rubrics import Rubric

WORDS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "islet", "jetty", "knoll", "lagoon")


def reword(request):
    """Return a rewrite of a text, in words that depend on everything that was asked."""
    seed = (request.direction, request.attribute, request.text, request.seed)
    words = " of the ".join(random.Random(str(seed)).choices(WORDS, k=6))
    return Rewrite(f"{request.direction} {request.attribute}: {words} of {request.text}", "reworded")


class ScriptedOracle:
    """Answers from a pool of threads after random waits, and remembers what it was asked."""

    name = "scripted"

    def __init__(self, rewrite=reword, judge=None, names=("clarity", "accuracy", "depth"), fail_after=None):
        self.rewrite, self.names, self.fail_after = rewrite, names, fail_after
        self.judge = judge or (lambda request: Declined("no judge"))
        self.provenance = {"oracle": "scripted", "oracle_prompts": "none"}
        self.asked = []
        self.most_under_way = self.under_way = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(8)

    def submit(self, request) -> Future:
        with self._lock:
            self.asked.append(request)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            number = len(self.asked)
        return self._pool.submit(self._answer, request, number)

    def _answer(self, request, number):
        time.sleep(random.random() / 500)
        with self._lock:
            self.under_way -= 1
        if self.fail_after is not None and number > self.fail_after:
            raise self.failure
        if isinstance(request, Question):
            return tuple(Rubric(name, f"what {name} is") for name in self.names[: request.count])
        if isinstance(request, Judgement):
            return self.judge(request)
        assert isinstance(request, Intervention)
        return self.rewrite(request)

    def counted(self):
        """Return how many requests of each kind were made."""
        return collections.Counter(
            str(r.direction) if isinstance(r, Intervention) else type(r).__name__ for r in self.asked
        )


def agrees(request):
    """Return the verdict of a judge who finds each rewrite of `reword` as it should be."""
    moved = Direction(request.after.partition(" ")[0])
    return Verdict(moved if moved in (Direction.UPGRADE, Direction.DEGRADE) else None, only=True)
