"""Chains, joint interventions, rewrites of rewrites, paraphrases: which answers are made, and who beats whom."""

import pytest
from scripted import ScriptedOracle, reword

from crome_jax.augment import Account, add_interventions
from crome_jax.augment.oracles import Declined, OfflineEditor
from crome_jax.augment.oracles.base import Direction, Intervention
from crome_jax.augment.recipe import Recipe
from crome_jax.errors import CromeError
from crome_jax.groups import Comparison, Kind, Origin, build_group

GROUP = build_group(
    id="g", prompt="Why is the sky blue?", responses=["good answer", "bad answer"], comparisons=[Comparison(0, 1)]
)
ONE_EACH = {"degrade_per_pair": 1, "upgrade_per_pair": 1, "align_per_pair": 0}


def run(oracle=None, account=None, group=GROUP, **recipe):
    recipe = Recipe(**{**ONE_EACH, **recipe})
    (out,) = add_interventions([group], oracle=oracle or ScriptedOracle(), recipe=recipe, account=account)
    return out


def line(group, index):
    """Return the index of a response's ancestors, itself first."""
    found = [index]
    while (parent := group.responses[found[-1]].parent) is not None:
        found.append(parent)
    return found


def test_a_chain_goes_down_from_the_preferred_and_up_from_the_other_and_all_its_steps_are_compared():
    oracle = ScriptedOracle()
    out = run(oracle, chain_steps=4)
    assert len(out.responses) == 2 + 4 + 4
    for root, origin in ((0, Origin.DEGRADED), (1, Origin.UPGRADED)):
        last = next(r for r in range(len(out.responses)) if len(line(out, r)) == 5 and line(out, r)[-1] == root)
        steps = line(out, last)[::-1]
        assert [out.responses[r].metadata.get("step") for r in steps] == [None, None, 2, 3, 4]
        assert {out.responses[r].origin for r in steps[1:]} == {origin}
        assert len({out.responses[r].attribute for r in steps[1:]}) == 1
        order = steps if origin is Origin.DEGRADED else steps[::-1]
        wanted = {(order[i], order[j]) for i in range(5) for j in range(i + 1, 5)}
        assert wanted == {(c.left, c.right) for c in out.comparisons if {c.left, c.right} <= set(steps)}
    rewrites = [r for r in oracle.asked if isinstance(r, Intervention)]
    assert len(rewrites) == len({(r.text, r.attribute) for r in rewrites}) == 8


def test_a_chain_ends_where_a_step_is_declined():
    def twice(request):
        deep = request.text.count("degrade clarity") + request.text.count("upgrade clarity")
        return Declined("tired") if deep == 2 else reword(request)

    account = Account()
    out = run(ScriptedOracle(twice, names=("clarity",)), account, chain_steps=5)
    assert len(out.responses) == 2 + 2 + 2
    assert account.short["chain"] == 2 * 3
    assert account.dropped["chain", "clarity", "tired"] == 2


def test_a_joint_intervention_moves_a_second_attribute_of_a_twin():
    out = run(joint_per_pair=1)
    joint = [r for r, response in enumerate(out.responses) if response.metadata.get("recipe") == "joint"]
    assert len(joint) == 2
    for r in joint:
        response = out.responses[r]
        _, twin, root = line(out, r)
        first, second = out.responses[twin].attribute, response.attribute
        assert first != second
        assert response.metadata["attributes"] == f"{first} + {second}"
        lowered = response.origin is Origin.DEGRADED
        assert root == (0 if lowered else 1)
        judged = {(c.left, c.right): c.attribute for c in out.comparisons}
        assert judged[(twin, r) if lowered else (r, twin)] == second
        assert judged[(root, r) if lowered else (r, root)] == f"{first} + {second}"


def test_with_one_attribute_there_is_no_joint_intervention():
    account = Account()
    out = run(ScriptedOracle(names=("clarity",)), account, joint_per_pair=1)
    assert len(out.responses) == 4
    assert account.short["joint"] == 2


