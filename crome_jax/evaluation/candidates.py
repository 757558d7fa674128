"""Candidates for best-of-N: several answers to each prompt, read from a file."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crome_jax.data.conversations import find_prompt
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.records import read_records
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Message, PreferenceGroup, Response, check_response_text


@dataclasses.dataclass(frozen=True)
class Candidates:
    """A prompt and its candidates.

    Args:
        id: of the record.
        prompt: the conversation up to the answers.
        texts: the candidates; equal ones count each.
        facts: the record's other fields, which a judge reads.
    """

    id: str
    prompt: tuple[Message, ...]
    texts: tuple[str, ...]
    facts: Mapping[str, Any]

    def to_group(self) -> PreferenceGroup:
        """Return the distinct candidates as a group to be scored."""
        return PreferenceGroup(self.id, self.prompt, tuple(map(Response, dict.fromkeys(self.texts))), ())


def read_candidates(path: Path, quarantine: Quarantine | None = None) -> list[Candidates]:
    """Read records of `{id?, prompt, candidates[], ...}`.

    Raises:
        DataError: naming file, record, field and fix where a record is bad (and `quarantine` is None), or all are.
    """
    found: list[Candidates] = []
    ids: set[str] = set()
    for record in read_records(path):
        try:
            if record.error is not None:
                raise record.error
            item = _candidates(record.value, f"{path.name}-{record.number}")
            if item.id in ids:
                raise DataError(f"is {item.id!r}, the id of an earlier record", field="id")
        except DataError as error:
            placed = error.at(str(path), record.number)
            if quarantine is None:
                raise placed from None
            quarantine.add(placed, record.raw)
            continue
        ids.add(item.id)
        found.append(item)
    if not found:
        raise DataError("holds no prompt with candidates", file=str(path), fix="write {prompt, candidates[]}")
    return found


def check_most(items: Sequence[Candidates], most: int | None) -> None:
    """Check that every prompt has candidates for the largest N, where one is given.

    Raises:
        CromeError: naming the record with the fewest.
    """
    fewest = min(items, key=lambda item: len(item.texts))
    if most and most > len(fewest.texts):
        raise CromeError(
            f"--most {most} needs {most} candidates of every prompt, and record {fewest.id!r} has {len(fewest.texts)}; "
            "give more, drop the record, or take a smaller N"
        )


def _candidates(record: Any, default_id: str) -> Candidates:
    if not isinstance(record, dict):
        raise DataError(f"is {type(record).__name__}, not an object with fields")
    texts = record.get("candidates")
    if not isinstance(texts, list) or not texts:
        raise DataError("is missing" if texts is None else "is no list of answers", field="candidates")
    for number, text in enumerate(texts):
        check_response_text(text, f"candidates[{number}]")
    prompt = find_prompt(record)
    if prompt is None:
        raise DataError("is missing", field="prompt")
    facts = {name: value for name, value in record.items() if name not in ("id", "prompt", "candidates")}
    item = Candidates(str(record.get("id", default_id)), tuple(prompt), tuple(texts), facts)
    item.to_group()  # Checks the turns as those of any group.
    return item
