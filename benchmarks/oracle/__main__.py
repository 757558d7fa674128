"""How fast the chat oracle asks, what it costs in CPU, and how much memory a plan of many groups takes.

  python -m benchmarks.oracle

Against an endpoint on this machine that answers after 200 ms, 64 requests at a time: the rate against the ideal one,
and CPU time a request of the whole, of the openai client alone (as it is used, and by its `create` over httpx), of all
that is not the client, and of a whole recipe whose replies are there at once: all of ours in one sum. Then the dry run
of a Beam graph over synthetic records, of two sizes. Writes the table, whatever it says.
"""

import argparse
import asyncio
import datetime
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import httpx2
import openai
from array_record.python.array_record_module import ArrayRecordWriter

from benchmarks.oracle.endpoint import REPLY_WORDS, endpoint
from crome_jax.augment.asking import Plan, run_plans
from crome_jax.augment.interventions import add_interventions
from crome_jax.augment.oracles.base import Direction, Intervention, Reply
from crome_jax.augment.oracles.chat.cache import Completion
from crome_jax.augment.oracles.chat.client import ChatClient, exchange
from crome_jax.augment.oracles.chat.estimate import Estimate
from crome_jax.augment.oracles.chat.oracle import ChatOracle
from crome_jax.augment.oracles.chat.prompts import Prompts
from crome_jax.augment.oracles.chat.settings import ChatSettings
from crome_jax.augment.recipe import Recipe
from crome_jax.data.features import serialize_group
from crome_jax.data.writers import describe_shards
from crome_jax.files import whole_output
from crome_jax.groups import Comparison, Message, PreferenceGroup, build_group
from crome_jax.verbs.numbers import at_least

FOLDER = Path(__file__).resolve().parent
LATENCY_S = 0.2
CONCURRENCY = 64
SHARD = 2048
"""Groups of one range of the planned data."""

_WORDS = ("the", "answer", "is", "of", "many", "words", "and", "it", "has", "what", "you", "want", "in", "a", "few")
_SAID = random.Random(0).choices(_WORDS, k=99_991)
"""What rewrites are made of: drawn beforehand, so that it is none of the time that is measured."""


