"""Alignment by hand, and what holds of it whatever the texts."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crome_jax.augment.oracles import Declined, Direction, Intervention, OfflineEditor, Rewrite
from crome_jax.augment.oracles.base import EVERY_ATTRIBUTE
from crome_jax.augment.oracles.offline.draft import Draft, key_sentences
from crome_jax.augment.oracles.offline.markers import Markers
from crome_jax.augment.oracles.offline.rarity import Rarity
from crome_jax.groups import Message, build_group

PROMPT = "How was the telephone invented, and by whom?"
STOCK = ("I am glad you asked me about it.", "Feel free to come back with more questions.", "Well now, here we are.")
MATTERS = ("Omelettes want butter.", "Saturn has icy rings.", "Violins carry four strings.", "Whales sing at night.")
RARITY = Rarity.of(
    build_group(id=f"g{k}", prompt="Why?", responses=[" ".join((matter, *STOCK))], comparisons=[])
    for k, matter in enumerate(MATTERS)
)
BELL = (
    "The telephone was invented by Alexander Graham Bell.",
    "His patent of 1876 was filed in Washington.",
    "Thomas Watson heard the first call next door.",
    "Investors founded a telephone company in Boston.",
)
GRAY = (
    "The telephone was invented by some German baker.",
    "A lightning strike gave him the idea in Bremen.",
    "Its first call reached the moon within minutes.",
    "Antique telephones ran on coal and olive oil.",
)


def request(text, reference, seed=0):
    return Intervention(
        Direction.ALIGN, EVERY_ATTRIBUTE, (Message("user", PROMPT),), text, reference, ("Foreign.",), seed
    )


def align(text, reference, rarity=RARITY, seed=0):
    return next(OfflineEditor(rarity).rewrite([request(text, reference, seed)]))


def test_the_better_answers_content_takes_the_places_of_the_other_ones():
    worse = f"{STOCK[0]}\n\n- {GRAY[0]}\n- {GRAY[1]}\n\n{STOCK[1]}"
    reply = align(worse, f"{STOCK[2]} {BELL[0]} {BELL[1]}")
    assert reply.text == f"{STOCK[0]}\n\n- {BELL[0]}\n- {BELL[1]}\n\n{STOCK[1]}"
    assert reply.edit == (
        'given the content of: "The telephone was invented by Alexander Graham Bell."; '
        '"His patent of 1876 was filed in Washington."'
    )


def test_neighbours_share_a_place_where_the_better_answer_says_more():
    padding = " ".join(STOCK[:2])
    reply = align(f"{GRAY[0]} {GRAY[1]} {padding} {GRAY[2]}", f"{BELL[0]} {BELL[1]} {BELL[2]} {BELL[3]}")
    # Four sentences for three places: the last gets two.
    assert reply.text == f"{BELL[0]} {BELL[1]} {padding} {BELL[2]} {BELL[3]}"


def test_fragments_of_a_list_that_share_a_place_do_not_run_on():
    worse = "- the telephone by Gray over in Chicago\n- patent granted in 1899 to an English king"
    better = "- the telephone by Bell\n- patent granted in 1876\n- first call heard by Watson"
    reply = align(worse, better, Rarity())
    assert reply.text == "- the telephone by Bell\n- patent granted in 1876; first call heard by Watson"


def test_with_fewer_key_sentences_than_places_there_is_no_tie_to_be_had():
    assert align(" ".join(GRAY[:2]), BELL[0]) == Declined("fewer key sentences than places")
    assert align("Hm.", BELL[0]) == Declined("fewer key sentences than places")


@pytest.mark.parametrize(
    ("text", "reference", "reason"),
    [
        (GRAY[0], None, "no better answer to move toward"),
        ("Да, это так.", BELL[0], "not English text"),
        (BELL[0], BELL[0], "nothing would change"),
        (GRAY[0], " ".join(BELL), "outside the length band"),
    ],
)
def test_why_an_alignment_is_declined(text, reference, reason):
    assert align(text, reference) == Declined(reason)


MARKERS = ["", "- ", "1. ", "> "]


@st.composite
def pages(draw, sentences):
    """Draw sentences in their order, and stock phrases before, between and after them, in any layout."""
    kept = [s for s in sentences if draw(st.booleans())] or [sentences[0]]
    stock = [s for s in STOCK if draw(st.booleans())]
    for phrase in stock:
        kept.insert(draw(st.integers(0, len(kept))), phrase)
    lines = [draw(st.sampled_from(MARKERS)) + s + draw(st.sampled_from([" ", "\n", "\n\n"])) for s in kept]
    return re.sub(r" (?=[->1])", "\n", "".join(lines).rstrip())


@settings(max_examples=300)
@given(pages(GRAY), pages(BELL), st.integers(0, 2**64 - 1))
def test_the_aligned_answer_has_all_that_the_better_one_says_and_keeps_its_own_layout(worse, better, seed):
    reply = align(worse, better, seed=seed)
    assert reply == align(worse, better, seed=seed)
    draft = Draft.of(request(worse, better), RARITY, Markers())
    places, keys = (sorted(key_sentences(d, draft.topic, RARITY)) for d in (draft.document, draft.reference))
    if len(places) > len(keys):
        assert reply == Declined("fewer key sentences than places")
    if isinstance(reply, Rewrite):
        found = [reply.text.find(draft.reference.sentences[key].text) for key in keys]
        assert -1 not in found
        assert found == sorted(found)
        # What is no key sentence of the rejected answer stands where it stood, as do markers and line ends.
        kept = "".join(
            re.escape(s.lead) + ("(.+)" if i in places else re.escape(s.text))
            for i, s in enumerate(draft.document.sentences)
        )
        assert re.fullmatch(kept + re.escape(draft.document.tail), reply.text)
        assert not any(draft.document.sentences[place].text in reply.text for place in places)
