"""The rewards that a model gave to a data set, kept beside its run: what is scored once is not scored again."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crome_jax.data.loading import fingerprint_groups
from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.groups import PreferenceGroup


def rewards_path(run: Path | str, groups: Sequence[PreferenceGroup]) -> Path:
    """Return where the rewards of these groups are kept: in the run's folder, under the groups' own fingerprint."""
    return Path(run) / "rewards" / f"{fingerprint_groups(groups)[:32]}.npz"


def write_rewards(run: Path | str, groups: Sequence[PreferenceGroup], rewards: Sequence[np.ndarray]) -> None:
    """Keep the rewards of groups, in place of those that are there.

    Args:
        rewards: one array [R] per group, in nats.

    Raises:
        CromeError: where they cannot be written; what was there is then as it was.
    """
    with whole_output(rewards_path(run, groups), overwrite=True) as partial, partial.open("wb") as file:
        np.savez(file, rewards=np.concatenate([np.asarray(reward, np.float32) for reward in rewards]))


def read_rewards(run: Path | str, groups: Sequence[PreferenceGroup]) -> list[np.ndarray]:
    """Return the rewards kept for these groups, one array [R] for each.

    Raises:
        CromeError: where there are none, or the file is damaged.
    """
    path = rewards_path(run, groups)
    counts = [len(group.responses) for group in groups]
    try:
        with np.load(path) as there:
            rewards = there["rewards"]
        if rewards.shape != (sum(counts),):
            raise ValueError(f"rewards of shape {rewards.shape} for {sum(counts)} responses")
    except FileNotFoundError:
        raise CromeError(f"{path}: does not exist; run the sweep, or the study, again") from None
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise CromeError(f"{path}: damaged ({e}); delete it, and run the same command again") from None
    return np.split(rewards, np.cumsum(counts)[:-1])
