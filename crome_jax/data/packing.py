"""Groups to fixed-shape rows: the prompt once, each distinct response once."""

import bisect
import collections
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from crome_jax.batch import FIELDS, HEAD, Batch
from crome_jax.data.cutting import are_equal_once_cut, common_beginning, cut_to, share_room
from crome_jax.errors import CromeError, DataError

_TOKENS_PER_SLOT = 16
_SHORTEST = 4
"""Tokens of a row that holds a pair of responses."""
_LONG_PROMPT = 8
"""The prompt of a group that does not fit into a row is long where it takes more than one part of so many of a row."""


@dataclasses.dataclass(frozen=True)
class TokenizedGroup:
    """A group as token ids.

    Args:
        index: which group of the data set this is; rows point back at it.
        prompt: token ids up to where a response begins.
        responses: token ids of each response, its end-of-turn token last, or what a model wants after that.
        left, right, kind: i32 [C], as the group's comparisons; a right of -1 says that left holds both answers.
        target, weight, margin: f32 [C].
        attributes: of each comparison, the attribute that metrics count it under, empty for none; () where there are
            none at all.
        cut: responses that were cut already, as two answers in one slot are.
        cut_at: which responses of the group these are.
        equal: comparisons of such answers that are equal once cut.
        ending: tokens that end every response, which it keeps when it is cut.
    """

    index: int
    prompt: Sequence[int]
    responses: Sequence[Sequence[int]]
    left: np.ndarray
    right: np.ndarray
    kind: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    margin: np.ndarray
    attributes: Sequence[str] = ()
    cut: int = 0
    equal: int = 0
    cut_at: Sequence[int] = ()
    ending: int = 1


_COMPARED = ("left", "right", "kind", "target", "weight", "margin")


