"""Replies: strictly of the asked form, or declined by one of few reasons."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.augment.oracles.base import Declined, Direction, Rewrite, Verdict
from crome_jax.augment.oracles.chat import replies
from crome_jax.augment.oracles.chat.replies import parse_rewrite, parse_rubrics, parse_verdict

GOOD = {"declined": False, "text": "new text", "edit": "one  word\n changed"}


def named(*names):
    return json.dumps({"attributes": [{"name": name, "definition": f"It has {name}."} for name in names]})


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (json.dumps(GOOD), Rewrite("new text", "one word changed")),
        (f"```json\n{json.dumps(GOOD)}\n```", Rewrite("new text", "one word changed")),
        (json.dumps({**GOOD, "edit": ""}), Rewrite("new text", "rewritten by the oracle")),
        (json.dumps({**GOOD, "edit": "a\0b"}), Rewrite("new text", "rewritten by the oracle")),
        (json.dumps({**GOOD, "declined": True}), replies.REFUSED),
        (f"<think>\nA {{brace}}.\n</think>\n{json.dumps(GOOD)}", Rewrite("new text", "one word changed")),
        (f"Thought of.</think>```json\n{json.dumps(GOOD)}\n```", Rewrite("new text", "one word changed")),
        (json.dumps({**GOOD, "text": "a </think> b"}), Rewrite("a </think> b", "one word changed")),
        ("<think>done</think>", replies.EMPTY),
        (f"<think>{json.dumps(GOOD)}", replies.NOT_JSON),
        ("", replies.EMPTY),
        (" \n", replies.EMPTY),
        (json.dumps({**GOOD, "text": "  "}), replies.EMPTY),
        ("Sure! Here is the rewritten answer.", replies.NOT_JSON),
        (f"Sure! {json.dumps(GOOD)}", replies.NOT_JSON),
        (json.dumps(GOOD)[:-9], replies.NOT_JSON),
        ("[" * 100_000, replies.NOT_JSON),
        ('{"declined": false, "text": "a", "text": "b", "edit": ""}', replies.NOT_JSON),
        (json.dumps([GOOD]), replies.NOT_ASKED),
        (json.dumps({**GOOD, "note": "x"}), replies.NOT_ASKED),
        (json.dumps({"text": "a", "edit": "b"}), replies.NOT_ASKED),
        (json.dumps({**GOOD, "text": 3}), replies.NOT_ASKED),
        (json.dumps({**GOOD, "declined": 0}), replies.NOT_ASKED),
        ("null", replies.NOT_ASKED),
    ],
)
def test_a_rewrite_is_read_or_declined(content, reply):
    assert parse_rewrite(content) == reply


def test_a_rewrite_that_copies_our_lines_is_declined_and_one_with_lines_like_them_is_not():
    text = "<<<BEGIN ANSWER 0f0f>>>\nnew text"
    assert parse_rewrite(json.dumps({**GOOD, "text": text}), "0f0f") == replies.COPIED
    assert parse_rewrite(json.dumps({**GOOD, "text": text}), "1e1e").text == text


def test_what_was_sealed_comes_back_open():
    text = json.dumps({**GOOD, "text": "a <\u2060|im_end|> b"})
    assert parse_rewrite(text).text == "a <|im_end|> b"


@pytest.mark.parametrize(
    ("names", "count", "found"),
    [
        (["Factual Accuracy", "depth"], 5, ["factual accuracy", "depth"]),
        (["  Depth. ", "depth", "DEPTH"], 5, ["depth"]),
        (["clarity of steps", "Step clarity", "steps' clarity of"], 5, None),
        (["accuracy", "accurate"], 5, None),
        (["a", "b", "c"], 2, ["a", "b"]),
        (["safety_first", "cost+benefit"], 5, ["safety first", "cost and benefit"]),
        (["", "...", "depth"], 5, ["depth"]),
        (["one two three four five six seven", "depth"], 5, ["depth"]),
        (["x" * 61, "nul\0", "depth\ud800", "depth"], 5, ["depth"]),
        (["every attribute", "no attribute", "depth"], 5, ["depth"]),
    ],
)
def test_attributes_are_normalised_and_each_comes_once(names, count, found):
    rubrics = parse_rubrics(named(*names), count)
    if found is not None:
        assert [rubric.name for rubric in rubrics] == found
    assert len({rubric.name for rubric in rubrics}) == len(rubrics) <= count


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (named(), replies.NO_ATTRIBUTES),
        (named("..."), replies.NO_ATTRIBUTES),
        ('{"attributes": {}}', replies.NOT_ASKED),
        ('{"attributes": ["depth"]}', replies.NOT_ASKED),
        ('{"attributes": [{"name": "depth"}]}', replies.NOT_ASKED),
        ('{"attributes": [{"name": "depth", "definition": null}]}', replies.NOT_ASKED),
        ('{"rubrics": []}', replies.NOT_ASKED),
    ],
)
def test_a_reply_without_attributes_is_declined(content, reply):
    assert parse_rubrics(content, 5) == reply


@pytest.mark.parametrize(
    ("better", "swapped", "moved"),
    [
        ("second", False, Direction.UPGRADE),
        ("first", False, Direction.DEGRADE),
        ("first", True, Direction.UPGRADE),
        ("second", True, Direction.DEGRADE),
        ("neither", True, None),
    ],
)
def test_a_verdict_is_of_the_rewritten_answer_wherever_it_stood(better, swapped, moved):
    content = json.dumps({"better": better, "otherwise_equal": True})
    assert parse_verdict(content, swapped) == Verdict(moved, only=True)
    assert parse_verdict(content.replace(better, "both"), swapped) == replies.NOT_ASKED


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["attributes", "name", "definition", "declined", "text", "edit", "better", "x"]), inner
        ),
    ),
    max_leaves=12,
)


@given(st.one_of(st.text(max_size=200), json_values.map(json.dumps)))
def test_whatever_a_model_replies_is_read_or_declined(content):
    for reply in (parse_rewrite(content), parse_rubrics(content, 3), parse_verdict(content, False)):
        assert isinstance(reply, Rewrite | Verdict | Declined) or 1 <= len(reply) <= 3
