"""Each attribute by hand: what lowering does to an answer, and what raising does to a worse one."""

import random
import re

import pytest

from crome_jax.augment.oracles import Declined, Direction, Intervention, OfflineEditor, Rewrite
from crome_jax.augment.oracles.offline.consistency import flip
from crome_jax.augment.oracles.offline.facts import other_number
from crome_jax.augment.oracles.offline.sentences import parse
from crome_jax.augment.words import FUNCTION_WORDS
from crome_jax.groups import Message

PROMPT = "How was the telephone invented, and by whom?"
ANSWER = (
    "The telephone was invented by Alexander Graham Bell in 1876. He was a teacher of the deaf in Boston. "
    "Bell filed his patent on February 14 at the patent office. Elisha Gray filed a caveat on the same day. "
    "The first call reached Thomas Watson in the next room. It became the basis of a company that grew quickly."
)
ELSEWHERE = (
    "Whisk the eggs with a pinch of salt. Melt butter in a wide pan over low heat. Fold the omelette once it has set."
    " Serve it right away with a green salad and some bread. Chives add a fresh note to the dish.",
    "Saturn has rings made of ice and rock. Its largest moon, Titan, has lakes of methane. Cassini orbited it.",
)


def ask(direction, attribute, text, reference=None, prompt=PROMPT, elsewhere=ELSEWHERE, seed=0):
    request = Intervention(
        Direction(direction), attribute, (Message("user", prompt),), text, reference, elsewhere, seed
    )
    return next(OfflineEditor().rewrite([request]))


def sentences(text):
    return [s.text for s in parse(text).sentences]


def test_a_wrong_result_is_wrong_wherever_it_stands():
    text = "Tom has 3 + 4 = <<3+4=7>>7 apples.\nA: 7"
    prompt = "How many apples has Tom, who has 3 and gets 4?"
    replies = [ask("degrade", "factuality", text, prompt=prompt, seed=seed) for seed in range(10)]
    results = [(re.search(r"A: (\d)$", reply.text)[1], reply) for reply in replies]
    mistaken = [(wrong, reply) for wrong, reply in results if wrong != "7"]
    # The result is drawn far more often than what the prompt gives.
    assert len(mistaken) >= 7
    assert len({wrong for wrong, _ in mistaken}) > 2
    for wrong, reply in mistaken:
        assert reply.text == text.replace("7", wrong)
        assert reply.edit == f"stated wrongly: '7' as {wrong!r}"


@pytest.mark.parametrize("seed", range(5))
def test_lower_factuality_changes_facts_and_nothing_else(seed):
    reply = ask("degrade", "factuality", ANSWER, seed=seed)
    before, after = ANSWER.split(), reply.text.split()
    assert len(before) == len(after)
    changed = [a for a, b in zip(before, after, strict=True) if a != b]
    assert 0 < len(changed) <= 8
    # Names, numbers, relations and kinds of thing; not one of the words that hold a sentence together.
    assert not {word.strip(",.").lower() for word in changed} & FUNCTION_WORDS


@pytest.mark.parametrize("number", ["7", "10", "1876", "1,500", "3.14", "0.05", "99", "1"])
def test_a_wrong_number_keeps_its_form(number):
    for seed in range(20):
        new = other_number(number, ["12", "1492", "2,000"], random.Random(seed))
        assert new != number
        assert re.sub(r"\d", "0", new) == re.sub(r"\d", "0", number)


def test_raising_factuality_takes_over_the_value():
    worse = "The telephone was invented by Antonio Meucci Rossi in 1891. It changed the world."
    better = "The telephone was invented by Alexander Graham Bell in 1876. People soon loved it."
    reply = ask("upgrade", "factuality", worse, better)
    assert reply.text == "The telephone was invented by Alexander Graham Bell in 1876. It changed the world."
    assert "'1891' as '1876'" in reply.edit


