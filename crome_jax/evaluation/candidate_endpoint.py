"""Candidates from a model behind an OpenAI-compatible endpoint: many requests under way, each reply paid for once."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from crome_jax.augment.oracles.base import Declined
from crome_jax.augment.oracles.chat.client import ChatClient
from crome_jax.augment.oracles.chat.prompts import Rendered
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.data.conversations import find_prompt
from crome_jax.errors import CromeError, DataError

_VERSION = "candidates-1"
"""Stands where the oracle's requests have the version of their prompts: what a kept reply is found by."""


def ask_candidates(
    records: Sequence[dict[str, Any]],
    settings: ChatSettings,
    samples: int,
    done: Callable[[int], None] = lambda replies: None,
) -> list[dict[str, Any]]:
    """Have a model answer prompts, several times each, with the client of the chat oracle.

    Each candidate is a request of its own, with a seed of its own; what fails in passing is sent again, and what came
    is in the settings' cache: after a kill the same call goes on from there.

    Args:
        records: with a prompt each; their other fields are kept.
        settings: of the endpoint; `structured` must be "none".
        samples: candidates of each prompt.
        done: called with 1 as each comes in.

    Returns:
        The records, in order, with `candidates`.

    Raises:
        DataError: where a record has no prompt, or the endpoint refuses or leaves out the answer to one; `record`
            counts from 1.
        CromeError: where the endpoint cannot be used.
    """
    asked = []
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise DataError(f"is {type(record).__name__}, not an object with fields", record=number)
        prompt = find_prompt(record)
        if prompt is None:
            raise DataError("is missing", record=number, field="prompt")
        asked.append(Rendered("candidate", tuple({"role": m.role, "content": m.content} for m in prompt)))
    texts = asyncio.run(_ask(asked, settings, samples, done))
    return [{**record, "candidates": found} for record, found in zip(records, texts, strict=True)]


async def _ask(
    asked: Sequence[Rendered], settings: ChatSettings, samples: int, done: Callable[[int], None]
) -> list[list[str]]:
    client = ChatClient(settings, _VERSION)

    async def one(number: int, rendered: Rendered, sample: int) -> str:
        reason = ""
        for again in range(settings.resamples + 1):
            reply = await client.complete(rendered, sample + again * samples)
            if isinstance(reply, Declined):
                reason = reply.reason
                break
            if reply.content.strip():
                done(1)
                return reply.content
            reason = f"the endpoint gave no text ({reply.finish})"
        fix = "drop the record, or try another model"
        raise DataError(f"has no answer: {reason}", record=number, field="prompt", fix=fix)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                [group.create_task(one(number, rendered, sample)) for sample in range(samples)]
                for number, rendered in enumerate(asked, 1)
            ]
    except* CromeError as failed:
        raise failed.exceptions[0] from None
    finally:
        await client.close()
    return [[task.result() for task in some] for some in tasks]
