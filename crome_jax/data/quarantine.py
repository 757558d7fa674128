"""The bad records of a run: counted, and kept beside its output with what is wrong with each."""

import contextlib
import json
import os
from pathlib import Path
from typing import IO, Any

from crome_jax.errors import DataError
from crome_jax.files import unwritable, whole_output


class Quarantine:
    """Where bad records go instead of stopping the run.

    Used as a context manager. The file appears when the block ends without an error and at least one record came; its
    lines are `{file, record, error, raw}`. Bytes of `raw` that are not UTF-8 are written as lone surrogates, so
    `raw.encode(errors="surrogateescape")` is the record as it was.

    Args:
        path: the JSON lines to write; None only counts.
        overwrite: whether the file of an earlier run is replaced (and removed, where this run has no bad record).
    """

    def __init__(self, path: str | os.PathLike | None = None, *, overwrite: bool = False):
        self.path = None if path is None else Path(path)
        self.count = 0
        self.first: DataError | None = None
        self._overwrite = overwrite
        self._stack = contextlib.ExitStack()
        self._file: IO[str] | None = None

    def __enter__(self) -> "Quarantine":
        self._stack.__enter__()
        return self

    def __exit__(self, *exception) -> bool | None:
        if exception == (None, None, None) and self._overwrite and self.path is not None and self._file is None:
            try:
                self.path.unlink(missing_ok=True)
            except OSError as e:
                raise unwritable(self.path, e) from None
        return self._stack.__exit__(*exception)

    def add(self, error: DataError, raw: Any) -> None:
        """Count a bad record and keep it.

        Args:
            error: what is wrong with it, with its file and number.
            raw: its bytes, or its values where it has none of its own.

        Raises:
            CromeError: where the file cannot be written.
        """
        self.count += 1
        self.first = self.first or error
        if self.path is None:
            return
        if self._file is None:
            partial = self._stack.enter_context(whole_output(self.path, overwrite=self._overwrite))
            self._file = self._stack.enter_context(partial.open("w", encoding="ascii"))
        if isinstance(raw, bytes):
            raw = raw.decode(errors="surrogateescape")
        elif raw is not None and not isinstance(raw, str):
            raw = json.dumps(raw, default=str)
        line = {"file": error.file, "record": error.record, "error": str(error), "raw": raw}
        self._file.write(json.dumps(line) + "\n")
