"""A dry run: how many requests, tokens and dollars it would take, before anything is sent."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from crome_jax.augment.oracles.base import (
    Intervention,
    Judgement,
    Question,
    Reply,
    Request,
    Rewrite,
    Verdict,
)
from crome_jax.augment.oracles.chat import replies
from crome_jax.augment.oracles.chat.cache import Cache, request_key, request_text
from crome_jax.augment.oracles.chat.prompts import Prompts
from crome_jax.augment.oracles.chat.settings import ChatSettings, estimate_prompt, estimate_tokens
from crome_jax.augment.rubrics import Rubric

_RUBRIC_TOKENS, _VERDICT_TOKENS, _EDIT_TOKENS = 30, 16, 24

_REMEMBERED = 1 << 16
"""Requests by which an equal one is told: a group's come close together, and memory does not grow with the data."""


class Estimate:
    """Stands in for a chat oracle and only counts.

    What is in the cache it answers as the model did, so that of a run that was stopped what is still to be sent is
    counted. All else it answers as a model would that does everything it is asked, with texts as long as those it was
    given. A real one declines some requests, which saves those that would have followed, and is then asked for another
    attribute, which costs others. Equal requests count once where they come within some ten thousand of each other, as
    those of one group do.

    Args:
        settings: of the oracle whose requests are counted.

    Attributes:
        requests, kept: requests in all, and those whose reply is in the cache.
        prompt_tokens, reply_tokens: of the others, estimated at four bytes a token.
    """

    name = "estimate"

    def __init__(self, settings: ChatSettings):
        self.settings = settings
        self._prompts = Prompts(settings.prompts)
        self._cache = Cache(settings.cache) if settings.cache is not None else None
        self.provenance = {"oracle": settings.model, "oracle_prompts": self._prompts.version}
        self._seen: dict[str, None] = {}  # In the order in which they came.
        self.requests = self.kept = self.prompt_tokens = self.reply_tokens = 0

    @property
    def dollars(self) -> float | None:
        """What the requests cost, None where no price is known."""
        return self.settings.cost(self.prompt_tokens, self.reply_tokens)

    def submit(self, request: Request) -> "Future[Reply]":
        """Count a request, and return a reply that lets its plan go on."""
        rendered = self._prompts.render(request)
        reply: Reply | None = None
        for sample in range(self.settings.resamples + 1):
            body = self.settings.body(rendered, sample)
            key = request_key(request_text(body, self._prompts.version, sample))
            found = self._cache.get(key) if self._cache is not None else None
            if key not in self._seen:  # Equal requests are sent once.
                self._count(key, request, body, found is not None)
            if found is None:
                reply = _reply(request, key)
                break
            reply = replies.parse(request, rendered, found.completion)
            if reply not in replies.MALFORMED:
                break
        future: Future[Reply] = Future()
        future.set_result(reply)
        return future

    def _count(self, key: str, request: Request, body: dict[str, Any], kept: bool) -> None:
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self.requests += 1
        if kept:
            self.kept += 1
        else:
            self.prompt_tokens += estimate_prompt(body)
            self.reply_tokens += min(_reply_tokens(request), self.settings.max_reply_tokens)

    def counts(self) -> dict[str, int]:
        """Return what was counted, for `add`."""
        return {name: getattr(self, name) for name in ("requests", "kept", "prompt_tokens", "reply_tokens")}

    def add(self, counts: Mapping[str, int]) -> None:
        """Add what another estimate counted."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)

    def __str__(self) -> str:
        """Return the counts as lines."""
        settings, cost = self.settings, "what they cost is not known: give ChatSettings.prompt_price and reply_price"
        if self.dollars is not None:
            prices = f"${settings.prompt_price:g} and ${settings.reply_price:g}"
            cost = f"${self.dollars:,.2f} at {prices} for a million of them"
        return "\n".join(
            (
                f"{self.requests:,} requests to {self.settings.model}, {self.kept:,} of them answered already",
                f"{self.requests - self.kept:,} to be sent, of which all that follows is:",
                f"{self.prompt_tokens:,} tokens of prompts and {self.reply_tokens:,} of replies, estimated",
                cost,
            )
        )


def _reply_tokens(request: Request) -> int:
    if isinstance(request, Question):
        return request.count * _RUBRIC_TOKENS
    return _VERDICT_TOKENS if isinstance(request, Judgement) else estimate_tokens(request.text) + _EDIT_TOKENS


def _reply(request: Request, key: str) -> Reply:
    if isinstance(request, Question):
        return tuple(Rubric(f"attribute {k}", "What an answer that is good in it does.") for k in range(request.count))
    if isinstance(request, Judgement):
        return Verdict(None, only=True)  # A judgement is the last that is asked of a group: no request depends on it.
    assert isinstance(request, Intervention)
    return Rewrite(f"{request.text} {key[:12]} {request.direction}", "estimated")
