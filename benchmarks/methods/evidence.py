"""What the jobs of the sweep say besides: whether what was expected came true, and what each method was given."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crome_jax.evaluation.accuracy import Outcomes, pairwise_outcomes
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.leads import Judged
from crome_jax.evaluation.strata import CUE
from crome_jax.groups import PreferenceGroup
from crome_jax.sweeps.results import Measured

Interval = tuple[float, float]
Compared = tuple[str, str, float, Interval | None, float | None]
"""Who should be ahead, of whom, by how much it is, the interval of that, and its chance."""

POOLED = ("in_distribution", "reversed")
"""Splits with the same questions, where style points to the better answer and where it points away."""
TOLD = "long"
"""The style that MMD and ODIN are told of."""
EXPECTED = (
    ("crome", "rrm"),
    ("crome_paper", "rrm"),
    ("rrm", "bradley_terry"),
    ("crome", "bradley_terry"),
    ("crome_paper", "bradley_terry"),
)
"""Who should be ahead of whom on the reversed split (arXiv 2506.16507)."""
RESTRAINED = ("mmd", "mmd_conditional", "odin")
"""Who should like length less than the baseline, and the other styles as much (arXiv 2501.09620, 2402.07319)."""


@dataclasses.dataclass(frozen=True)
class Pulls:
    """How much models like each style for its own sake.

    Args:
        styles: their names.
        of: contender -> for each style its pull and interval, and at last the mean of all but TOLD.
        told: contender of RESTRAINED -> its pull of TOLD less the baseline's, and likewise the mean of the others.
    """

    styles: tuple[str, ...]
    of: Mapping[str, Sequence[tuple[float, Interval]]]
    told: Mapping[str, tuple[tuple[float, Interval], tuple[float, Interval]]]


def measure_pulls(
    runs: Mapping[str, Sequence[Measured]],
    tests: Mapping[str, Sequence[PreferenceGroup]],
    baseline: str,
    bootstrap: Bootstrap,
) -> Pulls:
    """Tell each style's pull apart from quality's and from the other styles'.

    The reward difference of a comparison, in units of its root mean square over the two splits, is fitted by least
    squares: a constant, which is what the better answer has ahead for being better, and for each style its coefficient
    times +1 where only the preferred answer has it and -1 where only the other has. Both splits ask the same questions;
    together, style says next to nothing about quality. Of several seeds the mean is taken; intervals are over prompts.

    Args:
        runs: contender -> its runs.
        tests: data sets, POOLED among them.
        baseline: a contender, perhaps of none of the runs.
    """
    seen = {name: [_pooled(run, tests) for run in seeds] for name, seeds in runs.items()}
    outcomes = next(iter(seen.values()))[0]
    styles = tuple(sorted(outcomes.names, key=lambda name: (name != TOLD, name)))
    columns = np.stack([np.ones(len(outcomes.clusters)), *(outcomes.sign(name) for name in styles)], axis=1)
    scaled = {name: np.mean([one.scaled for one in seeds], axis=0) for name, seeds in seen.items()}
    others = np.array([name != TOLD for name in styles], float)
    contrasts = np.concatenate(
        [np.eye(len(styles)), others[None] / others.sum()]
    )  # Each style; the mean of the others.

    def fit(y: np.ndarray) -> list[tuple[float, Interval]]:
        found, drawn = bootstrap.least_squares(columns, y, outcomes.clusters)
        tail = (1 - bootstrap.confidence) / 2
        low, high = np.quantile(drawn[:, 1:] @ contrasts.T, [tail, 1 - tail], axis=0)
        return [(float(v), (float(a), float(b))) for v, a, b in zip(contrasts @ found[1:], low, high, strict=True)]

    compared = [name for name in RESTRAINED if name in runs and baseline in runs]
    told = {name: fit(scaled[name] - scaled[baseline]) for name in compared}
    return Pulls(
        styles,
        {name: fit(y) for name, y in scaled.items()},
        {name: (found[styles.index(TOLD)], found[-1]) for name, found in told.items()},
    )


@dataclasses.dataclass(frozen=True)
class _Pooled:
    """The comparisons of the pooled splits under one run."""

    scaled: np.ndarray
    clusters: np.ndarray
    strata: Sequence[Mapping[str, str]]

    @property
    def names(self) -> set[str]:
        return {family.removeprefix("attribute:") for one in self.strata for family in one if ":" in family}

    def sign(self, name: str) -> np.ndarray:
        """Return +1 where only the preferred answer has a style, -1 where only the other has, else 0."""
        sides = dict(zip(CUE, (1.0, 0.0, -1.0), strict=True))
        return np.array([sides[one[f"attribute:{name}"]] for one in self.strata])


def _pooled(run: Measured, tests: Mapping[str, Sequence[PreferenceGroup]]) -> _Pooled:
    parts = [(tests[split], _decided(tests[split], run.rewards[split])) for split in POOLED]
    difference = np.concatenate([decided.difference for _, decided in parts])
    prompts = [str(groups[g].prompt) for groups, decided in parts for g in decided.group]
    _, clusters = np.unique(prompts, return_inverse=True)
    scale = np.sqrt(np.mean(difference**2))
    return _Pooled(
        difference / (scale if scale > 0 else 1.0),
        clusters,
        [strata for _, decided in parts for strata in decided.strata],
    )


def _decided(groups: Sequence[PreferenceGroup], rewards: Sequence[Judged]) -> Outcomes:
    return pairwise_outcomes(groups, rewards).decided()


def compare_expected(
    runs: Mapping[str, Sequence[Measured]], groups: Sequence[PreferenceGroup], split: str, bootstrap: Bootstrap
) -> list[Compared]:
    """Return by how much each of EXPECTED that is there has the higher accuracy."""
    outcomes = {name: [_decided(groups, run.rewards[split]) for run in seeds] for name, seeds in runs.items()}
    right = {name: np.mean([one.correct for one in seeds], axis=0) for name, seeds in outcomes.items()}
    found = []
    for ahead, behind in EXPECTED:
        if ahead in runs and behind in runs:
            sides = right[ahead], right[behind], outcomes[ahead][0].prompt
            found.append((ahead, behind, *bootstrap.paired_difference(*sides), bootstrap.paired_chance(*sides)))
    return found


@dataclasses.dataclass(frozen=True)
class Given:
    """What a contender's runs were given and took.

    Args:
        rates: the learning rates that the search took, one for each seed.
        passes: over the rows of its data.
        human: human comparisons that its steps saw, repetitions included.
        other: causal and neutral comparisons, likewise.
        tokens: that its steps encoded, padding left out.
        minutes: of the slowest job, evaluation included.
    """

    rates: tuple[float, ...]
    passes: float
    human: int
    other: int
    tokens: int
    minutes: float


def read_given(reports: Sequence[Path], humans: int) -> Given:
    """Read what the reports of a contender's jobs say.

    Args:
        reports: report.json of each seed's study, of one method.
        humans: human comparisons of the training data, of which every method takes all.
    """
    facts: list[Mapping[str, Any]] = [json.loads(path.read_text())["facts"] for path in reports]
    packing = facts[0]["packing"][0]
    passes = packing["passes over the data"]
    return Given(
        rates=tuple(trial["learning rate"] for one in facts for trial in one["search"] if trial["kept"]),
        passes=passes,
        human=round(passes * humans),
        other=max(0, round(passes * (packing["comparisons"] - humans))),
        tokens=round(passes * packing["tokens encoded"]),
        minutes=max(one["run"]["minutes"] for one in facts),
    )


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All of it.

    Args:
        given: contender -> what its runs were given.
    """

    compared: Sequence[Compared]
    pulls: Pulls
    given: Mapping[str, Given]
