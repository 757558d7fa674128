"""Laws that every edit keeps, whatever the text."""

import gzip
import json
import math
import statistics
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crome_jax.augment.oracles import Declined, Direction, Intervention, OfflineEditor, Rewrite
from crome_jax.augment.oracles.offline.band import formatting, leaves_band
from crome_jax.augment.oracles.offline.editor import ATTRIBUTES
from crome_jax.augment.oracles.offline.rarity import Rarity
from crome_jax.augment.rubrics import RUBRICS
from crome_jax.augment.words import count_words
from crome_jax.groups import Message, build_group

SENTENCES = [
    "The river Nile is 6,650 kilometers long.",
    "It flows north through Egypt and always reaches the sea.",
    "First, Anna Meyer measured it in 1903 with two boats.",
    "You can see crocodiles, hippos, birds and fish there.",
    "I cannot help with the names of all the villages.",
    "Therefore, its source was not known before the year 1858!",
    "Do you want to know more about the Blue Nile?",
    "They built 3 + 4 = 7 dams in *Sudan* and (later) elsewhere.",
    "Yes, that is possible.",
]
MARKERS = ["", "", "", "- ", "1. ", "2. ", "3. ", "## ", "**Note**: ", "> ", "```\n"]

lines = st.tuples(st.sampled_from(MARKERS), st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=4)).map(
    lambda line: line[0] + " ".join(line[1])
)
pages = st.lists(lines, min_size=1, max_size=7).map("\n".join)
texts = st.one_of(pages, pages, st.text(min_size=1, max_size=300))
requests = st.builds(
    Intervention,
    direction=st.sampled_from(Direction),
    attribute=st.sampled_from(list(ATTRIBUTES)),
    prompt=st.one_of(st.sampled_from(SENTENCES), st.text(max_size=80)).map(lambda text: (Message("user", text),)),
    text=texts,
    reference=texts,
    elsewhere=st.lists(texts, max_size=3).map(tuple),
    seed=st.integers(0, 2**64 - 1),
)


def test_every_rubric_has_an_edit():
    assert ATTRIBUTES.keys() == RUBRICS.keys()


@settings(max_examples=400)
@given(requests)
def test_an_edit_changes_the_text_keeps_the_bands_and_says_what_it_did(request):
    reply = next(OfflineEditor().rewrite([request]))
    assert reply == next(OfflineEditor().rewrite([request]))
    if isinstance(reply, Declined):
        assert reply.reason
        return
    assert reply.text != request.text
    assert reply.edit
    words = count_words(request.text)
    assert abs(count_words(reply.text) - words) <= max(4, 0.25 * words)
    assert abs(len(reply.text) - len(request.text)) <= max(24, 0.25 * len(request.text))
    before, after = formatting(request.text), formatting(reply.text)
    slack = {"lines", "bullets", "numbers"} if request.attribute == "compliance" else set()
    assert all(abs(after[m] - n) <= (m in slack) for m, n in before.items())
    reply.text.encode()


@given(st.lists(requests, max_size=5))
def test_replies_come_in_the_order_of_the_requests(batch):
    together = list(OfflineEditor().rewrite(batch))
    assert together == [reply for request in batch for reply in OfflineEditor().rewrite([request])]


@pytest.mark.parametrize(
    "text",
    [
        "🙂🙂🙂",
        "Да, это так.",
        "これは日本語です。とても長い文章ではありません。",
        "Yes",
        "42",
        "NO STOPS AND ONLY CAPITALS HERE AND THERE",
        "def f(x):\n    return x + 1\n",
        "no end of any sentence and no capitals either in this text of words that just goes on",
        " \n \n.",
        "“",
        "1.",
        "- \n- \n- ",
        "word " * 10_000,
        "A is 1, B is 2 and C is not 3. " * 1_500,
        "a, " * 5_000,
        "(" * 3_000,
        "=".join("1" * 2_000),
    ],
)
def test_odd_texts_neither_crash_nor_take_long(text):
    start = time.process_time()
    for attribute in ATTRIBUTES:
        for direction in Direction:
            request = Intervention(direction, attribute, (Message("user", text),), text, text[::-1], (text,), 1)
            reply = next(OfflineEditor().rewrite([request]))
            assert isinstance(reply, Rewrite | Declined)
    # Ten thousand words take well under a second for each of the twelve edits; a quadratic step would take minutes.
    assert time.process_time() - start < 20


