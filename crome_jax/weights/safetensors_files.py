"""Decoder weights read from the safetensors files of a Hugging Face folder, tensor by tensor."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
from jaxtyping import Float

from crome_jax.errors import CromeError
from crome_jax.files import read_json_object, sha256_of
from crome_jax.models.config import DecoderConfig
from crome_jax.models.weights import declare_layers
from crome_jax.weights.sources import file_shape

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
SCORE = "score.weight"

_LAYER_NAMES = {
    "attention_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "o": "self_attn.o_proj.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
# Where the decoder's weights are in a language model or classifier, by themselves, and in a model of pictures and text.
_PREFIXES = ("model.", "", "model.language_model.", "language_model.model.")
# The output matrix predicts tokens: the reward head takes its place. Rope's frequencies follow from config.json.
_NOT_NEEDED = re.compile(
    r"(language_model\.)?lm_head\.weight|(model\.)?(vision_tower|multi_modal_projector)\..*|.*\.rotary_emb\.inv_freq"
)
_READABLE = ("F64", "F32", "F16", "BF16")  # NumPy knows the last one by JAX, which every decoder here imports.
_LONGEST_HEADER = 100_000_000  # Bytes; the library's own limit.


class Tensor(NamedTuple):
    """Where a tensor is.

    Args:
        path: of its file.
        shape: as the file has it, [out, in].
        kind: the file's name of its dtype.
    """

    path: Path
    shape: tuple[int, ...]
    kind: str


class TensorFiles:
    """The safetensors files of a folder: a tensor's bytes are read when it is asked for.

    Args:
        folder: with `model.safetensors`, or with an index and the shards that it names.

    Attributes:
        tensors: every tensor by its name.
        paths: the files, the index included.

    Raises:
        CromeError: where the folder holds no safetensors, a pickle in place of them, an index that names absent files
            or tensors, or a file that is not whole.
    """

    def __init__(self, folder: Path | str):
        folder = Path(folder)
        index = folder / INDEX
        named: dict[str, str] | None = None
        if (folder / WHOLE).is_file():  # Before an index beside it, as transformers reads them.
            files = [WHOLE]
        elif index.exists():
            named = read_json_object(index).get("weight_map")
            if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
                raise CromeError(f"{index}: has no weight_map of tensors to files; fetch it again")
            files = sorted(set(named.values()))
            absent = [name for name in files if Path(name).name != name or not (folder / name).is_file()]
            if absent:
                held = [name for name, file in named.items() if file == absent[0]]
                some = ", ".join(held[:3]) + (f" and {len(held) - 3} more" if len(held) > 3 else "")
                raise CromeError(f"{index}: names {absent[0]!r} for {some}, which is not in the folder; fetch it")
        else:
            raise _no_weights(folder)
        self.paths = [folder / name for name in files] + ([index] if named is not None else [])
        self.tensors: dict[str, Tensor] = {}
        for path in (folder / name for name in files):
            with _open(path) as opened:
                for name in opened.keys():  # noqa: SIM118 - it is no mapping
                    part = opened.get_slice(name)
                    self.tensors[name] = Tensor(path, tuple(part.get_shape()), part.get_dtype())
        for name, file in (named or {}).items():
            there = self.tensors.get(name)
            if there is None or there.path.name != file:
                raise CromeError(
                    f"{index}: says that {file} holds tensor {name!r}, which it does not; fetch both again"
                )

    def read(self, name: str, *part: slice) -> np.ndarray:
        """Read a tensor, or a part of it, as it is stored.

        Raises:
            CromeError: where it holds numbers that are not finite.
        """
        path = self.tensors[name].path
        # Opened for each tensor: what is read of a mapped file counts as this process's memory until it is closed.
        with _open(path) as opened:
            values = opened.get_slice(name)[part] if part else opened.get_tensor(name)
        if not np.isfinite(values).all():
            raise CromeError(f"{path}: tensor {name!r} holds numbers that are not finite; fetch the file again")
        return values


def check_tensors(files: TensorFiles, folder: Path | str, cfg: DecoderConfig, classifier: bool) -> None:
    """Check names, shapes and kinds of all tensors, before any is read.

    Args:
        cfg: of the whole model, as its config.json says.
        classifier: whether a reward head, `score.weight`, must be there.

    Raises:
        CromeError: naming the tensor that is missing, misshapen, of a kind that cannot be read, or has no place.
    """
    unknown = {name for name in files.tensors if not _NOT_NEEDED.fullmatch(name)}
    expected = dict(_expected_tensors(cfg, _prefix(files, folder)))
    if classifier or SCORE in files.tensors:
        expected[SCORE] = (1, cfg.width)
    for name, shape in expected.items():
        if name not in files.tensors:
            raise CromeError(
                f"{folder}: tensor {name!r} of shape {shape} is missing; the folder does not hold the whole "
                f"{cfg.family} model that its config.json describes"
            )
        tensor = files.tensors[name]
        if tensor.shape != shape:
            raise CromeError(
                f"{tensor.path}: tensor {name!r} has shape {tensor.shape}, expected {shape} by config.json"
            )
        if tensor.kind not in _READABLE:
            kinds = ", ".join(_READABLE)
            raise CromeError(f"{tensor.path}: tensor {name!r} is of kind {tensor.kind}; only {kinds} can be read")
        unknown.discard(name)
    for name in sorted(unknown):
        # Another bias, norm or head: without it the model would run, and be another one.
        path = files.tensors[name].path
        raise CromeError(f"{path}: tensor {name!r} has no place in a {cfg.family} decoder as it is supported here")


class FolderTensors:
    """The decoder's tensors in a Hugging Face folder.

    Args:
        files: checked by check_tensors.
        folder: that they are in.
        cfg: perhaps of fewer layers than the files hold.
    """

    def __init__(self, files: TensorFiles, folder: Path | str, cfg: DecoderConfig):
        self._files, self._prefix, self._cfg = files, _prefix(files, folder), cfg

    def read_rows(self, name: str, layer: int | None, rows: slice, columns: slice) -> Float[np.ndarray, "*part"]:
        """Return rows of a tensor in float32, as `sources.Tensors` says.

        Raises:
            CromeError: where they hold numbers that are not finite.
        """
        if layer is None:
            called = f"{self._prefix}{'embed_tokens' if name == 'embed' else 'norm'}.weight"
        else:
            called = tensor_name(self._prefix, layer, name, self._cfg)
        part = (rows, columns)[: len(self._files.tensors[called].shape)]
        return self._files.read(called, *part).astype(np.float32, copy=False)


def fingerprint(paths: list[Path]) -> str:
    """Return the SHA-256 of files' names and contents, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def refuse_pickle(path: Path) -> CromeError:
    """Return what to tell the user who gave a pickle."""
    return CromeError(
        f"{path}: a pickle, which can run any code when it is read, so only safetensors and GGUF are; convert it where "
        "you trust it: python -c \"import transformers as t; t.AutoModelForCausalLM.from_pretrained('FOLDER')"
        ".save_pretrained('NEW')\" (a classifier with AutoModelForSequenceClassification, which keeps its head), and "
        "copy the tokenizer's files"
    )


