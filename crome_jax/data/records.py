"""Files of records: JSON lines (plain or gzipped) and Parquet, one record at a time, whatever the files hold."""

import datetime
import gzip
import io
import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import pyarrow
import pyarrow.parquet

from crome_jax.errors import DataError
from crome_jax.files import is_remote

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
"""The names by which a folder's files of records are known."""

MAX_RECORD_BYTES = 4 << 20

_SMALLER = (
    "shorten the record, raise augment's --max-record-bytes, write groups as a TFDS folder, which has no such limit, "
    "or pass --skip-bad"
)
_PARQUET_ROWS = 64  # Rows decoded at a time: a bound on memory.
_KEPT_OF_OVERSIZED = 4096  # Bytes of a record too large to read that are kept to recognise it by.
_WHOLE_FILE = "get the file again, or pass --skip-bad to use what can be read of it"


class Record(NamedTuple):
    """One record of a file: what it says, or why that cannot be told.

    Args:
        number: one-based; for JSON lines the number of the line.
        raw: the line's bytes, or the row's values.
        value: what the record says, as plain JSON types, and of Parquet others, of which `as_json` makes them; None
            where `error` is set.
        error: why it cannot be read.
    """

    number: int
    raw: Any
    value: Any = None
    error: DataError | None = None


def stem(path: Path) -> str:
    """Return the file's name without the suffixes of its format."""
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(s)), "")
    return path.name.removesuffix(suffix) or path.name