def test_raising_factuality_takes_over_the_result_of_a_calculation():
    reply = ask(
        "upgrade", "factuality", "He pays for two.\nA: 26", "Nine remain, at 2 dollars.\nA: 18", "How much is it?"
    )
    assert reply.text == "He pays for two.\nA: 18"


def test_invention_has_no_facts():
    assert ask("degrade", "factuality", ANSWER, prompt="Write a story about Bell.") == Declined(
        "the prompt asks for invention"
    )


def test_lower_completeness_leaves_out_and_says_nothing_new():
    reply = ask("degrade", "completeness", ANSWER)
    after = set(sentences(reply.text))
    known = set(sentences(ANSWER)) | {PROMPT.removesuffix("?") + ".", PROMPT}
    assert after < known
    assert set(sentences(ANSWER)) - after


def test_lower_completeness_shortens_an_enumeration():
    text = (
        "The instruments that an orchestra of the classical period could be expected to bring along for a symphony"
        " included violins, violas, cellos and horns, and the composer chose among them as the occasion required."
    )
    reply = ask("degrade", "completeness", text, prompt="What did an orchestra have?")
    assert "violins, cellos and horns" in reply.text or "violins, violas and horns" in reply.text


def test_raising_completeness_puts_in_what_was_missing():
    worse = "The telephone was invented long ago. Many people use it every day now. It is a nice thing to have."
    reply = ask("upgrade", "completeness", worse, ANSWER)
    new = set(sentences(reply.text)) - set(sentences(worse))
    assert new
    assert new <= set(sentences(ANSWER))


def test_what_is_put_in_replaces_what_says_otherwise():
    better = "There is a hamster at the home of Greta. A Siamese cat lives with Yusuf. Both are well."
    worse = "There is a pony at the home of Greta. A tortoise lives with Yusuf. Both are well."
    for seed in range(10):
        text = ask("upgrade", "completeness", worse, better, prompt="Who lives with whom?", seed=seed).text
        assert ("hamster" in text) != ("pony" in text)
        assert ("Siamese" in text) != ("tortoise" in text)


def test_nothing_is_missing_from_a_copy():
    assert ask("upgrade", "completeness", ANSWER + " Nice.", ANSWER) == Declined("nothing is missing")


def test_lower_relevance_borrows_from_elsewhere():
    reply = ask("degrade", "relevance", ANSWER)
    new = set(sentences(reply.text)) - set(sentences(ANSWER))
    assert new
    assert new <= {s for text in ELSEWHERE for s in sentences(text)}


def test_lower_relevance_needs_foreign_material():
    assert ask("degrade", "relevance", ANSWER, elsewhere=()) == Declined("nothing of a fitting length")


def test_raising_relevance_replaces_the_stray_sentence():
    worse = "Alexander Graham Bell invented the telephone. Chives add a fresh note to any dish today."
    reply = ask("upgrade", "relevance", worse, ANSWER)
    assert "Chives" not in reply.text
    assert reply.text.startswith("Alexander Graham Bell invented the telephone. ")
    assert ask("upgrade", "relevance", ANSWER, ANSWER + " More.") == Declined("nothing is off topic")


STEPS = "Do this:\n1. Boil the water first.\n2. Then add the tea.\n3. Wait until it is dark.\n4. Finally, pour it."


def test_lower_order_moves_steps_under_the_same_numbers():
    reply = ask("degrade", "order", STEPS, prompt="How to make tea?")
    lines = reply.text.split("\n")
    assert [line[:2] for line in lines[1:]] == ["1.", "2.", "3.", "4."]
    assert lines[1] == "1. Finally, pour it."
    assert sorted(line[3:] for line in lines[1:]) == sorted(line[3:] for line in STEPS.split("\n")[1:])


def test_lower_order_begins_an_answer_with_its_end():
    reply = ask("degrade", "order", ANSWER)
    assert sentences(reply.text)[0] == sentences(ANSWER)[-1]
    assert sorted(sentences(reply.text)) == sorted(sentences(ANSWER))


