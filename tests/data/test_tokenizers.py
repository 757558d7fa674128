import dataclasses
import json
import pickle

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from crome_jax.data.chat_templates import CHATML, GEMMA, LLAMA3, PLAIN
from crome_jax.data.tokenizers import Tokenizer, load_tokenizer
from crome_jax.data.vocabularies import Vocabulary
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Message

CONTROL = [
    *("<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
]
PROSE = [
    "user\nWhy is the sky blue?\n\nassistant\nThe sky is blue since blue light scatters more; at dusk it is red.\n",
    "def f(x):\n    return x ** 2\n\nIt's 2024 and we'll see 12345 naïve cafés, 日本語 and 😀.   \n\n",
]
TEMPLATES = {"gemma": GEMMA, "llama3": LLAMA3, "chatml": CHATML, "plain": PLAIN}

ASK, ANSWER = Message("user", "Why is the sky blue?"), Message("assistant", "Light scatters.")
SHAPES = {
    "one turn": [ASK],
    "three turns": [ASK, ANSWER, Message("user", "  And at dusk?\n")],
    "five turns": [ASK, ANSWER, Message("user", "日本語 😀"), Message("assistant", "```\nx = 1\n```\n"), ASK],
    "system": [Message("system", "Be brief."), ASK],
}


GPT2_SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False)
LLAMA3_SPLIT = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(tokenizers.Regex(GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"]), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)


def byte_level_definition(control, pre_tokenizer=GPT2_SPLIT):
    """Train a small byte-level BPE in Hugging Face's library and return its tokenizer.json."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizer
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=control, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(PROSE, trainer)
    return json.loads(trained.to_str())


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary(byte_level_definition(CONTROL), bos="<s>", eos="</s>", pad="<pad>", add_bos=True)


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return Tokenizer(vocabulary, CHATML)


@pytest.fixture(scope="module", params=TEMPLATES)
def both(request, vocabulary, tmp_path_factory):
    """Return transformers' tokenizer, read from what ours saved, and ours, for one chat template."""
    if request.param == "llama3":
        # Its prompts end in two line breaks: one word for its own vocabulary, for GPT-2's only at the end of a text.
        vocabulary = dataclasses.replace(vocabulary, definition=byte_level_definition(CONTROL, LLAMA3_SPLIT))
    ours = Tokenizer(vocabulary, TEMPLATES[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    ours.save(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder), ours


def whole(reference, prompt, response=None):
    """Return the ids of the rendered conversation with one BOS."""
    turns = [*prompt, Message("assistant", response)] if response else prompt
    messages = [{"role": m.role, "content": m.content} for m in turns]
    ids = reference.apply_chat_template(messages, add_generation_prompt=not response, return_dict=False)
    bos = reference.convert_tokens_to_ids("<s>")
    return ids if ids[0] == bos else [bos, *ids]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30).filter(
    lambda text: not any(token in text for token in CONTROL)
)
spelled = st.lists(st.sampled_from(CONTROL) | texts, max_size=5).map("".join)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_conversation_is_encoded_as_transformers_does(both, shape):
    reference, tokenizer = both
    prompt = SHAPES[shape]
    if prompt[0].role == "system" and tokenizer.chat_template == GEMMA:
        prompt = [Message("user", "Be brief.\n\nWhy is the sky blue?")]
    for response in ("Light scatters.", "1. Dust\n2. 日本語 😀\n\n", "```py\nx = 1\n```"):
        start, end = tokenizer.encode_conversation(SHAPES[shape], response)
        expected = whole(reference, prompt, response)
        assert start == whole(reference, prompt)
        assert start + end == expected[: len(start) + len(end)]
        assert tokenizer.decode(expected[len(start) + len(end) :]).strip() == ""


@given(question=texts, response=texts)
@example(question="Why?", response="\u0301\u200d 12")
def test_prompt_and_response_are_the_whole_unless_the_response_starts_with_space(both, question, response):
    reference, tokenizer = both
    question, response = question.strip() or "?", response.strip() or "!"
    start, end = tokenizer.encode_conversation([Message("user", question)], response)
    assert start + end == whole(reference, [Message("user", question)], response)[: len(start) + len(end)]


def test_a_response_that_starts_with_space_is_not_joined_to_the_prompt(both):
    _, tokenizer = both
    prompt = [ASK]
    start, end = tokenizer.encode_conversation(prompt, "\n\n  Light scatters.")
    assert start == tokenizer.encode_prompt(prompt)
    assert tokenizer.decode(end).lstrip() == f"Light scatters.{tokenizer.decode([tokenizer.end_of_turn_id])}"


def test_a_response_that_starts_with_space_is_the_same_text_to_transformers_in_other_tokens_at_most(both):
    reference, tokenizer = both
    response = "\n\n  Light scatters."
    start, end = tokenizer.encode_conversation([ASK], response)
    theirs = whole(reference, [ASK], response)[: len(start) + len(end)]
    trims = tokenizer.chat_template in (GEMMA, LLAMA3)
    assert (start + end == theirs) == trims  # "assistant\n" and the next line break are one token, where both are kept.
    cut = tokenizer.decode(whole(reference, [ASK], response))
    assert cut.startswith(tokenizer.decode(start + end))
    # White space within the prompt is theirs in any case.
    spaced = [Message("user", "\n\n  Why?  \n"), ANSWER, Message("user", "\n And?")]
    assert tokenizer.encode_prompt(spaced) == whole(reference, spaced)


@given(question=spelled, response=spelled)
def test_text_never_becomes_a_control_token(both, question, response):
    _, tokenizer = both
    response = f"!{response}"
    control = {tokenizer._control_ids[token] for token in CONTROL}
    assert not control.intersection(tokenizer.encode(question + response))
    start, end = tokenizer.encode_conversation([Message("user", question)], response)
    plain = tokenizer.encode_conversation([Message("user", "?")], "!")
    for ids, expected in zip((start, end), plain, strict=True):
        assert [i for i in ids if i in control] == [i for i in expected if i in control]
    assert end[-1] == tokenizer.end_of_turn_id
    assert end.count(tokenizer.end_of_turn_id) == 1
    assert question.strip() in tokenizer.decode(start)
    assert response.strip() in tokenizer.decode(end)


@given(text=spelled)
def test_decoding_inverts_encoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_control_tokens_are_spelled_out_in_between(tokenizer):
    end = tokenizer.end_of_turn_id
    assert tokenizer.decode([end, end, *tokenizer.encode("日本"), end]) == "<|im_end|><|im_end|>日本<|im_end|>"


@given(many=st.lists(spelled, max_size=5))
def test_many_are_each(tokenizer, many):
    assert tokenizer.encode_many(many) == [tokenizer.encode(text) for text in many]
    assert tokenizer.encode_responses(many) == [tokenizer.encode_response(text) for text in many]


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("template", [GEMMA, CHATML])
def test_a_prompt_starts_with_one_bos_where_either_asks_for_it(vocabulary, add_bos, template):
    tokenizer = Tokenizer(dataclasses.replace(vocabulary, add_bos=add_bos), template)
    ids = tokenizer.encode_prompt([ASK])
    asked = add_bos or template == GEMMA
    assert ids.count(tokenizer.bos_id) == asked
    assert (ids[0] == tokenizer.bos_id) == asked
    assert tokenizer.bos_id not in tokenizer.encode_response("So.")


def test_a_second_bos_is_an_error(vocabulary):
    with pytest.raises(CromeError, match="two BOS tokens"):
        Tokenizer(vocabulary, "{{ bos_token }}" + GEMMA).encode_prompt([ASK])


def test_parts_that_a_vocabulary_lacks(vocabulary):
    bare = Tokenizer(Vocabulary(vocabulary.definition), CHATML)
    assert (bare.bos_id, bare.eos_id, bare.pad_id) == (None, None, 0)
    ids = vocabulary.ids()
    full = Tokenizer(vocabulary, CHATML)
    assert (full.bos_id, full.eos_id, full.pad_id) == (ids["<s>"], ids["</s>"], ids["<pad>"])
    assert full.vocab_size == len(ids)
    assert Tokenizer(dataclasses.replace(vocabulary, pad=None), CHATML).pad_id == ids["</s>"]


def test_the_template_given_goes_before_the_vocabulary_s_and_that_before_the_default(vocabulary):
    shipped = dataclasses.replace(vocabulary, chat_template=LLAMA3)
    assert Tokenizer(shipped, CHATML).chat_template == CHATML
    assert Tokenizer(shipped).chat_template == LLAMA3
    assert Tokenizer(vocabulary).chat_template == GEMMA
    plain = Vocabulary(byte_level_definition(["</s>"]), eos="</s>")
    assert Tokenizer(plain).chat_template == PLAIN
    assert Tokenizer(plain).end_of_turn_id == plain.ids()["</s>"]


def test_a_refused_conversation_names_the_field(vocabulary):
    with pytest.raises(DataError, match="'prompt' is refused"):
        Tokenizer(vocabulary, GEMMA).encode_prompt([ASK, ASK])


def test_a_saved_tokenizer_is_the_same_tokenizer(both, tmp_path):
    _, tokenizer = both
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode_conversation([ASK], "So.") == tokenizer.encode_conversation([ASK], "So.")


@pytest.mark.parametrize("form", ["list", "jinja", "tokens as objects"])
def test_the_forms_of_a_hugging_face_folder(vocabulary, tmp_path, form):
    tokenizer = Tokenizer(vocabulary, LLAMA3)
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    if form == "list":
        named = [("tool_use", CHATML), ("default", LLAMA3)]
        config["chat_template"] = [{"name": name, "template": template} for name, template in named]
    elif form == "jinja":
        del config["chat_template"]
        (tmp_path / "chat_template.jinja").write_text(LLAMA3)
    else:
        config["bos_token"] = {"content": "<s>", "lstrip": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("post_processed", ["$A", "<s> $A", "$A </s>", "<s> $A </s>"])
def test_without_a_word_in_the_configuration_the_post_processor_decides_about_bos(vocabulary, tmp_path, post_processed):
    Tokenizer(vocabulary, CHATML).save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["add_bos_token"], config["bos_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    saved = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = [(token, vocabulary.ids()[token]) for token in ("<s>", "</s>")]
    around = tokenizers.processors.TemplateProcessing(single=post_processed, special_tokens=ids)
    saved.post_processor = tokenizers.processors.Sequence([around])
    saved.save(str(tmp_path / "tokenizer.json"))
    prompt = load_tokenizer(tmp_path).encode_prompt([ASK])
    assert [i for _, i in ids if i in prompt] == ([ids[0][1]] if "<s>" in post_processed else [])
    assert prompt.count(ids[0][1]) <= 1


def test_a_control_token_that_swallows_spaces_is_an_error(vocabulary, tmp_path):
    definition = json.loads(json.dumps(vocabulary.definition))
    definition["added_tokens"][3]["rstrip"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(CromeError, match=r"'<\|im_start\|>' swallows"):
        load_tokenizer(tmp_path)


def test_a_worker_receives_the_same_tokenizer(tokenizer):
    received = pickle.loads(pickle.dumps(tokenizer))
    assert received.fingerprint == tokenizer.fingerprint
    assert received.encode_conversation([ASK], "So.") == tokenizer.encode_conversation([ASK], "So.")


def test_the_fingerprint_tells_apart_what_encodes_differently(vocabulary):
    split_digits = {"type": "Digits", "individual_digits": True}
    apart = {"type": "Sequence", "pretokenizers": [split_digits, vocabulary.definition["pre_tokenizer"]]}
    swapped = json.loads(json.dumps(vocabulary.definition))
    vocab = swapped["model"]["vocab"]
    vocab["Ā"], vocab["ā"] = vocab["ā"], vocab["Ā"]
    variants = [
        Tokenizer(vocabulary, CHATML),
        Tokenizer(vocabulary, "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}" + CHATML),
        Tokenizer(dataclasses.replace(vocabulary, add_bos=False), CHATML),
        Tokenizer(dataclasses.replace(vocabulary, definition=vocabulary.definition | {"pre_tokenizer": apart}), CHATML),
        Tokenizer(dataclasses.replace(vocabulary, definition=swapped), CHATML),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)


def test_padding_is_a_token_that_no_conversation_has(tmp_path):
    """Llama 3 names none: what trainers take off with the padding may not be its beginning of text."""
    control = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|reserved_0|>"]
    definition = byte_level_definition(control, LLAMA3_SPLIT)
    tokenizer = Tokenizer(Vocabulary(definition, bos=control[0], eos="<|eot_id|>", add_bos=True), LLAMA3)
    ids = tokenizer.save_for_classifier(tmp_path, 64)
    prompt, answer = tokenizer.encode_conversation([ASK], "It scatters.")
    assert ids["pad_token_id"] not in prompt + answer
    assert prompt[0] == ids["bos_token_id"]
    assert PreTrainedTokenizerFast.from_pretrained(tmp_path).pad_token == "<|reserved_0|>"
