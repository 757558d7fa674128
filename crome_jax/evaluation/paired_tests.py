"""Whether two models differ: on the same comparisons, with an interval and a test over prompts, and an exact test."""

from collections.abc import Sequence
from fractions import Fraction
from math import comb
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crome_jax.evaluation.bootstrap import Bootstrap


def paired_test(
    left: Float[np.ndarray, "N"], right: Float[np.ndarray, "N"], prompts: Int[np.ndarray, "N"], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Compare two models' results on the same comparisons.

    Args:
        left, right: 1 right, 0 wrong, 0.5 undecided.
        prompts: of each comparison, the unit that the bootstrap draws.

    Returns:
        `difference` (left's accuracy less right's), its `interval` and `p` (bootstrap over prompts, two-sided; both
        None where one prompt leaves them unknown), the number of `comparisons` and of `prompts`, `only_left` and
        `only_right` (comparisons that one alone gets right), and `mcnemar`, the p of McNemar's exact test that these
        two are equally likely. That takes comparisons as independent: where prompts have many, it is far too small.
    """
    difference, interval = bootstrap.paired_difference(left, right, prompts)
    only_left, only_right = int(np.sum(left > right)), int(np.sum(right > left))
    return {
        "difference": difference,
        "interval": list(interval) if interval else None,
        "p": bootstrap.paired_chance(left, right, prompts),
        "comparisons": len(left),
        "prompts": len(np.unique(prompts)),
        "only_left": only_left,
        "only_right": only_right,
        "mcnemar": mcnemar(only_left, only_right),
    }


def mcnemar(only_left: int, only_right: int) -> float:
    """Return the two-sided p of the exact binomial test on discordant pairs; 1 where there are none."""
    n = only_left + only_right
    tail = sum(comb(n, k) for k in range(min(only_left, only_right) + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**n))) if n else 1.0


def biggest_disagreements(left: Float[np.ndarray, "N"], right: Float[np.ndarray, "N"], most: int) -> Sequence[int]:
    """Return the comparisons on which two models disagree most, the strongest first.

    Only those count that one model gets right and the other wrong. Reward differences are measured in the spread of
    each model's own, so that neither decides by its scale.

    Args:
        left, right: reward differences, preferred less other (nats).
        most: at most so many.
    """
    spread = [float(np.sqrt(np.mean(d * d))) or 1.0 for d in (left, right)]
    apart = np.abs(left / spread[0] - right / spread[1])
    opposed = np.flatnonzero(np.sign(left) * np.sign(right) < 0)
    return [int(n) for n in sorted(opposed, key=lambda n: (-apart[n], n))[:most]]
