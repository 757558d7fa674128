"""What every benchmark's TFDS builder does: get the files, check them, and turn each record into a group."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from crome_jax.data.datasets.benchmarks.groups import check_language
from crome_jax.data.features import encode_group, group_features
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.records import Record, is_record_file, parse_json, read_records
from crome_jax.errors import DataError
from crome_jax.files import sha256_of
from crome_jax.groups import PreferenceGroup

SPLIT = "test"

Reader = Callable[[Mapping[str, Any], Path], PreferenceGroup]


@dataclasses.dataclass(frozen=True)
class Download:
    """A file of the public hub.

    Args:
        url: pinned to a revision, so that what it gives does not change.
        sha256: of its bytes; None where it could not be learned.
        name: under which it is read; some benchmarks say in a file's name what its records are.
        git_blob: git's id of its bytes, their SHA-1 behind a header; it counts where no sha256 is known. Without either
            the file is used only where the user vouches for what was got.
    """

    url: str
    sha256: str | None
    name: str
    git_blob: str | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a benchmark comes from and how it is read.

    Args:
        name: as `--benchmark` takes it.
        title: as pages call it.
        description: what it asks.
        license: of its data.
        citation: BibTeX.
        downloads: its files on the hub.
        read: from a record and its file to a group.
        wants: whether a file of a folder, by its path below it in lower case, is one of the benchmark's.
        layout: what a folder should hold, in words.
        again: whether such a file holds once more what others of the folder hold, given its path and all of theirs.
        language_field: whether a field `language` says the language of the text; elsewhere it is a programming
            language, say.
    """

    name: str
    title: str
    description: str
    license: str
    citation: str
    downloads: tuple[Download, ...]
    read: Reader
    wants: Callable[[str], bool]
    layout: str
    again: Callable[[str, Collection[str]], bool] = lambda path, paths: False
    language_field: bool = True


@dataclasses.dataclass
class BenchmarkConfig(tfds.core.BuilderConfig):
    """Where a benchmark's files are.

    Args:
        manual_dir: folder with the files; None downloads them.
        source: what is read in place of the builder's own source.
    """

    manual_dir: str | None = None
    source: Source | None = None


HUB = BenchmarkConfig(name="hub", description="The files of the public hub.")


class BenchmarkBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A benchmark as groups in one split, `test`, in the order of its files; a subclass names its source.

    Attributes:
        accepted: sha256 sums that the user vouches for, of downloads without one of their own.
    """

    accepted: Collection[str] = ()

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS declares it so)
    BUILDER_CONFIGS = [HUB]  # noqa: RUF012
    source: ClassVar[Source]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.source.description,
            features=group_features(),
            license=self.source.license,
            citation=self.source.citation,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        if self.builder_config.manual_dir:
            files = manual_files(self._read_source(), Path(self.builder_config.manual_dir))
        else:
            wanted = self._read_source().downloads
            got = dl_manager.download({item.name: item.url for item in wanted})
            files = {item.name: Path(got[item.name]) for item in wanted}
            check_downloads({item: files[item.name] for item in wanted}, self.accepted)
        return {SPLIT: self._generate_examples(files)}

    def _generate_examples(self, files: Mapping[str, Path]) -> Iterator[tuple[int, dict]]:
        for number, group in enumerate(generate_groups(self._read_source(), files)):
            yield number, encode_group(group)

    def _read_source(self) -> Source:
        return self.builder_config.source or self.source


def manual_files(source: Source, folder: Path) -> dict[str, Path]:
    """Return a benchmark's files in a folder: path below it to path, in the order of their names.

    Raises:
        DataError: where the folder is absent or holds none of them.
    """
    if not folder.is_dir():
        raise DataError("is no folder", file=str(folder), fix=f"--manual_dir names one with {source.layout}")
    named = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    wanted = {
        name: path
        for name, path in named.items()
        if is_record_file(name) and not path.name.startswith(".") and source.wants(name.lower())
    }
    paths = {name.lower() for name in wanted}
    wanted = {name: path for name, path in wanted.items() if not source.again(name.lower(), paths)}
    if not wanted:
        raise DataError(f"holds no file of {source.title}", file=str(folder), fix=f"it should hold {source.layout}")
    return wanted


def check_downloads(files: Mapping[Download, Path], accepted: Collection[str] = ()) -> None:
    """Check that downloaded files are those that are expected.

    Args:
        accepted: sha256 sums that the user vouches for, of files without a checksum of their own.

    Raises:
        DataError: where one is another, or nothing says what some should be: all of these are named with their sums.
    """
    unknown = {}
    for item, path in files.items():
        by_git = item.sha256 is None and item.git_blob is not None
        known, found = (item.git_blob, _git_blob(path)) if by_git else (item.sha256, sha256_of(path))
        if known is None and found not in accepted:
            unknown[item.url] = found
        elif known is not None and found != known:
            raise DataError(
                f"has {'git id' if by_git else 'sha256'} {found}, not {known}",
                file=item.url,
                fix="it was changed or damaged on the way; get it again, or give files of your own with --manual_dir",
            )
    if unknown:
        sums = "; ".join(f"{url} has sha256 {found}" for url, found in unknown.items())
        raise DataError(
            f"no checksum is known of {len(unknown)} downloaded files, so they are not used: {sums}",
            fix="where you know these to be the files, run the same command with --accept-sha256 "
            f"{' '.join(unknown.values())}; or give files of your own with --manual_dir",
        )


def _git_blob(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()


def generate_groups(
    source: Source, files: Mapping[str, Path], quarantine: Quarantine | None = None
) -> Iterator[PreferenceGroup]:
    """Read a benchmark's groups in the order of its files.

    Args:
        files: name, which may tell what the records are, to path.
        quarantine: where bad records go; None lets the first one stop the reading.

    Raises:
        DataError: naming file, record, field and fix where a record is bad or its id is another's, where a file holds
            no record, and where there is no usable one.
    """
    ids: set[str] = set()
    bad = 0
    for name, path in files.items():
        record = None
        for record in _records(path):
            try:
                group = _group(source, record, Path(name))
                if group.id in ids:
                    raise DataError(f"is {group.id!r}, the id of an earlier record", field="id")
            except DataError as error:
                placed = error.at(error.file or str(path), record.number)
                if quarantine is None:
                    raise placed from None
                quarantine.add(placed, record.raw)
                bad += 1
                continue
            ids.add(group.id)
            yield group
        if record is None:  # Its part of the benchmark would be missing, and the score that of the rest.
            raise DataError("holds no record", file=str(path), fix="get the file again, or take it away")
    if not ids:
        said = f"all {bad} records are bad, the first because: {quarantine.first}"
        raise DataError(f"{source.title}: nothing to measure, {said}", fix=f"give {source.layout}")


def _group(source: Source, record: Record, name: Path) -> PreferenceGroup:
    if record.error is not None:
        raise record.error
    if not isinstance(record.value, dict):
        raise DataError(f"is {type(record.value).__name__}, not an object with fields")
    if source.language_field:
        check_language(record.value)
    return source.read(record.value, name)


def _records(path: Path) -> Iterator[Record]:
    """Read a file of records, which may also be one JSON array, as some benchmarks are published."""
    with open(path, "rb") as file:
        head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if head != b"[":
        yield from read_records(path)
        return
    try:
        values = parse_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except DataError as error:
        raise error.at(str(path)) from None
    for number, value in enumerate(values, 1):
        yield Record(number, json.dumps(value), value=value)


def of_names(*names: str) -> Callable[[str], bool]:
    """Return a test of paths: that one of the names is part of it."""
    return lambda path: any(name in path for name in names)


def any_record_file(_: str) -> bool:
    """Take every file of records."""
    return True


def subset_in_name(name: Path, subsets: Sequence[str]) -> str | None:
    """Return which of several subsets a file's path names, the longest where one name is part of another."""
    path = str(name).lower().replace("_", "-")
    found = [subset for subset in subsets if subset.lower() in path]
    return max(found, key=len, default=None)
