"""Adapters and reward head as a folder that PEFT loads over the backbone."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from crome_jax.data.tokenizers import Tokenizer
from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.models.config import DecoderConfig
from crome_jax.models.weights import Params, scoring_head
from crome_jax.weights.export import check_writes_pairs
from crome_jax.weights.folder_configs import read_folder_config
from crome_jax.weights.safetensors_files import tensor_name

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def write_adapter(
    out: Path | str,
    params: Params,
    cfg: DecoderConfig,
    tokenizer: Tokenizer,
    *,
    base: str,
    context: int,
    card: str,
    overwrite: bool = False,
) -> None:
    """Write adapter_config.json, adapter_model.safetensors, the tokenizer's files and README.md, whole or not at all.

    PEFT puts them over `AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)`, whose padding must be
    the tokenizer's: the base's config.json may say another. The head is in them. Of a model of pictures and text they
    are beside the matrices of its text part alone.

    Args:
        params: with adapters.
        cfg: with `lora`.
        base: the backbone's folder, which the adapters are nothing without.
        context: tokens of the longest text the model is for.
        card: text of README.md.
        overwrite: whether a folder that is there is replaced.

    Raises:
        CromeError: where the model has no adapters, or `base` is no Hugging Face folder or has more layers, or
            `out` exists or cannot be written, or the chat template of a pairwise model writes two answers in its own
            way.
    """
    if cfg.lora is None:
        raise CromeError(
            f"{out}: the run trained no adapters; leave out --adapter, or train with gin/adapters/lora.gin"
        )
    if "pair_head" in params:
        check_writes_pairs(tokenizer, out)
    if not (Path(base) / "config.json").is_file():
        raise CromeError(
            f"{out}: PEFT puts adapters over a Hugging Face folder, which backbone {base!r} is not; leave out --adapter"
        )
    config = read_folder_config(base)
    layers, decoder = config.decoder.layers, "model.language_model." if config.multimodal else "model."
    if layers != cfg.layers:
        raise CromeError(
            f"{out}: the adapters were trained on the first {cfg.layers} of {base}'s {layers} layers, and PEFT would "
            "put them and the head over all; leave out --adapter"
        )
    with whole_output(out, overwrite=overwrite) as folder:
        folder.mkdir()
        tokenizer.save_for_classifier(folder, context)
        (folder / CONFIG).write_text(json.dumps(_config(params, cfg, base, decoder), indent=2) + "\n", encoding="utf-8")
        tensors = dict(_tensors(params, cfg, decoder))
        safetensors.numpy.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # The library lets only the owner read it.
        (folder / "README.md").write_text(card, encoding="utf-8")


def _config(params: Params, cfg: DecoderConfig, base: str, decoder: str) -> dict[str, Any]:
    """Return adapter_config.json, where `decoder` begins the names of the base's decoder."""
    lora, first = cfg.lora, _first_layer(params, cfg)
    names: list[str] | str = [tensor_name("", 0, target, cfg).split(".")[-2] for target in lora.targets]
    chosen = {"layers_to_transform": list(range(first, cfg.layers)), "layers_pattern": "layers"} if first else {}
    if decoder != "model.":
        # The matrices of pictures are called the same; a pattern of whole names leaves them out, and says the layers.
        layers = "|".join(map(str, range(first, cfg.layers)))
        names, chosen = rf"{re.escape(decoder)}layers\.({layers})\.\w+\.({'|'.join(names)})", {}
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": names,
        "layers_to_transform": None,
        "layers_pattern": None,
        **chosen,
        "modules_to_save": ["score"],
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _tensors(params: Params, cfg: DecoderConfig, decoder: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield PEFT's names and values: A as [r, in], B as [out, r]."""
    layer = _first_layer(params, cfg)
    for run in ("upper", "last"):
        adapters = params["adapters"].get(run)
        for i in range(0 if adapters is None else len(next(iter(adapters.values())))):
            for target in cfg.lora.targets:
                module = tensor_name(f"base_model.model.{decoder}", layer, target, cfg).removesuffix(".weight")
                a, b = (np.asarray(adapters[f"{target}_{half}"][i], np.float32) for half in "ab")
                yield f"{module}.lora_A.weight", np.ascontiguousarray(a.reshape(-1, cfg.lora.rank).T)
                yield f"{module}.lora_B.weight", np.ascontiguousarray(b.reshape(cfg.lora.rank, -1).T)
            layer += 1
    yield "base_model.model.score.weight", np.asarray(scoring_head(params), np.float32)[None]


def _first_layer(params: Params, cfg: DecoderConfig) -> int:
    return params["lower"]["q"].shape[0] if "lower" in params else 0
