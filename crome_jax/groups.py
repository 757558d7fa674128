"""A prompt, its distinct responses, and the comparisons between them: the shape every method shares.

Augmentation adds responses and comparisons to a group; packing lays groups into rows; the model scores each distinct
response once; a loss reads the scores through the comparisons. Nothing else needs to know which method is running.
"""

import dataclasses
import enum
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from crome_jax.errors import DataError

LARGEST = 1e9
"""The largest weight and margin: float32 sums and squares over a batch of such stay finite, and as exact as others."""

Scalar = str | int | float | bool
"""What metadata may hold: a JSON scalar."""

ROLES = ("system", "user", "assistant")


class Kind(enum.IntEnum):
    """Where a comparison comes from; the integer is what a Batch's `kind` holds."""

    HUMAN = 0
    CAUSAL = 1
    NEUTRAL = 2


class Origin(enum.StrEnum):
    """How a response came to be."""

    ORIGINAL = "original"
    UPGRADED = "upgraded"
    DEGRADED = "degraded"
    IRRELEVANT = "irrelevant"
    """An answer to another prompt, borrowed for an irrelevant-query neutral."""
    ALIGNED = "aligned"
    """Given all the content of a better answer in its own style, for a causally-aligned neutral."""
    PARAPHRASED = "paraphrased"
    PERMUTED = "permuted"
    """An answer to another prompt, borrowed for the permutations of RRM (arXiv 2409.13156)."""


