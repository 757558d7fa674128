"""What an oracle is asked and what it answers: the interface between augmentation and whoever rewrites text."""

import dataclasses
import enum
from collections.abc import Iterable, Iterator
from typing import Protocol

from crome_jax.groups import Message


class Direction(enum.StrEnum):
    """Which way an intervention moves its attribute."""

    DEGRADE = "degrade"
    UPGRADE = "upgrade"
    ALIGN = "align"
    """Give the text all the content of the reference, in the text's own style: the two shall be equally good."""


EVERY_ATTRIBUTE = "every attribute"
"""What an ALIGN moves."""


@dataclasses.dataclass(frozen=True)
class Intervention:
    """A request to move one attribute of one answer and hold everything else.

    Args:
        direction: raise, lower, or make equal.
        attribute: name of the causal attribute to move; EVERY_ATTRIBUTE for an ALIGN.
        prompt: the conversation up to the answer.
        text: the answer to rewrite.
        reference: the other answer of the pair: for an upgrade or an align the preferred one, toward which the text
            moves; for a degrade the one it was preferred to. None where there is none.
        elsewhere: answers to other prompts, for edits that need foreign material.
        seed: what every draw of a deterministic oracle derives from.
    """

    direction: Direction
    attribute: str
    prompt: tuple[Message, ...]
    text: str
    reference: str | None = None
    elsewhere: tuple[str, ...] = ()
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """The rewritten answer.

    Args:
        text: differs from the request's text.
        edit: what was done, in words a reader of a report understands.
    """

    text: str
    edit: str


@dataclasses.dataclass(frozen=True)
class Declined:
    """No rewrite; `reason` is one of few fixed phrases, so that declines can be counted by it."""

    reason: str


class Oracle(Protocol):
    """Who names the attributes that matter and rewrites answers along one of them."""

    name: str

    def rubrics(self, prompt: tuple[Message, ...], responses: tuple[str, ...], count: int) -> tuple[str, ...]:
        """Return the names of at most `count` distinct attributes that decide quality for this prompt, best first.

        Args:
            responses: answers of the group, for an oracle that wants to look at what could be edited.
        """
        ...

    def rewrite(self, requests: Iterable[Intervention]) -> Iterator[Rewrite | Declined]:
        """Yield one reply per request, in the order of the requests.

        Only the replies are ordered: an oracle behind a network may read ahead and run requests concurrently.
        """
        ...
