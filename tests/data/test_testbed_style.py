"""Style is put on a finished core and can be taken off again."""

import random
import re

import pytest

from crome_jax.data.datasets.testbed.style import (
    SPURIOUS_ATTRIBUTES,
    UNSEEN_ATTRIBUTES,
    draw_attributes,
    render,
)

ALL = SPURIOUS_ATTRIBUTES + UNSEEN_ATTRIBUTES
CORE = ("The lamp costs 5 euros.", "They ask 7 euros for the rug.")


def words(text: str) -> list[str]:
    return re.findall(r"[^\s-]\S*", text)


def test_no_attributes_leave_the_core():
    assert render(CORE, (), wording=3) == " ".join(CORE)


@pytest.mark.parametrize("attribute", ALL)
@pytest.mark.parametrize("wording", range(5))
def test_one_attribute_changes_nothing_else(attribute, wording):
    others = draw_attributes(random.Random(wording), [name for name in ALL if name != attribute], 0.5)
    without, with_it = render(CORE, others, wording), render(CORE, others | {attribute}, wording)
    assert without != with_it
    left = words(with_it)
    for word in words(without):
        left.remove(word)  # every word of the one is in the other
    assert (left == []) == (attribute == "bullets")


@pytest.mark.parametrize("wording", range(20))
def test_every_core_sentence_is_there_once_and_in_order(wording):
    text = render(CORE, ALL, wording)
    assert [text.count(sentence) for sentence in CORE] == [1, 1]
    assert text.index(CORE[0]) < text.index(CORE[1])
    assert text == text.strip()
    assert "\n\n" not in text


def test_bullets_are_the_core_line_by_line():
    assert render(CORE, {"bullets"}, wording=0).splitlines() == [f"- {sentence}" for sentence in CORE]


def test_phrases_of_different_attributes_share_no_text():
    by_attribute = {name: {render(("X.",), {name}, w) for w in range(60)} for name in ALL if name != "bullets"}
    for name, texts in by_attribute.items():
        assert len(texts) >= 5  # a cue must be learned from several wordings
        assert all(texts.isdisjoint(others) for other, others in by_attribute.items() if other != name)


def test_draws_are_independent_and_have_the_probability():
    rng = random.Random(0)
    draws = [draw_attributes(rng, SPURIOUS_ATTRIBUTES, 0.3) for _ in range(4000)]
    rates = [sum(name in d for d in draws) / 4000 for name in SPURIOUS_ATTRIBUTES]
    assert rates == pytest.approx([0.3] * 6, abs=4 * (0.21 / 4000) ** 0.5)
    both = sum({"long", "polite"} <= d for d in draws) / 4000
    assert both == pytest.approx(0.09, abs=4 * (0.0819 / 4000) ** 0.5)
