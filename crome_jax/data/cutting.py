"""How what is too long for a row is cut, and what is refused."""

from collections.abc import Sequence

from crome_jax.errors import DataError

_FIX = "raise the row's tokens (--row-tokens, or --gin.ROW_TOKENS in training), shorten the prompt, or pass --skip-bad"


def check_room(prompt: int, tokens: int) -> None:
    """Raise DataError where a prompt of so many tokens leaves a row of so many no room for responses."""
    # Two responses of at least 16 tokens: less says nothing about an answer.
    if prompt + 32 > tokens:
        raise DataError(
            f"takes {prompt} tokens; a row has {tokens} and its responses need 32",
            field="prompt",
            fix=_FIX,
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
            fix=_FIX,
        )
    shared = {}
    left = room
    for i, (r, n) in enumerate(sorted(wanted.items(), key=lambda item: item[1])):
        shared[r] = min(n, left // (len(wanted) - i))
        left -= shared[r]
    return {r: shared[r] for r in wanted}


def common_beginning(texts: Sequence[Sequence[int]], most: int | None = None) -> int:
    """Return how many tokens all texts begin with alike: `most` at most, and never more than the shortest has."""
    # In the order of words in a lexicon, what the first and the last begin with all between do.
    first, last = (list(text)[:most] for text in (min(texts), max(texts)))
    alike = zip(first, last, strict=False)
    return next((n for n, (a, b) in enumerate(alike) if a != b), min(len(first), len(last)))


def cut_to(ids: Sequence[int], length: int, ending: int = 1) -> Sequence[int]:
    """Cut a response to `length` tokens; it keeps its end, which begins with that of its turn: its last is scored.

    Args:
        ending: tokens of its end; as many as there is room for are kept.
    """
    kept = min(ending, length)
    return ids if length == len(ids) else [*ids[: length - kept], *ids[len(ids) - kept :]]


def are_equal_once_cut(left: Sequence[int], right: Sequence[int], kept: tuple[int, int], ending: int = 1) -> bool:
    """Tell whether two responses that differ no longer do once they are cut to `kept` tokens each."""
    if kept[0] < len(left) and kept[1] < len(right):
        kept = (min(kept),) * 2  # Of an odd room one has a token more, which says nothing.
    elif kept == (len(left), len(right)):
        return False
    return list(cut_to(left, kept[0], ending)) == list(cut_to(right, kept[1], ending))
