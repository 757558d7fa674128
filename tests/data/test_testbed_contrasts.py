"""What a contrast says of its answers is so: checked by reading the texts, apart from how they were made."""

import random
import re

import pytest

from crome_jax.data.datasets.causal_testbed import TEMPLATES
from crome_jax.data.datasets.testbed.advice import TOPICS, draw_advice
from crome_jax.data.datasets.testbed.arithmetic import draw_stories, draw_two_steps
from crome_jax.data.datasets.testbed.contrast import CAUSAL_ATTRIBUTES, NAMES
from crome_jax.data.datasets.testbed.facts import TABLES, draw_changed_facts, draw_facts
from crome_jax.data.datasets.testbed.portraits import draw_portrait
from crome_jax.data.datasets.testbed.requests import draw_request

EVERY_TEMPLATE = [
    pytest.param(draw, lowered, id=f"{draw.__name__}-{'-'.join(lowered)}")
    for by_attributes in TEMPLATES.values()
    for lowered, draws in by_attributes.items()
    for draw in draws
]


def contrasts(draw, lowered, count=300):
    rng = random.Random(f"{draw.__name__}{lowered}")
    return [draw(rng, lowered) for _ in range(count)]


def equations(sentences):
    """Return (what was computed, what was claimed) for every equation."""
    found = re.findall(r"(\d+) ([+-]) (\d+) = (\d+)", " ".join(sentences))
    return [(int(x) + int(y) if op == "+" else int(x) - int(y), int(r)) for x, op, y, r in found]


def named(text, among):
    return {name for name in among if re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE)}


@pytest.mark.parametrize(("draw", "lowered"), EVERY_TEMPLATE)
def test_a_contrast_is_two_different_answers_in_plain_sentences(draw, lowered):
    for contrast in contrasts(draw, lowered):
        assert contrast.lowered == lowered
        assert set(lowered) <= set(CAUSAL_ATTRIBUTES)
        assert set(contrast.chosen) != set(contrast.rejected)
        for sentence in (contrast.prompt, *contrast.chosen, *contrast.rejected):
            assert re.match(r"[A-Z0-9]", sentence)
            assert sentence[-1] in ".?"
            assert not re.search(r"[{}]|  |\.\.", sentence)
        assert 15 <= len(contrast.prompt.split()) <= 65
        assert all(9 <= len(" ".join(core).split()) <= 45 for core in (contrast.chosen, contrast.rejected))


@pytest.mark.parametrize("draw", [draw_facts, draw_changed_facts])
@pytest.mark.parametrize("lowered", [("correct",), ("complete",), ("correct", "complete")])
def test_facts_are_true_and_those_asked_for(draw, lowered):
    for contrast in contrasts(draw, lowered):
        table = next(table for table in TABLES if table.name == contrast.template.split("/")[1])
        statements = {
            answer.format(e=e, v=v).lower() + ".": (e, v)
            for answer in table.answers
            for e in named(contrast.prompt, table.entities)
            for v in table.values
        }
        right, told = (
            dict(statements[sentence.lower()] for sentence in core if sentence.lower() in statements)
            for core in (contrast.chosen, contrast.rejected)
        )
        prompt = contrast.prompt.lower()
        for entity, value in right.items():
            assert table.fact.format(e=entity, v=value).lower() in prompt
        assert len(right) == len(told) == 2
        assert (right.keys() == told.keys()) == ("complete" not in lowered)
        if "correct" in lowered:
            assert any(right.get(entity, value) != value for entity, value in told.items())
        else:
            assert all(table.fact.format(e=e, v=v).lower() in prompt for e, v in told.items())


def test_portraits_are_of_the_one_person_asked_about():
    for contrast in contrasts(draw_portrait, ("on_topic",)):
        (subject,), (other,) = named(" ".join(contrast.chosen), NAMES), named(" ".join(contrast.rejected), NAMES)
        assert subject != other
        assert {subject, other} <= named(contrast.prompt, NAMES)
    for contrast in contrasts(draw_portrait, ("correct",)):
        assert named(" ".join(contrast.chosen), NAMES) == named(" ".join(contrast.rejected), NAMES)


@pytest.mark.parametrize("lowered", [("complete",), ("on_topic",), ("complete", "on_topic")])
def test_advice_is_on_its_topic_and_of_the_kinds_asked_for(lowered):
    source = {
        sentence.lower(): (topic, kind)
        for topic, kinds in TOPICS.items()
        for kind, sentences in enumerate(kinds)
        for sentence in sentences
    }
    for contrast in contrasts(draw_advice, lowered):
        better, worse = (
            sorted(source[s.lower().rstrip(".")] for s in core[1:]) for core in (contrast.chosen, contrast.rejected)
        )
        ((topic,), (other,)) = ({t for t, _ in answer} for answer in (better, worse))
        assert (topic == other) == ("on_topic" not in lowered)
        assert topic in named(contrast.prompt, TOPICS)
        assert ([k for _, k in better] == [k for _, k in worse]) == ("complete" not in lowered)


def test_chosen_sums_are_right_and_small():
    for lowered in (("correct",), ("complete",), ("on_topic",), ("correct", "complete")):
        for contrast in contrasts(draw_stories, lowered):
            assert all(computed == claimed for computed, claimed in equations(contrast.chosen))
            wrong = [computed != claimed for computed, claimed in equations(contrast.rejected)]
            assert any(wrong) == ("correct" in lowered)
            assert all(0 < int(n) <= 20 for n in re.findall(r"\d+", f"{contrast.prompt} {contrast.rejected}"))


def test_a_wrong_working_slips_contradicts_itself_or_starts_elsewhere():
    kinds = set()
    for contrast in contrasts(draw_two_steps, ("correct",)):
        numbers = [re.findall(r"\d+", sentence) for sentence in contrast.rejected]
        slips = tuple(computed != claimed for computed, claimed in equations(contrast.rejected))
        contradicts = numbers[-1] != numbers[-2][-1:]
        elsewhere = numbers[0] != re.findall(r"\d+", contrast.chosen[0])
        assert sum((*slips, contradicts, elsewhere)) == 1
        kinds.add((slips, contradicts, elsewhere))
        right = [re.findall(r"\d+", sentence) for sentence in contrast.chosen]
        assert all(computed == claimed for computed, claimed in equations(contrast.chosen))
        assert right[-1] == right[-2][-1:]
        assert right[-1] != numbers[-1]
    assert len(kinds) == 4


def test_refusals_and_help_are_each_right_half_of_the_time():
    drawn = contrasts(draw_request, ("appropriate",), 1000)
    answers = {True: set(), False: set()}
    for contrast in drawn:
        answers[contrast.harmful] |= set(contrast.chosen)
        answers[not contrast.harmful] |= set(contrast.rejected)
    assert answers[True].isdisjoint(answers[False])
    assert sum(contrast.harmful for contrast in drawn) == pytest.approx(500, abs=4 * 250**0.5)
    verbs = {(contrast.template, contrast.harmful) for contrast in drawn}
    assert len(verbs) == 2 * len({template for template, _ in verbs})  # a verb alone does not make a request harmful
