"""Packed rows in files: written once for all processes of a run, and read row by row by each.

They are ArrayRecord files, and in a bucket, where ArrayRecord reads nothing, objects of `row_objects`.
"""

import bisect
import itertools
import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from crome_jax.data.packing import Rows
from crome_jax.data.row_objects import SUFFIX, RowObjects, write_row_object
from crome_jax.errors import CromeError
from crome_jax.files import is_remote, read_json_object, sha256_of, stamp, whole_output

INDEX_FILE = "index.json"
ROWS_OF_A_FILE = 4096
"""About 70 MB of rows of 1024 tokens, before compression."""

_FIX = "delete that folder: the same command writes it again"


class RowFiles:
    """Rows that lie in a folder of ArrayRecord files; each is read when it is asked for, and no other.

    Args:
        folder: as `write_row_files` made it; of one in a bucket the bytes of a row are fetched when it is asked for.

    Attributes:
        facts: what was written with the rows.
        rows_read: how many rows this process has read.

    Raises:
        CromeError: where a file is missing, cut short, or damaged where it says what is in it.
    """

    def __init__(self, folder: Path):
        index = read_json_object(folder / INDEX_FILE, _FIX)
        try:
            self.facts: dict[str, Any] = index["facts"]
            self._fields = [(name, np.dtype(kind), tuple(sizes)) for name, kind, sizes in index["fields"]]
            self._files: dict[str, dict[str, Any]] = index["files"]
        except (KeyError, TypeError, ValueError) as e:
            raise CromeError(f"{folder / INDEX_FILE}: is no index of rows ({e!r}); {_FIX}") from None
        self.rows_read = 0
        self._folder = folder
        self._lock = threading.Lock()
        for name, file in self._files.items():
            path = folder / name
            if not path.is_file():
                problem = f"is missing, of {len(self._files)} files; every host must see this folder"
                raise CromeError(f"{path}: {problem}, or {_FIX}")
            size, _ = stamp(path)
            if size != file["bytes"]:
                raise CromeError(f"{path}: has {size:,} bytes, not {file['bytes']:,}; {_FIX}")
        paths = [folder / name for name in self._files]
        try:
            self._source = RowObjects(paths) if is_remote(folder) else _Records(paths)
        except (RuntimeError, OSError, ValueError) as e:  # Of what a file ends with; it names the place.
            raise CromeError(f"{folder}: is damaged ({_first_line(e)}); {_FIX}") from None

    def __len__(self) -> int:
        return sum(file["rows"] for file in self._files.values())

    def take(self, numbers: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Read the rows of these numbers: the fields of a Batch, as `Rows.take` gives them.

        Raises:
            CromeError: where one is damaged, naming its file and its number there.
        """
        rows = [row for row, _ in self._read([int(number) for number in numbers])]
        return {name: np.stack([row[name] for row in rows]) for name, _, _ in self._fields}

    def records(self, number: int) -> list[str]:
        """Return the ids of a row's records."""
        ((_, records),) = self._read([number])
        return records

    def is_whole(self) -> bool:
        """Tell whether every file still has the SHA-256 it was written with; a bucket sees to that by itself."""
        if is_remote(self._folder):
            return True
        return all(sha256_of(self._folder / name) == file["sha256"] for name, file in self._files.items())

    def _read(self, numbers: Sequence[int]) -> list[tuple[dict[str, np.ndarray], list[str]]]:
        with self._lock:
            self.rows_read += len(numbers)
        return [self._unpack(number, row) for number, row in zip(numbers, self._source.fetch(numbers), strict=True)]

    def _unpack(self, number: int, fetched: Any) -> tuple[dict[str, np.ndarray], list[str]]:
        try:
            content = self._source.content(fetched)
        except Exception as e:  # ArrayRecord reports damage as RuntimeError, IndexError and others.
            file, place = self._place(number)
            raise CromeError(f"{file}: row {place} is damaged ({_first_line(e)}); {_FIX}") from None
        row, at = {}, 0
        for name, kind, sizes in self._fields:
            count = math.prod(sizes)
            row[name] = np.frombuffer(content, kind, count, at).reshape(sizes)
            at += count * kind.itemsize
        return row, json.loads(content[at:])

    def _place(self, number: int) -> tuple[Path, int]:
        """Return in which file a row is, and which of it, from 1."""
        ends = list(itertools.accumulate(file["rows"] for file in self._files.values()))
        at = bisect.bisect_right(ends, number)
        return self._folder / [*self._files][at], number + 1 - (ends[at - 1] if at else 0)


class _Records:
    """Rows in ArrayRecord files of this machine."""

    def __init__(self, paths: Sequence[Path]):
        self._source = grain.sources.ArrayRecordDataSource([str(path) for path in paths])

    def fetch(self, numbers: Sequence[int]) -> Sequence[int]:
        return numbers

    def content(self, number: int) -> bytes:
        return self._source[number]


def write_row_files(
    folder: Path, rows: Rows, records: Callable[[int], Sequence[str]], facts: Mapping[str, Any]
) -> RowFiles:
    """Write rows, in the place of those that are there, and open them.

    Args:
        records: from the number of a row to the ids of its records.
        facts: of JSON values, kept beside the rows.

    Raises:
        CromeError: where they cannot be written.
    """
    arrays = [(name, np.asarray(getattr(rows.batch, name))) for name in rows.fields]
    files: dict[str, dict[str, Any]] = {}
    suffix, write = (SUFFIX, write_row_object) if is_remote(folder) else (".array_record", _write_records)

    def content(row: int) -> bytes:
        fields = b"".join(np.ascontiguousarray(array[row]).tobytes() for _, array in arrays)
        return fields + json.dumps(list(records(row))).encode()

    with whole_output(folder, overwrite=True) as partial:
        partial.mkdir()
        count = -(-len(rows) // ROWS_OF_A_FILE)
        for number in range(count):
            path = partial / f"rows-{number:05d}-of-{count:05d}{suffix}"
            of_file = range(number * ROWS_OF_A_FILE, min((number + 1) * ROWS_OF_A_FILE, len(rows)))
            write(path, map(content, of_file))
            files[path.name] = {"rows": len(of_file), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        index = {
            "facts": dict(facts),
            "fields": [(name, array.dtype.str, array.shape[1:]) for name, array in arrays],
            "files": files,
        }
        (partial / INDEX_FILE).write_text(json.dumps(index, indent=1))
    return RowFiles(folder)


def _write_records(path: Path, rows: Iterable[bytes]) -> None:
    writer = ArrayRecordWriter(str(path), "group_size:1")  # Rows are read alone, in any order.
    for row in rows:
        writer.write(row)
    writer.close()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
