"""The scores of a user's own pairs: plain accuracy, over all and by category."""

from typing import Any

import numpy as np

from crome_jax.evaluation.benchmarks.examples import Examples, Part, row, subset_part, table
from crome_jax.evaluation.bootstrap import Bootstrap


def measure_pairs(examples: Examples, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the table: the share of pairs whose better answer has the higher reward, equal rewards counting half."""
    differences = [leads[0, 0] for leads in examples.leads]
    results = 0.5 + 0.5 * np.sign(np.array(differences))
    everything = Part("all", results, examples.prompts, np.arange(len(results)))
    parts = [subset_part(examples, results, name) for name in sorted(set(examples.subsets))]
    lines = [row(part.name, "section", [(1.0, part)], bootstrap) for part in parts]
    return table([row("Own pairs", "overall", [(1.0, everything)], bootstrap), *lines], [], "share of all pairs")
