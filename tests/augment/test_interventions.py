import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crome_jax.augment import Account, add_interventions
from crome_jax.augment.oracles import Declined, Rewrite
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


def run(groups, oracle=None, **kw):
    return list(add_interventions(groups, oracle=oracle or ScriptedOracle(), **kw))


def causal(group):
    return [c for c in group.comparisons if c.kind is Kind.CAUSAL]


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
    assert account.short == {"degrade": 1, "upgrade": 1}
    assert "told to" in str(account)


def test_a_rewrite_equal_to_another_answer_is_dropped():
    account = Account()
    (out,) = run([group()], ScriptedOracle(names=["a"], answers={"a": "good"}), account=account)
    assert out == group()
    assert account.dropped == {(d, "a", "equals another answer"): 1 for d in ("degrade", "upgrade")}


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
    (out,) = run([group()], degrade_per_pair=3, upgrade_per_pair=0)
    assert [r.origin for r in out.responses[2:]] == [Origin.DEGRADED] * 3
