"""Outputs appear whole or not at all: they are written beside their place and renamed into it when finished.

Into a bucket (gs://), where nothing is renamed, they are written when they are finished: an object appears whole; of a
folder the objects come one after the other, and an index among them last.
"""

import argparse
import atexit
import contextlib
import ctypes
import errno
import fcntl
import gzip
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from crome_jax.errors import CromeError

_FIXES = {
    errno.ENOSPC: "free some space or write elsewhere",
    errno.EDQUOT: "free some of the quota or write elsewhere",
    errno.EFBIG: "raise the limit on file sizes or write elsewhere",
    errno.EACCES: "check the permissions or write elsewhere",
    errno.EPERM: "check the permissions or write elsewhere",
    errno.ENOENT: "its folder cannot be made there; write elsewhere",
    errno.EROFS: "the file system is read-only; write elsewhere",
    errno.EEXIST: "a part of the path is a file; write elsewhere",
    errno.ENOTDIR: "a part of the path is a file; write elsewhere",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
}


def is_remote(path: str | os.PathLike) -> bool:
    """Tell whether a path is one of a bucket, such as gs://bucket/run."""
    return re.match(r"[a-z][a-z0-9+.-]*://", os.fspath(path)) is not None


def place(path: str | os.PathLike) -> Path:
    """Return a path as an object with pathlib's methods: of a bucket etils.epath's, which reads and writes objects."""
    if not is_remote(path):
        return Path(path)
    from etils import epath

    return epath.Path(path)


def is_taken(path: Path) -> bool:
    """Tell whether something is at a path, be it a link to nothing."""
    return path.exists() if is_remote(path) else os.path.lexists(path)


def resolved(path: Path) -> Path:
    """Return a path without links and dots, which those in a bucket do not have."""
    return path if is_remote(path) else path.resolve()