def requests(count: int) -> Iterator[Intervention]:
    """Yield requests about answers as long as UltraFeedback's, no two alike."""
    for k in range(count):
        text = f"Answer {k}: " + "the words of an answer are many, and each of them is in it. " * (REPLY_WORDS // 13)
        prompt = (Message("user", f"What about the matter with the number {k}, and why is it so?"),)
        yield Intervention(Direction.DEGRADE, "accuracy", prompt, text, definition="It states what is so.")


class Immediate(ChatClient):
    """The client without the endpoint: a reply is there at once, and is kept like any other."""

    async def _attempt(self, body, prompt_tokens):
        text = '{"declined": false, "text": "' + "this is the word " * (REPLY_WORDS // 4) + '", "edit": "as asked"}'
        return Completion(text, "stop", 500, 200)


class Obliging(Immediate):
    """Likewise, with a reply to whatever the engine asks: attributes, a judgement, or a rewrite like no other one."""

    async def _attempt(self, body, prompt_tokens):
        kind = body["response_format"]["json_schema"]["name"]
        if kind == "rubrics":
            named = [{"name": name, "definition": "It has it."} for name in ("accuracy", "depth", "clarity")]
            return Completion(json.dumps({"attributes": named}), "stop", 500, 40)
        if kind == "judge":
            better = ("first", "second", "neither")[self.traffic.sent % 3]
            return Completion(json.dumps({"better": better, "otherwise_equal": True}), "stop", 500, 12)
        start = REPLY_WORDS * self.traffic.sent % (len(_SAID) - REPLY_WORDS)
        text = " ".join(_SAID[start : start + REPLY_WORDS])
        return Completion(json.dumps({"declined": False, "text": text, "edit": "as asked"}), "stop", 500, 200)


def ask(settings: ChatSettings, count: int, completer: Callable = ChatClient) -> tuple[float, float]:
    """Return seconds and CPU seconds that so many requests take, after as many as are under way at a time."""

    def plan(request: Intervention) -> Plan[Reply]:
        [reply] = yield [request]
        return reply

    with ChatOracle(settings, completer) as oracle:
        list(oracle.rewrite(requests(CONCURRENCY)))
        wanted = list(requests(CONCURRENCY + count))[CONCURRENCY:]
        started, cpu = time.monotonic(), time.process_time()
        for _ in run_plans(map(plan, wanted), oracle):  # As augmentation asks: from a window of plans.
            pass
        return time.monotonic() - started, time.process_time() - cpu


def everything() -> Recipe:
    """Return the recipe of all that is made by asking."""
    few = dict.fromkeys(("align_per_pair", "chain_steps", "joint_per_pair", "rewritten_twice_per_pair"), 1)
    return Recipe(rubrics_per_prompt=3, judge=True, paraphrase_per_pair=1, neutrals_per_group=0, **few)


def pairs(count: int) -> list[PreferenceGroup]:
    """Return groups of two such answers."""
    return [
        build_group(
            id=f"g{request.text[:12]}",
            prompt=request.prompt,
            responses=[request.text, f"{request.text} But not so."],
            comparisons=[Comparison(0, 1)],
        )
        for request in requests(count)
    ]


def plan_engine(settings: ChatSettings, count: int) -> tuple[int, float]:
    """Return requests and CPU seconds of all that is made of so many groups, rendered and verified but not sent."""
    groups, estimate = pairs(count), Estimate(settings)
    started = time.process_time()
    for _ in add_interventions(groups, oracle=estimate, recipe=everything()):
        pass
    return estimate.requests, time.process_time() - started


def run_engine(settings: ChatSettings, count: int) -> tuple[int, float]:
    """Return the same of all but the endpoint and its client: planned, rendered, kept, counted, parsed and verified."""
    groups = pairs(count + CONCURRENCY)
    with ChatOracle(settings, Obliging) as oracle:
        for _ in add_interventions(groups[count:], oracle=oracle, recipe=everything()):
            pass
        before, started = oracle.traffic.sent, time.process_time()
        for _ in add_interventions(groups[:count], oracle=oracle, recipe=everything()):
            pass
        return oracle.traffic.sent - before, time.process_time() - started


def ask_plainly(url: str, settings: ChatSettings, count: int, *, create: bool = False) -> tuple[float, float]:
    """Return the same of the openai client alone, sent the same messages in the same way.

    Args:
        create: whether by the typed `chat.completions.create` over httpx, the client's default, instead.
    """

    async def run() -> tuple[float, float]:
        limits = httpx2.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
        http = (openai.DefaultAsyncHttpxClient if create else openai.DefaultAioHttpClient)(limits=limits)
        client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=None, http_client=http)
        slots = asyncio.Semaphore(CONCURRENCY)

        async def one(body) -> None:
            async with slots:
                if create:
                    async with client.chat.completions.with_streaming_response.create(**body) as response:
                        b"".join([part async for part in response.iter_bytes()])
                else:
                    await exchange(client, body, settings.max_reply_bytes)

        prompts = Prompts(settings.prompts)
        bodies = [settings.body(prompts.render(request), 0) for request in requests(CONCURRENCY + count)]
        await asyncio.gather(*map(one, bodies[:CONCURRENCY]))
        started, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*map(one, bodies[CONCURRENCY:]))
        taken = time.monotonic() - started, time.process_time() - cpu
        await client.close()
        return taken

    return asyncio.run(run())


def synthetic(start: int, stop: int) -> Iterator[PreferenceGroup]:
    """Yield small groups."""
    for k in range(start, stop):
        responses = [f"The good answer of number {k}.", f"The bad answer of number {k}."]
        yield build_group(
            id=f"g{k}", prompt=f"What is number {k} about?", responses=responses, comparisons=[Comparison(0, 1)]
        )


def write_synthetic(folder: Path, count: int) -> None:
    """Write so many of them as a TFDS folder."""
    folder.mkdir()
    starts = range(0, count, SHARD)
    for k, start in enumerate(starts):
        path = folder / f"synthetic-train.array_record-{k:05d}-of-{len(starts):05d}"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for group in synthetic(start, min(start + SHARD, count)):
            writer.write(serialize_group(group))
        writer.close()
    sizes = [min(SHARD, count - start) for start in starts]
    describe_shards(folder, "synthetic", "train", sizes, "Groups that are all alike, to be planned.")


