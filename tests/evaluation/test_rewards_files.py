"""Rewards come back as they were kept, for the groups they belong to and no others."""

import numpy as np
import pytest

from crome_jax.errors import CromeError
from crome_jax.evaluation.rewards_files import read_rewards, rewards_path, write_rewards
from crome_jax.groups import Comparison, build_group

GROUPS = [
    build_group(id="a", prompt="q", responses=["x", "y", "z"], comparisons=[Comparison(0, 1)]),
    build_group(id="b", prompt="r", responses=["x", "y"], comparisons=[Comparison(0, 1)]),
]
REWARDS = [np.array([1.5, -2.0, 0.1], np.float32), np.array([3.0, 4.0], np.float32)]


def test_what_is_read_is_what_was_written(tmp_path):
    write_rewards(tmp_path, GROUPS, REWARDS)
    write_rewards(tmp_path, GROUPS, REWARDS)
    for there, given in zip(read_rewards(tmp_path, GROUPS), REWARDS, strict=True):
        np.testing.assert_array_equal(there, given)
    assert len(list(rewards_path(tmp_path, GROUPS).parent.iterdir())) == 1


def test_other_groups_have_none(tmp_path):
    write_rewards(tmp_path, GROUPS, REWARDS)
    with pytest.raises(CromeError, match=r"\.npz: does not exist"):
        read_rewards(tmp_path, GROUPS[:1])


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_named(tmp_path, damage):
    write_rewards(tmp_path, GROUPS, REWARDS)
    path = rewards_path(tmp_path, GROUPS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(CromeError, match=f"{path}: damaged .*; delete it"):
        read_rewards(tmp_path, GROUPS)
