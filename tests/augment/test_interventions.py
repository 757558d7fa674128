import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crome_jax.augment import Account, add_interventions
from crome_jax.augment.oracles import Declined, Direction, Rewrite
from crome_jax.augment.oracles.base import EVERY_ATTRIBUTE
from crome_jax.augment.recipe import Recipe
from crome_jax.errors import CromeError
from crome_jax.groups import Comparison, Kind, Origin, build_group

PAIR = (Comparison(0, 1),)


class ScriptedOracle:
    """Marks the text with direction and attribute; declines what it is told to; remembers what it was asked."""

    name = "scripted"

    def __init__(self, names=("a", "b", "c", "d"), declined=(), answers=None):
        self.names, self.declined, self.answers, self.asked = names, set(declined), answers, []

    def rubrics(self, prompt, responses, count):
        return tuple(self.names[:count])

    def rewrite(self, requests):
        # Reads everything before it answers, as one that runs requests concurrently would.
        for request in list(requests):
            self.asked.append(request)
            if request.attribute in self.declined:
                yield Declined("told to")
            else:
                text = f"{request.direction} {request.attribute} of {request.text}"
                yield Rewrite((self.answers or {}).get(request.attribute, text), "marked")


def group(id="g", responses=("good", "bad"), comparisons=PAIR):
    return build_group(id=id, prompt=f"the prompt of {id}", responses=responses, comparisons=comparisons)


def run(groups, oracle=None, implied=False, seed=0, account=None, **recipe):
    recipe = Recipe(implied=implied, **recipe)
    return list(add_interventions(groups, oracle=oracle or ScriptedOracle(), recipe=recipe, seed=seed, account=account))


def causal(group):
    return [c for c in group.comparisons if c.kind is Kind.CAUSAL]


def aligned(group):
    return [c for c in group.comparisons if c.kind is Kind.NEUTRAL]


@pytest.mark.parametrize(("target", "chosen"), [(1.0, 0), (0.0, 1), (0.8, 0), (0.3, 1)])
def test_the_preferred_is_degraded_and_the_other_upgraded(target, chosen):
    (out,) = run([group(comparisons=[Comparison(0, 1, target=target)])])
    assert len(causal(out)) == 4
    for c in causal(out):
        better, worse = out.responses[c.left], out.responses[c.right]
        assert c.target == 1.0
        if worse.origin is Origin.DEGRADED:
            assert (worse.parent, c.left) == (chosen, chosen)
            assert worse.text.startswith("degrade")
            assert worse.attribute == c.attribute
        else:
            assert better.origin is Origin.UPGRADED
            assert (better.parent, c.right) == (1 - chosen, 1 - chosen)
            assert better.text.startswith("upgrade")
            assert better.attribute == c.attribute
    origins = [r.origin for r in out.responses]
    assert origins.count(Origin.DEGRADED) == origins.count(Origin.UPGRADED) == 2


@pytest.mark.parametrize(("target", "chosen"), [(1.0, 0), (0.0, 1), (0.8, 0), (0.3, 1)])
def test_the_other_answer_aligned_with_the_preferred_one_is_its_tie(target, chosen):
    oracle = ScriptedOracle()
    (out,) = run([group(comparisons=[Comparison(0, 1, target=target)])], oracle)
    (tie,) = aligned(out)
    assert (tie.left, tie.target, tie.attribute) == (chosen, 0.5, None)
    new = out.responses[tie.right]
    assert (new.origin, new.parent, new.attribute) == (Origin.ALIGNED, 1 - chosen, EVERY_ATTRIBUTE)
    (request,) = (r for r in oracle.asked if r.direction is Direction.ALIGN)
    assert (request.text, request.reference) == (out.responses[1 - chosen].text, out.responses[chosen].text)
    assert new.text == f"align {EVERY_ATTRIBUTE} of {request.text}"


