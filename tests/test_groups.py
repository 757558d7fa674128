"""The laws of groups: bytes and back, equal responses are one, and nothing wrong gets in."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import full_texts, groups, json_values

from crome_jax.errors import DataError
from crome_jax.groups import (
    Comparison,
    Message,
    Origin,
    PreferenceGroup,
    Response,
    build_group,
    from_dict,
    from_json,
    prompt_text,
    to_dict,
    to_json,
)

GROUP = build_group(
    id="g1",
    prompt=[Message("system", "Be brief."), Message("user", "Why is the sky blue?")],
    responses=[
        "Rayleigh scattering.",
        Response(
            "Magic.", origin=Origin.DEGRADED, parent=0, attribute="factuality", edit="replaced", metadata={"n": 1}
        ),
    ],
    comparisons=[Comparison(0, 1, margin=0.5, attribute="factuality")],
    metadata={"source": "test"},
)


@given(groups())
def test_json_and_back_is_the_same_group(group):
    line = to_json(group)
    assert from_json(line) == group
    assert "\n" not in line


@given(groups())
def test_equal_groups_have_equal_bytes(group):
    shuffled = dataclasses.replace(group, metadata=dict(reversed(group.metadata.items())))
    assert to_json(shuffled) == to_json(group)
    assert to_json(from_json(to_json(group))) == to_json(group)


@given(json_values)
def test_any_json_value_is_a_group_or_a_data_error(value):
    with pytest.raises(DataError):
        from_dict(value)


@given(st.data())
def test_a_group_with_one_value_replaced_is_a_group_or_a_data_error(data):
    record = json.loads(to_json(GROUP))
    place = record
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(json_values)
    try:
        group = from_dict(record)
    except DataError:
        return
    assert from_dict(to_dict(group)) == group


@given(st.text())
def test_any_line_is_a_group_or_a_data_error(line):
    with pytest.raises(DataError):
        from_json(line)


@given(st.lists(full_texts, min_size=1, max_size=6), st.data())
def test_equal_responses_become_one_and_comparisons_follow(texts, data):
    index = st.integers(0, len(texts) - 1)
    pairs = [p for p in data.draw(st.lists(st.tuples(index, index), max_size=5)) if texts[p[0]] != texts[p[1]]]
    group = build_group(
        id="g", prompt="q", responses=texts, comparisons=[Comparison(left, right) for left, right in pairs]
    )
    assert [r.text for r in group.responses] == list(dict.fromkeys(texts))
    compared = [(group.responses[c.left].text, group.responses[c.right].text) for c in group.comparisons]
    assert compared == [(texts[left], texts[right]) for left, right in pairs]


def test_a_tie_of_equals_is_dropped_and_a_preference_is_an_error():
    tie = build_group(id="g", prompt="q", responses=["a", "a"], comparisons=[Comparison(0, 1, target=0.5)])
    assert tie.comparisons == ()
    with pytest.raises(DataError, match=r"comparisons\[0\].*prefers a response to its equal"):
        build_group(id="g", prompt="q", responses=["a", "a"], comparisons=[Comparison(0, 1)])


def test_parents_follow_when_responses_become_one():
    made = Response("c", origin=Origin.UPGRADED, parent=2)
    group = build_group(id="g", prompt="q", responses=["a", "a", "b", made], comparisons=[])
    assert group.responses[2].parent == 1
    itself = build_group(id="g", prompt="q", responses=["a", Response("a", parent=0)], comparisons=[])
    assert itself.responses[0].parent is None


def test_the_question_is_the_last_turn_of_the_user():
    turns = [Message("user", "first"), Message("assistant", "answer"), Message("user", "second")]
    assert prompt_text(turns) == "second"


def _with(**fields):
    return lambda: dataclasses.replace(GROUP, **fields)


def _with_response(**fields):
    return _with(responses=(dataclasses.replace(GROUP.responses[0], **fields), GROUP.responses[1]))


def _with_comparison(**fields):
    return _with(comparisons=(dataclasses.replace(GROUP.comparisons[0], **fields),))


@pytest.mark.parametrize(
    ("make", "field", "problem"),
    [
        (_with(id=" "), "id", "is empty"),
        (_with(id=7), "id", "is int, not text"),
        (_with(prompt=()), "prompt", "is empty"),
        (_with(prompt=(Message("user", " "),)), "prompt", "is empty"),
        (_with(prompt=(Message("user", "q"), Message("assistant", "a"))), "prompt", "ends with the assistant's turn"),
        (_with(prompt=(Message("tool", "q"),)), "prompt[0].role", "is 'tool'"),
        (_with(prompt=(Message("user", "\ud800"),)), "prompt[0].content", "lone surrogate (U+D800)"),
        (_with_response(text=""), "responses[0].text", "is empty"),
        (_with_response(text="a\0b"), "responses[0].text", "NUL"),
        (_with_response(text="a\udfff"), "responses[0].text", "lone surrogate (U+DFFF)"),
        (_with_response(text=GROUP.responses[1].text), "responses", "twice"),
        (_with_response(parent=2), "responses[0].parent", "no index of a response"),
        (_with_response(edit="\ud800"), "responses[0].edit", "lone surrogate"),
        (_with_response(metadata={"a": []}), "responses[0].metadata['a']", "is list"),
        (_with_comparison(left=-1), "comparisons[0].left", "no index of a response"),
        (_with_comparison(right=2), "comparisons[0].right", "no index of a response"),
        (_with_comparison(right=0), "comparisons[0]", "compares a response with itself"),
        (_with_comparison(target=1.5), "comparisons[0].target", "outside [0, 1]"),
        (_with_comparison(target=float("nan")), "comparisons[0].target", "is nan"),
        (_with_comparison(weight=-1.0), "comparisons[0].weight", "outside"),
        (_with_comparison(margin=float("inf")), "comparisons[0].margin", "is inf"),
        (_with(metadata={"a": float("nan")}), "metadata['a']", "not finite"),
        (_with(metadata={"a": "\0"}), "metadata['a']", "NUL"),
    ],
)
def test_what_is_wrong_is_named(make, field, problem):
    with pytest.raises(DataError) as caught:
        make()
    assert problem in caught.value.problem
    if "metadata" not in field:  # A metadata's text is named by the metadata it is in.
        assert caught.value.field == field
    assert caught.value.field.startswith(field.partition("['")[0])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": None}, "id"),
        ({"surprise": 1}, "surprise"),
        ({"prompt": "text"}, "prompt"),
        ({"prompt": [{"role": "user"}]}, "prompt[0].content"),
        ({"responses": [{"text": 3}]}, "responses[0].text"),
        ({"responses": [{"text": "a", "origin": "found"}]}, "responses[0].origin"),
        ({"comparisons": [{"left": 0}]}, "comparisons[0].right"),
        ({"comparisons": [{"left": 0, "right": 1, "kind": "odd"}]}, "comparisons[0].kind"),
        ({"comparisons": [{"left": True, "right": 1}]}, "comparisons[0].left"),
        ({"comparisons": [{"left": 0, "right": 1, "weight": "1"}]}, "comparisons[0].weight"),
    ],
)
def test_a_mistyped_missing_or_unknown_field_is_named(change, field):
    record = to_dict(GROUP) | change
    if change == {"id": None}:
        del record["id"]
    with pytest.raises(DataError) as caught:
        from_dict(record)
    assert caught.value.field == field


def test_an_error_says_where_what_and_how_to_mend_it():
    with pytest.raises(DataError) as caught:
        PreferenceGroup("g", (), (), ())
    assert str(caught.value.at("prefs.jsonl", 812)) == (
        "record 812 of prefs.jsonl: 'prompt' is empty; mend or drop the record, or pass --skip-bad"
    )
