"""The card of an augmented data set: what is in it, what interventions did besides, what was dropped, what it cost."""

import collections
import dataclasses
import heapq
import math
from collections.abc import Mapping
from typing import Any

from crome_jax.augment.account import Account
from crome_jax.augment.oracles.offline.band import formatting
from crome_jax.augment.seeds import derive_seed
from crome_jax.augment.words import count_words
from crome_jax.groups import Comparison, Kind, Origin, PreferenceGroup, Response, from_dict, to_dict

SAMPLED = 48
"""Groups kept to draw pairs to read from."""

_COUNTERS = ("_kinds", "_origins", "_recipes", "_longer")

_MADE = (Origin.DEGRADED, Origin.UPGRADED, Origin.ALIGNED, Origin.PARAPHRASED)


@dataclasses.dataclass
class Drift:
    """What an intervention did to length and format, over all answers that it made.

    Args:
        count: answers.
        length, length_squared: sums of ln(words after / words before) and of its square.
        longer, shorter: answers that became so.
        reformatted: answers of which any mark of formatting occurs more or less often than before.
        marks: mark -> sum of (after - before).
    """

    count: int = 0
    length: float = 0.0
    length_squared: float = 0.0
    longer: int = 0
    shorter: int = 0
    reformatted: int = 0
    marks: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, before: str, after: str) -> None:
        """Count one rewrite."""
        change = math.log(max(count_words(after), 1) / max(count_words(before), 1))
        self.count += 1
        self.length += change
        self.length_squared += change * change
        self.longer += change > 0
        self.shorter += change < 0
        old, new = formatting(before), formatting(after)
        self.reformatted += old != new
        for mark, count in new.items():
            self.marks[mark] += count - old[mark]

    def merge(self, other: "Drift") -> None:
        """Add what another one summed."""
        for field in dataclasses.fields(self):
            if field.name == "marks":
                self.marks.update(other.marks)
            else:
                setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def figures(self) -> dict[str, Any]:
        """Return means with what they are means of; `length` as the mean ratio of words, `leak` in standard errors.

        A mean that is far from none, in standard errors, is a leak: with this attribute goes length, too.
        """
        mean = self.length / self.count
        deviation = math.sqrt(max(self.length_squared / self.count - mean * mean, 0.0))
        error = deviation / math.sqrt(self.count)
        return {
            "answers": self.count,
            "length": round(math.exp(mean), 4),
            "length_leak": round(mean / error, 2) if error > 1e-9 else None,
            "longer": round(self.longer / self.count, 4),
            "shorter": round(self.shorter / self.count, 4),
            "reformatted": round(self.reformatted / self.count, 4),
            "marks": {mark: round(total / self.count, 4) for mark, total in sorted(self.marks.items()) if total},
        }


