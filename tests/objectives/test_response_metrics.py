"""What is said of all rewards of a batch: sums by hand, and what a slot of two answers counts for."""

import jax.numpy as jnp
import numpy as np
import pytest
from toy import ROWS, WordTokenizer, text_groups

from crome_jax.batch import Batch
from crome_jax.data.loading import pack_groups
from crome_jax.data.packing import RowShape
from crome_jax.data.pairs import PairForm
from crome_jax.models.heads import response_lengths
from crome_jax.objectives.response_metrics import response_metrics
from crome_jax.scored import Scored
from crome_jax.training.metrics import KINDS, about_zero, summarize

NOTHING = {f"{kind}/{name}": 0.0 for kind in KINDS for name in ("count", "loss_sum", "preferring", "agree_sum")}
NOTHING |= {f"{kind}/distance_sum": 0.0 for kind in KINDS}


def told(batch: Batch, rewards_of) -> dict[str, float]:
    """Summarise the rewards that a function gives to the slots of a batch, of their lengths."""
    batch = batch.replace(**{name: jnp.asarray(getattr(batch, name)) for name in ("response_ends", "response_ids")})
    lengths = response_lengths(batch)
    rewards = jnp.where(batch.response_ends >= 0, rewards_of(lengths), 0.0)
    return summarize(NOTHING | about_zero(response_metrics(Scored(rewards, lengths=lengths), batch)), 1)


def test_log_odds_of_pairs_have_a_mean_and_a_spread_and_no_length():
    pairs = pack_groups(text_groups(6), WordTokenizer(), RowShape(96, 8, 8), pairs=PairForm()).batch
    filled = pairs.response_ends >= 0
    assert np.ptp(np.asarray(response_lengths(pairs))[filled]) > 0
    of_both = told(pairs, lambda lengths: lengths / 8)
    assert of_both.keys() == {"reward/mean", "reward/std"}
    assert of_both["reward/std"] > 0
    # Of single responses rewards that are lengths go along with them.
    assert told(ROWS.batch, lambda lengths: lengths / 8)["reward/length_correlation"] > 0.999


def of_one_row(rewards: np.ndarray, lengths: np.ndarray) -> dict[str, float]:
    """Give the metrics of responses that nothing is packed with, about zero."""
    none, places = jnp.zeros((1, 1), jnp.int32), jnp.arange(rewards.size, dtype=jnp.int32)[None]
    zeros = {name: jnp.zeros((1, 1)) for name in ("target", "weight", "margin")}
    batch = Batch(none, none, none, none, places, left=none, right=none, kind=none, **zeros)
    return about_zero(response_metrics(Scored(jnp.asarray(rewards)[None], lengths=jnp.asarray(lengths)[None]), batch))


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e4, -1e4])
def test_a_spread_far_from_zero_is_that_of_float64(mean):
    # Three steps, whose rewards of spread 1 lie around means of their own, and lengths around 3000.
    rng = np.random.default_rng(0)
    lengths = rng.normal(3000, 20, (3, 64)).round().astype(np.float32)
    rewards = mean + np.array([[0.0], [0.5], [1.0]]) + 0.03 * (lengths - 3000) + rng.normal(size=(3, 64))
    rewards = rewards.astype(np.float32)
    steps = [of_one_row(*step) for step in zip(rewards, lengths, strict=True)]
    said = summarize(NOTHING | {name: sum(step[name] for step in steps) for name in steps[0]}, 3)
    exact = rewards.ravel().astype(np.float64)
    # Sums of 64 float32 about the pivot of their step.
    assert said["reward/mean"] == pytest.approx(exact.mean(), rel=1e-6, abs=1e-6)
    assert said["reward/std"] == pytest.approx(exact.std(), rel=1e-5)
    expected = np.corrcoef(exact, lengths.ravel().astype(np.float64))[0, 1]
    assert said["reward/length_correlation"] == pytest.approx(expected, abs=1e-5)
    assert 0.4 < expected < 0.6