@dataclasses.dataclass(frozen=True)
class RowShape:
    """The fixed sizes of a row.

    Args:
        tokens: T.
        responses: R, response slots; None gives one for each 16 tokens: as many as short answers need, so that it is
            the tokens that fill a row.
        comparisons: C, comparison slots; None gives two for each response slot.

    Raises:
        CromeError: where no pair could ever be placed.
    """

    tokens: int
    responses: int | None = None
    comparisons: int | None = None

    def __post_init__(self):
        if self.responses is None:
            object.__setattr__(self, "responses", max(2, self.tokens // _TOKENS_PER_SLOT))
        if self.comparisons is None:
            object.__setattr__(self, "comparisons", 2 * self.responses)
        for name, least in (("tokens", _SHORTEST), ("responses", 2), ("comparisons", 1)):
            if getattr(self, name) < least:
                raise CromeError(
                    f"RowShape.{name} is {getattr(self, name)}; a pair of responses needs {least} at least"
                )


@dataclasses.dataclass
class Rows:
    """Packed rows and the way back from their slots to the data.

    Args:
        batch: every row, N in the place of B; its `attribute` counts through all of `attributes`.
        groups: i32 [N, R]; which group a response slot belongs to, -1 = empty.
        responses: i32 [N, R]; which of that group's responses it is, -1 = empty.
        truncated: responses that were cut to fit.
        equal: comparisons whose answers are equal once cut, which are left out.
        real_tokens: tokens that are not padding.
        unpacked_tokens: what encoding both sides of every comparison with its own prompt would take, each cut as it is
            here.
        attributes: names of the attributes that comparisons move, however many.
    """

    batch: Batch
    groups: np.ndarray
    responses: np.ndarray
    truncated: int
    real_tokens: int
    unpacked_tokens: int
    attributes: tuple[str, ...] = ()
    equal: int = 0

    def __len__(self) -> int:
        return self.groups.shape[0]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what training takes of a row: `attribute`, which metrics read, where any comparison has one."""
        return (*FIELDS, "attribute") if self.attributes else FIELDS

    def take(self, numbers: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows of these numbers, as the fields of a Batch."""
        return {name: getattr(self.batch, name)[np.asarray(numbers)] for name in self.fields}


def packing_facts(rows: Rows) -> dict[str, int | float]:
    """Return what packing did: the waste, the saving, and what was cut."""
    comparisons = int((rows.batch.weight > 0).sum())
    return {
        "rows": len(rows),
        "tokens of a row": rows.batch.tokens.shape[1],
        "comparisons": comparisons,
        "tokens encoded": rows.real_tokens,
        "padding": round(1 - rows.real_tokens / rows.batch.tokens.size, 4),
        "tokens encoded for each comparison": round(rows.real_tokens / max(comparisons, 1), 1),
        "if every pair were encoded by itself": round(rows.unpacked_tokens / max(comparisons, 1), 1),
        "responses cut": rows.truncated,
        "comparisons left out, of answers equal once cut": rows.equal,
    }


def join_rows(parts: Sequence[tuple[Rows, int]]) -> Rows:
    """Put rows of several data sets one after the other.

    Args:
        parts: the rows of each, and how many groups it has; what points at groups then counts through all of them.
    """
    fields = {name: np.concatenate([getattr(rows.batch, name) for rows, _ in parts]) for name in FIELDS}
    names = tuple(dict.fromkeys(name for rows, _ in parts for name in rows.attributes))
    numbers = {name: number for number, name in enumerate(("", *names))}
    fields["attribute"] = np.concatenate(
        [
            np.array([numbers[name] for name in ("", *rows.attributes)], np.int32)[rows.batch.attribute]
            for rows, _ in parts
        ]
    )
    firsts = np.cumsum([0, *(groups for _, groups in parts)])
    return Rows(
        batch=Batch(**fields),
        groups=np.concatenate(
            [
                np.where(rows.groups >= 0, rows.groups + first, -1)
                for (rows, _), first in zip(parts, firsts, strict=False)
            ]
        ).astype(np.int32),
        responses=np.concatenate([rows.responses for rows, _ in parts]),
        attributes=names,
        **{
            name: sum(getattr(rows, name) for rows, _ in parts)
            for name in ("truncated", "equal", "real_tokens", "unpacked_tokens")
        },
    )


_Unit = tuple[tuple[int, ...], tuple[int, ...]]
"""What must stand in one row: responses, and the comparison of them where there is one."""


@dataclasses.dataclass(frozen=True)
class _Piece:
    """What goes into one row together: a prompt, some of its responses, and the comparisons between those.

    Args:
        number: how many pieces came before.
    """

    group: TokenizedGroup
    responses: tuple[int, ...]
    comparisons: tuple[int, ...]
    lengths: tuple[int, ...]
    number: int

    @functools.cached_property
    def tokens(self) -> int:
        return len(self.group.prompt) + sum(self.lengths)

    @property
    def rank(self) -> tuple[int, int]:
        """The largest first, and of equals the one that came first."""
        return -self.tokens, self.number


def pack(
    groups: Iterable[TokenizedGroup], shape: RowShape, *, every_response: bool = False, lookahead: int = 512
) -> Rows:
    """Lay groups into rows, filled one after the other from as many groups as are looked ahead at.

    A row begins with the largest of them, and takes those others that together leave the fewest tokens of it empty. The
    same groups in the same order give the same rows.

    A group that fits into a row is never split. A larger one is split by its comparisons, its prompt repeated; a pair
    that does not fit even alone has its longer responses cut, the end-of-turn token kept, and is counted. Where that
    makes its two responses equal, their comparison is left out and counted: it would prefer one of two equals.

    Args:
        every_response: also place responses that no comparison needs (to score them all); without it they are left out.
        lookahead: how many groups (of those that are split: parts) wait for a row at most.

    Raises:
        DataError: where a prompt leaves no room for its responses, or nothing was given.
    """
    tallies = {"truncated": 0, "equal": 0, "unpacked": 0, "pieces": 0}
    rows: list[list[_Piece]] = []
    waiting: list[_Piece] = []
    for group in groups:
        for piece in _pieces(group, shape, every_response, tallies):
            bisect.insort(waiting, piece, key=lambda p: p.rank)
            if len(waiting) > lookahead:
                rows.append(_take_row(waiting, shape))
    while waiting:
        rows.append(_take_row(waiting, shape))
    if not rows:
        raise DataError("holds nothing to train on or to score", fix="give records with comparisons")
    return _lay_out(rows, shape, tallies)


def pack_tightly(groups: Iterable[TokenizedGroup], shapes: Sequence[RowShape], *, open_rows: int = 32) -> list[Rows]:
    """Lay every response of groups into rows of several lengths, so that little is padding; comparisons are left out.

    Groups are placed the largest first, each into the row whose room it fills best, or into a new row of the shortest
    shape that holds it: what a large one leaves is filled by small ones (best fit, decreasing). One that no shape holds
    is split for the longest, as `pack` does.

    What all prompts begin with stands once at the head of each row. That never costs anything: what fits together into
    a row with a beginning of its own each does so with one.

    Args:
        shapes: the shortest first, with slots for as many responses.
        open_rows: how many rows with enough tokens left are tried before a new one is begun.

    Returns:
        The rows of each shape that has some, the shortest first.

    Raises:
        DataError: where a prompt leaves no room for its responses.
    """
    tallies = {"truncated": 0, "equal": 0, "unpacked": 0, "pieces": 0}
    groups = list(groups)
    if not groups:
        return []
    # What it leaves of the longest row must still be a row.
    begun = common_beginning([group.prompt for group in groups], shapes[-1].tokens - _SHORTEST)
    head = groups[0].prompt[:begun]
    left = [(shape, shape.tokens - begun) for shape in shapes]
    shapes = [dataclasses.replace(shape, tokens=tokens) for shape, tokens in left if tokens >= _SHORTEST]
    longest = shapes[-1]
    none = dict.fromkeys(_COMPARED, np.zeros(0, np.int32))
    alone = (dataclasses.replace(group, prompt=group.prompt[begun:], **none) for group in groups)
    pieces = [piece for group in alone for piece in _pieces(group, longest, True, tallies)]
    rows: dict[int, list[list[_Piece]]] = {n: [] for n in range(len(shapes))}
    room: list[tuple[int, int, int]] = []  # Of every row with room: tokens left, its shape, its number.
    for piece in sorted(pieces, key=lambda piece: -piece.tokens):
        first = bisect.bisect_left(room, (piece.tokens,))
        tried = range(first, min(first + open_rows, len(room)))  # Enough tokens, but perhaps not enough slots.
        at = next((at for at in tried if _fits([*rows[room[at][1]][room[at][2]], piece], shapes[room[at][1]])), None)
        if at is not None:
            left, n, number = room.pop(at)
            rows[n][number].append(piece)
        else:
            n = next(n for n, shape in enumerate(shapes) if piece.tokens <= shape.tokens)
            left, number = shapes[n].tokens, len(rows[n])
            rows[n].append([piece])
        if left > piece.tokens and sum(len(p.responses) for p in rows[n][number]) < shapes[n].responses:
            bisect.insort(room, (left - piece.tokens, n, number))
    # Only what the longest row does not hold is ever cut.
    none_cut = dict.fromkeys(tallies, 0)
    return [_lay_out(rows[n], s, tallies if s is longest else none_cut, head) for n, s in enumerate(shapes) if rows[n]]


def _take_row(waiting: list[_Piece], shape: RowShape) -> list[_Piece]:
    """Take the pieces of one row out of those that wait, which are in the order of their rank."""
    first, *others = waiting
    row = [first, *(others[at] for at in _fullest([p.tokens for p in others], shape.tokens - first.tokens))]
    if not _fits(row, shape):  # Slots run out before tokens do: what has most tokens for its slots first.
        row = [first]
        for piece in others:
            if _fits([*row, piece], shape):
                row.append(piece)
    taken = {piece.number for piece in row}
    waiting[:] = [piece for piece in waiting if piece.number not in taken]
    return sorted(row, key=lambda piece: piece.number)


def _fullest(sizes: Sequence[int], room: int) -> list[int]:
    """Return which of some sizes add up to the most that is at most `room`; of several choices, one of the first."""
    # Bit n of a sum is set where some of the sizes so far come to n together.
    sums, within = [1], (1 << room + 1) - 1
    for size in sizes:
        if sums[-1] >> room:
            break
        sums.append(sums[-1] | (sums[-1] << size & within))
    left = sums[-1].bit_length() - 1
    chosen = []
    for at in range(len(sums) - 1, 0, -1):
        if not sums[at - 1] >> left & 1:  # Not without this one.
            chosen.append(at - 1)
            left -= sizes[at - 1]
    return chosen


def _fits(row: Sequence[_Piece], shape: RowShape) -> bool:
    return (
        sum(p.tokens for p in row) <= shape.tokens
        and sum(len(p.responses) for p in row) <= shape.responses
        and sum(len(p.comparisons) for p in row) <= shape.comparisons
    )


def _pieces(group: TokenizedGroup, shape: RowShape, every_response: bool, tallies: dict) -> Iterator[_Piece]:
    """Split a group into pieces that each fit a row: one where that is possible."""
    units = [
        (tuple(int(r) for r in sides if r >= 0), (c,))
        for c, sides in enumerate(zip(group.left, group.right, strict=True))
    ]
    tallies["truncated"] += group.cut
    tallies["equal"] += group.equal
    if every_response:
        used = {r for sides, _ in units for r in sides}
        units += [((r,), ()) for r in range(len(group.responses)) if r not in used]
    for part in [units] if units and _has_room(units, group, shape) else _parts(units, group, shape):
        lengths = {r: len(group.responses[r]) for sides, _ in part for r in sides}
        room = shape.tokens - len(group.prompt)
        if sum(lengths.values()) > room:
            lengths = share_room(lengths, room)
            tallies["truncated"] += sum(n < len(group.responses[r]) for r, n in lengths.items())
            compared = len(part)
            part = [unit for unit in part if not _is_equal_once_cut(unit, lengths, group)]
            tallies["equal"] += compared - len(part)
            if not part and not every_response:
                continue
        comparisons = tuple(c for _, compared in part for c in compared)
        # Cut as they are here: what is cut is no saving.
        alone = [r for sides, compared in part if compared for r in sides]
        tallies["unpacked"] += sum(len(group.prompt) + lengths[r] for r in alone)
        yield _Piece(group, tuple(lengths), comparisons, tuple(lengths.values()), tallies["pieces"])
        tallies["pieces"] += 1


def _is_equal_once_cut(unit: _Unit, lengths: dict[int, int], group: TokenizedGroup) -> bool:
    sides, _ = unit
    if len(sides) < 2:
        return False
    left, right = sides
    kept = lengths[left], lengths[right]
    return are_equal_once_cut(group.responses[left], group.responses[right], kept, group.ending)


def _has_slots(units: Sequence[_Unit], shape: RowShape) -> bool:
    return (
        len({r for sides, _ in units for r in sides}) <= shape.responses
        and sum(len(compared) for _, compared in units) <= shape.comparisons
    )


def _has_room(units: Sequence[_Unit], group: TokenizedGroup, shape: RowShape) -> bool:
    responses = {r for sides, _ in units for r in sides}
    tokens = len(group.prompt) + sum(len(group.responses[r]) for r in responses)
    return tokens <= shape.tokens and _has_slots(units, shape)


def _parts(units: Sequence[_Unit], group: TokenizedGroup, shape: RowShape) -> Iterator[list[_Unit]]:
    """Split units into parts that each have room in a row, a unit that is too large by itself alone.

    Responses that are compared with no others (the two of a tie, say) are a part of their own, which fills up some row,
    unless the prompt is long: it is what such a part costs.
    """
    parts = _connected(units, group, shape)
    if len(group.prompt) * _LONG_PROMPT <= shape.tokens:
        yield from parts
        return
    joined: list[list[_Unit]] = []
    for part in parts:
        together = next((other for other in joined if _has_room([*other, *part], group, shape)), None)
        if together is None:
            joined.append(part)
        else:
            together += part
    yield from joined


def _connected(units: Sequence[_Unit], group: TokenizedGroup, shape: RowShape) -> Iterator[list[_Unit]]:
    """Split units into parts whose responses are connected by comparisons, each as full as it can be."""
    rest = list(units)
    while rest:
        part = [rest.pop(0)]
        while True:
            inside = {r for sides, _ in part for r in sides}
            # What was cut has no room for more, but may be compared again.
            room = max(0, shape.tokens - len(group.prompt) - sum(len(group.responses[r]) for r in inside))
            touching = [unit for unit in rest if len(unit[0]) == 1 or not inside.isdisjoint(unit[0])]
            # Each but for one of its sides is inside. Those that nothing else wants come first: the others will be
            # encoded in another part as well.
            wanted = collections.Counter(r for sides, _ in rest for r in sides)
            new = {r for sides, _ in touching for r in sides} - inside
            order = sorted(new, key=lambda r: (wanted[r], -len(group.responses[r]), r))
            inside.update(order[at] for at in _fullest([len(group.responses[r]) for r in order], room))
            before = len(part)
            for unit in touching:
                if inside.issuperset(unit[0]) and _has_slots([*part, unit], shape):
                    part.append(unit)
            if len(part) == before:
                break
            rest = [unit for unit in rest if unit not in part]
        yield part


def _lay_out(rows: list[list[_Piece]], shape: RowShape, tallies: dict, head: Sequence[int] = ()) -> Rows:
    """Write rows of pieces, each after a head of its own, which the shape leaves out."""
    n, i32, f32 = len(rows), np.int32, np.float32
    width, begun = len(head) + shape.tokens, len(head)
    token_fields = {f: np.zeros((n, width), i32) for f in ("tokens", "positions", "group_ids", "response_ids")}
    token_fields["tokens"][:, :begun] = head
    token_fields["positions"][:, :begun] = np.arange(begun)
    token_fields["group_ids"][:, :begun] = HEAD
    ends, group_of, response_of = (np.full((n, shape.responses), -1, i32) for _ in range(3))
    sides = {f: np.zeros((n, shape.comparisons), i32) for f in ("left", "right", "kind", "attribute")}
    attributes = {"": 0}
    numbers = {f: np.zeros((n, shape.comparisons), f32) for f in ("target", "weight", "margin")}
    for row, pieces in enumerate(rows):
        t, slot, c = begun, 0, 0
        for g, piece in enumerate(pieces, start=1):
            group, start = piece.group, t
            t += len(group.prompt)
            token_fields["tokens"][row, start:t] = group.prompt
            token_fields["positions"][row, start:t] = begun + np.arange(len(group.prompt))
            slots = {-1: -1}
            for r, length in zip(piece.responses, piece.lengths, strict=True):
                span = slice(t, t + length)
                ids = group.responses[r]
                token_fields["tokens"][row, span] = cut_to(ids, length, group.ending)
                token_fields["positions"][row, span] = begun + len(group.prompt) + np.arange(length)
                token_fields["response_ids"][row, span] = slot + 1
                t += length
                ends[row, slot] = t - 1
                group_of[row, slot], response_of[row, slot] = group.index, r
                slots[r] = slot
                slot += 1
            token_fields["group_ids"][row, start:t] = g
            chosen = list(piece.comparisons)
            span = slice(c, c + len(chosen))
            for side in ("left", "right"):
                sides[side][row, span] = [slots[int(r)] for r in getattr(group, side)[chosen]]
            sides["kind"][row, span] = group.kind[chosen]
            if group.attributes:
                named = [group.attributes[c] for c in chosen]
                sides["attribute"][row, span] = [attributes.setdefault(name, len(attributes)) for name in named]
            for name, values in numbers.items():
                values[row, span] = getattr(group, name)[chosen]
            c += len(chosen)
    return Rows(
        batch=Batch(**token_fields, response_ends=ends, **sides, **numbers),
        groups=group_of,
        responses=response_of,
        truncated=tallies["truncated"],
        equal=tallies["equal"],
        real_tokens=int((token_fields["group_ids"] != 0).sum()),
        unpacked_tokens=tallies["unpacked"],
        attributes=tuple(attributes)[1:],
    )
