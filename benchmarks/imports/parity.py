"""How far hidden states and rewards are from those of transformers, on the same files."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from benchmarks.imports.checkpoint import write_tokenizer
from crome_jax.batch import Batch
from crome_jax.models.decoder import hidden_states
from crome_jax.weights.backbones import load_backbone
from crome_jax.weights.packages import find_backbone

TEXT = "The quick brown fox jumps over the lazy dog, 42 times. Naïve? 日本語!"


class Parity(NamedTuple):
    """Errors relative to transformers' results, of all tokens together and of the token that is furthest off."""

    together: float
    worst: float


def compare(name: str) -> Parity:
    """Compare the last layer's normed hidden states of a GGUF backbone, in float32, all layers."""
    path = find_backbone(name)
    model = transformers.AutoModel.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    base = load_backbone(name)
    tokens = np.array([base.tokenizer.encode(TEXT)])
    with torch.no_grad():
        theirs = model.eval()(torch.tensor(tokens)).last_hidden_state.numpy()[0]
    del model
    return _errors(_hidden(base.params, tokens, base.cfg), theirs)


def compare_classifier(folder: Path) -> tuple[Parity, Parity]:
    """Compare hidden states and rewards of a sequence classifier in a Hugging Face folder, in float32."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    base = load_backbone(str(folder))
    tokens = np.random.default_rng(0).integers(1, base.cfg.vocab_size, (1, 64))
    with torch.no_grad():
        theirs = model.model(torch.tensor(tokens)).last_hidden_state.numpy()[0]
        reward = model.score(torch.tensor(theirs)).numpy()
    ours = _hidden(base.params, tokens, base.cfg)
    return _errors(ours, theirs), _errors(ours @ base.heads["head"][:, None], reward)


def random_classifier(family: str, folder: Path) -> None:
    """Write a small sequence classifier of a family, drawn at random, as transformers writes it."""
    kind = {"gemma3": "gemma3_text"}.get(family, family)
    numbers = {
        "vocab_size": 259, "pad_token_id": 256, "num_labels": 1, "hidden_size": 192, "num_attention_heads": 6,
        "num_key_value_heads": 3, "num_hidden_layers": 12, "intermediate_size": 512,
    }  # fmt: skip
    if family != "qwen2":
        numbers["head_dim"] = 64
    if family.startswith("gemma"):
        numbers |= {"sliding_window": 24, "query_pre_attn_scalar": 48}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **numbers)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1) if weight.ndim == 1 else torch.nn.init.normal_(weight, std=0.06)
    model.save_pretrained(folder)
    write_tokenizer(folder, 259)


def _hidden(params, tokens: np.ndarray, cfg) -> np.ndarray:
    t = tokens.shape[1]
    zeros, numbers = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)
    batch = Batch(
        tokens=tokens.astype(np.int32),
        positions=np.arange(t, dtype=np.int32)[None],
        group_ids=np.ones((1, t), np.int32),
        response_ids=(np.arange(t) > 0).astype(np.int32)[None],
        response_ends=np.full((1, 1), t - 1, np.int32),
        left=zeros, right=zeros, kind=zeros, target=numbers, weight=numbers, margin=numbers,
    )  # fmt: skip
    run = jax.jit(lambda params, batch: hidden_states(params, batch, cfg))
    return np.asarray(run(jax.tree.map(jnp.asarray, params), jax.tree.map(jnp.asarray, batch)))[0]


def _errors(ours: np.ndarray, theirs: np.ndarray) -> Parity:
    off, size = np.linalg.norm(ours - theirs, axis=-1), np.linalg.norm(theirs, axis=-1)
    return Parity(float(np.linalg.norm(off) / np.linalg.norm(size)), float((off / np.maximum(size, 1e-9)).max()))
