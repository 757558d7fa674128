"""Vocabularies read from GGUF metadata, a Hugging Face folder or a sentencepiece model.

Whatever the file, the result is a `tokenizer.json` definition: the one description that the `tokenizers` library
runs and that Hugging Face reads back.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from crome_jax.errors import CromeError
from crome_jax.files import read_json_object
from crome_jax.weights.gguf_header import GGUFFile

# What GGUF's token_type and sentencepiece's piece type count alike.
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6

# User-defined in Gemma's tokenizer.model, the last two also in its GGUF files: a response's text could spell them.
_CONTROL_IN_FACT = {"<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"}
_ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}

_GPT2_SPLIT = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
_CONTRACTION_OR_WORD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_PUNCTUATION_OR_SPACE = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(numbers: str) -> dict[str, Any]:
    pattern = f"{_CONTRACTION_OR_WORD}|{numbers}|{_PUNCTUATION_OR_SPACE}"
    isolated = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [isolated, _GPT2_SPLIT | {"use_regex": False}]}


# `tokenizer.ggml.pre` -> the parts of that family's tokenizer.json which its name stands for.
_BYTE_LEVEL_FAMILIES: dict[str, dict[str, Any]] = {
    "gpt-2": {"pre_tokenizer": _GPT2_SPLIT},
    "smollm": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [_DIGITS, _GPT2_SPLIT]}},
    "qwen2": {"pre_tokenizer": _split(r"\p{N}"), "normalizer": {"type": "NFC"}},
    "llama-bpe": {"pre_tokenizer": _split(r"\p{N}{1,3}"), "ignore_merges": True},
}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A vocabulary and the conventions that come with it.

    Args:
        definition: what Hugging Face's `tokenizer.json` holds; added tokens marked `special` are the control tokens.
        bos, eos, pad, unk: spellings of the tokens that play these parts, None where none does.
        add_bos: whether every sequence starts with `bos`.
        chat_template: the Jinja template shipped with it, None where none is.
    """

    definition: dict[str, Any]
    bos: str | None = None
    eos: str | None = None
    pad: str | None = None
    unk: str | None = None
    add_bos: bool = False
    chat_template: str | None = None

    def ids(self) -> dict[str, int]:
        """Return every token's id, control tokens included."""
        added = {token["content"]: token["id"] for token in self.definition["added_tokens"]}
        return self.definition["model"]["vocab"] | added

    def control_tokens(self) -> set[str]:
        """Return the tokens that only a template may write, never the text of a prompt or response."""
        return {token["content"] for token in self.definition["added_tokens"] if token["special"]}


def read_gguf_vocabulary(file: GGUFFile) -> Vocabulary:
    """Read the vocabulary that a GGUF file carries in its metadata.

    Raises:
        CromeError: where there is none, or one of a kind that is not supported.
    """
    path = file.path

    def value(name: str, default: Any = None) -> Any:
        return file.metadata.get(f"tokenizer.{name}", default)

    model, family, tokens = value("ggml.model"), value("ggml.pre", "default"), value("ggml.tokens")
    if model not in ("gpt2", "llama") or not tokens:
        raise CromeError(f"{path}: vocabulary of kind {model!r}; supported are 'gpt2' (byte-level BPE) and 'llama'")
    types = value("ggml.token_type") or [1] * len(tokens)
    scores, merges = value("ggml.scores", []), value("ggml.merges", [])
    if (
        len(types) != len(tokens)
        or (model == "llama" and len(scores) != len(tokens))
        or (model == "gpt2" and not merges)
    ):
        raise CromeError(f"{path}: token types, scores or merges are missing from the vocabulary; fetch it again")
    if model == "llama":
        definition = _sentencepiece_definition(tokens, scores, types, value("ggml.add_space_prefix", True), path)
    elif family in _BYTE_LEVEL_FAMILIES:
        definition = _byte_level_definition(tokens, merges, types, _BYTE_LEVEL_FAMILIES[family])
    else:
        known = ", ".join(_BYTE_LEVEL_FAMILIES)
        raise CromeError(
            f"{path}: pre-tokenizer {family!r}; supported are {known} (or give the Hugging Face folder, whose "
            "tokenizer.json spells its own out)"
        )

    def spelling(part: str) -> str | None:
        token = value(f"ggml.{part}_token_id")
        return tokens[token] if token is not None and token < len(tokens) else None

    return Vocabulary(
        definition,
        bos=spelling("bos"),
        eos=spelling("eos"),
        pad=spelling("padding"),
        unk=spelling("unknown"),
        # Files that do not say follow llama.cpp's defaults.
        add_bos=value("ggml.add_bos_token", model == "llama" or family == "llama-bpe"),
        chat_template=value("chat_template"),
    )


