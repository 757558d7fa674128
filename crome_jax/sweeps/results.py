"""What a sweep found: the rewards of its jobs as one tidy table, and its points ranked by paired tests."""

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from crome_jax.evaluation.accuracy import Outcomes, pairwise_outcomes
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.ensembles import combine
from crome_jax.evaluation.figures import split_figures
from crome_jax.evaluation.leads import is_pairwise
from crome_jax.evaluation.rewards_files import read_rewards
from crome_jax.files import whole_output
from crome_jax.groups import PreferenceGroup
from crome_jax.sweeps.plan import Job, as_number

if TYPE_CHECKING:
    from crome_jax.sweeps.jobs import Prepared

COLUMNS = ("job", "point", "method", "seed", "data", "family", "stratum", "metric", "value", "low", "high", "count")
"""Of the table; a column for each swept binding follows, called as the binding is."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """The rewards of one run of a job.

    Args:
        job: of the sweep.
        method: as its run is called.
        rewards: data set -> one array [R] for each of its groups, in nats.
    """

    job: Job
    method: str
    rewards: Mapping[str, Sequence[np.ndarray]]


def read_measured(done: Iterable["Prepared"], tests: Mapping[str, Sequence[PreferenceGroup]]) -> list[Measured]:
    """Return the rewards that jobs kept for data sets, which all of them scored.

    Raises:
        CromeError: where there are none, or a file is damaged.
    """
    return [
        Measured(one.job, method, {name: read_rewards(run, groups) for name, groups in tests.items()})
        for one in done
        for method, run in one.runs.items()
    ]


def tidy_rows(
    measured: Sequence[Measured], tests: Mapping[str, Sequence[PreferenceGroup]], bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Return a row for each job, method, data set, stratum and metric.

    Of a stratum it is `accuracy` with its interval and the number of comparisons. Of a whole data set (family and
    stratum "all") it is also `tie_distance` (mean absolute difference of ties, nats), `ties_equal` (a share),
    `log_loss` (nats), `calibration_error`, and of rewards with the logarithm of length, within groups,
    `length_correlation` and `length_slope` (nats per doubling). What is not defined is absent.
    """
    rows = []
    for run in measured:
        job = {"job": run.job.name, "point": run.job.point, "method": run.method, "seed": run.job.seed}
        swept = {name: value if (n := as_number(value)) is None else n for name, value in run.job.values.items()}
        for data, rewards in run.rewards.items():
            figures = split_figures(tests[data], rewards, bootstrap, points=0)
            rows += [{**job, "data": data, **row, **swept} for row in _rows_of(figures) if row["value"] is not None]
    return rows


