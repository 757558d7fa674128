"""What a contrast says of its answers is so: checked by reading the texts, apart from how they were made."""

import random
import re

import pytest

from crome_jax.data.datasets.causal_testbed import TEMPLATES
from crome_jax.data.datasets.testbed.advice import TOPICS, draw_advice
from crome_jax.data.datasets.testbed.arithmetic import draw_stories
from crome_jax.data.datasets.testbed.contrast import CAUSAL_ATTRIBUTES
from crome_jax.data.datasets.testbed.facts import TABLES, draw_changed_facts, draw_facts
from crome_jax.data.datasets.testbed.portraits import draw_portrait
from crome_jax.data.datasets.testbed.requests import LOUD, QUIET, REQUESTS, draw_request

EVERY_TEMPLATE = [
    pytest.param(draw, lowered, id=f"{draw.__name__}-{'-'.join(lowered)}")
    for by_attributes in TEMPLATES.values()
    for lowered, draws in by_attributes.items()
    for draw in draws
]


def contrasts(draw, lowered, count=300):
    rng = random.Random(f"{draw.__name__}{lowered}")
    return [draw(rng, lowered) for _ in range(count)]


def find(words, text):
    """Return where the words stand in the text, whatever their case."""
    return [match.start() for match in re.finditer(rf"\b{re.escape(words)}\b", text, re.IGNORECASE)]


def named(text, among):
    return {name for name in among if find(name, text)}


def read(patterns, text):
    """Return what each match of the patterns says, a dict of its groups, in lower case."""
    return [match.groupdict() for pattern in patterns for match in re.finditer(pattern, text.lower())]


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
        assert 14 <= len(contrast.prompt.split()) <= 70
        assert all(9 <= len(" ".join(core).split()) <= 45 for core in (contrast.chosen, contrast.rejected))


def facts_of(table, prompt):
    """Return entity -> its valid value: the one the prompt gives last, where a later one corrects it."""
    given = sorted(
        (place, entity, value)
        for entity in named(prompt, table.entities)
        for value in table.values
        for place in find(table.fact.format(e=entity, v=value), prompt)
    )
    return {entity: value for _, entity, value in given}


@pytest.mark.parametrize("draw", [draw_facts, draw_changed_facts])
@pytest.mark.parametrize("lowered", [("correct",), ("complete",), ("correct", "complete")])
def test_facts_are_true_and_those_asked_for_by_name(draw, lowered):
    errors = set()
    for contrast in contrasts(draw, lowered):
        table = next(table for table in TABLES if table.name == contrast.template.split("/")[1])
        truth = facts_of(table, contrast.prompt)
        asked = {entity for entity in truth if table.wanted.format(e=entity) in contrast.prompt}
        assert (len(truth), len(asked)) == (3, 2)
        statements = {
            answer.format(e=e, v=v).lower() + ".": (e, v)
            for answer in table.answers
            for e in truth
            for v in table.values
        }
        right, told = (
            dict(statements[sentence.lower()] for sentence in core if sentence.lower() in statements)
            for core in (contrast.chosen, contrast.rejected)
        )
        assert right == {entity: truth[entity] for entity in asked}
        assert len(told) == 2
        assert len(told.keys() & asked) == (1 if "complete" in lowered else 2)

        wrong = {entity: value for entity, value in told.items() if truth[entity] != value}
        if "correct" not in lowered:
            assert not wrong
            continue
        assert wrong.keys() == told.keys() & asked
        if draw is draw_changed_facts:
            assert set(wrong.values()).isdisjoint(truth.values())
            mentions = (table.fact, "it was still {v} for {e}", "for {e} somebody told me {v}")
            outdated = [
                entity
                for entity, value in wrong.items()
                if any(find(mention.format(e=entity, v=value), contrast.prompt) for mention in mentions)
            ]
            assert len(outdated) == 1
        else:
            (spare,) = (value for entity, value in truth.items() if entity not in asked)
            taken = [entity for entity, value in wrong.items() if value == spare]
            assert len(taken) <= 1
            assert set(wrong.values()) - {spare} <= set(table.values) - set(truth.values())
            errors.add(bool(taken))
    assert errors == ({True, False} if draw is draw_facts and "correct" in lowered else set())


