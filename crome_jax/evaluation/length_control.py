"""Accuracy when length is held equal: what of a reward model's accuracy is not the length of the answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crome_jax.evaluation.accuracy import Outcomes
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.strata import word_count
from crome_jax.groups import PreferenceGroup

_REFITS = 400


def measure_length_control(
    groups: Sequence[PreferenceGroup], decided: Outcomes, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Estimate the accuracy that a reward would have if the two responses were equally long.

    The reward difference d of a comparison is regressed on x, the preferred response's doublings of length over the
    other's: d = a + b x. The intercept takes up that the preferred response is better, so that b is what length alone
    brings; the comparison then counts by the sign of d - b x. It is the idea of AlpacaEval 2's length control (Dubois
    et al. 2024, arXiv 2404.04475), a prediction at a length difference of zero, for rewards in place of verdicts.

    Args:
        decided: comparisons that prefer one side, of `groups`.

    Returns:
        `accuracy`, `interval` (b is fitted again to each set of prompts drawn), `slope` b in nats for each doubling
        and its `slope_interval`, and `balanced`: the mean of the accuracies where the longer answer is preferred and
        where the shorter is. None where length never differs or there are no comparisons.
    """
    nothing = dict.fromkeys(("accuracy", "interval", "slope", "slope_interval", "balanced"))
    if not len(decided):
        return nothing
    x = _doublings(groups, decided)
    if np.ptp(x) == 0:
        return nothing
    d = decided.difference
    slope = _slope(x, d)
    longer, shorter = x > 0, x < 0
    both = [decided.correct[side].mean() for side in (longer, shorter) if side.any()]
    accuracies, slopes = _refit(x, d, decided.prompt, bootstrap)
    tail = (1 - bootstrap.confidence) / 2
    interval = lambda values: np.quantile(values, [tail, 1 - tail]).tolist() if len(values) > 1 else None  # noqa: E731
    return {
        "accuracy": _controlled(x, d, slope),
        "interval": interval(accuracies),
        "slope": slope,
        "slope_interval": interval(slopes),
        "balanced": float(np.mean(both)) if len(both) == 2 else None,
    }


def _doublings(groups: Sequence[PreferenceGroup], decided: Outcomes) -> Float[np.ndarray, "N"]:
    found = []
    for g, c in zip(decided.group, decided.comparison, strict=True):
        comparison = groups[g].comparisons[c]
        words = [word_count(groups[g].responses[side].text) for side in (comparison.left, comparison.right)]
        more = np.log2(max(words[0], 1) / max(words[1], 1))
        found.append(more if comparison.target > 0.5 else -more)
    return np.array(found, np.float64)


def _slope(x: Float[np.ndarray, "N"], d: Float[np.ndarray, "N"]) -> float:
    centred = x - x.mean()
    spread = float(centred @ centred)
    return float(centred @ d) / spread if spread > 0 else 0.0


def _controlled(x: Float[np.ndarray, "N"], d: Float[np.ndarray, "N"], slope: float) -> float:
    return float((0.5 + 0.5 * np.sign(d - slope * x)).mean())


def _refit(
    x: Float[np.ndarray, "N"], d: Float[np.ndarray, "N"], prompt: Int[np.ndarray, "N"], bootstrap: Bootstrap
) -> tuple[list[float], list[float]]:
    """Return accuracies and slopes of sets of prompts drawn with replacement."""
    names = np.unique(prompt)
    if len(names) < 2:
        return [], []
    rows = [np.flatnonzero(prompt == name) for name in names]
    rng = np.random.default_rng(bootstrap.seed)
    accuracies, slopes = [], []
    for _ in range(min(bootstrap.resamples, _REFITS)):
        at = np.concatenate([rows[n] for n in rng.integers(len(names), size=len(names))])
        slopes.append(_slope(x[at], d[at]))
        accuracies.append(_controlled(x[at], d[at], slopes[-1]))
    return accuracies, slopes
