"""How much of what is made: a data recipe in numbers."""

import dataclasses

from crome_jax.errors import CromeError

MOST_RUBRICS = 8
"""Attributes asked of the oracle for one prompt: more than are used, since some will be declined."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What augmentation adds to a group (Crome, arXiv 2506.16507, stage 1, and its relatives).

    Args:
        rubrics_per_prompt: attributes asked of the oracle for one prompt, at most.
        degrade_per_pair, upgrade_per_pair: causal comparisons wanted for each human comparison that is no tie.
        align_per_pair: causally-aligned ties (CAN) wanted for each human comparison, 0 or 1.
        paraphrase_per_pair: ties of an answer and its paraphrase (PARA) for each human comparison: 1 takes the
            preferred answer, 2 the other as well.
        implied: whether to add the causal comparisons that a causally-aligned tie implies.
        chain_steps: steps along one attribute that the first lowered and the first raised answer of each comparison is
            taken; 1 makes no chain. All steps are compared with each other.
        joint_per_pair: lowered, and raised, answers of each comparison that are moved along a second attribute, too.
        rewritten_twice_per_pair: lowered, and raised, answers of each comparison that are rewritten once more, the
            other way; see `elaborations.rewrite_back`.
        max_pairs_per_group: most human comparisons of a group that are used, drawn with the seed; None uses all.
        neutrals_per_group: irrelevant-query ties (IQN) wanted for each group.
        causal_share: chance that such a tie is a causal pair of its donor rather than a human one.
        permutations: pairs of other groups that RRM's recipe puts under each prompt; see `add_permutations`.
        judge: whether the oracle judges its own interventions, and CAN and PARA ties, and those it finds wanting are
            dropped.

    Raises:
        CromeError: where a number is out of range.
    """

    rubrics_per_prompt: int = MOST_RUBRICS
    degrade_per_pair: int = 2
    upgrade_per_pair: int = 2
    align_per_pair: int = 1
    paraphrase_per_pair: int = 0
    implied: bool = True
    chain_steps: int = 1
    joint_per_pair: int = 0
    rewritten_twice_per_pair: int = 0
    max_pairs_per_group: int | None = 4
    neutrals_per_group: int = 2
    causal_share: float = 0.5
    permutations: int = 0
    judge: bool = False

    def __post_init__(self):
        least = {"rubrics_per_prompt": 1, "chain_steps": 1}
        most = {"align_per_pair": 1, "paraphrase_per_pair": 2, "causal_share": 1}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low, high = least.get(field.name, 0), most.get(field.name, float("inf"))
            if value is not None and not low <= value <= high:
                bound = f"at least {low}" if high == float("inf") else f"from {low} to {high}"
                raise CromeError(f"Recipe.{field.name} is {value}; give a number {bound}")
