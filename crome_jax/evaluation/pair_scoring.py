"""What a pairwise preference model says of every two responses that are compared, by the packed, prompt-once path."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from crome_jax.data.loading import pack_groups, tokenize_groups
from crome_jax.data.packing import Rows, RowShape, TokenizedGroup, pack_tightly
from crome_jax.data.pairs import PairForm
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.distinct import distinct_prompts
from crome_jax.evaluation.leads import win_probabilities
from crome_jax.evaluation.score_journal import ScoreJournal
from crome_jax.evaluation.scoring import RewardModel, Scores, count_tokens, row_shapes, score_groups, score_packed
from crome_jax.groups import Comparison, PreferenceGroup

BOTH = PairForm("both")
"""Scoring looks at either order, and averages: what a model makes of which answer comes first then cancels."""


def judge_groups(
    model: RewardModel,
    groups: Sequence[PreferenceGroup],
    *,
    rows_at_once: int = 8,
    on_bad: Callable[[PreferenceGroup, DataError], None] | None = None,
    journal: ScoreJournal | None = None,
    name: str = "score",
) -> Scores:
    """Score what a model can of groups: of a reward model every response, of a pairwise one the comparisons.

    Returns:
        Scores whose `rewards` are, of a pairwise model, log-odds [R, R] as `leads` describes them.
    """
    score = score_pairs if model.pairwise else score_groups
    return score(model, groups, rows_at_once=rows_at_once, on_bad=on_bad, journal=journal, name=name)


def score_candidates(
    model: RewardModel,
    groups: Sequence[PreferenceGroup],
    *,
    rows_at_once: int = 8,
    on_bad: Callable[[PreferenceGroup, DataError], None] | None = None,
    journal: ScoreJournal | None = None,
    name: str = "score",
) -> Scores:
    """Score every response of every group by a pairwise model: the mean probability to be better than each other one.

    It takes R (R - 1) pairs for R responses. The arguments are those of `scoring.score_groups`.

    Returns:
        Scores whose `rewards` are probabilities [R]: NaN of a group that was refused, 1/2 of a lone response.

    Raises:
        CromeError, DataError: as `score_pairs` does.
    """
    scores = score_pairs(
        model, groups, every_pair=True, rows_at_once=rows_at_once, on_bad=on_bad, journal=journal, name=name
    )
    return dataclasses.replace(scores, rewards=[win_probabilities(odds).astype(np.float32) for odds in scores.rewards])


def score_pairs(
    model: RewardModel,
    groups: Sequence[PreferenceGroup],
    *,
    every_pair: bool = False,
    rows_at_once: int = 8,
    on_bad: Callable[[PreferenceGroup, DataError], None] | None = None,
    journal: ScoreJournal | None = None,
    name: str = "score",
) -> Scores:
    """Score pairs of responses in either order: half the difference of the two logits, so that swapping negates it.

    Each distinct prompt is encoded once, and so is each distinct pair in each order; what all prompts begin with, once
    for each row.

    Args:
        every_pair: score every two responses of a group, not those alone that its comparisons compare.
        rows_at_once, on_bad, journal, name: as of `scoring.score_groups`.

    Returns:
        Scores whose `rewards` are log-odds [R, R] as `leads` describes them, all NaN of a group that was refused;
        `truncated` counts the answers that were cut, in each pair that they are in, `equal` the distinct pairs that
        are equal once cut.

    Raises:
        CromeError: where the model is no pairwise one.
        DataError: where a prompt leaves no room in a row, or there is nothing to compare.
    """
    if not model.pairwise:
        raise CromeError("the model gives rewards to responses and compares no pairs; score its responses")
    distinct = distinct_prompts(groups)
    asked = [_compared(of, groups, distinct.places, every_pair) for of in distinct.members]
    merged = [
        dataclasses.replace(group, comparisons=tuple(itertools.starmap(Comparison, pairs)))
        for group, pairs in zip(distinct.groups, asked, strict=True)
    ]

    refuse = None if on_bad is None else distinct.pass_on(groups, on_bad)
    items: list[TokenizedGroup] = []
    judged = [np.full((len(group.responses),) * 2, np.nan, np.float32) for group in distinct.groups]
    flags = [np.zeros(len(group.responses), bool) for group in distinct.groups]
    cut = equal = 0
    for item in tokenize_groups(merged, model.tokenizer, model.shape, pairs=BOTH, on_bad=refuse):
        np.fill_diagonal(judged[item.index], 0.0)
        flags[item.index][list(item.cut_at)] = True
        cut += item.cut
        equal += item.equal
        if item.responses:
            items.append(item)
    packed = pack_tightly(items, row_shapes(model.shape))
    if not packed:
        raise DataError("holds nothing to compare", fix="give records of two responses, whose prompts fit a row")
    for rows, values in score_packed(model, packed, rows_at_once=rows_at_once, journal=journal, name=name):
        _gather(rows, values, asked, judged)
    places = [(at, np.ix_(responses, responses)) for at, responses in distinct.places]
    log_odds = [judged[at][where] for at, where in places]
    return Scores(log_odds, cut, *count_tokens(model, packed, rows_at_once), equal, distinct.spread(flags))


def tokens_alone(
    groups: Sequence[PreferenceGroup], tokenizer: Tokenizer, shape: RowShape, *, pairwise: bool = False
) -> int:
    """Count the tokens that scoring both sides of every comparison with its own prompt would take.

    They are cut as scoring cuts them, and what no row has room for counts nothing: neither is a saving.

    Args:
        pairwise: count both answers together, in either order, as a pairwise model reads them.
    """
    total, pairs = 0, BOTH if pairwise else None
    for item in tokenize_groups(groups, tokenizer, shape, pairs=pairs, on_bad=lambda group, error: None):
        lengths = [min(len(ids), shape.tokens - len(item.prompt)) for ids in item.responses]
        sides = [*item.left, *(r for r in item.right if r >= 0)]
        total += sum(len(item.prompt) + lengths[r] for r in sides)
    return total


def pack_pairs(groups: Sequence[PreferenceGroup], tokenizer: Tokenizer, shape: RowShape, *, name: str) -> Rows:
    """Pack the comparisons of groups in either order, each two responses once; `gather_pairs` reads what comes of it.

    Raises:
        DataError: where a prompt leaves no room in a row; naming the data `name`.
    """
    compared = [
        dataclasses.replace(group, comparisons=tuple(itertools.starmap(Comparison, _distinct_pairs(group))))
        for group in groups
    ]
    return pack_groups(compared, tokenizer, shape, pairs=BOTH, name=name)


def gather_pairs(rows: Rows, values: np.ndarray, groups: Sequence[PreferenceGroup]) -> list[np.ndarray]:
    """Bring the logits of pack_pairs' slots back to groups, as log-odds [R, R]."""
    judged = [np.full((len(group.responses),) * 2, np.nan, np.float32) for group in groups]
    for matrix in judged:
        np.fill_diagonal(matrix, 0.0)
    _gather(rows, values, [_distinct_pairs(group) for group in groups], judged)
    return judged


