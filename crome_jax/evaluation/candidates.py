"""Candidates for best-of-N: several answers to each prompt, read from a file."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from crome_jax.data.conversations import find_prompt
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.records import read_records
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Message, PreferenceGroup, Response, check_response_text

DIFFICULTY = "instruction_difficulty"
"""The field with AlpacaEval's difficulty of an instruction."""


@dataclasses.dataclass(frozen=True)
class Candidates:
    """A prompt and its candidates.

    Args:
        id: of the record.
        prompt: the conversation up to the answers.
        texts: the candidates; equal ones count each.
        facts: the record's other fields, which a judge reads.
        raw: the record as it was read.
        number: of the record in its file, from 1.
    """

    id: str
    prompt: tuple[Message, ...]
    texts: tuple[str, ...]
    facts: Mapping[str, Any]
    raw: Mapping[str, Any]
    number: int

    def to_group(self) -> PreferenceGroup:
        """Return the distinct candidates as a group to be scored."""
        return PreferenceGroup(self.id, self.prompt, tuple(map(Response, dict.fromkeys(self.texts))), ())


Check = Callable[[Candidates], None]
"""Raises DataError where a record cannot be judged."""


def read_candidates(path: Path, check: Check, quarantine: Quarantine | None = None) -> list[Candidates]:
    """Read records of `{id?, prompt, candidates[], ...}`.

    Args:
        check: called with each; what it raises makes the record a bad one.

    Raises:
        DataError: naming file, record, field and fix where a record is bad (and `quarantine` is None), or all are.
    """
    return _read(path, check, quarantine, lambda record: record)


def read_prompts(path: Path, check: Check, quarantine: Quarantine | None = None) -> list[Candidates]:
    """Read records of `{id?, prompt, ...}` whose candidates are yet to be written; each has a dot for one.

    The arguments and errors are read_candidates'.
    """
    return _read(path, check, quarantine, lambda record: record | {"candidates": ["."]})


def _read(
    path: Path,
    check: Check,
    quarantine: Quarantine | None,
    complete: Callable[[dict[str, Any]], dict[str, Any]],
) -> list[Candidates]:
    found: list[Candidates] = []
    ids: set[str] = set()
    for record in read_records(path):
        try:
            if record.error is not None:
                raise record.error
            if not isinstance(record.value, dict):
                raise DataError(f"is {type(record.value).__name__}, not an object with fields")
            item = _candidates(complete(record.value), record.value, f"{path.name}-{record.number}", record.number)
            if item.id in ids:
                raise DataError(f"is {item.id!r}, the id of an earlier record", field="id")
            check(item)
        except DataError as error:
            placed = error.at(str(path), record.number)
            if quarantine is None:
                raise placed from None
            quarantine.add(placed, record.raw)
            continue
        ids.add(item.id)
        found.append(item)
    if not found:
        raise DataError("holds no usable prompt", file=str(path), fix="write {prompt, candidates[]}")
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


def read_difficulty(items: Sequence[Candidates]) -> Float[np.ndarray, "N"] | None:
    """Return the `instruction_difficulty` of records, None where none has it.

    Raises:
        DataError: naming the first record without it, where another has it.
    """
    given = [item.facts.get(DIFFICULTY) for item in items]
    if all(value is None for value in given):
        return None
    if None in given:
        raise DataError(
            f"is missing of {given.count(None)} of {len(items)} records, the first with the id "
            f"{items[given.index(None)].id!r}",
            record=items[given.index(None)].number,
            field=DIFFICULTY,
            fix="give it in every record, or in none to leave it out of the length-controlled win rate",
        )
    return np.array(given, np.float64)


def _candidates(record: dict[str, Any], raw: dict[str, Any], default_id: str, number: int) -> Candidates:
    texts = record.get("candidates")
    if not isinstance(texts, list) or not texts:
        raise DataError("is missing" if texts is None else "is no list of answers", field="candidates")
    for at, text in enumerate(texts):
        check_response_text(text, f"candidates[{at}]")
    prompt = find_prompt(record)
    if prompt is None:
        raise DataError("is missing", field="prompt")
    facts = {name: value for name, value in record.items() if name not in ("id", "prompt", "candidates")}
    item = Candidates(str(record.get("id", default_id)), tuple(prompt), tuple(texts), facts, raw, number)
    item.to_group()  # Checks the turns as those of any group.
    return item
