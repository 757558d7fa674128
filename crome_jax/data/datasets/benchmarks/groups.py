"""A benchmark's record as a group: chosen and rejected responses in an order that tells nothing."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from crome_jax.augment.seeds import derive_seed
from crome_jax.data.conversations import checked_text, is_messages, messages
from crome_jax.errors import DataError
from crome_jax.groups import Comparison, Message, PreferenceGroup, Response, Scalar, check_response_text

CHOSEN, REJECTED = "chosen_at", "rejected_at"
"""Metadata of a benchmark's group: the places of its chosen and rejected responses, as the benchmark orders them."""

_LANGUAGES = ("language", "lang", "target_language")
_ENGLISH = {"en", "eng", "english", "en-us", "en_us", "eng_latn"}


def benchmark_group(
    *,
    id: str,
    prompt: str | Sequence[Message],
    chosen: Sequence[str],
    rejected: Sequence[str],
    subset: str,
    category: str,
    facts: Mapping[str, Scalar] | None = None,
    response_facts: Sequence[Mapping[str, Scalar]] = (),
) -> PreferenceGroup:
    """Build the group of a benchmark's record.

    The order of its responses is drawn from its id, so that a scorer which looks at order gets what chance gives. Equal
    texts are one response: a benchmark may hold them, and scores a chosen text that equals a rejected one as it scores
    any two equal rewards. Comparisons are of every chosen with every rejected response, in the benchmark's order.

    Args:
        chosen, rejected: texts in the benchmark's order, which some scores read (the styles of RM-Bench).
        subset: the part of the benchmark that its scores are made of.
        category: what the report breaks figures out by.
        facts: metadata of the group.
        response_facts: of chosen and then rejected texts; of equal texts the first one's stand.

    Raises:
        DataError: where a text is empty or there is none.
    """
    for name, texts in (("chosen", chosen), ("rejected", rejected)):
        if not texts:
            raise DataError("is empty", field=name)
        for text in texts:
            check_response_text(text, name)
    texts = [*chosen, *rejected]
    distinct = list(dict.fromkeys(texts))
    random.Random(derive_seed("order", id)).shuffle(distinct)
    place = {text: at for at, text in enumerate(distinct)}
    known = dict(zip(reversed(texts), reversed(response_facts), strict=False))
    pairs = [(place[better], place[worse]) for better in chosen for worse in rejected]
    return PreferenceGroup(
        id=id,
        prompt=(Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt),
        responses=tuple(Response(text, metadata=dict(known.get(text, {}))) for text in distinct),
        comparisons=tuple(Comparison(left, right) for left, right in pairs if left != right),
        metadata={
            **(facts or {}),
            "subset": subset,
            "category": category,
            CHOSEN: ",".join(str(place[text]) for text in chosen),
            REJECTED: ",".join(str(place[text]) for text in rejected),
        },
    )


def read_text(record: Mapping[str, Any], field: str) -> str:
    """Return a field that must be there and be text.

    Raises:
        DataError: naming the field.
    """
    if record.get(field) is None:
        raise DataError("is missing", field=field, fix=f"the record's fields are {', '.join(map(str, record))[:200]}")
    return checked_text(record[field], field)


def read_prompt(record: Mapping[str, Any], field: str = "prompt") -> tuple[Message, ...]:
    """Return a prompt that is given as text or as messages.

    Raises:
        DataError: naming the field.
    """
    if is_messages(record.get(field)):
        return messages(record[field], field)
    return (Message("user", read_text(record, field)),)


def read_id(record: Mapping[str, Any], field: str = "id") -> str:
    """Return a record's id, a number or text.

    Raises:
        DataError: where there is none.
    """
    value = record.get(field)
    if value is None or isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError("is missing" if value is None else f"is {type(value).__name__}, no id", field=field)
    return str(value)


def check_language(record: Mapping[str, Any]) -> None:
    """Refuse a record of another language's version of a benchmark, whose scores do not compare with the original's.

    Raises:
        DataError: naming the field that says the language.
    """
    for field in _LANGUAGES:
        value = record.get(field)
        if isinstance(value, str) and len(value) and value.lower() not in _ENGLISH:
            raise DataError(
                f"is {value!r}: this is another language's version of the benchmark, which has scores of its own",
                field=field,
                fix="give the English files, or measure it as your own pairs (--benchmark pairs)",
            )
