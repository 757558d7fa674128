"""A run of `crome train` as what another run starts from: its trained weights over its own backbone's."""

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from crome_jax.errors import CromeError
from crome_jax.models.config import DecoderConfig
from crome_jax.models.lora import product
from crome_jax.models.quantized import dequantize, is_quantized, quantize
from crome_jax.models.weights import Trainable, layer_runs, trained_names
from crome_jax.weights.sources import Index, Source

MODEL_FILE = "model.json"
"""What a run's folder has, and no other; see `run_cards.ModelCard`."""


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run."""
    return (folder / MODEL_FILE).is_file()


class RunSource:
    """The weights of a run's newest checkpoint, and below them its backbone's, read when they are asked for.

    A trained weight, the layers of its run stacked, is read whole, and kept until another is asked for: the shards of a
    weight are asked for one after the other. Adapters are merged, into the base in few bits where they were over one.

    Args:
        base: source of what the run left frozen.
        read_trained: from `Checkpoints.open_trained`.
        trainable: how the run's layers are cut.
        cfg: the decoder's numbers.
    """

    def __init__(
        self, base: Source, read_trained: Callable[[str], np.ndarray], trainable: Trainable, cfg: DecoderConfig
    ):
        self._base, self._read_trained = base, read_trained
        self._cfg, self._lora, self._runs = cfg, cfg.lora, layer_runs(cfg, trainable)
        self._trained = trained_names(trainable, cfg.lora is not None)
        self._held: dict[str, np.ndarray] = {}

    def read(self, name: str, layers: range | None, shape: tuple[int, ...], index: Index) -> Float[np.ndarray, "*part"]:
        """Return a part of a weight, as `sources.Source` says."""
        if layers is None:
            if name not in self._trained:
                return self._base.read(name, layers, shape, index)
            return np.asarray(self._leaf(name)[index], np.float32)
        one = (1, *shape[1:])
        part = [self._layer(name, layer, one, index[1:]) for layer in layers[index[0]]]
        return np.concatenate(part) if part else np.empty((0, *shape[1:]), np.float32)

    def _layer(self, name: str, layer: int, shape: tuple[int, ...], index: Index) -> Float[np.ndarray, "*part"]:
        run = next(run for run, held in self._runs.items() if layer in held)
        at = layer - self._runs[run].start
        if run not in self._trained:
            part = self._frozen(name, layer, shape, index)
            if self._lora is None or run == "lower" or name not in self._lora.targets:
                return part
            pair = {k: jnp.asarray(self._leaf(f"adapters/{run}/{k}")[at : at + 1]) for k in (f"{name}_a", f"{name}_b")}
            return part + np.asarray(product(pair, name, self._lora))[(slice(None), *index)]
        return np.asarray(self._leaf(f"{run}/{name}")[(slice(at, at + 1), *index)], np.float32)

    def _frozen(self, name: str, layer: int, shape: tuple[int, ...], index: Index) -> Float[np.ndarray, "*part"]:
        """Return a part of what was under the adapters in training: of a base in few bits, what these stand for."""
        if not is_quantized(name, self._cfg):
            return self._base.read(name, range(layer, layer + 1), shape, (slice(0, 1), *index))
        # Whole: numbers of a block share a scale, wherever a part is cut.
        matrix = self._base.read(name, range(layer, layer + 1), shape, tuple(slice(0, n) for n in shape))
        stood_for = dequantize(quantize(jnp.asarray(matrix), name, self._lora.base))
        return np.asarray(stood_for)[(slice(None), *index)]

    def _leaf(self, path: str) -> np.ndarray:
        if path not in self._held:
            # Let go before the next one is read. An adapter is two.
            while len(self._held) > (1 if path.startswith("adapters/") else 0):
                self._held.pop(next(iter(self._held)))
            self._held[path] = self._read_trained(path)
        return self._held[path]


def fingerprint_run(folder: Path, step: int) -> str:
    """Return the SHA-256 of what a run's checkpoint holds and of the card that it is read by, in hexadecimal.

    The files are not read again: a checkpoint says their digests, by which they were checked when it was restored.

    Raises:
        CromeError: where it does not say them.
    """
    from crome_jax.training.digests import read_digests  # Here, as Orbax takes seconds to import.

    digest = hashlib.sha256((folder / MODEL_FILE).read_bytes())
    saved = folder / "checkpoints" / str(step)
    try:
        said = {PurePosixPath(name): sha256 for name, sha256 in read_digests(saved).items()}
    except (FileNotFoundError, ValueError) as e:
        raise CromeError(f"{saved}: is damaged ({e}); restore a copy of it, or remove it to use the one before") from e
    for name in sorted(name for name in said if name.parts[0] == "state"):
        digest.update(f"{name.relative_to('state')} {said[name]}\n".encode())
    return digest.hexdigest()


def fingerprint_newest(folder: Path) -> str:
    """Return the `fingerprint_run` of a run's newest checkpoint.

    Raises:
        CromeError: where it has none.
    """
    from crome_jax.training.checkpoints import Checkpoints  # Here, as Orbax takes seconds to import.

    return fingerprint_run(folder, Checkpoints(folder, read_only=True).newest())
