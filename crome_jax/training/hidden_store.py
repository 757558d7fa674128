"""What the frozen layers gave for texts, kept in a folder: studies of one backbone compute it once between them."""

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.typing import DTypeLike

from crome_jax.data.packing import Rows
from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.models.weights import Trainable
from crome_jax.training.frozen import KnownHidden, texts_of
from crome_jax.weights.backbones import Backbone

_HIDDEN, _INDEX = "hidden.f32", "index.npz"
"""Files of a shard: the hidden states of its texts, one after the other, and which texts those are."""


class HiddenStore(KnownHidden):
    """Hidden states of texts under what decides them: the backbone's bytes and numbers, where it is cut, its dtype.

    What is computed is written as a shard, a folder that appears whole; processes may share a store, and then at worst
    compute the same twice. A shard that is damaged is deleted.

    Args:
        folder: of all stores; each backbone has a folder of its own in it.
        base: the backbone.
        trainable: how much of it trains.
        dtype: of activations.
        limit: bytes that the folder may hold; the shards that were not used for the longest time make room.
    """

    def __init__(self, folder: Path | str, base: Backbone, trainable: Trainable, dtype: DTypeLike, limit: float):
        super().__init__()
        decides = {
            "backbone": base.fingerprint,
            "decoder": dataclasses.asdict(base.cfg),
            "trainable": trainable,
            "dtype": str(np.dtype(dtype)),
            "computed by": [jax.__version__, jax.default_backend()],
        }
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        self._all, self._folder, self._limit = Path(folder), Path(folder) / key[:32], limit
        self._width = base.cfg.width
        for shard in sorted(_shards(self._folder)):
            self._open(shard)

    def add(self, rows: Rows, hidden: np.ndarray, which: Iterable[int]) -> None:
        """Remember the output for every text of some of the rows, and write what is new."""
        which = list(which)
        new = {
            text: (row, span) for row in which for text, span in texts_of(rows.batch, row) if text not in self._places
        }
        starts = np.cumsum([0, *(span.stop - span.start for _, span in new.values())])
        size = 4 * self._width * int(starts[-1]) + 64 * len(new) + 2048  # The index, too.
        if not new or not self._make_room(size):
            super().add(rows, hidden, which)
            return
        shard = self._folder / uuid.uuid4().hex  # No name that another process could take at the same moment.
        with whole_output(shard) as partial:
            partial.mkdir()
            with (partial / _HIDDEN).open("wb") as file:
                for row, span in new.values():
                    file.write(np.ascontiguousarray(hidden[row, span], np.float32).data)
            texts = np.frombuffer(b"".join(new), np.uint8).reshape(len(new), -1)
            np.savez(partial / _INDEX, texts=texts, starts=starts)
        self._open(shard)

    def _open(self, shard: Path) -> None:
        try:
            with np.load(shard / _INDEX) as index:
                texts, starts = index["texts"], index["starts"]
            hidden = np.memmap(shard / _HIDDEN, np.float32, "r").reshape(starts[-1], self._width)
            os.utime(shard)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
            # Another process made room, or a disk failed: what was in there is computed again.
            print(f"{shard}: not read, and deleted ({e})", file=sys.stderr)
            shutil.rmtree(shard, ignore_errors=True)
            return
        for text, start, stop in zip(texts, starts, starts[1:], strict=False):
            self._places.setdefault(text.tobytes(), (hidden, slice(int(start), int(stop))))

    def _make_room(self, size: int) -> bool:
        """Delete old shards until there is room for so many bytes; return whether there is."""
        if size > self._limit:
            return False
        sizes = {shard: _size(shard) for shard in _shards(self._all, "*/*")}
        total = size + sum(sizes.values())
        for shard in sorted(sizes, key=_used):
            if total <= self._limit:
                break
            # Who has it open keeps it until it lets go.
            shutil.rmtree(shard, ignore_errors=True)
            total -= sizes[shard]
        return True


def check_store(folder: str | None, limit: float) -> None:
    """Raise CromeError where a store cannot be, before any work."""
    if folder is None:
        return
    if limit <= 0:
        raise CromeError(f"hidden_cache_bytes is {limit}; give a positive number, or leave hidden_cache out")
    if Path(folder).exists() and not Path(folder).is_dir():
        raise CromeError(f"{folder}: is no folder; give another hidden_cache")


def _shards(folder: Path, pattern: str = "*") -> Iterator[Path]:
    return (index.parent for index in folder.glob(f"{pattern}/{_INDEX}") if not index.parent.name.startswith("."))


def _size(shard: Path) -> int:
    try:
        return sum(file.stat().st_size for file in shard.iterdir())
    except OSError:
        return 0


def _used(shard: Path) -> float:
    try:
        return shard.stat().st_mtime
    except OSError:
        return 0.0
