"""JudgeBench's scores, as its code computes them for reward models.

A judge sees each pair in both orders, and is right where more of its two verdicts agree with the label than with its
opposite. A reward model gives the same verdict in both, unless the two rewards are equal: it then says the second both
times, which cancels and is not right. So a pair counts where the right answer has strictly the higher reward. The
overall score is the share of all pairs. The benchmark has two files, of pairs by GPT-4o, on which the paper's main
table is, and by Claude 3.5 Sonnet; where both are measured each has its own score, and the overall one is of both.
Source: ScalerLab/JudgeBench @ e2c52c2, utils/metrics.py (compute_final_metrics), utils/judges.py, run_judge.py; arXiv
2410.12784.
"""

from collections.abc import Sequence
from typing import Any

from crome_jax.evaluation.benchmarks.examples import Examples, Part, pair_results, row, shares, table
from crome_jax.evaluation.bootstrap import Bootstrap

CATEGORIES = {
    "knowledge": "mmlu-pro",
    "reasoning": "livebench-reasoning",
    "math": "livebench-math",
    "coding": "livecodebench",
}
"""Category to how the source of its pairs begins."""

PAIR_COUNTS = {"gpt": 350, "claude": 270}
"""How many pairs each of the two files has, by what is part of the name of the model that wrote them."""


def measure_judgebench(examples: Examples, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return JudgeBench's table.

    Args:
        examples: whose subsets are `model/category`: by whom the answers are, and to what.
    """
    results = pair_results(examples)
    models = list(dict.fromkeys(subset.rpartition("/")[0] for subset in examples.subsets))

    def part(name: str, subsets: Sequence[str]) -> Part:
        at = examples.of(*subsets)
        return Part(name, results[at], examples.prompts[at], at, weight=len(at))

    def of_model(model: str) -> list[Part]:
        return [part(category, [f"{model}/{category}"]) for category in CATEGORIES]

    pooled = [part(category, [f"{model}/{category}" for model in models]) for category in CATEGORIES]
    lines = [row(p.name, "section", [(1.0, p)], bootstrap) for p in pooled if len(p.values)]
    for model in models if len(models) > 1 else ():
        held = shares(of_model(model))
        lines.append(row(f"pairs by {model}", "section", held, bootstrap))
        lines += [row(p.name, "subset", [(1.0, p)], bootstrap) for _, p in held]
    missing = [p.name for p in pooled if not len(p.values)]
    rule = f"share of all pairs by {' and '.join(models)}" + (", pooled" if len(models) > 1 else "")
    numbers = {
        f"pairs by {model}": (sum(len(part.values) for part in of_model(model)), pairs)
        for model in models
        for name, pairs in PAIR_COUNTS.items()
        if name in model.lower()
    }
    return table([row("JudgeBench", "overall", shares(pooled), bootstrap), *lines], missing, rule, numbers)
