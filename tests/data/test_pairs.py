"""Two answers in one slot: what it holds, which stands first, and what is cut of those that do not fit."""

import dataclasses
import itertools

import numpy as np
import pytest
from test_tokenizers import CONTROL, TEMPLATES, byte_level_definition
from toy import WordTokenizer, text_groups

from crome_jax.data.chat_templates import ChatTemplate
from crome_jax.data.loading import pack_groups, tokenize_groups
from crome_jax.data.packing import RowShape
from crome_jax.data.pairs import REQUEST, PairForm
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.data.vocabularies import Vocabulary
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Comparison, Kind, Message, PreferenceGroup, Response

WIDE = RowShape(512, 16, 16)
BOTH, RANDOM = PairForm("both"), PairForm()


@pytest.fixture(scope="module", params=TEMPLATES)
def tokenizer(request):
    vocabulary = Vocabulary(byte_level_definition(CONTROL), bos="<s>", eos="</s>", pad="<pad>", add_bos=True)
    return Tokenizer(vocabulary, TEMPLATES[request.param])


def pair(first: str, second: str, prompt: str = "Why?", **fields) -> PreferenceGroup:
    comparison = Comparison(0, 1, **fields)
    return PreferenceGroup("one", (Message("user", prompt),), (Response(first), Response(second)), (comparison,))


def encode(groups, tokenizer, form=BOTH, shape=WIDE):
    return list(tokenize_groups(groups, tokenizer, shape, pairs=form))


def test_a_slot_is_the_two_answers_with_a_turn_between_as_the_template_writes_it(tokenizer):
    group = pair("It is so.", "It is not.")
    (item,) = encode([group], tokenizer)
    first, second = (tokenizer.encode_response(r.text) for r in group.responses)
    between = tokenizer.encode_between(REQUEST)
    assert item.prompt == tokenizer.encode_prompt(group.prompt)
    assert item.responses == [[*first, *between, *second], [*second, *between, *first]]
    assert item.responses[0][-1] == tokenizer.end_of_turn_id
    # As the template writes the whole conversation, but for what it writes after the last turn.
    template = ChatTemplate(
        tokenizer.chat_template, special_tokens={"bos_token": "<s>", "eos_token": "</s>"}, control_tokens=CONTROL
    )
    turns = [*group.prompt, Message("assistant", "It is so."), Message("user", REQUEST)]
    whole = [*item.prompt, *first, *between]
    written = "".join(template.prompt(turns))
    assert tokenizer.decode(whole).removeprefix("<s>") == written.removeprefix("<s>")
    assert tokenizer.writes_pairs(REQUEST)


def test_no_answer_can_spell_what_stands_between_or_ends_a_turn(tokenizer):
    plain, forged = pair("a", "b"), "a" + "".join(CONTROL) + REQUEST + "".join(CONTROL)
    controls = [tokenizer.encode_response("x")[-1]]
    controls += [i for i in range(tokenizer.vocab_size) if tokenizer.decode([i]) in CONTROL]
    count = lambda ids: [i for i in ids if i in controls]  # noqa: E731
    for group in (pair(forged, "b"), pair("a", forged)):
        for ours, theirs in zip(
            encode([group], tokenizer)[0].responses, encode([plain], tokenizer)[0].responses, strict=True
        ):
            assert count(ours) == count(theirs)


def test_a_template_that_drops_earlier_answers_is_refused():
    vocabulary = Vocabulary(byte_level_definition(CONTROL), bos="<s>", eos="</s>", pad="<pad>")
    last = "{% for m in messages %}{% if loop.last or m['role'] == 'user' %}{{ m['role'] + m['content'] + '</s>' }}"
    last += "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}"
    with pytest.raises(CromeError, match="drops or does not end the first of the two answers"):
        encode([pair("a", "b")], Tokenizer(vocabulary, last))


def test_a_template_that_writes_earlier_answers_otherwise_is_told_apart():
    vocabulary = Vocabulary(byte_level_definition(CONTROL), bos="<s>", eos="</s>", pad="<pad>")
    thoughtful = "{% for m in messages %}{{ m['role'] + ('!' if loop.last and m['role'] == 'assistant' else '') }}"
    thoughtful += "{{ m['content'] + '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}"
    assert not Tokenizer(vocabulary, thoughtful).writes_pairs(REQUEST)


def test_either_order_has_half_the_weight_and_the_target_of_its_first():
    group = pair("yes", "no", target=0.75, kind=Kind.CAUSAL, weight=3.0, margin=0.5)
    (item,) = encode([group], WordTokenizer())
    assert item.left.tolist() == [0, 1]
    assert item.right.tolist() == [-1, -1]
    assert item.target.tolist() == [0.75, 0.25]
    assert item.weight.tolist() == [1.5, 1.5]
    assert item.margin.tolist() == [0.5, 0.5]
    assert item.kind.tolist() == [Kind.CAUSAL, Kind.CAUSAL]