def stamp(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes, and when it was last written (of an object in seconds, else in nanoseconds)."""
    found = path.stat()
    return (found.length, found.mtime) if is_remote(path) else (found.st_size, found.st_mtime_ns)


def folder_here(text: str) -> Path:
    """Return a path of this machine: the type of a flag whose files grow piece by piece, which objects do not.

    Raises:
        argparse.ArgumentTypeError: where it is in a bucket.
    """
    if is_remote(text):
        raise argparse.ArgumentTypeError(f"{text} is in a bucket; give a place on this machine and copy it there")
    return Path(text)


def absolute(path: str | os.PathLike) -> str:
    """Return what a path is called from any folder; a bucket's as it is."""
    return os.fspath(path) if is_remote(path) else os.path.abspath(path)


@contextlib.contextmanager
def whole_output(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path to create a file or folder at; it becomes `path` when the block ends without an error.

    After an error, and after the process was killed, `path` is as it was before. (A killed process leaves a hidden
    sibling `.<name>.<random>.partial`, which nothing reads.) Folders on the way to `path` are created.

    One kill does more: where the file system cannot exchange two folders at once (NFS; Linux's own can), a folder is
    replaced by two renames, and between them `path` is not there. The old one is then `displaced` in that sibling.

    Args:
        path: where the output shall be.
        overwrite: whether an output that is there already is replaced; a folder is only by a folder.

    Raises:
        CromeError: where `path` exists and `overwrite` is false, where a file was made and `path` is a folder, and
            where it cannot be written (no permission, a full disk, ...); other errors of the block pass through.
    """
    path = place(path)
    check_absent(path, overwrite)
    if is_remote(path):
        with tempfile.TemporaryDirectory(prefix="crome-") as folder, spoken_for(Path(folder) / "finished", path):
            yield Path(folder) / "finished"
            _upload(Path(folder) / "finished", path)
        return
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name[:64]}.", suffix=".partial", dir=path.parent))
        finished = partial / "finished"
        # Whoever writes there knows only that place, which the user never named; its whole name before a part of it.
        with spoken_for(finished, path), spoken_for(finished.absolute(), path):
            yield finished
        _flush(finished)
        check_absent(path, overwrite)  # Again: another process may have been faster.
        _replace(finished, path, displaced=partial / "displaced")
    except BrokenPipeError:  # Of a reader of standard output, not of this file.
        raise
    except OSError as e:
        if e.errno is None:  # A library's own, such as a damaged archive's.
            raise
        raise unwritable(path, e) from e
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


class Lines:
    """A text file that grows line by line; each is there once it is added.

    An object in a bucket does not grow: it is written anew, whole, at most once in so many seconds, by `flush`, and
    when the file is closed or the process ends by itself. What was added in the meantime is lost by a kill.

    Args:
        path: what is there already stays.
        every: seconds between two writings of an object.

    Raises:
        OSError: where it cannot be written (in `add` and `close`, too).
    """

    def __init__(self, path: Path, every: float = 30.0):
        self._path, self._every = path, every
        self._written_at, self._unwritten = -math.inf, False
        self._said = path.read_text() if is_remote(path) and path.exists() else ""
        self._file = None if is_remote(path) else path.open("a")
        atexit.register(self.close)

    def add(self, line: str) -> None:
        """Append a line."""
        if self._file is None:
            self._said += line + "\n"
            self._unwritten = True
            if time.monotonic() - self._written_at >= self._every:
                self._write()
        else:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        """Let the file go."""
        atexit.unregister(self.close)
        self.flush()
        if self._file is not None:
            self._file.close()

    def flush(self) -> None:
        """See to it that what was added is there."""
        if self._unwritten:
            self._write()

    def _write(self) -> None:
        self._path.write_text(self._said)
        self._written_at, self._unwritten = time.monotonic(), False


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; it is not held in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(path: str | os.PathLike, hidden: bool = True) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files; of hidden ones only where asked.

    Everything is read: about a second for each GB of a fast disk.

    Raises:
        CromeError: where there is nothing.
    """
    whole, digest = place(path), hashlib.sha256()
    files = sorted(files_below(whole)) if whole.is_dir() else [whole]
    if not hidden:
        files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(whole).parts)]
    for file in files:
        try:
            inside = sha256_of(file)
        except FileNotFoundError:
            raise CromeError(f"{path}: does not exist; give data that does") from None
        except OSError as e:
            raise CromeError(f"{file}: cannot be read ({e.strerror}); check it") from None
        digest.update(f"{file.relative_to(whole)} {inside}\n".encode())
    return digest.hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of the folders in it, in no order."""
    # By hand: of a bucket a pattern does not go into folders.
    for path in folder.iterdir():
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


def copy_bytes(source: Path, target: Path) -> None:
    """Copy a file, into a bucket or out of it, a piece at a time; its folder is made where there is none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as given, target.open("wb") as taken:
        shutil.copyfileobj(given, taken, 16 << 20)


@contextlib.contextmanager
def locked(path: str | os.PathLike, *, wait: bool = True) -> Iterator[bool]:
    """Hold a file's lock while the block runs; a process that is killed lets it go.

    Args:
        path: of a file that is only for this; made where it is not there, and left.
        wait: for whoever holds it.

    Yields:
        whether it is held, which without `wait` it may not be.
    """
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def spoken_for(hidden: Path, out: str | os.PathLike) -> Iterator[None]:
    """Let errors about a hidden place name the output it stands for, which is the one the user knows."""
    try:
        yield
    except CromeError as e:
        if str(hidden) not in str(e):
            raise
        raise CromeError(str(e).replace(str(hidden), os.fspath(out))) from None


def check_not_read(path: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Raise CromeError where replacing the path would take away what is read: the same, or in it, or in that folder."""
    path = place(path)
    for source in map(place, inputs):
        if not path.exists() or not source.exists():
            continue
        if is_remote(path) or is_remote(source):
            if path in (source, *source.parents) or source == path.parent:
                raise CromeError(f"{path}: is read, so it is not replaced; choose another output")
            continue
        places = (source.resolve(), *source.resolve().parents)
        if path.resolve() in places or os.path.samefile(source, path.parent):
            raise CromeError(f"{path}: is read, so it is not replaced; choose another output")


@contextlib.contextmanager
def gzipped(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written packed; neither name nor time stand in it: equal contents make equal files."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        yield packed


def check_absent(path: Path, overwrite: bool) -> None:
    """Raise CromeError where something is at a path that is not to be replaced."""
    if not overwrite and is_taken(path):
        raise CromeError(f"{path}: exists already; choose another name or pass --overwrite")


def check_no_folder(path: Path) -> None:
    """Raise CromeError where a folder is in the place of a file that is to be written: none is replaced by one."""
    if path.is_dir():
        raise CromeError(f"{path}: is a folder, and a file is to be written there; give the name of a file")


def check_writable(folder: Path) -> None:
    """Raise CromeError where a folder clearly cannot be made, or written to; long work need not find out at its end."""
    if is_remote(folder):
        return
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise unwritable(folder, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(there, os.W_OK | os.X_OK):
        raise unwritable(folder, OSError(errno.EACCES, os.strerror(errno.EACCES)))


def unwritable(path: str | os.PathLike, error: OSError) -> CromeError:
    """Return what to tell the user whose output cannot be written."""
    fix = _FIXES.get(error.errno, "write elsewhere")
    return CromeError(f"{os.fspath(path)}: cannot be written ({error.strerror}); {fix}")


def read_json_object(path: Path, fix: str = "fetch it again") -> dict[str, Any]:
    """Read a file that holds one JSON object; `fix` is what the user can do where it does not.

    Raises:
        CromeError: where it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise CromeError(f"{path}: cannot be read ({e}); {fix}") from None
    if not isinstance(content, dict):
        raise CromeError(f"{path}: holds no JSON object; {fix}")
    return content


def _upload(finished: Path, path: Path) -> None:
    """Copy a finished file or folder into a bucket, in the place of what is there."""
    if finished.is_file():
        copy_bytes(finished, path)
        return
    if path.exists():
        path.rmtree()
    # What is named index comes last: without it nothing takes the folder for whole.
    for file in sorted(finished.rglob("*"), key=lambda file: (file.stem == "index", file)):
        if file.is_file():
            copy_bytes(file, path / file.relative_to(finished).as_posix())


def _flush(path: Path) -> None:
    # A rename is durable before the bytes are; without this, losing power could leave a whole-looking empty file.
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with open(file, "rb") as f:
                os.fsync(f.fileno())


def _replace(finished: Path, path: Path, displaced: Path) -> None:
    # rename(2) replaces a file by a file at once, but a folder only when it is empty.
    if finished.is_file():
        check_no_folder(path)
        os.replace(finished, path)
        return
    had_old = os.path.lexists(path)
    if had_old and _exchange(finished, path):
        return
    if had_old:
        os.replace(path, displaced)
    try:
        os.replace(finished, path)
    except OSError:
        if had_old:
            os.replace(displaced, path)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange what is at two paths, at once; return whether it was done, which only some file systems can."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # Of Linux; Python has no name for it.
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE, of fcntl.h and linux/fs.h.
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0
