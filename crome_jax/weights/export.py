"""A reward model written as a Hugging Face folder, for software that serves sequence classifiers."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from crome_jax.data.pairs import REQUEST
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.models.config import DecoderConfig, repeating_block
from crome_jax.models.lora import merge
from crome_jax.models.weights import Params, declare_layers, scoring_head
from crome_jax.weights.folder_configs import classifier_config, read_folder_config
from crome_jax.weights.safetensors_files import INDEX, SCORE, WHOLE, tensor_name
from crome_jax.weights.sources import file_shape

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(jnp.bfloat16)}


def write_folder(
    out: Path | str,
    params: Params,
    cfg: DecoderConfig,
    tokenizer: Tokenizer,
    *,
    context: int,
    card: str,
    dtype: str = "float32",
    shard_bytes: int = 5_000_000_000,
    overwrite: bool = False,
) -> None:
    """Write config.json, safetensors, the tokenizer's files and README.md, whole or not at all.

    Args:
        params: on the host or on a mesh; a shard of the files is held at once. Adapters are merged.
        context: tokens of the longest text the model is for.
        card: text of README.md.
        dtype: of the weights: "float32" or "bfloat16"; the head is float32 in either.
        shard_bytes: of one file of weights, at most, unless one tensor takes more.
        overwrite: whether a folder that is there is replaced.

    Raises:
        CromeError: where `out` exists or cannot be written, the family's class cannot be the decoder, or the chat
            template of a pairwise model writes two answers in its own way.
    """
    pairwise = "pair_head" in params
    if pairwise:
        check_writes_pairs(tokenizer, out)
    params, cfg = as_published(*merge(params, cfg))
    with whole_output(out, overwrite=overwrite) as folder:
        folder.mkdir()
        ids = tokenizer.save_for_classifier(folder, context)
        config = classifier_config(cfg, context=context, dtype=dtype, ids=ids, pairwise=pairwise)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if read_folder_config(folder).decoder != cfg:
            raise CromeError(f"{out}: no Hugging Face class of family {cfg.family} computes what this decoder does")
        _write_tensors(folder, _tensors(params, cfg, dtype), shard_bytes)
        (folder / "README.md").write_text(card, encoding="utf-8")


def check_writes_pairs(tokenizer: Tokenizer, out: Path | str) -> None:
    """Raise CromeError where the chat template of a pairwise model writes two answers in its own way."""
    if not tokenizer.writes_pairs(REQUEST):
        raise CromeError(
            f"{out}: the chat template writes the first of two answers otherwise than the last, so that others would "
            "not read a pair as this model does; a pairwise model under this template cannot be exported"
        )


def as_published(params: Params, cfg: DecoderConfig) -> tuple[Params, DecoderConfig]:
    """Return the weights and numbers as the family's own files have them.

    GGUF files of Gemma hold 1 + w for the weight w of a norm; Hugging Face's hold w. The first layers alone may have no
    local or no global one.
    """
    pattern = repeating_block([cfg.kind_of(layer) for layer in range(cfg.layers)])
    cfg = dataclasses.replace(cfg, pattern=pattern)
    if "local" not in pattern:
        cfg = dataclasses.replace(cfg, window=None, local_rope_base=10_000.0)
    if cfg.family not in ("gemma2", "gemma3") or cfg.norm_plus_one:
        return params, cfg
    less = lambda tree: {name: w - 1.0 if name.endswith("norm") else w for name, w in tree.items()}  # noqa: E731
    runs = {name: less(params[name]) for name in ("lower", "upper", "last") if name in params}
    whole = {**params, **runs, "final_norm": params["final_norm"] - 1.0}
    return whole, dataclasses.replace(cfg, norm_plus_one=True)


def _tensors(params: Params, cfg: DecoderConfig, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every tensor's name and values, fetched from its device when its turn comes."""
    cast = lambda w: np.ascontiguousarray(np.asarray(w, np.float32).astype(DTYPES[dtype]))  # noqa: E731
    yield "model.embed_tokens.weight", cast(params["embed"])
    shapes = {ours: file_shape(ours, w.shape[1:]) for ours, w in declare_layers(cfg, 1).items()}
    layer = 0
    for run in ("lower", "upper", "last"):
        for i in range(len(params[run]["q"]) if run in params else 0):
            for ours, shape in shapes.items():
                values = np.asarray(params[run][ours][i]).reshape(shape[::-1]).T
                yield tensor_name("model.", layer, ours, cfg), cast(values)
            layer += 1
    yield "model.norm.weight", cast(params["final_norm"])
    yield SCORE, np.asarray(scoring_head(params), np.float32)[None]


def _write_tensors(folder: Path, tensors: Iterator[tuple[str, np.ndarray]], shard_bytes: int) -> None:
    shards: list[list[str]] = []
    held: dict[str, np.ndarray] = {}
    total = 0

    def flush() -> None:
        # transformers wants to be told whose layout it is.
        path = folder / f"part-{len(shards)}"
        safetensors.numpy.save_file(held, path, metadata={"format": "pt"})
        path.chmod((folder / "config.json").stat().st_mode)  # The library lets only the owner read it.
        shards.append(list(held))
        held.clear()

    for name, values in tensors:
        if held and sum(w.nbytes for w in held.values()) + values.nbytes > shard_bytes:
            flush()
        held[name] = values
        total += values.nbytes
    flush()
    if len(shards) == 1:
        (folder / "part-0").rename(folder / WHOLE)
        return
    files = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    for i, file in enumerate(files):
        (folder / f"part-{i}").rename(folder / file)
    places = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
