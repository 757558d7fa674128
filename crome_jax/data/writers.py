"""Groups written to disk: a TFDS folder of ArrayRecord files, or JSON lines. Whole, in order, or not at all."""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_info import DatasetIdentity

from crome_jax.data.features import encode_group, group_features, same_bytes
from crome_jax.data.records import MAX_RECORD_BYTES
from crome_jax.errors import CromeError
from crome_jax.files import check_no_folder, gzipped, place, stamp, whole_output
from crome_jax.groups import PreferenceGroup, to_json

DESCRIPTION = "dataset_info.json"
"""Without this file TFDS takes no folder for a data set."""

_NAME, _VERSION = "preference_groups", "1.0.0"
_CHUNK = 256  # Groups encoded at a time: a bound on memory, and how often TFDS rewrites its description.


def write_groups(
    path: str | os.PathLike,
    groups: Iterable[PreferenceGroup],
    *,
    split: str = "train",
    description: str = "",
    groups_per_shard: int = 8192,
    overwrite: bool = False,
) -> int:
    """Write groups in their order, holding a few hundred in memory at a time.

    Args:
        path: a name ending in `.jsonl` or `.jsonl.gz` is a file of JSON lines; any other a TFDS folder, which
            `readers.read_groups` and `tfds.builder_from_directory(path).as_data_source(split)` read.
        split: name of the split in the TFDS folder.
        description: what the data set is, kept in the TFDS folder.
        groups_per_shard: groups in one file of the TFDS folder.
        overwrite: whether an output that is there already is replaced.

    Returns:
        The number of groups written.

    Raises:
        CromeError: where there is no group, the output exists, a group is longer than a line is read, or it cannot be
            written. Then, and after any error of `groups` itself, `path` is as it was before.
    """
    path = place(path)
    if path.name.endswith((".parquet", ".json", ".json.gz")):
        raise CromeError(
            f"{path}: would be a folder of that name; end it in .jsonl, .jsonl.gz, or give a folder's name"
        )
    if overwrite:
        _check_replaceable(path)
    with whole_output(path, overwrite=overwrite) as partial:
        if path.name.endswith((".jsonl", ".jsonl.gz")):
            written = _write_jsonl(partial, path, groups)
        else:
            written = _write_tfds(partial, path, groups, split, description, groups_per_shard)
        if not written:
            raise CromeError(f"{path}: not written, since there is no group to write; check what the input holds")
    return written


def _check_replaceable(path: Path) -> None:
    # A mistyped path must not cost the user a folder of something else.
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        check_no_folder(path)
    if path.is_dir() and any(path.iterdir()) and not (path / DESCRIPTION).is_file():
        raise CromeError(f"{path}: is a folder of something else than groups; choose another name")


def _write_jsonl(partial: Path, path: Path, groups: Iterable[PreferenceGroup]) -> int:
    written = 0
    with gzipped(partial) if path.name.endswith(".gz") else partial.open("wb") as out:
        for group in groups:
            line = to_json(group).encode()
            if len(line) > MAX_RECORD_BYTES:  # It may have been read smaller, and grown by what was added to it.
                raise CromeError(
                    f"{path}: not written, since group {group.id!r} is a line of {len(line):,} bytes and lines are "
                    f"read up to {MAX_RECORD_BYTES:,}; write a TFDS folder, by a name without .jsonl"
                )
            out.write(line + b"\n")
            written += 1
    return written


def _write_tfds(
    partial: Path, path: Path, groups: Iterable[PreferenceGroup], split: str, description: str, groups_per_shard: int
) -> int:
    partial.mkdir()
    info = tfds.core.DatasetInfo(
        builder=DatasetIdentity(name=_NAME, version=_VERSION, data_dir=str(partial), module_name=""),
        description=description or "Prompts, their distinct responses, and the comparisons between them.",
        features=group_features(),
        disable_shuffling=True,
    )
    # TFDS's builders shuffle by key, or sort in memory; its sequential writer keeps the order and holds nothing.
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=groups_per_shard, file_format="array_record")
    writer._serializer = _SameBytes(writer._serializer)  # It takes no other.
    written = 0
    with explained(path):
        writer.initialize_splits([split])
    for chunk in _chunks(groups):
        with explained(path):
            writer.add_examples({split: [encode_group(group) for group in chunk]})
        written += len(chunk)
    with explained(path):
        writer.close_all()
    return written


def describe_shards(folder: Path, name: str, split: str, sizes: Sequence[int], description: str) -> None:
    """Write what TFDS reads a folder of ArrayRecord files of groups by, DESCRIPTION last.

    Args:
        folder: holds them, named NAME-SPLIT.array_record-00000-of-00001 and so on.
        sizes: groups in each.
        description: what the data set is.
    """
    info = tfds.core.DatasetInfo(
        builder=DatasetIdentity(name=name, version=_VERSION, data_dir=str(folder), module_name=""),
        description=description,
        features=group_features(),
        disable_shuffling=True,
    )
    info.set_file_format("array_record")
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, split=split, filetype_suffix="array_record"
    )
    in_bytes = sum(stamp(path)[0] for path in folder.glob(f"{name}-{split}.array_record-*-of-*[0-9]"))
    info.set_splits(
        tfds.core.splits.SplitDict([tfds.core.SplitInfo(split, list(sizes), in_bytes, filename_template=template)])
    )
    info.write_to_directory(folder)


class _SameBytes:
    """A serializer of TFDS whose bytes do not depend on the process."""

    def __init__(self, serializer):
        self._serializer = serializer

    def serialize_example(self, example) -> bytes:
        return same_bytes(self._serializer.serialize_example(example))


def _chunks(groups: Iterable[PreferenceGroup]) -> Iterator[list[PreferenceGroup]]:
    remaining = iter(groups)
    while chunk := list(itertools.islice(remaining, _CHUNK)):
        yield chunk


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say what the user can do where ArrayRecord cannot write; it knows no error but RuntimeError.

    Raises:
        CromeError: naming the path.
    """
    try:
        yield
    except RuntimeError as e:
        reason = str(e).partition(";")[0].rpartition(": ")[2]
        raise CromeError(f"{path}: cannot be written ({reason}); free some space or write elsewhere") from e
