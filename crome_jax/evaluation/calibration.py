"""Calibration: whether comparisons called with 80% probability are right 80% of the time."""

from typing import Any

import numpy as np

from crome_jax.evaluation.accuracy import Outcomes

BINS = 5
"""Equal bins of confidence between 0.5 and 1."""


def measure_calibration(outcomes: Outcomes) -> dict[str, Any]:
    """Set the model's confidence in the side it prefers against how often it is right.

    Confidence is sigmoid(|difference|), so it lies in [0.5, 1].

    Returns:
        `log_loss` of the targets (nats per comparison); `expected_accuracy`, the mean confidence;
        `calibration_error`, the mean over comparisons of |accuracy - confidence| of their bin; `bins`, each with
        `confidence`, `accuracy` and `comparisons`. None, and no bins, where there are no comparisons.
    """
    if not len(outcomes):
        return {"log_loss": None, "expected_accuracy": None, "calibration_error": None, "bins": []}
    d, t = outcomes.difference, outcomes.target
    log_loss = t * np.logaddexp(0, -d) + (1 - t) * np.logaddexp(0, d)
    confidence = 0.5 + 0.5 * np.tanh(0.5 * np.abs(d))
    correct = outcomes.correct
    bins, error = [], 0.0
    index = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    for b in range(BINS):
        inside = index == b
        if inside.any():
            said, seen = float(confidence[inside].mean()), float(correct[inside].mean())
            bins.append({"confidence": said, "accuracy": seen, "comparisons": int(inside.sum())})
            error += abs(said - seen) * float(inside.mean())
    return {
        "log_loss": float(log_loss.mean()),
        "expected_accuracy": float(confidence.mean()),
        "calibration_error": error,
        "bins": bins,
    }


def fit_scale(outcomes: Outcomes, *, steps: int = 50) -> float | None:
    """Return the a for which sigmoid(a d) fits the targets best, d being the reward differences.

    1 is calibrated; below 1 the model is too sure of itself, above 1 not sure enough, below 0 it prefers the wrong
    side more than the right one.

    Args:
        steps: of Newton's method, at most.

    Returns:
        None where there are no comparisons or differences, or no a is best: every comparison is right (or wrong).
    """
    d, t = outcomes.difference, outcomes.target
    if not len(outcomes) or not np.any(d) or np.all(d * (t - 0.5) >= 0) or np.all(d * (t - 0.5) <= 0):
        return None
    a = 0.0
    for _ in range(steps):
        p = 0.5 + 0.5 * np.tanh(0.5 * a * d)
        step = float(np.sum((t - p) * d) / max(np.sum(p * (1 - p) * d * d), 1e-12))
        a += float(np.clip(step, -2.0, 2.0))  # The loss is convex; far off, Newton's step overshoots.
        if abs(step) < 1e-10:
            break
    return a