def _rows_of(figures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    strata = {("all", "all"): figures}
    for family in ("kind", "category", "attribute"):
        strata |= {(family, stratum): found for stratum, found in figures[f"by_{family}"].items()}
    for family, found in figures["by_stratum"].items():
        strata |= {(family, stratum): inside for stratum, inside in found.items()}
    for (family, stratum), found in strata.items():
        yield _row(family, stratum, "accuracy", found["accuracy"], found["interval"], found["comparisons"])
    ties, calibration, length = figures["ties"], figures["calibration"], figures["reward_length"]
    whole = ("all", "all")
    yield _row(*whole, "tie_distance", ties["mean_absolute_difference"], ties["interval"], ties["comparisons"])
    yield _row(*whole, "ties_equal", ties["share_equal"], None, ties["comparisons"])
    for metric in ("log_loss", "calibration_error"):
        yield _row(*whole, metric, calibration[metric], None, figures["comparisons"])
    yield _row(*whole, "length_correlation", length["correlation_within_groups"], None, length["responses"])
    yield _row(*whole, "length_slope", length["slope_within_groups"], None, length["responses"])


def _row(family: str, stratum: str, metric: str, value: float | None, bounds: Any, count: int) -> dict[str, Any]:
    low, high = bounds or (None, None)
    interval = {"low": low, "high": high}
    return {"family": family, "stratum": stratum, "metric": metric, "value": value, **interval, "count": count}


def write_table(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write rows as results.parquet and results.csv, in place of older ones.

    A swept binding's column holds numbers where all of its values are, and text otherwise; a point that does not bind
    it has none there.

    Raises:
        CromeError: where they cannot be written; each is then as it was before.
    """
    swept = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in COLUMNS]
    columns: dict[str, pa.Array] = {}
    for name in COLUMNS:
        kind = pa.float64() if name in ("value", "low", "high") else pa.int64() if name in ("seed", "count") else None
        columns[name] = pa.array([row[name] for row in rows], kind or pa.string())
    for name in swept:
        values = [row.get(name) for row in rows]
        numbers = all(value is None or isinstance(value, float) for value in values)
        text = [None if value is None else str(value) for value in values]
        columns[name] = pa.array(values, pa.float64()) if numbers else pa.array(text, pa.string())
    table = pa.table(columns)
    paths = [folder / "results.parquet", folder / "results.csv"]
    for path, write in zip(paths, (pyarrow.parquet.write_table, pyarrow.csv.write_csv), strict=True):
        with whole_output(path, overwrite=True) as partial:
            write(table, partial)
    return paths


@dataclasses.dataclass(frozen=True)
class Ranked:
    """A contender's place on a data set: a point with one of its methods, over all of its seeds.

    Args:
        name: of the contender.
        seeds: how many runs it stands for.
        accuracy: mean over seeds, in [0, 1].
        interval: of that mean, over prompts.
        lowest, highest: accuracy of its worst and best seed.
        difference, difference_interval, chance: by how much it exceeds the baseline on the same comparisons, how sure
            that is, and how likely a difference as large is where both are equally good; None of the baseline itself.
        adjusted: the chance after Holm's correction for comparing several contenders.
    """

    name: str
    seeds: int
    accuracy: float
    interval: tuple[float, float]
    lowest: float
    highest: float
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    chance: float | None = None
    adjusted: float | None = None


def contenders(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Gather the runs of each point and method; where a point has one method only it goes by the point's name."""
    methods: dict[str, set[str]] = {}
    for run in measured:
        methods.setdefault(run.job.point, set()).add(run.method)
    found: dict[str, list[Measured]] = {}
    for run in measured:
        point = run.job.point
        found.setdefault(point if len(methods[point]) == 1 else f"{point}, {run.method}", []).append(run)
    return found


def rank(
    groups: Sequence[PreferenceGroup],
    rewards: Mapping[str, Sequence[Sequence[np.ndarray]]],
    bootstrap: Bootstrap,
    *,
    category: str | None = None,
    ensembles: Collection[str] = (),
) -> list[Ranked]:
    """Rank contenders by accuracy on one data set, each tested against the first on the same comparisons.

    A comparison counts for a contender as the mean over its seeds of whether it was right. Whole prompts are drawn, so
    intervals and tests say what other prompts would change; what other seeds would, `lowest` and `highest` hint at.

    Args:
        groups: of the data set.
        rewards: contender -> for each of its seeds, one array [R] for each group; the first is the baseline.
        category: of the groups that count; None counts all.
        ensembles: contenders that are others taken together: their tests are corrected for each other alone, and those
            of the others do not pay for them.

    Returns:
        The highest accuracy first; nothing where no comparison prefers a side.
    """
    decided = {name: [_decided(groups, one, category) for one in seeds] for name, seeds in rewards.items()}
    right = {name: [one.correct for one in seeds] for name, seeds in decided.items()}
    mean = {name: np.mean(seeds, axis=0) for name, seeds in right.items()}
    baseline, *others = rewards
    clusters = decided[baseline][0].prompt
    if not len(clusters):
        return []
    chances = {name: bootstrap.paired_chance(mean[name], mean[baseline], clusters) for name in others}
    tested = {name: chance for name, chance in chances.items() if chance is not None}
    apart, together = ({n: c for n, c in tested.items() if (n in ensembles) == joint} for joint in (False, True))
    adjusted = holm(apart) | holm(together)
    ranked = []
    for name, seeds in right.items():
        alone = [float(one.mean()) for one in seeds]
        interval = bootstrap.accuracy_interval(mean[name], clusters)
        place = Ranked(name, len(seeds), float(mean[name].mean()), interval, min(alone), max(alone))
        if name != baseline:
            difference, bounds = bootstrap.paired_difference(mean[name], mean[baseline], clusters)
            place = dataclasses.replace(
                place,
                difference=difference,
                difference_interval=bounds,
                chance=chances[name],
                adjusted=adjusted.get(name),
            )
        ranked.append(place)
    return sorted(ranked, key=lambda place: -place.accuracy)


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Adjust the chances of several tests so that the smallest counts for all of them (Holm 1979).

    The k-th smallest of m is multiplied by m - k + 1, is no less than the one before it, and at most 1.
    """
    adjusted, least = {}, 0.0
    for k, name in enumerate(sorted(chances, key=lambda name: chances[name])):
        least = max(least, min(1.0, chances[name] * (len(chances) - k)))
        adjusted[name] = least
    return adjusted


def _decided(groups: Sequence[PreferenceGroup], rewards: Sequence[np.ndarray], category: str | None) -> Outcomes:
    decided = pairwise_outcomes(groups, rewards).decided()
    if category is None:
        return decided
    return decided.select(np.flatnonzero([name == category for name in decided.category]))


def write_rankings(
    rankings: Mapping[str, Sequence[Ranked]], by_category: Mapping[str, Mapping[str, Sequence[Ranked]]], folder: Path
) -> Path:
    """Write ranking.json, in place of an older one.

    It holds, under a data set's name, `all` and `by_category.<category>`: lists of a Ranked's fields, best first.

    Raises:
        CromeError: where it cannot be written; it is then as it was before.
    """
    plain = lambda ranked: [dataclasses.asdict(place) for place in ranked]  # noqa: E731
    content = {
        data: {
            "all": plain(ranked),
            "by_category": {name: plain(some) for name, some in by_category[data].items()},
        }
        for data, ranked in rankings.items()
    }
    path = folder / "ranking.json"
    with whole_output(path, overwrite=True) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return path


def with_ensembles(
    runs: Mapping[str, Sequence[Measured]], data: str, ensembles: Sequence[str]
) -> dict[str, list[Sequence[np.ndarray]]]:
    """Return contender to the rewards of each of its seeds on a data set, and its seeds taken together as others.

    Args:
        runs: contender -> its runs.
        ensembles: of the names of `ENSEMBLES`; each makes one more contender of every one with several seeds but
            pairwise models, whose log-odds are no rewards.
    """
    rewards = {name: [run.rewards[data] for run in some] for name, some in runs.items()}
    for how in ensembles:
        for name in runs:
            if len(seeds := rewards[name]) > 1 and not any(map(is_pairwise, seeds[0])):
                together = [combine(same, how) for same in zip(*seeds, strict=True)]
                rewards[f"{name}, {how} of {len(seeds)} seeds"] = [together]
    return rewards


def untested(ranked: Sequence[Ranked]) -> list[Ranked]:
    """Return the same places without tests: where the baseline has no result, another is not put in its place."""
    tests = dict.fromkeys(("difference", "difference_interval", "chance", "adjusted"))
    return [dataclasses.replace(place, **tests) for place in ranked]
