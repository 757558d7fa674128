from hypothesis import given, settings
from hypothesis import strategies as st

from crome_jax.augment.account import Account
from crome_jax.augment.permutations import add_permutations
from crome_jax.groups import Comparison, Kind, Origin, build_group, to_json


def group(id, prompt=None, *, target=1.0, texts=None):
    texts = texts or (f"good {id}", f"bad {id}")
    return build_group(
        id=id, prompt=prompt or f"Question {id}?", responses=texts, comparisons=[Comparison(0, 1, target=target)]
    )


def test_the_fourteen_comparisons_of_the_paper_by_hand():
    # Three groups on a ring: each borrows from both others, whatever the order.
    groups = [group("a"), group("b", target=0.0), group("c")]
    account = Account()
    out = list(add_permutations(groups, seed=3, account=account))
    for host in out:
        added = host.comparisons[1:]
        assert [host.responses[r].origin for r in range(6)] == [Origin.ORIGINAL] * 2 + [Origin.PERMUTED] * 4
        contextual = [(c.left, c.right) for c in added if c.kind is Kind.CAUSAL]
        assert sorted(contextual) == [(own, other) for own in (0, 1) for other in (2, 3, 4, 5)]
        assert all(c.target == 1.0 and c.attribute == "relevance" for c in added if c.kind is Kind.CAUSAL)
        ties = [(c.left, c.right) for c in added if c.kind is Kind.NEUTRAL]
        assert sorted(ties) == [(2, 3), (2, 4), (2, 5), (3, 4), (3, 5), (4, 5)]
        assert all(c.target == 0.5 for c in added if c.kind is Kind.NEUTRAL)
        others = {text for other in groups if other.id != host.id for text in (r.text for r in other.responses)}
        assert {r.text for r in host.responses[2:]} == others
    assert account.permuted == {"contextual": 24, "non-contextual": 18}
    assert not account.dropped
    assert account.short.total() == 0
    assert "24 from permutations: contextual" in str(account)


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(0, 3), st.integers(0, 9), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_what_was_there_stays(n, permutations, seed, rng):
    groups = [group(f"g{k}") for k in range(n)]
    account = Account()
    out = {g.id: g for g in add_permutations(groups, permutations=permutations, seed=seed, account=account)}
    shuffled = rng.sample(groups, n)
    again = {g.id: g for g in add_permutations(shuffled, permutations=permutations, seed=seed)}
    assert {id: to_json(g) for id, g in out.items()} == {id: to_json(g) for id, g in again.items()}
    lent = [r.metadata["donor"] for g in out.values() for r in g.responses if r.origin is Origin.PERMUTED]
    for old in groups:
        new = out[old.id]
        assert new.responses[:2] == old.responses
        assert new.comparisons[:1] == old.comparisons
        assert not any(r.metadata.get("donor") == old.id for r in new.responses)
        # Shifts of a ring: everyone lends as often as it borrows.
        assert lent.count(old.id) == len(new.responses) - 2 == 2 * min(permutations, n - 1)
    assert account.short["permuted"] == n * max(0, permutations - (n - 1))


def test_a_donor_of_the_same_prompt_or_with_an_equal_answer_is_passed_over_and_counted():
    groups = [group("a", "Same?"), group("b", "Same?"), group("c", texts=("good a", "else"))]
    account = Account()
    first, second, third = add_permutations(groups, permutations=1, account=account)
    assert len(first.responses) == 2  # b has its prompt, c its answer
    assert {r.metadata["donor"] for r in second.responses[2:]} == {"c"}
    assert {r.metadata["donor"] for r in third.responses[2:]} == {"b"}
    assert account.short["permuted"] == 1
    assert account.dropped["permuted", "donor", "same prompt"] >= 1
    assert account.dropped["permuted", "donor", "equals another answer"] >= 1


def test_a_group_of_ties_takes_no_part():
    groups = [group("a"), group("b", target=0.5), group("c")]
    account = Account()
    out = list(add_permutations(groups, permutations=2, account=account))
    assert out[1] == groups[1]
    assert account.dropped["permuted", "host", "no preference to lend"] == 1
    assert {r.metadata["donor"] for r in out[0].responses[2:]} == {"c"}