@dataclasses.dataclass(frozen=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


@dataclasses.dataclass(frozen=True)
class Response:
    """One distinct answer to the group's prompt.

    Args:
        text: the answer, as the assistant's last turn.
        origin: how it came to be.
        parent: index of the response it was made from, None for an original or a borrowed one.
        attribute: the causal attribute (rubric) that was raised or lowered, None where none was.
        edit: what was done, in words a reader of the report understands.
        metadata: facts of the data set about this response (a score, the generator, known attributes).
    """

    text: str
    origin: Origin = Origin.ORIGINAL
    parent: int | None = None
    attribute: str | None = None
    edit: str | None = None
    metadata: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A judgement between two responses of one group.

    Args:
        left, right: indices into the group's responses.
        target: probability that left is preferred, in [0, 1]; 0.5 is a tie.
        kind: human, causal or neutral.
        weight: how much it counts in the loss, in [0, LARGEST].
        margin: by how much the reward of the preferred should exceed the other's (nats), in [0, LARGEST].
        attribute: the causal attribute in which the two differ by construction, None where unknown.
    """

    left: int
    right: int
    target: float = 1.0
    kind: Kind = Kind.HUMAN
    weight: float = 1.0
    margin: float = 0.0
    attribute: str | None = None

    @property
    def moved(self) -> str:
        """The attribute that metrics count it under: that of a causal comparison, empty for none."""
        return (self.attribute or "") if self.kind is Kind.CAUSAL else ""


@dataclasses.dataclass(frozen=True)
class PreferenceGroup:
    """One prompt, its distinct responses and their comparisons.

    Args:
        id: unique in its data set.
        prompt: the conversation up to the answer; its last turn is the user's.
        responses: distinct texts.
        comparisons: judgements between them.
        metadata: facts about the prompt (category, source, ...).

    Raises:
        DataError: where an index, number, role or text is not what this page says.
    """

    id: str
    prompt: tuple[Message, ...]
    responses: tuple[Response, ...]
    comparisons: tuple[Comparison, ...]
    metadata: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        _check_prompt(self.prompt)
        _check_text(self.id, "id")
        for r, response in enumerate(self.responses):
            check_response_text(response.text, f"responses[{r}].text")
            for name in ("attribute", "edit"):
                if getattr(response, name) is not None:
                    _check_unicode(getattr(response, name), f"responses[{r}].{name}")
            if response.parent is not None and not 0 <= response.parent < len(self.responses):
                raise DataError(f"is {response.parent}, no index of a response", field=f"responses[{r}].parent")
            _check_metadata(response.metadata, f"responses[{r}].metadata")
        texts = [response.text for response in self.responses]
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            raise DataError(f"holds {twice[:60]!r} twice; equal responses must be one", field="responses")
        for c, comparison in enumerate(self.comparisons):
            _check_comparison(comparison, len(self.responses), f"comparisons[{c}]")
        _check_metadata(self.metadata, "metadata")


def build_group(
    *,
    id: str,
    prompt: str | Iterable[Message],
    responses: Iterable[Response | str],
    comparisons: Iterable[Comparison],
    metadata: Mapping[str, Scalar] | None = None,
) -> PreferenceGroup:
    """Build a group, making equal responses one and rewriting the indices that point at them.

    Of equal responses the first is kept; a comparison whose two sides became the same response is dropped when it was
    a tie and is an error otherwise.

    Args:
        prompt: a text is taken as one user turn.
        responses: indices of `comparisons` and of parents count in this order.

    Raises:
        DataError: where a text prefers itself, and as PreferenceGroup does.
    """
    turns = (Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt)
    kept: list[Response] = []
    index: list[int] = []
    by_text: dict[str, int] = {}
    for response in (Response(r) if isinstance(r, str) else r for r in responses):
        if response.text not in by_text:
            by_text[response.text] = len(kept)
            kept.append(response)
        index.append(by_text[response.text])

    def moved(old: int, field: str) -> int:
        if not isinstance(old, int) or not 0 <= old < len(index):
            raise DataError(f"is {old!r}, no index of a response", field=field)
        return index[old]

    for r, response in enumerate(kept):
        if response.parent is not None:
            parent = moved(response.parent, f"responses[{r}].parent")
            kept[r] = dataclasses.replace(response, parent=None if parent == r else parent)
    merged = []
    for c, comparison in enumerate(comparisons):
        left = moved(comparison.left, f"comparisons[{c}].left")
        right = moved(comparison.right, f"comparisons[{c}].right")
        if left != right:
            merged.append(dataclasses.replace(comparison, left=left, right=right))
        elif comparison.target != 0.5:
            raise DataError("prefers a response to its equal", field=f"comparisons[{c}]")
    return PreferenceGroup(id, turns, tuple(kept), tuple(merged), dict(metadata or {}))


def prompt_text(prompt: Iterable[Message]) -> str:
    """Return the last user turn: what an editor or a report shows as the question."""
    return next((m.content for m in reversed(tuple(prompt)) if m.role == "user"), "")


def to_json(group: PreferenceGroup) -> str:
    """Serialise a group as one line of canonical JSON; `from_json` is its inverse."""
    return json.dumps(to_dict(group), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def to_dict(group: PreferenceGroup) -> dict[str, Any]:
    """Return the group as plain JSON types, absent where a field has its default."""

    def fields(item) -> dict[str, Any]:
        out = {}
        for field in dataclasses.fields(item):
            value = getattr(item, field.name)
            default = None if field.default is dataclasses.MISSING else field.default
            if value == default or value == {}:
                continue
            if isinstance(value, enum.Enum):
                value = value.name.lower()
            out[field.name] = dict(value) if isinstance(value, Mapping) else value
        return out

    return {
        "id": group.id,
        "prompt": [{"role": m.role, "content": m.content} for m in group.prompt],
        "responses": [fields(r) for r in group.responses],
        "comparisons": [fields(c) | {"left": c.left, "right": c.right} for c in group.comparisons],
        **({"metadata": dict(group.metadata)} if group.metadata else {}),
    }


def from_json(line: str) -> PreferenceGroup:
    """Read a group from `to_json`'s line.

    Raises:
        DataError: naming the field that is missing, mistyped or unknown.
    """
    try:
        record = json.loads(line)
    except json.JSONDecodeError as e:
        raise DataError(f"is not JSON ({e.msg} at column {e.colno})") from None
    except RecursionError:
        raise DataError("is not usable JSON (nested too deeply)") from None
    except ValueError:
        raise DataError("is not usable JSON (an integer has thousands of digits)") from None
    return from_dict(record)


def _present(fields: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (fields or {}).items() if value is not None}


def from_dict(record: Any) -> PreferenceGroup:
    """Read a group from `to_dict`'s plain types; checks every field's presence and type.

    An optional field may be None: in a table every record has all of them.

    Raises:
        DataError: naming the field that is missing, mistyped or unknown.
    """
    _check_keys(record, {"id", "prompt", "responses", "comparisons"}, {"metadata"}, "")
    prompt = []
    for m, message in enumerate(_typed(record, "prompt", list)):
        _check_keys(message, {"role", "content"}, set(), f"prompt[{m}]")
        prompt.append(Message(_typed(message, "role", str), _typed(message, "content", str)))
    responses = []
    for r, response in enumerate(_typed(record, "responses", list)):
        field = f"responses[{r}]"
        _check_keys(response, {"text"}, {"origin", "parent", "attribute", "edit", "metadata"}, field)
        responses.append(
            Response(
                text=_typed(response, "text", str, field),
                origin=_member(Origin, response, "origin", "original", field),
                parent=_optional(response, "parent", int, field),
                attribute=_optional(response, "attribute", str, field),
                edit=_optional(response, "edit", str, field),
                metadata=_present(_optional(response, "metadata", dict, field)),
            )
        )
    comparisons = []
    for c, comparison in enumerate(_typed(record, "comparisons", list)):
        field = f"comparisons[{c}]"
        optional = {"target", "kind", "weight", "margin", "attribute"}
        _check_keys(comparison, {"left", "right"}, optional, field)
        numbers = {name: _optional(comparison, name, float, field) for name in ("target", "weight", "margin")}
        comparisons.append(
            Comparison(
                left=_typed(comparison, "left", int, field),
                right=_typed(comparison, "right", int, field),
                kind=_member(Kind, comparison, "kind", "human", field),
                attribute=_optional(comparison, "attribute", str, field),
                **{name: value for name, value in numbers.items() if value is not None},
            )
        )
    metadata = _present(_optional(record, "metadata", dict, ""))
    return PreferenceGroup(_typed(record, "id", str), tuple(prompt), tuple(responses), tuple(comparisons), metadata)


def check_response_text(text: Any, field: str) -> None:
    """Raise DataError unless `text` can be a response: a non-blank string of valid Unicode without NUL."""
    _check_text(text, field)


def _check_text(text: Any, field: str) -> None:
    if not isinstance(text, str):
        raise DataError(f"is {type(text).__name__}, not text", field=field)
    if not text.strip():
        raise DataError("is empty", field=field)
    _check_unicode(text, field)


def _check_unicode(text: str, field: str) -> None:
    if "\0" in text:
        raise DataError("holds a NUL character", field=field)
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise DataError(f"holds a lone surrogate (U+{ord(text[e.start]):04X})", field=field) from None


def _check_prompt(prompt: tuple[Message, ...]) -> None:
    if not prompt:
        raise DataError("is empty", field="prompt")
    for m, message in enumerate(prompt):
        if message.role not in ROLES:
            raise DataError(f"is {message.role!r}, not one of {', '.join(ROLES)}", field=f"prompt[{m}].role")
        if not isinstance(message.content, str):
            raise DataError(f"is {type(message.content).__name__}, not text", field=f"prompt[{m}].content")
        _check_unicode(message.content, f"prompt[{m}].content")
    if prompt[-1].role != "user":
        raise DataError(f"ends with the {prompt[-1].role}'s turn, not the user's", field="prompt")
    _check_text(prompt[-1].content, "prompt")


def _check_comparison(c: Comparison, responses: int, field: str) -> None:
    for side in ("left", "right"):
        if not 0 <= getattr(c, side) < responses:
            raise DataError(f"is {getattr(c, side)}, no index of a response", field=f"{field}.{side}")
    if c.left == c.right:
        raise DataError("compares a response with itself", field=field)
    for name, high in (("target", 1.0), ("weight", LARGEST), ("margin", LARGEST)):
        value = getattr(c, name)
        if not math.isfinite(value) or not 0 <= value <= high:
            raise DataError(f"is {value}, outside [0, {high:g}]", field=f"{field}.{name}")


def _check_metadata(metadata: Mapping[str, Any], field: str) -> None:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, Scalar):
            raise DataError(f"is {type(value).__name__}, not text, number or boolean", field=f"{field}[{key!r}]")
        if isinstance(value, float) and not math.isfinite(value):
            raise DataError(f"is {value}, not finite", field=f"{field}[{key!r}]")
        for text in (key, value):
            if isinstance(text, str):
                _check_unicode(text, field)


def _check_keys(record: Any, required: set[str], optional: set[str], field: str) -> None:
    if not isinstance(record, dict):
        raise DataError(f"is {type(record).__name__}, not an object", field=field or None)
    for missing in sorted(required - record.keys()):
        raise DataError("is missing", field=f"{field}.{missing}".lstrip("."))
    for unknown in sorted(record.keys() - required - optional):
        name = ascii(unknown)[1:-1]  # A lone surrogate could not be printed.
        raise DataError("is no field of a group", field=f"{field}.{name}".lstrip("."))


def _typed(record: dict, name: str, kind: type, field: str = "") -> Any:
    value = record[name]
    numeric = kind is float and isinstance(value, int)
    if isinstance(value, bool) or not (isinstance(value, kind) or numeric):
        raise DataError(f"is {type(value).__name__}, not {kind.__name__}", field=f"{field}.{name}".lstrip("."))
    try:
        return kind(value)
    except OverflowError:
        raise DataError("is too large for a number", field=f"{field}.{name}".lstrip(".")) from None


def _optional(record: dict, name: str, kind: type, field: str) -> Any:
    return None if record.get(name) is None else _typed(record, name, kind, field)


def _member(kind: type[enum.Enum], record: dict, name: str, default: str, field: str) -> Any:
    value = default if record.get(name) is None else record[name]
    try:
        return kind[str(value).upper()]
    except KeyError:
        names = ", ".join(m.name.lower() for m in kind)
        raise DataError(f"is {value!r}, not one of {names}", field=f"{field}.{name}") from None