def read_records(path: Path, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[Record]:
    """Read a file's records one by one; a bad record is reported in its place and the reading goes on.

    Raises:
        DataError: where the file as a whole, or its rest from here on, cannot be read.
    """
    try:
        with path.open("rb") as stream:
            file = stream if hasattr(stream, "peek") else io.BufferedReader(stream)  # An object in a bucket.
            head = file.peek(4)[:4]  # Not read: a pipe cannot go back.
            if not head:
                raise DataError("is empty", file=str(path), fix="check how it was made")
            if head == b"PAR1" or path.name.endswith(".parquet"):
                yield from _read_parquet(stream if is_remote(path) else path, path, max_record_bytes)
            elif head[:2] == b"\x1f\x8b":
                yield from _read_gzip(file, path, max_record_bytes)
            elif path.name.endswith(".gz"):
                raise DataError("is not gzip, whatever its name says", file=str(path), fix="rename or compress it")
            else:
                yield from read_lines(file, max_record_bytes)
    except FileNotFoundError:
        raise DataError("does not exist", file=str(path), fix="check the path") from None
    except OSError as e:
        raise DataError(f"cannot be read ({e.strerror or e})", file=str(path), fix="check the file") from e


def read_lines(stream: BinaryIO, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[Record]:
    """Read records of JSON lines from a binary stream; blank lines and a byte order mark are passed over."""
    number = 0
    while line := stream.readline(max_record_bytes + 1):
        number += 1
        if len(line) > max_record_bytes and not line.endswith(b"\n"):
            size = len(line) + _skip_line(stream)
            yield Record(number, line[:_KEPT_OF_OVERSIZED], error=_too_large(size, max_record_bytes))
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            try:
                yield Record(number, line.rstrip(b"\r\n"), value=parse_json(line))
            except DataError as e:
                yield Record(number, line.rstrip(b"\r\n"), error=e)


def parse_json(line: bytes) -> Any:
    """Parse one line of JSON.

    Raises:
        DataError: where it is not UTF-8 or not JSON, holds NaN or an infinity or a field twice, or is nested too deep.
    """
    try:
        return _DECODER.decode(line.decode())
    except UnicodeDecodeError as e:
        raise DataError(f"is not UTF-8 (byte 0x{line[e.start]:02x} at {e.start})", fix="convert it to UTF-8") from None
    except json.JSONDecodeError as e:
        if line.lstrip()[:1] == b"[":
            fix = "write one record a line, as jq -c '.[]' does"
            raise DataError("is part of a JSON array over several lines", fix=fix) from None
        raise DataError(f"is not JSON ({e.msg} at column {e.colno})") from None
    except RecursionError:
        raise DataError("is nested too deep") from None
    except ValueError as e:  # Python's limit on the digits of an integer.
        raise DataError(f"holds a number that cannot be read ({e})") from None


def _refuse_constant(name: str) -> NoReturn:
    raise DataError(f"holds {name}, which is no JSON number")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise DataError(f"holds {digits[:40]}, which is too large a number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # JSON does not say which counts; Python would take the last, and lose the other.
        names = [name for name, _ in pairs]
        raise DataError("is there twice", field=next(name for name in names if names.count(name) > 1))
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite_float, object_pairs_hook=_object)


def _skip_line(stream: BinaryIO) -> int:
    """Read to the end of the line without keeping it; return the number of bytes."""
    size = 0
    while part := stream.readline(1 << 16):
        size += len(part)
        if part.endswith(b"\n"):
            break
    return size


def _read_gzip(file: BinaryIO, path: Path, max_record_bytes: int) -> Iterator[Record]:
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            # Not through another buffer: it would lose, with the error, the lines before the damage.
            yield from read_lines(stream, max_record_bytes)
    except EOFError:
        raise DataError("is cut short: its gzip stream does not end", file=str(path), fix=_WHOLE_FILE) from None
    except (gzip.BadGzipFile, zlib.error) as e:
        raise DataError(f"is damaged ({e})", file=str(path), fix=_WHOLE_FILE) from None


def _read_parquet(source: Path | BinaryIO, path: Path, max_record_bytes: int) -> Iterator[Record]:
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            for batch in file.iter_batches(_PARQUET_ROWS):
                for row in range(batch.num_rows):
                    number += 1
                    yield _row(batch.slice(row, 1), number, max_record_bytes)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as e:
        problem = f"is no whole Parquet file ({str(e).splitlines()[0][:200]})"
        raise DataError(problem, file=str(path), fix=_WHOLE_FILE) from None


def _too_large(size: int, limit: int) -> DataError:
    return DataError(f"is {size:,} bytes long, over the limit of {limit:,}", fix=_SMALLER)


def _row(row: pyarrow.RecordBatch, number: int, max_record_bytes: int) -> Record:
    if row.nbytes > max_record_bytes:
        return Record(number, str(row.schema.names), error=_too_large(row.nbytes, max_record_bytes))
    try:
        [value] = row.to_pylist()
    except UnicodeDecodeError as e:
        return Record(number, str(row.schema.names), error=DataError(f"is not UTF-8 ({e.reason})"))
    except (ValueError, OverflowError, LookupError) as e:  # A year past 9999, a time zone nobody knows.
        return Record(number, str(row.schema.names), error=DataError(f"holds what Python has no value for ({e})"))
    # A number that is missing is NaN in what pandas writes.
    value = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in value.items()}
    return Record(number, value, value=value)


def as_json(value: Any, field: str = "") -> Any:
    """Return a value of a Parquet row as JSON can say it.

    Times become ISO 8601 text; decimals, durations and whatever else is no JSON type the text that Python prints of
    them; numbers that are not finite null.

    Args:
        field: what errors call it; of a whole record nothing.

    Raises:
        DataError: naming the field where it is binary, which is no text, or where it is nested too deep.
    """
    try:
        return _as_json(value, field)
    except RecursionError:
        raise DataError("is nested too deep") from None


def _as_json(value: Any, field: str) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {name: _as_json(inner, f"{field}.{name}" if field else name) for name, inner in value.items()}
        case list() | tuple():
            return [_as_json(inner, f"{field}[{n}]") for n, inner in enumerate(value)]
        case bytes():
            raise DataError("is binary, which JSON lines cannot hold", field=field, fix="leave its column out")
        case datetime.date() | datetime.time():
            return value.isoformat()
    return str(value)


def is_record_file(path: str | os.PathLike) -> bool:
    """Tell by its name whether a file holds records; the card that is written beside a file of records does not."""
    return os.fspath(path).endswith(SUFFIXES) and not os.fspath(path).endswith(".card.json")
