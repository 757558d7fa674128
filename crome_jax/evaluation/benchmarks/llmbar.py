"""LLMBar's scores: accuracy by set.

The paper (arXiv 2310.07641) gives the accuracy on Natural, on each of the four adversarial sets, and the mean of those
four. An overall score it does not define; here it is the mean of the five sets. Equal rewards count half, as the
paper's own evaluators average over both orders of the outputs.
"""

from typing import Any

import numpy as np

from crome_jax.evaluation.benchmarks.examples import Examples, row, shares, subset_part, table
from crome_jax.evaluation.bootstrap import Bootstrap

EXAMPLE_COUNTS = {"Natural": 100, "Neighbor": 134, "GPTInst": 92, "GPTOut": 47, "Manual": 46}
SUBSETS = tuple(EXAMPLE_COUNTS)
_ADVERSARIAL = SUBSETS[1:]


def measure_llmbar(examples: Examples, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return LLMBar's table."""
    differences = [leads[0, 0] for leads in examples.leads]
    results = 0.5 + 0.5 * np.sign(np.array(differences))
    parts = [subset_part(examples, results, name) for name in SUBSETS]
    held = shares(parts)
    adversarial = shares([part for part in parts if part.name in _ADVERSARIAL])
    lines = [row(part.name, "subset", [(1.0, part)], bootstrap) for _, part in held]
    natural = [line for line in lines if line["name"] == "Natural"]
    return table(
        [
            row("LLMBar", "overall", held, bootstrap),
            *({**line, "level": "section"} for line in natural),
            row("Adversarial", "section", adversarial, bootstrap),
            *(line for line in lines if line["name"] != "Natural"),
        ],
        [part.name for part in parts if not len(part.values)],
        "mean of the five sets",
        {part.name: (len(part.values), EXAMPLE_COUNTS[part.name]) for part in parts},
    )
