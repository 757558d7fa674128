"""Groups to fixed-shape rows: the prompt once, each distinct response once."""

import bisect
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from crome_jax.batch import FIELDS, Batch
from crome_jax.errors import CromeError, DataError


@dataclasses.dataclass(frozen=True)
class TokenizedGroup:
    """A group as token ids.

    Args:
        index: which group of the data set this is; rows point back at it.
        prompt: token ids up to where a response begins.
        responses: token ids of each response, its end-of-turn token last.
        left, right, kind: i32 [C], as the group's comparisons; a right of -1 says that left holds both answers.
        target, weight, margin: f32 [C].
        attributes: of each comparison, the attribute that metrics count it under, empty for none; () where there are
            none at all.
        cut: responses that were cut already, as two answers in one slot are.
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


_COMPARED = ("left", "right", "kind", "target", "weight", "margin")


@dataclasses.dataclass(frozen=True)
class RowShape:
    """The fixed sizes of a row.

    Args:
        tokens: T.
        responses: R, response slots.
        comparisons: C, comparison slots.

    Raises:
        CromeError: where no pair could ever be placed.
    """

    tokens: int
    responses: int
    comparisons: int

    def __post_init__(self):
        for name, least in (("tokens", 4), ("responses", 2), ("comparisons", 1)):
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
        real_tokens: tokens that are not padding.
        unpacked_tokens: what encoding both sides of every comparison with its own prompt would take.
        attributes: names of the attributes that comparisons move, however many.
    """

    batch: Batch
    groups: np.ndarray
    responses: np.ndarray
    truncated: int
    real_tokens: int
    unpacked_tokens: int
    attributes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.groups.shape[0]

    def take(self, numbers: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows of these numbers, as the fields of a Batch; `attribute` where any comparison has one."""
        names = (*FIELDS, "attribute") if self.attributes else FIELDS
        return {name: getattr(self.batch, name)[np.asarray(numbers)] for name in names}


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
            for name in ("truncated", "real_tokens", "unpacked_tokens")
        },
    )


@dataclasses.dataclass(frozen=True)
class _Piece:
    """What goes into one row together: a prompt, some of its responses, and the comparisons between those."""

    group: TokenizedGroup
    responses: tuple[int, ...]
    comparisons: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return len(self.group.prompt) + sum(self.lengths)


def pack(
    groups: Iterable[TokenizedGroup], shape: RowShape, *, every_response: bool = False, open_rows: int = 32
) -> Rows:
    """Lay groups into rows, first fit over a bounded number of open rows, in the order given.

    A group that fits into a row is never split. A larger one is split by its comparisons, its prompt repeated; a pair
    that does not fit even alone has its longer responses cut, the end-of-turn token kept, and is counted.

    Args:
        every_response: also place responses that no comparison needs (to score them all); without it they are left out.
        open_rows: how many unfinished rows are tried before the fullest is closed.

    Raises:
        DataError: where a prompt leaves no room for its responses, or nothing was given.
    """
    tallies = {"truncated": 0, "unpacked": 0}
    finished: list[list[_Piece]] = []
    rows: list[list[_Piece]] = []
    for group in groups:
        for piece in _pieces(group, shape, every_response, tallies):
            row = next((row for row in rows if _fits(row, piece, shape)), None)
            if row is None:
                row = []
                rows.append(row)
            row.append(piece)
            if len(rows) > open_rows:
                fullest = max(rows, key=lambda r: sum(p.tokens for p in r))
                rows.remove(fullest)
                finished.append(fullest)
    finished += rows
    if not finished:
        raise DataError("holds nothing to train on or to score", fix="give records with comparisons")
    return _lay_out(finished, shape, tallies)


def pack_tightly(groups: Iterable[TokenizedGroup], shapes: Sequence[RowShape], *, open_rows: int = 32) -> list[Rows]:
    """Lay every response of groups into rows of several lengths, so that little is padding; comparisons are left out.

    Groups are placed the largest first, each into the row whose room it fills best, or into a new row of the shortest
    shape that holds it: what a large one leaves is filled by small ones (best fit, decreasing). One that no shape holds
    is split for the longest, as `pack` does.

    Args:
        shapes: the shortest first, with slots for as many responses.
        open_rows: how many rows with enough tokens left are tried before a new one is begun.

    Returns:
        The rows of each shape that has some, the shortest first.

    Raises:
        DataError: where a prompt leaves no room for its responses.
    """
    tallies = {"truncated": 0, "unpacked": 0}
    longest = shapes[-1]
    alone = (dataclasses.replace(group, **dict.fromkeys(_COMPARED, np.zeros(0, np.int32))) for group in groups)
    pieces = [piece for group in alone for piece in _pieces(group, longest, True, tallies)]
    rows: dict[int, list[list[_Piece]]] = {n: [] for n in range(len(shapes))}
    room: list[tuple[int, int, int]] = []  # Of every row with room: tokens left, its shape, its number.
    for piece in sorted(pieces, key=lambda piece: -piece.tokens):
        first = bisect.bisect_left(room, (piece.tokens,))
        tried = range(first, min(first + open_rows, len(room)))  # Enough tokens, but perhaps not enough slots.
        at = next((at for at in tried if _fits(rows[room[at][1]][room[at][2]], piece, shapes[room[at][1]])), None)
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
    return [_lay_out(rows[n], s, tallies if s is longest else none_cut) for n, s in enumerate(shapes) if rows[n]]


def _fits(row: list[_Piece], piece: _Piece, shape: RowShape) -> bool:
    both = [*row, piece]
    return (
        sum(p.tokens for p in both) <= shape.tokens
        and sum(len(p.responses) for p in both) <= shape.responses
        and sum(len(p.comparisons) for p in both) <= shape.comparisons
    )


def _pieces(group: TokenizedGroup, shape: RowShape, every_response: bool, tallies: dict) -> Iterator[_Piece]:
    """Split a group into pieces that each fit a row: one where that is possible."""
    room = shape.tokens - len(group.prompt)
    units = [
        (tuple(int(r) for r in sides if r >= 0), (c,))
        for c, sides in enumerate(zip(group.left, group.right, strict=True))
    ]
    tallies["unpacked"] += sum(len(group.prompt) + len(group.responses[r]) for sides, _ in units for r in sides)
    tallies["truncated"] += group.cut
    if every_response:
        used = {r for sides, _ in units for r in sides}
        units += [((r,), ()) for r in range(len(group.responses)) if r not in used]
    lengths: dict[int, int] = {}
    comparisons: list[int] = []

    def piece() -> _Piece:
        return _Piece(group, tuple(lengths), tuple(comparisons), tuple(lengths.values()))

    for sides, compared in units:
        wanted = {r: len(group.responses[r]) for r in sides if r not in lengths}
        full = (
            sum(lengths.values()) + sum(wanted.values()) > room
            or len(lengths) + len(wanted) > shape.responses
            or len(comparisons) + len(compared) > shape.comparisons
        )
        if full and lengths:
            yield piece()
            lengths, comparisons = {}, []
            wanted = {r: len(group.responses[r]) for r in sides}
        if sum(wanted.values()) > room:
            wanted = share_room(wanted, room)
            tallies["truncated"] += sum(n < len(group.responses[r]) for r, n in wanted.items())
        lengths.update(wanted)
        comparisons.extend(compared)
    if lengths:
        yield piece()


def check_room(prompt: int, tokens: int) -> None:
    """Raise DataError where a prompt of so many tokens leaves a row of so many no room for responses."""
    # Two responses of at least 16 tokens: less says nothing about an answer.
    if prompt + 32 > tokens:
        raise DataError(
            f"takes {prompt} tokens; a row has {tokens} and its responses need 32",
            field="prompt",
            fix="raise RowShape.tokens, shorten the prompt, or pass --skip-bad",
        )


def share_room(wanted: dict[int, int], room: int) -> dict[int, int]:
    """Share the room among responses that do not fit: the shorter keeps what it needs, the longer gets the rest.

    Args:
        wanted: tokens of each response.
        room: tokens there are for all of them.

    Returns:
        Tokens that each keeps.

    Raises:
        DataError: where there is next to no room.
    """
    if room < 2 * len(wanted):
        raise DataError(
            f"leaves {max(room, 0)} tokens of the row for {len(wanted)} responses",
            field="prompt",
            fix="raise the row's tokens, shorten the prompt, or pass --skip-bad",
        )
    shared = {}
    left = room
    for i, (r, n) in enumerate(sorted(wanted.items(), key=lambda item: item[1])):
        shared[r] = min(n, left // (len(wanted) - i))
        left -= shared[r]
    return {r: shared[r] for r in wanted}


def cut_to(ids: Sequence[int], length: int) -> Sequence[int]:
    """Cut a response to `length` tokens; it keeps its last, the end of its turn: that is the one that is scored."""
    return ids if length == len(ids) else [*ids[: length - 1], ids[-1]]


def _lay_out(rows: list[list[_Piece]], shape: RowShape, tallies: dict) -> Rows:
    n, i32, f32 = len(rows), np.int32, np.float32
    token_fields = {f: np.zeros((n, shape.tokens), i32) for f in ("tokens", "positions", "group_ids", "response_ids")}
    ends, group_of, response_of = (np.full((n, shape.responses), -1, i32) for _ in range(3))
    sides = {f: np.zeros((n, shape.comparisons), i32) for f in ("left", "right", "kind", "attribute")}
    attributes = {"": 0}
    numbers = {f: np.zeros((n, shape.comparisons), f32) for f in ("target", "weight", "margin")}
    for row, pieces in enumerate(rows):
        t, slot, c = 0, 0, 0
        for g, piece in enumerate(pieces, start=1):
            group, start = piece.group, t
            t += len(group.prompt)
            token_fields["tokens"][row, start:t] = group.prompt
            token_fields["positions"][row, start:t] = np.arange(len(group.prompt))
            slots = {-1: -1}
            for r, length in zip(piece.responses, piece.lengths, strict=True):
                span = slice(t, t + length)
                ids = group.responses[r]
                token_fields["tokens"][row, span] = cut_to(ids, length)
                token_fields["positions"][row, span] = len(group.prompt) + np.arange(length)
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
        real_tokens=int((token_fields["group_ids"] > 0).sum()),
        unpacked_tokens=tallies["unpacked"],
        attributes=tuple(attributes)[1:],
    )
