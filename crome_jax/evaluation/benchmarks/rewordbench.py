"""reWordBench's scores: accuracy under each transformation, and what it loses against the same pairs as they were.

The paper (arXiv 2503.11751) compares ranking accuracy before and after a transformation on the pairs that it applies
to; so does this. A transformation's drop is the difference in points. The overall score is the mean accuracy over
transformations, each counting once; `drop` and `relative_drop` are the means of the drops and of drop / accuracy
before. How the paper averages was not to be read; that is what was chosen. Intervals draw the prompts of the pairs as
they were, with all that became of them: the parts are the same pairs reworded, and anything but independent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from crome_jax.data.datasets.benchmarks.transformations import ABSENT, FAMILIES
from crome_jax.evaluation.benchmarks.examples import Examples, Part, pair_results, row, subset_part, table
from crome_jax.evaluation.bootstrap import Bootstrap

ORIGINAL = "original"
NAMES = tuple(transformation.__name__ for family in FAMILIES.values() for transformation in family)
PAPERS = 28
"""Transformations of the paper."""


def measure_rewordbench(examples: Examples, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return reWordBench's table; the line of a transformation also has `before`, `drop` and `drop_interval`.

    A rewording whose original was set aside, being too long, is left out: there is nothing to compare it with. Missing
    are the paper's transformations that are not implemented, and those that apply to no pair: the score is always of a
    part.
    """
    results = pair_results(examples)
    keys = [id_.partition("/")[2] for id_ in examples.ids]
    before = {keys[n]: results[n] for n in examples.of(ORIGINAL)}
    prompt_of = {keys[n]: examples.prompts[n] for n in examples.of(ORIGINAL)}
    original = subset_part(examples, results, ORIGINAL)
    names = [name for name in dict.fromkeys(examples.subsets) if name != ORIGINAL]
    parts, lines, drops, relative = [], [], [], []
    for name in names:
        at = [n for n in examples.of(name) if keys[n] in before]
        if not at:
            continue
        was = np.array([before[keys[n]] for n in at])
        prompts = np.array([prompt_of[keys[n]] for n in at])
        part = Part(name, results[at], prompts, np.array(at))
        lost = was - results[at]
        interval = bootstrap.mean_interval(lost, prompts)
        parts.append(part)
        drops.append((lost, prompts))
        if was.mean():
            relative.append(float(lost.mean() / was.mean()))
        lines.append(
            row(name, "section", [(1.0, part)], bootstrap)
            | {
                "before": float(was.mean()),
                "drop": float(lost.mean()),
                "drop_interval": list(interval) if interval else None,
            }
        )
    shares = [(1 / len(parts), part) for part in parts]
    overall = row("reWordBench", "overall", shares, bootstrap, together=True)
    top = [row(ORIGINAL, "section", [(1.0, original)], bootstrap)]
    missing = [f"{name} ({why})" for name, why in ABSENT.items()]
    missing += [name for name in NAMES if name not in {part.name for part in parts}]
    rule = f"mean accuracy over {len(parts)} of the paper's {PAPERS} transformations"
    figures = table([overall, *top, *lines], missing, rule)
    relative_drop = float(np.mean(relative)) if relative else None
    return figures | _mean_drop(drops, bootstrap) | {"relative_drop": relative_drop}


def _mean_drop(drops: Sequence[tuple[np.ndarray, np.ndarray]], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the mean of the drops and its interval; of each what its pairs lost, and their prompts."""
    if not drops:
        return {"drop": None, "drop_interval": None}
    weighed = [(1 / len(drops), lost, prompts) for lost, prompts in drops]
    several = len(np.unique(np.concatenate([prompts for _, prompts in drops]))) > 1
    interval = list(bootstrap.bounds(bootstrap.resampled_sums(weighed, together=True))) if several else None
    return {"drop": float(np.mean([lost.mean() for lost, _ in drops])), "drop_interval": interval}
