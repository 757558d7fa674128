"""Groups to what there is to encode: each prompt once, each of its distinct responses once, and the way back."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from crome_jax.errors import DataError
from crome_jax.groups import Message, PreferenceGroup, Response


@dataclasses.dataclass(frozen=True)
class Distinct:
    """The distinct prompts of some groups, with all their distinct responses.

    Args:
        groups: one for each distinct prompt, without comparisons; its id is that of the first group that asks it.
        members: of each of these the groups, by number, that ask it.
        places: of each group which of `groups` asks its prompt, and where its responses are there.
    """

    groups: list[PreferenceGroup]
    members: list[list[int]]
    places: list[tuple[int, list[int]]]

    def spread(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the groups' own arrays [R] from those of the distinct groups."""
        return [values[at][responses] for at, responses in self.places]

    def pass_on(
        self, groups: Sequence[PreferenceGroup], on_bad: Callable[[PreferenceGroup, DataError], None]
    ) -> Callable[[PreferenceGroup, DataError], None]:
        """Return what to call with a refused distinct group: `on_bad` hears of every group that asks its prompt.

        Args:
            groups: those that the distinct prompts are of.
            on_bad: called with each, without its comparisons.
        """
        members = {group.prompt: same for group, same in zip(self.groups, self.members, strict=True)}

        def refuse(group: PreferenceGroup, error: DataError) -> None:
            for number in members[group.prompt]:
                given = dataclasses.replace(groups[number], comparisons=())
                on_bad(given, error if given.id == group.id else error.at(f"group {given.id!r}"))

        return refuse


def number_prompts(groups: Sequence[PreferenceGroup]) -> Int[np.ndarray, "G"]:
    """Return of each group a number for its prompt, the whole conversation: equal ones are equal prompts.

    They count up in the order of the groups.
    """
    numbers = {prompt: n for n, prompt in enumerate(dict.fromkeys(group.prompt for group in groups))}
    return np.array([numbers[group.prompt] for group in groups], np.int64)


def distinct_prompts(groups: Sequence[PreferenceGroup]) -> Distinct:
    """Find the distinct prompts of groups and, of each, the distinct responses.

    A benchmark asks some prompts dozens of times, and sets one response against several: a reward depends on neither.
    """
    order: dict[tuple[Message, ...], int] = {}
    texts: list[dict[str, int]] = []
    members: list[list[int]] = []
    places = []
    for number, group in enumerate(groups):
        at = order.setdefault(group.prompt, len(order))
        if at == len(texts):
            texts.append({})
            members.append([])
        members[at].append(number)
        held = texts[at]
        places.append((at, [held.setdefault(response.text, len(held)) for response in group.responses]))
    kept = [
        PreferenceGroup(groups[same[0]].id, groups[same[0]].prompt, tuple(map(Response, held)), ())
        for same, held in zip(members, texts, strict=True)
    ]
    return Distinct(kept, members, places)