class Card:
    """Counts that are filled in as groups go by; what is held does not grow with their number.

    Args:
        account: that augmentation fills in.
        seed: of the sample of groups.
    """

    def __init__(self, account: Account, seed: int = 0):
        self.account = account
        self._seed = seed
        self._groups = 0
        self._kinds: collections.Counter[tuple[str, str]] = collections.Counter()
        self._origins: collections.Counter[tuple[str]] = collections.Counter()
        self._recipes: collections.Counter[tuple[str]] = collections.Counter()
        self._drift: dict[tuple[str, str], Drift] = collections.defaultdict(Drift)
        self._longer: collections.Counter[tuple[str, bool]] = collections.Counter()
        self._sample: list[tuple[int, str, PreferenceGroup]] = []

    def add(self, group: PreferenceGroup) -> None:
        """Count a finished group."""
        self._groups += 1
        for response in group.responses:
            self._add_response(group, response)
        for comparison in group.comparisons:
            self._add_comparison(group, comparison)
        if any(response.origin is not Origin.ORIGINAL for response in group.responses):
            self._keep(self._ranked(group))

    @property
    def sample(self) -> list[PreferenceGroup]:
        """Groups to draw pairs from: which they are depends on the seed and the ids, not on the order they came in."""
        return [group for _, _, group in sorted(self._sample, key=lambda row: row[:2], reverse=True)]

    def figures(self, oracle: Mapping[str, Any], making: Mapping[str, Any]) -> dict[str, Any]:
        """Return the card as plain JSON types.

        Args:
            oracle: facts about who made it: model, prompts, traffic, tokens, dollars.
            making: what decided what was made: data, seed, recipe, baseline.
        """
        return {
            "crome_jax": "data card",
            "groups": self._groups,
            "comparisons": _table(self._kinds, ("kind", "attribute")),
            "responses": _table(self._origins, ("origin",)),
            "recipes": _table(self._recipes, ("recipe",)),
            "drift": [
                {"made": made, "attribute": attribute, **drift.figures()}
                for (made, attribute), drift in sorted(self._drift.items())
            ],
            "preferred_is_longer": [
                {"kind": kind, "comparisons": total, "share": round(self._longer[kind, True] / total, 4)}
                for kind in sorted({kind for kind, _ in self._longer})
                if (total := self._longer[kind, True] + self._longer[kind, False])
            ],
            "made": _table(self.account.made, ("by", "attribute")),
            "dropped": _table(self.account.dropped, ("by", "attribute", "reason")),
            "wanted_and_not_made": _table({(by,): n for by, n in self.account.short.items()}, ("by",)),
            "oracle": dict(oracle),
            "making": dict(making),
        }

    def merge(self, other: "Card") -> None:
        """Add what another card counted, its account included."""
        self._groups += other._groups
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        for key, drift in other._drift.items():
            self._drift[key].merge(drift)
        for row in other._sample:
            self._keep(row)
        self.account.merge(other.account)

    def state(self) -> dict[str, Any]:
        """Return all that is counted, as plain JSON types; `from_state` is its inverse."""
        return {
            "groups": self._groups,
            **{name: [[*key, n] for key, n in getattr(self, name).items()] for name in _COUNTERS},
            "drift": [[*key, vars(drift)] for key, drift in self._drift.items()],
            "sample": [to_dict(group) for _, _, group in self._sample],
            "account": self.account.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], seed: int = 0) -> "Card":
        """Return the card that `state` was taken of."""
        card = cls(Account.from_state(state["account"]), seed)
        card._groups = state["groups"]
        for name in _COUNTERS:
            getattr(card, name).update({tuple(key): n for *key, n in state[name]})
        for *key, sums in state["drift"]:
            card._drift[tuple(key)] = Drift(**{**sums, "marks": collections.Counter(sums["marks"])})
        for group in state["sample"]:
            card._keep(card._ranked(from_dict(group)))
        return card

    def _ranked(self, group: PreferenceGroup) -> tuple[int, str, PreferenceGroup]:
        return -derive_seed(self._seed, "card", group.id), group.id, group

    def _keep(self, ranked: tuple[int, str, PreferenceGroup]) -> None:
        if len(self._sample) < SAMPLED:
            heapq.heappush(self._sample, ranked)
        elif ranked[:2] > self._sample[0][:2]:
            heapq.heapreplace(self._sample, ranked)

    def _add_response(self, group: PreferenceGroup, response: Response) -> None:
        self._origins[response.origin.value,] += 1
        recipe = response.metadata.get("recipe")
        if isinstance(recipe, str):
            self._recipes[recipe,] += 1
        if response.origin in _MADE and response.parent is not None:
            name = f"{response.origin.value}, {recipe}" if isinstance(recipe, str) else response.origin.value
            drift = self._drift[name, response.attribute or "none"]
            drift.add(group.responses[response.parent].text, response.text)

    def _add_comparison(self, group: PreferenceGroup, comparison: Comparison) -> None:
        kind = comparison.kind.name.lower()
        self._kinds[kind, comparison.attribute or "none"] += 1
        if comparison.target == 0.5 or comparison.kind is Kind.NEUTRAL:
            return
        left, right = (count_words(group.responses[side].text) for side in (comparison.left, comparison.right))
        if left != right:
            preferred, other = (left, right) if comparison.target > 0.5 else (right, left)
            self._longer[kind, preferred > other] += 1


def _table(counts: Mapping[tuple[str, ...], int], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    ranked = sorted(((key, n) for key, n in counts.items() if n), key=lambda row: (-row[1], row[0]))
    return [{**dict(zip(columns, key, strict=True)), "count": n} for key, n in ranked]
