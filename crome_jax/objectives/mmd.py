"""The causal reward model of maximum mean discrepancy: representations that do not tell how long a response is."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from crome_jax.batch import Batch
from crome_jax.errors import CromeError
from crome_jax.objectives.pairwise import (
    Metrics,
    comparison_metrics,
    cross_entropy,
    leads,
    reward_differences,
    whole_batch,
)
from crome_jax.objectives.response_identity import between_different_responses
from crome_jax.objectives.response_weights import side_weights
from crome_jax.scored import Scored

ESTIMATES = ("unbiased", "biased")
"""Of MMD^2: without or with the similarity of each response to itself."""


@whole_batch
def mmd(
    scored: Scored,
    batch: Batch,
    *,
    conditional: bool = False,
    coefficient: float = 1.0,
    bins: int = 4,
    widths: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
    estimate: str = "unbiased",
) -> tuple[Float[Array, ""], Metrics]:
    """Fit preferences; make the representation distributed alike in every bin of response length.

        L = - sum over comparisons  w log sigmoid(d)  +  W lambda  sum over pairs of bins  MMD^2(f | a, f | b)

    f is the hidden state that the head reads. The spurious variable is length in tokens, in bins of equal weight over
    the whole batch (the paper bins by value: which edges suit depends on the data, quantiles fit all). Conditional:
    the sum is taken within chosen and within rejected responses apart, on the same bins. Each response counts as much
    as the comparisons it takes part in (`side_weights`); W is the weight of all comparisons, so that after the step's
    division lambda stands beside a mean loss. Comparisons of every kind that the recipe takes count, with their own
    margins. The kernel is the mean of Gaussians exp(-|x - y|^2 / (2 s v)) over the widths s, v the mean squared
    distance of the batch, through which no gradient goes.

    With k(a, b) the weighted mean of the kernel over the responses of two bins, MMD^2 is k(a, a) + k(b, b) - 2 k(a, b).
    The unbiased estimate leaves each response's similarity to itself out of k(a, a) and k(b, b):

        k(a, a) = sum over i != j in a  w_i w_j k(x_i, x_j)  /  ( (sum w)^2 - sum w^2 )

    so that its expectation is 0 where the bins are alike, and it may be negative. A pair of bins counts where each has
    two responses or more. The biased estimate keeps i = j: the squared distance of two means, never negative, and there
    for a bin of one response. Of n responses a bin it is about 2 (1 - mean k) / n too large, which a small batch lowers
    by drawing all features together, whatever their lengths. The same response in several rows is one response.

    Args:
        scored: rewards in nats, features and lengths.
        batch: its comparisons.
        conditional: whether chosen and rejected responses are compared apart.
        coefficient: lambda, at least 0; 1, chosen here.
        bins: how many, at least 2; 4, chosen here.
        widths: of the Gaussians, squared, in units of the mean squared distance; chosen here.
        estimate: "unbiased" or "biased"; the first, chosen here.

    Returns:
        The weighted sum of losses in nats, and metrics as sums and counts.

    Raises:
        CromeError: where a number is out of its range, or the estimate unknown.

    Source: Wang et al. 2025, "Beyond Reward Hacking: Causal Rewards for Large Language Model Alignment",
    arXiv 2501.09620; the estimates are those of Gretton et al. 2012, "A Kernel Two-Sample Test", at Lemma 6.
    """
    if not 0 <= coefficient < float("inf"):
        raise CromeError(f"mmd.coefficient is {coefficient}; give a number of at least 0")
    if bins < 2:
        raise CromeError(f"mmd.bins is {bins}; give 2 or more")
    if not widths or min(widths) <= 0:
        raise CromeError(f"mmd.widths is {widths}; give one or more numbers above 0")
    if estimate not in ESTIMATES:
        raise CromeError(f"mmd.estimate is {estimate!r}; give {' or '.join(map(repr, ESTIMATES))}")
    difference = reward_differences(scored.rewards, batch)
    losses = cross_entropy(difference, batch.target, leads(batch))
    chosen, rejected = (x.reshape(-1) for x in side_weights(batch))
    counts = chosen + rejected
    features = scored.features.astype(jnp.float32).reshape(counts.size, -1)
    kernel = gaussian_kernel(features, counts, widths)
    bin_of = jax.nn.one_hot(length_bins(scored.lengths.reshape(-1), counts, bins), bins)
    sides = (chosen, rejected) if conditional else (counts,)
    counted = between_different_responses(batch) if estimate == "unbiased" else jnp.ones_like(kernel)
    discrepancy = sum(between_bins(kernel, side[:, None] * bin_of, counted) for side in sides)
    loss = (batch.weight * losses).sum() + batch.weight.sum() * coefficient * discrepancy
    return loss, comparison_metrics(difference, losses, batch)


def length_bins(lengths: Float[Array, " N"], weight: Float[Array, " N"], bins: int) -> Int[Array, " N"]:
    """Return the bin of each length, from 0, such that bins weigh alike; equal lengths share a bin."""
    shorter = (weight[None, :] * (lengths[None, :] < lengths[:, None])).sum(axis=1)
    rank = shorter / jnp.maximum(weight.sum(), 1e-6)
    # The small number keeps a rank that is an edge, to rounding, on the same side of it in whatever order it is summed.
    return jnp.minimum((rank * bins + 1e-4).astype(jnp.int32), bins - 1)


def gaussian_kernel(x: Float[Array, "N D"], weight: Float[Array, " N"], widths: Sequence[float]) -> Float[Array, "N N"]:
    """Return the mean of Gaussian kernels of several widths between all pairs of vectors."""
    squares = (x * x).sum(axis=1)
    products = jnp.einsum("nd,md->nm", x, x, precision=jax.lax.Precision.HIGHEST)
    distances = jnp.maximum(squares[:, None] + squares[None, :] - 2.0 * products, 0.0)
    share = weight / jnp.maximum(weight.sum(), 1e-6)
    mean = jax.lax.stop_gradient((share[:, None] * share[None, :] * distances).sum())
    # Where all vectors are equal any width gives the same.
    scaled = distances / jnp.where(mean > 0, mean, 1.0)
    return sum(jnp.exp(-scaled / (2.0 * width)) for width in widths) / len(widths)


def between_bins(
    kernel: Float[Array, "N N"], weight: Float[Array, "N M"], counted: Float[Array, "N N"]
) -> Float[Array, ""]:
    """Sum an estimate of MMD^2 over pairs of bins.

    Args:
        kernel: how alike each two vectors are.
        weight: how much each vector counts in each bin.
        counted: 1 for two vectors whose likeness counts within a bin, else 0: all for the biased estimate, those that
            are not the same for the unbiased one. A bin without such vectors is left out.
    """
    share = weight / jnp.maximum(weight.sum(axis=0), 1e-6)[None, :]
    mean = functools.partial(jnp.einsum, "na,nm,mb->ab", precision=jax.lax.Precision.HIGHEST)
    inner = mean(share, kernel, share)
    # Not 1 less the sum of squares, of which nothing but rounding is left where one vector has nearly all the weight.
    pairs = jnp.diagonal(mean(share, counted, share))
    own = jnp.diagonal(mean(share, counted * kernel, share)) / jnp.where(pairs > 0, pairs, 1.0)
    squared = own[:, None] + own[None, :] - 2.0 * inner
    both = (pairs[:, None] > 0) & (pairs[None, :] > 0)
    return jnp.triu(jnp.where(both, squared, 0.0), 1).sum()