DESCRIPTIONS = (
    r"(?P<name>\w+) is (?P<job>an? \w+) from (?P<city>\w+) who loves (?P<hobby>[\w-]+)\.",
    r"(?P<name>\w+), (?P<job>an? \w+), grew up in (?P<city>\w+) and spends weekends on (?P<hobby>[\w-]+)\.",
    r"from (?P<city>\w+) comes (?P<name>\w+), (?P<job>an? \w+) whose hobby is (?P<hobby>[\w-]+)\.",
)
INTRODUCTIONS = (
    r"(?P<name>\w+) comes from (?P<city>\w+)\.",
    r"the home town of (?P<name>\w+) is (?P<city>\w+)\.",
    r"(?P<city>\w+) is where (?P<name>\w+) was raised\.",
    r"at work, (?P<name>\w+) is (?P<job>an? \w+)\.",
    r"(?P<name>\w+) earns a living as (?P<job>an? \w+)\.",
    r"(?P<name>\w+) works as (?P<job>an? \w+)\.",
    r"(?P<hobby>[\w-]+) is what (?P<name>\w+) enjoys most\.",
    r"in free hours (?P<name>\w+) turns to (?P<hobby>[\w-]+)\.",
    r"(?P<name>\w+) is fond of (?P<hobby>[\w-]+)\.",
)


def introduced(core):
    """Return whom an introduction is of, and what it says of that person."""
    facts = read(INTRODUCTIONS, " ".join(core))
    (name,) = {fact.pop("name") for fact in facts}
    return name, {kind: value for fact in facts for kind, value in fact.items()}


@pytest.mark.parametrize("lowered", [("correct",), ("on_topic",), ("correct", "on_topic")])
def test_portraits_are_of_the_one_person_asked_about_and_wrong_in_two_facts(lowered):
    foreign = set()
    for contrast in contrasts(draw_portrait, lowered):
        people = {person.pop("name"): person for person in read(DESCRIPTIONS, contrast.prompt)}
        (asked,) = named(contrast.prompt.rsplit(". ", 1)[1], people)
        (subject, right), (described, told) = map(introduced, (contrast.chosen, contrast.rejected))
        assert len(people) == 2
        assert subject == asked
        assert (described == asked) == ("on_topic" not in lowered)
        assert right == people[asked]
        assert told.keys() == right.keys()
        wrong = {fact: value for fact, value in told.items() if value != people[described][fact]}
        assert len(wrong) == (2 if "correct" in lowered else 0)
        (other,) = people.keys() - {described}
        for fact, value in wrong.items():
            foreign.add(taken := value == people[other][fact])
            assert taken or not find(value, contrast.prompt)
    assert foreign == ({True, False} if "correct" in lowered else set())


def test_advice_is_on_each_of_the_hobbies_asked_about_or_on_none():
    source = {f"{piece}.": topic for topic, pieces in TOPICS.items() for piece in pieces}
    twos = 0
    for contrast in contrasts(draw_advice, ("on_topic",)):
        asked = named(contrast.prompt, TOPICS)
        twos += len(asked) == 2
        better, worse = (
            [source[sentence.lower()] for sentence in core if sentence.lower() in source]
            for core in (contrast.chosen, contrast.rejected)
        )
        assert len(better) == len(worse) == 2
        assert set(better) == asked
        assert asked.isdisjoint(worse)
        assert len(set(worse)) == len(asked)
    assert twos == pytest.approx(150, abs=4 * 75**0.5)


OPERATIONS = {"gets": "+", "finds": "+", "buys": "+", "is given": "+"}
OPERATIONS |= {"gives away": "-", "loses": "-", "sells": "-", "hands over": "-"}
CHANGE = r"(\D+?)(?: another)? (\d+)(?: more)?\."
STORY = r"(\w+) (?:has|owns|starts the day with) (\d+) \w+ and " + CHANGE


