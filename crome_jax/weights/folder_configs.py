"""A Hugging Face folder's config.json as the numbers of a decoder, and back."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crome_jax.data.pairs import REQUEST
from crome_jax.errors import CromeError
from crome_jax.files import read_json_object
from crome_jax.models.config import DecoderConfig, LayerKind, check_numbers, repeating_block

FAMILIES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
}
"""`model_type` of config.json -> family."""

# What a family's config class takes where config.json does not say; Gemma 3's published files leave most of it out.
_UNSAID: dict[str, dict[str, Any]] = {
    "llama": {"rope_theta": 1e4, "rms_norm_eps": 1e-6, "vocab_size": 32_000},
    "qwen2": {"rope_theta": 1e4, "rms_norm_eps": 1e-6, "vocab_size": 151_936},
    "qwen3": {"rope_theta": 1e4, "rms_norm_eps": 1e-6, "vocab_size": 151_936, "head_dim": 128},
    "gemma2": {
        "rope_theta": 1e4, "rms_norm_eps": 1e-6, "vocab_size": 256_000, "head_dim": 256, "num_attention_heads": 8,
        "num_key_value_heads": 4, "sliding_window": 4096, "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0,
    },
    "gemma3": {
        "rope_theta": 1e6, "rms_norm_eps": 1e-6, "vocab_size": 262_208, "head_dim": 256, "num_attention_heads": 8,
        "num_key_value_heads": 4, "sliding_window": 4096, "query_pre_attn_scalar": 256, "rope_local_base_freq": 1e4,
    },
}  # fmt: skip
_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_KINDS: dict[str, LayerKind] = {"full_attention": "global", "sliding_attention": "local"}
_ROPE_TYPES = ("default", "linear", "llama3")

# What `crome export` writes: where OpenRLHF looks for the head, and what vLLM's /score does with the logit, nothing. No
# other software writes both.
_EXPORTED = {
    "value_head_prefix": "score",
    "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
}

# Variants that the decoder does not compute: a model that has one would run, and be another one.
_PLAIN = {"attention_bias": False, "mlp_bias": False, "use_bidirectional_attention": False, "partial_rotary_factor": 1}


@dataclasses.dataclass(frozen=True)
class FolderConfig:
    """What config.json says.

    Args:
        decoder: its numbers.
        classifier: whether it is a sequence classifier's, with a `score` head.
        pairwise: whether that head reads two answers in one conversation, as `crome export` writes a pairwise model.
        multimodal: whether it is a model of pictures and text, of which the decoder is the text part.
        exported: whether `crome export` wrote it: such a head reads the end of the answer's turn.
        padding: id of the token that others pad with, None where it says none.
    """

    decoder: DecoderConfig
    classifier: bool
    pairwise: bool = False
    multimodal: bool = False
    exported: bool = False
    padding: int | None = None


def read_folder_config(folder: Path | str) -> FolderConfig:
    """Read config.json, in the form of transformers 4 or 5; a model of pictures and text gives its text part.

    The cap on the logits of the vocabulary (Gemma 2's final_logit_softcapping) is left out: a reward has none.

    Raises:
        CromeError: where it is absent or damaged, of an architecture that is not supported, or has a number missing.
    """
    path = Path(folder) / "config.json"
    if not path.exists() and (Path(folder) / "adapter_config.json").exists():
        raise CromeError(
            f"{folder}: holds adapters alone (adapter_config.json); merge them into their base, with PEFT's "
            "merge_and_unload or with `crome export` of the run, and give the folder of the whole model"
        )
    if not path.exists():
        raise CromeError(
            f"{folder}: holds neither config.json nor model.json; give the folder of a Hugging Face model, or of a run"
        )
    content = read_json_object(path)
    if content.get("quantization_config") is not None:
        raise CromeError(f"{path}: the weights are quantised (quantization_config); give a folder of plain ones")
    said, multimodal = content, content.get("model_type") == "gemma3"
    if multimodal:
        said = {"model_type": "gemma3_text"} | (content.get("text_config") or {})
    architectures = content.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise CromeError(f"{path}: architectures is {architectures!r}, not a list of names; fetch it again")
    kind = said.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        named = f" ({', '.join(architectures)})" if architectures else ""
        raise CromeError(f"{path}: model_type is {kind!r}{named}; supported are {', '.join(FAMILIES)} and gemma3")
    for name, plain in _PLAIN.items():
        if said.get(name) not in (None, plain):
            raise CromeError(f"{path}: {name} is {said[name]!r}; supported is {plain!r}")
    try:
        decoder = _decoder(family, said, path)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as e:
        raise CromeError(f"{path}: describes no decoder ({e}); fetch it again") from None
    request = content.get(PAIR_REQUEST)
    if request not in (None, REQUEST):
        raise CromeError(
            f"{path}: {PAIR_REQUEST} is {request!r}; this version asks {REQUEST!r} between two answers, which the "
            "model was not trained with; use the version of crome_jax that wrote the folder"
        )
    classifier = any("SequenceClassification" in name for name in architectures)
    exported = classifier and all(content.get(name) == value for name, value in _EXPORTED.items())
    padding = said.get("pad_token_id") if content.get("pad_token_id") is None else content["pad_token_id"]
    return FolderConfig(
        decoder,
        classifier,
        classifier and request is not None,
        multimodal,
        exported,
        padding if isinstance(padding, int) else None,
    )


def _decoder(family: str, said: dict[str, Any], path: Path) -> DecoderConfig:
    def number(name: str, default: Any = None) -> Any:
        value = said.get(name)
        value = _UNSAID[family].get(name, default) if value is None else value
        if value is None:
            raise CromeError(f"{path}: {name!r} is missing; fetch the file again")
        return value

    gemma, width, heads = family in ("gemma2", "gemma3"), number("hidden_size"), number("num_attention_heads")
    layers, head_width = number("num_hidden_layers"), number("head_dim", width // heads)
    sizes = {
        "vocab_size": number("vocab_size"),
        "width": width,
        "layers": layers,
        "heads": heads,
        "kv_heads": number("num_key_value_heads", heads),
        "head_width": head_width,
        "ffn_width": number("intermediate_size"),
    }
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}")
    activation = number("hidden_activation", "gelu_pytorch_tanh") if gemma else number("hidden_act", "silu")
    if activation not in _ACTIVATIONS:
        raise CromeError(f"{path}: the activation is {activation!r}; supported are {', '.join(_ACTIVATIONS)}")
    pattern = _pattern(family, said, layers, path)
    scalar = number("query_pre_attn_scalar", head_width)
    # Said to be null, there is no cap, whatever the class's default.
    cap = said.get("attn_logit_softcapping", _UNSAID[family].get("attn_logit_softcapping"))
    numbers = {
        **_rope(family, said, number, pattern, path),
        "window": number("sliding_window") if "local" in pattern else None,
        "norm_eps": float(number("rms_norm_eps")),
        "attention_cap": None if cap is None else float(cap),
        "query_scale": None if scalar == head_width else scalar**-0.5,
    }
    check_numbers(numbers)
    return DecoderConfig(
        family=family,
        **sizes,
        **numbers,
        pattern=pattern,
        norm_plus_one=gemma,
        post_norms=gemma,
        qkv_bias=family == "qwen2",
        qk_norm=family in ("qwen3", "gemma3"),
        activation=_ACTIVATIONS[activation],
        embedding_scale=float(width) ** 0.5 if gemma else 1.0,
    )


def _pattern(family: str, said: dict[str, Any], layers: int, path: Path) -> tuple[LayerKind, ...]:
    """Return the shortest block of kinds of layers that repeats."""
    types = said.get("layer_types")
    if types is None:
        types = _layer_types(family, said, layers)
    unknown = set(types) - _KINDS.keys()
    if unknown or len(types) != layers:
        wrong = f"names {min(unknown)!r}" if unknown else f"has {len(types)} entries for {layers} layers"
        raise CromeError(f"{path}: layer_types {wrong}; supported are {', '.join(_KINDS)}, one for each layer")
    return repeating_block([_KINDS[kind] for kind in types])


def _layer_types(family: str, said: dict[str, Any], layers: int) -> Sequence[str]:
    """Return what transformers takes where the file does not list the layers."""
    kinds = lambda local: ["sliding_attention" if local(i) else "full_attention" for i in range(layers)]  # noqa: E731
    if family in ("gemma2", "gemma3"):
        every = 2 if family == "gemma2" else said.get("sliding_window_pattern") or 6
        return kinds(lambda i: (i + 1) % every)
    if family in ("qwen2", "qwen3") and said.get("use_sliding_window"):
        return kinds(lambda i: i >= said.get("max_window_layers", 28))
    return kinds(lambda _: False)


def _rope(family: str, said: dict[str, Any], number: Any, pattern: Sequence[LayerKind], path: Path) -> dict[str, Any]:
    given = said.get("rope_parameters") or {}
    scaling, local = given.get("full_attention", given), given.get("sliding_attention", {})
    base = scaling.get("rope_theta") or number("rope_theta")
    scaling = said.get("rope_scaling") or scaling
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in _ROPE_TYPES:
        raise CromeError(f"{path}: rope is scaled by {kind!r}; supported are {', '.join(_ROPE_TYPES)}")
    if local.get("rope_type", "default") != "default" or (
        kind != "default" and "local" in pattern and family != "gemma3"
    ):
        raise CromeError(f"{path}: the rope of sliding layers is scaled, too; supported is scaling of full ones")
    needed = {"linear": ["factor"], "llama3": ["factor", "low_freq_factor", "high_freq_factor"]}.get(kind, [])
    missing = [name for name in needed if name not in scaling]
    if missing:
        raise CromeError(f"{path}: {kind} scaling of rope has no {missing[0]!r}; fetch the file again")
    rope = {"rope_base": float(base)}
    if "local" in pattern:
        own = local.get("rope_theta") or number("rope_local_base_freq") if family == "gemma3" else base
        rope["local_rope_base"] = float(own)
    if kind != "default":
        rope["rope_factor"] = float(scaling["factor"])
    if kind == "llama3":
        trained = scaling.get("original_max_position_embeddings") or number("max_position_embeddings")
        rope |= {
            "rope_trained": int(trained),
            "rope_low_turns": float(scaling["low_freq_factor"]),
            "rope_high_turns": float(scaling["high_freq_factor"]),
        }
    return rope


CLASSIFIERS = {
    "llama": ("llama", "LlamaForSequenceClassification"),
    "qwen2": ("qwen2", "Qwen2ForSequenceClassification"),
    "qwen3": ("qwen3", "Qwen3ForSequenceClassification"),
    "gemma2": ("gemma2", "Gemma2ForSequenceClassification"),
    "gemma3": ("gemma3_text", "Gemma3TextForSequenceClassification"),
}
"""Family -> `model_type` and the class of its sequence classifier."""


PAIR_REQUEST = "crome_jax_pair_request"
"""In the config.json of a pairwise model: what the user says between the two answers. Others pass over it."""


def classifier_config(
    cfg: DecoderConfig, *, context: int, dtype: str, ids: dict[str, int | None], pairwise: bool = False
) -> dict[str, Any]:
    """Return the config.json of a sequence classifier with one label: the reward.

    Rope is written in the form of transformers 4, which transformers 5 and vLLM read, too.

    Args:
        context: tokens of the longest text the model is for.
        dtype: of the weights, as torch calls it.
        ids: `pad_token_id` and so on.
        pairwise: whether the label is, of two answers in one conversation, that the first is the better.

    Raises:
        CromeError: where the family's class cannot be the decoder.
    """
    model_type, architecture = CLASSIFIERS[cfg.family]
    label = "first answer better" if pairwise else "reward"
    names = {kind: name for name, kind in _KINDS.items()}
    scaling: dict[str, Any] | None = None
    if cfg.rope_factor != 1.0:
        scaling = {"rope_type": "linear", "factor": cfg.rope_factor}
    if scaling and cfg.rope_trained is not None:
        scaling |= {
            "rope_type": "llama3",
            "low_freq_factor": cfg.rope_low_turns,
            "high_freq_factor": cfg.rope_high_turns,
            "original_max_position_embeddings": cfg.rope_trained,
        }
    said = {
        "architectures": [architecture],
        "model_type": model_type,
        "num_labels": 1,
        "id2label": {"0": label},
        "label2id": {label: 0},
        "problem_type": "regression",
        **_EXPORTED,
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.width,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads,
        "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_width,
        "intermediate_size": cfg.ffn_width,
        "rms_norm_eps": cfg.norm_eps,
        "rope_theta": cfg.rope_base,
        "rope_scaling": scaling,
        "max_position_embeddings": context,
        "attention_dropout": 0.0,
        "torch_dtype": dtype,
        **ids,
        **({PAIR_REQUEST: REQUEST} if pairwise else {}),
    }
    if cfg.family in ("gemma2", "gemma3"):
        scalar = cfg.head_width if cfg.query_scale is None else cfg.query_scale**-2
        said |= {
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-9 * scalar else scalar,
            "attn_logit_softcapping": cfg.attention_cap,
            "tie_word_embeddings": True,
        }
    else:
        said |= {"hidden_act": "silu", "tie_word_embeddings": False}
    if cfg.family == "gemma3":
        said["rope_local_base_freq"] = cfg.local_rope_base
    if cfg.family not in ("llama", "qwen2"):
        said["attention_bias"] = False
    if cfg.family != "llama":
        said["layer_types"] = [names[cfg.kind_of(layer)] for layer in range(cfg.layers)]
        said["sliding_window"] = cfg.window
    if cfg.family in ("qwen2", "qwen3") and cfg.window is not None:
        said |= {"use_sliding_window": True, "max_window_layers": said["layer_types"].index("sliding_attention")}
    return said
