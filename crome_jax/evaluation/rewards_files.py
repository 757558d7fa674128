"""The rewards that a model gave to a data set, kept beside its run: what is scored once is not scored again."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crome_jax.data.loading import fingerprint_groups
from crome_jax.errors import CromeError
from crome_jax.evaluation.leads import is_pairwise
from crome_jax.files import place, whole_output
from crome_jax.groups import PreferenceGroup


def rewards_path(run: Path | str, groups: Sequence[PreferenceGroup]) -> Path:
    """Return where the rewards of these groups are kept: in the run's folder, under the groups' own fingerprint."""
    return place(run) / "rewards" / f"{fingerprint_groups(groups)[:32]}.npz"


def write_rewards(run: Path | str, groups: Sequence[PreferenceGroup], rewards: Sequence[np.ndarray]) -> None:
    """Keep the rewards of groups, in place of those that are there.

    Args:
        rewards: one array [R] per group, in nats; of a pairwise model log-odds [R, R].

    Raises:
        CromeError: where they cannot be written; what was there is then as it was.
    """
    name = "log_odds" if any(map(is_pairwise, rewards)) else "rewards"
    with whole_output(rewards_path(run, groups), overwrite=True) as partial, partial.open("wb") as file:
        np.savez(file, **{name: np.concatenate([np.asarray(reward, np.float32).ravel() for reward in rewards])})


def read_rewards(run: Path | str, groups: Sequence[PreferenceGroup]) -> list[np.ndarray]:
    """Return the rewards kept for these groups, one array [R] for each; of a pairwise model log-odds [R, R].

    Raises:
        CromeError: where there are none, or the file is damaged.
    """
    path = rewards_path(run, groups)
    counts = [len(group.responses) for group in groups]
    try:
        with np.load(path) as there:
            pairwise = "log_odds" in there
            rewards = there["log_odds" if pairwise else "rewards"]
        sizes = [count**2 if pairwise else count for count in counts]
        if rewards.shape != (sum(sizes),):
            raise ValueError(f"rewards of shape {rewards.shape} for {sum(counts)} responses")
    except FileNotFoundError:
        raise CromeError(f"{path}: does not exist; run the sweep, or the study, again") from None
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise CromeError(f"{path}: damaged ({e}); delete it, and run the same command again") from None
    parts = np.split(rewards, np.cumsum(sizes)[:-1])
    return [part.reshape(count, count) for part, count in zip(parts, counts, strict=True)] if pairwise else parts
