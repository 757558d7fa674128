"""Decoder weights read from GGUF files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from jaxtyping import Float

from crome_jax.errors import CromeError
from crome_jax.models.config import DecoderConfig
from crome_jax.models.rope import rope_frequencies
from crome_jax.models.weights import declare_layers
from crome_jax.weights.gguf_header import GGUFFile, GGUFTensor
from crome_jax.weights.sources import file_shape

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")
"""`general.architecture` of the files that can be read, and our families' names."""

_LAYER_NAMES = {
    "attention_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "ffn_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "attention_post_norm": "post_attention_norm",
    "ffn_post_norm": "post_ffw_norm",
}
_ROPE_BASES = {"gemma3": 1e6}
# Whose queries are scaled by width / heads instead of a head's width, which no metadata say: llama.cpp, too, knows the
# models of 27 billion parameters by their layers.
_SCALED_BY_WIDTH = {("gemma2", 46), ("gemma3", 62)}
_ROPE_FACTORS = "rope_freqs.weight"


def read_config(file: GGUFFile) -> DecoderConfig:
    """Read the decoder's numbers from the file's metadata.

    Raises:
        CromeError: where the architecture is not one that the decoder can be, or a number is missing.
    """
    architecture = _value(file, "general.architecture")
    if architecture not in ARCHITECTURES:
        raise CromeError(f"{file.path}: architecture {architecture!r}; supported are {', '.join(ARCHITECTURES)}")

    def number(name: str, default: Any = None) -> Any:
        return _value(file, f"{architecture}.{name}", default)

    try:
        width, heads, layers = number("embedding_length"), number("attention.head_count"), number("block_count")
        head_width = number("attention.key_length", width // heads)
        if number("rope.dimension_count", head_width) != head_width:
            turned = number("rope.dimension_count")
            raise CromeError(f"{file.path}: {architecture}.rope.dimension_count is {turned}; supported is {head_width}")
        sizes = {
            "width": width,
            "layers": layers,
            "heads": heads,
            "kv_heads": number("attention.head_count_kv"),
            "head_width": head_width,
            "ffn_width": number("feed_forward_length"),
        }
        for name, value in sizes.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}")
        gemma = architecture in ("gemma2", "gemma3")
        numbers = {
            "family": architecture,
            "vocab_size": _vocab_size(file),
            **sizes,
            "norm_eps": _decimal(number("attention.layer_norm_rms_epsilon")),
            "rope_base": _decimal(number("rope.freq_base", _ROPE_BASES.get(architecture, 1e4))),
            "qkv_bias": architecture == "qwen2",
            "qk_norm": architecture in ("qwen3", "gemma3"),
        }
        if gemma:
            scalar = width // heads if (architecture, layers) in _SCALED_BY_WIDTH else head_width
            cap = number("attn_logit_softcapping", 50.0) if architecture == "gemma2" else None
            local_base = number("rope.freq_base_swa", 1e4 if architecture == "gemma3" else numbers["rope_base"])
            numbers |= {
                "pattern": _pattern(file, architecture),
                "window": number("attention.sliding_window", 4096 if architecture == "gemma2" else None),
                "local_rope_base": _decimal(local_base),
                # norm_plus_one stays False: the converter has added the 1 of (1 + w) already.
                "post_norms": True,
                "attention_cap": None if cap is None else _decimal(cap),
                "activation": "gelu_tanh",
                "query_scale": None if scalar == head_width else scalar**-0.5,
                "embedding_scale": float(width) ** 0.5,
            }
        return DecoderConfig(**numbers, **_rope_scaling(file, architecture, numbers))
    except (TypeError, ValueError, ZeroDivisionError) as e:
        raise CromeError(f"{file.path}: its metadata describe no decoder ({e}); fetch it again") from None