def test_raising_order_undoes_a_shuffle():
    assert ask("upgrade", "order", ask("degrade", "order", STEPS, prompt="How to make tea?").text, STEPS).text == STEPS
    assert ask("upgrade", "order", ask("degrade", "order", ANSWER).text, ANSWER).text == ANSWER


def test_loose_bullets_have_no_order():
    assert ask("degrade", "order", "- red things\n- blue things\n- green things") == Declined("no order to break")


@pytest.mark.parametrize(
    ("claim", "contrary"),
    [
        ("Water is wet.", "Water is not wet."),
        ("Water isn't dry.", "Water is dry."),
        ("You can swim.", "You cannot swim."),
        ("You cannot swim.", "You can swim."),
        ("He will not come.", "He will come."),
        ("They have been there.", "They have not been there."),
        ("It always rains.", "It never rains."),
        ("This is an impossible task.", "This is a possible task."),
        ("Yes, it is true.", "No, it is false."),
        ("It is also cold.", "It is not cold."),
        ("Look no further.", None),
        ("Stir well.", None),
    ],
)
def test_a_claim_and_its_contrary(claim, contrary):
    assert flip(claim) == contrary


def test_raising_consistency_agrees_with_the_better_answer():
    worse = "The telephone was not invented by Alexander Graham Bell. It took years."
    better = "The telephone was invented by Alexander Graham Bell. It went fast."
    reply = ask("upgrade", "consistency", worse, better)
    assert reply.text == "The telephone was invented by Alexander Graham Bell. It took years."


def test_lower_compliance_declines_with_the_words_of_the_prompt():
    reply = ask("degrade", "compliance", ANSWER)
    assert "telephone" in reply.text
    assert not reply.text.startswith("The telephone was invented")
    assert reply.edit.startswith("declined in place of")


def test_where_a_refusal_may_be_right_it_is_not_made_the_worse_answer():
    danger = "How was the bomb invented?"
    assert ask("degrade", "compliance", ANSWER, "It was made by Bell.", danger) == Declined("declining might be right")
    assert isinstance(ask("degrade", "compliance", ANSWER, "I cannot help with that.", danger), Rewrite)


REFUSAL = "I'm sorry, but I can't help you with building such a thing at home. Please stay safe."
UNSAFE = "Mix the two powders in a bowl and keep them dry until you need them. Please stay calm."


def test_refusals_and_answers_turn_into_each_other():
    assert "Mix the two powders" in ask("degrade", "compliance", REFUSAL, UNSAFE).text
    assert "Mix the two powders" in ask("upgrade", "compliance", REFUSAL, UNSAFE).text
    assert "I can't help you" in ask("upgrade", "compliance", UNSAFE, REFUSAL).text
    assert ask("upgrade", "compliance", REFUSAL, "I cannot provide that to you.") == Declined("both answers decline")
    assert ask("upgrade", "compliance", UNSAFE, ANSWER) == Declined("neither answer declines")


@pytest.mark.parametrize(
    ("prompt", "text", "worse"),
    [
        ("Explain tea in one sentence.", "Tea is a plant, and it grows in Asia.", "Tea is a plant. It grows in Asia."),
        ("Explain tea in two sentences.", "Tea is a plant. It grows in Asia.", "Tea is a plant; it grows in Asia."),
        ("Answer in lowercase.", "tea is a green plant.", "Tea Is A Green Plant."),
        ("Give three uses.", "- as a drink.\n- as a dye.\n- as a gift.", "- as a drink.\n- as a dye; as a gift."),
    ],
)
def test_a_limit_of_the_prompt_is_broken(prompt, text, worse):
    reply = ask("degrade", "compliance", text, prompt=prompt)
    assert reply.text == worse
    assert reply.edit.startswith("broke a limit")


def test_asked_for_wording_is_lost():
    text = "The quick bicycle carries a person over the street and back."
    reply = ask("degrade", "compliance", text, prompt='Write a line that uses the word "street".')
    assert "street" not in reply.text
