"""What an oracle is asked and what it answers: the interface between augmentation and whoever rewrites text."""

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Protocol, runtime_checkable

from crome_jax.augment.rubrics import Rubric
from crome_jax.groups import Message


class Direction(enum.StrEnum):
    """Which way an intervention moves its attribute."""

    DEGRADE = "degrade"
    UPGRADE = "upgrade"
    ALIGN = "align"
    """Give the text all the content of the reference, in the text's own style: the two shall be equally good."""
    PARAPHRASE = "paraphrase"
    """Say the same in other words: the two shall be equally good."""


EVERY_ATTRIBUTE = "every attribute"
"""What an ALIGN moves."""

NO_ATTRIBUTE = "no attribute"
"""What a PARAPHRASE moves."""


@dataclasses.dataclass(frozen=True)
class Intervention:
    """A request to move one attribute of one answer and hold everything else.

    Args:
        direction: raise, lower, make equal, or say in other words.
        attribute: name of the causal attribute to move; EVERY_ATTRIBUTE for an ALIGN, NO_ATTRIBUTE for a PARAPHRASE.
        prompt: the conversation up to the answer.
        text: the answer to rewrite.
        reference: the other answer of the pair: for an upgrade or an align the preferred one, toward which the text
            moves; for a degrade the one it was preferred to. None where there is none.
        elsewhere: answers to other prompts, for edits by rule that need foreign material.
        seed: what every draw of a deterministic oracle derives from.
        definition: what an answer that is good in the attribute does, as the oracle said; empty where it did not.
    """

    direction: Direction
    attribute: str
    prompt: tuple[Message, ...]
    text: str
    reference: str | None = None
    elsewhere: tuple[str, ...] = ()
    seed: int = 0
    definition: str = ""


@dataclasses.dataclass(frozen=True)
class Question:
    """A request to name the attributes that decide quality for a prompt.

    Args:
        prompt: the conversation up to the answer.
        responses: answers of the group, for an oracle that wants to look at what could be edited.
        count: attributes wanted, at most.
    """

    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    count: int


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A request to judge an intervention: was its attribute moved the way it should be, and nothing else?

    Args:
        prompt: the conversation up to the answers.
        before, after: the answer that was rewritten, and what it became; of a tie, the answer that it was to equal.
        attribute, definition: what was to be moved; of a tie, overall quality, which was not.
    """

    prompt: tuple[Message, ...]
    before: str
    after: str
    attribute: str
    definition: str = ""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a judge says of an intervention.

    Args:
        moved: DEGRADE or UPGRADE: which way the attribute went; None where it did not move.
        only: whether everything else is as good as it was.
    """

    moved: Direction | None
    only: bool


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


Request = Question | Intervention | Judgement
Reply = tuple[Rubric, ...] | Rewrite | Verdict | Declined


@runtime_checkable
class SubmittingOracle(Protocol):
    """An oracle to which requests are handed one by one, and which has many of them under way at a time.

    What it writes is free text, not an edit by rule: every rewrite is checked as `verification.py` does.

    Args:
        provenance: facts that the metadata of every group record, be there something to ask about it or not (which
            model, which prompts).
    """

    name: str
    provenance: Mapping[str, str]

    def submit(self, request: Request) -> "Future[Reply]":
        """Return the reply to come: Rubrics for a Question, a Rewrite for an Intervention, a Verdict for a Judgement.

        A reply that cannot be used is Declined. Where no further request can be answered at all (a budget is spent, the
        endpoint is down) the future raises a CromeError, and so do all that follow; what was sent before is finished.
        """
        ...