def _no_weights(folder: Path) -> CromeError:
    pickles = sorted(path for path in folder.iterdir() if path.suffix in PICKLES and path.stem != "training_args")
    if pickles:
        return refuse_pickle(pickles[0])
    shards = sorted(folder.glob("*.safetensors"))
    if shards:
        return CromeError(f"{folder}: holds {shards[0].name} but neither {WHOLE} nor {INDEX}; fetch the whole folder")
    return CromeError(f"{folder}: holds no {WHOLE}; give a Hugging Face folder with its weights, or a .gguf file")


def _open(path: Path):
    try:
        return safetensors.safe_open(path, framework="numpy")
    except (OSError, safetensors.SafetensorError) as e:
        found = f"{path.stat().st_size:,} bytes"
        raise CromeError(
            f"{path}: not a whole safetensors file ({_cut(path) or e}; found {found}); fetch it again"
        ) from None


def _cut(path: Path) -> str | None:
    """Return in which tensor a file breaks off, by its header; None where it ends in that, or does not break off."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as f:
            start = 8 + int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(start - 8)) if start <= min(size, _LONGEST_HEADER) else {}
        parts = {name: tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__"}
        by_end = sorted(parts.items(), key=lambda part: part[1][1])
        cut, (first, last) = next((name, part) for name, part in by_end if start + part[1] > size)
        there, whole = max(0, size - start - first), start + by_end[-1][1][1]
        return f"tensor {cut!r} has {there:,} of {last - first:,} bytes; expected of the file {whole:,}"
    except (AttributeError, LookupError, OSError, RecursionError, StopIteration, TypeError, ValueError):
        return None


def _prefix(files: TensorFiles, folder: Path | str) -> str:
    for prefix in _PREFIXES:
        if f"{prefix}embed_tokens.weight" in files.tensors:
            return prefix
    raise CromeError(f"{folder}: tensor 'model.embed_tokens.weight' is missing; the files are not a language model's")


def _expected_tensors(cfg: DecoderConfig, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of every tensor, [out, in] as files have it."""
    yield f"{prefix}embed_tokens.weight", (cfg.vocab_size, cfg.width)
    yield f"{prefix}norm.weight", (cfg.width,)
    shapes = {ours: weight.shape[1:] for ours, weight in declare_layers(cfg, 1).items()}
    for layer in range(cfg.layers):
        for ours, shape in shapes.items():
            yield tensor_name(prefix, layer, ours, cfg), file_shape(ours, shape)


def tensor_name(prefix: str, layer: int, ours: str, cfg: DecoderConfig) -> str:
    """Return what a layer's weight is called in a file."""
    # "post_attention_layernorm" is the norm before the feed-forward layer where there are no post-norms.
    norms = {"ffn_norm": "post_attention_layernorm.weight"}
    if cfg.post_norms:
        norms = {
            "ffn_norm": "pre_feedforward_layernorm.weight",
            "attention_post_norm": "post_attention_layernorm.weight",
            "ffn_post_norm": "post_feedforward_layernorm.weight",
        }
    return f"{prefix}layers.{layer}.{(_LAYER_NAMES | norms)[ours]}"