def test_a_rewrite_of_a_rewrite_is_compared_with_that_rewrite_alone():
    oracle = ScriptedOracle()
    out = run(oracle, rewritten_twice_per_pair=1)
    twice = [r for r, response in enumerate(out.responses) if response.metadata.get("recipe") == "rewritten twice"]
    assert len(twice) == 2
    for r in twice:
        _, once, root = line(out, r)
        assert root == (0 if out.responses[r].origin is Origin.UPGRADED else 1)
        (only,) = [c for c in out.comparisons if r in (c.left, c.right)]
        expected = (r, once) if out.responses[r].origin is Origin.UPGRADED else (once, r)
        assert (only.left, only.right, only.kind) == (*expected, Kind.CAUSAL)
        assert only.attribute == out.responses[once].attribute
    # Shown the answer it began as, a free writer would copy it.
    back = [r for r in oracle.asked if isinstance(r, Intervention) and r.text not in ("good answer", "bad answer")]
    assert [r.reference for r in back] == [None, None]


@pytest.mark.parametrize(("sides", "roots"), [(1, [0]), (2, [0, 1])])
def test_paraphrases_tie_with_what_they_paraphrase(sides, roots):
    out = run(degrade_per_pair=0, upgrade_per_pair=0, paraphrase_per_pair=sides)
    made = out.responses[2:]
    assert [(r.origin, r.parent, r.attribute) for r in made] == [(Origin.PARAPHRASED, root, None) for root in roots]
    ties = [(c.left, c.right, c.target) for c in out.comparisons if c.kind is Kind.NEUTRAL]
    assert ties == [(root, 2 + k, 0.5) for k, root in enumerate(roots)]


def test_the_offline_editor_makes_chains_and_says_what_it_cannot_do():
    text = "{} The river flows north. It is 6,650 km long. Anna Meyer saw it in 1903. It always reaches the sea."
    account = Account()
    recipes = set()
    for k in range(6):
        group = build_group(
            id=f"g{k}",
            prompt="How long is the river Nile and where does it flow?",
            responses=[text.format("The Nile is in Africa."), text.format("It is in Asia.")],
            comparisons=[Comparison(0, 1)],
        )
        out = run(OfflineEditor(), account, group, chain_steps=3, joint_per_pair=1, paraphrase_per_pair=1)
        recipes |= {r.metadata.get("recipe") for r in out.responses}
    assert recipes >= {None, "chain", "joint"}
    assert account.dropped["paraphrase", "no attribute", "no rule to paraphrase by"] == 6
    with pytest.raises(CromeError, match="does not judge"):
        run(OfflineEditor(), judge=True)


@pytest.mark.parametrize(("field", "value"), [("chain_steps", 0), ("align_per_pair", 2), ("causal_share", 1.5)])
def test_a_number_out_of_range_is_named(field, value):
    with pytest.raises(CromeError, match=f"Recipe.{field} is {value}"):
        Recipe(**{field: value})


def test_directions_are_told_apart():
    oracle = ScriptedOracle()
    run(oracle, align_per_pair=1, paraphrase_per_pair=1)
    assert oracle.counted() == {"Question": 1, **{str(direction): 1 for direction in Direction}}


@pytest.mark.parametrize("comparisons", [[Comparison(0, 1)], [Comparison(0, 1, target=0.5)], []])
def test_every_record_says_which_model_and_prompts_it_went_by_also_where_nothing_was_to_ask(comparisons):
    group = build_group(id="g", prompt="Why?", responses=["a", "b"], comparisons=comparisons, metadata={"kept": 1})
    oracle = ScriptedOracle()
    assert run(oracle, group=group).metadata == {"kept": 1, **oracle.provenance}
    assert run(OfflineEditor.of([group]), group=group).metadata == {"kept": 1}
