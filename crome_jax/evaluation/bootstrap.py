"""Bootstrap intervals over prompts: how far a figure would move had other prompts been drawn."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

from crome_jax.errors import CromeError

_DRAWS_AT_ONCE = 2_000_000

Weighed = tuple[float, Float[np.ndarray, "N"], Int[np.ndarray, "N"]]
"""A mean in a weighted sum: its weight, the values, and the group that each belongs to."""


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """A percentile bootstrap that draws whole groups, because comparisons of one prompt are not independent.

    Args:
        resamples: how many sets of groups are drawn.
        confidence: share of resamples inside an interval, in (0, 1).
        seed: of the draws; equal inputs and seed give equal intervals.

    Raises:
        CromeError: where an argument is out of range.
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self):
        if self.resamples < 1:
            raise CromeError(f"bootstrap resamples are {self.resamples}; give 1 or more")
        if not 0 < self.confidence < 1:
            raise CromeError(f"bootstrap confidence is {self.confidence}; give a share between 0 and 1")

    def mean_interval(
        self, values: Float[np.ndarray, "N"], clusters: Int[np.ndarray, "N"]
    ) -> tuple[float, float] | None:
        """Return the interval of the mean of `values`, or None where fewer than two clusters leave it unknown.

        Args:
            values: one per comparison.
            clusters: the group each comparison belongs to.
        """
        sums, counts = _cluster_totals(values, clusters)
        if len(sums) < 2:
            return None
        return self.bounds(self._resampled_means(sums, counts))

    def accuracy_interval(
        self, correct: Float[np.ndarray, "N"], clusters: Int[np.ndarray, "N"]
    ) -> tuple[float, float] | None:
        """Return the interval of an accuracy, or None where there are no comparisons.

        Where every group has the same accuracy (one group, or all right) resampling shows no spread at all and would
        claim certainty; the Wilson score interval with groups as trials is given instead.

        Args:
            correct: 1 right, 0 wrong, 0.5 undecided, one per comparison.
            clusters: the group each comparison belongs to.
        """
        if len(correct) == 0:
            return None
        sums, counts = _cluster_totals(correct, clusters)
        means = sums / counts
        if _are_equal(means):
            return _wilson(float(means[0]), len(means), self.confidence)
        return self.mean_interval(correct, clusters)

    def paired_difference(
        self, left: Float[np.ndarray, "N"], right: Float[np.ndarray, "N"], clusters: Int[np.ndarray, "N"]
    ) -> tuple[float, tuple[float, float] | None]:
        """Return mean(left) - mean(right) and its interval, both measured on the same comparisons.

        Pairing removes what the two methods share (easy and hard prompts), so that the interval is narrower than
        the two methods' own intervals suggest.

        Raises:
            ValueError: where there are no comparisons, or the columns' lengths differ.
        """
        if not len(left) == len(right) == len(clusters) > 0:
            raise ValueError(f"columns of {len(left)}, {len(right)} and {len(clusters)} comparisons cannot be paired")
        change = np.asarray(left, np.float64) - np.asarray(right, np.float64)
        return float(change.mean()), self.mean_interval(change, clusters)

    def paired_chance(
        self, left: Float[np.ndarray, "N"], right: Float[np.ndarray, "N"], clusters: Int[np.ndarray, "N"]
    ) -> float | None:
        """Return how likely means as far apart as these are where the two methods are equally good (two-sided).

        The differences of the resamples, moved so that they are centred on 0, stand for what chance alone would do
        (Efron and Tibshirani 1993, section 16.4). The data count as one resample, so that no chance is 0.

        Returns:
            in (0, 1]; None where fewer than two clusters leave it unknown.

        Raises:
            ValueError: as paired_difference does.
        """
        observed, _ = self.paired_difference(left, right, clusters)
        change = np.asarray(left, np.float64) - np.asarray(right, np.float64)
        sums, counts = _cluster_totals(change, clusters)
        if len(sums) < 2:
            return None
        return chance(self._resampled_means(sums, counts), observed)

    def composite_interval(self, parts: Sequence[Weighed], *, together: bool = False) -> tuple[float, float] | None:
        """Return the interval of a weighted sum of means, as a benchmark's overall score is, or None without parts.

        Where no part shows any spread, the Wilson interval with all groups as trials stands in, as for an accuracy.

        Args:
            parts: of each its weight, its values and the groups they belong to.
            together: as of `resampled_sums`.
        """
        if not parts:
            return None
        totals = [(weight, *_cluster_totals(values, clusters)) for weight, values, clusters in parts]
        means = [sums / counts for _, sums, counts in totals]
        if all(map(_are_equal, means)):
            share = sum(weight * mean[0] for (weight, _, _), mean in zip(totals, means, strict=True))
            trials = len(np.unique(np.concatenate([clusters for _, _, clusters in parts]))) if together else 0
            return _wilson(float(share), trials or sum(map(len, means)), self.confidence)
        return self.bounds(self.resampled_sums(parts, together=together))

    def composite_difference(
        self, parts: Sequence[Weighed], *, together: bool = False
    ) -> tuple[float, tuple[float, float] | None, float | None]:
        """Return a weighted sum of mean differences, its interval, and how likely one as far from 0 is by chance.

        Args:
            parts: one at least; of each its weight, of its examples what one model has more than the other, and the
                groups they belong to.
            together: as of `resampled_sums`.

        Returns:
            The sum; its interval; the chance, in (0, 1], as of `paired_chance`. Both are None where fewer than two
            groups leave them unknown.
        """
        observed = float(sum(weight * values.mean() for weight, values, _ in parts))
        if len(np.unique(np.concatenate([clusters for _, _, clusters in parts]))) < 2:
            return observed, None, None
        drawn = self.resampled_sums(parts, together=together)
        return observed, self.bounds(drawn), chance(drawn, observed)

    def resampled_sums(self, parts: Sequence[Weighed], *, together: bool = False) -> Float[np.ndarray, "resamples"]:
        """Return a weighted sum of means of every resample.

        Args:
            parts: one at least; of each its weight, its values and the groups they belong to.
            together: where parts are of the same groups, equal numbers being equal ones, as the rewordings of a
                benchmark's pairs are: groups are drawn once for all parts. A part that has none of those drawn leaves
                its weight to the others. Else each part is drawn by itself, and keeps its number of groups.
        """
        if not together:
            return sum(
                weight * dataclasses.replace(self, seed=self.seed + part)._resampled_means(*_cluster_totals(*some))
                for part, (weight, *some) in enumerate(parts)
            )
        groups = np.unique(np.concatenate([clusters for _, _, clusters in parts]))
        totals = [
            _cluster_totals(values, np.searchsorted(groups, clusters), len(groups)) for _, values, clusters in parts
        ]
        sums, counts = (np.stack(some, axis=1) for some in zip(*totals, strict=True))
        weights = np.array([weight for weight, _, _ in parts])
        drawn = []
        for at in self._drawn(len(groups)):
            places = at + np.arange(len(at))[:, None] * len(groups)
            times = np.bincount(places.ravel(), minlength=at.size).reshape(at.shape).astype(np.float64)
            found = times @ counts
            means = np.divide(times @ sums, found, out=np.zeros_like(found), where=found > 0)
            # One part at least has a group that is drawn: groups are those of the parts.
            drawn.append((means @ weights) * weights.sum() / ((found > 0) @ weights))
        return np.concatenate(drawn)

    def bounds(self, drawn: Float[np.ndarray, "resamples"]) -> tuple[float, float]:
        """Return the percentile interval of what the resamples gave."""
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return float(low), float(high)

    def least_squares(
        self, x: Float[np.ndarray, "N K"], y: Float[np.ndarray, "N"], clusters: Int[np.ndarray, "N"]
    ) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "resamples K"]]:
        """Return the coefficients of y on the columns of x by least squares, and those of every resample.

        Of columns that say the same (in a resample: that happen to) the shortest solution is taken.

        Args:
            x, y: a row for each comparison.
            clusters: the group each comparison belongs to.
        """
        _, index = np.unique(clusters, return_inverse=True)
        groups, columns = index.max() + 1, x.shape[1]
        products, targets = np.zeros((groups, columns, columns)), np.zeros((groups, columns))
        np.add.at(products, index, x[:, :, None] * x[:, None, :])
        np.add.at(targets, index, x * y[:, None])
        times = np.random.default_rng(self.seed).multinomial(groups, np.full(groups, 1 / groups), self.resamples)
        # The first row is the data themselves.
        times = np.concatenate([np.ones((1, groups)), times])
        inverse = np.linalg.pinv(np.einsum("rg,gjk->rjk", times, products), rcond=1e-10, hermitian=True)
        found = np.einsum("rjk,rk->rj", inverse, times @ targets)
        return found[0], found[1:]

    def _resampled_means(self, sums: Float[np.ndarray, "G"], counts: Float[np.ndarray, "G"]) -> np.ndarray:
        return np.concatenate([sums[at].sum(1) / counts[at].sum(1) for at in self._drawn(len(sums))])

    def _drawn(self, groups: int) -> Iterator[Int[np.ndarray, "chunk G"]]:
        """Yield the groups of every resample, some resamples at a time."""
        rng = np.random.default_rng(self.seed)
        chunk = max(1, _DRAWS_AT_ONCE // groups)
        for start in range(0, self.resamples, chunk):
            yield rng.integers(groups, size=(min(chunk, self.resamples - start), groups))


def chance(drawn: Float[np.ndarray, "resamples"], observed: float) -> float:
    """Return how likely a difference as far from 0 is by chance, in (0, 1]: as of `Bootstrap.paired_chance`.

    Args:
        drawn: the difference of every resample.
        observed: that of the data.
    """
    # Rounding must not tell equal differences apart.
    as_far = np.abs(drawn - observed) >= abs(observed) - 1e-12
    return float((1 + as_far.sum()) / (1 + len(drawn)))


def _cluster_totals(
    values: np.ndarray, clusters: np.ndarray, groups: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of values and their number of each group: of those there are, or of groups 0, 1, ...."""
    index = np.unique(clusters, return_inverse=True)[1] if groups is None else clusters
    return np.bincount(index, values, groups or 0), np.bincount(index, minlength=groups or 0).astype(np.float64)


def _are_equal(means: np.ndarray) -> bool:
    # Sums of the same in another order differ by rounding, which is no spread.
    return bool(np.ptp(means) < 1e-12)


def _wilson(share: float, trials: int, confidence: float) -> tuple[float, float]:
    share = min(max(share, 0.0), 1.0)  # Rounding may leave it just outside.
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
