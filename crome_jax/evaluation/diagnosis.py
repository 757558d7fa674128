"""What a reward model rewards: the effects of attributes, leakage, length, calibration, and where it does worst."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from crome_jax.augment.oracles.base import Oracle
from crome_jax.errors import CromeError
from crome_jax.evaluation.accuracy import check_rewards, pairwise_outcomes
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.calibration import fit_scale
from crome_jax.evaluation.distinct import number_prompts
from crome_jax.evaluation.effects import RewriteRewards, compare_kinds, effects_by_rewrite, measure_effect
from crome_jax.evaluation.figures import split_figures
from crome_jax.evaluation.leads import Judged, is_pairwise, lead
from crome_jax.evaluation.length_control import measure_length_control
from crome_jax.evaluation.rewrites import CAUSAL, SPURIOUS, Rewritten, causal_rewrites, count_pairs, style_rewrites
from crome_jax.evaluation.style_attributes import ATTRIBUTES as STYLES
from crome_jax.evaluation.trivial_scorers import score_constant
from crome_jax.groups import Comparison, PreferenceGroup, Response

SCHEMA = "crome_jax.diagnosis/1"
LEAST_IN_STRATUM = 10
"""Comparisons that a stratum must have to be called the worst: of fewer, one is bound to be bad by chance."""

ScoreGroups = Callable[[Sequence[PreferenceGroup]], Sequence[np.ndarray]]


def diagnose(
    groups: Sequence[PreferenceGroup],
    score: ScoreGroups,
    *,
    oracle: Oracle | None,
    attributes: Sequence[str] = (),
    spurious: Sequence[str] = tuple(style.name for style in STYLES),
    seed: int = 0,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Any]:
    """Measure what a reward model rewards, on human comparisons and on rewrites of their responses.

    Args:
        groups: with comparisons that prefer one side; augmented ones also tell of causal and neutral comparisons.
        score: from groups to one array [R] of rewards for each, or, by a pairwise model, log-odds [R, R] of at least
            their comparisons, to which those of rewrites with what they are set against are added.
        oracle: who raises and lowers causal attributes; None measures effects of spurious ones alone.
        attributes: the causal ones.
        spurious: those of style, by rule.

    Returns:
        `accuracy` as split_figures gives it; `length_control`; `calibration_scale`; `worst_stratum`; `effects.causal`
        and `effects.spurious`, attribute to what measure_effect gives and, as `by_rewrite`, effects_by_rewrite;
        `causal_pairs` as count_pairs gives it, None without an oracle; `summary` as compare_kinds gives it.

    Raises:
        CromeError: where no comparison prefers one side, or rewards are not finite.
    """
    bootstrap = bootstrap or Bootstrap()
    # Before the oracle is paid and the model runs.
    if not len(pairwise_outcomes(groups, score_constant(groups)).decided()):
        raise CromeError("no comparison of the data prefers one side; give data with better and worse responses")
    rewritten = list(style_rewrites(groups, spurious))
    if oracle is not None:
        rewritten += causal_rewrites(groups, oracle, attributes, seed)
    extended, places = _extend(groups, rewritten)
    prompts = number_prompts(groups)
    rewards = check_rewards(extended, score(extended))
    own = [_of_first(reward, len(group.responses)) for group, reward in zip(groups, rewards, strict=True)]
    decided = pairwise_outcomes(groups, own).decided()
    figures = split_figures(groups, own, bootstrap)
    found: dict[str, dict[str, list[RewriteRewards]]] = {CAUSAL: {}, SPURIOUS: {}}
    texts: dict[tuple[str, str], list[list[str | None]]] = {}
    for item, (once, twice) in zip(rewritten, places, strict=True):
        # Of a pairwise model what counts is the lead over the first rewrite, which stands for the zero of rewards.
        reward = rewards[item.group]
        original = lead(reward, item.response, once)
        back = None if twice is None else lead(reward, twice, once)
        restored = item.twice == groups[item.group].responses[item.response].text
        row = RewriteRewards(int(prompts[item.group]), item.treated, original, 0.0, back, restored)
        found[item.kind].setdefault(item.attribute, []).append(row)
        group = groups[item.group]
        asked = [text for message in group.prompt for text in (message.role, message.content)]
        written = [*asked, group.responses[item.response].text, item.once, item.twice]
        texts.setdefault((item.kind, item.attribute), []).append(written)
    effects = {
        kind: {
            name: {**measure_effect(rows, bootstrap), "by_rewrite": effects_by_rewrite(rows, texts[kind, name])}
            for name, rows in by_name.items()
        }
        for kind, by_name in found.items()
    }
    scale = float(np.std(np.concatenate([decided.difference, -decided.difference])))
    return {
        "schema": SCHEMA,
        "settings": {**dataclasses.asdict(bootstrap), "attributes": [*attributes, *spurious]},
        "accuracy": figures,
        "length_control": measure_length_control(groups, decided, bootstrap),
        "calibration_scale": fit_scale(decided),
        "worst_stratum": worst_stratum(figures),
        "effects": effects,
        "causal_pairs": None if oracle is None else count_pairs(groups),
        "summary": compare_kinds(list(effects[CAUSAL].values()), list(effects[SPURIOUS].values()), scale),
    }


def worst_stratum(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the category or spurious stratum with the lowest accuracy.

    Args:
        figures: of split_figures.

    Returns:
        Its `family` and `stratum`, with the figures of measure_accuracy; None where none has LEAST_IN_STRATUM
        comparisons.
    """
    families = {"category": figures["by_category"], **figures["by_stratum"]}
    held = [
        {"family": family, "stratum": name, **measured}
        for family, by_name in families.items()
        for name, measured in by_name.items()
        if measured["comparisons"] >= LEAST_IN_STRATUM
    ]
    return min(held, key=lambda measured: measured["accuracy"], default=None)


def _of_first(judged: Judged, count: int) -> Judged:
    return judged[:count, :count] if is_pairwise(judged) else judged[:count]


def _extend(
    groups: Sequence[PreferenceGroup], rewritten: Sequence[Rewritten]
) -> tuple[list[PreferenceGroup], list[tuple[int, int | None]]]:
    """Add rewrites to their groups' responses, compared with what they are set against; return where each one is."""
    texts = [{response.text: r for r, response in enumerate(group.responses)} for group in groups]
    places = []
    for item in rewritten:
        held = texts[item.group]
        once = held.setdefault(item.once, len(held))
        places.append((once, None if item.twice is None else held.setdefault(item.twice, len(held))))
    compared: list[dict[tuple[int, int], None]] = [{} for _ in groups]
    for item, (once, twice) in zip(rewritten, places, strict=True):
        compared[item.group][item.response, once] = None
        if twice is not None:
            compared[item.group][twice, once] = None
    extended = [
        dataclasses.replace(
            group,
            responses=(*group.responses, *map(Response, list(held)[len(group.responses) :])),
            comparisons=(*group.comparisons, *(Comparison(*pair, target=0.5) for pair in pairs)),
        )
        for group, held, pairs in zip(groups, texts, compared, strict=True)
    ]
    return extended, places
