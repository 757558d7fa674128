"""The bad records of a run: counted, and kept beside its output with what is wrong with each."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from crome_jax.errors import CromeError, DataError
from crome_jax.files import is_remote, is_taken, place, whole_output

Places = dict[str, tuple[str, int]]
"""Of groups by their ids: the file that each was read from, and its number there."""

_FIELDS = {"file", "record", "error", "raw"}


def list_beside(out: Path) -> Path:
    """Return where the bad records of an output are listed: `OUT.bad.jsonl`.

    Raises:
        CromeError: where the output is the root of the file system, which nothing is beside.
    """
    if not is_remote(out) and out.name in ("", ".."):
        out = out.resolve()
    if not out.name:
        raise CromeError(f"{out}: no list of bad records can be beside it; name a folder in it")
    return out.with_name(f"{out.name}.bad.jsonl")


class Quarantine:
    """Where bad records go instead of stopping the run.

    Used as a context manager. The file appears when the block ends without an error and at least one record came; its
    lines are `{file, record, error, raw}`. Bytes of `raw` that are not UTF-8 are written as lone surrogates, so
    `raw.encode(errors="surrogateescape")` is the record as it was.

    Args:
        path: the JSON lines to write; None only counts.
        overwrite: whether the list of an earlier run is replaced; no other file is.
        inputs: what the run reads, which is never replaced.
        fix: what the user can do about a file in the way.
    """

    def __init__(
        self,
        path: str | os.PathLike | None = None,
        *,
        overwrite: bool = False,
        inputs: Iterable[str | os.PathLike] = (),
        fix: str = "move it away",
    ):
        self.path = None if path is None else place(path)
        self.count = 0
        self.first: DataError | None = None
        self._overwrite = overwrite
        self._inputs = tuple(place(source) for source in inputs)
        self._fix = fix
        self._stack = contextlib.ExitStack()
        self._file: IO[str] | None = None

    def __enter__(self) -> "Quarantine":
        self._stack.__enter__()
        return self

    def __exit__(self, *exception) -> bool | None:
        return self._stack.__exit__(*exception)

    def check_place(self) -> None:
        """Raise CromeError where a file is in the way that must not be replaced."""
        if self.path is None or not is_taken(self.path):
            return
        if not self._overwrite:
            raise CromeError(f"{self.path}: exists already; {self._fix}")
        if any(_reads(source, self.path) for source in self._inputs):
            raise CromeError(f"{self.path}: is read, so bad records cannot be listed there; choose another output")
        if not _is_list(self.path):
            raise CromeError(f"{self.path}: is no list of bad records, so it is not replaced; move it away")

    def add(self, error: DataError, raw: Any) -> None:
        """Count a bad record and keep it.

        Args:
            error: what is wrong with it, with its file and number.
            raw: its bytes, or its values where it has none of its own.

        Raises:
            CromeError: where the file cannot be written, or another is in its place.
        """
        self.count += 1
        self.first = self.first or error
        if self.path is None:
            return
        if self._file is None:
            self.check_place()
            partial = self._stack.enter_context(whole_output(self.path, overwrite=is_taken(self.path)))
            self._file = self._stack.enter_context(partial.open("w", encoding="ascii"))
        if isinstance(raw, bytes):
            raw = raw.decode(errors="surrogateescape")
        elif raw is not None and not isinstance(raw, str):
            raw = json.dumps(raw, default=str)
        line = {"file": error.file, "record": error.record, "error": str(error), "raw": raw}
        self._file.write(json.dumps(line) + "\n")


def _reads(source: Path, path: Path) -> bool:
    """Tell whether reading the source, a file or a folder of files, reads the path."""
    if is_remote(source) or is_remote(path):
        return source in (path, path.parent)
    return source.exists() and any(os.path.samefile(source, p) for p in (path, path.parent) if p.exists())


def _is_list(path: Path) -> bool:
    """Tell whether a file is what a Quarantine wrote."""
    try:
        with path.open("rb") as file:
            lines = [set(line) if isinstance(line := json.loads(text.decode("ascii")), dict) else None for text in file]
    except (OSError, ValueError, RecursionError):
        return False
    return bool(lines) and all(fields == _FIELDS for fields in lines)