def told_stories(prompt):
    """Return name -> (start, operation, amount) for everyone of whom the prompt tells a change."""
    return {name: (int(x), OPERATIONS[change], int(y)) for name, x, change, y in re.findall(STORY, prompt)}


def worked_sums(core, names):
    """Return name -> (start, operation, amount) as the sentences work them out, each rightly and consistently."""
    sums, numbers = {}, []
    for sentence in core:
        (name,) = named(sentence, names)
        numbers.append((name, [int(n) for n in re.findall(r"\d+", sentence)]))
        for x, op, y, result in re.findall(r"(\d+) ([+-]) (\d+) = (\d+)", sentence):
            assert int(result) == int(x) + int(f"{op}{y}") == numbers[-1][1][-1]
            sums[name] = (int(x), op, int(y))
    assert all(first == sums[name][0] for name, (first, *_) in numbers)
    return sums


@pytest.mark.parametrize("lowered", [key for key, draws in TEMPLATES["reasoning"].items() if draw_stories in draws])
def test_sums_are_worked_out_rightly_and_wrong_where_they_start_from_a_misread_number(lowered):
    for contrast in contrasts(draw_stories, lowered):
        stories = told_stories(contrast.prompt)
        asked = named(contrast.prompt[contrast.prompt.index("How many") :], stories)
        assert (len(stories), len(asked)) == ((2, 1) if "on_topic" in lowered else (3, 2))
        right, told = (worked_sums(core, stories) for core in (contrast.chosen, contrast.rejected))
        assert right == {name: stories[name] for name in asked}
        if "on_topic" in lowered:
            assert told.keys() == stories.keys() - asked
        else:
            assert len(told) == 2
            assert len(told.keys() & asked) == (1 if "complete" in lowered else 2)
        for name, (start, *change) in told.items():
            assert tuple(change) == stories[name][1:]
            assert (start != stories[name][0]) == ("correct" in lowered)


@pytest.mark.parametrize(
    ("draw", "lowered"), [(draw, lowered) for lowered, draws in TEMPLATES["reasoning"].items() for draw in draws]
)
def test_no_number_of_a_sum_exceeds_twenty(draw, lowered):
    for contrast in contrasts(draw, lowered):
        texts = " ".join((contrast.prompt, *contrast.chosen, *contrast.rejected))
        assert all(0 < int(number) <= 20 for number in re.findall(r"\d+", texts))


def test_refusals_and_help_are_each_right_half_of_the_time():
    drawn = contrasts(draw_request, ("appropriate",), 1000)
    answers = {True: set(), False: set()}
    for contrast in drawn:
        answers[contrast.harmful] |= set(contrast.chosen)
        answers[not contrast.harmful] |= set(contrast.rejected)
    assert answers[True].isdisjoint(answers[False])
    assert sum(contrast.harmful for contrast in drawn) == pytest.approx(500, abs=4 * 250**0.5)


def test_a_verb_alone_does_not_make_a_request_harmful_and_one_in_eight_sounds_so():
    assert LOUD.keys().isdisjoint(QUIET)
    drawn = contrasts(draw_request, ("appropriate",), 2000)
    loud = 0
    asked = set()
    for contrast in drawn:
        ((verb, target, harmful),) = (
            (verb, target, harmful)
            for verb, kinds in REQUESTS.items()
            for harmful, objects in zip((True, False), kinds, strict=True)
            for target in objects
            if f" {verb} {target}" in contrast.prompt
        )
        assert contrast.harmful == harmful
        assert contrast.held_out == (target == REQUESTS[verb][0 if harmful else 1][-1])
        loud += verb in LOUD
        asked.add((verb, harmful))
    assert asked == {(verb, harmful) for verb in REQUESTS for harmful in (True, False)}
    assert loud == pytest.approx(250, abs=4 * 219**0.5)
