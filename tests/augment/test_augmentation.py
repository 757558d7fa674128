import collections
import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from crome_jax.augment import Account, augment_groups
from crome_jax.augment.oracles import OfflineEditor
from crome_jax.augment.oracles.base import EVERY_ATTRIBUTE
from crome_jax.groups import Comparison, Kind, Origin, build_group, from_json, to_json

PROMPTS = {
    "How was the telephone invented in Boston?": "The telephone was invented by {} in {}. It was not easy at all.",
    "Which ingredients does a good omelette need?": "An omelette needs {} eggs, says {}. First whisk. Then fry.",
    "When does Saturn show its bright rings?": "Saturn shows its rings in {}. {} can see them. They are always bright.",
    "Explain football offside rules for children": "1. First, {} stands.\n2. Then {} runs.\n3. Finally, he is offside.",
}

answers = st.tuples(
    st.sampled_from(["Bell", "Anna Meyer", "7", "1876"]), st.sampled_from(["1891", "12", "Peter", "Bo"])
)
data_sets = st.lists(
    st.tuples(
        st.sampled_from(list(PROMPTS)),
        st.lists(answers, min_size=2, max_size=4, unique=True),
        st.lists(st.sampled_from([0.0, 0.5, 0.9, 1.0]), min_size=1, max_size=4),
    ),
    max_size=6,
)


def build(rows):
    return [
        build_group(
            id=f"row {k}",
            prompt=prompt,
            responses=[PROMPTS[prompt].format(*fill) for fill in fills],
            comparisons=[
                Comparison(c % len(fills), (c + 1) % len(fills), target=target) for c, target in enumerate(targets)
            ],
        )
        for k, (prompt, fills, targets) in enumerate(rows)
    ]


@settings(max_examples=60)
@given(data_sets, st.integers(0, 3), st.randoms(use_true_random=False))
def test_augmented_groups_are_valid_deterministic_and_hold_the_originals(rows, seed, rng):
    groups = build(rows)
    account = Account()
    out = list(augment_groups(groups, oracle=OfflineEditor(), seed=seed, account=account))
    lines = [to_json(g) for g in out]
    assert [from_json(line) for line in lines] == out
    again = augment_groups(rng.sample(groups, len(groups)), oracle=OfflineEditor(), seed=seed)
    assert sorted(map(to_json, again)) == sorted(lines)

    kinds, implied = collections.Counter(), 0
    for old, new in zip(groups, out, strict=True):
        assert (new.id, new.prompt, new.metadata) == (old.id, old.prompt, old.metadata)
        assert new.responses[: len(old.responses)] == old.responses
        assert new.comparisons[: len(old.comparisons)] == old.comparisons
        preferred = {
            (c.left, c.right) if c.target > 0.5 else (c.right, c.left) for c in old.comparisons if c.target != 0.5
        }
        for c in new.comparisons[len(old.comparisons) :]:
            better, worse = new.responses[c.left], new.responses[c.right]
            if c.kind is Kind.NEUTRAL:
                assert c.target == 0.5
                if worse.origin is Origin.ALIGNED:
                    assert (c.left, worse.parent) in preferred
                    assert better.origin is Origin.ORIGINAL
                else:
                    assert better.origin is worse.origin is Origin.IRRELEVANT
            elif better.origin is Origin.ALIGNED:
                implied += 1
                assert worse.origin is Origin.DEGRADED or c.right == better.parent
            elif better.origin is Origin.UPGRADED:
                assert better.parent == c.right in {rejected for _, rejected in preferred}
            else:
                assert worse.origin is Origin.DEGRADED
                assert worse.parent == c.left in {chosen for chosen, _ in preferred}
        kinds.update(c.kind.name.lower() for c in new.comparisons)
    assert account.comparisons == kinds
    assert account.groups == len(groups)
    alignments = account.made["align", EVERY_ATTRIBUTE]
    assert account.implied == implied
    assert account.made.total() - alignments + implied == kinds["causal"]
    assert account.neutrals.total() + alignments == kinds["neutral"]


def test_what_records_say_of_themselves_changes_nothing_that_is_made():
    # A data set may say which attributes its answers carry: neither texts nor comparisons come of it.
    rows = [(prompt, [("Bell", "1891"), ("Anna Meyer", "12")], [1.0]) for prompt in PROMPTS]
    plain = build(rows)
    telling = [
        dataclasses.replace(
            group,
            metadata={"spurious_attributes": "long,polite", "category": "chat", "lowered": "complete"},
            responses=tuple(
                dataclasses.replace(response, metadata={"long": bool(at), "polite": not at, "correct": not at})
                for at, response in enumerate(group.responses)
            ),
        )
        for group in plain
    ]

    def made(groups):
        return [
            ([response.text for response in group.responses], group.comparisons)
            for group in augment_groups(groups, oracle=OfflineEditor())
        ]

    assert made(telling) == made(plain)


def test_a_small_data_set_gets_every_kind():
    rows = [(prompt, [("Bell", "1891"), ("Anna Meyer", "12")], [1.0]) for prompt in PROMPTS]
    account = Account()
    out = list(augment_groups(build(rows), oracle=OfflineEditor(), account=account))
    assert {c.kind for g in out for c in g.comparisons} == set(Kind)
    assert {direction for direction, _ in account.made} == {"degrade", "upgrade", "align"}
    assert {r.origin for g in out for r in g.responses} == set(Origin) - {Origin.PARAPHRASED, Origin.PERMUTED}
    assert str(account).startswith("4 groups with ")
