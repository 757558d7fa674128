"""One request to an OpenAI-compatible endpoint and its reply, whatever happens on the way."""

import asyncio
import dataclasses
import email.utils
import itertools
import json
import os
import random
import re
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import httpx2
import openai

from crome_jax.augment.oracles.base import Declined
from crome_jax.augment.oracles.chat.budget import Budget
from crome_jax.augment.oracles.chat.cache import Cache, Completion, Found, request_key, request_text
from crome_jax.augment.oracles.chat.database import Database
from crome_jax.augment.oracles.chat.limits import Limits, asleep
from crome_jax.augment.oracles.chat.prompts import Rendered
from crome_jax.augment.oracles.chat.settings import ChatSettings, estimate_prompt, estimate_tokens
from crome_jax.augment.oracles.chat.traffic import Traffic
from crome_jax.errors import CromeError

_OPENAI = "https://api.openai.com/v1"
_REFUSED_REQUEST = (400, 413, 415, 422)
_LIMITED = 429
_AGAIN = (408, 409, 425, _LIMITED)
_REFUSED_IN_A_ROW = 32
"""So many requests refused since one was answered: it is the configuration that is wrong, not the requests."""

_BAD_KEY = re.compile(r"API[ _]key[ _](?:not valid|invalid|expired)", re.IGNORECASE)
"""What Gemini says of a key with HTTP 400, as of a request that is wrong."""

_ANSWERED_MEANWHILE = 32
"""Replies to others, beyond those that were under way, from which a request that fails every time is at fault."""

LONGEST_RETRY_AFTER_S = 600.0

LONGEST_LIMITED_S = 1800.0
"""Seconds without any reply after which a limit on the rate is taken for a quota that is used up."""


class _Failed(Exception):
    """An attempt that brought no reply and may be made again."""

    def __init__(self, reason: str, retry_after: float = 0.0, *, sent: bool = False, limited: str | None = None):
        self.reason, self.retry_after = reason, retry_after
        self.limited = limited  # What the endpoint says of its limit on the rate: no fault of this request.
        self.sent = sent  # It may be billed although nothing came.


