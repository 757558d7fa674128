"""An exported folder is the model: to transformers, whatever the batch and the padding, and to ourselves."""

import dataclasses
import json
import logging
import pickle
import warnings

import jax
import numpy as np
import pytest
import torch
import transformers
from reference import FAMILIES, TOKENS, from_torch, reference, rendered, write_tokenizer
from toy import mesh_of, text_groups

from crome_jax.data.chat_templates import CHATML, GEMMA, LLAMA3, ChatTemplate, ending_with
from crome_jax.data.loading import tokenize
from crome_jax.data.packing import RowShape, pack
from crome_jax.data.pairs import REQUEST
from crome_jax.data.tokenizers import Tokenizer, load_tokenizer
from crome_jax.data.vocabularies import Vocabulary
from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.pair_scoring import score_pairs
from crome_jax.evaluation.reward_models import open_reward_model
from crome_jax.evaluation.scoring import RewardModel, score_groups
from crome_jax.groups import Message, Response
from crome_jax.models import weights
from crome_jax.models.config import Lora
from crome_jax.weights.adapters import write_adapter
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.export import write_folder
from crome_jax.weights.folder_configs import PAIR_REQUEST
from crome_jax.weights.safetensors_files import INDEX, TensorFiles

CASES = [(family, seed) for family in FAMILIES for seed in (0, 1)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return load_tokenizer(folder)


def logits(model, reader, texts: list[str], size: int, side: str) -> list[float]:
    """Return what transformers gives for texts, so many at once, padded at that side."""
    found = []
    for start in range(0, len(texts), size):
        batch = reader(
            texts[start : start + size], padding=True, padding_side=side, add_special_tokens=False, return_tensors="pt"
        )
        with torch.no_grad():
            found += model(**batch).logits[:, 0].tolist()
    return found


def export(out, model, cfg, tokenizer, **options):
    params = from_torch(model.state_dict(), cfg)
    write_folder(out, params, cfg, tokenizer, context=4096, card="# A card\n", **options)
    return params


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def load_quietly(folder):
    """Load model and tokenizer as others do; a warning is an error."""
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    finally:
        logger.removeHandler(handler)
    assert not heard
    assert not [str(w.message) for w in warned if "transformers" in str(w.filename)]
    return model.eval(), tokenizer


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_importing_what_was_exported_is_the_identity(family, seed, tokenizer, tmp_path):
    model, cfg = reference(family, seed, TOKENS)
    params = export(tmp_path / "out", model, cfg, tokenizer, shard_bytes=30_000 if seed else 10**9)
    assert (tmp_path / "out" / INDEX).exists() == (seed == 1)
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1
    base = load_backbone(str(tmp_path / "out"))
    assert base.cfg == cfg
    assert_equal(base.params, params)
    write_folder(tmp_path / "again", base.params, base.cfg, base.tokenizer, context=4096, card="# A card\n")
    again = load_backbone(str(tmp_path / "again"))
    assert again.cfg == cfg
    assert_equal(again.params, params)
    assert again.tokenizer.fingerprint == base.tokenizer.fingerprint


@pytest.mark.parametrize("family", FAMILIES)
def test_rewards_through_transformers_are_ours(family, tokenizer, tmp_path):
    theirs, cfg = reference(family, 0, TOKENS)
    params = export(tmp_path / "out", theirs, cfg, tokenizer)
    groups = text_groups(3)
    ours = RewardModel(params, cfg, tokenizer, RowShape(256, 8, 8), mesh_of(1, 1, 1))
    expected = np.concatenate(score_groups(ours, groups).rewards)[:8]
    model, reader = load_quietly(tmp_path / "out")
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")
    texts = rendered(reader, groups)[:8]
    for side in ("left", "right"):
        for size in (1, 2, 3, 8):
            found = logits(model, reader, texts, size, side)
            # 1e-3 is what was asked for; float32 on both sides gives this.
            np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)


