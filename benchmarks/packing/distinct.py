"""The least that must be encoded."""

from collections.abc import Iterable

import numpy as np

from crome_jax.data.packing import Rows, TokenizedGroup


def distinct_tokens(groups: Iterable[TokenizedGroup]) -> int:
    """Count the tokens of every prompt and of every response that is compared, each once."""
    total = 0
    for group in groups:
        compared = {*group.left.tolist(), *group.right.tolist()}
        total += len(group.prompt) + sum(len(group.responses[r]) for r in compared)
    return total


def distinct_tokens_as_cut(groups: Iterable[TokenizedGroup], rows: Rows) -> int:
    """Count the tokens of every prompt and of every response in the rows, each once, a response as long as it stands.

    A response that was cut in several rows counts as the longest of what is left of it.
    """
    longest: dict[tuple[int, int], int] = {}
    for row, slots in enumerate(rows.groups):
        lengths = np.bincount(rows.batch.response_ids[row], minlength=len(slots) + 1)[1:]
        for group, response, length in zip(slots.tolist(), rows.responses[row].tolist(), lengths.tolist(), strict=True):
            if group >= 0:
                longest[group, response] = max(length, longest.get((group, response), 0))
    packed = {group for group, _ in longest}
    return sum(longest.values()) + sum(len(group.prompt) for group in groups if group.index in packed)
