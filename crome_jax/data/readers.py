"""Preference data on disk, read into groups one by one: JSON lines, Parquet, TFDS folders, folders of files."""

import bisect
import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import tensorflow_datasets as tfds

from crome_jax.data.conversations import checked_text, find_prompt, messages, with_system
from crome_jax.data.features import decode_group, group_features
from crome_jax.data.quarantine import Places, Quarantine
from crome_jax.data.records import MAX_RECORD_BYTES, SUFFIXES, as_json, is_record_file, read_lines, read_records, stem
from crome_jax.data.shapes import group_from_record, is_preference, no_object
from crome_jax.data.shards import missing_shards
from crome_jax.errors import DataError
from crome_jax.files import copy_bytes, is_remote, place
from crome_jax.groups import Message, PreferenceGroup, check_response_text, to_json

_TFDS_INFO = "dataset_info.json"
_TFDS_EXAMPLES = 64  # Examples fetched at a time: a bound on memory.


def read_groups(
    path: str | os.PathLike,
    *,
    split: str | None = None,
    quarantine: Quarantine | None = None,
    places: Places | None = None,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Iterator[PreferenceGroup]:
    """Read the groups of a file or folder, in its order; of what was read, only the ids are kept.

    A record is in one of the shapes of `shapes.KNOWN_SHAPES`, and is called `<file>-<number>` where it has no `id`.

    Args:
        path: JSON lines (plain or gzipped), Parquet, a TFDS folder as `writers.write_groups` makes it or a folder of
            its versions, or a folder of JSON lines and Parquet files, read in the order of their names.
        split: the split of a TFDS folder, or the beginning of the names of a folder's files; None reads the only
            split, or all files.
        quarantine: where bad records go; None lets the first one stop the reading.
        places: from here on holds, by its id, the file and the number of each group that was read, as errors name them.
        max_record_bytes: size above which a record is bad.

    Raises:
        DataError: naming file, record, field and fix where a record is bad (and `quarantine` is None), where a file is
            damaged, and where there is no usable record.
    """
    path = place(path)
    ids: set[str] = set()
    first: DataError | None = None
    bad_before = quarantine.count if quarantine else 0
    for file, number, raw, result in _results(path, split, max_record_bytes):
        result = _unless_known(result, ids)
        if isinstance(result, PreferenceGroup):
            if places is not None:
                places[result.id] = str(file), number
            yield result
            continue
        error = _placed(result, file, number)
        if quarantine is None:
            raise error
        quarantine.add(error, raw)
        first = first or error
    if not ids:
        bad = quarantine.count - bad_before if quarantine else 0
        if bad == 1 and first.record is None:
            raise first  # Of the file as a whole: it has no record.
        if bad:
            problem = f"holds no usable record; all {bad} are bad, the first because: {first}"
            raise DataError(problem, file=str(path), fix="check that this is preference data")
        raise DataError("holds no record", file=str(path), fix="check how it was made")


def _unless_known(result: Any, ids: set[str]) -> Any:
    """Return what became of a record: of a group whose id an earlier one has, an error. Its id is added to `ids`."""
    if not isinstance(result, PreferenceGroup):
        return result
    if result.id in ids:
        return DataError(f"is {result.id!r}, the id of an earlier record", field="id")
    ids.add(result.id)
    return result


def check_shards(path: str | os.PathLike, *, split: str | None = None) -> None:
    """Check that a data set is there and that none of its shards is missing; no record is read.

    Args:
        path, split: as in `read_groups`.

    Raises:
        DataError: naming the shards that are missing, or why nothing can be read there.
    """
    path = place(path)
    try:
        if not path.exists() and (is_remote(path) or not path.is_symlink()):
            raise FileNotFoundError
        if path.is_dir() and (folder := _tfds_folder(path)) is not None:
            _open_tfds(folder, split)
        else:
            _record_files(path, split)
    except FileNotFoundError:
        raise DataError("does not exist", file=str(path), fix="check the path") from None
    except OSError as e:
        fix = "check the path and its permissions"
        raise DataError(f"cannot be read ({e.strerror or e})", file=str(path), fix=fix) from None


def read_prompt_responses(
    stream: BinaryIO, *, name: str = "<stdin>", quarantine: Quarantine | None = None
) -> Iterator[tuple[int, tuple[Message, ...], str, dict[str, Any]]]:
    """Read what is to be scored: JSON lines of `{prompt, response}`, or `{messages}` ending with the response.

    Args:
        stream: binary, such as `sys.stdin.buffer`.
        name: what errors call it.
        quarantine: where bad records go; None lets the first one stop the reading.

    Yields:
        The number of the line, the prompt, the response, and the record as it was.

    Raises:
        DataError: where a record is bad and `quarantine` is None.
    """
    for record in read_lines(stream):
        try:
            if record.error is not None:
                raise record.error
            prompt, response = _prompt_response(record.value)
        except DataError as e:
            error = _placed(e, name, record.number)
            if quarantine is None:
                raise error from None
            quarantine.add(error, record.raw)
        else:
            yield record.number, prompt, response, record.value


def _prompt_response(record: Any) -> tuple[tuple[Message, ...], str]:
    if not isinstance(record, dict):
        raise no_object(record)
    record = {name: value for name, value in record.items() if value is not None}
    if "response" in record:
        prompt, response, field = find_prompt(record), record["response"], "response"
        if isinstance(response, dict | list):
            *earlier, last = messages(response, "response") or (Message("assistant", ""),)
            if earlier or last.role != "assistant":
                raise DataError("is not one turn of the assistant", field="response")
            response = last.content
    elif "messages" in record:
        *prompt, last = messages(record["messages"], "messages") or (Message("", ""),)
        if last.role != "assistant":
            raise DataError("does not end with the assistant's turn", field="messages")
        response, field = last.content, f"messages[{len(prompt)}].content"
    else:
        raise DataError("is missing", field="response", fix="write {prompt, response} or {messages}")
    if not prompt:
        raise DataError("is missing", field="prompt")
    prompt = with_system(record, tuple(prompt))
    check_response_text(checked_text(response, field), field)
    PreferenceGroup("prompt", prompt, (), ())  # Checks the turns as those of any group.
    return prompt, response


class Scorable(NamedTuple):
    """One record whose responses are to be scored.

    Args:
        file: it is in; of a TFDS data set its shard.
        number: of the record there, from 1.
        raw: the record, to be set aside should it prove bad.
        prompt: the conversation up to the responses.
        responses: of each its text, and the record that its reward is added to.
    """

    file: Path
    number: int
    raw: Any
    prompt: tuple[Message, ...]
    responses: tuple[tuple[str, dict[str, Any]], ...]


def read_scorable(
    path: str | os.PathLike, *, split: str | None = None, quarantine: Quarantine | None = None
) -> Iterator[Scorable]:
    """Read what is to be scored from a file or folder: the records of `read_prompt_responses` and of `read_groups`.

    A record with one response stays as it is, in JSON's types (`records.as_json`). Of any other each response, in the
    order they are given, becomes a record `{id, index, prompt, response}`: of its group the id, its place in it, and
    the prompt as messages.

    Raises:
        DataError: naming file, record, field and fix where a record is bad (and `quarantine` is None), or a file is.
    """
    ids: set[str] = set()
    for file, number, raw, result in _results(place(path), split, MAX_RECORD_BYTES, _scorable):
        result = _unless_known(result, ids)
        if isinstance(result, DataError):
            error = _placed(result, file, number)
            if quarantine is None:
                raise error
            quarantine.add(error, raw)
        elif isinstance(result, PreferenceGroup):
            prompt = [{"role": m.role, "content": m.content} for m in result.prompt]
            records = tuple(
                (r.text, {"id": result.id, "index": i, "prompt": prompt, "response": r.text})
                for i, r in enumerate(result.responses)
            )
            yield Scorable(file, number, to_json(result), result.prompt, records)
        else:
            prompt, response, record = result
            yield Scorable(file, number, raw, prompt, ((response, record),))


def _scorable(record: Any, default_id: str) -> PreferenceGroup | tuple[tuple[Message, ...], str, dict[str, Any]]:
    given = {k for k, v in record.items() if v is not None} if isinstance(record, dict) else set()
    if "response" not in given and is_preference({k: record[k] for k in given}):
        return group_from_record(record, default_id)
    prompt, response = _prompt_response(record)
    return prompt, response, as_json(record)


class _Result(NamedTuple):
    """What became of one record: what was read, or why nothing was."""

    file: Path
    number: int | None
    raw: Any
    result: Any


def _results(
    path: Path, split: str | None, max_record_bytes: int, read: Callable[[Any, str], Any] = group_from_record
) -> Iterator[_Result]:
    try:
        folder = _tfds_folder(path) if path.is_dir() else None
        if folder is not None:
            yield from _read_tfds(folder, split)
            return
        files = _record_files(path, split)
    except DataError as e:
        yield _Result(path, None, None, e)
        return
    except OSError as e:
        error = DataError(f"cannot be read ({e.strerror})", file=str(path), fix="check the path and its permissions")
        yield _Result(path, None, None, error)
        return
    for file in files:
        try:
            for number, raw, value, error in read_records(file, max_record_bytes):
                yield _Result(file, number, raw, error or _read(read, value, f"{stem(file)}-{number}"))
        except DataError as e:  # The rest of the file is lost; what came before it is good.
            yield _Result(file, None, None, e)


def _read(read: Callable[[Any, str], Any], value: Any, default_id: str) -> Any:
    try:
        return read(value, default_id)
    except DataError as e:
        return e


def _placed(error: DataError, file: str | Path, number: int | None) -> DataError:
    """Return the error with its place, and fit to be printed whatever the names of the record's fields."""
    placed = error.at(error.file or str(file), number)
    if placed.field is not None:
        placed.field = placed.field.encode(errors="backslashreplace").decode()
    return placed


def _record_files(path: Path, split: str | None) -> list[Path]:
    if not path.is_dir():
        if split is not None:
            raise DataError("is one file and has no splits", file=str(path), fix="leave the split out")
        return [path]
    files = sorted(p for p in path.iterdir() if p.is_file() and is_record_file(p) and not p.name.startswith("."))
    if not files:
        fix = f"name a TFDS folder, or one with {', '.join(SUFFIXES)} files"
        raise DataError("holds nothing that can be read", file=str(path), fix=fix)
    if split is not None:
        of_split = [file for file in files if file.name.startswith((f"{split}.", f"{split}-", f"{split}_"))]
        if not of_split:
            names = ", ".join(file.name for file in files[:8])
            raise DataError(f"holds no file of the split {split!r}", file=str(path), fix=f"it holds {names}")
        files = of_split
    if missing := missing_shards(file.name for file in files):
        raise _lacking(path, missing, len(files) + len(missing))
    return files


def _tfds_folder(path: Path) -> Path | None:
    """Return the data set's folder: `path`, or of the versions below it the latest; None where there is none."""
    if (path / _TFDS_INFO).is_file():
        return path
    found = [p.parent for pattern in (f"*/{_TFDS_INFO}", f"*/*/{_TFDS_INFO}") for p in sorted(path.glob(pattern))]
    found = [p for p in found if tfds.core.Version.is_valid(p.name)]
    if len({p.parent for p in found}) > 1:
        names = ", ".join(str(p.relative_to(path)) for p in found)
        raise DataError("holds several data sets", file=str(path), fix=f"name one of {names}")
    return max(found, key=lambda p: tfds.core.Version(p.name), default=None)


def _read_tfds(folder: Path, split: str | None) -> Iterator[_Result]:
    split, shards, lengths = _open_tfds(folder, split)
    with _on_this_machine(folder, shards) as here:
        try:
            yield from _read_shards(here, split, shards, lengths)
        except Exception as e:  # ArrayRecord reports damage as RuntimeError, IndexError and others.
            problem = f"is damaged ({_first_line(e)})"
            raise DataError(problem, file=str(folder), fix="write it again") from e


def _open_tfds(folder: Path, split: str | None) -> tuple[str, list[Path], list[int]]:
    """Return a TFDS folder's split, its shards, all of which are there, and how many examples each has."""
    try:
        builder = tfds.builder_from_directory(folder)
        splits = sorted(builder.info.splits)
    except Exception as e:  # TFDS raises whatever its parsers do.
        problem = f"is no whole TFDS folder ({_first_line(e)})"
        raise DataError(problem, file=str(folder), fix="write it again") from e
    if builder.info.features.get_tensor_info() != group_features().get_tensor_info():
        raise DataError("is a TFDS folder, but not of groups", file=str(folder), fix="convert it to groups first")
    if split is None and len(splits) != 1:
        raise DataError(f"has the splits {', '.join(splits)}", file=str(folder), fix="name one of them")
    if split is not None and split not in splits:
        raise DataError(f"has no split {split!r}", file=str(folder), fix=f"name one of {', '.join(splits)}")
    info = builder.info.splits[split or splits[0]]
    shards = [place(path) for path in info.filepaths]
    if missing := [path.name for path in shards if not path.is_file()]:
        raise _lacking(folder, missing, len(shards))
    return split or splits[0], shards, info.shard_lengths


def _lacking(folder: Path, missing: list[str], count: int) -> DataError:
    names = ", ".join(missing[:8])
    problem = f"lacks {len(missing)} of its {count} shards: {names}"
    return DataError(problem, file=str(folder), fix="copy them there, or write it again")


@contextlib.contextmanager
def _on_this_machine(folder: Path, shards: Sequence[Path]) -> Iterator[Path]:
    """Yield a TFDS folder where ArrayRecord can read these shards of it: of one in a bucket a copy."""
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="crome-") as copy:
        for path in (*folder.glob("*.json"), *shards):
            copy_bytes(path, Path(copy) / path.name)
        yield Path(copy)


