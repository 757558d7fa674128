"""The shapes in which data sets write a comparison, each read into a group."""

import dataclasses
import itertools
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from crome_jax.data.conversations import (
    PROMPT_FIELDS,
    checked_text,
    find_prompt,
    is_messages,
    is_transcript,
    messages,
    split_pair,
    transcript,
    with_system,
)
from crome_jax.errors import DataError
from crome_jax.groups import (
    Comparison,
    Kind,
    Message,
    PreferenceGroup,
    Response,
    Scalar,
    build_group,
    check_response_text,
    from_dict,
)

KNOWN_SHAPES = (
    "{prompt, chosen, rejected} (text or messages)",
    "{chosen, rejected} (whole conversations)",
    "{conversations, chosen, rejected} (ShareGPT)",
    "{prompt, chosen[], rejected[]}",
    "{prompt, responses[], scores[] or rankings[]} (or a score in every response)",
    "{prompt, responses[], comparisons[]}",
    "{prompt, response_1, response_2, label}",
    "crome_jax's own groups",
)

_PAIR = ("chosen", "rejected")
_SIDE_FACT = re.compile(r"(?:chosen|rejected)_.+|.+_(?:chosen|rejected)")
_RESPONSES = ("responses", "completions", "answers")
_TEXTS = ("text", "response", "content", "completion", "output", "answer")
_SCORES = ("score", "overall_score", "rating", "reward")
_RANKS = ("rank", "ranking")
_LISTS = {"scores": 1, "ratings": 1, "rankings": -1, "ranks": -1}
"""Parallel lists that order the responses: 1 where the highest is best, -1 where the lowest is."""

_SIDE = re.compile(r"(response|output|answer|completion)[ _-]?([12ab])", re.IGNORECASE)
_LABEL = re.compile(r"\s*(?:1|A)\s*([<>=])\s*(?:2|B)\s*|\s*(?:2|B)\s*([<>=])\s*(?:1|A)\s*", re.IGNORECASE)
_TARGETS = {">": 1.0, "=": 0.5, "<": 0.0}

_OWN_FIELDS = {field.name for field in dataclasses.fields(PreferenceGroup)}
_OWN_FACTS = ("origin", "parent", "edit")
"""What only groups of ours say of a response."""


def group_from_record(record: Any, default_id: str) -> PreferenceGroup:
    """Read a record of any known shape into a group.

    Fields that no shape uses go to the group's metadata when they are text, numbers or booleans. Of a pair,
    `chosen_<fact>` and `<fact>_chosen` go to the metadata of the chosen response as `<fact>`, and so for the rejected.

    Args:
        record: plain JSON types.
        default_id: the group's id where the record has none.

    Raises:
        DataError: where it has no known shape, or a field is missing or wrong.
    """
    if not isinstance(record, dict):
        raise no_object(record)
    record = {name: value for name, value in record.items() if value is not None}
    try:
        if _is_own(record):
            return from_dict(record)
        group_id = _id(record, default_id)
        for fits, read in _READERS:
            if fits(record):
                return read(record, group_id)
    except OverflowError:
        raise DataError("holds a number that is too large") from None
    except RecursionError:
        raise DataError("is nested too deep") from None
    fields = ", ".join(repr(name) for name in itertools.islice(record, 12)) or "no field"
    raise DataError(
        f"has no shape that is known; its fields are {fields}", fix=f"write one of: {'; '.join(KNOWN_SHAPES)}"
    )


def no_object(record: Any) -> DataError:
    """Return what to say of a record that has no fields."""
    fix = {"fix": "write one record a line, as jq -c '.[]' does"} if isinstance(record, list) else {}
    return DataError(f"is {type(record).__name__}, not an object with fields", **fix)


def is_preference(record: Mapping[str, Any]) -> bool:
    """Tell whether a record has the fields of one of the shapes, be they right or not."""
    return any(fits(record) for fits, _ in _READERS)


def _is_own(record: Mapping[str, Any]) -> bool:
    """Tell a group of ours, which may be damaged, from comparisons that another data set made between responses."""
    if "comparisons" not in record or not is_messages(record.get("prompt")):
        return False
    responses = record.get("responses", [])
    objects = [r for r in responses if isinstance(r, dict)] if isinstance(responses, list) else []
    # Read as anything else, edits would pass for answers that people compared.
    if any(response.get(fact) is not None for response in objects for fact in _OWN_FACTS):
        return True
    return isinstance(record.get("id"), str) and record.keys() <= _OWN_FIELDS and responses == objects


def _id(record: Mapping[str, Any], default: str) -> str:
    value = record.get("id", default)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"is {type(value).__name__}, not text or a whole number", field="id")
    return str(value)


