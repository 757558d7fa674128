"""AlpacaEval 2's length-controlled win rate against a baseline (Dubois et al. 2024, arXiv 2404.04475).

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
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crome_jax.errors import CromeError
from crome_jax.evaluation.bootstrap import Bootstrap

RIDGE = 1e-3
_STEPS = 100
_REFITS = 400


def length_controlled_win_rate(
    preferences: Float[np.ndarray, "N"],
    lengths: Float[np.ndarray, "N"],
    baseline_lengths: Float[np.ndarray, "N"],
    bootstrap: Bootstrap,
    difficulty: Float[np.ndarray, "N"] | None = None,
    weights: Float[np.ndarray, "N"] | None = None,
    instructions: Int[np.ndarray, "N"] | None = None,
) -> dict[str, Any]:
    """Return the win rate that the model would have if its outputs were as long as the baseline's.

    Args:
        preferences: of each output the probability that it is better than the baseline's.
        lengths, baseline_lengths: of the outputs, in characters.
        difficulty: of the output's instruction, as AlpacaEval publishes it; None leaves the term out.
        weights: where an instruction has several outputs, how much each counts of it; None counts each once.
        instructions: the number of each output's instruction; None has one output of each.

    Returns:
        `win_rate`, its `interval` (fitted again to each set of instructions drawn, at most 400; the Wilson interval
        where all preferences are equal; None where there is one instruction), the `weights` of
        `length`, `difficulty` (where given) and `model`, and `drawn`: the `seed` and, of each set drawn, `win_rates`.
        Of outputs of the same instructions in the same order, equal seeds draw the same sets: they are paired.

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
    terms = {} if difficulty is None else {"difficulty": np.asarray(difficulty, np.float64)}
    terms["model"] = np.ones(len(preferences))
    others = np.stack(list(terms.values()), axis=1)
    found, fitted = _controlled(preferences, difference, others, counts)
    _, index = np.unique(np.arange(len(counts)) if instructions is None else instructions, return_inverse=True)
    refits = []
    for times in _drawn(index.max() + 1, bootstrap):
        weighed = counts * times[index]
        at = np.flatnonzero(weighed)  # Of many candidates most are picked never.
        refits.append(_controlled(preferences[at], difference[at], others[at], weighed[at], fitted)[0])
    if refits and np.ptp(preferences[counts > 0]) < 1e-12:  # Which leaves refits no spread.
        interval = bootstrap.accuracy_interval(np.full(len(index), found), index)
    else:
        interval = bootstrap.bounds(np.array(refits)) if refits else None
    return {
        "win_rate": found,
        "interval": None if interval is None else list(interval),
        "weights": dict(zip(("length", *terms), map(float, fitted), strict=True)),
        "drawn": {"seed": bootstrap.seed, "win_rates": refits},
    }


def _controlled(
    preferences: Float[np.ndarray, "N"],
    difference: Float[np.ndarray, "N"],
    others: Float[np.ndarray, "N K"],
    counts: Float[np.ndarray, "N"],
    start: Float[np.ndarray, "F"] | None = None,
) -> tuple[float, Float[np.ndarray, "F"]]:
    """Return the win rate at a length difference of zero and the fit's weights, that of length first."""
    apart = difference - np.average(difference, weights=counts)
    instructions = counts.sum()
    spread = math.sqrt(float(counts @ apart**2) / (instructions - 1)) if instructions > 1 else 0.0
    length = np.tanh(difference / spread) if spread > 0 else np.zeros(len(difference))
    fitted = fit_logistic(np.column_stack([length, others]), preferences, counts, start)
    return float(np.average(_sigmoid(others @ fitted[1:]), weights=counts)), fitted


def _drawn(instructions: int, bootstrap: Bootstrap) -> Iterator[Int[np.ndarray, "I"]]:
    """Yield how often each instruction is in a set drawn with replacement; nothing of a single one."""
    if instructions < 2:
        return
    rng = np.random.default_rng(bootstrap.seed)
    for _ in range(min(bootstrap.resamples, _REFITS)):
        yield np.bincount(rng.integers(instructions, size=instructions), minlength=instructions)


def fit_logistic(
    matrix: Float[np.ndarray, "N F"],
    targets: Float[np.ndarray, "N"],
    counts: Float[np.ndarray, "N"],
    start: Float[np.ndarray, "F"] | None = None,
) -> Float[np.ndarray, "F"]:
    """Fit a logistic regression without intercept to probabilities, by Newton's method, with a ridge of RIDGE.

    Args:
        counts: how often each row counts.
        start: weights near the solution; None starts at zero.
    """
    weights = np.zeros(matrix.shape[1]) if start is None else start.copy()
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