def _read_shards(here: Path, split: str, shards: Sequence[Path], lengths: Sequence[int]) -> Iterator[_Result]:
    """Read a split from where it is on this machine; a record's place is its shard and its number there, from 1."""
    source, ends = tfds.builder_from_directory(here).as_data_source(split), list(itertools.accumulate(lengths))

    def place_of(number: int) -> tuple[Path, int]:
        shard = bisect.bisect_right(ends, number)
        return shards[shard], number + 1 - (ends[shard] - lengths[shard])

    for start in range(0, len(source), _TFDS_EXAMPLES):
        numbers = range(start, min(start + _TFDS_EXAMPLES, len(source)))
        try:
            examples = source.__getitems__(numbers)
        except Exception:  # One of them is corrupt: they are read one by one.
            examples = (_read_apart(source, number) for number in numbers)
        for number, example in zip(numbers, examples, strict=True):
            bad = isinstance(example, DataError)
            yield _Result(*place_of(number), None if bad else example, example if bad else _decoded(example))


def _read_apart(source: Sequence[Mapping[str, Any]], number: int) -> Mapping[str, Any] | DataError:
    """Read one example, or tell what is wrong with its bytes."""
    try:
        (example,) = source.__getitems__([number])
    except Exception as e:
        return DataError(f"is damaged ({_first_line(e)})", fix="write the data set again, or pass --skip-bad")
    return example


def _decoded(example: Mapping[str, Any]) -> PreferenceGroup | DataError:
    try:
        return decode_group(example)
    except DataError as e:
        return e
    except (ValueError, KeyError) as e:
        return DataError(f"is no group ({_first_line(e)})", fix="write the data set again")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