def _prompt(record: Mapping[str, Any]) -> tuple[Message, ...]:
    prompt = find_prompt(record)
    if prompt is None:
        raise DataError("is missing", field="prompt")
    return with_system(record, prompt)


def _number(record: Mapping[str, Any], name: str, default: float, field: str | None = None) -> float:
    value = record.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        shown = value if isinstance(value, float) else type(value).__name__
        raise DataError(f"is {shown}, not a finite number", field=field or name)
    return float(value)


def _metadata(record: Mapping[str, Any], used: Iterable[str]) -> dict[str, Scalar]:
    used = {"id", "margin", "weight", "system", "history", "metadata", *PROMPT_FIELDS, *used}
    nested = record["metadata"] if isinstance(record.get("metadata"), dict) else {}
    facts = nested | {name: value for name, value in record.items() if name not in used}
    return {name: value for name, value in facts.items() if isinstance(value, Scalar)}


# --- pairs ------------------------------------------------------------------------------------------------------------


def _is_pair(record: Mapping[str, Any]) -> bool:
    return "chosen" in record or "rejected" in record


def _read_pair(record: Mapping[str, Any], group_id: str) -> PreferenceGroup:
    for name in _PAIR:
        if name not in record:
            raise DataError("is missing", field=name)
    chosen, rejected = record["chosen"], record["rejected"]
    prompt = find_prompt(record)
    if isinstance(chosen, list) and isinstance(rejected, list) and not is_messages(chosen):
        return _read_styles(record, group_id)
    if is_messages(chosen) or is_messages(rejected):
        prompt, chosen, rejected = _split_messages(prompt, messages(chosen, "chosen"), messages(rejected, "rejected"))
    elif is_transcript(chosen) or is_transcript(rejected):
        prompt, chosen, rejected = _split_transcripts(prompt, chosen, rejected)
    elif prompt is None:
        raise DataError("is missing", field="prompt")
    _check_pair({"chosen": chosen, "rejected": rejected})
    facts = _metadata(record, _PAIR)
    return build_group(
        id=group_id,
        prompt=with_system(record, prompt),
        responses=[
            Response(chosen, metadata=_facts_of("chosen", facts)),
            Response(rejected, metadata=_facts_of("rejected", facts)),
        ],
        comparisons=[Comparison(0, 1, weight=_number(record, "weight", 1.0), margin=_number(record, "margin", 0.0))],
        metadata={name: value for name, value in facts.items() if not _SIDE_FACT.fullmatch(name)},
    )


def _check_pair(texts: Mapping[str, Any]) -> None:
    for name, text in texts.items():
        check_response_text(text, name)
    first, second = texts
    if texts[first] == texts[second]:
        raise DataError(f"is identical to '{first}'", field=second)


def _facts_of(side: str, facts: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {
        name.removeprefix(f"{side}_").removesuffix(f"_{side}"): value
        for name, value in facts.items()
        if _SIDE_FACT.fullmatch(name) and (name.startswith(f"{side}_") or name.endswith(f"_{side}"))
    }


def _split_messages(
    prompt: tuple[Message, ...] | None, chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], str, str]:
    """Split a pair of conversations, which may begin with the prompt, repeat it, or continue it."""
    if prompt is None:
        return split_pair(chosen, rejected)
    if chosen[:1] and chosen[0].role == "assistant":
        return split_pair(prompt + chosen, prompt + rejected)
    shared, *answers = split_pair(chosen, rejected)
    # A prompt beside whole conversations repeats their first question (as in UltraFeedback) or all they share, or ends
    # with their beginning, after a system turn that only it holds.
    if any(shared[start : start + len(prompt)] == prompt for start in range(len(shared))):
        return shared, *answers
    for overlap in range(min(len(prompt), len(shared)), 0, -1):
        if prompt[-overlap:] == shared[:overlap]:
            return prompt + shared[overlap:], *answers
    raise DataError("is no part of the conversations in 'chosen' and 'rejected'", field="prompt")


def _split_transcripts(
    prompt: tuple[Message, ...] | None, chosen: Any, rejected: Any
) -> tuple[tuple[Message, ...], str, str]:
    """Split a pair of transcripts, as `_split_messages` does; white space around a prompt's turns does not count.

    Where one side alone is a transcript, the other might be its answer or a conversation in another form: as where one
    side alone is messages, the record is refused.
    """
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        if not is_transcript(text):
            raise DataError("is no transcript of Human and Assistant, as the other side is", field=name)
    if prompt is not None:
        prompt = tuple(Message(turn.role, turn.content.strip()) for turn in prompt)
    return _split_messages(prompt, transcript(chosen), transcript(rejected))


