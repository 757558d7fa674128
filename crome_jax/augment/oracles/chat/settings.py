"""Which model is asked, how, how fast, and for how much: the numbers of the chat oracle."""

import dataclasses
import json
import math
import os
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, Literal

from crome_jax.augment.oracles.chat.prompts import FOLDER, SCHEMAS, Rendered
from crome_jax.errors import CromeError
from crome_jax.files import is_remote

_WRITTEN = {"model", "messages", "temperature", "seed", "max_tokens", "max_completion_tokens", "response_format"}
_WRITTEN |= {"stream", "n"}  # What a reply is read as: one, and whole.


@dataclasses.dataclass(frozen=True)
class ChatSettings:
    """How a model behind an OpenAI-compatible endpoint is asked.

    Args:
        model: its name there.
        base_url: of the endpoint, up to and with `/v1`; None is OpenAI's own.
        api_key_env: environment variable that holds the key; nothing else ever does. None is OPENAI_API_KEY for
            OpenAI's own endpoint, and no key for any other: whose host it is does not get OpenAI's key unasked.
        prompts: folder of prompts, by name or path.
        structured: how the form of a reply is asked for: by "json_schema" or "json_object", where the endpoint knows
            it, or by the prompt alone ("none"). It is checked in any case.
        temperature, seed: of sampling; None is not sent, as some models refuse either.
        max_reply_tokens: most tokens of a reply. A longer one is cut short and cannot be used.
        reply_tokens_field: how the endpoint calls that: max_tokens, or max_completion_tokens.
        resamples: further samples asked for where a reply is malformed.
        concurrency: requests under way at a time.
        requests_per_minute, tokens_per_minute: limits of the endpoint, retries included; None is no limit. Tokens are
            those of the prompt, estimated, and `max_reply_tokens`. All processes of a machine that have the same cache
            keep them together; of several machines each is to be given its part.
        timeout_s: seconds from sending a request to the end of its reply.
        attempts: times that a request fails before it is declined or, where no others are answered, the run is stopped.
            HTTP 429 is no failure: it is waited for, however often it comes.
        unanswered: requests that may go without a reply though nothing shows that they are at fault: they failed, or
            were refused, while no others were answered. They are dropped and counted; with one more the run fails. In a
            replay those that were not recorded.
        backoff_s, longest_wait_s: seconds waited before the second attempt, doubled for each further one, and at most;
            of each a random half or more. Retry-After is honoured beyond that.
        extra: further fields of every request, as {"reasoning_effort": "low"}; JSON, none that a setting writes, and no
            key: they are kept with the replies.
        max_reply_bytes: size at which a reply is no longer read.
        cache: folder of replies, each paid for once; None keeps none. It holds a database, which the processes of one
            machine share; several machines need one each.
        token_budget: tokens of prompts and replies that the run may spend, None for any number. With a cache these are
            those of all its processes on a machine, and of all its lives until its output is there.
        money_budget: dollars likewise.
        prompt_price, reply_price: dollars for a million tokens, both or neither: None says that they are not known.
            None is built in, since prices change, and are those of one model.

    Raises:
        CromeError: where a number is out of range, `api_key_env` is no variable's name, `base_url` no plain address,
            `extra` no further fields, one price is given without the other, a money budget without them, or the cache
            is a bucket.
    """

    model: str = ""
    base_url: str | None = None
    api_key_env: str | None = None
    prompts: str = "crome-1"
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    temperature: float | None = 0.7
    seed: int | None = 0
    max_reply_tokens: int = 2048
    reply_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    resamples: int = 1
    concurrency: int = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout_s: float = 120.0
    attempts: int = 10
    unanswered: int = 0
    backoff_s: float = 1.0
    longest_wait_s: float = 60.0
    extra: Mapping[str, Any] | None = None
    max_reply_bytes: int = 1 << 20
    cache: str | None = ".cache/oracle"
    token_budget: int | None = None
    money_budget: float | None = None
    prompt_price: float | None = None
    reply_price: float | None = None

    def __post_init__(self):
        # Neither value is quoted: what stands where no such thing belongs may be the key itself.
        if self.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", self.api_key_env):
            raise CromeError(
                "ChatSettings.api_key_env is not the name of an environment variable (capitals, digits, underscores); "
                "export the key in one and give its name"
            )
        if self.base_url is not None and not _plain_url(self.base_url):
            raise CromeError(
                "ChatSettings.base_url is no http:// or https:// address of a host and a path alone; give one without "
                "a user, a password or a query, and the key in the variable that api_key_env names"
            )
        if self.cache is not None and is_remote(self.cache):
            raise CromeError(
                f"ChatSettings.cache is {self.cache}, a bucket, and a database wants a file system; name a folder"
            )
        self._check_extra()
        positive = ("max_reply_tokens", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s")
        for name in (*positive, "attempts", "max_reply_bytes"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise CromeError(f"ChatSettings.{name} is {getattr(self, name)}, not positive; correct the value")
        not_negative = ("temperature", "resamples", "backoff_s", "longest_wait_s", "prompt_price", "reply_price")
        for name in (*not_negative, "unanswered", "token_budget", "money_budget"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < math.inf:
                raise CromeError(f"ChatSettings.{name} is {getattr(self, name)}, negative; correct the value")
        prices = (self.prompt_price, self.reply_price)
        mend = "give both prompt_price and reply_price, in dollars for a million tokens"
        if prices.count(None) == 1:
            raise CromeError(f"ChatSettings: one price is missing; {mend}")
        if self.money_budget is not None and not any(prices):
            raise CromeError(f"ChatSettings.money_budget is set and no price; {mend}")

    def _check_extra(self) -> None:
        try:
            fields = dict(self.extra or {})
            json.dumps(fields, allow_nan=False)
        except (TypeError, ValueError) as e:
            raise CromeError(f"ChatSettings.extra is no JSON object ({e}); give fields and their values") from None
        if taken := sorted(str(name) for name in fields if name in _WRITTEN or not isinstance(name, str)):
            raise CromeError(f"ChatSettings.extra holds {', '.join(taken)}, which no further field is; leave it out")

    @property
    def key_variable(self) -> str | None:
        """The environment variable that the key is read from, None where none is sent."""
        return self.api_key_env or ("OPENAI_API_KEY" if self.base_url is None else None)

    def absolute(self) -> "ChatSettings":
        """Return the settings for a process in another folder: paths from the root."""
        prompts = self.prompts if (FOLDER / self.prompts).is_dir() else os.path.abspath(self.prompts)
        cache = None if self.cache is None else os.path.abspath(self.cache)
        return dataclasses.replace(self, prompts=prompts, cache=cache)

    def body(self, rendered: Rendered, sample: int) -> dict[str, Any]:
        """Return what is sent: the request's JSON.

        Args:
            sample: 0, and higher for further samples of the same request.
        """
        body = {
            "model": self.model,
            "messages": list(rendered.messages),
            **({} if self.temperature is None else {"temperature": self.temperature}),
            self.reply_tokens_field: self.max_reply_tokens,
        }
        if self.seed is not None:
            body["seed"] = self.seed + sample
        if self.structured == "json_schema":
            schema = {"name": rendered.kind, "schema": SCHEMAS[rendered.kind], "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body | dict(self.extra or {})

    def cost(self, prompt_tokens: int, reply_tokens: int) -> float | None:
        """Return dollars, None where no price is known."""
        if self.prompt_price is None or self.reply_price is None:
            return None
        return (prompt_tokens * self.prompt_price + reply_tokens * self.reply_price) / 1e6


def _plain_url(text: str) -> bool:
    try:
        url = urllib.parse.urlsplit(text)
        _ = url.port  # Raises where it is none.
    except ValueError:
        return False
    return url.scheme in ("http", "https") and bool(url.hostname) and not any(mark in text for mark in "@?#")


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has: one for four bytes, as English has it."""
    return len(text.encode("utf-8", "replace")) // 4 + 4


def estimate_prompt(body: dict[str, Any]) -> int:
    """Return about how many tokens the messages of a request have."""
    return sum(estimate_tokens(message["content"]) for message in body["messages"])