def _distinct_pairs(group: PreferenceGroup) -> list[tuple[int, int]]:
    return sorted({(min(c.left, c.right), max(c.left, c.right)) for c in group.comparisons})


def _compared(
    members: Sequence[int],
    groups: Sequence[PreferenceGroup],
    places: Sequence[tuple[int, list[int]]],
    every_pair: bool,
) -> list[tuple[int, int]]:
    """Return the pairs (low, high) of a distinct prompt's responses that one of its groups wants."""
    wanted: set[tuple[int, int]] = set()
    for number in members:
        at = places[number][1]
        own = itertools.combinations(range(len(at)), 2) if every_pair else _distinct_pairs(groups[number])
        wanted |= {(min(at[a], at[b]), max(at[a], at[b])) for a, b in own}
    return sorted(wanted)


def _gather(
    rows: Rows, values: np.ndarray, pairs: Sequence[Sequence[tuple[int, int]]], judged: Sequence[np.ndarray]
) -> None:
    """Add half of each slot's logit to the log-odds of its pair, and take it from those of the pair turned round."""
    for row, slot in zip(*np.nonzero(rows.groups >= 0), strict=True):
        group, order = int(rows.groups[row, slot]), int(rows.responses[row, slot])
        # Slots 2 p and 2 p + 1 hold pair p: low first, and high first.
        low, high = pairs[group][order // 2]
        first, second = (high, low) if order % 2 else (low, high)
        half = np.float32(0.5) * np.float32(values[row, slot])
        for at, share in (((first, second), half), ((second, first), -half)):
            there = judged[group][at]
            judged[group][at] = share if np.isnan(there) else there + share
