"""Where a backbone's weights come from, and how they get from there onto the mesh: one shard at a time."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Float

from crome_jax.models.weights import Params, Weight, is_weight

_CHUNK = 1 << 20
"""Numbers that are read of a tensor at a time: what is held twice on the way to a shard."""

Index = tuple[slice, ...]
"""Which part of a weight, a slice for each axis."""


class Source(Protocol):
    """Weights by name and layer, in parts."""

    def read(self, name: str, layers: range | None, shape: tuple[int, ...], index: Index) -> Float[np.ndarray, "*part"]:
        """Return a part of a weight, in float32.

        Args:
            name: such as "embed", or "q" of layers.
            layers: which of the decoder's are stacked on the weight's first axis; None for what is in no layer.
            shape: of the whole weight.
            index: of the part.

        Raises:
            CromeError: naming the tensor whose numbers cannot be used.
        """
        ...


class Tensors(Protocol):
    """Tensors of a file, in parts; a matrix is [out, in], its rows in the order that the decoder has them."""

    def read_rows(self, name: str, layer: int | None, rows: slice, columns: slice) -> Float[np.ndarray, "*part"]:
        """Return rows of the tensor that is our weight `name`, in float32; `columns` says nothing of a vector."""
        ...


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Weights that lie in files as matrices [out, in], a tensor for each layer."""

    tensors: Tensors

    def read(self, name: str, layers: range | None, shape: tuple[int, ...], index: Index) -> Float[np.ndarray, "*part"]:
        """Return a part of a weight; beside it, one chunk of a tensor is held."""
        spans = tuple(range(*cut.indices(size)) for cut, size in zip(index, shape, strict=True))
        part = _aligned([len(span) for span in spans])
        if layers is not None:
            for i, at in enumerate(spans[0]):
                self._fill(part[i], name, layers[at], shape[1:], spans[1:])
        elif name == "embed":  # The one matrix whose rows are what goes in: the ids.
            self._fill(part.T, name, None, shape[::-1], spans[::-1])
        else:
            self._fill(part, name, None, shape, spans)
        return part

    def _fill(
        self, part: np.ndarray, name: str, layer: int | None, shape: tuple[int, ...], spans: tuple[range, ...]
    ) -> None:
        """Fill a part of one layer's weight."""
        inputs = len(input_shape(name, shape))
        columns = _flat(spans[:inputs], shape[:inputs])
        of_a_row, rows = math.prod(shape[inputs + 1 :]), spans[inputs]
        at_once = max(1, _CHUNK // (of_a_row * (columns.stop - columns.start)))
        for start in range(rows.start, rows.stop, at_once):
            stop = min(start + at_once, rows.stop)
            read = self.tensors.read_rows(name, layer, slice(start * of_a_row, stop * of_a_row), columns)
            read = read.reshape(stop - start, *shape[inputs + 1 :], *(len(span) for span in spans[:inputs]))
            into = part[(slice(None),) * inputs + (slice(start - rows.start, stop - rows.start),)]
            into[...] = np.moveaxis(read, range(read.ndim - inputs, read.ndim), range(inputs))


@dataclasses.dataclass(frozen=True)
class HeldSource:
    """Weights that are held already, their layers cut into runs somehow."""

    params: Params

    def read(self, name: str, layers: range | None, shape: tuple[int, ...], index: Index) -> Float[np.ndarray, "*part"]:
        """Return a part of a weight."""
        if layers is None:
            return np.asarray(self.params[name][index], np.float32)
        part = [self._layer(name, layer)[index[1:]] for layer in layers[index[0]]]
        return np.stack(part) if part else np.empty((0, *shape[1:]), np.float32)

    def _layer(self, name: str, layer: int) -> Float[np.ndarray, "*one"]:
        for run in ("lower", "upper", "last"):
            held = len(self.params[run][name]) if run in self.params else 0
            if layer < held:
                return np.asarray(self.params[run][name][layer], np.float32)
            layer -= held
        raise IndexError(f"no layer {layer} past the last")


def input_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of a layer's weight that its input has; they come first in ours, and are a file's columns."""
    if name.endswith(("norm", "bias")):
        return ()
    return shape[:-1] if name == "o" else shape[:1]


def file_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape, [out, in], that one layer's weight has in a file."""
    inputs = math.prod(input_shape(name, shape))
    rows = math.prod(shape) // inputs
    return (rows, inputs) if input_shape(name, shape) else (rows,)


def place(
    weights: Mapping[str, Any], runs: Mapping[str, range], source: Source, shardings: Mapping[str, Any]
) -> Params:
    """Read weights onto the mesh.

    At no time does the host hold more than one shard and a chunk of a tensor, beside what the devices hold.

    Args:
        weights: declarations, in the tree that Params has (`weights.declare`).
        runs: which layers each run of it holds.
        source: of all of them.
        shardings: of each (`mesh.weight_shardings`).
    """

    def one(path: tuple[jax.tree_util.DictKey, ...], weight: Weight, sharding: NamedSharding) -> jax.Array:
        devices: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
        for device, index in sharding.addressable_devices_indices_map(weight.shape).items():
            cuts = tuple(cut.indices(size)[:2] for cut, size in zip(index, weight.shape, strict=True))
            devices.setdefault(cuts, []).append(device)
        placed = []
        for cuts, holders in devices.items():
            shard = _read(path, weight, runs, source, tuple(slice(*cut) for cut in cuts))
            # Waited for: a copy under way would keep this shard beside the next one.
            placed += jax.block_until_ready([jax.device_put(shard, device) for device in holders])
        return jax.make_array_from_single_device_arrays(weight.shape, sharding, placed)

    return jax.tree_util.tree_map_with_path(one, dict(weights), dict(shardings), is_leaf=is_weight)


def read_whole(weights: Mapping[str, Any], runs: Mapping[str, range], source: Source) -> Params:
    """Read weights into the memory of the host; the arguments are those of `place`."""
    whole = lambda path, w: _read(path, w, runs, source, tuple(slice(0, n) for n in w.shape))  # noqa: E731
    return jax.tree_util.tree_map_with_path(whole, dict(weights), is_leaf=is_weight)


def _read(
    path: tuple[jax.tree_util.DictKey, ...], weight: Weight, runs: Mapping[str, range], source: Source, index: Index
) -> Float[np.ndarray, "*part"]:
    *run, name = (key.key for key in path)
    return source.read(name, runs[run[0]] if run else None, weight.shape, index)


def _aligned(shape: Sequence[int]) -> Float[np.ndarray, "*part"]:
    """Return an array that starts at a multiple of 64 bytes: a CPU device takes it as it is, where it copies others."""
    size, slack = math.prod(shape), 64 // np.dtype(np.float32).itemsize
    room = np.empty(size + slack, np.float32)
    start = -room.ctypes.data % 64 // room.itemsize
    return room[start : start + size].reshape(shape)


def _flat(spans: tuple[range, ...], shape: tuple[int, ...]) -> slice:
    """Return the columns that a part of the input axes is, of which only the first may be cut."""
    if not spans:
        return slice(0, 1)
    inner = math.prod(shape[1:])
    return slice(spans[0].start * inner, spans[0].stop * inner)
