"""A benchmark's figures of a report: its table for every model, and for the rule that the longer answer is better."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crome_jax.data.datasets.benchmarks.registry import BENCHMARKS
from crome_jax.evaluation.benchmarks.examples import read_examples
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.trivial_scorers import score_length
from crome_jax.groups import PreferenceGroup

_PARTS = ("parts", "together")


def benchmark_figures(
    name: str,
    scored: Mapping[str, tuple[Sequence[PreferenceGroup], Sequence[np.ndarray]]],
    *,
    left_out: int = 0,
    set_aside: int = 0,
    prior_sets: bool = False,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Any]:
    """Measure every model on a benchmark.

    Args:
        name: of the benchmark, as in registry.BENCHMARKS.
        scored: method to the benchmark's groups and their rewards.
        left_out: examples that were read and not scored.
        set_aside: records that were bad, and so no examples.
        prior_sets: whether RewardBench's prior sets count.

    Raises:
        CromeError: where rewards do not fit the groups or are not finite.
    """
    source, bootstrap = BENCHMARKS[name].source, bootstrap or Bootstrap()
    groups = next(iter(scored.values()))[0]
    shown = lambda scored: {  # noqa: E731
        method: table | {"rows": [{key: row[key] for key in row if key not in _PARTS} for row in table["rows"]]}
        for method, table in _measure(name, scored, prior_sets, bootstrap).items()
    }
    return {
        "title": source.title,
        "license": source.license,
        "citation": source.citation,
        "left_out": left_out,
        "set_aside": set_aside,
        "chance": BENCHMARKS[name].chance,
        "methods": shown(scored),
        "reference": shown({"longer answer": (groups, score_length(groups))}),
    }


def benchmark_rows(
    name: str,
    scored: Mapping[str, tuple[Sequence[PreferenceGroup], Sequence[np.ndarray]]],
    *,
    prior_sets: bool = False,
) -> tuple[Sequence[PreferenceGroup], dict[str, list[dict[str, Any]]]]:
    """Return a benchmark's groups and of every model the rows of its table with their `parts`: what is paired later.

    Args:
        name, scored, prior_sets: as of benchmark_figures.
    """
    tables = _measure(name, scored, prior_sets, Bootstrap(resamples=1))  # Their intervals are not read.
    rows = {method: [row for row in table["rows"] if row["parts"]] for method, table in tables.items()}
    return next(iter(scored.values()))[0], rows


def _measure(
    name: str,
    scored: Mapping[str, tuple[Sequence[PreferenceGroup], Sequence[np.ndarray]]],
    prior_sets: bool,
    bootstrap: Bootstrap,
) -> dict[str, dict[str, Any]]:
    measure = BENCHMARKS[name].measure
    if name == "rewardbench":
        measure = functools.partial(measure, prior_sets=prior_sets)
    return {method: measure(read_examples(groups, rewards), bootstrap) for method, (groups, rewards) in scored.items()}
