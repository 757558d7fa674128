"""Several reward models as one: a usual baseline of robustness."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

ENSEMBLES: dict[str, Callable[[Float[np.ndarray, "M R"]], Float[np.ndarray, "R"]]] = {
    "mean": lambda rewards: rewards.mean(axis=0),
    "worst": lambda rewards: rewards.min(axis=0),
}
"""What becomes of the members' rewards of each response."""


def combine(rewards: Sequence[Float[np.ndarray, "R"]], how: str) -> Float[np.ndarray, "R"]:
    """Combine the rewards that M models give to the same responses.

    Rewards are taken as they come (chosen here). A constant that a member adds to all of its rewards moves every mean
    alike, so comparisons stay what they are; in the worst case it decides how often that member is the lowest. Members
    that differ in their seed alone start from the same head and are near enough to each other.

    Args:
        rewards: M arrays of equal length, in nats.
        how: "mean", or "worst": the lowest of each response (worst-case optimisation).

    Source: Coste et al. 2023, "Reward Model Ensembles Help Mitigate Overoptimization", arXiv 2310.02743: the mean, and
    the worst case of equation 3.
    """
    return ENSEMBLES[how](np.stack([np.asarray(member, np.float32) for member in rewards]))