class ChatClient:
    """Sends requests, concurrently and within limits, and keeps what comes back.

    All of it runs in one event loop. A request that fails in passing (5xx, time-outs, connections that break) is sent
    again after a while, and Declined where that never helps while others are answered; one that comes too early (429)
    is sent again until its time has come; one that the endpoint refuses for what it is (400, 413, 422) is Declined at
    once; what no further attempt can mend (a wrong key, no such model, a spent budget or quota, an endpoint that stays
    down) stops the client: no further request is sent, those under way come in and are kept, and nobody sleeps on.

    Args:
        settings: see there.
        prompts: version of the prompts, part of what a reply is found by.
        run: name of the run that asks, under which `Budget` counts.
    """

    def __init__(self, settings: ChatSettings, prompts: str, run: str | None = None):
        self._settings, self._prompts = settings, prompts
        variable = settings.key_variable
        key = os.environ.get(variable, "").strip() if variable else ""  # A file read into it ends in a newline.
        if not (key.isascii() and key.isprintable()):
            raise CromeError(
                f"the environment variable {variable} holds characters that no key has, such as a line break or a "
                "letter with an accent; export the API key in it again"
            )
        if not key and variable:
            fix = "export the API key in it"
            if settings.base_url is not None:
                fix += ", or set ChatSettings.api_key_env to None where the endpoint wants none"
            raise CromeError(f"the environment variable {variable} is not set; {fix}")
        if key and key in json.dumps(dict(settings.extra or {}), ensure_ascii=False):
            raise CromeError(f"ChatSettings.extra holds the key of {variable}, which would be kept; take it out")
        self._secret = key
        # What the environment says of an account at OpenAI, the client would tell any host.
        account = ("OpenAI-Organization", "OpenAI-Project") if settings.base_url is not None else ()
        self._openai = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=settings.base_url or _OPENAI,  # Not where OPENAI_BASE_URL points: no setting says that.
            default_headers={name: openai.Omit() for name in account},
            max_retries=0,  # What is sent again, and when, is decided here.
            timeout=None,  # A request is timed from its sending to the end of its reply, in `_attempt`.
            http_client=openai.DefaultAioHttpClient(
                limits=httpx2.Limits(
                    max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency
                )
            ),
        )
        self._database = Database(settings.cache)
        self._cache = Cache(settings.cache, self._database) if settings.cache is not None else None
        limits = settings.requests_per_minute, settings.tokens_per_minute
        self._limits = Limits(*limits, self._database, f"{settings.base_url or _OPENAI} {settings.model}")
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._under_way: dict[str, asyncio.Task[Completion | Declined]] = {}
        self._stopped: CromeError | None = None
        self._stopping = asyncio.Event()
        self._limited_since: float | None = None  # The first 429 since a reply came.
        self._refusals, self._refusal = 0, ""  # Requests refused since a reply came, and what was said of the last.
        self._failed_alone = 0
        self._replied = False
        self._jitter = random.Random()
        self.budget = Budget(settings, self._database, run)
        self.traffic = Traffic()

    async def complete(self, rendered: Rendered, sample: int = 0) -> Completion | Declined:
        """Return the reply to a request: from disk, from one that is under way, or from the endpoint.

        Raises:
            CromeError: where the client is stopped.
        """
        body = self._settings.body(rendered, sample)
        text = request_text(body, self._prompts, sample)
        key = request_key(text)
        task = self._under_way.get(key)
        if task is None and self._cache is not None and (found := self._find(key)) is not None:
            self.traffic.count(cached=1, kept=found.run != self.budget.run)
            return found.completion
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(key, text, body))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        else:
            self.traffic.count(cached=1)
        # Whoever asked may go away; what is sent is paid for, and comes in.
        return await asyncio.shield(task)

    def check(self) -> None:
        """Raise CromeError where every request was refused, however few they were."""
        if self._refusal and not self._replied and self._refusals > self._settings.unanswered:
            raise CromeError(
                f"{self._place}: {self._refusal}; all of the {self._refusals} requests were refused, check ChatSettings"
            )

    async def close(self) -> None:
        """Send nothing more, wait for what is under way, and close the connections."""
        self._stop(CromeError("the oracle is closed"))
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        await self._openai.close()
        self._database.close()

    def _finished(self, key: str, task: asyncio.Task) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # Retrieved here, since whoever asked may be gone.

    def _find(self, key: str) -> Found | None:
        self._check()
        try:
            found = self._cache.get(key)
        except CromeError as e:
            raise self._stop(e) from None
        self._replied = self._replied or found is not None
        return found

    async def _fetch(self, key: str, text: str, body: dict[str, Any]) -> Completion | Declined:
        settings = self._settings
        most = (estimate_prompt(body), settings.max_reply_tokens)
        failed = 0
        answered = 0  # Replies to others when it first failed: those before that say nothing of the endpoint since.
        for attempt in itertools.count():
            held = None
            try:
                async with self._slots:
                    self._check()
                    await self._limits.wait(sum(most), self._stopping)
                    self._check()
                    try:
                        held = await self.budget.reserve(*most)
                    except CromeError as e:
                        raise self._stop(e) from None
                    self._check()
                    self.traffic.count(sent=1)
                    completion = await self._attempt(body, most[0])
                return await self._keep(key, text, completion, held)  # Its slot is another request's by then.
            except _Failed as e:
                failure = e
                answered = answered if failed else self.traffic.answered
                self._count_failed(e.reason, held, most[0] if e.sent else 0)
            finally:
                self.budget.release(held)
            if failure.limited is not None:
                self._check_limited(failure.limited)
            elif (failed := failed + 1) == settings.attempts:
                break
            if failure.retry_after:
                self._limits.pause(failure.retry_after)
            longest = min(settings.backoff_s * 2 ** min(attempt, 60), settings.longest_wait_s)
            await asleep(max(longest * self._jitter.uniform(0.5, 1.0), failure.retry_after), self._stopping)
        reason = f"failed {settings.attempts} times, at last with {failure.reason}"
        # Those that were under way may have come in although the endpoint takes no further ones.
        if self.traffic.answered - answered >= settings.concurrency + _ANSWERED_MEANWHILE:
            # The endpoint is well: it is this request that it cannot answer, and every other waits for no mending.
            return Declined(reason)
        self._failed_alone += 1
        if self._failed_alone <= settings.unanswered:
            return Declined(reason)
        raise self._stop(
            CromeError(
                f"{self._place}: a request {reason}; what came is kept: run the same command again when the endpoint "
                "is well, or raise ChatSettings.attempts; where it is well, and only this request fails, allow for it "
                "by ChatSettings.unanswered=1"
            )
        )

    def _check_limited(self, said: str) -> None:
        """Stop where for long no request was answered, and the last was turned away for the rate."""
        now = time.monotonic()
        self._limited_since = now if self._limited_since is None else self._limited_since
        if now - self._limited_since >= LONGEST_LIMITED_S:
            raise self._stop(
                CromeError(
                    f"{self._place}: in {LONGEST_LIMITED_S / 60:.0f} minutes no request was answered, at last with "
                    f"{said}; what came is kept: run the same command again when the quota allows, or ask more slowly "
                    "(ChatSettings.requests_per_minute, tokens_per_minute, concurrency)"
                )
            )

    async def _keep(
        self, key: str, text: str, completion: Completion | Declined, held: int | None
    ) -> Completion | Declined:
        """Keep a reply and count what it cost, both or neither."""
        if isinstance(completion, Declined):
            return completion
        if len(self._secret) >= 8 and self._secret in completion.content:  # Some endpoint echoes what it is sent.
            completion = dataclasses.replace(completion, content=completion.content.replace(self._secret, "[key]"))
        prompt, reply = completion.prompt_tokens, completion.reply_tokens

        def write() -> Completion:
            self.budget.count(held, answered=1, prompt=prompt, reply=reply)
            return completion if self._cache is None else self._cache.put(key, text, completion, self.budget.run)

        try:
            completion = await self._database.written(write)
        except CromeError as e:
            raise self._stop(e) from None
        self._limited_since, self._refusals, self._replied = None, 0, True
        self.traffic.count(answered=1, prompt_tokens=prompt, reply_tokens=reply)
        return completion

    def _count_failed(self, reason: str, held: int | None = None, prompt_tokens: int = 0) -> None:
        try:
            self.budget.count(held, prompt=prompt_tokens, failed=reason)
        except CromeError as e:
            raise self._stop(e) from None
        self.traffic.count(failed=reason, prompt_tokens=prompt_tokens)

    async def _attempt(self, body: dict[str, Any], prompt_tokens: int) -> Completion | Declined:
        refusal = None
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                content = await exchange(self._openai, body, self._settings.max_reply_bytes)
        except TimeoutError:
            raise _Failed("time-out", sent=True) from None
        except openai.APIStatusError as e:
            refusal = e
        except (openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError, OSError) as e:
            causes = (e, e.__cause__, e.__context__)
            reached = not any(
                isinstance(cause, (httpx2.ConnectError, aiohttp.ClientConnectorError)) for cause in causes
            )
            raise _Failed("connection broke", sent=reached) from None
        if refusal is not None:  # Out here, where what is raised does not refer to an error that may quote the key.
            return self._refused(refusal)
        if content is None:
            return Completion("", "too large", prompt_tokens, self._settings.max_reply_tokens)
        return _read(content, prompt_tokens)

    def _refused(self, error: openai.APIStatusError) -> Declined:
        """Tell an error that passes from one of this request and from one of every request."""
        status = error.status_code
        text = _error_text(error)
        said = f"HTTP {status}: {self._scrub(text)[:300]}"
        spent = "insufficient_quota" in (error.code, error.type)  # OpenAI's 429 that never ends.
        if (status in _AGAIN or status >= 500) and not spent:
            limited = said if status == _LIMITED else None
            raise _Failed(f"HTTP {status}", retry_after(error.response.headers), limited=limited)
        self._count_failed(f"HTTP {status}")
        bad_key = status in (401, 403) or bool(_BAD_KEY.search(text))
        if status in _REFUSED_REQUEST and not bad_key:
            self._refusals, self._refusal = self._refusals + 1, said
            if self._refusals <= max(_REFUSED_IN_A_ROW, self._settings.unanswered):
                return Declined(f"the endpoint refuses it (HTTP {status})")
            said += f"; so were the {self._refusals - 1} requests before, and none was answered meanwhile"
        fix = "check ChatSettings"
        if spent:
            fix = "raise the quota of the account; what came is kept: run the same command again"
        elif bad_key:
            variable = self._settings.key_variable
            fix = f"check the key in {variable}" if variable else "name the key's variable in ChatSettings.api_key_env"
        elif status in _REFUSED_REQUEST:
            fix = "check ChatSettings, or allow for so many by ChatSettings.unanswered"
        raise self._stop(CromeError(f"{self._place}: {said}; {fix}"))

    @property
    def _place(self) -> str:
        return self._scrub(f"{self._settings.model} at {self._settings.base_url or 'OpenAI'}")

    def _scrub(self, text: str) -> str:
        """Take the key out of a text, and what looks like one: endpoints quote it, whole or in part."""
        if len(self._secret) < 8:
            return text.replace(self._secret, "[key]") if self._secret else text
        return re.sub(rf"{re.escape(self._secret[:4])}\S*", "[key]", text)

    def _stop(self, error: CromeError) -> CromeError:
        self._stopped = self._stopped or error
        self._stopping.set()
        return self._stopped

    def _check(self) -> None:
        if self._stopped is not None:
            raise self._stopped


