import io
import json
import os
import re
from pathlib import Path

import gguf
import pytest
import sentencepiece
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2
from tokenizers import models, normalizers, pre_tokenizers, trainers
from transformers.integrations.gguf.gguf_tokenizer_mapping import (
    GGUF_PRE_TOKENIZER_SPLITS,
    convert_gguf_tokenizer,
    get_gguf_tokenizer,
)
from transformers.tokenization_utils_base import generate_merges

from crome_jax.data.chat_templates import GEMMA
from crome_jax.data.tokenizers import Tokenizer, gguf_tokenizer, load_tokenizer
from crome_jax.data.vocabularies import rank_merges, read_gguf_vocabulary
from crome_jax.errors import CromeError
from crome_jax.weights.gguf_header import open_gguf
from crome_jax.weights.packages import find_backbone

CORPUS = [
    *(
        "Hello, world! It's we'll they've I'M HE'LL.",
        "naïve café e\u0301 Å ﬁ ①②³ ½ ٣٤٥ 1234567890 3.14 1,000",
        "　全角　１２３",
    ),
    *("日本語のテキスト。中文，한국어 텍스트", "مرحبا بالعالم שלום नमस्ते ไทย", "😀👍🏽🇺🇸❤️ 👨‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
    *("def f(x):\n\treturn x ** 2  # comment\n\n\n\nif a!=b:\r\n    pass\r\n", "<b>bold</b><table><tr></tr></table>"),
    *(
        "  leading",
        "trailing  ",
        "a  b   c    d",
        "\n",
        "\n\n\n",
        "\t\t\tx",
        " \n \n ",
        "a\u00a0b\u2003c\u200bd",
        "▁▁ x▁y ▁",
    ),
    *("\x01\x04\x1b\x7f", "<0x0A><0x41>", "[multimodal]", "$%^&*()_+-={}[]|\\:;\"'<>?,./~`", "aaaaaaaaaaaaaaaa" * 9),
    "The quick brown fox jumps over 13 lazy dogs; " * 60,
]
SPELLED = ["<|im_end|>", "a<|im_start|>user\nb<|im_end|>\n", "<|endoftext|><|eot_id|>", "<bos><end_of_turn> <eos></s>"]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
# Letters and spaces that occur in the vocabularies below, so that merges and runs of spaces matter.
prose = st.text(st.sampled_from("the fox dog 12'sl\n\t"), max_size=40)


def split_like(family):
    isolated = pre_tokenizers.Split(tokenizers.Regex(GGUF_PRE_TOKENIZER_SPLITS[family]), behavior="isolated")
    return pre_tokenizers.Sequence([isolated, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS_APART = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTE_LEVEL])
FAMILIES = {
    "gpt-2": (BYTE_LEVEL, None),
    "smollm": (DIGITS_APART, None),
    "qwen2": (split_like("qwen2"), normalizers.NFC()),
    "llama-bpe": (split_like("llama-bpe"), None),
}


def write_gguf(path, *, model, tokens, types, **facts):
    """Write a GGUF file that holds a vocabulary and nothing else; `facts` go to the writer's `add_...` methods."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    for name, value in facts.items():
        getattr(writer, f"add_{name}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module", params=FAMILIES)
def byte_level(request, tmp_path_factory):
    """Return a tokenizer trained by Hugging Face's library, and ours read from a GGUF file of its vocabulary."""
    reference = tokenizers.Tokenizer(models.BPE(ignore_merges=request.param == "llama-bpe"))
    reference.pre_tokenizer, normalizer = FAMILIES[request.param]
    if normalizer:
        reference.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    reference.train_from_iterator(CORPUS, trainer)
    definition = json.loads(reference.to_str())
    model = definition["model"]
    # A word that no merge makes: only Llama 3 finds it.
    model["vocab"]["Ġunmade"] = len(model["vocab"])
    reference = tokenizers.Tokenizer.from_str(json.dumps(definition))
    reference.add_tokens(["<think>"])
    reference.encode_special_tokens = True
    tokens = [*sorted(model["vocab"], key=model["vocab"].get), "<think>", "<start_of_image>"]
    path = write_gguf(
        tmp_path_factory.mktemp("gguf") / "toy.gguf",
        model="gpt2",
        tokens=tokens,
        types=[3] * 3 + [1] * (len(tokens) - 5) + [4, 4],
        tokenizer_pre=request.param,
        token_merges=[" ".join(merge) for merge in model["merges"]],
        eos_token_id=2,
    )
    return reference, load_tokenizer(path)


def assert_same(reference, tokenizer, text):
    assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids


@given(text=texts | prose)
def test_byte_level_vocabularies_split_as_hugging_face_does(byte_level, text):
    assert_same(*byte_level, text)


def test_byte_level_vocabularies_agree_on_the_corpus(byte_level):
    for text in [*CORPUS, *SPELLED, "a<think>b</think>", "<start_of_image>", "an unmade word"]:
        assert_same(*byte_level, text)


USER_DEFINED = ["\n", "\n\n", "<b>", "▁▁", "▁▁▁", "▁▁▁▁"]


def train_sentencepiece(add_dummy_prefix, control=("<end_of_turn>",), user_defined=USER_DEFINED):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in CORPUS for line in text.split("\n")] * 3),
        model_writer=model,
        model_type="bpe",
        vocab_size=800,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        add_dummy_prefix=add_dummy_prefix,
        control_symbols=list(control),
        # With a prefix Hugging Face's way, which ours is, parts from sentencepiece's after a user-defined token.
        user_defined_symbols=[] if add_dummy_prefix else user_defined,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="module", params=[False, True], ids=["", "prefix"])
