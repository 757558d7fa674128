"""A group while it grows: new responses and comparisons are added, some are found wanting, and a group comes out."""

import dataclasses
from collections.abc import Mapping, Set

from crome_jax.groups import Comparison, Kind, Origin, PreferenceGroup, Response, Scalar, build_group


class Growth:
    """What a group has become so far.

    Indices count in `responses`, where the group's own come first. Equal texts become one response in the end.

    Args:
        group: to be extended.
    """

    def __init__(self, group: PreferenceGroup):
        self.group = group
        self.responses: list[Response] = list(group.responses)
        self.comparisons: list[Comparison] = list(group.comparisons)

    @property
    def texts(self) -> set[str]:
        """The texts that are there."""
        return {response.text for response in self.responses}

    def add(self, response: Response) -> int:
        """Add a response and return its index."""
        self.responses.append(response)
        return len(self.responses) - 1

    def prefer(self, better: int, worse: int, attribute: str) -> None:
        """Add the causal comparison of two responses that differ in one attribute."""
        self.comparisons.append(Comparison(better, worse, kind=Kind.CAUSAL, attribute=attribute))

    def tie(self, first: int, second: int) -> None:
        """Add the neutral comparison of two responses that are equally good."""
        self.comparisons.append(Comparison(first, second, target=0.5, kind=Kind.NEUTRAL))

    def drop(self, responses: Set[int]) -> None:
        """Take added responses out again, with the comparisons they take part in."""
        kept = [r for r in range(len(self.responses)) if r not in responses]
        at = {r: place for place, r in enumerate(kept)}
        self.responses = [dataclasses.replace(self.responses[r], parent=at.get(self.responses[r].parent)) for r in kept]
        self.comparisons = [
            dataclasses.replace(c, left=at[c.left], right=at[c.right])
            for c in self.comparisons
            if c.left in at and c.right in at
        ]

    def build(self, metadata: Mapping[str, Scalar] | None = None) -> PreferenceGroup:
        """Return the group; `metadata` is added to its own."""
        return build_group(
            id=self.group.id,
            prompt=self.group.prompt,
            responses=self.responses,
            comparisons=self.comparisons,
            metadata={**self.group.metadata, **(metadata or {})},
        )


def without(group: PreferenceGroup, comparisons: Set[int]) -> PreferenceGroup:
    """Return the group without some comparisons and without the responses that only they needed; originals stay.

    A response that was made from one that goes has no parent any more.

    Args:
        comparisons: their indices.
    """
    rest = [c for k, c in enumerate(group.comparisons) if k not in comparisons]
    needed = {side for c in rest for side in (c.left, c.right)}
    growth = Growth(dataclasses.replace(group, comparisons=tuple(rest)))
    growth.drop(
        {r for r, response in enumerate(group.responses) if response.origin is not Origin.ORIGINAL and r not in needed}
    )
    return growth.build()
