"""JudgeBench's scores, as its code computes them for reward models.

A judge sees each pair in both orders, and is right where more of its two verdicts agree with the label than with its
opposite. A reward model gives the same verdict in both, unless the two rewards are equal: it then says the second both
times, which cancels and is not right. So a pair counts where the right answer has strictly the higher reward. The
overall score is the share of all pairs. Source: ScalerLab/JudgeBench @ e2c52c2, utils/metrics.py
(compute_final_metrics), utils/judges.py, run_judge.py; arXiv 2410.12784.
"""

from typing import Any

from crome_jax.evaluation.benchmarks.examples import Examples, pair_results, row, shares, subset_part, table
from crome_jax.evaluation.bootstrap import Bootstrap

CATEGORIES = {
    "knowledge": "mmlu-pro",
    "reasoning": "livebench-reasoning",
    "math": "livebench-math",
    "coding": "livecodebench",
}
"""Category to how the source of its pairs begins."""


def measure_judgebench(examples: Examples, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return JudgeBench's table."""
    results = pair_results(examples)
    parts = [subset_part(examples, results, name, weight=len(examples.of(name))) for name in CATEGORIES]
    held = shares([part for part in parts if len(part.values)])
    lines = [row(part.name, "section", [(1.0, part)], bootstrap) for _, part in held]
    missing = [part.name for part in parts if not len(part.values)]
    return table([row("JudgeBench", "overall", held, bootstrap), *lines], missing, "share of all pairs")
