"""Scorers that know nothing, or everything: what a benchmark must give them is arithmetic, not measurement."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from crome_jax.augment.seeds import derive_seed
from crome_jax.evaluation.strata import word_count
from crome_jax.groups import PreferenceGroup

Scorer = Callable[[Sequence[PreferenceGroup]], list[Float[np.ndarray, "R"]]]


def score_length(groups: Sequence[PreferenceGroup]) -> list[Float[np.ndarray, "R"]]:
    """Reward words: the rule that the longer answer is the better one."""
    return [np.array([float(word_count(r.text)) for r in group.responses]) for group in groups]


def score_random(groups: Sequence[PreferenceGroup], seed: int = 0) -> list[Float[np.ndarray, "R"]]:
    """Draw every reward from the uniform distribution, by what the response says and not by where it stands."""
    return [
        np.array([derive_seed("random", seed, group.id, r.text) / 2**64 for r in group.responses]) for group in groups
    ]


def score_constant(groups: Sequence[PreferenceGroup]) -> list[Float[np.ndarray, "R"]]:
    """Give every response the same reward."""
    return [np.zeros(len(group.responses)) for group in groups]


def score_first(groups: Sequence[PreferenceGroup]) -> list[Float[np.ndarray, "R"]]:
    """Prefer whichever response stands first: the peeking at order that must get what chance gives."""
    return [-np.arange(len(group.responses), dtype=np.float64) for group in groups]


def score_oracle(groups: Sequence[PreferenceGroup]) -> list[Float[np.ndarray, "R"]]:
    """Reward a benchmark's chosen responses with 1 and all others with 0."""
    rewards = []
    for group in groups:
        reward = np.zeros(len(group.responses))
        reward[[int(place) for place in str(group.metadata["chosen_at"]).split(",")]] = 1.0
        rewards.append(reward)
    return rewards


TRIVIAL = {
    "length": score_length,
    "random": score_random,
    "constant": score_constant,
    "first": score_first,
    "oracle": score_oracle,
}
"""Name to scorer."""
