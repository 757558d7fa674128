"""What the Beam graph works on: a job, its ranges, and the folder where their shards gather until all are there."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crome_jax.augment.oracles.choice import OFFLINE, Augmentation
from crome_jax.data.writers import DESCRIPTION, describe_shards
from crome_jax.errors import CromeError
from crome_jax.files import absolute, digest_files, is_remote, is_taken, place, read_json_object, resolved, whole_output

_NAME, _SPLIT = "preference_groups", "train"


@dataclasses.dataclass(frozen=True)
class Job:
    """What is done, and all that its result depends on.

    Args:
        data: TFDS folder of groups in ArrayRecord files.
        split: of it.
        out: folder that will hold the result.
        chosen: oracle and recipe.
        seed: of every draw.
        groups_per_shard: groups of one range.
    """

    data: str
    split: str
    out: str
    chosen: Augmentation
    seed: int = 0
    groups_per_shard: int = 8192

    def __post_init__(self):
        # A worker need not be where the command was given.
        chosen = self.chosen
        if chosen.baseline is not None:
            chosen = dataclasses.replace(chosen, baseline=absolute(chosen.baseline))
        if chosen.chat is not None:
            chosen = dataclasses.replace(chosen, chat=chosen.chat.absolute())
        for name, value in {"data": absolute(self.data), "out": absolute(self.out), "chosen": chosen}.items():
            object.__setattr__(self, name, value)

    @property
    def run(self) -> str:
        """The name under which is counted what the job spends."""
        return self.out

    @property
    def work(self) -> Path:
        """Where all is kept until all is there."""
        out = place(self.out)
        return out.with_name(f"{out.name}.unfinished")

    @property
    def made(self) -> Path:
        """Where shards are until all are there, each in a file that its account names."""
        return self.work / "made"

    @property
    def shards(self) -> Path:
        """What becomes the result; in a bucket, where nothing is renamed, the result, whose description comes last."""
        return place(self.out) if is_remote(self.out) else self.work / "shards"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One range of the input, and the shard of the output that it becomes.

    Args:
        number, of: which of how many, from 0.
        start, stop: indices of its groups.
    """

    number: int
    of: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The file's name, as TFDS has it."""
        return f"{_NAME}-{_SPLIT}.array_record-{self.number:05d}-of-{self.of:05d}"


def account_path(job: Job, shard: Shard) -> Path:
    """Return where the account of a shard is; a shard that has one is done."""
    return job.work / "accounts" / f"{shard.name}.json"


def check_absent(job: Job) -> None:
    """Raise CromeError where the result is there already."""
    out = place(job.out)
    if is_remote(out):
        # Begun by this job, it has no description yet; without the job's work it is something else.
        if not (out / DESCRIPTION).exists() and (job.work.exists() or not out.exists()):
            return
    elif not is_taken(out):
        return
    elif job.work.is_dir() and not job.shards.exists():
        shutil.rmtree(job.work)  # Of a run that was killed when all but this was done.
    raise CromeError(f"{job.out}: exists already; choose another name, or move it away")


def start_job(job: Job, shards: Sequence[Shard]) -> None:
    """Make the folder of the work, or see that the one that is there is of this very job.

    The input is read for that, once a start and by who starts, as is the baseline's checkpoint: about a second for each
    GB, half a minute for ten million groups.

    Raises:
        CromeError: where it is another's, saying in what they differ, or the baseline is no run.
    """
    said = {
        "data": str(resolved(place(job.data))),
        "contents of the data": digest_files(job.data, hidden=False),
        "split": job.split,
        "groups": shards[-1].stop,
        "groups per shard": job.groups_per_shard,
        "seed": job.seed,
        "recipe": dataclasses.asdict(job.chosen.recipe),
        "oracle": job.chosen.oracle,
        "model or prompts": _model(job.chosen),
        "baseline": job.chosen.baseline,
        "contents of the baseline": _digest_baseline(job.chosen.baseline),
        "threshold of the baseline": [job.chosen.unsure, *job.chosen.unsure_kinds],
    }
    said = json.loads(json.dumps(said))
    plan = job.work / "plan.json"
    if plan.is_file():
        found = read_json_object(plan, "move its folder away")
        if differing := [name for name, value in said.items() if found.get(name) != value]:
            raise CromeError(
                f"{job.work}: is an unfinished run that differs from this one in {', '.join(differing)}; run that one "
                "to its end, or move the folder away"
            )
    else:
        with whole_output(plan) as partial:
            partial.write_text(json.dumps(said, indent=1))
    for folder in (job.shards, job.made, job.work / "accounts"):
        folder.mkdir(parents=True, exist_ok=True)


def _model(chosen: Augmentation) -> dict[str, Any] | None:
    """Return what a model's replies depend on; how fast and for how much it is asked may change between runs."""
    if chosen.oracle == OFFLINE:
        return None
    from crome_jax.augment.oracles.chat.prompts import Prompts

    fields = ("model", "structured", "temperature", "seed", "max_reply_tokens", "resamples", "extra")
    said = {name: getattr(chosen.chat, name) for name in fields}
    return {**said, "prompts": Prompts(chosen.chat.prompts).version}


def _digest_baseline(run: str | None) -> str | None:
    if run is None:
        return None
    # Here, as JAX takes seconds to import.
    from crome_jax.training.run_cards import read_card
    from crome_jax.weights.runs import fingerprint_newest

    read_card(run)  # Says what is wrong where it is no run.
    return fingerprint_newest(place(run))


def finish_job(job: Job, made: Mapping[str, tuple[str, int]], report: Callable[[], None]) -> None:
    """Name the shards, report, write what TFDS reads a folder by, and take the rest away: in the end OUT is there.

    Args:
        made: of each shard, in order, its file in `job.made` and how many groups it holds.
    """
    for name, (file, _) in made.items():
        _name_shard(job.made / file, job.shards / name)
    report()
    said = f"{job.data} augmented by the {job.chosen.oracle} oracle, seed {job.seed}."
    describe_shards(job.shards, _NAME, _SPLIT, [groups for _, groups in made.values()], said)
    if is_remote(job.work):
        job.work.rmtree()
    else:
        os.replace(job.shards, job.out)
        shutil.rmtree(job.work)


def _name_shard(made: Path, shard: Path) -> None:
    if is_remote(made):
        made.copy(shard, overwrite=True)
    elif made.exists():  # Else a run that was killed here has named it already.
        os.replace(made, shard)
