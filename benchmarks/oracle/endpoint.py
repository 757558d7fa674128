"""A chat endpoint that answers everything alike after a fixed time, in a process of its own, as cheaply as can be."""

import asyncio
import contextlib
import json
import multiprocessing
from collections.abc import Iterator

REPLY_WORDS = 150
"""Words of a rewritten answer: what an answer of UltraFeedback has, about."""


def _reply() -> bytes:
    """Return what every request is answered with: it is written once, since its CPU would be the client's to share."""
    text = json.dumps({"declined": False, "text": "this is the word " * (REPLY_WORDS // 4), "edit": "as asked"})
    message = {"role": "assistant", "content": text}
    body = json.dumps(
        {
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 500, "completion_tokens": 200},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self, latency_s: float, reply: bytes):
        self._latency_s, self._reply, self._held, self._needed = latency_s, reply, b"", 0

    def connection_made(self, transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        if not self._needed:
            head, complete, _ = self._held.partition(b"\r\n\r\n")
            if not complete:
                return
            length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            self._needed = len(head) + 4 + int(length)
        if len(self._held) >= self._needed:
            self._held, self._needed = self._held[self._needed :], 0
            asyncio.get_running_loop().call_later(self._latency_s, self._transport.write, self._reply)


async def _serve(latency_s: float, port) -> None:
    reply = _reply()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(latency_s, reply), "127.0.0.1", 0)
    port.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _main(latency_s: float, port) -> None:
    asyncio.run(_serve(latency_s, port))


@contextlib.contextmanager
def endpoint(latency_s: float) -> Iterator[str]:
    """Serve while the block runs; yield the `base_url`."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_main, args=(latency_s, there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/v1"
    finally:
        process.terminate()
        process.join()
