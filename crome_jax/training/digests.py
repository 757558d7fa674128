"""Digests of a checkpoint's files, kept inside it: what has changed since it was written is not taken for whole.

Orbax's arrays carry no checksum that covers all of their bytes: a flipped bit would be restored as another weight.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orbax.checkpoint as ocp

from crome_jax.files import copy_bytes, files_below, is_remote, place, sha256_of, whole_output

DIGESTS_FILE = "digests.json"

# What Orbax writes when all else is there, and a checkpoint is restored without.
_WRITTEN_LATER = {"_CHECKPOINT_METADATA", "commit_success.txt"}


def write_digests(folder: Path) -> None:
    """Write the SHA-256 of every file below a folder into its digests.json.

    Raises:
        OSError: where a file cannot be read or written.
    """
    files = sorted(files_below(folder))
    names = [path.relative_to(folder).as_posix() for path in files]
    found = {name: digest for name, digest in zip(names, _digests(files), strict=True) if name not in _WRITTEN_LATER}
    if is_remote(folder):
        (folder / DIGESTS_FILE).write_text(json.dumps(found, indent=1))
        return
    with (folder / DIGESTS_FILE).open("w", encoding="utf-8") as out:
        json.dump(found, out, indent=1)
        out.flush()
        os.fsync(out.fileno())


def add_digested(folder: Path, name: str, text: str) -> None:
    """Add a file to a folder that has its digests; killed in between, it is there whole, and not among them.

    Raises:
        OSError, CromeError: where a file cannot be read or written.
    """
    digests = json.loads((folder / DIGESTS_FILE).read_text(encoding="utf-8"))
    digests[name] = hashlib.sha256(text.encode()).hexdigest()
    for path, content in ((folder / name, text), (folder / DIGESTS_FILE, json.dumps(digests, indent=1))):
        with whole_output(path, overwrite=True) as partial:
            partial.write_text(content, encoding="utf-8")


def read_digests(folder: Path) -> dict[str, str]:
    """Return what a folder's digests.json says: the SHA-256 of each file by its name, in hexadecimal.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it is damaged.
    """
    try:
        said = json.loads((folder / DIGESTS_FILE).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{DIGESTS_FILE} has changed since it was written: {e}") from None
    if not isinstance(said, dict):
        raise ValueError(f"{DIGESTS_FILE} holds no digests")
    return said


def find_damage(folder: Path, part: int = 0, parts: int = 1) -> str | None:
    """Return which file of a folder is not as its digests.json says, and how; None where all are.

    Args:
        part: of `parts`: which share of the files is read, where several processes read one each.

    Raises:
        OSError: where a file that is there cannot be read, which says nothing about what is in it.
    """
    try:
        said = read_digests(folder)
    except FileNotFoundError:
        return f"{DIGESTS_FILE} is missing"
    except ValueError as e:
        return str(e)
    for name in said:
        if not (folder / name).is_file():
            return f"{name} is missing"
    names = sorted(said)[part::parts]
    for name, digest in zip(names, _digests([folder / name for name in names]), strict=True):
        if digest != said[name]:
            return f"{name} has changed since it was written"
    return None


def move_aside(folder: Path, aside: Path) -> None:
    """Move a folder whose files are not as they were to a place where nothing is.

    In a bucket no folder is there to take it before it holds an object: it is copied object by object; killed
    in between, both are there.

    Raises:
        OSError: where a file cannot be read, written or deleted.
    """
    if not is_remote(folder):
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
        return
    files = sorted(files_below(folder))
    with ThreadPoolExecutor() as pool:
        list(pool.map(copy_bytes, files, [aside / file.relative_to(folder).as_posix() for file in files]))
    folder.rmtree()


def remove_unfinished(folder: Path) -> None:
    """Remove what killed saves have left in a folder of checkpoints, which nobody writes to now.

    On a disk these are the steps without their final name. In a bucket a step has it from the start: of one that lacks
    both the last object and the digests, the objects. (With digests it may be a checkpoint copied there from a disk.)

    Raises:
        OSError: where an object cannot be deleted.
    """
    for path in list(folder.iterdir()):
        if not is_remote(folder):
            if re.match(r"\d+\.orbax-checkpoint-tmp", path.name):
                shutil.rmtree(path, ignore_errors=True)
        elif path.name.isdecimal() and not any((path / name).exists() for name in ("commit_success.txt", DIGESTS_FILE)):
            path.rmtree()


class _Digested:
    async def finalize(self) -> None:
        """Write the digests, then do as Orbax does."""
        write_digests(place(self.get()))
        await super().finalize()


class DigestedPath(_Digested, ocp.path.atomicity.AtomicRenameTemporaryPath):
    """The place of a checkpoint that is being written: it gets its digests before its final name."""


class DigestedObjects(_Digested, ocp.path.atomicity.CommitFileTemporaryPath):
    """The same in a bucket, where nothing is renamed at once: without its last object, commit_success.txt, a checkpoint
    is none.
    """


def _digests(files: list[Path]) -> Iterator[str]:
    """Yield each file's SHA-256; several are read at a time, and none is held in memory."""
    with ThreadPoolExecutor() as pool:  # hashlib lets go of the interpreter's lock.
        yield from pool.map(sha256_of, files)
