"""A sample of counterfactual pairs to read: what was edited, both texts, both rewards."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from crome_jax.evaluation.accuracy import check_rewards
from crome_jax.evaluation.leads import sides
from crome_jax.evaluation.word_diff import Piece, diff_words, shared_start
from crome_jax.groups import Comparison, Kind, Origin, PreferenceGroup, prompt_text

LEAD = 300
"""Characters shown before the first difference of texts too long to be shown from their start."""


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """The part of a text that is shown.

    Args:
        pieces: the part, split where it differs from the other text.
        skipped, left: characters not shown before and after it.
    """

    pieces: tuple[Piece, ...]
    skipped: int
    left: int

    @property
    def text(self) -> str:
        """The part as one text."""
        return "".join(piece.text for piece in self.pieces)


@dataclasses.dataclass(frozen=True)
class Counterfactual:
    """Two responses of one prompt, before and after an edit, and what every method makes of them.

    Args:
        group: id of the group.
        category: the group's metadata `category`, None where it has none.
        kind: causal or neutral.
        attribute: the causal attribute that was raised or lowered, None where none was.
        origin: how the later response came to be.
        edit: what was done, in words.
        related: whether one response was made from the other, so that a comparison word by word tells something.
        expected: what the reward must do from `before` to `after`: rise, fall or stay.
        prompt, before, after: the texts, as far as they are shown.
        rewards: method to the rewards (before, after), in nats; of a pairwise model half of its log-odds to either.
    """

    group: str
    category: str | None
    kind: str
    attribute: str | None
    origin: str
    edit: str
    related: bool
    expected: str
    prompt: Excerpt
    before: Excerpt
    after: Excerpt
    rewards: Mapping[str, tuple[float, float]]

    def moves_right(self, method: str) -> bool | None:
        """Tell whether a method's reward moves the way it must; None for a tie, where it must not move."""
        before, after = self.rewards[method]
        return None if self.expected == "stay" else (after > before) if self.expected == "rise" else (after < before)

    def to_dict(self) -> dict[str, Any]:
        """Return the pair as plain JSON types, its texts as far as they are shown."""
        shown = {name: getattr(self, name) for name in ("prompt", "before", "after")}
        return {
            **{
                name: getattr(self, name)
                for name in ("group", "category", "kind", "attribute", "origin", "edit", "expected")
            },
            **{name: excerpt.text for name, excerpt in shown.items()},
            "characters_not_shown": {name: excerpt.skipped + excerpt.left for name, excerpt in shown.items()},
            "rewards": {
                method: {"before": before, "after": after, "change": after - before}
                for method, (before, after) in self.rewards.items()
            },
        }


def sample_counterfactuals(
    groups: Sequence[PreferenceGroup],
    rewards: Mapping[str, Sequence[np.ndarray]],
    *,
    pairs: int = 60,
    characters: int = 4000,
    seed: int = 0,
) -> list[Counterfactual]:
    """Draw causal and neutral comparisons, as evenly over kinds and origins as there are any, in each over attributes.

    Kinds and origins come first, as there may be more attributes than pairs: then each has its share all the same.

    Args:
        groups: augmented groups.
        rewards: method to one array [R] per group (nats).
        pairs: at most so many are drawn.
        characters: at most so many characters of a text are shown.

    Returns:
        The pairs ordered by kind, attribute and place in `groups`.

    Raises:
        CromeError: where rewards do not fit the groups or are not finite.
    """
    checked = {method: check_rewards(groups, scored) for method, scored in rewards.items()}
    strata: dict[tuple[Kind, str], dict[str, list[tuple[int, int]]]] = {}
    for g, group in enumerate(groups):
        for c, comparison in enumerate(group.comparisons):
            if comparison.kind != Kind.HUMAN:
                origin = group.responses[_in_order(group, comparison)[1]].origin.value
                attributes = strata.setdefault((comparison.kind, origin), {})
                attributes.setdefault(comparison.attribute or "", []).append((g, c))
    rng = np.random.default_rng(seed)
    turns = _in_turn([_in_turn(_shuffled(strata[stratum], rng)) for stratum in sorted(strata)])
    drawn = [(groups[g].comparisons[c], g, c) for g, c in itertools.islice(turns, pairs)]
    sample = []
    for comparison, g, _ in sorted(drawn, key=lambda row: (row[0].kind, row[0].attribute or "", *row[1:])):
        scored = {method: reward[g] for method, reward in checked.items()}
        sample.append(_counterfactual(groups[g], comparison, scored, characters))
    return sample