async def exchange(client: openai.AsyncOpenAI, body: dict[str, Any], most: int) -> bytes | None:
    """Send a request and return the bytes of the endpoint's reply, None where they are more than `most`.

    By the client's generic `post`: the typed `create` would look through every message of every request, which takes as
    much CPU as all else that is done for it (benchmarks/oracle.md).
    """
    content = bytearray()
    async with await client.post(
        "/chat/completions",
        content=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
        cast_to=object,
        stream=True,  # Of the bytes of one reply, so that it need not be read to its end.
        stream_cls=openai.AsyncStream[object],
    ) as stream:
        async for part in stream.response.aiter_bytes():
            content += part
            if len(content) > most:
                return None
    return bytes(content)


def _error_text(error: openai.APIStatusError) -> str:
    """Return what an endpoint says of an error; Gemini says it in a list, of which the client makes nothing."""
    body = error.body[0] if isinstance(error.body, list) and error.body else error.body
    if isinstance(body, dict):
        body = body.get("error", body)
        body = body.get("message") if isinstance(body, dict) else body
    return " ".join(body.split()) if isinstance(body, str) and body.strip() else error.message


def _read(content: bytes, prompt_tokens: int) -> Completion:
    try:
        value = json.loads(content)
        choice = value["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason") or "stop"
        text = message.get("content") or ""
        if not isinstance(text, str) or not isinstance(finish, str):
            raise TypeError
        usage = value.get("usage") or {}
        counts = [usage.get(f"{name}_tokens") for name in ("prompt", "completion", "total")]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise _Failed("reply is no chat completion") from None
    refused = message.get("refusal") or finish == "content_filter"
    prompt, reply, total = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    prompt = prompt or prompt_tokens
    # Some count what a model thinks in the total alone.
    reply = max(reply, total - prompt if counts[0] else 0) or (estimate_tokens(text) if text else 0)
    return Completion(text, "refusal" if refused else finish, prompt, reply)


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds an endpoint asks to wait, 0 where it does not: a number of them, or a date (RFC 9110)."""
    try:
        if said := headers.get("retry-after-ms"):
            seconds = float(said) / 1000
        elif said := headers.get("retry-after"):
            if said.strip().replace(".", "", 1).isdigit():
                seconds = float(said)
            else:
                seconds = email.utils.parsedate_to_datetime(said).timestamp() - time.time()
        else:
            return 0.0
    except (ValueError, TypeError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_S)  # In this order 0 for what is no number.
