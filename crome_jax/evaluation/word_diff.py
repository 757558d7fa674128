"""Which words differ between two texts."""

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

_WORD = re.compile(r"\s*\S+|\s+$")


class Piece(NamedTuple):
    """A run of text, and whether the other text lacks it."""

    text: str
    differs: bool


def diff_words(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Split two texts into the words they share and the words only one of them has.

    White space goes with the word it precedes and is not compared.

    Returns:
        The pieces of `before` and of `after`; joined, either's texts give the whole text back.
    """
    left, right = _WORD.findall(before), _WORD.findall(after)
    matcher = difflib.SequenceMatcher(None, [w.strip() for w in left], [w.strip() for w in right], autojunk=False)
    marked_left, marked_right = [False] * len(left), [False] * len(right)
    for operation, i0, i1, j0, j1 in matcher.get_opcodes():
        if operation != "equal":
            marked_left[i0:i1] = [True] * (i1 - i0)
            marked_right[j0:j1] = [True] * (j1 - j0)
    return _join(zip(left, marked_left, strict=True)), _join(zip(right, marked_right, strict=True))


def shared_start(before: str, after: str) -> int:
    """Return how many characters two texts have in common at their start."""
    for i, (a, b) in enumerate(zip(before, after, strict=False)):
        if a != b:
            return i
    return min(len(before), len(after))


def _join(words: Iterable[tuple[str, bool]]) -> list[Piece]:
    pieces: list[Piece] = []
    for word, differs in words:
        if pieces and pieces[-1].differs == differs:
            pieces[-1] = Piece(pieces[-1].text + word, differs)
            continue
        # The space before a marked run is shared; marking it would underline the gap between words.
        space = word[: len(word) - len(word.lstrip())] if differs else ""
        if space and pieces:
            pieces[-1] = Piece(pieces[-1].text + space, pieces[-1].differs)
            word = word[len(space) :]
        if word:
            pieces.append(Piece(word, differs))
    return pieces
