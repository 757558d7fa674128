"""Text to token ids and back, and one policy for BOS, end of turn and control tokens."""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from crome_jax.data.chat_templates import (
    ChatTemplate,
    default_template,
    ending_with,
    keeping,
    on_one_day,
    starting_with_bos,
)
from crome_jax.data.vocabularies import (
    Vocabulary,
    read_folder_vocabulary,
    read_gguf_vocabulary,
    read_sentencepiece_vocabulary,
)
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Message
from crome_jax.weights.gguf_header import GGUFFile, open_gguf

# What the fingerprint encodes to tell apart tokenizers that differ in more than their vocabulary.
_PROBE = "It's 1234.5 — naïve CAFÉ,\n\n\tdef f(x):  return x ** 2  # 😀👍🏽 日本語 مرحبا\r\n   <b>we'll</b> e\u0301"

_BPE_OPTIONS = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
                "ignore_merges")  # fmt: skip


class Tokenizer:
    """A vocabulary with its chat template.

    Text is data: whatever it spells, encoding it yields no control token. Those come from the chat template alone.
    A conversation's ids are those of its prompt followed by those of its response: a prompt is encoded once for all its
    responses, so its ids never depend on one. For the families here this is what encoding the rendered conversation at
    once gives, unless the response starts with white space, the template keeps it (ChatML does, Gemma's and Llama 3's
    do not), and the vocabulary joins it to the line break before it: the text is then the same, the ids are not.

    Args:
        vocabulary: what the files hold.
        chat_template: a Jinja template to use instead of the vocabulary's; without either, the default of
            `chat_templates.default_template`.
        whole: whether a response has what the template writes after its turn, too, as it has in a text that others
            render; else it ends with its turn.
        padding: the id that whoever scores the last token of a whole response pads with: it is no token of the text,
            so a response has none at its end. None for none.

    Attributes:
        vocab_size: number of ids.
        bos_id, eos_id: ids, None where the vocabulary has none.
        pad_id: the padding id; EOS or else 0 where the vocabulary has none.
        end_of_turn_id: of the token that ends an assistant's turn.
        ending: the ids that every response ends with: `end_of_turn_id` alone, unless `whole`. The hidden state of a
            response's last token is scored; where `padding` leaves none of these, that is the last of its text.
        chat_template: the Jinja template in use.

    Raises:
        CromeError: where the template does not fit the vocabulary.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        chat_template: str | None = None,
        *,
        whole: bool = False,
        padding: int | None = None,
    ):
        self._vocabulary, self._whole, self._padding_id = vocabulary, whole, padding
        ids, control = vocabulary.ids(), vocabulary.control_tokens()
        self.chat_template = chat_template or vocabulary.chat_template or default_template(control)
        parts = ("bos", "eos", "pad", "unk")
        self._special_tokens = {
            f"{part}_token": getattr(vocabulary, part) for part in parts if getattr(vocabulary, part) is not None
        }
        self._template = ChatTemplate(self.chat_template, special_tokens=self._special_tokens, control_tokens=control)
        self._text = _text_tokenizer(vocabulary)
        self._control_ids = {token: ids[token] for token in control}
        self._control_texts = {i: token for token, i in self._control_ids.items()}
        self.vocab_size = max(ids.values()) + 1
        self.bos_id = ids.get(vocabulary.bos)
        self.eos_id = ids.get(vocabulary.eos)
        self.pad_id = ids.get(vocabulary.pad, self.eos_id or 0)
        self.end_of_turn_id = ids[self._template.end_of_turn]
        self.ending = self._ending() if whole else [self.end_of_turn_id]

    def __reduce__(self):
        # Data-loading workers receive it by pickling; a compiled template has no pickle.
        make = functools.partial(Tokenizer, whole=self._whole, padding=self._padding_id)
        return make, (self._vocabulary, self.chat_template)

    def encode(self, text: str) -> list[int]:
        """Encode text alone: no BOS, no control token."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts as `encode` does each, on all cores."""
        return [encoding.ids for encoding in self._text.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_prompt(self, prompt: Sequence[Message]) -> list[int]:
        """Encode a prompt up to where the assistant's answer starts, with one BOS where the model wants one.

        Raises:
            DataError: where the chat template refuses the conversation.
            CromeError: where the chat template writes BOS twice.
        """
        (ids,) = self._encode_pieces([self._template.prompt(prompt)])
        if self._vocabulary.add_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids = [self.bos_id, *ids]
        if ids[:2] == [self.bos_id] * 2:
            raise CromeError("chat template: starts a conversation with two BOS tokens; take one out")
        return ids

    def encode_response(self, response: str) -> list[int]:
        """Encode an answer and its end; `end_of_turn_id` is there once at most, and none of its text.

        Raises:
            DataError: where the chat template refuses it, or nothing of it is left to be scored.
        """
        return self.encode_responses([response])[0]

    def encode_responses(self, responses: Iterable[str]) -> list[list[int]]:
        """Encode answers as `encode_response` does each, on all cores."""
        encoded = self._encode_pieces([self._template.response(response) for response in responses])
        encoded = [[*ids[:-1], *self.ending] for ids in encoded]
        if not all(encoded):
            raise DataError(
                "is empty, and the token that ends its turn is the model's padding, which is not scored",
                field="response",
            )
        return encoded

    def encode_between(self, request: str) -> list[int]:
        """Encode what stands between two answers to a prompt: a user's turn that asks for the second, up to its start.

        Raises:
            CromeError: where the chat template writes no second answer after a first.
        """
        (ids,) = self._encode_pieces([self._template.between(request)])
        return ids

    @property
    def folds_system(self) -> bool:
        """Whether a system turn is written at the head of the first user turn, as the template has no place for it."""
        return self._template.folds_system

    @property
    def scored_token(self) -> str:
        """The token whose hidden state is scored, in JSON's spelling, or in words where it differs by response."""
        return json.dumps(self.decode(self.ending[-1:])) if self.ending else "the last of the response's text"

    def writes_pairs(self, request: str) -> bool:
        """Tell whether the chat template by itself writes two answers as encoding each, and `encode_between`, does."""
        return self._template.writes_pairs(request)

    def encode_conversation(self, prompt: Sequence[Message], response: str) -> tuple[list[int], list[int]]:
        """Encode a prompt and an answer to it; returns the ids of each."""
        return self.encode_prompt(prompt), self.encode_response(response)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, control tokens spelled out."""
        runs = itertools.groupby(ids, key=self._control_texts.get)
        return "".join(
            self._text.decode(list(run), skip_special_tokens=False) if token is None else token * len(list(run))
            for token, run in runs
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary, the chat template and how a probe is encoded, in hexadecimal.

        Kept beside checkpoints: ids mean the same only under an equal fingerprint.
        """
        ids = self._vocabulary.ids()
        facts = [
            sorted(ids.items(), key=lambda item: item[1]),
            sorted(self._control_ids),
            self.chat_template,
            self._special_tokens,
            self._vocabulary.add_bos,
            self.encode(_PROBE),
            *([self.ending] if self.ending != [self.end_of_turn_id] else []),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def check_rows(self, rows: int, place: Path | str) -> None:
        """Check that an embedding is this vocabulary's: a row for every id, and few to spare.

        Published embeddings are padded by some rows (0.2% in Qwen 2.5), so a tenth is allowed. Control tokens that no
        conversation has may lie beyond it, as Gemma 3's for pictures does in its text models.

        Args:
            rows: V, of the embedding.
            place: whose they are, for the error message.

        Raises:
            CromeError: where it is another vocabulary's.
        """
        conversation = self.encode_prompt([Message("user", "")]) + self.encode_response("")
        given = {i for token, i in self._vocabulary.ids().items() if token not in self._control_ids}
        highest = max(given.union(conversation))
        if highest >= rows or rows > 1.1 * self.vocab_size:
            raise CromeError(
                f"{place}: the embedding has {rows:,} rows, but the tokenizer's ids go up to {highest:,}: it is "
                "another model's; copy the tokenizer's files from where the weights come from"
            )

    def save(self, folder: Path | str) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` into an existing folder, as Hugging Face reads them."""
        self._write(
            folder, self._vocabulary.definition, self._special_tokens, self.chat_template, self._vocabulary.add_bos
        )

    def save_for_classifier(self, folder: Path | str, context: int) -> dict[str, int | None]:
        """Write the files as software wants them that scores the last token before the padding.

        Padding is then another token than the one that is scored. That is called EOS, as OpenRLHF appends EOS to a
        text that does not end with it, and the chat template writes nothing after it. BOS is the template's to write,
        and nobody else's: a rendered text has it once, encoded with or without `add_special_tokens`.

        Args:
            context: tokens of the longest text the model is for.

        Returns:
            `pad_token_id`, `bos_token_id` and `eos_token_id`.

        Raises:
            CromeError: where no control token is left to pad with.
        """
        end, pad = self._template.end_of_turn, self._padding()
        named = {"eos_token": end, "pad_token": pad}
        renamed = {name: self._special_tokens.get(name, "") for name in named}
        template = keeping(self.chat_template, {name: old for name, old in renamed.items() if old != named[name]})
        if not self._template.stops_there:
            template = ending_with(template, end)
        if self._vocabulary.add_bos and self.bos_id is not None and not self._writes_bos():
            template = starting_with_bos(template)
        template = on_one_day(template)
        definition = self._vocabulary.definition | {"post_processor": None}
        self._write(folder, definition, self._special_tokens | named, template, False, model_max_length=context)
        pad_id = self._control_ids[pad]
        return {"pad_token_id": pad_id, "bos_token_id": self.bos_id, "eos_token_id": self.end_of_turn_id}

    def _ending(self) -> list[int]:
        """Return the ids of an end of turn and of what the chat template writes after it, without padding."""
        (ids,) = self._encode_pieces([["", self._template.end_of_turn, *self._template.tail]])
        while ids and ids[-1] == self._padding_id:
            ids.pop()
        return ids

    def _writes_bos(self) -> bool:
        """Return whether the chat template by itself starts a conversation with BOS."""
        (ids,) = self._encode_pieces([self._template.prompt([Message("user", "")])])
        return ids[:1] == [self.bos_id]

    def _padding(self) -> str:
        """Return a control token that no conversation has: the vocabulary's own where it is one.

        Llama 3 has none of its own, and its beginning of text would be taken off every text with the padding.
        """
        asked = self._template.prompt([Message("user", "")])
        written = {*asked[1::2], *self._template.response("")[1::2]}
        if self._vocabulary.add_bos:
            written.add(self._vocabulary.bos)
        names = sorted(self._control_ids, key=self._control_ids.get)
        own = [self._special_tokens.get(f"{part}_token") for part in ("pad", "unk")]
        spare = [name for part in ("pad", "reserved", "unused") for name in names if part in name.lower()]
        for token in [*own, *spare, self._special_tokens.get("eos_token"), *names]:
            if token in self._control_ids and token not in written:
                return token
        raise CromeError(
            f"tokenizer: conversations have every control token that it holds ({', '.join(names)}), and padding must "
            "be another one; add one, such as <pad>, to its added tokens"
        )

    @staticmethod
    def _write(
        folder: Path | str,
        definition: dict[str, Any],
        special: dict[str, str],
        template: str,
        add_bos: bool,
        **further: int,
    ) -> None:
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **special,
            "add_bos_token": add_bos,
            "chat_template": template,
            "clean_up_tokenization_spaces": False,
            **further,
        }
        for name, content in (("tokenizer.json", definition), ("tokenizer_config.json", config)):
            Path(folder, name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def _encode_pieces(self, rendered: Sequence[Sequence[str]]) -> list[list[int]]:
        texts = iter(self.encode_many([text for pieces in rendered for text in pieces[::2]]))
        encoded = []
        for pieces in rendered:
            ids = list(next(texts))
            for token in pieces[1::2]:
                ids += [self._control_ids[token], *next(texts)]
            encoded.append(ids)
        return encoded


def load_tokenizer(path: Path | str, chat_template: str | None = None) -> Tokenizer:
    """Load the tokenizer of a backbone.

    Args:
        path: a `.gguf` file, a sentencepiece `.model` file, or a Hugging Face folder.
        chat_template: a Jinja template to use instead of the backbone's own.

    Raises:
        CromeError: where nothing that can be read is there.
    """
    path = Path(path)
    if path.suffix == ".gguf":
        return gguf_tokenizer(open_gguf(path), chat_template)
    read = read_folder_vocabulary if path.is_dir() else read_sentencepiece_vocabulary
    return _with_place(path, read(path), chat_template)


def gguf_tokenizer(file: GGUFFile, chat_template: str | None = None) -> Tokenizer:
    """Load the tokenizer from a GGUF file that is open already.

    Args:
        chat_template: a Jinja template to use instead of the file's own.
    """
    return _with_place(file.path, read_gguf_vocabulary(file), chat_template)


def _with_place(path: Path, vocabulary: Vocabulary, chat_template: str | None) -> Tokenizer:
    """Make a tokenizer of what a file holds; what is wrong with that says where it is from."""
    try:
        return Tokenizer(vocabulary, chat_template)
    except CromeError as e:
        raise CromeError(f"{path}: {e}") from None


def _text_tokenizer(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    """Build what encodes text: without control tokens, so that no text whatever can encode to one.

    Vocabulary and merges are handed over as they are: as JSON, to be parsed again, Gemma's take seconds.
    """
    definition, control = vocabulary.definition, vocabulary.control_tokens()
    model = definition["model"]
    # Added tokens that the model's vocabulary lacks would be numbered anew, after the ones left out.
    vocab = {token: i for token, i in vocabulary.ids().items() if token not in control}
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    merges = [(left, right) for left, right in pairs if left in vocab and right in vocab and left + right in vocab]
    options = {name: model[name] for name in _BPE_OPTIONS if model.get(name) is not None}
    if options.get("unk_token") in control:
        del options["unk_token"]
    around = {"added_tokens": [], "post_processor": None, "model": {**model, "vocab": {}, "merges": []}}
    text = tokenizers.Tokenizer.from_str(json.dumps({**definition, **around}))
    text.model = tokenizers.models.BPE(vocab, merges, **options)
    text.add_tokens(
        [
            tokenizers.AddedToken(
                token["content"],
                **{flag: token[flag] for flag in ("single_word", "lstrip", "rstrip", "normalized")},
            )
            for token in definition["added_tokens"]
            if not token["special"]
        ]
    )
    return text
