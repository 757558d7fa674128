"""What a model says of two responses to a prompt: the difference of their rewards, or a pairwise model's log-odds.

Of a group of R responses a reward model gives R rewards. A pairwise model gives log-odds [R, R] that the response of
the row is better than that of the column: antisymmetric, NaN where the two were not compared, 0 on the diagonal.
Log-odds of three responses need not add up, so no rewards are made of them.
"""

import numpy as np
from jaxtyping import Float

Judged = Float[np.ndarray, "R"] | Float[np.ndarray, "R R"]
"""What a model gave to a group: rewards, or log-odds of every two responses (nats)."""


def is_pairwise(judged: Judged) -> bool:
    """Tell whether these are log-odds of pairs."""
    return np.ndim(judged) == 2


def lead(judged: Judged, first: int, second: int) -> float:
    """Return the log-odds that the first response is better than the second (nats)."""
    return float(judged[first, second]) if is_pairwise(judged) else float(judged[first] - judged[second])


def sides(judged: Judged, first: int, second: int) -> tuple[float, float]:
    """Return the rewards of two responses; of log-odds half to either side, so that their difference is the lead."""
    if not is_pairwise(judged):
        return float(judged[first]), float(judged[second])
    half = lead(judged, first, second) / 2
    return half, -half


def was_judged(judged: Judged) -> bool:
    """Tell whether a group was scored, rather than refused because its prompt leaves no room in a row."""
    return bool(np.isfinite(np.diagonal(judged) if is_pairwise(judged) else judged).all())


def win_probabilities(judged: Float[np.ndarray, "R R"]) -> Float[np.ndarray, "R"]:
    """Return of each response the mean, over the others, of the probability that it is the better; all were compared.

    Of a lone response it is 1/2.
    """
    wins = 0.5 + 0.5 * np.tanh(0.5 * np.asarray(judged, np.float64))
    return np.diagonal(wins) if len(wins) == 1 else (wins.sum(axis=1) - 0.5) / (len(wins) - 1)


def tie_probabilities(judged: Float[np.ndarray, "R R"], *, nu: float = 1.0) -> Float[np.ndarray, "R"]:
    """Return of each response the mean, over the others, of the probability that neither of the two is the better.

        P(tie) = nu sqrt(P(win) P(loss)) / Z = nu / (nu + 2 cosh(d / 2)),     d the log-odds

    That a response is the better where one is keeps its log-odds. nu = 1 is what Bradley-Terry's loss and Crome's make
    of a tie, each answer with probability 1/2: exp(-loss) of win, tie and loss, over their sum. Such a tie has 1/3 at
    most.

    Args:
        judged: all were compared; of a lone response the result is that of d = 0.
        nu: of a model trained by `davidson`, its own.

    Source: Davidson 1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments".
    """
    with np.errstate(over="ignore"):  # Where cosh is infinite a tie is impossible.
        ties = nu / (nu + 2.0 * np.cosh(0.5 * np.asarray(judged, np.float64)))
    return np.diagonal(ties) if len(ties) == 1 else (ties.sum(axis=1) - np.diagonal(ties)) / (len(ties) - 1)