def _read_styles(record: Mapping[str, Any], group_id: str) -> PreferenceGroup:
    """Read RM-Bench's shape: every chosen text is better than every rejected one; their places are styles.

    The comparisons are in the order (chosen 0, rejected 0), (chosen 0, rejected 1), ...: where texts of two styles are
    equal and become one response, the place of a comparison still tells its styles.
    """
    sides = {name: [checked_text(t, f"{name}[{i}]") for i, t in enumerate(record[name])] for name in _PAIR}
    for name, texts in sides.items():
        if not texts:
            raise DataError("is empty", field=name)
    chosen = len(sides["chosen"])
    pairs = itertools.product(range(chosen), range(chosen, chosen + len(sides["rejected"])))
    weight, margin = _number(record, "weight", 1.0), _number(record, "margin", 0.0)
    return build_group(
        id=group_id,
        prompt=_prompt(record),
        responses=[
            Response(text, metadata={"side": name, "style": style})
            for name, texts in sides.items()
            for style, text in enumerate(texts)
        ],
        comparisons=[Comparison(left, right, weight=weight, margin=margin) for left, right in pairs],
        metadata=_metadata(record, _PAIR),
    )


# --- many responses ---------------------------------------------------------------------------------------------------


def _has_comparisons(record: Mapping[str, Any]) -> bool:
    return "comparisons" in record and "responses" in record


def _read_compared(record: Mapping[str, Any], group_id: str) -> PreferenceGroup:
    comparisons = record["comparisons"]
    if not isinstance(comparisons, list):
        raise DataError(f"is {type(comparisons).__name__}, not a list", field="comparisons")
    return build_group(
        id=group_id,
        prompt=_prompt(record),
        responses=[response for response, _ in _responses(record["responses"], "responses")],
        comparisons=[_comparison(c, f"comparisons[{i}]", record) for i, c in enumerate(comparisons)],
        metadata=_metadata(record, ()),
    )


def _comparison(value: Any, field: str, record: Mapping[str, Any]) -> Comparison:
    """Read a comparison; a weight or margin of the record is that of those which say none."""
    if not isinstance(value, dict):
        raise DataError(f"is {type(value).__name__}, not an object", field=field)
    for side in ("left", "right"):
        if not isinstance(value.get(side), int) or isinstance(value[side], bool):
            raise DataError("is no index of a response", field=f"{field}.{side}")
    kind = value.get("kind", "human")
    if kind not in (names := [k.name.lower() for k in Kind]):
        raise DataError(f"is {kind!r}, not one of {', '.join(names)}", field=f"{field}.kind")
    attribute = value.get("attribute")
    return Comparison(
        left=value["left"],
        right=value["right"],
        target=_number(value, "target", 1.0, f"{field}.target"),
        kind=Kind[kind.upper()],
        weight=_number(value, "weight", _number(record, "weight", 1.0), f"{field}.weight"),
        margin=_number(value, "margin", _number(record, "margin", 0.0), f"{field}.margin"),
        attribute=None if attribute is None else checked_text(attribute, f"{field}.attribute"),
    )


def _responses(values: Any, field: str) -> list[tuple[Response, Mapping[str, Any]]]:
    """Read responses given as texts or objects; with each come the object's other fields."""
    if not isinstance(values, list):
        raise DataError(f"is {type(values).__name__}, not a list", field=field)
    responses = []
    for i, value in enumerate(values):
        facts: Mapping[str, Any] = {}
        if isinstance(value, dict):
            name = next((n for n in _TEXTS if n in value), None)
            if name is None:
                raise DataError(f"holds none of {', '.join(_TEXTS)}", field=f"{field}[{i}]")
            facts = {k: v for k, v in value.items() if k != name and v is not None}
            value = checked_text(value[name], f"{field}[{i}].{name}")
        text = checked_text(value, f"{field}[{i}]")
        responses.append((Response(text, metadata={k: v for k, v in facts.items() if isinstance(v, Scalar)}), facts))
    return responses


def _has_responses(record: Mapping[str, Any]) -> bool:
    return any(name in record for name in _RESPONSES)


def _read_ranked(record: Mapping[str, Any], group_id: str) -> PreferenceGroup:
    """Read several scored or ranked responses: every pair is a comparison, of equals a tie.

    Equal texts are one response, whose quality is their mean.
    """
    field = next(name for name in _RESPONSES if name in record)
    responses = _responses(record[field], field)
    quality = _parallel_quality(record, len(responses), field)
    if quality is None:
        quality = [_own_quality(facts, f"{field}[{i}]") for i, (_, facts) in enumerate(responses)]
    distinct: dict[str, Response] = {}
    qualities: dict[str, list[float]] = {}
    for (response, _), value in zip(responses, quality, strict=True):
        distinct.setdefault(response.text, response)
        qualities.setdefault(response.text, []).append(value)
    if len(distinct) < 2:
        raise DataError("holds fewer than two different responses, nothing to compare", field=field)
    quality = [statistics.mean(values) for values in qualities.values()]  # Exact: equal scores have themselves as mean.
    weight, margin = _number(record, "weight", 1.0), _number(record, "margin", 0.0)
    if margin and len(distinct) > 2:
        raise DataError("cannot belong to several comparisons", field="margin", fix="give it in {comparisons[]}")
    comparisons = []
    for a, b in itertools.combinations(range(len(distinct)), 2):
        better, worse = (b, a) if quality[b] > quality[a] else (a, b)
        target = 0.5 if quality[a] == quality[b] else 1.0
        comparisons.append(Comparison(better, worse, target=target, weight=weight, margin=margin))
    return build_group(
        id=group_id,
        prompt=_prompt(record),
        responses=distinct.values(),
        comparisons=comparisons,
        metadata=_metadata(record, ()),
    )


