"""Replies on disk, found by the content of their requests: no reply is paid for twice, and a run can be replayed."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import threading
from pathlib import Path
from typing import Any

from crome_jax.files import unwritable


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


def request_key(body: dict[str, Any], prompts: str, sample: int = 0) -> str:
    """Return the hash of a request: all that is sent, sampling parameters among it, and the version of the prompts.

    Neither the endpoint nor the key is part of it: a model by the same name is the same model.

    Args:
        sample: which of several. A seed that is sent tells them apart by itself; without one the number does, except of
            the first.
    """
    which = [sample] if sample and "seed" not in body else []
    text = json.dumps([prompts, body, *which], ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """A folder of replies, one file each, named by the request's hash.

    Files appear whole: they are written beside their place and renamed. Several processes may share the folder; of two
    that write the same reply the later stands. A file that cannot be read (a machine lost power) counts as absent.

    Args:
        folder: made where it is not there.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self._number = itertools.count()
        self._made: set[Path] = set()

    def get(self, key: str) -> Completion | None:
        """Return the reply to a request, None where there is none."""
        try:
            return Completion(**json.loads(self._path(key).read_bytes())["reply"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, body: dict[str, Any], prompts: str, completion: Completion) -> None:
        """Keep a reply, with the request that it is to.

        Raises:
            CromeError: where it cannot be written.
        """
        path = self._path(key)
        record = {"prompts": prompts, "request": body, "reply": dataclasses.asdict(completion)}
        partial = path.with_name(f".{key}.{os.getpid()}.{threading.get_ident()}.{next(self._number)}.partial")
        try:
            if path.parent not in self._made:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(path.parent)
            # ASCII: a model may reply with half a surrogate pair, which no file in UTF-8 can hold.
            partial.write_text(json.dumps(record), encoding="ascii")
            os.replace(partial, path)
        except OSError as e:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise unwritable(path, e) from None

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