def _pattern(file: GGUFFile, architecture: str) -> tuple[str, ...]:
    """Return the repeating block: one layer in two (Gemma 2) or six (Gemma 3) is global, unless the file says so."""
    every = _value(file, f"{architecture}.attention.sliding_window_pattern", 2 if architecture == "gemma2" else 6)
    if not isinstance(every, int) or not 1 <= every <= 100:
        raise CromeError(
            f"{file.path}: {architecture}.attention.sliding_window_pattern is {str(every)[:60]}; supported is 1 to 100"
        )
    return ("local",) * (every - 1) + ("global",)


def _rope_scaling(file: GGUFFile, architecture: str, numbers: dict[str, Any]) -> dict[str, Any]:
    """Read how rope is stretched: by a factor alone (linear), or by Llama 3's factors, which are a tensor."""
    kind = _value(file, f"{architecture}.rope.scaling.type", "none")
    if kind not in ("none", "linear") or (kind == "linear" and architecture == "gemma2"):
        supported = "'none'" if architecture == "gemma2" else "'none' and 'linear'"
        raise CromeError(f"{file.path}: {architecture}.rope.scaling.type is {kind!r}; supported are {supported}")
    if kind == "linear":
        return {"rope_factor": _decimal(_value(file, f"{architecture}.rope.scaling.factor"))}
    if architecture != "llama" or _ROPE_FACTORS not in file.tensors:
        return {}
    factors = _Reader(file).read(_ROPE_FACTORS, slice(None)).ravel()
    plain = DecoderConfig(**numbers)
    unscaled = rope_frequencies(plain, "global")
    if factors.shape != unscaled.shape:
        raise CromeError(f"{file.path}: tensor {_ROPE_FACTORS!r} has shape {factors.shape}, expected {unscaled.shape}")
    if np.allclose(factors, 1.0):
        return {}
    # The converter keeps of Llama 3's numbers only the factors; every published model has low 1 and high 4.
    for trained in (2**n for n in range(4, 21)):
        said = {"rope_factor": _decimal(factors.max()), "rope_trained": trained}
        expected = unscaled / rope_frequencies(DecoderConfig(**numbers, **said), "global")
        if np.allclose(factors, expected, rtol=1e-5):
            return said
    raise CromeError(
        f"{file.path}: tensor {_ROPE_FACTORS!r} does not hold Llama 3's factors, which slow rope down from 1 to 4 "
        "turns in the trained length; give the Hugging Face folder, whose config.json says what they are"
    )


