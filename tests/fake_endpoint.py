"""An OpenAI-compatible endpoint on loopback that answers by rule, and misbehaves as it is told to."""

import asyncio
import dataclasses
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable

WORDS = ("river", "stone", "cloud", "forest", "harbour", "lantern", "meadow", "orchard", "saddle", "violin")
ATTRIBUTES = ("accuracy", "clarity of steps", "depth", "fit to the question")


@dataclasses.dataclass
class Answer:
    """What the endpoint does with one request.

    Args:
        content: of the reply's message; or `body`, the bytes of the whole HTTP body.
        fate: "whole", "reset" (the connection breaks in the middle of the body), "close" (it closes without a reply),
            "garbage" (what comes is no HTTP) or "hang" (nothing comes any more).
        latency_s: before the first byte.
    """

    content: str | None = None
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | None = None
    fate: str = "whole"
    finish: str = "stop"
    latency_s: float = 0.0


def sensible(body: dict) -> str:
    """Return what a model that does as it is told replies; the same for the same messages."""
    kind = body["response_format"]["json_schema"]["name"]
    rng = random.Random(hashlib.sha256(json.dumps(body["messages"]).encode()).digest())
    if kind == "rubrics":
        names = rng.sample(ATTRIBUTES, 3)
        return json.dumps({"attributes": [{"name": n, "definition": f"The answer has {n}."} for n in names]})
    if kind == "judge":
        tie = "overall quality" in body["messages"][1]["content"]
        return json.dumps({"better": "neither" if tie else rng.choice(["first", "second"]), "otherwise_equal": True})
    text = "This is " + " of the ".join(rng.choices(WORDS, k=8)) + f", and it is {rng.randrange(10**6)} for you."
    return json.dumps({"declined": False, "text": text, "edit": f"{kind} as asked"})


class FakeEndpoint:
    """A server in a thread of its own, as a context manager.

    Args:
        behave: (number of the request from 0, its JSON) to what is done with it; None answers sensibly.

    Attributes:
        url: for `base_url`.
        requests: the JSON of every request, in the order they came.
        headers: of every request, lower-case names.
        moments: of every request, on the monotonic clock.
        answered: replies that went out whole with status 200.
        most_under_way: requests that were there at a time, at most.
    """

    def __init__(self, behave: Callable[[int, dict], Answer | None] = lambda number, body: None):
        self._behave = behave
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.moments: list[float] = []
        self.answered = self.most_under_way = self._under_way = 0

    def __enter__(self) -> "FakeEndpoint":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, *exception) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self):
        self._connections: set[asyncio.Task] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server

    async def _stop(self) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader, writer) -> None:
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode().split("\r\n")[1:-2]
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self._under_way += 1
                self.most_under_way = max(self.most_under_way, self._under_way)
                try:
                    await self._reply(headers, body, writer)
                finally:
                    self._under_way -= 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _reply(self, headers, body, writer) -> None:
        number = len(self.requests)
        self.requests.append(body)
        self.headers.append(headers)
        self.moments.append(time.monotonic())
        answer = self._behave(number, body) or Answer()
        if answer.latency_s:
            await asyncio.sleep(answer.latency_s)
        if answer.fate == "hang":
            await asyncio.sleep(3600)
        if answer.fate in ("close", "garbage"):
            writer.write(b"" if answer.fate == "close" else b"no such thing as HTTP\r\n\r\n")
            raise ConnectionResetError
        content = answer.body
        if content is None and answer.status != 200:
            content = json.dumps({"error": {"message": "as told", "code": None}}).encode()
        if content is None:
            text = sensible(body) if answer.content is None else answer.content
            choice = {"index": 0, "finish_reason": answer.finish, "message": {"role": "assistant", "content": text}}
            usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
            content = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()
        fields = {"Content-Type": "application/json", "Content-Length": len(content), **answer.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {answer.status} Told\r\n{head}\r\n".encode())
        if answer.fate == "reset":
            writer.write(content[: len(content) // 2])
            await writer.drain()
            writer.transport.abort()
            raise ConnectionResetError
        writer.write(content)
        await writer.drain()
        self.answered += answer.status == 200
