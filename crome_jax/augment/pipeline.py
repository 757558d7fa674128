"""The same steps as an Apache Beam graph: shards of groups in, shards of larger groups out, whatever crashes.

    ranges of the input -> those not done yet -> read -> augment -> write one shard each, with its account

A range of the input becomes one shard of the output. Nothing is shuffled and nothing is held but the range at hand, so
memory does not grow with the data. Ties and permutations borrow within a range, and the offline editor learns its words
there: the input should be in no particular order, as TFDS writes it. A shard appears whole, and after it its account,
which names its file; a run that was killed goes on with those that are missing, and its requests that were answered are
in the oracle's cache. So the data are the same bytes as if nothing had happened.

    OUT.unfinished/plan.json, made/, accounts/      until all is there; then what was made becomes OUT

The folders must be on a file system that every worker sees, or in a bucket: a worker then copies the files of the input
that its range lies in, and the command copies the shards, within the bucket, to where they belong. Nothing locks there:
one command at a time. A concurrency is each worker's; budgets, limits and the cache are those of all workers of a
machine: on a runner that may have several, each has a cache in a folder of its own name, and a range that begins again
on another machine is asked for again.
"""

import contextlib
import dataclasses
import json
import os
import socket
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared
from array_record.python.array_record_module import ArrayRecordWriter

from crome_jax.augment.account import Account
from crome_jax.augment.augmentation import augment_groups
from crome_jax.augment.card import Card
from crome_jax.augment.interventions import add_interventions
from crome_jax.augment.job import Job, Shard, account_path, check_absent, finish_job, start_job
from crome_jax.augment.oracles.base import Oracle, SubmittingOracle
from crome_jax.augment.oracles.chat.estimate import Estimate
from crome_jax.augment.oracles.chat.traffic import counted_apart
from crome_jax.augment.oracles.choice import OFFLINE, Augmentation
from crome_jax.augment.oracles.facts import add_facts, traffic_facts
from crome_jax.augment.source import Source
from crome_jax.data.features import parse_group, serialize_group
from crome_jax.data.readers import check_shards
from crome_jax.errors import CromeError, DataError
from crome_jax.files import is_remote, locked, whole_output
from crome_jax.groups import PreferenceGroup

RUNNERS = {
    "direct": "DirectRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
}
"""Where the graph runs, by the name that --beam takes."""

_NEEDED = {
    "flink": "--beam-option=--flink_master=HOST:PORT (with Java here), or =--job_endpoint=HOST:PORT of a job server",
    "spark": "--beam-option=--spark_master_url=spark://HOST:PORT (with Java here), or =--job_endpoint=HOST:PORT",
    "dataflow": "--beam-option=--project=ID, =--region=NAME and =--temp_location=gs://BUCKET/PATH",
}
_READ = 64  # Records fetched at a time.
_MEND = "write the folder again: `crome augment` with every --*-per-pair and --neutrals-per-group 0, and --skip-bad"


def run_pipeline(
    job: Job,
    *,
    runner: str = "direct",
    options: Sequence[str] = (),
    report: Callable[[Card, dict[str, Any]], None] = lambda card, facts: None,
) -> tuple[Card, dict[str, Any]]:
    """Augment a data set shard by shard; the folder `out` appears when all of them are there.

    Args:
        runner: one of RUNNERS.
        options: of Beam and the runner, such as `--flink_master=HOST:PORT`.
        report: called with what is returned just before `out` appears, so that no `out` is without its card.

    Returns:
        The card, and facts about the oracle.

    Raises:
        CromeError: where the input is no such folder, `out` exists, an unfinished run of another job is in the way, the
            same job is being run, or another runner than the direct one fails, as it does where it lacks an option, a
            job server or a cluster.
    """
    check_absent(job)
    given = _options(runner, options)
    shards = plan_shards(job)
    job.work.mkdir(parents=True, exist_ok=True)
    with _alone(job) as alone:
        if not alone:
            raise CromeError(f"{job.work}: another process is at work on it; wait for that one, or end it")
        check_absent(job)
        start_job(job, shards)
        with _explained(runner), beam.Pipeline(options=given) as pipeline:
            _ = (
                pipeline
                | "Ranges" >> beam.Create(shards)
                | "Spread" >> beam.Reshuffle()
                | "Not done yet" >> beam.Filter(lambda shard: not account_path(job, shard).exists())
                | "Read" >> beam.ParDo(_Read(job))
                | "Augment" >> beam.ParDo(_Augment(job, apart=runner != "direct"))
                | "Write" >> beam.Map(_write, job)
            )
        card, facts, made = Card(Account(), job.seed), {}, {}
        for shard in shards:
            record = json.loads(account_path(job, shard).read_text(encoding="utf-8"))
            card.merge(Card.from_state(record["card"], job.seed))
            add_facts(facts, record["oracle"])
            made[shard.name] = record["file"], record["groups"]
        if runner == "direct":
            # The whole run's: no shard's account has what a process paid that was killed before it wrote one.
            facts.update(job.chosen.facts(job.run))
        finish_job(job, made, lambda: report(card, facts))
    return card, facts