def test_a_drawn_order_is_the_seed_s_and_the_pair_s_alone():
    groups = text_groups(60)
    drawn = encode(groups, WordTokenizer())
    one, other = (encode(groups, WordTokenizer(), PairForm("random", seed)) for seed in (0, 1))
    first = [item.responses[0] == both.responses[0] for item, both in zip(one, drawn, strict=True)]
    assert 20 < sum(first) < 40
    assert first != [item.responses[0] == both.responses[0] for item, both in zip(other, drawn, strict=True)]
    # The toy's second comparison is its first, said the other way round: one slot, and targets that say the same.
    for item, low_first in zip(one, first, strict=True):
        assert item.left.tolist() == [0, 0]
        assert item.target.tolist() == [float(low_first)] * 2
        assert len(item.responses) == 1
    # Whatever else is there, and in whatever order.
    later = encode(groups[::-1], WordTokenizer())
    assert [item.responses for item in encode(groups[::-1], WordTokenizer(), RANDOM)] == [
        item.responses for item in one[::-1]
    ]
    assert len(later) == len(groups)


@pytest.mark.parametrize(
    ("lengths", "kept"),
    [
        # 64 tokens, of which the prompt takes 3 and the turn between the answers 16: 45 are left.
        ((60, 60), (22, 23)),
        ((60, 10), (34, 11)),  # With the end of its turn.
        ((9, 60), (10, 35)),
        ((20, 20), (21, 21)),
    ],
)
def test_of_answers_that_do_not_fit_both_are_cut_alike_in_either_order(lengths, kept):
    tokenizer = WordTokenizer()
    between = tokenizer.encode_between(REQUEST)
    group = pair(*(" ".join(f"{side}{n}" for n in range(length)) for side, length in zip("ab", lengths, strict=True)))
    (item,) = encode([group], tokenizer, shape=RowShape(64, 4, 4))
    assert len(between) == 16
    answers = [tokenizer.encode_response(r.text) for r in group.responses]
    cut = [[*ids[: length - 1], 6] for ids, length in zip(answers, kept, strict=True)]
    assert item.responses == [[*cut[0], *between, *cut[1]], [*cut[1], *between, *cut[0]]]
    assert item.cut == sum(length < len(ids) for length, ids in zip(kept, answers, strict=True))
    rows = pack_groups([group], tokenizer, RowShape(64, 4, 4), pairs=BOTH)
    assert (rows.truncated, rows.equal) == (item.cut, 0)
    assert len(rows) == 2


def test_a_pair_that_differs_beyond_the_cut_alone_has_no_weight_and_is_counted():
    long = " ".join(f"w{n}" for n in range(60))
    groups = [pair(f"{long} well", f"{long} badly"), pair("one", "other")]
    rows = pack_groups(groups, WordTokenizer(), RowShape(64, 4, 4), pairs=PairForm())
    assert rows.equal == 1
    assert int((rows.batch.weight > 0).sum()) == 1


def test_a_prompt_without_room_for_two_answers_is_named():
    long = pair("a", "b", prompt="word " * 20)
    with pytest.raises(DataError, match=r"group 'one': 'prompt' takes 38 tokens; a row has 64"):
        encode([long], WordTokenizer(), shape=RowShape(64, 4, 4))


def test_every_comparison_is_placed_once_with_both_of_its_answers():
    groups = [
        dataclasses.replace(
            group,
            comparisons=tuple(Comparison(a, b) for a, b in itertools.permutations(range(len(group.responses)), 2)),
        )
        for group in text_groups(12)
    ]
    rows = pack_groups(groups, WordTokenizer(), RowShape(160, 8, 8), pairs=RANDOM)
    b = rows.batch
    items = encode(groups, WordTokenizer(), RANDOM)
    placed = sorted(
        (int(rows.groups[row, b.left[row, c]]), int(rows.responses[row, b.left[row, c]]), float(b.target[row, c]))
        for row, c in zip(*np.nonzero(b.weight), strict=True)
    )
    assert placed == sorted((i.index, int(s), float(t)) for i in items for s, t in zip(i.left, i.target, strict=True))
    assert (b.right[b.weight > 0] == -1).all()
    for row, slot in zip(*np.nonzero(rows.groups >= 0), strict=True):
        held = b.tokens[row][b.response_ids[row] == slot + 1].tolist()
        assert held == items[rows.groups[row, slot]].responses[rows.responses[row, slot]]


def test_an_unknown_order_is_an_error():
    with pytest.raises(CromeError, match="pair order is 'first'; give one of random, both"):
        PairForm("first")