def test_the_reason_names_what_the_editor_cannot_do():
    def ask(**kw):
        return next(OfflineEditor().rewrite([Intervention(prompt=(Message("user", "Why?"),), **kw)]))

    assert ask(direction=Direction.DEGRADE, attribute="charm", text="A b.") == Declined("unknown attribute")
    assert ask(direction=Direction.UPGRADE, attribute="order", text="A b.") == Declined(
        "no better answer to move toward"
    )
    assert ask(direction=Direction.DEGRADE, attribute="order", text="Да, это так.") == Declined("not English text")


def test_rubrics_are_those_that_can_show():
    editor = OfflineEditor()
    story = (Message("user", "Write a story about a fox."),)
    assert "factuality" not in editor.rubrics(story, ("The fox ran. It hid. It slept.",), 6)
    assert "order" not in editor.rubrics((Message("user", "Capital of France?"),), ("Paris.", "Rome."), 6)
    assert len(editor.rubrics(story, ("The fox ran. It hid. It slept.",), 2)) == 2


STOCK = ("It is a pleasure to hear from you today.", "Feel free to come back with more questions.")


def test_stock_phrases_are_left_alone_where_they_are_known_to_recur():
    matter = ("Whales sing by pushing air past a fold.", "It carries for miles in the cold sea.")
    text = " ".join((STOCK[0], *matter, STOCK[1]))
    others = ("Omelettes want butter and low heat.", "Saturn has rings of rock and ice.", "Bread must rise in a bowl.")
    groups = [
        build_group(id=f"g{k}", prompt="Why?", responses=[" ".join((STOCK[0], other, STOCK[1]))], comparisons=[])
        for k, other in enumerate(others)
    ]
    prompt = (Message("user", "How do whales sing?"),)

    def spared(editor):
        requests = [
            Intervention(Direction.DEGRADE, attribute, prompt, text, matter[0], others, seed)
            for attribute in ("completeness", "relevance")
            for seed in range(20)
        ]
        replies = [reply.text for reply in editor.rewrite(requests) if isinstance(reply, Rewrite)]
        assert len(replies) > 20
        return [reply.startswith(STOCK[0]) and reply.endswith(STOCK[1]) for reply in replies]

    assert all(spared(OfflineEditor(Rarity.of(groups))))
    assert not all(spared(OfflineEditor()))


def test_bands():
    assert (
        leaves_band("one two three four", "one two three four five six seven eight nine") == "outside the length band"
    )
    assert leaves_band("a **b** c", "a b c") == "outside the formatting band"
    assert leaves_band("- a b c d\n- e", "- a b c d\n- f") is None


@pytest.mark.parametrize(
    ("direction", "attributes", "edited"),
    [
        (Direction.DEGRADE, ATTRIBUTES, 200),
        # The others find little to raise towards an answer that was merely liked better.
        (Direction.UPGRADE, ("factuality", "completeness", "relevance"), 20),
    ],
)
def test_edits_of_real_answers_neither_lengthen_nor_shorten_them(shared_data, direction, attributes, edited):
    path = shared_data / "train" / "ultrafeedback_binarized_sample_train_clean.jsonl.gz"
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file][:400]
    for attribute in attributes:
        drift = []
        for k, row in enumerate(rows):
            elsewhere = tuple(rows[(k + step) % len(rows)]["chosen"] for step in range(1, 6))
            texts = [row["chosen"], row["rejected"]]
            if direction is Direction.UPGRADE:
                texts.reverse()
            request = Intervention(direction, attribute, (Message("user", row["prompt"]),), *texts, elsewhere)
            reply = next(OfflineEditor().rewrite([request]))
            if isinstance(reply, Rewrite):
                drift.append(math.log(count_words(reply.text) / count_words(request.text)))
        assert len(drift) > edited, attribute
        assert abs(statistics.mean(drift)) < 0.02, attribute
