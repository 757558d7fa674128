"""A checkpoint of random weights in the shape of Qwen3-0.6B, written shard by shard, to be imported."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.numpy
import tokenizers

from crome_jax.data.tokenizers import Tokenizer
from crome_jax.data.vocabularies import Vocabulary
from crome_jax.models.config import DecoderConfig
from crome_jax.models.presets import PRESETS
from crome_jax.models.weights import declare_layers
from crome_jax.weights.folder_configs import classifier_config
from crome_jax.weights.safetensors_files import INDEX, SCORE, tensor_name
from crome_jax.weights.sources import file_shape

QWEN3_0_6B = PRESETS["qwen3_0_6b"].cfg
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_checkpoint(folder: Path, cfg: DecoderConfig = QWEN3_0_6B, *, shard_bytes: int = 500_000_000) -> int:
    """Write a sequence classifier in float32; no more than a shard is held.

    Args:
        folder: that exists.
        cfg: its numbers.
        shard_bytes: of one file, at most, unless one tensor takes more.

    Returns:
        The bytes of its tensors.
    """
    rng = np.random.default_rng(0)
    ids = write_tokenizer(folder, cfg.vocab_size)
    config = classifier_config(cfg, context=4096, dtype="float32", ids=ids)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shards, held, total = {}, {}, 0

    def flush() -> None:
        name = f"model-{len(set(shards.values())) + 1:05}.safetensors"
        safetensors.numpy.save_file(held, folder / name)
        shards.update(dict.fromkeys(held, name))
        held.clear()

    for name, shape in _tensors(cfg):
        size = 4 * math.prod(shape)
        if held and sum(w.nbytes for w in held.values()) + size > shard_bytes:
            flush()
        values = rng.standard_normal(shape, np.float32)
        held[name] = values * np.float32(shape[-1] ** -0.5) if len(shape) > 1 else 1 + values / 10
        total += size
    flush()
    index = {"metadata": {"total_size": total}, "weight_map": shards}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return total


def _tensors(cfg: DecoderConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (cfg.vocab_size, cfg.width)
    for layer in range(cfg.layers):
        for ours, weight in declare_layers(cfg, 1).items():
            yield tensor_name("model.", layer, ours, cfg), file_shape(ours, weight.shape[1:])
    yield "model.norm.weight", (cfg.width,)
    yield SCORE, (1, cfg.width)


def write_tokenizer(folder: Path, rows: int) -> dict[str, int | None]:
    """Write a token for each byte, ChatML's, and as many more as the embedding has rows."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"token {i}" for i in range(rows - len(alphabet) - len(CONTROL)))]
    definition = tokenizers.Tokenizer(tokenizers.models.BPE({word: i for i, word in enumerate(words)}, []))
    definition.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    definition.decoder = tokenizers.decoders.ByteLevel()
    definition.add_special_tokens(list(CONTROL))
    vocabulary = Vocabulary(json.loads(definition.to_str()), eos=CONTROL[2], pad=CONTROL[0])
    return Tokenizer(vocabulary).save_for_classifier(folder, 4096)