def spm(request, tmp_path_factory):
    """Return a sentencepiece model, and ours read from its file and from a GGUF file of its vocabulary."""
    folder = tmp_path_factory.mktemp("spm")
    model = train_sentencepiece(request.param)
    (folder / "tokenizer.model").write_bytes(model)
    pieces = sentencepiece_model_pb2.ModelProto.FromString(model).pieces
    path = write_gguf(
        folder / "toy.gguf",
        model="llama",
        tokens=[piece.piece.replace("▁", " ") if piece.type == 4 else piece.piece for piece in pieces],
        types=[piece.type for piece in pieces],
        token_scores=[-1000.0 if piece.type == 4 else piece.score for piece in pieces],
        add_space_prefix=request.param,
        unk_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    return reference, load_tokenizer(folder / "tokenizer.model"), load_tokenizer(path)


@given(text=texts | prose)
@example(text=CORPUS[-1])
def test_sentencepiece_vocabularies_split_as_sentencepiece_does(spm, text):
    reference, *ours = spm
    for tokenizer in ours:
        assert tokenizer.encode(text) == reference.encode(text)


def test_sentencepiece_vocabularies_agree_on_the_corpus(spm):
    reference, *ours = spm
    for text in [*CORPUS, *SPELLED]:
        # Hugging Face finds a run of ▁ before it turns spaces into ▁, sentencepiece after.
        text = text.replace("▁", " ")
        for tokenizer in ours:
            assert tokenizer.encode(text) == reference.encode(text)


def test_one_vocabulary_in_two_kinds_of_file_is_one(spm):
    _, from_model, from_gguf = spm
    assert from_model.fingerprint == from_gguf.fingerprint


@given(text=texts | prose)
def test_sentencepiece_vocabularies_decode_what_they_encode(spm, text):
    for tokenizer in spm[1:]:
        assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " ")


TURNS = ["<start_of_turn>", "<end_of_turn>", "<start_of_image>"]


@pytest.fixture
def gemma_like(tmp_path):
    """Return a folder with a sentencepiece model like Gemma's, turn tokens user-defined as HTML tags are."""
    (tmp_path / "tokenizer.model").write_bytes(train_sentencepiece(False, [], ["\n", "<b>", "<hush>", *TURNS]))
    return tmp_path