def _shuffled(rows: Mapping[str, Sequence[tuple[int, int]]], rng: np.random.Generator) -> list[list[tuple[int, int]]]:
    """Return the rows of each attribute, attributes and rows in an order that is drawn."""
    names = [sorted(rows)[i] for i in rng.permutation(len(rows))]
    return [[rows[name][i] for i in rng.permutation(len(rows[name]))] for name in names]


def _in_turn(given: Sequence[Iterable[tuple[int, int]]]) -> Iterator[tuple[int, int]]:
    """Yield the first of each, the second of each, and so on; those that are used up are passed over."""
    ends = object()
    for row in itertools.zip_longest(*given, fillvalue=ends):
        yield from (one for one in row if one is not ends)


def _in_order(group: PreferenceGroup, comparison: Comparison) -> tuple[int, int]:
    """Return the responses before and after the edit."""
    first, last = comparison.left, comparison.right
    related = _related(group, first, last)
    edited_first = group.responses[first].origin != Origin.ORIGINAL == group.responses[last].origin
    return (last, first) if group.responses[first].parent == last or (not related and edited_first) else (first, last)


def _related(group: PreferenceGroup, first: int, last: int) -> bool:
    return group.responses[first].parent == last or group.responses[last].parent == first


def _counterfactual(
    group: PreferenceGroup, comparison: Comparison, rewards: Mapping[str, np.ndarray], characters: int
) -> Counterfactual:
    first, last = _in_order(group, comparison)
    related = _related(group, first, last)
    last_preferred = comparison.target if last == comparison.left else 1 - comparison.target
    expected = "stay" if last_preferred == 0.5 else "rise" if last_preferred > 0.5 else "fall"
    after = group.responses[last]
    before_shown, after_shown = _excerpts(group.responses[first].text, after.text, related, characters)
    prompt = prompt_text(group.prompt)
    category = group.metadata.get("category")
    return Counterfactual(
        group=group.id,
        category=None if category is None else str(category),
        kind=comparison.kind.name.lower(),
        attribute=comparison.attribute or after.attribute,
        origin=after.origin.value,
        edit=after.edit or _describe(after.origin, comparison.attribute or after.attribute),
        related=related,
        expected=expected,
        prompt=Excerpt((Piece(prompt[:characters], False),), 0, max(0, len(prompt) - characters)),
        before=before_shown,
        after=after_shown,
        rewards={method: sides(reward, first, last) for method, reward in rewards.items()},
    )


def _describe(origin: Origin, attribute: str | None) -> str:
    if origin in (Origin.UPGRADED, Origin.DEGRADED):
        return f"{attribute or 'one attribute'} {'raised' if origin == Origin.UPGRADED else 'lowered'}"
    if origin == Origin.IRRELEVANT:
        return "answers to other prompts, put under this one"
    return "reworded, with the same content" if origin == Origin.PARAPHRASED else "answers that must be worth the same"


def _excerpts(before: str, after: str, related: bool, characters: int) -> tuple[Excerpt, Excerpt]:
    start = 0
    if related and max(len(before), len(after)) > characters:
        start = max(0, shared_start(before, after) - LEAD)
    # Compared a little further than shown, so that a word cut in two is not taken for an edit.
    compared = [text[start : start + characters + LEAD] for text in (before, after)]
    pieces = diff_words(*compared) if related else [[Piece(text, False)] for text in compared]
    return tuple(
        Excerpt(_cut(part, characters), min(start, len(whole)), max(0, len(whole) - start - characters))
        for part, whole in zip(pieces, (before, after), strict=True)
    )


def _cut(pieces: Sequence[Piece], characters: int) -> tuple[Piece, ...]:
    kept = []
    for piece in pieces:
        if characters > 0:
            kept.append(Piece(piece.text[:characters], piece.differs))
            characters -= len(piece.text)
    return tuple(kept)
