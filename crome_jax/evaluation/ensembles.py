"""Several reward models as one: a usual baseline of robustness."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from crome_jax.errors import CromeError
from crome_jax.evaluation.leads import is_pairwise

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

    Raises:
        CromeError: where a member is a pairwise model.

    Source: Coste et al. 2023, "Reward Model Ensembles Help Mitigate Overoptimization", arXiv 2310.02743: the mean, and
    the worst case of equation 3.
    """
    if any(map(is_pairwise, rewards)):
        raise CromeError("an ensemble is of rewards, and a pairwise model gives none; leave it out of --checkpoint")
    return ENSEMBLES[how](np.stack([np.asarray(member, np.float32) for member in rewards]))
