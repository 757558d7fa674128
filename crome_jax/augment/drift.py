"""What rewrites did to length and format besides: sums that are the same in whatever order they are added up."""

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from crome_jax.augment.oracles.offline.band import formatting
from crome_jax.augment.words import count_words

_UNIT = 1_000_000
"""Parts of a nat that lengths are summed in: sums of floats would depend on their order."""

_LEAST_LENGTH, _LEAST_MARKS = 0.02, 0.5
"""Least standard deviations taken for a change of length (nats) and of a mark's count: words and marks are whole, and
two rewrites that change by the same are no proof that all would."""


@dataclasses.dataclass
class Drift:
    """What an intervention did to length and format, over answers that it made.

    Args:
        count: answers.
        length, length_squared: sums of ln(words after / words before), in millionths of a nat, and of its square.
        longer, shorter: answers that became so.
        reformatted: answers of which any mark of formatting occurs more or less often than before.
        marks, marks_squared: mark -> sum of (after - before), and of its square.
    """

    count: int = 0
    length: int = 0
    length_squared: int = 0
    longer: int = 0
    shorter: int = 0
    reformatted: int = 0
    marks: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    marks_squared: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    @classmethod
    def of(cls, before: str, after: str) -> "Drift":
        """Return that of one rewrite."""
        length = round(_UNIT * math.log(max(count_words(after), 1) / max(count_words(before), 1)))
        old = formatting(before)
        changes = {mark: count - old[mark] for mark, count in formatting(after).items() if count != old[mark]}
        squares = {mark: change * change for mark, change in changes.items()}
        counters = map(collections.Counter, (changes, squares))
        return cls(1, length, length * length, length > 0, length < 0, bool(changes), *counters)

    def merge(self, other: "Drift") -> None:
        """Add what another one summed."""
        for name, value in vars(other).items():
            if isinstance(value, collections.Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def state(self) -> dict[str, Any]:
        """Return the sums as plain JSON types; `from_state` is its inverse."""
        return {name: value for name, value in vars(self).items() if value}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Drift":
        """Return the sums that `state` was taken of."""
        drift = cls()
        drift.merge(cls(**{k: collections.Counter(v) if isinstance(v, dict) else v for k, v in state.items()}))
        return drift

    def figures(self) -> dict[str, Any]:
        """Return means with what they are means of; `length` as the mean ratio of words, leaks in standard errors.

        A mean that is far from none, in standard errors, is a leak: with this attribute goes length, or a mark, too.
        Of one answer alone no error is known, and no leak.
        """
        marks = {mark: total for mark, total in sorted(self.marks.items()) if total}
        leaks = {mark: self._leak(total, self.marks_squared[mark], _LEAST_MARKS) for mark, total in marks.items()}
        return {
            "answers": self.count,
            "length": round(math.exp(self.length / _UNIT / self.count), 4),
            "length_leak": self._leak(self.length, self.length_squared, _LEAST_LENGTH * _UNIT),
            "longer": round(self.longer / self.count, 4),
            "shorter": round(self.shorter / self.count, 4),
            "reformatted": round(self.reformatted / self.count, 4),
            "marks": {mark: round(total / self.count, 4) for mark, total in marks.items()},
            "marks_leak": leaks if self.count > 1 else {},
        }

    def _leak(self, total: int, squared: int, least: float) -> float | None:
        if self.count < 2:
            return None
        mean = total / self.count
        deviation = math.sqrt(max(squared - total * mean, 0.0) / (self.count - 1))
        return round(mean * math.sqrt(self.count) / max(deviation, least), 2)
