"""A benchmark's groups with their rewards: the rewards of chosen and rejected responses, in the benchmark's order."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crome_jax.errors import CromeError
from crome_jax.evaluation.accuracy import check_rewards
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.distinct import number_prompts
from crome_jax.evaluation.leads import is_pairwise
from crome_jax.groups import PreferenceGroup

Measure = Callable[["Examples", Bootstrap], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of a benchmark, scored.

    Args:
        ids: of the groups.
        subsets: the part of the benchmark that each belongs to.
        prompts: equal numbers are equal prompts, the unit that intervals draw.
        chosen, rejected: one array of rewards for each example (nats); empty of a pairwise model, which has none.
        log_odds: of a pairwise model, for each example that each chosen response is better than each rejected one.
    """

    ids: tuple[str, ...]
    subsets: tuple[str, ...]
    prompts: Int[np.ndarray, "N"]
    chosen: tuple[Float[np.ndarray, "M"], ...]
    rejected: tuple[Float[np.ndarray, "W"], ...]
    log_odds: tuple[Float[np.ndarray, "M W"], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def leads(self) -> tuple[Float[np.ndarray, "M W"], ...]:
        """How far, of each example, each chosen response leads each rejected one (nats)."""
        sides = zip(self.chosen, self.rejected, strict=True)
        return self.log_odds or tuple(chosen[:, None] - rejected[None, :] for chosen, rejected in sides)

    def of(self, *subsets: str) -> Int[np.ndarray, "N"]:
        """Return the places of the examples of some subsets."""
        return np.flatnonzero(np.isin(self.subsets, subsets)) if self.subsets else np.zeros(0, np.int64)


def read_examples(groups: Sequence[PreferenceGroup], rewards: Sequence[np.ndarray]) -> Examples:
    """Line up a benchmark's groups with the rewards of their responses.

    Args:
        groups: as datasets/benchmarks/groups.benchmark_group builds them.
        rewards: one array [R] per group, the reward of each response (nats); of a pairwise model log-odds [R, R].

    Raises:
        CromeError: where rewards do not fit the groups or are not finite, or a group is no benchmark's.
    """
    rewards = check_rewards(groups, rewards)
    places: dict[str, list[list[int]]] = {"chosen_at": [], "rejected_at": []}
    for group in groups:
        for side, at in places.items():
            if side not in group.metadata:
                raise CromeError(f"group {group.id!r}: is no benchmark's, it lacks {side!r}; read it with --data")
            at.append([int(place) for place in str(group.metadata[side]).split(",")])
    chosen, rejected = places.values()
    described = {
        "ids": tuple(group.id for group in groups),
        "subsets": tuple(str(group.metadata["subset"]) for group in groups),
        "prompts": number_prompts(groups),
    }
    if any(map(is_pairwise, rewards)):
        log_odds = tuple(map(_log_odds, groups, rewards, chosen, rejected))
        return Examples(**described, chosen=(), rejected=(), log_odds=log_odds)
    of = lambda places: tuple(reward[at] for reward, at in zip(rewards, places, strict=True))  # noqa: E731
    return Examples(**described, chosen=of(chosen), rejected=of(rejected))


def _log_odds(
    group: PreferenceGroup, judged: Float[np.ndarray, "R R"], chosen: Sequence[int], rejected: Sequence[int]
) -> Float[np.ndarray, "M W"]:
    found = judged[np.ix_(chosen, rejected)]
    if not np.isfinite(found).all():
        raise CromeError(f"group {group.id!r}: not every chosen response was compared with every rejected one")
    return found


def pair_results(examples: Examples) -> Float[np.ndarray, "N"]:
    """Return of pairs 1 where the chosen response has the higher reward, else 0: equal rewards are no win."""
    return np.array([float(leads[0, 0] > 0) for leads in examples.leads])


@dataclasses.dataclass(frozen=True)
class Part:
    """One mean that a benchmark's score is made of.

    Args:
        name: of the subset, say.
        values: one per example, whose mean is the part's score.
        prompts: the prompt of each.
        examples: the place of each among the benchmark's examples; of what several make up, that of the first.
        weight: in the section that it belongs to.
    """

    name: str
    values: Float[np.ndarray, "N"]
    prompts: Int[np.ndarray, "N"]
    examples: Int[np.ndarray, "N"]
    weight: float = 1.0

    @property
    def score(self) -> float:
        """The mean of the values."""
        return float(np.mean(self.values))


def subset_part(examples: Examples, results: Float[np.ndarray, "N"], subset: str, weight: float = 1.0) -> Part:
    """Return the part of one subset; it has no values where the subset has no example."""
    at = examples.of(subset)
    return Part(subset, results[at], examples.prompts[at], at, weight)


def row(
    name: str,
    level: str,
    parts: Sequence[tuple[float, Part]],
    bootstrap: Bootstrap,
    examples: int | None = None,
    *,
    together: bool = False,
) -> dict[str, Any]:
    """Return a line of a benchmark's table: the weighted sum of parts, with its interval.

    Args:
        level: overall, section or subset.
        parts: of each its share of the score; all have examples.
        examples: how many the line counts; None adds up those of its parts.
        together: whether the parts are of the same prompts, which the interval then draws once for all of them.

    Returns:
        `name`, `level`, `score` and `interval` (None where there are no parts) and `examples`; and `parts` and
        `together`, of which no report tells but what `part_files` writes.
    """
    given = {"parts": tuple(parts), "together": together}
    if not parts:
        return {"name": name, "level": level, "score": None, "interval": None, "examples": 0, **given}
    weighed = [(share, part.values, part.prompts) for share, part in parts]
    interval = bootstrap.composite_interval(weighed, together=together)
    return {
        "name": name,
        "level": level,
        "score": float(sum(share * part.score for share, part in parts)),
        "interval": list(interval),
        "examples": sum(len(part.values) for _, part in parts) if examples is None else examples,
        **given,
    }


def table(
    rows: Sequence[dict[str, Any]],
    missing: Sequence[str],
    rule: str,
    numbers: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, Any]:
    """Return a benchmark's figures: those of its first row, the overall score, on top.

    Args:
        missing: subsets without an example: the score is then of what is there, and does not compare with others'.
        rule: how the score is computed, in words.
        numbers: parts to how many examples each has here and in the published benchmark, where that is known.

    Returns:
        `score`, `interval` and `examples` of the first row; `missing`, `rule` and `rows` as given; `partial`, of every
        part that has another number of examples than the published one its `name`, `examples` and `official`; and
        `complete`, whether neither is the case.
    """
    overall = rows[0]
    partial = [
        {"name": name, "examples": found, "official": official}
        for name, (found, official) in (numbers or {}).items()
        if found and found != official
    ]
    return {
        "score": overall["score"],
        "interval": overall["interval"],
        "examples": overall["examples"],
        "complete": not missing and not partial,
        "missing": list(missing),
        "partial": partial,
        "rule": rule,
        "rows": list(rows),
    }


def shares(parts: Sequence[Part], scale: float = 1.0) -> list[tuple[float, Part]]:
    """Return parts with their weights made shares that add up to `scale`; parts without examples are left out."""
    held = [part for part in parts if len(part.values)]
    total = sum(part.weight for part in held)
    return [(scale * part.weight / total, part) for part in held]
