"""Strata worked out by hand; the cue points the other way when the sides change places."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.evaluation.strata import CUE, LENGTH, MARKDOWN, markdown_count, stratify
from crome_jax.groups import Comparison, Response, build_group


def _group(left, right, **metadata):
    return build_group(
        id="g", prompt="why?", responses=[left, right], comparisons=[Comparison(0, 1)], metadata=metadata
    )


@pytest.mark.parametrize(
    ("words", "stratum"),
    [((10, 9), "equal"), ((10, 8), "longer_preferred"), ((8, 10), "shorter_preferred"), ((100, 90), "equal")],
)
def test_length(words, stratum):
    texts = [" ".join([word] * n) for word, n in zip("ab", words, strict=True)]
    assert stratify(_group(*texts), 0, 1)["length"] == stratum


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("plain text - with a dash, 2 * 3 and a_name_here", 0),
        ("- one\n- two\n* three\n  + four", 4),
        ("1. one\n2) two\n2024 was a year", 2),
        ("# Title\n\n### Part\n#hashtag", 2),
        ("some **bold** and __more bold__, not ** this **", 2),
        ("- **Point.** Text", 2),
    ],
)
def test_markdown_count(text, count):
    # A bullet that starts with a bold word is a bullet and a bold span.
    assert markdown_count(text) == count


def test_markdown_stratum():
    assert stratify(_group("- a\n- b", "a b"), 0, 1)["markdown"] == "more_preferred"
    assert stratify(_group("- a\n- b", "a b"), 1, 0)["markdown"] == "less_preferred"
    assert stratify(_group("# a", "**b**"), 0, 1)["markdown"] == "equal"


def test_listed_attributes():
    left = Response("one", metadata={"long": True, "emoji": True, "flattery": False, "unlisted": True})
    right = Response("two", metadata={"long": False, "emoji": True, "flattery": True})
    strata = stratify(_group(left, right, spurious_attributes="long, emoji,flattery"), 0, 1)
    # Two of the listed attributes on either side.
    assert strata["cue"] == "balanced"
    assert strata["attribute:long"] == "cue_for_chosen"
    assert strata["attribute:emoji"] == "balanced"
    assert strata["attribute:flattery"] == "cue_for_rejected"
    assert "attribute:unlisted" not in strata


def test_an_attribute_that_a_response_does_not_state_is_in_no_stratum():
    left, right = Response("one", metadata={"long": True, "emoji": True}), Response("two", metadata={"long": False})
    strata = stratify(_group(left, right, spurious_attributes="long,emoji"), 0, 1)
    assert strata["attribute:long"] == "cue_for_chosen"
    assert "attribute:emoji" not in strata
    assert "cue" not in strata


_marked = st.lists(st.sampled_from(["word", "- item\n", "**bold**", "\n# head\n", "a b c"]), min_size=1).map(" ".join)


@given(st.lists(_marked, min_size=2, max_size=2, unique=True), st.lists(st.booleans(), min_size=4, max_size=4))
def test_changing_sides_turns_every_cue_round(texts, flags):
    responses = [
        Response(text, metadata={"a": a, "b": b}) for text, a, b in zip(texts, flags[:2], flags[2:], strict=True)
    ]
    group = _group(*responses, spurious_attributes="a,b")
    there, back = stratify(group, 0, 1), stratify(group, 1, 0)
    families = {"length": LENGTH, "markdown": MARKDOWN}
    assert set(there) == {"cue", "length", "markdown", "attribute:a", "attribute:b"}
    for family, stratum in there.items():
        names = families.get(family, CUE)
        assert names.index(back[family]) == 2 - names.index(stratum)
