"""What augmentation made, and what it dropped and why."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from crome_jax.augment.attribute_rows import bound, shown
from crome_jax.augment.oracles.base import Direction
from crome_jax.groups import PreferenceGroup

_TIES = {str(Direction.ALIGN): "alignment", str(Direction.PARAPHRASE): "paraphrase"}


@dataclasses.dataclass
class Account:
    """Counts that augmentation fills in as it goes; nothing is dropped without being counted here.

    Args:
        made: (direction, attribute) -> answers made by rewriting; for what is made of those the recipe ("chain",
            "joint", "rewritten twice") stands for the direction. "align" and "paraphrase" make ties, all else causal
            comparisons.
        dropped: (direction or recipe, attribute, reason) -> rewrites that were declined or could not be used;
            ("rubrics", ...) -> prompts for which no attributes came; ("judged" or "baseline", attribute, reason) ->
            what was made and then dropped, of permutations "contextual" or "non-contextual" in the attribute's place;
            for neutrals ("neutral" or "permuted", "host" or "donor", reason) -> groups that could not take or lend.
        short: direction, recipe or "neutral" -> answers that were wanted and could not be made; "permuted" -> pairs of
            other groups likewise.
        neutrals: kind of the borrowed pair (human, causal) -> irrelevant-query neutrals made.
        implied: causal comparisons that causally-aligned neutrals imply.
        permuted: "contextual" (a causal comparison) or "non-contextual" (a tie) -> comparisons of RRM's permutations.
        groups: groups that came out.
        comparisons: kind -> comparisons in them.
    """

    made: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)
    dropped: collections.Counter[tuple[str, str, str]] = dataclasses.field(default_factory=collections.Counter)
    short: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    neutrals: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    implied: int = 0
    permuted: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    groups: int = 0
    comparisons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add_group(self, group: PreferenceGroup) -> None:
        """Count a finished group."""
        self.groups += 1
        self.comparisons.update(comparison.kind.name.lower() for comparison in group.comparisons)

    def merge(self, other: "Account") -> None:
        """Add what another account counted; of too many attributes the names go (`attribute_rows.bound`)."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, collections.Counter):
                mine.update(theirs)
            else:
                setattr(self, field.name, mine + theirs)
        for counts in (self.made, self.dropped):
            bound(counts)

    def state(self) -> dict[str, Any]:
        """Return the counts as plain JSON types; `from_state` is its inverse."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: [[key, n] for key, n in value.items()] if isinstance(value, collections.Counter) else value
            for name, value in values.items()
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Account":
        """Return the account that `state` was taken of."""
        account = cls()
        for name, value in state.items():
            if isinstance(value, list):
                getattr(account, name).update({tuple(k) if isinstance(k, list) else k: n for k, n in value})
            else:
                setattr(account, name, value)
        return account

    def __str__(self) -> str:
        """Return the counts as lines, largest first, of attributes those of the card."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.comparisons.items()))
        lines = [f"{self.groups} groups with {kinds or 'no'} comparisons"]
        lines += _rows("made", shown({key: count for key, count in self.made.items() if key[0] not in _TIES}))
        borrowed = {f"{kind} pairs": count for kind, count in self.neutrals.items()}
        tied = {name: sum(n for key, n in self.made.items() if key[0] == made) for made, name in _TIES.items()}
        neutrals = borrowed | tied
        lines += _rows("neutral from", (((source,), count) for source, count in neutrals.items()))
        lines += _rows("implied by", [(("alignment",), self.implied)])
        lines += _rows("from permutations:", (((side,), count) for side, count in self.permuted.items()))
        lines += _rows("dropped", shown(self.dropped))
        lines += _rows("wanted and not made:", (((direction,), count) for direction, count in self.short.items()))
        return "\n".join(lines)


def _rows(verb: str, counts: Iterable[tuple[tuple[str, ...], int]]) -> list[str]:
    ranked = sorted((row for row in counts if row[1]), key=lambda row: (-row[1], row[0]))
    return [f"{count:8d} {verb} {', '.join(key)}" for key, count in ranked]