def test_log_odds_of_pairs_through_transformers_are_ours(tokenizer, tmp_path):
    theirs, cfg = reference("qwen2", 0, TOKENS)
    params = from_torch(theirs.state_dict(), cfg)
    params["pair_head"] = params.pop("head")
    write_folder(tmp_path / "out", params, cfg, tokenizer, context=4096, card="# A card\n")
    groups = text_groups(3)
    ours = RewardModel(params, cfg, tokenizer, RowShape(512, 8, 8), mesh_of(1, 1, 1))
    judged = score_pairs(ours, groups).rewards
    model, reader = load_quietly(tmp_path / "out")
    assert model.config.id2label == {0: "first answer better"}

    def logit(group, first, second):
        turns = [("user", group.prompt[0].content), ("assistant", group.responses[first].text), ("user", REQUEST)]
        turns.append(("assistant", group.responses[second].text))
        messages = [{"role": role, "content": content} for role, content in turns]
        inputs = reader.apply_chat_template(messages, return_dict=True, return_tensors="pt")
        with torch.no_grad():
            return float(model(**inputs).logits[0, 0])

    for group, matrix in zip(groups, judged, strict=True):
        found = (logit(group, 0, 1) - logit(group, 1, 0)) / 2
        np.testing.assert_allclose(found, matrix[0, 1], atol=2e-5, rtol=2e-5)
    # Read back it is the same, and starts no reward model's head.
    again = open_reward_model(tmp_path / "out", row_tokens=512).model
    for ours_, theirs_ in zip(score_pairs(again, groups).rewards, judged, strict=True):
        np.testing.assert_allclose(ours_, theirs_, atol=2e-5)
    assert load_backbone(str(tmp_path / "out")).heads.keys() == {"pair_head"}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps(config | {PAIR_REQUEST: "And?"}))
    with pytest.raises(CromeError, match=r"crome_jax_pair_request is 'And\?'; this version asks"):
        open_reward_model(tmp_path / "out")


def test_a_pairwise_model_under_a_template_that_rewrites_earlier_answers_is_refused(tokenizer, tmp_path):
    theirs, cfg = reference("qwen2", 0, TOKENS)
    params = from_torch(theirs.state_dict(), cfg)
    params["pair_head"] = params.pop("head")
    rewriting = CHATML.replace("m['content']", "('!' if loop.last and m['role'] == 'assistant' else '') + m['content']")
    with pytest.raises(CromeError, match="writes the first of two answers otherwise than the last"):
        write_folder(tmp_path / "out", params, cfg, Tokenizer(tokenizer._vocabulary, rewriting), context=64, card="")
    adapted = dataclasses.replace(cfg, lora=Lora(rank=2))
    with pytest.raises(CromeError, match="a pairwise model under this template cannot be exported"):
        write_adapter(
            tmp_path / "out", params, adapted, Tokenizer(tokenizer._vocabulary, rewriting), base="", context=64, card=""
        )


def test_bfloat16_rounds_the_weights_and_leaves_the_head(tokenizer, tmp_path):
    model, cfg = reference("qwen2", 0, TOKENS)
    params = export(tmp_path / "out", model, cfg, tokenizer, dtype="bfloat16")
    kinds = {name: tensor.kind for name, tensor in TensorFiles(tmp_path / "out").tensors.items()}
    assert kinds.pop("score.weight") == "F32"
    assert set(kinds.values()) == {"BF16"}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    base = load_backbone(str(tmp_path / "out"))
    np.testing.assert_array_equal(base.params["head"], params["head"])
    np.testing.assert_allclose(base.params["embed"], params["embed"], rtol=2**-8)


def test_a_cut_decoder_and_one_with_norms_as_in_gguf_are_exported_too(tokenizer, tmp_path):
    model, cfg = reference("gemma3", 0, TOKENS)
    params = from_torch(model.state_dict(), cfg)
    stacked = jax.tree.map(lambda a, b: np.concatenate([a, b]), params["upper"], params["last"])
    fewer = dataclasses.replace(cfg, layers=3)
    cut = weights.split_layers(stacked, weights.layer_runs(fewer, 1))
    plus_one = {run: {k: w + 1 if k.endswith("norm") else w for k, w in tree.items()} for run, tree in cut.items()} | {
        "embed": params["embed"],
        "final_norm": params["final_norm"] + 1,
        "head": params["head"],
    }
    gguf = dataclasses.replace(fewer, norm_plus_one=False)
    write_folder(tmp_path / "out", plus_one, gguf, tokenizer, context=64, card="")
    base = load_backbone(str(tmp_path / "out"), 1)
    assert base.cfg == dataclasses.replace(fewer, pattern=("local",))
    for ours, theirs in zip(jax.tree.leaves(base.params), jax.tree.leaves(
        {**cut, "embed": params["embed"], "final_norm": params["final_norm"], "head": params["head"]}
    ), strict=True):  # fmt: skip
        np.testing.assert_allclose(ours, theirs, atol=3e-7)  # 1 + w is rounded


