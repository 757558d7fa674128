"""Counts by attribute that stay few, however many names a model gives its attributes."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from crome_jax.augment.drift import Drift
from crome_jax.augment.seeds import derive_seed

HELD = 16384
"""Rows held at most (some 15 MB): beyond, rows are counted in a half of the groups, a quarter, ..."""

SHOWN = 100
"""Rows shown of a table: the most frequent. All others are one row."""

OTHERS = "other attributes"
"""The attribute's name in that row."""

_BITS = 64  # Of a derived seed.


@dataclasses.dataclass
class _Level:
    drift: dict[tuple[str, str], Drift] = dataclasses.field(default_factory=dict)
    comparisons: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)

    def merge(self, other: "_Level") -> None:
        self.comparisons.update(other.comparisons)
        for key, drift in other.drift.items():
            self.drift.setdefault(key, Drift()).merge(drift)

    def __len__(self) -> int:
        return len(self.drift) + len(self.comparisons)


class AttributeRows:
    """Drift by (made, attribute), and comparisons by (kind, attribute).

    A half of the groups are of level 0, a quarter of level 1, and so on; which is a matter of their ids. Rows are kept
    by level, and while there are more than HELD the lowest level goes. So what is left is of all groups of the levels
    that are left: it does not depend on the order in which groups or partial rows came, nor on how they were parted.

    Args:
        seed: of the levels.
    """

    def __init__(self, seed: int = 0):
        self._seed = seed
        self._lowest = 0
        self._levels: dict[int, _Level] = collections.defaultdict(_Level)

    @property
    def share(self) -> float:
        """The share of groups that the rows are of."""
        return 0.5**self._lowest

    def add(
        self, group: str, drift: Iterable[tuple[tuple[str, str], Drift]], comparisons: Iterable[tuple[str, str]]
    ) -> None:
        """Count a group.

        Args:
            group: its id.
            drift: (made, attribute) and what it did, for each rewrite.
            comparisons: (kind, attribute) of each.
        """
        level = _BITS - derive_seed(self._seed, "rows", group).bit_length()
        if level < self._lowest:
            return
        rows = self._levels[level]
        for key, one in drift:
            rows.drift.setdefault(key, Drift()).merge(one)
        rows.comparisons.update(comparisons)
        self._shrink()

    def merge(self, other: "AttributeRows") -> None:
        """Add what other rows hold."""
        self._lowest = max(self._lowest, other._lowest)
        for level, rows in other._levels.items():
            self._levels[level].merge(rows)
        self._shrink()

    def drift(self) -> dict[tuple[str, str], Drift]:
        """Return (made, attribute) -> what it did."""
        return self._together().drift

    def comparisons(self) -> collections.Counter[tuple[str, str]]:
        """Return (kind, attribute) -> how many there are in those groups."""
        return self._together().comparisons

    def state(self) -> dict[str, Any]:
        """Return all that is held, as plain JSON types; `from_state` is its inverse."""
        return {
            "lowest": self._lowest,
            "levels": [
                [
                    level,
                    [[*key, drift.state()] for key, drift in rows.drift.items()],
                    [[*key, n] for key, n in rows.comparisons.items()],
                ]
                for level, rows in self._levels.items()
            ],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], seed: int = 0) -> "AttributeRows":
        """Return the rows that `state` was taken of."""
        rows = cls(seed)
        rows._lowest = state["lowest"]
        for level, drift, comparisons in state["levels"]:
            held = rows._levels[level]
            held.drift.update({tuple(key): Drift.from_state(sums) for *key, sums in drift})
            held.comparisons.update({tuple(key): n for *key, n in comparisons})
        return rows

    def _together(self) -> _Level:
        whole = _Level()
        for rows in self._levels.values():
            whole.merge(rows)
        return whole

    def _shrink(self) -> None:
        self._drop_below()
        while sum(map(len, self._levels.values())) > HELD:
            self._lowest += 1
            self._drop_below()

    def _drop_below(self) -> None:
        for level in [level for level in self._levels if level < self._lowest]:
            del self._levels[level]


def most_frequent(counts: Mapping[tuple[str, ...], int]) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return the keys of the SHOWN largest counts, largest first, and the others."""
    named = sorted((key for key, n in counts.items() if n and key[1] != OTHERS), key=lambda key: (-counts[key], key))
    return named[:SHOWN], [*named[SHOWN:], *(key for key, n in counts.items() if n and key[1] == OTHERS)]


def without_name(key: tuple[str, ...]) -> tuple[str, ...]:
    """Return the key of the row that a row becomes part of; the attribute comes second in a key."""
    return key[0], OTHERS, *key[2:]


def bound(counts: collections.Counter[tuple[str, ...]]) -> None:
    """Take the attributes' names out of counts, for each first part of a key with more than HELD of them.

    What is left does not depend on how the counts were parted: names that went once, go whenever they come again.
    """
    if len(counts) <= HELD and not any(key[1] == OTHERS for key in counts):
        return
    keys = collections.Counter(first for first, *_ in counts)
    nameless = {key[0] for key in counts if key[1] == OTHERS} | {first for first, n in keys.items() if n > HELD}
    for key in [key for key in counts if key[0] in nameless and key[1] != OTHERS]:
        counts[without_name(key)] += counts.pop(key)


def shown(counts: Mapping[tuple[str, ...], int]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the SHOWN largest counts, largest first, and the sums of the others."""
    first, rest = most_frequent(counts)
    yield from ((key, counts[key]) for key in first)
    others: collections.Counter[tuple[str, ...]] = collections.Counter()
    for key in rest:
        others[without_name(key)] += counts[key]
    yield from sorted(others.items(), key=lambda row: (-row[1], row[0]))
