"""Best-of-N: how good the candidate is that a reward model picks from N, for every N, from M >= N candidates.

The estimator is unbiased: the mean over all sets of N of the M candidates, not one draw. With the candidates in
ascending order of reward, the i-th of M is the best of a set of N in C(i - 1, N - 1) of C(M, N) cases:

    value(N) = sum over i of v_(i) C(i - 1, N - 1) / C(M, N)

(as pass@k of Chen et al. 2021, arXiv 2107.03374, is to pass rates). Of candidates with equal rewards each is as likely
to be picked as another: they have the mean of their values.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crome_jax.errors import CromeError
from crome_jax.evaluation.bootstrap import Bootstrap


def pick_probabilities(rewards: Float[np.ndarray, "M"], n: int) -> Float[np.ndarray, "M"]:
    """Return of each candidate how likely it has the highest reward among n drawn without replacement.

    Args:
        rewards: of the candidates, by which one is picked (nats).
        n: from 1 to M.

    Raises:
        CromeError: where n is out of range, or a reward is not finite.
    """
    m = len(rewards)
    if not 1 <= n <= m:
        raise CromeError(f"best of {n} needs {n} candidates, and there are {m}; give more or take a smaller N")
    if not np.isfinite(rewards).all():
        raise CromeError("a candidate's reward is not finite; a model whose training diverged cannot pick")
    total = math.comb(m, n)
    # As fractions: binomials of a few hundred candidates overflow a float.
    by_rank = np.array([float(Fraction(math.comb(i, n - 1), total)) for i in range(m)])
    order = np.argsort(rewards, kind="stable")
    _, index = np.unique(np.asarray(rewards)[order], return_inverse=True)
    found = np.zeros(m)
    found[order] = (np.bincount(index, weights=by_rank) / np.bincount(index))[index]
    return found


def best_of_n(rewards: Float[np.ndarray, "M"], values: Float[np.ndarray, "M"], n: int) -> float:
    """Return the expected value of the candidate with the highest reward among n drawn without replacement.

    Args:
        rewards: of the candidates, by which one is picked (nats).
        values: of the candidates: 1 right and 0 wrong, say.
        n: from 1 to M.

    Raises:
        CromeError: where n is out of range, or a reward or value is not finite.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise CromeError("a candidate's value is not finite; look at what its judge read")
    return float(np.dot(pick_probabilities(rewards, n), values))


def sizes(most: int) -> list[int]:
    """Return 1, 2, 4, ... up to `most`, and that itself."""
    found = [2**k for k in range(most.bit_length()) if 2**k <= most]
    return found if found[-1] == most else [*found, most]


def best_of_n_curve(
    rewards: Sequence[Float[np.ndarray, "M"]],
    values: Sequence[Float[np.ndarray, "M"]],
    prompts: Int[np.ndarray, "G"],
    bootstrap: Bootstrap,
    most: int | None = None,
) -> dict[str, Any]:
    """Return best-of-N over N, with intervals over prompts.

    Beside it stand the curves of a picker that knows the values (`oracle`: as good as any reward model can be) and of
    one that picks blindly (`random`: the mean value, whatever N).

    Args:
        rewards, values: one array for each record; values are shares, from 0 to 1.
        prompts: of each record a number for its prompt; intervals draw prompts, with all of their records.
        most: the largest N; None goes as far as every record has candidates.

    Returns:
        `prompts`, how many differ, `candidates` (the fewest of a record) and `curve`: for each N `n`, `value`,
        `interval`, `oracle` and `random`.

    Raises:
        CromeError: where there is no record, or one has fewer candidates than `most`.
    """
    if not rewards:
        raise CromeError("there is no prompt with candidates; give some")
    fewest = min(map(len, rewards))
    curve = []
    for n in sizes(most or fewest):
        found = np.array([best_of_n(r, v, n) for r, v in zip(rewards, values, strict=True)])
        oracle = np.array([best_of_n(v, v, n) for v in values])
        interval = bootstrap.accuracy_interval(found, prompts)
        curve.append(
            {
                "n": n,
                "value": float(found.mean()),
                "interval": list(interval),
                "oracle": float(oracle.mean()),
                "random": float(np.mean([np.mean(v) for v in values])),
            }
        )
    return {"prompts": len(np.unique(prompts)), "candidates": fewest, "curve": curve}