def write_added_tokens(folder, added):
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))


def test_the_turn_tokens_of_gemma_s_sentencepiece_model_are_no_text(gemma_like):
    for path in (gemma_like, gemma_like / "tokenizer.model"):
        tokenizer = load_tokenizer(path)
        assert tokenizer.chat_template == GEMMA
        ids = tokenizer._vocabulary.ids()
        assert tokenizer.end_of_turn_id == ids["<end_of_turn>"]
        assert not {ids[token] for token in TURNS}.intersection(tokenizer.encode("a" + "b".join(TURNS)))
        assert tokenizer.encode("<b>") == [ids["<b>"]]  # A tag is.


def test_tokenizer_config_says_which_added_tokens_are_no_text_and_adds_its_own(gemma_like):
    plain = load_tokenizer(gemma_like)
    ids, last = plain._vocabulary.ids(), plain.vocab_size
    said = {"<hush>": True, "<start_of_image>": False}
    added = {str(ids[token]): {"content": token, "special": special} for token, special in said.items()}
    added |= {
        str(last): {"content": "<|new|>", "special": True},
        str(last + 1): {"content": "<td>", "normalized": False},
    }
    write_added_tokens(gemma_like, added)
    tokenizer = load_tokenizer(gemma_like)
    assert tokenizer.vocab_size == last + 2
    assert ids["<hush>"] not in tokenizer.encode("<hush>")
    assert last not in tokenizer.encode("<|new|>")
    assert tokenizer.encode("<start_of_image><td>") == [ids["<start_of_image>"], last + 1]
    assert tokenizer.end_of_turn_id == plain.end_of_turn_id


def test_added_tokens_that_are_not_the_sentencepiece_model_s_are_an_error(gemma_like):
    end, last = load_tokenizer(gemma_like)._vocabulary.ids()["<end_of_turn>"], 10_000
    for added, message in [
        (
            {str(end): {"content": "<|im_end|>"}},
            f"token {end} is '<|im_end|>', by tokenizer.model it is '<end_of_turn>'",
        ),
        (
            {str(last): {"content": "<end_of_turn>"}},
            f"token {last} is '<end_of_turn>', by tokenizer.model it is 'no token'",
        ),
        ({str(last): {"content": "<|a|>", "special": True, "rstrip": True}}, r"'<|a|>' swallows what is around it"),
        ({"first": {"content": "<|a|>"}}, "added_tokens_decoder is damaged"),
        ({str(last): "<|a|>"}, "added_tokens_decoder is damaged"),
        (["<|a|>"], "added_tokens_decoder is damaged"),
    ]:
        write_added_tokens(gemma_like, added)
        with pytest.raises(CromeError, match=f"tokenizer_config.json: .*{re.escape(message)}"):
            load_tokenizer(gemma_like)


def test_merges_are_ranked_as_hugging_face_ranks_them():
    pieces = sentencepiece_model_pb2.ModelProto.FromString(train_sentencepiece(False)).pieces
    tokens, scores = [piece.piece for piece in pieces], [piece.score for piece in pieces]
    ids = {token: i for i, token in enumerate(tokens)}
    expected = generate_merges(ids, dict(zip(tokens, scores, strict=True)))
    assert rank_merges(tokens, scores, [piece.type for piece in pieces]) == list(map(tuple, expected))


@pytest.fixture(scope="module")
def smollm2():
    """Return transformers' tokenizer of the default backbone, and ours."""
    try:
        path = find_backbone("smollm2-135m")
    except CromeError as e:
        pytest.skip(str(e))
    architecture, facts, _ = get_gguf_tokenizer(str(path))
    reference, _ = convert_gguf_tokenizer(architecture, facts)
    reference.pre_tokenizer = DIGITS_APART  # what 'smollm' stands for; transformers knows it no better than 'gpt-2'
    reference.encode_special_tokens = True
    return reference, load_tokenizer(path)


@given(text=texts)
@example(text="".join(CORPUS + SPELLED))
def test_smollm2_splits_as_hugging_face_does(smollm2, text):
    assert_same(*smollm2, text)


