"""What went over the wire: of a process, and of each part of its work, whatever else is done beside it."""

import collections
import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass
class Traffic:
    """Counts of one oracle since it began, or of what was asked inside `counted_apart`.

    Args:
        asked: requests that were to be answered, each once, however often it was sent.
        sent: attempts.
        answered: replies that came.
        cached: replies found on disk, or under way already.
        kept: of these, replies that another run had paid for.
        prompt_tokens, reply_tokens: as `Budget` counts them.
        failed: reason -> attempts that brought no reply.
        malformed: reason -> replies that could not be used.
        unanswered: reason -> requests that never got a reply, to be used or not.
    """

    asked: int = 0
    sent: int = 0
    answered: int = 0
    cached: int = 0
    kept: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    failed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    malformed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    unanswered: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def count(
        self,
        *,
        failed: str | None = None,
        malformed: str | None = None,
        unanswered: str | None = None,
        **counts: int,
    ) -> None:
        """Add counts, here and to the part of the work that they are of; of one thing that came to pass, its reason."""
        part = _PART.get()
        for traffic in (self, *([] if part is None else [part])):
            for name, count in counts.items():
                setattr(traffic, name, getattr(traffic, name) + count)
            for name, reason in {"failed": failed, "malformed": malformed, "unanswered": unanswered}.items():
                if reason is not None:
                    getattr(traffic, name)[reason] += 1


_PART: contextvars.ContextVar[Traffic | None] = contextvars.ContextVar("part", default=None)
"""A request is counted in the context of who submits it: asyncio hands the context on to what it does for it."""


@contextlib.contextmanager
def counted_apart() -> Iterator[Traffic]:
    """Count apart, too, what this thread asks while the block runs, whoever else asks the same oracle meanwhile."""
    part = Traffic()
    token = _PART.set(part)
    try:
        yield part
    finally:
        _PART.reset(token)
