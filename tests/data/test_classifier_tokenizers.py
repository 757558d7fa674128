"""The tokenizer's files of an exported classifier: one BOS, and the scored token last, whoever renders and encodes."""

import dataclasses
import json

import pytest
import tokenizers
import transformers
from test_tokenizers import ANSWER, ASK, CONTROL, LLAMA3_SPLIT, SHAPES, TEMPLATES, byte_level_definition

from crome_jax.data.chat_templates import CHATML, GEMMA
from crome_jax.data.tokenizers import Tokenizer, load_tokenizer
from crome_jax.data.vocabularies import Vocabulary
from crome_jax.groups import Message


@pytest.fixture(scope="module")
def vocabulary():
    definition = byte_level_definition(CONTROL, LLAMA3_SPLIT)
    return Vocabulary(definition, bos="<s>", eos="</s>", pad="<pad>", add_bos=True)


def with_post_processor(vocabulary):
    """Return the vocabulary as Gemma's and Llama 3's files have it: a post-processor adds BOS, and here EOS, too."""
    processed = tokenizers.Tokenizer.from_str(json.dumps(vocabulary.definition))
    ids = [(token, vocabulary.ids()[token]) for token in ("<s>", "</s>")]
    processed.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ids)
    return dataclasses.replace(vocabulary, definition=json.loads(processed.to_str()))


def export(tokenizer, folder):
    """Write the files; returns the ids said to be in config.json, and transformers' tokenizer."""
    folder.mkdir()
    return tokenizer.save_for_classifier(folder, 64), transformers.AutoTokenizer.from_pretrained(folder)


def conversation(prompt, answer):
    return [{"role": m.role, "content": m.content} for m in [*prompt, answer]]


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_others_encode_one_bos_and_the_scored_token_last(vocabulary, template, add_bos, processed, tmp_path):
    vocabulary = dataclasses.replace(vocabulary, add_bos=add_bos)
    tokenizer = Tokenizer(with_post_processor(vocabulary) if processed else vocabulary, template)
    ids, reader = export(tokenizer, tmp_path / "out")
    assert ids["eos_token_id"] == reader.eos_token_id == tokenizer.end_of_turn_id
    for shape in ("one turn", "three turns"):
        prompt, answer = tokenizer.encode_conversation(SHAPES[shape], ANSWER.content)
        messages = conversation(SHAPES[shape], ANSWER)
        text = reader.apply_chat_template(messages, tokenize=False)
        assert text.endswith(reader.eos_token)
        for found in (
            reader.apply_chat_template(messages, return_dict=False),
            reader(text).input_ids,
            reader(text, add_special_tokens=False).input_ids,
        ):
            assert found == prompt + answer
            assert found.count(tokenizer.bos_id) == (add_bos or "bos_token" in template)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_what_is_read_back_encodes_the_same_and_is_written_the_same(vocabulary, template, tmp_path):
    tokenizer = Tokenizer(with_post_processor(vocabulary), template)
    before = tokenizer.fingerprint
    export(tokenizer, tmp_path / "once")
    assert tokenizer.fingerprint == before
    once = load_tokenizer(tmp_path / "once")
    for prompt in SHAPES.values():
        assert once.encode_conversation(prompt, "So.") == tokenizer.encode_conversation(prompt, "So.")
    export(once, tmp_path / "twice")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        twice, first = (json.loads((tmp_path / folder / name).read_text()) for folder in ("twice", "once"))
        assert twice == first


@pytest.mark.parametrize("eos", ["</s>", None])
def test_a_template_that_writes_eos_after_every_turn_still_writes_what_it_did(vocabulary, eos, tmp_path):
    written = CHATML.replace("'<|im_end|>\n'", "'<|im_end|>' + (eos_token or '') + pad_token + '\n'")
    vocabulary = dataclasses.replace(vocabulary, eos=eos, pad="<|im_start|>")
    tokenizer = Tokenizer(vocabulary, written)
    _, reader = export(tokenizer, tmp_path / "out")
    assert (reader.eos_token, reader.pad_token) == ("<|im_end|>", "<pad>")
    prompt = [ASK, Message("assistant", "So."), ASK]
    start, end = tokenizer.encode_conversation(prompt, "So.")
    assert start.count(tokenizer.end_of_turn_id) == 3
    assert tokenizer.decode(start).count("</s>") == (3 if eos else 0)
    messages = conversation(prompt, Message("assistant", "So."))
    assert reader.apply_chat_template(messages, return_dict=False) == start + end


def test_bos_goes_before_what_a_template_writes_to_the_last_space(vocabulary, tmp_path):
    for i, source in enumerate(("  " + CHATML, " \n" + CHATML, "\n\n  " + GEMMA)):
        tokenizer = Tokenizer(vocabulary, source)
        _, reader = export(tokenizer, tmp_path / str(i))
        found = reader.apply_chat_template(conversation([ASK], ANSWER), return_dict=False)
        prompt, answer = tokenizer.encode_conversation([ASK], ANSWER.content)
        assert found == prompt + answer