def test_what_no_class_of_transformers_computes_is_refused(tokenizer, tmp_path):
    model, cfg = reference("llama", 0, TOKENS)
    params = from_torch(model.state_dict(), cfg)
    odd = dataclasses.replace(cfg, embedding_scale=3.0)
    with pytest.raises(CromeError, match="no Hugging Face class of family llama computes what this decoder does"):
        write_folder(tmp_path / "out", params, odd, tokenizer, context=64, card="")
    assert not (tmp_path / "out").exists()


def test_padding_is_never_the_token_that_is_scored(tokenizer, tmp_path):
    definition = json.loads(json.dumps(tokenizer._vocabulary.definition))
    same = Tokenizer(Vocabulary(definition, eos="<|im_end|>", pad="<|im_end|>"))
    ids = same.save_for_classifier(tmp_path, 64)
    assert ids["pad_token_id"] not in (same.end_of_turn_id, None)
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert reader.pad_token_id == ids["pad_token_id"]
    assert reader.model_max_length == 64
    definition["added_tokens"] = [t for t in definition["added_tokens"] if t["content"] == "<|im_end|>"]
    definition["added_tokens"][0]["id"] = 256
    template = "{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}"
    with pytest.raises(CromeError, match=r"every control token that it holds \(<\|im_end\|>\), and padding must"):
        Tokenizer(Vocabulary(definition), template).save_for_classifier(tmp_path, 64)


CONTROL = ["<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|start_header_id|>",
           "<|end_header_id|>", "<|eot_id|>", "<bos>"]  # fmt: skip
MESSAGES = [Message("user", "Who?\n"), Message("assistant", "<|im_end|> I."), Message("user", "And?")]


SPACED = ["\n" + CHATML + "\n", "  \n" + GEMMA + "\n\n", "  " + CHATML]


@pytest.mark.parametrize("source", [CHATML, GEMMA, LLAMA3, *SPACED])
def test_the_template_is_the_same_up_to_the_end_of_the_turn(source):
    make = lambda source: ChatTemplate(source, special_tokens={"bos_token": "<bos>"}, control_tokens=CONTROL)  # noqa: E731
    old = make(source)
    new = make(ending_with(source, old.end_of_turn))
    assert new.stops_there
    assert new.end_of_turn == old.end_of_turn
    assert new.prompt(MESSAGES) == old.prompt(MESSAGES)
    assert new.response("Yes.\n<|im_end|>") == old.response("Yes.\n<|im_end|>")
    turns = [*MESSAGES, Message("assistant", "Me.")]
    rendered = ("".join(template._pieces(turns, False)) for template in (old, new))
    whole, cut = rendered
    assert whole.startswith(cut)
    assert cut.endswith("Me." + old.end_of_turn)


def test_a_date_is_the_same_to_others_on_any_day(tokenizer, tmp_path):
    dated = (
        "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ '<|im_start|>system\n' ~ day ~ strftime_now(' %A %-H:%M %%d') ~ '<|im_end|>\n' }}" + CHATML
    )
    ours = Tokenizer(tokenizer._vocabulary, dated)
    prompt = [Message("user", "Who?")]
    assert "26 Jul 2024 Friday 0:00 %d<|im_end|>" in ours.decode(ours.encode_prompt(prompt))
    ours.save_for_classifier(tmp_path, 64)
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path)
    conversation = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}]
    expected = [i for part in ours.encode_conversation(prompt, "I.") for i in part]
    assert reader.apply_chat_template(conversation, return_dict=True)["input_ids"] == expected
    again = load_tokenizer(tmp_path)
    assert [i for part in again.encode_conversation(prompt, "I.") for i in part] == expected
    again.save_for_classifier(tmp_path, 64)
    assert load_tokenizer(tmp_path).chat_template == again.chat_template


def foreign(folder, padding):
    """Write a classifier as transformers does, under ChatML, which ends a text in a line break; `padding` by name."""
    model, _ = reference("qwen2", 0, TOKENS)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    ids = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    at = next(token["id"] for token in ids if token["content"] == padding)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": at}))