def read_folder_vocabulary(folder: Path | str) -> Vocabulary:
    """Read the vocabulary of a Hugging Face folder: `tokenizer.json`, or `tokenizer.model` where that is absent.

    Raises:
        CromeError: where neither is there, one is not of a supported kind, or tokenizer_config.json is not its own.
    """
    folder = Path(folder)
    config = read_json_object(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    if (folder / "tokenizer.json").exists():
        vocabulary = _read_tokenizer_json(folder / "tokenizer.json")
    elif (folder / "tokenizer.model").exists():
        vocabulary = read_sentencepiece_vocabulary(folder / "tokenizer.model")
        vocabulary = _with_added_tokens(vocabulary, config.get("added_tokens_decoder") or {}, folder)
    else:
        raise CromeError(f"{folder}: holds neither tokenizer.json nor tokenizer.model; copy one of them there")

    def spelling(part: str) -> str | None:
        token = config.get(f"{part}_token", getattr(vocabulary, part))
        return token["content"] if isinstance(token, dict) else token

    template = config.get("chat_template")
    if isinstance(template, list):
        named = [one for one in template if isinstance(one, dict) and one.get("name") == "default"]
        template = named[0].get("template") if named else template
    if (folder / "chat_template.jinja").exists():
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if template is not None and not isinstance(template, str):
        raise CromeError(f"{folder / 'tokenizer_config.json'}: chat_template is {template!r}, not text; fetch it again")
    add_bos = config.get("add_bos_token")
    return dataclasses.replace(
        vocabulary,
        **{part: spelling(part) for part in ("bos", "eos", "pad", "unk")},
        add_bos=vocabulary.add_bos if add_bos is None else add_bos,
        chat_template=template,
    )


def read_sentencepiece_vocabulary(path: Path | str) -> Vocabulary:
    """Read a sentencepiece BPE model (`tokenizer.model`); it starts every sequence with its BOS, as Llama and Gemma do.

    Raises:
        CromeError: where it is no such model, or one that rewrites text before splitting it.
    """
    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(Path(path).read_bytes())
    except Exception as e:  # protobuf's DecodeError, whose module differs between its implementations
        raise CromeError(f"{path}: not a sentencepiece model ({e}); fetch it again") from None
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    if trainer.model_type != trainer.BPE or normalizer.name != "identity" or normalizer.remove_extra_whitespaces:
        raise CromeError(f"{path}: only sentencepiece BPE models without normalisation are supported")
    tokens = [piece.piece for piece in model.pieces]
    definition = _sentencepiece_definition(
        tokens,
        [piece.score for piece in model.pieces],
        [piece.type for piece in model.pieces],
        normalizer.add_dummy_prefix,
        path,
    )
    parts = {part: getattr(trainer, f"{part}_id") for part in ("bos", "eos", "pad", "unk")}
    spelled = {part: tokens[index] if index >= 0 else None for part, index in parts.items()}
    return Vocabulary(definition, **spelled, add_bos=spelled["bos"] is not None)


def rank_merges(tokens: Sequence[str], scores: Sequence[float], types: Sequence[int]) -> list[tuple[str, str]]:
    """Return the merges that make BPE by rank choose what sentencepiece chooses by score.

    Each way to cut a token into two tokens is a merge. Hugging Face's order: by score, then by length of the left and
    of the right part, the largest first; user-defined tokens score 0, as in the sentencepiece model (GGUF has -1000).
    """
    held = set(tokens)
    merges, by_score, by_left, by_right = [], [], [], []
    for token, score, kind in zip(tokens, scores, types, strict=True):
        score = 0.0 if kind == _USER_DEFINED else score
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in held and right in held:
                merges.append((left, right))
                by_score.append(-score)
                by_left.append(-cut)
                by_right.append(cut - len(token))
    # Stable: what is equal stays in the order of the tokens.
    return [merges[place] for place in np.lexsort((by_right, by_left, by_score))]


def _read_tokenizer_json(path: Path) -> Vocabulary:
    definition = {"added_tokens": []} | read_json_object(path) | {"truncation": None, "padding": None}
    try:
        # The post-processor, which writes BOS, may be nested: the surest way to read it is to run it. Around a letter,
        # as some write EOS after a text.
        written = tokenizers.Tokenizer.from_str(json.dumps(definition)).encode("a")
    except Exception as e:  # The library raises nothing narrower.
        raise CromeError(f"{path}: no tokenizer definition ({e}); fetch it again") from None
    if definition["model"].get("type") != "BPE":
        raise CromeError(f"{path}: only BPE vocabularies are supported, as every decoder here has one")
    _check_control_tokens(definition["added_tokens"], path)
    add_bos = written.special_tokens_mask[:1] == [1]
    return Vocabulary(definition, bos=written.tokens[0] if add_bos else None, add_bos=add_bos)


def _with_added_tokens(vocabulary: Vocabulary, said: dict[str, Any], folder: Path) -> Vocabulary:
    """Return a sentencepiece vocabulary with what tokenizer_config.json says of added tokens.

    The sentencepiece model of Gemma does not tell turn tokens from HTML tags; others lack the tokens added to them.

    Args:
        said: `added_tokens_decoder`, from ids to tokens.
    """
    config, ids = folder / "tokenizer_config.json", vocabulary.ids()
    tokens = {i: token for token, i in ids.items()}
    added = {token["content"]: token for token in vocabulary.definition["added_tokens"]}
    try:
        for i, token in ((int(i), token) for i, token in said.items()):
            content, there = token["content"], tokens.get(i, "no token")
            if (content in ids or i in tokens) and there != content:
                raise CromeError(
                    f"{config}: added_tokens_decoder says that token {i} is {content!r}, by tokenizer.model it is "
                    f"{there!r}; copy both from where the weights come from"
                )
            new = _ADDED | {name: token[name] for name in _ADDED.keys() & token.keys()}
            special = bool(token.get("special"))
            added[content] = {"id": i, "content": content, **new, **added.get(content, {}), "special": special}
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise CromeError(f"{config}: added_tokens_decoder is damaged ({e!r}); fetch it again") from None
    _check_control_tokens(added.values(), config)
    in_order = sorted(added.values(), key=lambda token: token["id"])
    return dataclasses.replace(vocabulary, definition=vocabulary.definition | {"added_tokens": in_order})


def _check_control_tokens(added: Iterable[dict[str, Any]], path: Path) -> None:
    for token in added:
        if token["special"] and (token["lstrip"] or token["rstrip"] or token["single_word"]):
            raise CromeError(f"{path}: control token {token['content']!r} swallows what is around it: not supported")


def _byte_level_definition(
    tokens: Sequence[str], merges: Sequence[str], types: Sequence[int], family: dict[str, Any]
) -> dict[str, Any]:
    return _definition(
        tokens,
        types,
        merges=list(merges),
        ignore_merges=family.get("ignore_merges", False),
        normalizer=family.get("normalizer"),
        pre_tokenizer=family["pre_tokenizer"],
        decoder=_GPT2_SPLIT,
    )


def _sentencepiece_definition(
    tokens: Sequence[str], scores: Sequence[float], types: Sequence[int], add_space_prefix: bool, path: Path | str
) -> dict[str, Any]:
    if types.count(_BYTE) != 256:
        raise CromeError(f"{path}: without byte tokens, characters outside the vocabulary would vanish: not supported")
    # GGUF writes a run of spaces as such; in the vocabulary they are ▁ like any other space.
    tokens = [t.replace(" ", "▁") if kind == _USER_DEFINED else t for t, kind in zip(tokens, types, strict=True)]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    unspaces = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    normalizer, decoders = spaces, [unspaces, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if add_space_prefix:  # Before every stretch of text between added tokens, as Hugging Face does.
        normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, spaces]}
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return _definition(
        tokens,
        types,
        merges=rank_merges(tokens, scores, types),
        byte_fallback=True,
        normalizer=normalizer,
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": decoders},
    )


def _definition(
    tokens: Sequence[str],
    types: Sequence[int],
    *,
    normalizer: dict | None,
    pre_tokenizer: dict | None,
    decoder: dict,
    **model: Any,
) -> dict[str, Any]:
    added = [
        {"id": i, "content": token, **_ADDED, "special": kind != _USER_DEFINED or token in _CONTROL_IN_FACT}
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": {"type": "BPE", "dropout": None, "vocab": {token: i for i, token in enumerate(tokens)}, **model},
    }
