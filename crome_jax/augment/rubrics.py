"""The causal attributes that decide how good an answer is, and what raising or lowering each one means."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rubric:
    """One causal attribute of an answer.

    Args:
        name: what `Response.attribute` and `Comparison.attribute` hold.
        definition: what an answer that is good in this attribute does, for an oracle that reads English.
    """

    name: str
    definition: str


FACTUALITY = Rubric("factuality", "Names, numbers, dates and relations are stated as they are.")
COMPLETENESS = Rubric("completeness", "Everything the prompt needs is there; nothing that matters is left out.")
RELEVANCE = Rubric("relevance", "Every sentence bears on the prompt.")
ORDER = Rubric("order", "Steps and arguments come in the order in which they can be followed.")
CONSISTENCY = Rubric("consistency", "No claim is denied or contradicted by another part of the answer.")
COMPLIANCE = Rubric(
    "compliance",
    "The answer does what the prompt asks, within the limits the prompt sets, and declines exactly where declining is"
    " appropriate.",
)

RUBRICS = {r.name: r for r in (FACTUALITY, COMPLETENESS, RELEVANCE, ORDER, CONSISTENCY, COMPLIANCE)}
"""The attributes every oracle of this package knows; a model-backed one may name others."""
