"""Decoder weights read from GGUF files."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from crome_jax.errors import CromeError
from crome_jax.models.config import DecoderConfig
from crome_jax.models.weights import Params, Trainable, declare_layers, layer_runs, split_layers

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


def open_gguf(path: Path | str) -> gguf.GGUFReader:
    """Map a GGUF file.

    Raises:
        CromeError: where it is absent, no GGUF, or cut short.
    """
    try:
        return gguf.GGUFReader(path)
    except FileNotFoundError:
        raise CromeError(f"{path}: no such file; give the path of a .gguf file") from None
    except OSError as e:
        raise CromeError(f"{path}: cannot be read ({e.strerror}); give the path of a .gguf file") from None
    except (ValueError, KeyError, IndexError, OverflowError, MemoryError) as e:
        raise CromeError(f"{path}: not a whole GGUF file ({e}); fetch it again") from None


def read_config(reader: gguf.GGUFReader, path: Path | str = "GGUF") -> DecoderConfig:
    """Read the decoder's numbers from the file's metadata.

    Raises:
        CromeError: where the architecture is not one that the decoder can be, or a number is missing.
    """
    architecture = _value(reader, "general.architecture", path)
    if architecture not in ("llama", "gemma3"):
        raise CromeError(f"{path}: architecture {architecture!r}; supported are llama and gemma3")

    def number(name: str, default=None):
        return _value(reader, f"{architecture}.{name}", path, default)

    try:
        width, heads = number("embedding_length"), number("attention.head_count")
        head_width = number("attention.key_length", width // heads)
        for name, ours in (("rope.scaling.type", "none"), ("rope.dimension_count", head_width)):
            if number(name, ours) != ours:
                raise CromeError(f"{path}: {architecture}.{name} is {number(name)!r}; supported is {ours!r}")
        shared = {
            "family": architecture,
            "vocab_size": _vocab_size(reader, path),
            "width": width,
            "layers": number("block_count"),
            "heads": heads,
            "kv_heads": number("attention.head_count_kv"),
            "head_width": head_width,
            "ffn_width": number("feed_forward_length"),
            "norm_eps": _decimal(number("attention.layer_norm_rms_epsilon")),
            "rope_base": float(number("rope.freq_base", 1e6 if architecture == "gemma3" else 1e4)),
        }
        for name in ("width", "layers", "heads", "kv_heads", "head_width", "ffn_width"):
            if not isinstance(shared[name], int) or shared[name] < 1:
                raise ValueError(f"{name} is {shared[name]!r}")
        if architecture == "llama":
            return DecoderConfig(**shared)
        return DecoderConfig(
            **shared,
            pattern=("local",) * 5 + ("global",),
            window=number("attention.sliding_window"),
            # norm_plus_one stays False: the converter has added the 1 of (1 + w) already.
            post_norms=True,
            qk_norm=True,
            activation="gelu_tanh",
            embedding_scale=float(width) ** 0.5,
        )
    except (TypeError, ValueError, ZeroDivisionError) as e:
        raise CromeError(f"{path}: its metadata describe no decoder ({e}); fetch it again") from None


def read_params(
    reader: gguf.GGUFReader,
    cfg: DecoderConfig,
    trainable: Trainable = "all",
    path: Path | str = "GGUF",
) -> Params:
    """Read and dequantise every weight to float32, laid out as `declare(cfg, trainable)`; the head starts at zero.

    Raises:
        CromeError: naming the tensor that is missing, misshapen, not finite or of a kind that cannot be read, or that
            the decoder has no place for.
    """
    tensors = {t.name: t for t in reader.tensors}
    _check_tensors(tensors, cfg, path)

    def read(name: str) -> np.ndarray:
        try:
            values = gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        except NotImplementedError:
            kind = tensors[name].tensor_type.name
            raise CromeError(
                f"{path}: tensor {name!r} is of kind {kind}, which cannot be read; use F16 or Q8_0"
            ) from None
        if not np.isfinite(values).all():
            raise CromeError(f"{path}: tensor {name!r} holds numbers that are not finite; fetch the file again")
        return values.astype(np.float32, copy=False)

    d, e = cfg.width, cfg.head_width
    stacked = {ours: np.empty(w.shape, np.float32) for ours, w in declare_layers(cfg, cfg.layers).items()}
    for layer in range(cfg.layers):
        for ours, into in stacked.items():
            w = read(_name(ours, layer))
            if ours in ("q", "k", "v"):
                heads = into.shape[2]
                if cfg.family == "llama" and ours != "v":
                    # Llama files permute query and key rows for interleaved rope; ours rotates halves.
                    w = w.reshape(heads, e // 2, 2, d).swapaxes(1, 2)
                into[layer] = w.reshape(heads, e, d).transpose(2, 0, 1)
            else:
                into[layer] = w.T.reshape(into.shape[1:])
    return {
        "embed": read("token_embd.weight"),
        **split_layers(stacked, layer_runs(cfg, trainable)),
        "final_norm": read("output_norm.weight"),
        "head": np.zeros(d, np.float32),
    }


def _check_tensors(tensors: dict[str, gguf.ReaderTensor], cfg: DecoderConfig, path: Path | str) -> None:
    """Check names and shapes, before anything is read."""
    # "output.weight" predicts tokens; the reward head takes its place.
    unknown = {name for name in tensors if _layer_of(name) < cfg.layers} - {"output.weight"}
    for name, shape in _expected_tensors(cfg):
        if name not in tensors:
            raise CromeError(f"{path}: tensor {name!r} is missing; the file does not hold a whole {cfg.family} model")
        found = tuple(int(n) for n in reversed(tensors[name].shape))
        if found != shape:
            raise CromeError(f"{path}: tensor {name!r} has shape {found}, expected {shape}")
        unknown.discard(name)
    for name in sorted(unknown):
        # A bias, scaled rope or experts: without them the model would run, and be another one.
        raise CromeError(f"{path}: tensor {name!r} has no place in a {cfg.family} decoder as it is supported here")


def _expected_tensors(cfg: DecoderConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of every tensor, [out, in] as files have it."""
    yield "token_embd.weight", (cfg.vocab_size, cfg.width)
    yield "output_norm.weight", (cfg.width,)
    shapes = {ours: weight.shape[1:] for ours, weight in declare_layers(cfg, 1).items()}
    for layer in range(cfg.layers):
        for ours, shape in shapes.items():
            if ours == "o":
                shape = (shape[0] * shape[1], shape[2])
            yield _name(ours, layer), (math.prod(shape[1:]), shape[0]) if len(shape) > 1 else shape


def _name(ours: str, layer: int) -> str:
    return f"blk.{layer}.{_LAYER_NAMES[ours]}.weight"


def _layer_of(tensor: str) -> int:
    """Return the layer that a tensor's name says it is of, -1 for those of no layer."""
    found = re.match(r"blk\.(\d+)\.", tensor)
    return int(found[1]) if found else -1


def _vocab_size(reader: gguf.GGUFReader, path: Path | str) -> int:
    for tensor in reader.tensors:
        if tensor.name == "token_embd.weight":
            return int(tensor.shape[-1])
    raise CromeError(f"{path}: tensor 'token_embd.weight' is missing; the file is not a language model's")


def _value(reader: gguf.GGUFReader, name: str, path: Path | str, default=None):
    field = reader.get_field(name)
    if field is not None:
        try:
            return field.contents()
        except ValueError as e:
            raise CromeError(f"{path}: metadata {name!r} is damaged ({e}); fetch the file again") from None
    if default is None:
        raise CromeError(f"{path}: metadata {name!r} is missing; the file is not a language model's")
    return default


def _decimal(x: float) -> float:
    """Return the short decimal that was rounded to float32: 1e-5, not 9.999999747e-6."""
    return float(np.format_float_positional(np.float32(x), unique=True))
