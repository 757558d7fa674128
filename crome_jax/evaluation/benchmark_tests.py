"""Whether two models differ in a benchmark's scores: on the examples that both were measured on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crome_jax.evaluation.bootstrap import Bootstrap, Weighed
from crome_jax.evaluation.part_files import StoredPart, StoredRow


def compare_scores(left: Sequence[StoredRow], right: Sequence[StoredRow], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Compare two models line by line of a benchmark's table.

    A line is compared where both have it of as many parts with the same shares, and share examples of each.

    Args:
        left, right: the rows of either's table, as read_parts gives them.

    Returns:
        Of each line of `right` that is compared: `section`, `name` and `level`; `difference`, left's score less
        right's, both of the shared examples; its `interval`, and `p`, how likely a difference as large is by chance
        (bootstrap, two-sided), both None where one prompt leaves them unknown; and the number of `examples`.
    """
    there: Mapping[tuple[str, str, str], StoredRow] = {row[:3]: row for row in left}
    found = []
    for row in right:
        other = there.get(row[:3])
        paired = None if other is None else _pair(other, row)
        if not paired:
            continue
        difference, interval, p = bootstrap.composite_difference(paired, together=row.together)
        found.append(
            {
                "section": row.section,
                "name": row.name,
                "level": row.level,
                "difference": difference,
                "interval": None if interval is None else list(interval),
                "p": p,
                "examples": sum(len(values) for _, values, _ in paired),
            }
        )
    return found


def _pair(left: StoredRow, right: StoredRow) -> list[Weighed] | None:
    shares = [[share for share, _ in row.parts] for row in (left, right)]
    if len(shares[0]) != len(shares[1]) or not np.allclose(*shares, rtol=0, atol=1e-12):
        return None
    paired = [
        (share, *_differences(ours, theirs)) for (share, theirs), (_, ours) in zip(right.parts, left.parts, strict=True)
    ]
    return paired if all(len(values) for _, values, _ in paired) else None


def _differences(ours: StoredPart, theirs: StoredPart) -> tuple[np.ndarray, np.ndarray]:
    """Return what ours has more on the examples that both have, and their prompts."""
    places = {example: at for at, example in enumerate(ours.examples)}
    shared = [at for at, example in enumerate(theirs.examples) if example in places]
    values = ours.values[[places[theirs.examples[at]] for at in shared]]
    return values - theirs.values[shared], theirs.prompts[shared]
