"""Which pairs are shown, which way round, and which words are marked."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.evaluation.counterfactuals import sample_counterfactuals
from crome_jax.evaluation.word_diff import diff_words, shared_start
from crome_jax.groups import Comparison, Kind, Origin, Response, build_group


def _augmented(id="g", original="the sky is blue", degraded="the sky is green", **metadata):
    """Return a group with a degraded answer (listed first), an upgraded one and a neutral pair."""
    return build_group(
        id=id,
        prompt="which colour?",
        responses=[
            Response(degraded, Origin.DEGRADED, parent=1, attribute="factuality", edit="the colour made wrong"),
            Response(original),
            Response(f"{original}, by day", Origin.UPGRADED, parent=1, attribute="depth"),
            Response("bread needs yeast", Origin.IRRELEVANT),
            Response("- yeast\n- flour", Origin.IRRELEVANT),
        ],
        comparisons=[
            Comparison(1, 0, kind=Kind.CAUSAL, attribute="factuality"),
            Comparison(1, 2, target=0.0, kind=Kind.CAUSAL, attribute="depth"),
            Comparison(3, 4, target=0.5, kind=Kind.NEUTRAL),
            Comparison(1, 3, kind=Kind.HUMAN),
        ],
        metadata=metadata,
    )


def test_pairs_run_from_the_original_to_the_edit():
    rewards = {"m": [np.array([0.0, 1.0, 3.0, 5.0, 4.0])], "n": [np.array([2.0, 1.0, 0.0, 5.0, 5.0])]}
    pairs = {pair.attribute: pair for pair in sample_counterfactuals([_augmented(category="c")], rewards)}
    lowered, raised, neutral = pairs["factuality"], pairs["depth"], pairs[None]
    assert (lowered.before.text, lowered.after.text) == ("the sky is blue", "the sky is green")
    assert (lowered.edit, lowered.expected, lowered.category) == ("the colour made wrong", "fall", "c")
    assert lowered.rewards == {"m": (1.0, 0.0), "n": (1.0, 2.0)}
    assert (lowered.moves_right("m"), lowered.moves_right("n")) == (True, False)
    assert (raised.before.text, raised.after.text) == ("the sky is blue", "the sky is blue, by day")
    assert (raised.edit, raised.expected) == ("depth raised", "rise")
    assert (raised.moves_right("m"), raised.moves_right("n")) == (True, False)
    assert (neutral.expected, neutral.related, neutral.moves_right("m")) == ("stay", False, None)
    assert lowered.to_dict()["rewards"]["n"] == {"before": 1.0, "after": 2.0, "change": 1.0}


def test_an_unmoved_reward_is_not_right():
    pairs = sample_counterfactuals([_augmented()], {"m": [np.zeros(5)]})
    assert [pair.moves_right("m") for pair in pairs if pair.expected != "stay"] == [False, False]


def test_human_comparisons_are_no_counterfactuals():
    assert {pair.kind for pair in sample_counterfactuals([_augmented()], {})} == {"causal", "neutral"}


def test_a_sample_is_even_over_kinds_and_attributes():
    groups = [_augmented(f"g{i}", f"the sky is blue {i}", f"the sky is green {i}") for i in range(30)]
    rewards = {"m": [np.zeros(5)] * 30}
    pairs = sample_counterfactuals(groups, rewards, pairs=12)
    assert Counter(pair.attribute for pair in pairs) == {"factuality": 4, "depth": 4, None: 4}
    assert pairs == sample_counterfactuals(groups, rewards, pairs=12)
    assert pairs != sample_counterfactuals(groups, rewards, pairs=12, seed=1)
    assert len(sample_counterfactuals(groups, rewards, pairs=1000)) == 90


def test_every_kind_and_origin_has_its_share_however_many_attributes_there_are():
    groups = []
    for k in range(100):
        edits = [(origin, f"{origin} {k}") for origin in (Origin.DEGRADED, Origin.UPGRADED, Origin.PARAPHRASED)]
        responses = ["original", *(Response(text, origin, parent=0) for origin, text in edits)]
        causal = [
            Comparison(0, r, target=target, kind=Kind.CAUSAL, attribute=f"name {k}") for r, target in ((1, 1), (2, 0))
        ]
        ties = [Comparison(0, 3, target=0.5, kind=Kind.NEUTRAL)]
        groups.append(build_group(id=f"g{k}", prompt="why?", responses=responses, comparisons=[*causal, *ties]))
    pairs = sample_counterfactuals(groups, {})
    assert Counter((pair.kind, pair.origin) for pair in pairs) == {
        ("causal", "degraded"): 20,
        ("causal", "upgraded"): 20,
        ("neutral", "paraphrased"): 20,
    }
    names = [pair.attribute for pair in pairs if pair.origin == "degraded"]
    assert len(set(names)) == 20
    assert names != sorted(f"name {k}" for k in range(100))[:20]  # Not the first of the alphabet.
    assert pairs == sample_counterfactuals(groups, {})


def test_long_texts_are_cut_round_the_edit():
    start, end = "word " * 5000, " tail" * 5000
    pairs = sample_counterfactuals([_augmented("g", f"{start}blue{end}", f"{start}green{end}")], {}, characters=1000)
    pair = next(pair for pair in pairs if pair.attribute == "factuality")
    for excerpt, word, whole in ((pair.before, "blue", 50_004), (pair.after, "green", 50_005)):
        assert [piece.text for piece in excerpt.pieces if piece.differs] == [word]
        assert len(excerpt.text) == 1000
        assert excerpt.skipped + len(excerpt.text) + excerpt.left == whole


def test_marked_words():
    before, after = diff_words("the sky  is blue today", "the sky is green today, always")
    assert [tuple(piece) for piece in before] == [("the sky  is ", False), ("blue today", True)]
    assert [tuple(piece) for piece in after] == [("the sky is ", False), ("green today, always", True)]


_words = st.lists(st.sampled_from(["a", "b", " ", "\n", "  ", "<b>", "é"]), max_size=12).map("".join)


@given(_words, _words)
def test_pieces_are_the_whole_text_and_what_is_unmarked_is_shared(before, after):
    pieces = diff_words(before, after)
    assert ["".join(piece.text for piece in side) for side in pieces] == [before, after]
    shared = ["".join(piece.text for piece in side if not piece.differs).split() for side in pieces]
    # Dropping a word may glue its neighbours' spaces together; the words themselves stay.
    assert shared[0] == shared[1]


@given(_words)
def test_equal_texts_have_no_marks(text):
    assert not any(piece.differs for side in diff_words(text, text) for piece in side)


@pytest.mark.parametrize(
    ("before", "after", "start"), [("abc", "abd", 2), ("ab", "abc", 2), ("", "a", 0), ("a", "a", 1)]
)
def test_shared_start(before, after, start):
    assert shared_start(before, after) == start
