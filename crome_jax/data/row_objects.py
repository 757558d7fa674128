"""Packed rows as objects in a bucket: each row is one range of bytes, and no more than that is fetched to read it.

ArrayRecord reads files of this machine alone; a host that copied them would fetch the rows of all the others.
"""

import io
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

SUFFIX, OFFSETS = ".rows", ".offsets.npy"


def write_row_object(path: Path, rows: Iterable[bytes]) -> None:
    """Write rows, each compressed by itself, and beside them where each begins and the last one ends."""
    ends = [0]
    with path.open("wb") as file:
        for row in rows:
            ends.append(ends[-1] + file.write(zlib.compress(row)))
    np.save(path.with_suffix(OFFSETS), np.array(ends, np.int64), allow_pickle=False)


class RowObjects:
    """Rows of several objects, read by their numbers over all of them.

    Args:
        paths: of the objects, in order; where their rows begin is read now, 8 bytes a row.
    """

    def __init__(self, paths: Sequence[Path]):
        self._paths = [os.fspath(path) for path in paths]
        ends = [np.load(io.BytesIO(path.with_suffix(OFFSETS).read_bytes()), allow_pickle=False) for path in paths]
        self._object = np.repeat(np.arange(len(ends)), [len(of) - 1 for of in ends])
        self._start = np.concatenate([of[:-1] for of in ends])
        self._stop = np.concatenate([of[1:] for of in ends])

    def fetch(self, numbers: Sequence[int]) -> list[bytes]:
        """Return rows as they lie there, compressed; all of them are asked for at once."""
        import fsspec

        system, _ = fsspec.core.url_to_fs(self._paths[0])
        where = [self._paths[self._object[number]] for number in numbers]
        starts, stops = ([int(at[number]) for number in numbers] for at in (self._start, self._stop))
        return system.cat_ranges(where, starts, stops, on_error="raise")

    def content(self, fetched: bytes) -> bytes:
        """Return a row that was fetched.

        Raises:
            zlib.error: where it is damaged.
        """
        return zlib.decompress(fetched)