@pytest.fixture(scope="module")
def published():
    """Return the folder of published tokenizers, each a folder with tokenizer.json and tokenizer_config.json."""
    if "CROME_TOKENIZERS" not in os.environ:
        pytest.skip("set CROME_TOKENIZERS to a folder of Hugging Face tokenizer folders: gemma2, gemma3, ...")
    return Path(os.environ["CROME_TOKENIZERS"])


def read_published(folder):
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    reference.encode_special_tokens = True
    return reference


@pytest.mark.slow
def test_published_tokenizers_split_as_hugging_face_does(published):
    for folder in filter(Path.is_dir, published.iterdir()):
        reference, tokenizer = read_published(folder), load_tokenizer(folder)
        for text in [*CORPUS, *SPELLED]:
            assert_same(reference, tokenizer, text)


@pytest.mark.slow
def test_the_gemma_3_of_a_gguf_file_is_the_published_one(published):
    try:
        path = find_backbone("gemma3-270m")
    except CromeError as e:
        pytest.skip(str(e))
    vocabulary = read_gguf_vocabulary(open_gguf(path))
    definition = json.loads((published / "gemma3" / "tokenizer.json").read_text(encoding="utf-8"))
    assert vocabulary.definition["model"]["vocab"] == definition["model"]["vocab"]
    assert [*map(list, vocabulary.definition["model"]["merges"])] == definition["model"]["merges"]
    reference, tokenizer = read_published(published / "gemma3"), Tokenizer(vocabulary)
    for text in [*CORPUS, *SPELLED]:
        assert_same(reference, tokenizer, text)


@pytest.mark.parametrize(
    ("facts", "add_bos"),
    [
        ({"tokenizer_pre": "gpt-2"}, False),
        ({"tokenizer_pre": "llama-bpe"}, True),
        ({"tokenizer_pre": "llama-bpe", "add_bos_token": False}, False),
        ({"tokenizer_pre": "gpt-2", "add_bos_token": True}, True),
    ],
)
def test_a_gguf_file_that_does_not_say_follows_its_family_about_bos(tmp_path, facts, add_bos):
    path = write_gguf(
        tmp_path / "toy.gguf", model="gpt2", tokens=["a", "aa"], types=[1, 1], token_merges=["a a"], **facts
    )
    assert read_gguf_vocabulary(open_gguf(path)).add_bos == add_bos


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"model": "gpt2", "tokenizer_pre": "tekken", "token_merges": ["a a"]},
            "pre-tokenizer 'tekken'; supported are",
        ),
        ({"model": "gpt2", "token_merges": ["a a"]}, "pre-tokenizer 'default'; supported are"),
        ({"model": "t5"}, "vocabulary of kind 't5'"),
        ({"model": "gpt2"}, ".*merges are missing"),
        ({"model": "llama"}, ".*scores or merges are missing"),
        ({"model": "llama", "token_scores": [0.0]}, "without byte tokens"),
    ],
)
def test_an_unsupported_gguf_vocabulary_is_an_error(tmp_path, facts, message):
    path = write_gguf(tmp_path / "odd.gguf", tokens=["a"], types=[1], **facts)
    with pytest.raises(CromeError, match=rf"odd\.gguf: {message}"):
        gguf_tokenizer(open_gguf(path))


def test_an_unsupported_file_is_an_error(tmp_path):
    with pytest.raises(CromeError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"no such thing")
    with pytest.raises(CromeError, match="not a sentencepiece model"):
        load_tokenizer(tmp_path)
    tokenizers.Tokenizer(models.Unigram([("a", 0.0)])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CromeError, match="only BPE"):
        load_tokenizer(tmp_path)
    for content, message in [("{", "cannot be read"), ("[]", "no JSON object"), ("{}", "no tokenizer definition")]:
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(CromeError, match=rf"tokenizer\.json: .*{message}"):
            load_tokenizer(tmp_path)
