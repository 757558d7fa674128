"""A reward model to measure, from wherever it is: a run of ours, or a Hugging Face folder of a sequence classifier."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crome_jax.data.chat_templates import CHATML, GEMMA, LLAMA3, PLAIN
from crome_jax.data.packing import RowShape
from crome_jax.data.tokenizers import Tokenizer, load_tokenizer
from crome_jax.data.vocabularies import read_folder_vocabulary
from crome_jax.errors import CromeError
from crome_jax.evaluation.scoring import RewardModel
from crome_jax.files import resolved
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.mesh import make_mesh
from crome_jax.training.metrics import read_curve
from crome_jax.training.placing import place_params
from crome_jax.training.run_cards import read_card
from crome_jax.training.train import load_run
from crome_jax.weights.backbones import backbone_path, check_here, context_length, load_backbone, original_backbone
from crome_jax.weights.folder_configs import FolderConfig, read_folder_config
from crome_jax.weights.runs import MODEL_FILE, fingerprint_run
from crome_jax.weights.safetensors_files import TensorFiles, check_tensors

TEMPLATES = {"chatml": CHATML, "gemma": GEMMA, "llama3": LLAMA3, "plain": PLAIN}
"""Chat templates that can be named; any other is given as a file."""

ROW_TOKENS = 2048
"""Tokens of the longest packed row of a Hugging Face folder, which says nothing of rows."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """A reward model and what is told of it.

    Args:
        name: its method, or its folder's name.
        model: all it takes to score.
        facts: of the report's table of runs.
        key: changes when its rewards would: of two loadings with equal keys the rewards are equal.
        curve: metrics of its training, none where it was trained elsewhere.
        fingerprint: a SHA-256 of the model's files that is the same wherever they are.
    """

    name: str
    model: RewardModel
    facts: Mapping[str, Any]
    key: str
    curve: list[dict[str, Any]]
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class TextForm:
    """How a reward model takes its text.

    Args:
        tokenizer: with its chat template.
        shape: of a packed row.
        pairwise: whether it reads two answers at a time.
    """

    tokenizer: Tokenizer
    shape: RowShape
    pairwise: bool


def is_run(path: Path) -> bool:
    """Tell whether a path is a run of ours, rather than a Hugging Face folder."""
    return not (path / "config.json").is_file() or (path / MODEL_FILE).is_file()


def model_name(path: Path) -> str:
    """Return what a reward model is called, without loading it.

    Raises:
        CromeError: where the folder holds none.
    """
    return read_card(path).method if is_run(path) else resolved(path).name


def check_reward_model(path: Path, *, chat_template: str | None = None) -> bool:
    """Check all of a reward model that is seen without reading its weights: its head, its template, its files' names.

    Args:
        path, chat_template: as of open_reward_model, which raises the same.

    Returns:
        Whether it is a pairwise model.

    Raises:
        CromeError: where the folder is no reward model, or lacks a checkpoint, a backbone or a chat template, or its
            curve is damaged.
    """
    if is_run(path):
        _check_no_template(path, chat_template)
        card = read_card(path)
        Checkpoints(path, read_only=True).newest()
        try:
            backbone_path(card.backbone)
        except CromeError as e:
            raise CromeError(f"{path}: its backbone cannot be loaded: {e}") from None
        read_curve(path)
        return card.head == "pairwise"
    config = _classifier_config(path)
    check_tensors(TensorFiles(path), path, config.decoder, config.classifier)
    _tokenizer(path, chat_template, config)
    return config.pairwise


def text_form(path: Path, *, chat_template: str | None = None, row_tokens: int | None = None) -> TextForm:
    """Return how a reward model takes its text, without reading its weights.

    Args:
        path, chat_template, row_tokens: as of open_reward_model.

    Raises:
        CromeError: as check_reward_model does, or where its tokenizer cannot be read.
    """
    if is_run(path):
        card = read_card(path)
        try:
            tokenizer = _backbone_tokenizer(backbone_path(original_backbone(card.backbone)))
        except CromeError as e:
            raise CromeError(f"{path}: its backbone cannot be loaded: {e}") from None
        shape = RowShape(card.row_tokens) if row_tokens is None else _shape(row_tokens, card.backbone)
        return TextForm(tokenizer, shape, card.head == "pairwise")
    config = _classifier_config(path)
    shape = _shape(row_tokens or ROW_TOKENS, str(path))
    return TextForm(_tokenizer(path, chat_template, config), shape, config.pairwise)


def open_reward_model(path: Path, *, chat_template: str | None = None, row_tokens: int | None = None) -> Measured:
    """Load a reward model.

    Args:
        path: the folder of a `crome train` run, or of a sequence classifier with one label.
        chat_template: for a folder that ships none: a name of TEMPLATES, or a file that holds one.
            Of a folder that `crome export` did not write, the last token of what the template renders is scored, as
            transformers does; a pairwise model's, which others do not write, at the end of the second answer's turn.
        row_tokens: tokens of the longest packed row, at most the model's context: what is longer is cut. None takes
            those of a run's training, and ROW_TOKENS of a folder.

    Raises:
        CromeError: where the folder is no reward model, lacks a chat template that is not given either, or is damaged.
    """
    if is_run(path):
        _check_no_template(path, chat_template)
        card = read_card(path)
        step = Checkpoints(path, read_only=True).latest
        model = load_run(path, step=step)
        if row_tokens is not None:
            model = dataclasses.replace(model, shape=_shape(row_tokens, card.backbone))
        facts = {
            "run": str(path),
            "backbone": card.backbone,
            "layers": model.cfg.layers,
            "trainable": card.trainable,
            "optimizer steps": step,
            "training data": card.data_fingerprint,
            "tokenizer and chat template": card.tokenizer_fingerprint,
            "scored token": model.tokenizer.scored_token,
        }
        key = _key(path, (path / MODEL_FILE).read_text(), step, model.shape)
        return Measured(card.method, model, facts, key, read_curve(path), fingerprint_run(path, step))
    config = _classifier_config(path)
    tokenizer = _tokenizer(path, chat_template, config)
    base = load_backbone(str(path), "head")
    mesh = make_mesh()
    trained, frozen = place_params(base, "head", mesh, "pairwise" if config.pairwise else "scalar")
    shape = _shape(row_tokens or ROW_TOKENS, str(path))
    facts = {
        "run": str(path),
        "backbone": base.cfg.family,
        "layers": base.cfg.layers,
        "trainable": None,
        "optimizer steps": None,
        "training data": None,
        "tokenizer and chat template": tokenizer.fingerprint,
        "scored token": tokenizer.scored_token,
    }
    model = RewardModel({**frozen, **trained}, base.cfg, tokenizer, shape, mesh)
    key = _key(path, base.fingerprint, tokenizer.fingerprint, shape)
    return Measured(resolved(path).name, model, facts, key, [], base.fingerprint)


def _check_no_template(run: Path, chat_template: str | None) -> None:
    if chat_template is not None:
        raise CromeError(f"{run}: a run is measured with the chat template it was trained with; take out the flag")


def _classifier_config(path: Path) -> FolderConfig:
    check_here(path)
    config = read_folder_config(path)
    if not config.classifier:
        raise CromeError(f"{path}: is no sequence classifier, so it has no reward head; give a reward model")
    return config


def _shape(row_tokens: int, backbone: str) -> RowShape:
    return RowShape(min(row_tokens, context_length(backbone)), comparisons=1)  # Scoring compares none.


def _tokenizer(path: Path, chat_template: str | None, config: FolderConfig) -> Tokenizer:
    # Ours end with the answer's turn under any template; of a pairwise model nobody else writes any.
    ending = {} if config.exported or config.pairwise else {"whole": True, "padding": config.padding}
    vocabulary = read_folder_vocabulary(path)
    if chat_template is None and vocabulary.chat_template is None:
        raise CromeError(
            f"{path}: ships no chat template, and a reward model's rewards mean nothing under another one than its "
            f"own; give it with --chat-template: a file, or one of {', '.join(TEMPLATES)}"
        )
    if chat_template is None or chat_template in TEMPLATES:
        return Tokenizer(vocabulary, TEMPLATES.get(chat_template), **ending)
    try:
        source = Path(chat_template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise CromeError(f"{chat_template}: cannot be read ({e}); --chat-template takes a file or a name") from None
    return Tokenizer(vocabulary, source, **ending)


@functools.lru_cache(maxsize=1)  # Runs that are compared mostly have one backbone, whose vocabulary takes seconds.
def _backbone_tokenizer(path: Path) -> Tokenizer:
    return load_tokenizer(path)


def _key(path: Path, *parts: Any) -> str:
    return hashlib.sha256("\n".join(map(str, (resolved(path), *parts))).encode()).hexdigest()
