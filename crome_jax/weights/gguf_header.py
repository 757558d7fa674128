"""What a GGUF file says of itself: metadata and the places of its tensors, read without mapping the rest."""

import dataclasses
import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np

from crome_jax.errors import CromeError

_SCALARS = {
    gguf.GGUFValueType.UINT8: "B",
    gguf.GGUFValueType.INT8: "b",
    gguf.GGUFValueType.UINT16: "H",
    gguf.GGUFValueType.INT16: "h",
    gguf.GGUFValueType.UINT32: "I",
    gguf.GGUFValueType.INT32: "i",
    gguf.GGUFValueType.FLOAT32: "f",
    gguf.GGUFValueType.BOOL: "?",
    gguf.GGUFValueType.UINT64: "Q",
    gguf.GGUFValueType.INT64: "q",
    gguf.GGUFValueType.FLOAT64: "d",
}
_VERSIONS = (2, 3)


class GGUFTensor(NamedTuple):
    """Where a tensor is.

    Args:
        kind: how its numbers are stored.
        shape: [out, in].
        offset: of its first byte in the file.
    """

    kind: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int

    def row_bytes(self) -> int:
        """Return how many bytes a row, all along the last axis, takes."""
        return gguf.quants.quant_shape_to_byte_shape(self.shape, self.kind)[-1]


@dataclasses.dataclass(frozen=True)
class GGUFFile:
    """The header of a GGUF file.

    Args:
        path: of the file.
        metadata: every value by its name.
        tensors: every tensor by its name.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]


def open_gguf(path: Path | str) -> GGUFFile:
    """Read the header of a GGUF file, little-endian, of version 2 or 3, as ggml's docs/gguf.md specifies it.

    The gguf package's own reader makes an array of every string: ten seconds for a large vocabulary.

    Raises:
        CromeError: where it is absent, no GGUF, or cut short.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            if not size:
                raise ValueError("it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Cursor(content, size).read_file(path)
    except FileNotFoundError:
        raise CromeError(f"{path}: no such file; give the path of a .gguf file") from None
    except OSError as e:
        raise CromeError(f"{path}: cannot be read ({e.strerror}); give the path of a .gguf file") from None
    except ValueError as e:  # UnicodeDecodeError is one.
        raise CromeError(f"{path}: not a whole GGUF file ({e}); fetch it again") from None


class _Cursor:
    """A place in the header, which moves on as it is read; what would lie past the end is a ValueError."""

    def __init__(self, content: mmap.mmap, size: int):
        self._content, self._size, self._at = content, size, 0

    def read_file(self, path: Path) -> GGUFFile:
        if self._take(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version, tensors, values = self._number("I"), self._number("Q"), self._number("Q")
        if version not in _VERSIONS:
            raise ValueError(f"version {version}; supported are little-endian ones of version 2 and 3")
        metadata: dict[str, Any] = {}
        for _ in range(values):
            name = self._string()
            if name in metadata:
                raise ValueError(f"metadata {name!r} is there twice")
            metadata[name] = self._value(self._kind(gguf.GGUFValueType))
        found = [self._tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment is {alignment!r}")
        start = math.ceil(self._at / alignment) * alignment
        placed: dict[str, GGUFTensor] = {}
        for name, tensor in found:
            here = tensor._replace(offset=start + tensor.offset)
            end = here.offset + math.prod(here.shape[:-1]) * here.row_bytes()
            if end > self._size:
                raise ValueError(f"tensor {name!r} ends at byte {end:,}, past the {self._size:,} of the file")
            if name in placed:
                raise ValueError(f"tensor {name!r} is there twice")
            placed[name] = here
        return GGUFFile(path, metadata, placed)

    def _take(self, n: int) -> bytes:
        end = self._at + n
        if end > self._size:
            raise ValueError(f"it is cut short, after {self._size:,} bytes")
        found, self._at = self._content[self._at : end], end
        return found

    def _number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._take(struct.calcsize(f"<{code}")))[0]

    def _kind(self, kinds: Any) -> Any:
        return kinds(self._number("I"))

    def _string(self) -> str:
        return self._take(self._number("Q")).decode()

    def _value(self, kind: gguf.GGUFValueType) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == gguf.GGUFValueType.STRING:
            return self._string()
        of, count = self._kind(gguf.GGUFValueType), self._number("Q")
        if of in _SCALARS:
            dtype = np.dtype(_SCALARS[of]).newbyteorder("<")
            return np.frombuffer(self._take(count * dtype.itemsize), dtype).tolist()
        if of != gguf.GGUFValueType.STRING:
            raise ValueError("an array of arrays: not supported")
        return [self._string() for _ in range(count)]

    def _tensor(self) -> tuple[str, GGUFTensor]:
        name, axes = self._string(), self._number("I")
        if not 1 <= axes <= 4:
            raise ValueError(f"tensor {name!r} has {axes} axes")
        shape = tuple(self._number("Q") for _ in range(axes))[::-1]
        return name, GGUFTensor(self._kind(gguf.GGMLQuantizationType), shape, self._number("Q"))
