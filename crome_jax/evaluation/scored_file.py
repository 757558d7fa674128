"""Scored records on their way to a file: kept chunk by chunk, so that a killed run goes on where it was."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crome_jax.errors import CromeError
from crome_jax.files import gzipped, spoken_for, unwritable, whole_output

_LINES, _STATE = "scored.jsonl", "state.json"


class ScoredFile:
    """Lines of an output, in a hidden folder beside it until all are there.

    Args:
        folder: where they are kept.
        job: what is scored by what; lines of another job are begun anew.

    Attributes:
        taken: records that earlier runs took from the input, which are not to be scored again.
        count, cut: of those, responses that were scored, and cut.
        refused: of those, by number, why one could not be scored.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]):
        self._folder, self._job = folder, dict(job)
        self.taken = self.count = self.cut = 0
        self.refused: dict[int, dict[str, Any]] = {}
        try:
            state = json.loads((folder / _STATE).read_text(encoding="ascii"))
            if state["job"] != self._job:
                raise ValueError("another job's")
            with open(folder / _LINES, "rb+") as lines:
                lines.truncate(state["bytes"])  # What follows belongs to a chunk that was not finished.
        except (OSError, ValueError, KeyError, TypeError):
            self._begin()
            return
        self.taken, self.count, self.cut = (state[name] for name in ("taken", "count", "cut"))
        self.refused = {int(number): why for number, why in state["refused"].items()}

    def _begin(self) -> None:
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            (self._folder / _LINES).touch()
        except OSError as e:
            raise unwritable(self._folder, e) from None

    def add(self, lines: Sequence[bytes], *, taken: int, cut: int, refused: Mapping[int, Mapping[str, Any]]) -> None:
        """Append a chunk; it is on disk when this returns.

        Args:
            taken: records of the chunk, refused ones included.
            refused: number of a record to why it could not be scored, as plain JSON.

        Raises:
            CromeError: where it cannot be written.
        """
        self.taken += taken
        self.count += len(lines)
        self.cut += cut
        self.refused.update({number: dict(why) for number, why in refused.items()})
        try:
            with open(self._folder / _LINES, "ab") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            state = {"job": self._job, "bytes": size, "refused": self.refused}
            state |= {"taken": self.taken, "count": self.count, "cut": self.cut}
            partial = self._folder / f"{_STATE}.partial"
            partial.write_text(json.dumps(state), encoding="ascii")
            os.replace(partial, self._folder / _STATE)
        except OSError as e:
            raise unwritable(self._folder, e) from None

    @property
    def lines(self) -> Path:
        """The file of lines."""
        return self._folder / _LINES


@contextlib.contextmanager
def scored_output(out: Path, *, overwrite: bool, resumable: bool) -> Iterator[Path]:
    """Yield the hidden folder in which an output's lines are kept; they become `out` when the block ends well.

    Of an `out` that ends in .gz they are packed only then: lines can be cut where a chunk was not finished, a gzip
    stream cannot. A kill and Ctrl-C leave the folder for the next run, and so does an error once a chunk is finished.

    Args:
        resumable: whether a next run can go on, since its input can be read again.

    Raises:
        CromeError: where `out` exists and `overwrite` is false, its name promises Parquet, or it cannot be written.
    """
    if out.name.endswith(".parquet"):
        raise CromeError(f"{out}: would hold JSON lines under that name; end it in .jsonl or .jsonl.gz")
    folder = out.resolve().with_name(f".{out.resolve().name[:64]}.scored")
    try:
        with spoken_for(folder, out), whole_output(out, overwrite=overwrite) as partial:
            yield folder
            if out.name.endswith(".gz"):
                _pack(folder / _LINES, partial)
            else:
                os.replace(folder / _LINES, partial)
    except CromeError:
        if not (resumable and (folder / _STATE).is_file()):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _pack(lines: Path, target: Path) -> None:
    with lines.open("rb") as source, gzipped(target) as packed:
        shutil.copyfileobj(source, packed, 16 << 20)
