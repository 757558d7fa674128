from crome_jax.augment.oracles.offline.draft import by_weight, key_sentences, touched
from crome_jax.augment.oracles.offline.rarity import Rarity
from crome_jax.augment.oracles.offline.sentences import parse
from crome_jax.augment.words import content_words
from crome_jax.groups import build_group

TOPIC = content_words("How do whales sing?")
STOCK = "Feel free to come back with more questions."
ANSWER = parse(f"{STOCK} Whales sing by pushing air past a fold. Nice.\n\nTheir songs carry for miles in cold water.")
MATTERS = ("Omelettes want butter.", "Saturn has rings.", "Violins have strings.", "Bread must rise.", "Dogs bark.")


def test_what_says_most_about_the_question_is_the_first_key_sentence():
    # Sentence 1 has the question's words; 2 is a fragment that nothing could stand in for.
    assert by_weight(ANSWER, TOPIC, Rarity())[0] == 1
    assert key_sentences(ANSWER, TOPIC, Rarity())[0] == 1
    assert 2 not in by_weight(ANSWER, TOPIC, Rarity())


def test_a_stock_phrase_is_a_key_sentence_until_it_is_seen_to_recur():
    assert sorted(key_sentences(ANSWER, TOPIC, Rarity())) == [0, 1, 3]
    rows = [f"{matter} {STOCK}" for matter in MATTERS]
    recurring = Rarity.of(
        build_group(id=f"g{k}", prompt="Why?", responses=[row], comparisons=[]) for k, row in enumerate(rows)
    )
    assert sorted(key_sentences(ANSWER, TOPIC, recurring)) == [1, 3]


def test_a_document_without_sentences_has_no_key_sentence():
    assert key_sentences(parse("\n"), TOPIC, Rarity()) == []


def test_one_sentence_in_three_is_touched_at_least_one_and_at_most_four():
    assert [touched(count) for count in (1, 2, 3, 5, 7, 10, 13, 40)] == [1, 1, 1, 2, 2, 3, 4, 4]