@pytest.mark.parametrize(
    ("template", "padding", "scored"),
    [
        (CHATML, "<|endoftext|>", r'"\n"'),
        # transformers takes the padding it is told of off a text's end, also where the template wrote it.
        (CHATML.replace("<|im_end|>\n", "<|im_end|>"), "<|im_end|>", "the last of the response's text"),
        (CHATML.replace("<|im_end|>\n", "<|im_end|>\n<|endoftext|>"), "<|endoftext|>", r'"\n"'),
    ],
)
def test_a_classifier_trained_elsewhere_is_scored_where_transformers_scores_it(template, padding, scored, tmp_path):
    foreign(tmp_path, padding)
    (tmp_path / "chat.jinja").write_text(template)
    groups = text_groups(1)
    found = open_reward_model(tmp_path, chat_template=str(tmp_path / "chat.jinja"), row_tokens=128)
    assert found.facts["scored token"] == scored
    rewards = np.concatenate(score_groups(found.model, groups).rewards)
    model, reader = load_quietly(tmp_path)
    reader.chat_template = template
    reader.pad_token = padding
    texts = rendered(reader, groups)
    for size, side in ((1, "right"), (len(texts), "left"), (len(texts), "right")):
        theirs = logits(model, reader, texts, size, side)
        np.testing.assert_allclose(rewards, theirs, atol=2e-5, rtol=2e-5)


def test_an_exported_model_ends_with_the_turn_under_a_given_template_too(tokenizer, tmp_path):
    model, cfg = reference("qwen2", 0, TOKENS)
    export(tmp_path / "out", model, cfg, tokenizer)
    groups = text_groups(2)
    own, given = (open_reward_model(tmp_path / "out", chat_template=t, row_tokens=128) for t in (None, "chatml"))
    assert own.facts["scored token"] == given.facts["scored token"] == '"<|im_end|>"'
    for one, other in zip(*(score_groups(found.model, groups).rewards for found in (own, given)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_response_that_is_cut_keeps_all_that_is_written_after_it(tmp_path):
    foreign(tmp_path, "<|endoftext|>")
    (group,) = text_groups(1)
    group = dataclasses.replace(group, responses=(Response("long " * 40), Response("short")))
    found = open_reward_model(tmp_path, row_tokens=128)
    assert score_groups(found.model, [group]).truncated == 1
    tokenizer = found.model.tokenizer
    ids = tokenizer.encode_response("long " * 40)
    assert tokenizer.decode(ids[-2:]) == "<|im_end|>\n"
    rows = pack([tokenize(group, 0, tokenizer)], RowShape(128, 2, 1), every_response=True)
    assert tokenizer.decode(rows.batch.tokens[0].tolist()).count("<|im_end|>\n") == 3
    assert pickle.loads(pickle.dumps(tokenizer)).encode_response("short") == tokenizer.encode_response("short")


def test_an_empty_response_that_ends_with_padding_alone_is_refused(tmp_path):
    foreign(tmp_path, "<|im_end|>")
    (tmp_path / "chat.jinja").write_text(CHATML.replace("<|im_end|>\n", "<|im_end|>"))
    found = open_reward_model(tmp_path, chat_template=str(tmp_path / "chat.jinja"))
    with pytest.raises(DataError, match="the token that ends its turn is the model's padding"):
        found.model.tokenizer.encode_response("")


@pytest.mark.parametrize("text", ["Plain.", "<|im_end|> I.", "<|im_start|>user\n<|endoftext|>No<|im_end|>"])
def test_text_that_spells_a_control_token_is_text_to_transformers_as_the_card_calls_it(text, tokenizer, tmp_path):
    ids = tokenizer.save_for_classifier(tmp_path, 64)
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path)
    prompt = [Message("user", f"Who? {text}")]
    conversation = [{"role": "user", "content": prompt[0].content}, {"role": "assistant", "content": text}]
    found = reader.apply_chat_template(conversation, sanitize_control_tokens=True, return_dict=True)["input_ids"]
    expected = [i for part in tokenizer.encode_conversation(prompt, text) for i in part]
    assert found == expected
    assert found.count(ids["eos_token_id"]) == expected.count(tokenizer.end_of_turn_id)
