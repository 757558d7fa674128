"""The card of an augmented data set: what is in it, what interventions did besides, what was dropped, what it cost."""

import collections
import heapq
from collections.abc import Iterator, Mapping
from typing import Any

from crome_jax.augment.account import Account
from crome_jax.augment.attribute_rows import OTHERS, SHOWN, AttributeRows, bound, most_frequent, shown
from crome_jax.augment.drift import Drift
from crome_jax.augment.seeds import derive_seed
from crome_jax.augment.words import count_words
from crome_jax.groups import Comparison, Kind, Origin, PreferenceGroup, Response, from_dict, to_dict

SAMPLED = 48
"""Groups kept to draw pairs to read from."""

ALL = "all attributes"
"""The attribute's name in the row of an intervention as a whole."""

_COUNTERS = ("_kinds", "_origins", "_recipes", "_longer")

_MADE = (Origin.DEGRADED, Origin.UPGRADED, Origin.ALIGNED, Origin.PARAPHRASED)


class Card:
    """Counts that are filled in as groups go by; what is held does not grow with their number, nor the attributes'.

    Figures are sums of whole numbers: they depend neither on the order of the groups nor on how the cards of parts of
    them were merged.

    Args:
        account: that augmentation fills in.
        seed: of the sample of groups.
    """

    def __init__(self, account: Account, seed: int = 0):
        self.account = account
        self._seed = seed
        self._groups = 0
        self._kinds: collections.Counter[tuple[str]] = collections.Counter()
        self._origins: collections.Counter[tuple[str]] = collections.Counter()
        self._recipes: collections.Counter[tuple[str]] = collections.Counter()
        self._drift: dict[str, Drift] = collections.defaultdict(Drift)
        self._by_attribute = AttributeRows(seed)
        self._longer: collections.Counter[tuple[str, bool]] = collections.Counter()
        self._sample: list[tuple[int, str, PreferenceGroup]] = []

    def add(self, group: PreferenceGroup) -> None:
        """Count a finished group."""
        self._groups += 1
        rewrites = [rewrite for response in group.responses for rewrite in self._add_response(group, response)]
        for comparison in group.comparisons:
            self._add_comparison(group, comparison)
        kinds = ((c.kind.name.lower(), c.attribute or "none") for c in group.comparisons)
        self._by_attribute.add(group.id, rewrites, kinds)
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
            "comparisons": self._comparison_rows(),
            "responses": _table(self._origins, ("origin",)),
            "recipes": _table(self._recipes, ("recipe",)),
            "drift": self._drift_rows(),
            "rows_by_attribute": {"most_shown": SHOWN, "of_share_of_groups": self._by_attribute.share},
            "preferred_is_longer": [
                {"kind": kind, "comparisons": total, "share": round(self._longer[kind, True] / total, 4)}
                for kind in sorted({kind for kind, _ in self._longer})
                if (total := self._longer[kind, True] + self._longer[kind, False])
            ],
            "made": _bounded_table(self.account.made, ("by", "attribute")),
            "dropped": _bounded_table(self.account.dropped, ("by", "attribute", "reason")),
            "wanted_and_not_made": _table({(by,): n for by, n in self.account.short.items()}, ("by",)),
            "oracle": dict(oracle),
            "making": dict(making),
        }

    def merge(self, other: "Card") -> None:
        """Add what another card counted, its account included."""
        self._groups += other._groups
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        for made, drift in other._drift.items():
            self._drift[made].merge(drift)
        self._by_attribute.merge(other._by_attribute)
        for row in other._sample:
            self._keep(row)
        self.account.merge(other.account)

    def state(self) -> dict[str, Any]:
        """Return all that is counted, as plain JSON types; `from_state` is its inverse."""
        return {
            "groups": self._groups,
            **{name: [[*key, n] for key, n in getattr(self, name).items()] for name in _COUNTERS},
            "drift": {made: drift.state() for made, drift in self._drift.items()},
            "by_attribute": self._by_attribute.state(),
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
        card._drift.update({made: Drift.from_state(sums) for made, sums in state["drift"].items()})
        card._by_attribute = AttributeRows.from_state(state["by_attribute"], seed)
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

    def _add_response(self, group: PreferenceGroup, response: Response) -> Iterator[tuple[tuple[str, str], Drift]]:
        self._origins[response.origin.value,] += 1
        recipe = response.metadata.get("recipe") if response.origin is not Origin.ORIGINAL else None
        if isinstance(recipe, str):
            self._recipes[recipe,] += 1
        if response.origin in _MADE and response.parent is not None:
            made = f"{response.origin.value}, {recipe}" if isinstance(recipe, str) else response.origin.value
            drift = Drift.of(group.responses[response.parent].text, response.text)
            self._drift[made].merge(drift)
            yield (made, response.attribute or "none"), drift

    def _drift_rows(self) -> list[dict[str, Any]]:
        by_attribute = self._by_attribute.drift()
        first, rest = most_frequent({key: drift.count for key, drift in by_attribute.items()})
        others: dict[str, Drift] = collections.defaultdict(Drift)
        for key in rest:
            others[key[0]].merge(by_attribute[key])
        rows = [
            *((made, ALL, drift) for made, drift in sorted(self._drift.items())),
            *((*key, by_attribute[key]) for key in first),
            *((made, OTHERS, drift) for made, drift in sorted(others.items())),
        ]
        return [{"made": made, "attribute": attribute, **drift.figures()} for made, attribute, drift in rows]

    def _comparison_rows(self) -> list[dict[str, Any]]:
        counts = self._by_attribute.comparisons()
        counted: collections.Counter[str] = collections.Counter()
        for (kind, _), n in counts.items():
            counted[kind] += n
        # Each kind's number is exact; where rows are of a share of the groups, its rows are that number's parts.
        rows = {key: counts[key] * self._kinds[key[0],] // counted[key[0]] for key in most_frequent(counts)[0]}
        others = self._kinds.copy()
        for (kind, _), n in rows.items():
            others[kind,] -= n
        rows |= {(kind, OTHERS): n for (kind,), n in others.items()}
        return _table(rows, ("kind", "attribute"))

    def _add_comparison(self, group: PreferenceGroup, comparison: Comparison) -> None:
        kind = comparison.kind.name.lower()
        self._kinds[kind,] += 1
        if comparison.target == 0.5 or comparison.kind is Kind.NEUTRAL:
            return
        left, right = (count_words(group.responses[side].text) for side in (comparison.left, comparison.right))
        if left != right:
            preferred, other = (left, right) if comparison.target > 0.5 else (right, left)
            self._longer[kind, preferred > other] += 1


def _bounded_table(counts: collections.Counter[tuple[str, ...]], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    bounded = counts.copy()
    bound(bounded)
    return [{**dict(zip(columns, key, strict=True)), "count": n} for key, n in shown(bounded)]


def _table(counts: Mapping[tuple[str, ...], int], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    ranked = sorted(((key, n) for key, n in counts.items() if n), key=lambda row: (-row[1], row[0]))
    return [{**dict(zip(columns, key, strict=True)), "count": n} for key, n in ranked]