def _alone(job: Job) -> contextlib.AbstractContextManager[bool]:
    """Hold the job's lock, where there are locks; the block is given whether it is held."""
    return contextlib.nullcontext(True) if is_remote(job.work) else locked(job.work / "lock", wait=False)


def estimate_pipeline(job: Job, *, options: Sequence[str] = ()) -> Estimate:
    """Count the requests, tokens and dollars that the job takes, range by range on this machine; send nothing.

    Raises:
        CromeError: where the input is no such folder, or the oracle is the offline editor.
    """
    if job.chosen.oracle == OFFLINE:
        raise CromeError("--dry-run counts requests to a model, and the offline oracle asks none; give --oracle")
    total = Estimate(job.chosen.chat)
    with tempfile.TemporaryDirectory() as folder:
        with _explained("direct"), beam.Pipeline(options=_options("direct", options)) as pipeline:
            _ = (
                pipeline
                | "Ranges" >> beam.Create(plan_shards(job))
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.ParDo(_Read(job))
                | "Estimate" >> beam.Map(_estimate, job, folder)
            )
        for path in Path(folder).iterdir():
            total.add(json.loads(path.read_text()))
    return total


def plan_shards(job: Job) -> list[Shard]:
    """Return the ranges of the input.

    Raises:
        CromeError: where it is no TFDS folder of groups, or a file of it is missing.
    """
    total = len(Source(job.data, job.split))
    check_shards(job.data, split=job.split)
    count = -(-total // job.groups_per_shard)
    if not total:
        raise CromeError(f"{job.data}: the split {job.split!r} holds no group; check how it was made")
    return [Shard(k, count, k * job.groups_per_shard, min((k + 1) * job.groups_per_shard, total)) for k in range(count)]


class _Read(beam.DoFn):
    """A shard -> it and its groups."""

    def __init__(self, job: Job):
        self._job = job

    def setup(self) -> None:
        self._source = Source(self._job.data, self._job.split)

    def process(self, shard: Shard) -> Iterator[tuple[Shard, list[PreferenceGroup]]]:
        groups = []
        with self._source.opened(shard.start, shard.stop) as read:
            for start in range(shard.start, shard.stop, _READ):
                at = range(start, min(start + _READ, shard.stop))
                for number, record in zip(at, read(at), strict=True):
                    try:
                        groups.append(parse_group(record))
                    except DataError as e:
                        said = DataError(e.problem, file=self._job.data, record=number + 1, fix=_MEND)
                        raise CromeError(str(said)) from None  # Beam makes errors anew, of their text alone.
        yield shard, groups


class _Augment(beam.DoFn):
    """A shard and its groups -> it, its larger groups, and its record: account, card, facts about the oracle."""

    def __init__(self, job: Job, *, apart: bool):
        self._job, self._apart = job, apart
        self._shared = Shared()

    def process(
        self, element: tuple[Shard, list[PreferenceGroup]]
    ) -> Iterator[tuple[Shard, list[PreferenceGroup], dict[str, Any]]]:
        shard, groups = element
        job = self._job
        # One for all shards of a process: its connections, its models.
        shared = self._shared.acquire(lambda: _Open(job, self._apart))
        account = Account()
        card = Card(account, job.seed)
        out = []
        with shared.lent(groups) as oracle, counted_apart() as traffic:
            made = augment_groups(groups, oracle=oracle, recipe=job.chosen.recipe, seed=job.seed, account=account)
            for group in shared.unsure(made, account):
                card.add(group)
                out.append(group)
            facts = traffic_facts(oracle, traffic)
        yield shard, out, {"groups": len(out), "card": card.state(), "oracle": facts}


class _Open:
    """What is open as long as this is held.

    Args:
        apart: whether the machine may be one of several, and keeps its replies apart from theirs.
    """

    def __init__(self, job: Job, apart: bool):
        self._job, self._apart = job, apart
        self._baseline = None
        self._oracle: Oracle | SubmittingOracle | None = None
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()
        if job.chosen.baseline is not None:
            from crome_jax.training.train import load_run

            self._baseline = load_run(job.chosen.baseline)

    @contextlib.contextmanager
    def lent(self, groups: Sequence[PreferenceGroup]) -> Iterator[Oracle | SubmittingOracle]:
        """Yield the oracle for a shard: the process's, or one of its own where it learns from the groups.

        Where the shard fails the process's is closed, and the next shard opens another: what was sent is paid for, so
        it comes in and is kept before anybody asks for it again, or the process ends.
        """
        if self._job.chosen.oracle == OFFLINE:
            with self._job.chosen.open(groups) as oracle:
                yield oracle
            return
        with self._lock:
            if self._oracle is None:
                opened = _placed(self._job.chosen, self._apart).open((), self._job.run)
                self._oracle = self._stack.enter_context(opened)
            oracle = self._oracle
        try:
            yield oracle
            if hasattr(oracle, "check"):  # As a model's has.
                oracle.check()
        except BaseException:
            with self._lock:
                if self._oracle is oracle:
                    self._close()
            raise

    def unsure(self, groups: Iterator[PreferenceGroup], account: Account) -> Iterator[PreferenceGroup]:
        """Drop what the baseline is sure of, where there is one."""
        if self._baseline is None:
            return groups
        from crome_jax.augment.baseline import keep_unsure

        chosen = self._job.chosen
        return keep_unsure(groups, self._baseline, account=account, unsure=chosen.unsure, kinds=chosen.unsure_kinds)

    def _close(self) -> None:
        self._oracle = None
        try:  # noqa: SIM105 (contextlib is gone when a process ends)
            self._stack.close()
        except CromeError:
            pass  # Of what came of its requests, which every shard checks for itself.

    def __del__(self):
        self._close()


def _placed(chosen: Augmentation, apart: bool) -> Augmentation:
    """Return what is done on this machine: SQLite wants all that use a database on one."""
    if not apart or chosen.chat.cache is None:
        return chosen
    cache = os.path.join(chosen.chat.cache, socket.gethostname())
    return dataclasses.replace(chosen, chat=dataclasses.replace(chosen.chat, cache=cache))


def _write(element: tuple[Shard, list[PreferenceGroup], dict[str, Any]], job: Job) -> None:
    shard, groups, record = element
    account = account_path(job, shard)
    if account.exists():
        return  # Of another worker, which was taken for lost.
    # Two may come this far. Each has a file of its own, and an account names its writer's: they belong together.
    name = f"{uuid.uuid4().hex}.array_record"
    with whole_output(job.made / name) as partial:
        writer = ArrayRecordWriter(str(partial), "group_size:1")
        for group in groups:
            writer.write(serialize_group(group))
        writer.close()
    with whole_output(account, overwrite=True) as partial:
        partial.write_text(json.dumps({**record, "file": name}), encoding="utf-8")


def _estimate(element: tuple[Shard, list[PreferenceGroup]], job: Job, folder: str) -> None:
    shard, groups = element
    estimate = Estimate(job.chosen.chat)
    # Neutrals and permutations ask nobody.
    for _ in add_interventions(groups, oracle=estimate, recipe=job.chosen.recipe, seed=job.seed):
        pass
    Path(folder, f"{shard.number}.json").write_text(json.dumps(estimate.counts()))


def _options(runner: str, options: Sequence[str]) -> PipelineOptions:
    if runner not in RUNNERS:
        raise CromeError(f"--beam {runner}: no such runner; give one of {', '.join(RUNNERS)}")
    for option in options:
        if not option.startswith("--"):  # Beam passes over what it does not know.
            raise CromeError(f"--beam-option={option}: is no option of Beam; write --beam-option=--NAME=VALUE")
    return PipelineOptions([f"--runner={RUNNERS[runner]}", *options])


@contextlib.contextmanager
def _explained(runner: str) -> Iterator[None]:
    """Find the CromeError in what Beam makes of an error of a worker, and say what a runner elsewhere lacks."""
    try:
        yield
    except CromeError:
        raise
    except Exception as e:
        cause: BaseException | None = e
        while cause is not None and not isinstance(cause, CromeError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise CromeError(str(cause)) from None
        if runner == "direct":
            raise
        said = " ".join(str(e).split())[:1000]
        raise CromeError(
            f"--beam {runner}: {type(e).__name__}: {said}; give what the runner needs with --beam-option, as in "
            f"{_NEEDED[runner]}"
        ) from e
