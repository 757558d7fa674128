"""The oracle's prompts: files of a versioned folder, and requests rendered by them into messages."""

import dataclasses
import hashlib
import os
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crome_jax.augment.oracles.base import Direction, Intervention, Judgement, Question, Request
from crome_jax.augment.oracles.chat.envelopes import Envelope
from crome_jax.errors import CromeError

FOLDER = Path(__file__).parents[1] / "prompts"

_FIELDS = {
    "rubrics": {"key", "conversation", "count"},
    "degrade": {"key", "conversation", "answer", "attribute"},
    "upgrade": {"key", "conversation", "answer", "attribute"},
    "align": {"key", "conversation", "answer", "reference"},
    "paraphrase": {"key", "conversation", "answer"},
    "judge": {"key", "conversation", "first", "second", "attribute"},
}
"""What each file says with a dollar sign."""

_REWRITE = {"declined": {"type": "boolean"}, "text": {"type": "string"}, "edit": {"type": "string"}}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS = {
    "rubrics": _object(
        {
            "attributes": {
                "type": "array",
                "items": _object({"name": {"type": "string"}, "definition": {"type": "string"}}),
            }
        }
    ),
    "judge": _object(
        {
            "better": {"type": "string", "enum": ["first", "second", "neither"]},
            "otherwise_equal": {"type": "boolean"},
        }
    ),
    **{str(direction): _object(_REWRITE) for direction in Direction},
}
"""The JSON schema that each reply is asked to have; `replies.py` checks it."""


@dataclasses.dataclass(frozen=True)
class Rendered:
    """What is sent.

    Args:
        kind: which file, and which schema.
        messages: system and user.
        swapped: of a judgement, whether the first answer shown is the rewritten one.
        key: of the lines around the data, None where there are none.
    """

    kind: str
    messages: tuple[dict[str, str], ...]
    swapped: bool = False
    key: str | None = None


class Prompts:
    """A folder of prompts.

    Args:
        name: a folder of `oracles/prompts/`, or a path to one of your own with the same files.

    Attributes:
        version: the folder's name and a hash of what is in it: an edit that forgets to rename the folder shows, too.

    Raises:
        CromeError: where a file is missing, has no two parts, or names a field that it is not given.
    """

    def __init__(self, name: str | os.PathLike):
        folder = FOLDER / name
        if not folder.is_dir():
            folder = Path(name)
        if not folder.is_dir():
            known = ", ".join(sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))
            raise CromeError(f"prompts {os.fspath(name)!r}: no such folder; give one of {known}, or a path")
        digest = hashlib.sha256()
        self._parts: dict[str, tuple[str, string.Template]] = {}
        for kind in sorted(_FIELDS):
            system, user = _read(folder / f"{kind}.txt", _FIELDS[kind])
            digest.update(f"{kind}\0{system}\0{user}\0".encode())
            self._parts[kind] = system, string.Template(user)
        self.version = f"{folder.name}/{digest.hexdigest()[:8]}"

    def render(self, request: Request) -> Rendered:
        """Return the messages of a request; equal requests give equal messages."""
        turns = [message.content for message in request.prompt]
        if isinstance(request, Question):
            envelope = Envelope(turns)
            return self._fill("rubrics", request, envelope, {"count": str(request.count)})
        if isinstance(request, Judgement):
            texts = (request.before, request.after)
            attribute = _described(request)
            envelope = Envelope([*turns, *texts, attribute])
            # Which stands first must not tell which is new: judges lean to one side.
            swapped = int(envelope.key, 16) % 2 == 1
            first, second = texts[::-1] if swapped else texts
            blocks = {
                "first": envelope.block("FIRST ANSWER", first),
                "second": envelope.block("SECOND ANSWER", second),
                "attribute": envelope.block("ATTRIBUTE", attribute),
            }
            return dataclasses.replace(self._fill("judge", request, envelope, blocks), swapped=swapped)
        assert isinstance(request, Intervention)
        kind = str(request.direction)
        attribute = _described(request)
        # Of what is not shown the key must not tell: the question would be paid for once a pair that its answer is in.
        reference = (request.reference or "") if "reference" in _FIELDS[kind] else ""
        envelope = Envelope([*turns, request.text, attribute, reference])
        blocks = {"answer": envelope.block("ANSWER", request.text)}
        if "attribute" in _FIELDS[kind]:
            blocks["attribute"] = envelope.block("ATTRIBUTE", attribute)
        if "reference" in _FIELDS[kind]:
            blocks["reference"] = envelope.block("REFERENCE", reference)
        return self._fill(kind, request, envelope, blocks)

    def _fill(self, kind: str, request: Request, envelope: Envelope, fields: Mapping[str, str]) -> Rendered:
        system, user = self._parts[kind]
        # One pass over the template alone: a dollar sign of the data is never looked at.
        text = user.substitute(fields, key=envelope.key, conversation=envelope.conversation(request.prompt))
        messages = ({"role": "system", "content": system}, {"role": "user", "content": text})
        return Rendered(kind, messages, key=envelope.key)


def _described(request: Intervention | Judgement) -> str:
    return f"{request.attribute}: {request.definition}" if request.definition else request.attribute


def _read(path: Path, fields: set[str]) -> tuple[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise CromeError(
            f"{path}: cannot be read ({e}); a folder of prompts has {', '.join(sorted(_FIELDS))}"
        ) from None
    head, system, user = text.partition("== system ==\n")[2].partition("== user ==\n")
    if not (head.strip() and system and user.strip()):
        raise CromeError(f"{path}: has no parts '== system ==' and '== user =='; write both")
    found = set(string.Template(user).get_identifiers())
    if not string.Template(user).is_valid() or found != fields:
        wanted = ", ".join(f"${field}" for field in sorted(fields))
        raise CromeError(f"{path}: does not say each of {wanted} and nothing else with a dollar sign; correct it")
    return head.strip(), user.strip()
