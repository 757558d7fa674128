"""The oracle that asks a model: requests rendered by versioned prompts, replies checked, many under way at a time."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Protocol

from crome_jax.augment.oracles.base import Declined, Intervention, Question, Reply, Request, Rewrite
from crome_jax.augment.oracles.chat import replies
from crome_jax.augment.oracles.chat.budget import Budget
from crome_jax.augment.oracles.chat.cache import Completion
from crome_jax.augment.oracles.chat.client import ChatClient
from crome_jax.augment.oracles.chat.prompts import Prompts, Rendered
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.augment.oracles.chat.traffic import Traffic
from crome_jax.groups import Message


class Completer(Protocol):
    """Where replies come from: an endpoint, or a record of it."""

    budget: Budget
    traffic: Traffic

    async def complete(self, rendered: Rendered, sample: int = 0) -> Completion | Declined: ...

    def check(self) -> None: ...

    async def close(self) -> None: ...


class ChatOracle:
    """Names attributes, rewrites and judges by asking a model.

    A context manager, whose end checks what came and awaits what is under way.

    An event loop in a thread of its own does the asking, so that whoever submits requests need not know of it.

    Args:
        settings: which model, how fast, for how much.
        completer: where replies come from, made inside the loop; by default the endpoint of the settings.
        run: name of the run that asks: what its processes and its lives spend is counted together.
    """

    name = "chat"

    def __init__(
        self,
        settings: ChatSettings,
        completer: Callable[[ChatSettings, str, str | None], Completer] = ChatClient,
        run: str | None = None,
    ):
        self.settings = settings
        self._prompts = Prompts(settings.prompts)
        self.provenance = {"oracle": settings.model, "oracle_prompts": self._prompts.version}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="oracle", daemon=True)
        self._thread.start()
        try:
            self._completer = self._run(_made(completer, settings, self._prompts.version, run))
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> "ChatOracle":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception) -> None:
        try:
            if kind is None:
                self.check()
        finally:
            self.close()

    def check(self) -> None:
        """Raise CromeError where so many requests got no reply that what was made is not what was asked for."""
        self._completer.check()

    def close(self) -> None:
        """Send nothing more, wait for what is under way, end the thread."""
        if self._thread.is_alive():
            self._run(self._completer.close())
            self._end()

    @property
    def traffic(self) -> Traffic:
        """What went over the wire so far."""
        return self._completer.traffic

    @property
    def budget(self) -> Budget:
        """What was spent so far."""
        return self._completer.budget

    def submit(self, request: Request) -> "Future[Reply]":
        """Return the reply to come."""
        return asyncio.run_coroutine_threadsafe(self._answer(request), self._loop)

    def rubrics(self, prompt: tuple[Message, ...], responses: tuple[str, ...], count: int) -> tuple[str, ...]:
        """Return the names of at most `count` attributes, none where no usable reply came."""
        named = self.submit(Question(prompt, responses, count)).result()
        return () if isinstance(named, Declined) else tuple(rubric.name for rubric in named)

    def rewrite(self, requests: Iterable[Intervention]) -> Iterator[Rewrite | Declined]:
        """Yield one reply per request, in order; all of them are submitted first."""
        for future in [self.submit(request) for request in requests]:
            yield future.result()

    async def _answer(self, request: Request) -> Reply:
        rendered = self._prompts.render(request)
        for sample in range(self.settings.resamples + 1):
            completion = await self._completer.complete(rendered, sample)
            reply = completion if isinstance(completion, Declined) else replies.parse(request, rendered, completion)
            if reply not in replies.MALFORMED:
                break
            self.traffic.count(malformed=reply.reason)
        self.traffic.count(asked=1, unanswered=completion.reason if isinstance(completion, Declined) else None)
        return reply

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _made(completer: Callable[..., Completer], *given: ChatSettings | str | None) -> Completer:
    return completer(*given)