class GGUFTensors:
    """The decoder's tensors in a GGUF file, checked before anything is read.

    Args:
        file: from open_gguf.
        cfg: perhaps of fewer layers than the file holds.

    Raises:
        CromeError: naming the tensor that is missing, misshapen, of a kind that cannot be read, or that the decoder has
            no place for.
    """

    def __init__(self, file: GGUFFile, cfg: DecoderConfig):
        self._reader, self._cfg = _Reader(file), cfg
        _check_tensors(file, cfg)

    def read_rows(self, name: str, layer: int | None, rows: slice, columns: slice) -> Float[np.ndarray, "*part"]:
        """Return rows of a tensor, whole heads of queries and keys, as `sources.Tensors` says.

        Raises:
            CromeError: where they hold numbers that are not finite.
        """
        read = self._reader.read(_name(name, layer), rows)
        if read.ndim == 1:
            return read
        read = read[:, columns]
        if self._cfg.family == "llama" and name in ("q", "k"):
            # Llama files permute query and key rows for interleaved rope; ours rotates halves.
            e, n = self._cfg.head_width, read.shape[1]
            read = read.reshape(-1, e // 2, 2, n).swapaxes(1, 2).reshape(-1, n)
        return read


class _Reader:
    """Reads and dequantises rows; the bytes are read, not mapped, so that they do not stay."""

    def __init__(self, file: GGUFFile):
        self._file = file

    def read(self, name: str, rows: slice) -> np.ndarray:
        tensor = self._file.tensors[name]
        vector = len(tensor.shape) == 1
        start, stop, _ = slice(0, 1).indices(1) if vector else rows.indices(tensor.shape[0])
        length = tensor.row_bytes()
        data = np.fromfile(self._file.path, np.uint8, (stop - start) * length, offset=tensor.offset + start * length)
        values = _dequantize(data.reshape(1, -1), tensor, name, self._file.path)
        if not np.isfinite(values).all():
            raise CromeError(
                f"{self._file.path}: tensor {name!r} holds numbers that are not finite; fetch the file again"
            )
        return values.reshape(-1)[rows] if vector else values.reshape(stop - start, -1)


def _dequantize(data: np.ndarray, tensor: GGUFTensor, name: str, path: Path) -> np.ndarray:
    try:
        # As one row, however many there are: the package takes sixteen rows at a time, which are too few to be fast.
        return gguf.quants.dequantize(data, tensor.kind).astype(np.float32, copy=False)
    except NotImplementedError:
        raise CromeError(
            f"{path}: tensor {name!r} is of kind {tensor.kind.name}, which cannot be read; use F16 or Q8_0"
        ) from None


def _check_tensors(file: GGUFFile, cfg: DecoderConfig) -> None:
    """Check names, shapes and kinds, before anything is read."""
    # "output.weight" predicts tokens; the reward head takes its place. Rope's factors were read with the metadata.
    not_needed = {"output.weight"} | ({_ROPE_FACTORS} if cfg.family == "llama" else set())
    held = _value(file, f"{cfg.family}.block_count")
    left_out = {name for name in file.tensors if cfg.layers <= _layer_of(name) < held}
    unknown = set(file.tensors) - left_out - not_needed
    tried = set()
    for name, shape in _expected_tensors(cfg):
        if name not in file.tensors:
            raise CromeError(
                f"{file.path}: tensor {name!r} of shape {shape} is missing; the file does not hold a whole "
                f"{cfg.family} model"
            )
        tensor = file.tensors[name]
        if tensor.shape != shape:
            raise CromeError(f"{file.path}: tensor {name!r} has shape {tensor.shape}, expected {shape}")
        if tensor.kind not in tried:
            tried.add(tensor.kind)
            _dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[tensor.kind][1]), np.uint8), tensor, name, file.path)
        unknown.discard(name)
    for name in sorted(unknown):
        # A bias or experts: without them the model would run, and be another one.
        raise CromeError(f"{file.path}: tensor {name!r} has no place in a {cfg.family} decoder as it is supported here")


def _expected_tensors(cfg: DecoderConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of every tensor, [out, in] as files have it."""
    yield "token_embd.weight", (cfg.vocab_size, cfg.width)
    yield "output_norm.weight", (cfg.width,)
    shapes = {ours: weight.shape[1:] for ours, weight in declare_layers(cfg, 1).items()}
    for layer in range(cfg.layers):
        for ours, shape in shapes.items():
            yield _name(ours, layer), file_shape(ours, shape)


def _name(ours: str, layer: int | None) -> str:
    if layer is None:
        return {"embed": "token_embd.weight", "final_norm": "output_norm.weight"}[ours]
    if ours.endswith("_bias"):
        return f"blk.{layer}.{_LAYER_NAMES[ours.removesuffix('_bias')]}.bias"
    return f"blk.{layer}.{_LAYER_NAMES[ours]}.weight"


def _layer_of(tensor: str) -> int:
    """Return the layer that a tensor's name says it is of, -1 for those of no layer."""
    found = re.match(r"blk\.(\d+)\.", tensor)
    return int(found[1]) if found else -1


def _vocab_size(file: GGUFFile) -> int:
    if "token_embd.weight" not in file.tensors:
        raise CromeError(f"{file.path}: tensor 'token_embd.weight' is missing; the file is not a language model's")
    return file.tensors["token_embd.weight"].shape[0]


def _value(file: GGUFFile, name: str, default: Any = None) -> Any:
    found = file.metadata.get(name, default)
    if found is None:
        raise CromeError(f"{file.path}: metadata {name!r} is missing; the file is not a language model's")
    return found


def _decimal(x: float) -> float:
    """Return the short decimal that was rounded to float32: 1e-5, not 9.999999747e-6."""
    return float(np.format_float_positional(np.float32(x), unique=True))
