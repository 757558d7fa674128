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


def benchmark_figures(
    name: str,
    scored: Mapping[str, tuple[Sequence[PreferenceGroup], Sequence[np.ndarray]]],
    *,
    left_out: int = 0,
    prior_sets: bool = False,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Any]:
    """Measure every model on a benchmark.

    Args:
        name: of the benchmark, as in registry.BENCHMARKS.
        scored: method to the benchmark's groups and their rewards.
        left_out: examples that were not scored.
        prior_sets: whether RewardBench's prior sets count.

    Raises:
        CromeError: where rewards do not fit the groups or are not finite.
    """
    source, measure = BENCHMARKS[name].source, BENCHMARKS[name].measure
    if name == "rewardbench":
        measure = functools.partial(measure, prior_sets=prior_sets)
    bootstrap = bootstrap or Bootstrap()
    tables = {
        method: measure(read_examples(groups, rewards), bootstrap) for method, (groups, rewards) in scored.items()
    }
    groups = next(iter(scored.values()))[0]
    return {
        "title": source.title,
        "license": source.license,
        "citation": source.citation,
        "left_out": left_out,
        "chance": BENCHMARKS[name].chance,
        "methods": tables,
        "reference": {"longer answer": measure(read_examples(groups, score_length(groups)), bootstrap)},
    }
