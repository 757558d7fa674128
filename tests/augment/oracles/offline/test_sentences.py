import pytest
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.augment.oracles.offline.sentences import Layout, parse

PIECES = [
    "A b. ",
    "C d!\n",
    "- item one\n",
    "1. step. Then more.\n",
    "```\n",
    "x = 1;\n",
    "**Bold:** ",
    "# Head\n",
    "\n\n",
    "| a |",
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
def test_the_sentences_join_to_the_text(text):
    assert str(parse(text)) == text


def test_markers_and_labels_stand_apart_from_the_words():
    document = parse(
        "Try this:\n\n1. **Heat**: Warm the oven. Wait.\n- Serve it, e.g. with rice.\n## End\nDone at 3.5 p.m. today."
    )
    assert [(s.lead, s.text, s.layout) for s in document.sentences] == [
        ("", "Try this:", Layout.INTRODUCTION),
        ("\n\n1. **Heat**: ", "Warm the oven.", Layout.ITEM),
        (" ", "Wait.", Layout.ITEM),
        ("\n- ", "Serve it, e.g. with rice.", Layout.ITEM),
        ("\n## ", "End", Layout.HEADING),
        ("\n", "Done at 3.5 p.m. today.", Layout.PROSE),
    ]


@pytest.mark.parametrize(
    "text", ["Dr. Who met Mr. T. Rex.", "It costs 3.50 dollars, i.e. little.", "The U.S. Army came."]
)
def test_an_abbreviation_ends_no_sentence(text):
    assert len(parse(text).sentences) == 1


def test_code_is_verbatim_and_never_replaceable():
    document = parse("Look at this code now.\n```python\nx = not_a_sentence(here, or, there)\n```\nThat was the code.")
    assert [s.layout is Layout.VERBATIM for s in document.sentences] == [False, True, True, True, False]
    assert document.replaceable == (0, 4)


def test_a_sentence_that_opens_a_quotation_cannot_move():
    assert not parse('He said: "This is the end.').sentences[-1].movable