def plan(folder: str) -> None:
    """Dry-run a Beam graph over a folder, and print requests and the peak memory of this process in bytes."""
    from crome_jax.augment.job import Job
    from crome_jax.augment.oracles.choice import Augmentation
    from crome_jax.augment.pipeline import estimate_pipeline

    few = dict.fromkeys(("upgrade_per_pair", "align_per_pair", "neutrals_per_group"), 0)
    recipe = Recipe(rubrics_per_prompt=2, degrade_per_pair=1, **few)
    chosen = Augmentation(recipe, "chat", ChatSettings("m", "http://127.0.0.1:9/v1", cache=None))
    estimate = estimate_pipeline(Job(folder, "train", f"{folder}-out", chosen, groups_per_shard=SHARD))
    print(estimate.requests, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def measure_plan(count: int, work: Path) -> tuple[int, float, float]:
    """Return requests, peak GB and seconds of a dry run of so many groups, in a process of its own."""
    folder = work / f"synthetic-{count}"
    write_synthetic(folder, count)
    started = time.monotonic()
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.oracle", "--plan", str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(said[-2]), int(said[-1]) / 1e9, time.monotonic() - started


def run(argv: Sequence[str]) -> None:
    """Measure, and write the page."""
    args = _parser().parse_args(argv)
    if args.plan:
        plan(args.plan)
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, endpoint(args.latency) as url:
        work = Path(folder)
        cached = ChatSettings("m", url, cache=str(work / "cache"), concurrency=CONCURRENCY)
        seconds, cpu = ask(cached, args.requests)
        _, alone = ask_plainly(url, cached, args.requests)
        _, created = ask_plainly(url, cached, args.requests, create=True)
        immediate = ChatSettings("m", url, cache=str(work / "immediate"), concurrency=CONCURRENCY)
        _, outside = ask(immediate, args.requests, Immediate)
        _, again = ask(immediate, args.requests, Immediate)
        planned, engine = plan_engine(immediate, args.requests // 8)
        whole = ChatSettings("m", url, cache=str(work / "whole"), concurrency=CONCURRENCY)
        made, ours = run_engine(whole, args.requests // 8)
        plans = [(count, *measure_plan(count, work)) for count in args.groups]
    ideal = CONCURRENCY / args.latency
    rows = [
        ("requests", f"{args.requests:,}"),
        ("rate", f"{args.requests / seconds:.0f} requests/s"),
        ("of the ideal rate", f"{100 * args.requests / seconds / ideal:.1f}% of {ideal:.0f} requests/s"),
        ("CPU, all of it", f"{1e3 * cpu / args.requests:.2f} ms a request"),
        ("CPU, the openai client alone", f"{1e3 * alone / args.requests:.2f} ms a request"),
        ("CPU, the same by its `create` over httpx", f"{1e3 * created / args.requests:.2f} ms a request"),
        ("CPU, all but the client", f"{1e3 * outside / args.requests:.2f} ms a request"),
        ("CPU, the engine with rendering and verification", f"{1e3 * engine / planned:.2f} ms a request"),
        ("CPU, all of ours in one run: engine and client, no endpoint", f"{1e3 * ours / made:.2f} ms a request"),
        ("CPU, of a reply found in the cache", f"{1e3 * again / args.requests:.2f} ms a request"),
        *(
            (f"planning {count:,} groups", f"{wanted:,} requests, {peak:.2f} GB at the most, {taken:.0f} s")
            for count, wanted, peak, taken in plans
        ),
        ("date", datetime.date.today().isoformat()),
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores, load average {load:.1f} when it began"),
        ("versions", f"python {platform.python_version()}, openai {version('openai')}"),
        ("command", f"`python -m benchmarks.oracle {' '.join(argv)}`".replace(" `", "`")),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    page = (
        f"# The chat oracle\n\nAgainst an endpoint on the same machine that answers after {1e3 * args.latency:.0f} ms, "
        f"{CONCURRENCY} requests under way.\n"
        "Written by `python -m benchmarks.oracle`; what it does is in [README.md](README.md).\n\n"
        f"|  |  |\n| --- | --- |\n{table}\n"
    )
    with whole_output(args.table, overwrite=True) as partial:
        partial.write_text(page)
    print(f"table: {args.table}")


def _parser() -> argparse.ArgumentParser:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.oracle", description=summary, epilog=rest)
    parser.add_argument(
        "--requests", type=at_least(1), default=3200, metavar="N", help="requests measured (default: %(default)s)"
    )
    parser.add_argument(
        "--latency",
        type=float,
        default=LATENCY_S,
        metavar="S",
        help="seconds until the endpoint answers (default: %(default)s)",
    )
    parser.add_argument(
        "--groups",
        type=at_least(1),
        nargs="*",
        default=[10_000, 1_000_000],
        metavar="N",
        help="sizes of synthetic data that are planned (default: 10000 1000000)",
    )
    parser.add_argument(
        "--table",
        type=Path,
        default=FOLDER.with_suffix(".md"),
        metavar="FILE",
        help="the page to write (default: benchmarks/oracle.md)",
    )
    parser.add_argument("--plan", metavar="FOLDER", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    run(sys.argv[1:])
