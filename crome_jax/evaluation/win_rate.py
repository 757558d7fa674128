"""AlpacaEval 2's win rate against a baseline, plain and length-controlled (Dubois et al. 2024, arXiv 2404.04475).

The preference of each instruction (the probability that the model's output is better) is fitted by a logistic
regression without intercept on

    tanh(length difference / its standard deviation),  instruction difficulty,  1,

and the length-controlled win rate is the mean prediction with a length difference of zero. Lengths are in characters,
as in tatsu-lab/alpaca_eval @ cd543a1, src/alpaca_eval/metrics/glm_winrate.py. Two things there need its authors' files:
the difficulty of each instruction (left out unless given), and the preferences of two models that play on length, which
regularise the fit with weight 0.2 (left out). The original fits by L1 with cross-validation; here the ridge is RIDGE.
So the numbers are close to its leaderboard's, not equal.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from crome_jax.errors import CromeError
from crome_jax.evaluation.bootstrap import Bootstrap

RIDGE = 1e-3
_STEPS = 100


def win_rate(preferences: Float[np.ndarray, "N"], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the plain win rate, the mean preference, with its interval.

    Args:
        preferences: of each instruction the probability that the model's output is the better one; 0.5 is a draw.
    """
    interval = bootstrap.mean_interval(preferences, np.arange(len(preferences)))
    return {"win_rate": float(np.mean(preferences)), "interval": list(interval) if interval else None}


def length_controlled_win_rate(
    preferences: Float[np.ndarray, "N"],
    lengths: Float[np.ndarray, "N"],
    baseline_lengths: Float[np.ndarray, "N"],
    difficulty: Float[np.ndarray, "N"] | None = None,
    weights: Float[np.ndarray, "N"] | None = None,
) -> dict[str, Any]:
    """Return the win rate that the model would have if its outputs were as long as the baseline's.

    Args:
        preferences: of each instruction the probability that the model's output is the better one.
        lengths, baseline_lengths: of the outputs, in characters.
        difficulty: of each instruction, as AlpacaEval publishes it; None leaves the term out.
        weights: where an instruction has several outputs, how much each counts of it; None counts each once.

    Returns:
        `win_rate`, and the `weights` of `length`, `difficulty` (where given) and `model`.

    Raises:
        CromeError: where there are no preferences, or one is no probability.
    """
    preferences = np.asarray(preferences, np.float64)
    if not len(preferences):
        raise CromeError("there is no preference to fit; give some")
    if not np.isfinite(preferences).all() or preferences.min() < 0 or preferences.max() > 1:
        raise CromeError("a preference is no probability; give numbers from 0 to 1")
    counts = np.ones(len(preferences)) if weights is None else np.asarray(weights, np.float64)
    difference = np.asarray(lengths, np.float64) - np.asarray(baseline_lengths, np.float64)
    apart = difference - np.average(difference, weights=counts)
    instructions = counts.sum()
    spread = math.sqrt(float(counts @ apart**2) / (instructions - 1)) if instructions > 1 else 0.0
    features = {"length": np.tanh(difference / spread) if spread > 0 else np.zeros(len(difference))}
    if difficulty is not None:
        features["difficulty"] = np.asarray(difficulty, np.float64)
    features["model"] = np.ones(len(preferences))
    matrix = np.stack(list(features.values()), axis=1)
    fitted = fit_logistic(matrix, preferences, counts)
    controlled = matrix.copy()
    controlled[:, 0] = 0.0
    found = float(np.average(_sigmoid(controlled @ fitted), weights=counts))
    return {"win_rate": found, "weights": dict(zip(features, map(float, fitted), strict=True))}


def fit_logistic(
    matrix: Float[np.ndarray, "N F"], targets: Float[np.ndarray, "N"], counts: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "F"]:
    """Fit a logistic regression without intercept to probabilities, by Newton's method, with a ridge of RIDGE.

    Args:
        counts: how often each row counts.
    """
    weights = np.zeros(matrix.shape[1])
    for _ in range(_STEPS):
        p = _sigmoid(matrix @ weights)
        gradient = matrix.T @ (counts * (targets - p)) - RIDGE * weights
        hessian = (matrix * (counts * p * (1 - p))[:, None]).T @ matrix + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        weights += step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    return weights


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)
