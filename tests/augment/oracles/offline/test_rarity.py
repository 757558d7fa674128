import pytest
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.augment.oracles.offline.rarity import Rarity
from crome_jax.groups import build_group

WORDS = ("whale", "lantern", "violin", "marble", "copper", "orchid")


def group(id, *answers):
    return build_group(id=id, prompt="Why?", responses=answers, comparisons=[])


data_sets = st.lists(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1).map(" ".join), min_size=1, max_size=3, unique=True),
    max_size=8,
).map(lambda rows: [group(f"g{k}", *answers) for k, answers in enumerate(rows)])


def test_rarity_by_hand():
    groups = [group("g0", "A whale sings.", "The whales sing to a lantern.")]
    groups += [group(f"g{k}", "The whale is big.") for k in (1, 2)]
    groups += [group(f"g{k}", "Nobody answered.") for k in (3, 4, 5, 6)]
    rarity = Rarity.of(groups)
    # Of 7 groups 3 have whales, once or twice, in one answer or both: (ln(8/4) / ln 8)^2 = (1/3)^2.
    assert rarity("whale") == pytest.approx(1 / 9)
    # One has a lantern: (ln(8/2) / ln 8)^2 = (2/3)^2. None has a violin: (ln 8 / ln 8)^2.
    assert rarity("lantern") == pytest.approx(4 / 9)
    assert rarity("violin") == 1.0
    # A word that every group has keeps the least weight, 0.05^2, lest a text of nothing else have none to compare.
    everywhere = Rarity.of([group(f"g{k}", "A whale.") for k in range(7)])
    assert everywhere("whale") == pytest.approx(0.0025)


def test_without_other_groups_all_words_are_as_rare_as_can_be():
    for rarity in (Rarity(), Rarity.of([]), Rarity.of([group("g", "A whale.")])):
        assert rarity("whale") == rarity("lantern") == 1.0


@given(data_sets, st.randoms(use_true_random=False))
def test_rarity_depends_on_no_order_and_falls_with_the_groups_that_have_the_word(groups, rng):
    rarity = Rarity.of(groups)
    assert rarity == Rarity.of(rng.sample(groups, len(groups)))
    counts = {word: sum(any(word in r.text.split() for r in g.responses) for g in groups) for word in WORDS}
    assert all(0 < rarity(word) <= 1 for word in WORDS)
    if len(groups) > 1:
        for one in WORDS:
            for other in WORDS:
                assert (rarity(one) < rarity(other)) == (counts[one] > counts[other])
