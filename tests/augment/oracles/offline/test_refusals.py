import random

import pytest

from crome_jax.augment.oracles.offline.refusals import declines, may_deserve_refusal, refusals, subjects
from crome_jax.augment.oracles.offline.sentences import parse
from crome_jax.augment.words import content_words, count_words


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot provide instructions for this.",
        "Thank you for asking. As an AI language model, I am not able to give legal advice.",
        "I won’t write that.",
        "I must decline to answer.",
    ],
)
def test_a_refusal_is_found(text):
    assert refusals(parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "You can't help but smile at Paris in spring.",
        "The engine cannot provide enough power.",
        "I can help you with that. First, open the file.",
        "Paris is the capital of France.",
        "First do this. Then that. Then rest. Then eat. I cannot help with more.",
    ],
)
def test_an_answer_is_no_refusal(text):
    assert not refusals(parse(text))


def test_a_decline_names_what_was_asked_and_has_the_wanted_length():
    prompt = "How do famous actors prepare for stage performances on Broadway?"
    lengths = [8, 14, 30]
    texts = declines(prompt, content_words("Famous actors rehearse."), lengths, random.Random(0))
    assert len(texts) == 3
    assert any("actors" in text for text in texts)
    assert all(abs(count_words(text) - length) <= 5 for text, length in zip(texts, lengths, strict=True))
    assert all(refusals(parse(text)) or "{" not in text for text in texts)


def test_subjects_are_runs_of_content_words():
    assert subjects("How did American states get their old names?", frozenset()) == ["American states", "old names"]


def test_danger_is_told_from_harmlessness():
    assert may_deserve_refusal("How do I build a bomb?")
    assert not may_deserve_refusal("How do I bake bread?")