def test_alignment_leaves_the_causal_comparisons_as_they_are():
    groups = [group(f"g{k}", (f"good {k}", f"bad {k}")) for k in range(8)]
    for plain, more in zip(run(groups, align_per_pair=0), run(groups), strict=True):
        assert not aligned(plain)
        assert len(aligned(more)) == 1
        pairs = [
            [(g.responses[c.left].text, g.responses[c.right].text, c.attribute) for c in causal(g)]
            for g in (plain, more)
        ]
        assert pairs[0] == pairs[1]


@pytest.mark.parametrize(("target", "chosen"), [(1.0, 0), (0.0, 1)])
def test_what_the_preferred_answer_beats_its_equal_beats_too(target, chosen):
    account = Account()
    ((plain,), (more,)) = (
        run([group(comparisons=[Comparison(0, 1, target=target)])], implied=implied, account=account)
        for implied in (False, True)
    )
    assert more.responses == plain.responses
    assert more.comparisons[: len(plain.comparisons)] == plain.comparisons
    (tie,) = aligned(plain)
    lost = {(c.right, c.attribute) for c in causal(plain) if c.left == chosen}
    following = more.comparisons[len(plain.comparisons) :]
    assert {(c.right, c.attribute) for c in following} == lost | {(1 - chosen, EVERY_ATTRIBUTE)}
    assert len(following) == len(lost) + 1 == account.implied == 3
    assert all((c.left, c.target, c.kind) == (tie.right, 1.0, Kind.CAUSAL) for c in following)
    assert "       3 implied by alignment" in str(account)


def test_without_an_aligned_answer_nothing_is_implied():
    oracle = ScriptedOracle(declined={EVERY_ATTRIBUTE})
    assert run([group()], oracle, implied=True) == run([group()], oracle)


def test_a_declined_alignment_is_asked_for_once_and_counted():
    oracle, account = ScriptedOracle(declined={EVERY_ATTRIBUTE}), Account()
    (out,) = run([group()], oracle, account=account)
    assert not aligned(out)
    assert sum(request.direction is Direction.ALIGN for request in oracle.asked) == 1
    assert account.dropped == {("align", EVERY_ATTRIBUTE, "told to"): 1}
    assert account.short == collections.Counter(align=1)


def test_the_account_is_printed_without_zeros_and_calls_the_aligned_neutral():
    account = Account()
    run([group()], account=account)
    assert sorted(str(account).splitlines()[1:]) == sorted(
        [f"       1 made {direction}, {attribute}" for direction, attribute in account.made if direction != "align"]
        + ["       1 neutral from alignment"]
    )
    run([group("x"), group("y", ("good y", "bad y"))], ScriptedOracle(declined={EVERY_ATTRIBUTE}), account=account)
    printed = str(account)
    assert f"       2 dropped align, {EVERY_ATTRIBUTE}, told to" in printed
    assert printed.splitlines()[-1] == "       2 wanted and not made: align"


def test_ties_and_synthetic_comparisons_get_none():
    tie = group("tie", comparisons=[Comparison(0, 1, target=0.5)])
    made = group("made", comparisons=[Comparison(0, 1, kind=Kind.CAUSAL)])
    assert run([tie, made]) == [tie, made]


def test_a_declined_attribute_gives_way_to_another_and_is_counted():
    account = Account()
    (out,) = run([group()], ScriptedOracle(declined={"a", "b"}), account=account)
    assert {c.attribute for c in causal(out)} == {"c", "d"}
    assert set(account.dropped) <= {(d, a, "told to") for d in ("degrade", "upgrade") for a in "ab"}
    assert account.short.total() == 0
    (out,) = run([group()], ScriptedOracle(declined={"a", "b", "c"}), account=(account := Account()))
    assert {c.attribute for c in causal(out)} == {"d"}
    assert account.dropped.total() == 6
    assert account.short == collections.Counter(degrade=1, upgrade=1)
    assert "told to" in str(account)


