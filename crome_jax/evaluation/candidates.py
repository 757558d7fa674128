"""Candidates for best-of-N: several answers to each prompt, from a file or from an OpenAI-compatible endpoint."""

import dataclasses
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crome_jax.data.conversations import find_prompt
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.records import read_records
from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Message, PreferenceGroup, Response, check_response_text

KEY = "OPENAI_API_KEY"
_TRIES = 4
_PATIENCE = 600.0  # Seconds: N long answers are written in one request.


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


def ask_endpoint(
    records: Sequence[Mapping[str, Any]],
    *,
    url: str,
    model: str,
    samples: int,
    temperature: float = 1.0,
    max_tokens: int = 1024,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """Have a model behind an OpenAI-compatible endpoint answer prompts, several times each.

    The key, where one is needed, is in the environment variable KEY. A server that gives fewer answers than asked for
    is asked again; one that is busy or fails is tried _TRIES times, with pauses that double.

    Args:
        records: with a prompt each; their other fields are kept.
        url: up to /v1.

    Yields:
        the records, in order, with `candidates`.

    Raises:
        CromeError: where the endpoint cannot be reached or refuses.
    """
    for record in records:
        prompt = find_prompt(dict(record))
        if prompt is None:
            raise DataError("is missing", field="prompt")
        messages = [{"role": m.role, "content": m.content} for m in prompt]
        texts: list[str] = []
        while len(texts) < samples:
            body = {"model": model, "messages": messages, "n": samples - len(texts)}
            body |= {"temperature": temperature, "max_tokens": max_tokens}
            new = _answers(_post(f"{url.rstrip('/')}/chat/completions", body, wait), url)
            if not new:
                raise CromeError(
                    f"{url}: gave no answer with text to {messages[-1]['content'][:60]!r}; try another model"
                )
            texts += new
        yield {**record, "candidates": texts[:samples]}


def _answers(reply: Any, url: str) -> list[str]:
    try:
        return [c["message"]["content"] for c in reply["choices"] if (c["message"]["content"] or "").strip()]
    except (KeyError, TypeError):
        raise CromeError(f"{url}: gave no chat completion; is it an OpenAI-compatible endpoint (up to /v1)?") from None


def _post(url: str, body: Mapping[str, Any], wait: Callable[[float], None]) -> Any:
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            wait(2.0**attempt)
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as e:
            problem = f"HTTP {e.code} {e.reason}"
            if e.code not in (408, 429) and e.code < 500:
                break
        except (OSError, ValueError) as e:
            problem = str(e)
    raise CromeError(f"{url}: cannot be used ({problem}); check the address, the model's name and {KEY}")
