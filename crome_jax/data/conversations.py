"""Conversations as data sets write them: messages, ShareGPT turns, Human/Assistant transcripts."""

import re
from collections.abc import Mapping
from typing import Any

from crome_jax.errors import DataError
from crome_jax.groups import Message

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}

_TURN = re.compile(r"\n\n(Human|Assistant):")

PROMPT_FIELDS = ("prompt", "conversations", "messages", "instruction", "question", "input")
"""The fields a prompt is looked for in; the first that is there counts. `instruction` may come with an `input`."""


def is_messages(value: Any) -> bool:
    """Tell whether a value is one message or a list of them, and not a text."""
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def messages(value: Any, field: str) -> tuple[Message, ...]:
    """Read messages: `{role, content}` or ShareGPT's `{from, value}`, one or a list.

    Raises:
        DataError: where a message lacks its role or text, or the role is unknown.
    """
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list):
        raise DataError(f"is {type(value).__name__}, not a list of messages", field=field)
    return tuple(_message(turn, f"{field}[{t}]") for t, turn in enumerate(turns))


def _message(turn: Any, field: str) -> Message:
    if not isinstance(turn, dict):
        raise DataError(f"is {type(turn).__name__}, not a message", field=field)
    role_field, text_field = ("from", "value") if "from" in turn else ("role", "content")
    for name in (role_field, text_field):
        if not isinstance(turn.get(name), str):
            problem = f"is {type(turn[name]).__name__}, not text" if name in turn else "is missing"
            raise DataError(problem, field=f"{field}.{name}")
    role = _ROLES.get(turn[role_field].lower())
    if role is None:
        raise DataError(f"is {turn[role_field]!r}, not one of {', '.join(_ROLES)}", field=f"{field}.{role_field}")
    return Message(role, turn[text_field])


def is_transcript(value: Any) -> bool:
    """Tell whether a value is a text of `\\n\\nHuman: ... \\n\\nAssistant: ...` turns, as HH-RLHF writes them."""
    return isinstance(value, str) and value.startswith("\n\nHuman:")


def transcript(text: str) -> tuple[Message, ...]:
    """Read the turns of an HH-RLHF transcript; turns of one speaker in a row become one."""
    _, *parts = _TURN.split(text)
    turns: list[Message] = []
    for speaker, content in zip(parts[::2], parts[1::2], strict=True):
        role = "user" if speaker == "Human" else "assistant"
        if turns and turns[-1].role == role:
            content = f"{turns.pop().content}\n\n{content.strip()}"
        turns.append(Message(role, content.strip()))
    return tuple(turns)


def find_prompt(record: Mapping[str, Any]) -> tuple[Message, ...] | None:
    """Read the prompt of a record, None where it has no field for one.

    A text follows `history`'s pairs of earlier turns, as LLaMA-Factory writes them. `with_system` adds a system text.

    Raises:
        DataError: where the field is neither text nor messages.
    """
    name = next((n for n in PROMPT_FIELDS if record.get(n) is not None), None)
    if name is None:
        return None
    value = record[name]
    if is_messages(value):
        turns = messages(value, name)
    elif is_transcript(value):
        turns = transcript(value)
        if turns[-1] == Message("assistant", ""):  # The cue to answer that ends HH's prompts.
            turns = turns[:-1]
    else:
        text = checked_text(value, name)
        extra = record.get("input") if name == "instruction" else None
        if extra is not None and checked_text(extra, "input").strip():
            text = f"{text}\n\n{extra}"
        turns = (*_history(record.get("history")), Message("user", text))
    return turns


def with_system(record: Mapping[str, Any], prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put the record's `system` text, where it has one, before a prompt that has no system turn of its own."""
    system = checked_text(record.get("system", ""), "system")
    if not system.strip() or (prompt[:1] and prompt[0].role == "system"):
        return prompt
    return (Message("system", system), *prompt)


def _history(pairs: Any) -> tuple[Message, ...]:
    pairs = pairs or []
    if not isinstance(pairs, list):
        raise DataError(f"is {type(pairs).__name__}, not a list of [question, answer] pairs", field="history")
    turns: list[Message] = []
    for p, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError("is no [question, answer] pair", field=f"history[{p}]")
        turns += [Message("user", checked_text(pair[0], f"history[{p}][0]"))]
        turns += [Message("assistant", checked_text(pair[1], f"history[{p}][1]"))]
    return tuple(turns)


def checked_text(value: Any, field: str) -> str:
    """Return the value, which must be a text."""
    if not isinstance(value, str):
        raise DataError(f"is {type(value).__name__}, not text", field=field)
    return value


def split_pair(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> tuple[tuple[Message, ...], str, str]:
    """Split two conversations that differ in their last turn into the prompt they share and the two answers.

    Raises:
        DataError: where they do not end with one assistant's turn each, or differ before it.
    """
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[-1].role != "assistant":
            raise DataError("does not end with the assistant's turn", field=name)
    if len(chosen) == 1 or len(rejected) == 1:
        raise DataError("is missing, and 'chosen' and 'rejected' hold no earlier turn to take it from", field="prompt")
    if chosen[:-1] != rejected[:-1]:
        raise DataError("and 'chosen' differ before their last turn, so they answer no common prompt", field="rejected")
    return chosen[:-1], chosen[-1].content, rejected[-1].content
