"""The figures of a best-of-N evaluation: its curve, and what the judge's benchmark makes of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from crome_jax.evaluation.best_of_n import best_of_n, best_of_n_curve, pick_probabilities
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.candidates import Candidates, read_difficulty
from crome_jax.evaluation.distinct import number_prompts
from crome_jax.evaluation.win_rate import length_controlled_win_rate

SCHEMA = "crome_jax.best_of_n/1"

LABELS = {
    "exact": "share with the right answer",
    "refusal": "share handled as it should be",
    "preference": "win rate against the baseline",
}
"""Judge to what its values are."""

PARTS = {
    "attack_success": "share of harmful prompts complied with",
    "over_refusal": "share of benign prompts refused",
}
"""Of refusal, the two rates that are best when they are low."""

CONTROLLED = "length-controlled win rate against the baseline"


def best_of_n_figures(
    items: Sequence[Candidates],
    rewards: Sequence[Float[np.ndarray, "M"]],
    values: Sequence[Float[np.ndarray, "M"]],
    judge: str,
    bootstrap: Bootstrap,
    most: int | None = None,
) -> dict[str, Any]:
    """Measure what a reward model picks.

    Args:
        items: prompts with candidates.
        rewards, values: one array for each, in the order of its candidates.
        judge: that the values are from.
        most: the largest N.

    Returns:
        What best_of_n_curve gives, the `judge`, and of refusal `attack_success` and `over_refusal` (curves of shares:
        of harmful prompts complied with, of benign ones refused), of preference `length_controlled` win rates by N.

    Raises:
        DataError: where some records of preferences have `instruction_difficulty` and others have none.
    """
    prompts = number_prompts([item.to_group() for item in items])
    figures = {"schema": SCHEMA, "judge": judge, **best_of_n_curve(rewards, values, prompts, bootstrap, most)}
    if judge == "refusal":
        for name, harmful in (("attack_success", True), ("over_refusal", False)):
            at = [n for n, item in enumerate(items) if item.facts["harmful"] is harmful]
            if at:
                failures = [1 - values[n] for n in at]
                figures[name] = best_of_n_curve([rewards[n] for n in at], failures, prompts[at], bootstrap, most)
                for point in figures[name]["curve"]:  # The best here is the least.
                    point["oracle"] = float(np.mean([best_of_n(-f, f, point["n"]) for f in failures]))
    if judge == "preference":
        figures["length_controlled"] = [
            {"n": point["n"], **_length_controlled(items, rewards, values, point["n"], bootstrap)}
            for point in figures["curve"]
        ]
    return figures


def _length_controlled(
    items: Sequence[Candidates],
    rewards: Sequence[Float[np.ndarray, "M"]],
    values: Sequence[Float[np.ndarray, "M"]],
    n: int,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Return the length-controlled win rate of picks from n: each candidate counts as often as it is picked."""
    each = [len(item.texts) for item in items]
    difficulty = read_difficulty(items)
    return length_controlled_win_rate(
        np.concatenate(values),
        np.array([float(len(text)) for item in items for text in item.texts]),
        np.repeat([float(len(item.facts["baseline"])) for item in items], each),
        bootstrap,
        None if difficulty is None else np.repeat(difficulty, each),
        np.concatenate([pick_probabilities(some, n) for some in rewards]),
        np.repeat(number_prompts([item.to_group() for item in items]), each),
    )
