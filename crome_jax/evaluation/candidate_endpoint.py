"""Candidates from a model behind an OpenAI-compatible endpoint: many requests under way, each reply paid for once."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from crome_jax.augment.oracles.base import Declined
from crome_jax.augment.oracles.chat.client import ChatClient
from crome_jax.augment.oracles.chat.prompts import Rendered
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.candidates import Candidates

_VERSION = "candidates-1"
"""Stands where the oracle's requests have the version of their prompts: what a kept reply is found by."""


def ask_candidates(
    items: Sequence[Candidates],
    settings: ChatSettings,
    samples: int,
    done: Callable[[int], None] = lambda replies: None,
    on_bad: Callable[[Candidates, DataError], None] | None = None,
    run: str | None = None,
) -> list[dict[str, Any]]:
    """Have a model answer prompts, several times each, with the client of the chat oracle.

    Each candidate is a request of its own, with a seed of its own; what fails in passing is sent again, and what came
    is in the settings' cache: after a kill the same call goes on from there.

    Args:
        items: of read_prompts.
        settings: of the endpoint; `structured` must be "none".
        samples: candidates of each prompt.
        done: called with 1 as each comes in.
        on_bad: called with a record to whose prompt the endpoint refuses or leaves out an answer; without it the error
            is raised.
        run: its name, under which `Budget` counts over all its lives.

    Returns:
        The records, in order, with `candidates`; without those that on_bad was called with.

    Raises:
        DataError: as on_bad gets it.
        CromeError: where the endpoint cannot be used.
    """
    asked = [
        Rendered("candidate", tuple({"role": m.role, "content": m.content} for m in item.prompt)) for item in items
    ]
    failed: dict[int, DataError] = {}
    texts = asyncio.run(_ask(asked, settings, run, samples, done, failed, on_bad is None))
    for number, error in sorted(failed.items()):
        on_bad(items[number], error)
    return [
        {**item.raw, "candidates": found}
        for number, (item, found) in enumerate(zip(items, texts, strict=True))
        if number not in failed
    ]


async def _ask(
    asked: Sequence[Rendered],
    settings: ChatSettings,
    run: str | None,
    samples: int,
    done: Callable[[int], None],
    failed: dict[int, DataError],
    stop: bool,
) -> list[list[str]]:
    """Return the answers to each prompt; one that fails is noted in `failed`, or, with `stop`, is the end."""
    client = ChatClient(settings, _VERSION, run)

    async def one(number: int, rendered: Rendered, sample: int) -> str:
        reason = ""
        for again in range(settings.resamples + 1):
            if number in failed:  # The others' answers would be paid for, and left out.
                return ""
            reply = await client.complete(rendered, sample + again * samples)
            if isinstance(reply, Declined):
                reason = reply.reason
                break
            if reply.content.strip():
                done(1)
                return reply.content
            reason = f"the endpoint gave no text ({reply.finish})"
        fix = "drop the record, pass --skip-bad, or try another model"
        failed[number] = DataError(f"has no answer: {reason}", record=number + 1, field="prompt", fix=fix)
        if stop:
            raise failed[number]
        return ""

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                [group.create_task(one(number, rendered, sample)) for sample in range(samples)]
                for number, rendered in enumerate(asked)
            ]
    except* CromeError as errors:
        raise errors.exceptions[0] from None
    finally:
        await client.close()
    return [[task.result() for task in some] for some in tasks]
