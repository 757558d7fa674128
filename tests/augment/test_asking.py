import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedOracle, agrees

from crome_jax.augment import Account, augment_groups
from crome_jax.augment.asking import run_plans, together
from crome_jax.augment.oracles import Rewrite
from crome_jax.augment.oracles.base import Direction, Intervention
from crome_jax.augment.recipe import Recipe
from crome_jax.errors import CromeError
from crome_jax.groups import Comparison, Message, build_group, to_json

EVERYTHING = Recipe(
    paraphrase_per_pair=2, chain_steps=3, joint_per_pair=1, rewritten_twice_per_pair=1, judge=True, rubrics_per_prompt=3
)


def ask(text):
    return Intervention(Direction.DEGRADE, "clarity", (Message("user", "Why?"),), text)


def counting(steps, width, log=None):
    """Ask `width` questions `steps` times; return all the replies."""
    seen = []
    for step in range(steps):
        replies = yield [ask(f"{step} {k}") for k in range(width)]
        seen += replies
        if log is not None:
            log.append(step)
    return seen


def echo(request):
    return Rewrite(f"re {request.text}", "echo")


class Ordered:
    """The other kind of oracle: one that answers an iterable in order."""

    name = "ordered"

    def rubrics(self, prompt, responses, count):
        return ("factuality",)

    def rewrite(self, requests):
        return (echo(request) for request in requests)


sizes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12)


@settings(max_examples=30, deadline=None)
@given(sizes, st.integers(1, 5))
def test_results_come_in_order_whoever_answers_and_however_many_are_under_way(sizes, window):
    expected = [[f"re {step} {k}" for step in range(steps) for k in range(width)] for steps, width in sizes]
    for oracle in (ScriptedOracle(rewrite=echo), Ordered()):
        results = run_plans((counting(*size) for size in sizes), oracle, window)
        assert [[reply.text for reply in result] for result in results] == expected
    joint = run_plans([together([counting(*size) for size in sizes])], Ordered())
    assert [[reply.text for reply in result] for result in next(joint)] == expected


def test_no_more_plans_are_started_than_the_window_holds():
    started = []

    def plans():
        for k in range(40):
            started.append(k)
            yield counting(2, 1)

    results = run_plans(plans(), ScriptedOracle(rewrite=echo), window=5)
    for taken, _ in enumerate(results, 1):
        assert len(started) <= taken + 5


def test_after_an_error_what_was_sent_is_waited_for():
    oracle = ScriptedOracle(rewrite=echo, fail_after=20)
    oracle.failure = CromeError("the budget is spent")
    with pytest.raises(CromeError, match="budget"):
        list(run_plans((counting(3, 4) for _ in range(50)), oracle, window=10))
    assert oracle.under_way == 0
    assert len(oracle.asked) < 600


def test_a_group_becomes_the_same_whatever_order_replies_come_in():
    groups = [
        build_group(
            id=f"g{k}",
            prompt=f"How does thing number {k} work in general?",
            responses=[f"good answer {k}", f"bad answer {k}", f"middling answer {k}"],
            comparisons=[Comparison(0, 1), Comparison(2, 1), Comparison(0, 2, target=0.2)],
        )
        for k in range(12)
    ]

    def run(order):
        account = Account()
        oracle = ScriptedOracle(judge=agrees)
        out = augment_groups([groups[k] for k in order], oracle=oracle, recipe=EVERYTHING, account=account)
        return sorted(map(to_json, out)), account, oracle

    first, account, oracle = run(range(12))
    second, again, _ = run(reversed(range(12)))
    assert first == second
    assert account == again
    assert oracle.most_under_way > 20
    assert '"oracle":"scripted"' in first[0]
    assert {key[0] for key in account.made} >= {"degrade", "align", "chain", "joint", "rewritten twice", "paraphrase"}
