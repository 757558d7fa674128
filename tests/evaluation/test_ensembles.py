"""Ensembles of reward models, by hand and by their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crome_jax.evaluation.ensembles import ENSEMBLES, combine

MEMBERS = [np.array([1.0, -2.0, 0.5]), np.array([3.0, -4.0, 0.5]), np.array([2.0, 3.0, 0.5])]
rewards = st.lists(st.tuples(*[st.floats(-100, 100, width=32)] * 4), min_size=1, max_size=5)


def test_by_hand():
    np.testing.assert_array_equal(combine(MEMBERS, "mean"), [2.0, -1.0, 0.5])  # -1 = (-2 - 4 + 3) / 3
    np.testing.assert_array_equal(combine(MEMBERS, "worst"), [1.0, -4.0, 0.5])


@pytest.mark.parametrize("how", ENSEMBLES)
@given(members=rewards)
def test_one_member_is_itself_and_order_does_not_matter(how, members):
    members = [np.array(member, np.float32) for member in members]
    np.testing.assert_array_equal(combine(members[:1], how), members[0])
    # Sums in another order: two roundings of values up to 100.
    np.testing.assert_allclose(combine(members, how), combine(members[::-1], how), atol=1e-4)
    np.testing.assert_allclose(combine(members * 2, how), combine(members, how), atol=1e-4)


def test_a_constant_of_one_member_moves_no_difference_of_means():
    shifted = [MEMBERS[0] + 100.0, *MEMBERS[1:]]
    np.testing.assert_allclose(np.diff(combine(shifted, "mean")), np.diff(combine(MEMBERS, "mean")), atol=1e-4)
    np.testing.assert_array_equal(combine(shifted, "worst"), [2.0, -4.0, 0.5])  # It is never the lowest any more.


@pytest.mark.parametrize("how", ENSEMBLES)
def test_an_unknown_reward_stays_unknown(how):
    assert np.isnan(combine([np.array([np.nan]), np.array([1.0])], how)).all()
