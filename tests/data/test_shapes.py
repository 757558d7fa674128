"""Every shape in which data sets write comparisons is read for what it says, and nothing else is."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import full_texts, groups, json_values

from crome_jax.data.shapes import group_from_record
from crome_jax.errors import DataError
from crome_jax.groups import Kind, Message, PreferenceGroup, to_dict

USER = Message("user", "Why?")
TURNS = (Message("system", "Be kind."), Message("user", "Hi."), Message("assistant", "Hello."), USER)


def _read(record):
    return group_from_record(record, "file-1")


def _said(role, content):
    return {"role": role, "content": content}


def _dicts(turns):
    return [_said(m.role, m.content) for m in turns]


def _sharegpt(turns):
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return [{"from": names[m.role], "value": m.content} for m in turns]


def _hh(turns):
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[m.role]}: {m.content}" for m in turns)


YES, NO = _said("assistant", "good"), _said("assistant", "bad")
TALKS = tuple(f"\n\nHuman: Why?\n\nAssistant: {answer}" for answer in ("good", "bad"))


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"prompt": "Why?", "chosen": "good", "rejected": "bad"}, (USER,)),
        ({"question": "Why?", "system": "Be kind.", "chosen": "good", "rejected": "bad"}, (TURNS[0], USER)),
        (
            {"instruction": "Why", "input": "this?", "chosen": "good", "rejected": "bad"},
            (Message("user", "Why\n\nthis?"),),
        ),
        ({"instruction": "Why?", "input": "", "chosen": "good", "rejected": "bad"}, (USER,)),
        (
            {"instruction": "Why?", "history": [["Hi.", "Hello."]], "chosen": "good", "rejected": "bad"},
            TURNS[1:],
        ),
        ({"prompt": _dicts(TURNS), "chosen": "good", "rejected": "bad"}, TURNS),
        ({"prompt": _dicts(TURNS), "chosen": [YES], "rejected": [NO]}, TURNS),
        ({"prompt": _dicts(TURNS), "chosen": YES, "rejected": NO}, TURNS),
        ({"chosen": [*_dicts(TURNS), YES], "rejected": [*_dicts(TURNS), NO]}, TURNS),
        ({"prompt": "Why?", "chosen": [*_dicts(TURNS), YES], "rejected": [*_dicts(TURNS), NO]}, TURNS),
        ({"prompt": _dicts(TURNS), "chosen": [*_dicts(TURNS), YES], "rejected": [*_dicts(TURNS), NO]}, TURNS),
        ({"prompt": _dicts(TURNS), "chosen": [*_dicts([USER]), YES], "rejected": [*_dicts([USER]), NO]}, TURNS),
        (  # The system turn is the prompt's alone, the later turns are the conversations'.
            {"prompt": _dicts(TURNS[:2]), "chosen": [*_dicts(TURNS[1:]), YES], "rejected": [*_dicts(TURNS[1:]), NO]},
            TURNS,
        ),
        (  # The continuation may share turns of its own.
            {"prompt": _dicts(TURNS[:2]), "chosen": [*_dicts(TURNS[2:]), YES], "rejected": [*_dicts(TURNS[2:]), NO]},
            TURNS,
        ),
        (
            {
                "conversations": _sharegpt(TURNS),
                "chosen": {"from": "gpt", "value": "good"},
                "rejected": {"from": "gpt", "value": "bad"},
            },
            TURNS,
        ),
        (
            {
                "system": "Be kind.",
                "conversations": _sharegpt(TURNS[1:]),
                "chosen": {"from": "gpt", "value": "good"},
                "rejected": {"from": "gpt", "value": "bad"},
            },
            TURNS,
        ),
        (
            {
                "chosen": _hh(TURNS[1:]) + "\n\nAssistant: good",
                "rejected": _hh(TURNS[1:]) + "\n\nAssistant: bad",
            },
            TURNS[1:],
        ),
        ({"prompt": _hh(TURNS[1:]) + "\n\nAssistant:", "chosen": "good", "rejected": "bad"}, TURNS[1:]),
        *(  # Whole transcripts beside a prompt: HH's own beginning of them, their first question, or all they share.
            (
                {
                    **prompt,
                    "chosen": _hh(TURNS[1:]) + "\n\nAssistant: good",
                    "rejected": _hh(TURNS[1:]) + "\n\nAssistant: bad",
                },
                turns,
            )
            for prompt, turns in (
                ({"prompt": _hh(TURNS[1:]) + "\n\nAssistant:"}, TURNS[1:]),
                ({"prompt": _hh(TURNS[1:2])}, TURNS[1:]),
                ({"prompt": "Hi.\n"}, TURNS[1:]),
                ({"prompt": "Hi.", "system": "Be kind."}, TURNS),
                ({"instruction": "Why?", "history": [["Hi.", "Hello."]]}, TURNS[1:]),
                ({"messages": _dicts(TURNS)}, TURNS),
            )
        ),
        (
            {
                "chosen": "\n\nHuman: a\n\nHuman: b\n\nAssistant: good",
                "rejected": "\n\nHuman: a\n\nHuman: b\n\nAssistant: bad",
            },
            (Message("user", "a\n\nb"),),
        ),
        ({"input": "Why?", "output_1": "bad", "output_2": "good", "label": 2}, (USER,)),
        ({"question": "Why?", "response_A": "good", "response_B": "bad", "label": "A>B"}, (USER,)),
        ({"question": "Why?", "response_A": "bad", "response_B": "good", "label": "B>A"}, (USER,)),
        ({"prompt": "Why?", "response1": "bad", "response2": "good", "label": "1<2"}, (USER,)),
        (
            {"scenario": "s", "prompt": "Why?", "response 1": "bad", "response 2": "good", "label": 1},
            (USER,),
        ),
        ({"prompt": "Why?", "responses": ["bad", "good"], "scores": [1, 2.5]}, (USER,)),
        ({"prompt": "Why?", "responses": ["bad", "good"], "rankings": [2, 1]}, (USER,)),
        (
            {
                "instruction": "Why?",
                "completions": [{"response": "bad", "overall_score": 1}, {"response": "good", "overall_score": 7}],
            },
            (USER,),
        ),
        ({"prompt": "Why?", "responses": [{"text": "good", "rank": 1}, {"text": "bad", "rank": 2}]}, (USER,)),
        # Nectar's.
        ({"prompt": "Why?", "answers": [{"answer": "bad", "rank": 7}, {"answer": "good", "rank": 1}]}, (USER,)),
        (
            {"prompt": "Why?", "responses": ["bad", {"text": "good"}], "comparisons": [{"left": 1, "right": 0}]},
            (USER,),
        ),
        (
            {"prompt": _dicts(TURNS), "responses": ["bad", "good"], "comparisons": [{"left": 1, "right": 0}]},
            TURNS,
        ),
        ({"prompt": "Why?", "chosen": ["good"], "rejected": ["bad"]}, (USER,)),
    ],
)
def test_a_preference_is_read_from_every_shape(record, prompt):
    group = _read(record)
    assert group.prompt == prompt
    [c] = group.comparisons
    assert (group.responses[c.left].text, group.responses[c.right].text, c.target) == ("good", "bad", 1.0)
    assert (c.kind, c.weight, c.margin) == (Kind.HUMAN, 1.0, 0.0)
    assert group.id == "file-1"


@given(groups())
def test_own_groups_are_read_as_they_are(group):
    assert _read(to_dict(group)) == group


@pytest.mark.parametrize("extra", [{}, {"id": "a"}, {"category": "chat"}, {"id": 7}, {"id": "a", "weight": 2}])
@pytest.mark.parametrize("responses", [["bad", "good"], [{"text": "bad"}, {"text": "good"}]])
def test_comparisons_of_another_data_set_are_no_group_of_ours(extra, responses):
    record = {"prompt": _dicts(TURNS), "responses": responses, "comparisons": [{"left": 1, "right": 0}]} | extra
    group = _read(record)
    assert (group.id, group.prompt) == (str(extra.get("id", "file-1")), TURNS)
    assert [response.text for response in group.responses] == ["bad", "good"]
    assert group.metadata == {name: value for name, value in extra.items() if name == "category"}


OWN = {
    "id": "a",
    "prompt": _dicts([USER]),
    "responses": [{"text": "good"}, {"text": "bad", "origin": "degraded", "parent": 0}],
    "comparisons": [{"left": 0, "right": 1, "kind": "causal"}],
}
DAMAGED = [
    ({"id": None}, "id", "is missing"),
    ({"responses": None}, "responses", "is missing"),
    ({"weight": 2}, "weight", "is no field of a group"),
    ({"responses": ["x", OWN["responses"][1]]}, "responses[0]", "is str, not an object"),
    ({"responses": [{"text": "x", "origin": "found"}]}, "responses[0].origin", "is 'found'"),
    ({"responses": [{"text": "x", "orign": "edit"}]}, "responses[0].orign", "is no field of"),
]


@pytest.mark.parametrize(("change", "field", "problem"), DAMAGED)
def test_a_damaged_group_of_ours_is_refused_as_one(change, field, problem):
    with pytest.raises(DataError) as caught:
        _read(OWN | change)
    assert caught.value.field == field
    assert problem in caught.value.problem


@given(full_texts, st.lists(st.tuples(full_texts, st.integers(0, 3)), min_size=2, max_size=5, unique_by=lambda r: r[0]))
def test_scored_responses_are_compared_in_every_pair(prompt, scored):
    texts, scores = [text for text, _ in scored], [score for _, score in scored]
    by_score = _read({"prompt": prompt, "responses": texts, "scores": scores})
    by_rank = _read({"prompt": prompt, "responses": texts, "ranks": [-score for score in scores]})
    inside = _read({"prompt": prompt, "responses": [{"text": t, "score": s} for t, s in scored]})
    assert by_score == by_rank
    assert inside.comparisons == by_score.comparisons
    assert len(by_score.comparisons) == len(scored) * (len(scored) - 1) / 2
    for c in by_score.comparisons:
        assert c.target == (0.5 if scores[c.left] == scores[c.right] else 1.0)
        assert scores[c.left] >= scores[c.right]


@pytest.mark.parametrize(
    ("texts", "scores", "expected"),
    [
        ("aabc", [2, 3, 1, 0], [("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 1.0)]),
        ("aab", [2, 2, 1], [("a", "b", 1.0)]),
        ("abca", [1, 2, 3, 5], [("a", "b", 1.0), ("a", "c", 0.5), ("c", "b", 1.0)]),
        ("aaab", [0.1, 0.1, 0.1, 0.1], [("a", "b", 0.5)]),
    ],
)
def test_equal_texts_are_one_response_with_their_mean_score(texts, scores, expected):
    group = _read({"prompt": "Why?", "responses": list(texts), "scores": scores})
    assert [r.text for r in group.responses] == sorted(set(texts))
    assert [(group.responses[c.left].text, group.responses[c.right].text, c.target) for c in group.comparisons] == (
        expected
    )


def test_several_styles_are_compared_each_with_each():
    group = _read({"prompt": "Why?", "chosen": ["c0", "c1", "c2"], "rejected": ["r0", "r1", "r1"]})
    named = [(group.responses[c.left].text, group.responses[c.right].text) for c in group.comparisons]
    assert named == list(itertools.product(["c0", "c1", "c2"], ["r0", "r1", "r1"]))
    assert [r.metadata["style"] for r in group.responses] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("label", ["A=B", "2=1", 2])
def test_a_tie_is_a_target_of_one_half(label):
    record = {"scenario": "s", "prompt": "Why?", "response 1": "a", "response 2": "b", "label": label}
    [comparison] = _read(record).comparisons
    assert comparison.target == 0.5


def test_several_annotators_share_one_weight():
    votes = {"annotator1": 1, "annotator2": 2, "annotator3": 0}
    group = _read({"instruction": "Why?", "input": "", "response1": "a", "response2": "b", **votes})
    assert [(c.left, c.right, c.target) for c in group.comparisons] == [(0, 1, 1.0), (1, 0, 1.0), (0, 1, 0.5)]
    assert sum(c.weight for c in group.comparisons) == pytest.approx(1.0, abs=1e-15)  # Three thirds, rounded.


def test_equal_responses_become_one():
    record = {"prompt_id": 7, "prompt": "Why?", "responses": [{"text": "a"}, {"text": "b"}, {"text": "a"}]}
    group = _read(record | {"comparisons": [{"left": 0, "right": 1}, {"left": 1, "right": 2, "target": 0.0}]})
    assert [r.text for r in group.responses] == ["a", "b"]
    assert [(c.left, c.right, c.target) for c in group.comparisons] == [(0, 1, 1.0), (1, 0, 0.0)]


def test_numbers_and_facts_are_kept_where_they_belong():
    record = {
        "id": 12,
        "prompt": "Why?",
        "chosen": "good",
        "rejected": "bad",
        "margin": 2,
        "weight": 0.5,
        "category": "chat",
        "score_chosen": 9.0,
        "rejected_model": "m",
        "tags": ["dropped"],
        "absent": None,
        "metadata": {"source": "web", "nested": {}},
    }
    group = _read(record)
    assert group.id == "12"
    assert group.metadata == {"category": "chat", "source": "web"}
    assert [r.metadata for r in group.responses] == [{"score": 9.0}, {"model": "m"}]
    assert (group.comparisons[0].margin, group.comparisons[0].weight) == (2.0, 0.5)


PAIR = {"prompt": "Why?", "chosen": "good", "rejected": "bad"}
SCORED = {"prompt": "Why?", "responses": ["a", "b"], "scores": [1, 2]}
LABELLED = {"prompt": "Why?", "response1": "a", "response2": "b", "label": "1>2"}
COMPARED = {"prompt": "Why?", "responses": ["a", "b"], "comparisons": [{"left": 0, "right": 1}]}


@pytest.mark.parametrize("record", [PAIR, SCORED, LABELLED, PAIR | {"chosen": ["a", "b"], "rejected": ["c"]}])
def test_a_margin_is_that_of_every_comparison(record):
    assert {c.margin for c in _read(record | {"margin": 2}).comparisons} == {2.0}


@pytest.mark.parametrize(
    ("record", "field", "problem"),
    [
        ([1], None, "is list, not an object"),
        ("text", None, "is str, not an object"),
        ({}, None, "has no shape that is known; its fields are no field"),
        ({"question": "Why?", "answer": "So."}, None, "its fields are 'question', 'answer'"),
        (PAIR | {"chosen": None}, "chosen", "is missing"),
        ({"prompt": "Why?", "chosen": "good"}, "rejected", "is missing"),
        ({"chosen": "good", "rejected": "bad"}, "prompt", "is missing"),
        (PAIR | {"prompt": ""}, "prompt", "is empty"),
        (PAIR | {"prompt": 3}, "prompt", "is int, not text"),
        (PAIR | {"prompt": []}, "prompt", "is list, not text"),
        (PAIR | {"prompt": [NO]}, "prompt", "ends with the assistant's turn"),
        (PAIR | {"prompt": [_said("tool", "x")]}, "prompt[0].role", "is 'tool', not one of"),
        (PAIR | {"prompt": [{"role": "user"}]}, "prompt[0].content", "is missing"),
        (PAIR | {"prompt": [{"role": "user", "content": ["x"]}]}, "prompt[0].content", "is list, not text"),
        (PAIR | {"chosen": " \n"}, "chosen", "is empty"),
        (PAIR | {"rejected": ""}, "rejected", "is empty"),
        (PAIR | {"rejected": "good"}, "rejected", "is identical to 'chosen'"),
        (PAIR | {"rejected": 1.5}, "rejected", "is float, not text"),
        (PAIR | {"rejected": "a\0b"}, "rejected", "NUL"),
        (PAIR | {"chosen": "\ud800"}, "chosen", "lone surrogate"),
        (PAIR | {"id": True}, "id", "is bool"),
        (PAIR | {"id": 1.5}, "id", "is float"),
        (PAIR | {"id": " "}, "id", "is empty"),
        (PAIR | {"margin": "big"}, "margin", "is str, not a finite number"),
        (PAIR | {"margin": -1}, "comparisons[0].margin", "outside"),
        (PAIR | {"weight": float("nan")}, "weight", "is nan, not a finite number"),
        (PAIR | {"weight": 10**400}, None, "too large"),
        (PAIR | {"category": "\ud800"}, "metadata", "lone surrogate"),
        (PAIR | {"system": 3}, "system", "is int, not text"),
        (PAIR | {"history": [["one"]]}, "history[0]", "is no [question, answer] pair"),
        (PAIR | {"history": 5}, "history", "is int, not a list"),
        (PAIR | {"history": True}, "history", "is bool, not a list"),
        (PAIR | {"history": 1e300}, "history", "is float, not a list"),
        (PAIR | {"chosen": [], "rejected": ["a"]}, "chosen", "is empty"),
        (PAIR | {"chosen": ["a"], "rejected": ["b", 1]}, "rejected[1]", "is int, not text"),
        (PAIR | {"chosen": ["a"], "rejected": ["a"]}, "comparisons[0]", "prefers a response to its equal"),
        (PAIR | {"chosen": [YES]}, "rejected", "is str, not a list of messages"),
        ({"chosen": [YES], "rejected": [NO]}, "prompt", "no earlier turn"),
        ({"chosen": [_said("user", "x")], "rejected": [NO]}, "chosen", "does not end with the assistant's turn"),
        (
            {"chosen": [_said("user", "x"), YES], "rejected": [_said("user", "y"), NO]},
            "rejected",
            "differ before their last turn",
        ),
        (
            {"prompt": "Who?", "chosen": [_said("user", "x"), YES], "rejected": [_said("user", "x"), NO]},
            "prompt",
            "is no part of the conversations",
        ),
        (
            {
                "prompt": [_said("system", "one"), _said("user", "x")],
                "chosen": [_said("system", "other"), _said("user", "x"), YES],
                "rejected": [_said("system", "other"), _said("user", "x"), NO],
            },
            "prompt",
            "is no part of the conversations",
        ),
        ({"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: a"}, "chosen", "does not end with the assistant's turn"),
        ({"prompt": "Who?", "chosen": TALKS[0], "rejected": TALKS[1]}, "prompt", "is no part of the conversations"),
        ({"prompt": "Why?", "chosen": TALKS[0], "rejected": "bad"}, "rejected", "is no transcript"),
        ({"prompt": "Why?", "chosen": "good", "rejected": TALKS[1]}, "chosen", "is no transcript"),
        ({"prompt": "Why?", "chosen": TALKS[0], "rejected": 3}, "rejected", "is no transcript"),
        ({"chosen": TALKS[0], "rejected": "bad"}, "rejected", "is no transcript"),
        (SCORED | {"responses": "a"}, "responses", "is str, not a list"),
        (SCORED | {"responses": ["a"], "scores": [1]}, "responses", "fewer than two"),
        (SCORED | {"responses": ["a", "a"]}, "responses", "fewer than two different"),
        (SCORED | {"responses": [{"words": "a"}, "b"]}, "responses[0]", "holds none of text"),
        (SCORED | {"scores": [1]}, "scores", "is no list of 2 numbers"),
        (SCORED | {"responses": ["a", "b", "c"], "scores": [1, 2, 3], "margin": 1}, "margin", "several comparisons"),
        (SCORED | {"scores": [1, None]}, "scores[1]", "is NoneType, not a finite number"),
        (SCORED | {"scores": None}, "responses[0]", "has no score"),
        (COMPARED | {"comparisons": {}}, "comparisons", "is dict, not a list"),
        (COMPARED | {"comparisons": [7]}, "comparisons[0]", "is int, not an object"),
        (COMPARED | {"comparisons": [{"left": 0}]}, "comparisons[0].right", "is no index"),
        (COMPARED | {"comparisons": [{"left": 0, "right": 2}]}, "comparisons[0].right", "no index of a response"),
        (COMPARED | {"comparisons": [{"left": 0, "right": 1, "kind": []}]}, "comparisons[0].kind", "is [], not one of"),
        (LABELLED | {"label": None}, "label", "is missing"),
        (LABELLED | {"label": 1}, "label", "does not say surely which response is better"),
        (LABELLED | {"label": "first"}, "label", "does not say surely"),
        (LABELLED | {"response2": "a"}, "response2", "is identical to 'response1'"),
        ({"input": "Why?", "output_1": "a", "output_2": "b", "label": 0}, "label", "is 0, not one of 1, 2"),
        (LABELLED | {"label": None, "annotator1": 3}, "annotator1", "is 3, not one of"),
    ],
)
def test_what_is_wrong_is_named(record, field, problem):
    with pytest.raises(DataError) as caught:
        _read(record)
    assert problem in caught.value.problem
    assert (caught.value.field or "").startswith(field or "")
    assert (field is None) == (caught.value.field is None)


def test_an_unknown_shape_is_answered_with_those_known():
    with pytest.raises(DataError, match=r"write one of: \{prompt, chosen, rejected\}.*own groups"):
        _read({"text": "what is this?"})


def test_a_weight_of_a_record_is_of_the_comparisons_that_say_none():
    comparisons = [{"left": 0, "right": 1}, {"left": 1, "right": 0, "weight": 3, "margin": 0}]
    group = _read(COMPARED | {"comparisons": comparisons, "weight": 0.5, "margin": 2})
    assert [(c.weight, c.margin) for c in group.comparisons] == [(0.5, 2.0), (3.0, 0.0)]
    with pytest.raises(DataError, match="'weight' is str"):
        _read(COMPARED | {"weight": "much"})


SHAPES = [PAIR, SCORED, LABELLED, COMPARED, {"chosen": [_said("user", "x"), YES], "rejected": [_said("user", "x"), NO]}]
NAMES = sorted({name for shape in SHAPES for name in shape} | {"id", "system", "history", "conversations", "metadata"})


@given(st.sampled_from(SHAPES), st.dictionaries(st.sampled_from(NAMES), json_values, max_size=3))
def test_whatever_the_fields_hold_the_answer_is_a_group_or_a_data_error(record, replaced):
    try:
        group = _read(record | replaced)
    except DataError:
        return
    assert isinstance(group, PreferenceGroup)
