"""What is said of all rewards of a batch: sums by hand, and what a slot of two answers counts for."""

import jax.numpy as jnp
import numpy as np
from toy import ROWS, WordTokenizer, text_groups

from crome_jax.batch import Batch
from crome_jax.data.loading import pack_groups
from crome_jax.data.packing import RowShape
from crome_jax.data.pairs import PairForm
from crome_jax.models.heads import response_lengths
from crome_jax.objectives.response_metrics import response_metrics
from crome_jax.scored import Scored
from crome_jax.training.metrics import KINDS, summarize

NOTHING = {f"{kind}/{name}": 0.0 for kind in KINDS for name in ("count", "loss_sum", "preferring", "agree_sum")}
NOTHING |= {f"{kind}/distance_sum": 0.0 for kind in KINDS}


def told(batch: Batch, rewards_of) -> dict[str, float]:
    """Summarise the rewards that a function gives to the slots of a batch, of their lengths."""
    batch = batch.replace(**{name: jnp.asarray(getattr(batch, name)) for name in ("response_ends", "response_ids")})
    lengths = response_lengths(batch)
    rewards = jnp.where(batch.response_ends >= 0, rewards_of(lengths), 0.0)
    sums = response_metrics(Scored(rewards, lengths=lengths), batch)
    return summarize(NOTHING | {name: float(value) for name, value in sums.items()}, 1)


def test_log_odds_of_pairs_have_a_mean_and_a_spread_and_no_length():
    pairs = pack_groups(text_groups(6), WordTokenizer(), RowShape(96, 8, 8), pairs=PairForm()).batch
    filled = pairs.response_ends >= 0
    assert np.ptp(np.asarray(response_lengths(pairs))[filled]) > 0
    of_both = told(pairs, lambda lengths: lengths / 8)
    assert of_both.keys() == {"reward/mean", "reward/std"}
    assert of_both["reward/std"] > 0
    # Of single responses rewards that are lengths go along with them.
    assert told(ROWS.batch, lambda lengths: lengths / 8)["reward/length_correlation"] > 0.999
