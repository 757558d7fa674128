"""Replies found by the content of their requests: no reply is paid for twice, and a run can be replayed."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from crome_jax.augment.oracles.chat.database import Database
from crome_jax.errors import CromeError


@dataclasses.dataclass(frozen=True)
class Completion:
    """What a model replied.

    Args:
        content: its text.
        finish: why it ended: "stop", "length", "refusal" (it declined by the endpoint's own means), "too large" (it was
            not read to its end), or another reason of the endpoint's.
        prompt_tokens, reply_tokens: as the endpoint counts them, estimated where it does not.
    """

    content: str
    finish: str = "stop"
    prompt_tokens: int = 0
    reply_tokens: int = 0


@dataclasses.dataclass(frozen=True)
class Found:
    """A kept reply.

    Args:
        completion: the reply.
        run: number of the run that paid for it, None where that is not known.
    """

    completion: Completion
    run: int | None = None


def request_text(body: dict[str, Any], prompts: str, sample: int = 0) -> str:
    """Return what a reply is found by: all that is sent, sampling parameters among it, and the version of the prompts.

    Neither the endpoint nor the key is part of it: a model by the same name is the same model.

    Args:
        sample: which of several. A seed that is sent tells them apart by itself; without one the number does, except of
            the first.
    """
    which = [sample] if sample and "seed" not in body else []
    # ASCII: a prompt may hold half a surrogate pair, which UTF-8 cannot.
    return json.dumps([prompts, body, *which], ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def request_key(text: str) -> str:
    """Return the hash of a request's text."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class Cache:
    """The replies of a folder: one database, which several threads and processes of a machine may share.

    A reply is there or not, whole, whenever a process is killed. Folders of earlier versions, which held a file for
    every reply, are read, too; what is added goes into the database.

    Args:
        folder: of the replies.
        database: of the folder; one that only reads where none is given.
    """

    def __init__(self, folder: str | os.PathLike, database: Database | None = None):
        self.folder = Path(folder)
        self._database = Database(folder, create=False) if database is None else database
        try:
            names = os.listdir(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            names = []
        except OSError as e:
            raise _unreadable(self.folder, e) from None
        self._files = any(len(name) == 2 for name in names)

    def get(self, key: str) -> Found | None:
        """Return the reply to a request, None where there is none.

        Raises:
            CromeError: where it cannot be told because something cannot be read: to ask again would be to pay again.
        """
        row = self._database.row("select reply, run from replies where key = ?", (bytes.fromhex(key),))
        if row is not None:
            return Found(Completion(**json.loads(row[0])), row[1])
        return self._old(key) if self._files else None

    def put(self, key: str, text: str, completion: Completion, run: int | None = None) -> Completion:
        """Keep a reply, with the text of the request that it is to; return the one that is kept.

        Where another process was faster its reply stays, so that everyone goes on with the same one.

        Raises:
            CromeError: where it cannot be written.
        """
        # ASCII here, too: a model may reply with half a surrogate pair.
        row = (bytes.fromhex(key), run, text, json.dumps(vars(completion)))
        with self._database.writing() as connection:
            if connection.execute("insert or ignore into replies values (?, ?, ?, ?)", row).rowcount:
                return completion
            [kept] = connection.execute("select reply from replies where key = ?", row[:1]).fetchone()
            return Completion(**json.loads(kept))

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def _old(self, key: str) -> Found | None:
        """Read the file that an earlier version kept a reply in; a damaged one is none (a machine lost power)."""
        path = self.folder / key[:2] / f"{key}.json"
        try:
            return Found(Completion(**json.loads(path.read_bytes())["reply"]))
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return None
        except OSError as e:
            raise _unreadable(path, e) from None


def _unreadable(path: Path, error: OSError) -> CromeError:
    return CromeError(f"{path}: cannot be read ({error.strerror}); check its permissions, or the disk it is on")