def _parallel_quality(record: Mapping[str, Any], responses: int, field: str) -> list[float] | None:
    name = next((n for n in _LISTS if n in record), None)
    if name is None:
        return None
    values = record[name]
    if not isinstance(values, list) or len(values) != responses:
        raise DataError(f"is no list of {responses} numbers, one for each of '{field}'", field=name)
    return [_LISTS[name] * _number({name: v}, name, 0.0, f"{name}[{i}]") for i, v in enumerate(values)]


def _own_quality(facts: Mapping[str, Any], field: str) -> float:
    for names, sign in ((_SCORES, 1), (_RANKS, -1)):
        for name in names:
            if name in facts:
                return sign * _number(facts, name, 0.0, f"{field}.{name}")
    raise DataError(f"has no score ({', '.join(_SCORES)}) and no rank ({', '.join(_RANKS)})", field=field)


# --- labelled pairs ---------------------------------------------------------------------------------------------------


def _sides(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the fields of the first and the second response of a labelled pair."""
    sides = {m[2].lower(): name for name in record if (m := _SIDE.fullmatch(name))}
    pairs = [(sides[a], sides[b]) for a, b in ("12", "ab") if a in sides and b in sides]
    return pairs[0] if len(pairs) == 1 and len(sides) == 2 else None


def _read_labelled(record: Mapping[str, Any], group_id: str) -> PreferenceGroup:
    left, right = _sides(record)
    _check_pair({left: record[left], right: record[right]})
    targets, used = _targets(record, left)
    weight, margin = _number(record, "weight", 1.0) / len(targets), _number(record, "margin", 0.0)
    return build_group(
        id=group_id,
        prompt=_prompt(record),
        responses=[record[left], record[right]],
        comparisons=[
            Comparison(0, 1, target, weight=weight, margin=margin)
            if target
            else Comparison(1, 0, weight=weight, margin=margin)
            for target in targets
        ],
        metadata=_metadata(record, (left, right, *used)),
    )


def _targets(record: Mapping[str, Any], left: str) -> tuple[list[float], list[str]]:
    """Return the probabilities that the first response is preferred, and the fields that say so."""
    annotators = sorted(name for name in record if re.fullmatch(r"annotator\d+", name))
    if annotators and "label" not in record:  # PandaLM: 1 or 2 is better, 0 is a tie.
        return [_vote(record[name], {1: 1.0, 2: 0.0, 0: 0.5}, name) for name in annotators], annotators
    if "label" not in record:
        raise DataError(
            "is missing",
            field="label",
            fix="say which response is better: 1>2, 2>1, or 1=2 for a tie, or pass --skip-bad",
        )
    label = record["label"]
    if isinstance(label, str) and (match := _LABEL.fullmatch(label)):
        return [_TARGETS[match[1]] if match[1] else 1 - _TARGETS[match[2]]], ["label"]
    if left == "output_1" and "input" in record:  # LLMBar: 1 or 2 is better.
        return [_vote(label, {1: 1.0, 2: 0.0}, "label")], ["label"]
    if left == "response 1" and "scenario" in record:  # Auto-J: 0 is the first, 1 the second, 2 a tie.
        return [_vote(label, {0: 1.0, 1: 0.0, 2: 0.5}, "label")], ["label"]
    fix = "write it as '1>2', '2>1' or '1=2' (data sets number the responses from 0 and from 1)"
    raise DataError(f"is {label!r}, which does not say surely which response is better", field="label", fix=fix)


def _vote(value: Any, targets: Mapping[int, float], field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int) or value not in targets:
        raise DataError(f"is {value!r}, not one of {', '.join(map(str, targets))}", field=field)
    return targets[value]


_READERS: tuple[tuple[Callable[[Mapping], Any], Callable[[Mapping, str], PreferenceGroup]], ...] = (
    (_has_comparisons, _read_compared),
    (_is_pair, _read_pair),
    (_has_responses, _read_ranked),
    (_sides, _read_labelled),
)
"""What tells a shape, and its reader; the first that fits is used."""
