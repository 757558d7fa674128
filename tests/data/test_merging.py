"""Merging groups by prompt loses no comparison and encodes no response twice."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
from strategies import groups

from crome_jax.data.merging import merge_prompts
from crome_jax.groups import Comparison, Message, Origin, Response, build_group


def _judgements(several):
    return sorted(
        (
            repr(g.prompt),
            g.responses[c.left].text,
            g.responses[c.right].text,
            repr(dataclasses.replace(c, left=0, right=1)),
        )
        for g in several
        for c in g.comparisons
    )


@given(st.lists(groups(), max_size=6), st.data())
def test_every_judgement_is_kept_under_its_prompt(several, data):
    prompts = st.sampled_from([(Message("user", "one"),), (Message("user", "two"),)])
    several = [dataclasses.replace(g, prompt=data.draw(prompts)) for g in several]
    merged = merge_prompts(several)
    assert _judgements(merged) == _judgements(several)
    assert [g.prompt for g in merged] == list(dict.fromkeys(g.prompt for g in several))
    assert merge_prompts(merged) == merged


def test_equal_responses_are_shared_and_parents_follow():
    first = build_group(id="1", prompt="q", responses=["a", "b"], comparisons=[Comparison(0, 1)], metadata={"s": 1})
    made = Response("c", origin=Origin.UPGRADED, parent=0)
    second = build_group(
        id="2", prompt="q", responses=["b", made], comparisons=[Comparison(1, 0)], metadata={"s": 2, "t": 3}
    )
    [merged] = merge_prompts([first, second])
    assert [r.text for r in merged.responses] == ["a", "b", "c"]
    assert merged.responses[2].parent == 1
    assert [(c.left, c.right) for c in merged.comparisons] == [(0, 1), (2, 1)]
    assert (merged.id, merged.metadata) == ("1", {"s": 1, "t": 3})
