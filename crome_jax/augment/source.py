"""What the Beam graph reads: the records of a split of a TFDS folder, a range at a time, here or in a bucket."""

import bisect
import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from crome_jax.data.features import group_features
from crome_jax.errors import CromeError
from crome_jax.files import copy_bytes, is_remote, place


class Source:
    """The serialized groups of a split.

    Args:
        folder: of TFDS, with ArrayRecord files.
        split: of it.

    Raises:
        CromeError: where it is no such folder, or not of groups.
    """

    def __init__(self, folder: str, split: str):
        try:
            info = tfds.builder_from_directory(folder).info
            self._shards = [place(path) for path in info.splits[split].filepaths]
            self._ends = list(itertools.accumulate(info.splits[split].shard_lengths))
            features = info.features.get_tensor_info()
        except Exception as e:  # TFDS raises whatever its parsers do.
            reason = (str(e).splitlines() or [type(e).__name__])[0][:200]
            raise CromeError(
                f"{folder}: is no TFDS folder with a split {split!r} ({reason}); write one with `crome augment`, "
                "every --*-per-pair and --neutrals-per-group being 0"
            ) from None
        if features != group_features().get_tensor_info():
            raise CromeError(f"{folder}: is a TFDS folder, but not of groups; convert it to groups first")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @contextlib.contextmanager
    def opened(self, start: int, stop: int) -> Iterator[Callable[[Sequence[int]], Sequence[bytes]]]:
        """Yield what reads the records of these numbers, all from `start` to `stop`; of a bucket's a copy is made."""
        first, last = (bisect.bisect_right(self._ends, number) for number in (start, stop - 1))
        before = self._ends[first - 1] if first else 0
        with tempfile.TemporaryDirectory(prefix="crome-") as folder:
            files = [str(_here(path, Path(folder))) for path in self._shards[first : last + 1]]
            with ArrayRecordDataSource(files) as records:
                yield lambda numbers: records.__getitems__([number - before for number in numbers])


def _here(path: Path, folder: Path) -> Path:
    """Return where ArrayRecord can read a file: of one in a bucket a copy in this folder."""
    if not is_remote(path):
        return path
    copy_bytes(path, folder / path.name)
    return folder / path.name
