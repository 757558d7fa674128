"""The least that must be encoded."""

from collections.abc import Iterable

from crome_jax.data.packing import TokenizedGroup


def distinct_tokens(groups: Iterable[TokenizedGroup]) -> int:
    """Count the tokens of every prompt and of every response that is compared, each once."""
    total = 0
    for group in groups:
        compared = {*group.left.tolist(), *group.right.tolist()}
        total += len(group.prompt) + sum(len(group.responses[r]) for r in compared)
    return total