def test_a_rewrite_equal_to_another_answer_is_dropped():
    account = Account()
    oracle = ScriptedOracle(names=["a"], answers={"a": "good", EVERY_ATTRIBUTE: "good"})
    (out,) = run([group()], oracle, account=account)
    assert out == group()
    moved = {"degrade": "a", "upgrade": "a", "align": EVERY_ATTRIBUTE}
    assert account.dropped == {(*what, "equals another answer"): 1 for what in moved.items()}


def test_an_answer_that_is_aligned_by_its_upgrade_is_tied_with_the_preferred_one():
    account = Account()
    oracle = ScriptedOracle(names=["a"], answers={"a": "raised", EVERY_ATTRIBUTE: "raised"})
    (out,) = run([group()], oracle, implied=True, account=account, degrade_per_pair=0)
    assert [(r.text, r.origin, r.parent) for r in out.responses[2:]] == [("raised", Origin.UPGRADED, 1)]
    # Good and raised tie, raised beats bad: which is said once, though the upgrade and the tie both say it.
    assert [(c.left, c.right, c.target) for c in out.comparisons[1:]] == [(2, 1, 1.0), (0, 2, 0.5)]
    assert account.made == {("upgrade", "a"): 1, ("align", EVERY_ATTRIBUTE): 1}
    # What equals the lowered twin of the preferred answer is no equal of that one.
    (out,) = run([group()], oracle, upgrade_per_pair=0)
    assert all(c.target != 0.5 for c in out.comparisons)


def test_a_request_holds_the_other_answer_and_foreign_ones():
    oracle = ScriptedOracle()
    run([group("x"), *(group(f"y{k}", (f"good {k}", f"bad {k}")) for k in range(9))], oracle)
    for request in oracle.asked:
        foreign = set(request.elsewhere)
        assert foreign
        assert not foreign & {request.text, request.reference}
        assert request.reference.split()[0] != request.text.split()[0]


def test_many_pairs_are_capped():
    many = group(
        responses=[f"answer {k}" for k in range(20)],
        comparisons=[Comparison(k, k + 1) for k in range(16)],
    )
    (out,) = run([many], max_pairs_per_group=3)
    assert len(causal(out)) == 12
    (out,) = run([many], max_pairs_per_group=None)
    assert len(causal(out)) == 64


def test_ids_must_be_unique():
    with pytest.raises(CromeError, match="two groups have the id 'g'"):
        run([group(), group()])


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(0, 3), st.randoms(use_true_random=False))
def test_what_a_group_becomes_depends_on_no_order(count, seed, rng):
    groups = [group(f"g{k}", (f"good {k}", f"bad {k}")) for k in range(count)]
    shuffled = rng.sample(groups, count)
    there = {g.id: g for g in run(groups, seed=seed)}
    assert {g.id: g for g in run(shuffled, seed=seed)} == there


def test_the_seed_decides_the_draw():
    groups = [group(f"g{k}", (f"good {k}", f"bad {k}")) for k in range(8)]
    assert run(groups, seed=0) != run(groups, seed=1)


def test_a_group_beyond_the_window_is_like_any_other():
    groups = [group(f"g{k:03}", (f"good {k}", f"bad {k}")) for k in range(300)]
    out = run(groups)
    assert [g.id for g in out] == [g.id for g in groups]
    assert all(len(causal(g)) == 4 for g in out)
    attributes = [c.attribute for g in out for c in causal(g)]
    # Drawn evenly: each of four attributes about a quarter of 1,200.
    assert all(240 < attributes.count(a) < 360 for a in "abcd")


def test_directions_have_their_own_count():
    (out,) = run([group()], degrade_per_pair=3, upgrade_per_pair=0, align_per_pair=0)
    assert [r.origin for r in out.responses[2:]] == [Origin.DEGRADED] * 3
    (out,) = run([group()], degrade_per_pair=0, upgrade_per_pair=0)
    assert [r.origin for r in out.responses[2:]] == [Origin.ALIGNED]
