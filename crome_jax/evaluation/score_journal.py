"""What a scoring run has done so far, on disk: after a kill the same command goes on from there."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crome_jax.files import is_remote, spoken_for, unwritable


class ScoreJournal:
    """Batches of rewards, appended one by one.

    Args:
        folder: of its file, which is named by the job: the jobs of a run may come in another order, or be fewer.
        job: what is scored by what.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]):
        self._head = json.dumps(dict(job), sort_keys=True)
        self._path = folder / f"{hashlib.sha256(self._head.encode()).hexdigest()[:32]}.jsonl"
        self._known: dict[str, np.ndarray] = {}
        self._begun = False
        try:
            head, *lines = self._path.read_text(encoding="ascii").split("\n")
        except (OSError, UnicodeDecodeError):
            return
        if head != self._head:
            return
        self._begun = True
        self._repair()
        for line in lines[:-1]:  # What follows the last line break was cut off by the kill.
            record = json.loads(line)
            self._known[record["batch"]] = np.array(record["values"], np.float32)

    @property
    def known(self) -> int:
        """Batches that an earlier run scored."""
        return len(self._known)

    def find(self, batch: str) -> np.ndarray | None:
        """Return what an earlier run found for a batch, None where it did not come to it."""
        return self._known.get(batch)

    def add(self, batch: str, values: np.ndarray) -> None:
        """Append a batch; it is on disk when this returns.

        Raises:
            CromeError: where it cannot be written.
        """
        try:
            if not self._begun:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.write_text(self._head + "\n", encoding="ascii")
                self._begun = True
            with open(self._path, "a", encoding="ascii") as file:
                file.write(json.dumps({"batch": batch, "values": values.tolist()}) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as e:
            raise unwritable(self._path.parent, e) from None

    def _repair(self) -> None:
        """Cut off half a line that a kill left."""
        with open(self._path, "rb+") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)


@contextlib.contextmanager
def journal_beside(out: Path) -> Iterator[Path]:
    """Yield a hidden folder beside an output for the journals of its run.

    It goes when the output is whole. A kill, Ctrl-C and every error leave it: what was scored is not scored again once
    the user has mended what was wrong. Beside an output in a bucket, where no file grows, there is none: journals are
    on this machine, and a killed run begins anew.
    """
    if is_remote(out):
        with tempfile.TemporaryDirectory(prefix="crome-") as folder:
            yield Path(folder)
        return
    folder = out.resolve().with_name(f".{out.resolve().name[:64]}.scores")
    with spoken_for(folder, out):
        yield folder
    shutil.rmtree(folder, ignore_errors=True)
