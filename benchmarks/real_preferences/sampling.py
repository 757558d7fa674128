"""What is trained on and what is measured: drawn from the data folder's files, with an account of every record."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from crome_jax.augment.seeds import derive_seed
from crome_jax.data.loading import pack_groups
from crome_jax.data.merging import merge_prompts
from crome_jax.data.packing import RowShape
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.readers import read_groups
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.errors import CromeError
from crome_jax.evaluation.pair_scoring import tokens_alone
from crome_jax.groups import Comparison, PreferenceGroup, build_group, prompt_text

TRAIN = "train/alpaca_eval_groups.jsonl.gz"
TRAINING, VALIDATION, HELD_OUT = "train", "validation", "alpaca_eval"
"""The splits that are drawn from the file of training data."""


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Files that are measured together.

    Args:
        title: as the table calls it.
        files: category to path below the data folder.
        whole: measured whole, even where a sample is taken of the others.
        styled: in RM-Bench's shape, whose responses come in styles.
    """

    title: str
    files: Mapping[str, str]
    whole: bool = False
    styled: bool = False


def _files(pattern: str, categories: str) -> dict[str, str]:
    return {category: f"eval/{pattern.format(category)}.jsonl.gz" for category in categories.split()}


EVALUATIONS = {
    # The same 419 pairs as chat-hard of rewardbench_rebuilt: encoded once.
    "llmbar": EvaluationSet(
        "LLMBar (RewardBench chat-hard)", _files("llmbar_{}", "natural neighbor gptinst gptout manual"), whole=True
    ),
    "mt_bench": EvaluationSet("MT-Bench (from LLMBar)", _files("llmbar_{}", "processed_mt-bench")),
    "rewardbench_chat": EvaluationSet(
        "RewardBench chat", _files("rewardbench_rebuilt/{}", "alpacaeval-easy alpacaeval-length alpacaeval-hard")
    ),
    "rewardbench_safety": EvaluationSet(
        "RewardBench safety", _files("rewardbench_rebuilt/{}", "donotanswer xstest-should-refuse xstest-should-respond")
    ),
    "rewardbench_reasoning": EvaluationSet(
        "RewardBench reasoning", _files("rewardbench_rebuilt/hep-{}", "cpp go java js python rust")
    ),
    "rm_bench": EvaluationSet(
        "RM-Bench",
        _files("rm_bench_{}_sample20", "chat code safety_refuse safety_response"),
        whole=True,
        styled=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """How much of the data is taken; None is all.

    Args:
        prompts: training prompts.
        held_out: prompts of the validation set, and as many of the held-out test set.
        comparisons: of each of these prompts, at most.
        pairs: of each sampled evaluation file, each with a prompt of its own.
        once: take the optimizer steps with which Crome sees each of its packed rows once; else the gin file's.
    """

    prompts: int | None = 80
    held_out: int = 40
    comparisons: int | None = 3
    pairs: int | None = 40
    once: bool = False


FULL = Sample(prompts=None, held_out=60, comparisons=None, pairs=None, once=True)


@dataclasses.dataclass(frozen=True)
class File:
    """A file's groups, one for each prompt, and how many of its records were set aside.

    Args:
        name: below the data folder.
        groups: their ids begin with the file's own name, and so are unique over all files.
        bad: records that could not be read, such as two equal answers.
        too_long: records whose prompt leaves no room in a row.
    """

    name: str
    groups: list[PreferenceGroup]
    bad: int
    too_long: int


@dataclasses.dataclass(frozen=True)
class Taken:
    """What a split takes of a file, and what was set aside in that file.

    Args:
        asked: prompts left out since a file of the evaluation asks them, too.
    """

    split: str
    file: str
    bad: int
    too_long: int
    asked: int
    prompts: int
    comparisons: int


def read_file(data: Path, name: str, tokenizer: Tokenizer, shape: RowShape) -> File:
    """Read a file of the data folder, keeping what fits into a row."""
    stem = Path(name).name.partition(".")[0]
    with Quarantine() as quarantine:
        groups = [
            dataclasses.replace(group, id=f"{stem}/{group.id.removeprefix(stem).lstrip('-/')}")
            for group in read_groups(data / name, quarantine=quarantine)
            if group.comparisons
        ]
    room = shape.tokens - 32  # What pack_groups wants to be left for responses.
    fitting = [group for group in groups if len(tokenizer.encode_prompt(group.prompt)) <= room]
    return File(name, merge_prompts(fitting), quarantine.count, len(groups) - len(fitting))


def draw(
    groups: Iterable[PreferenceGroup], prompts: int | None, comparisons: int | None, seed: int
) -> list[PreferenceGroup]:
    """Draw groups, and of each some comparisons with the responses they need; None takes all.

    The first comparison of a group is drawn, the others share responses with it where they can: what they add to be
    encoded is little. Of several comparisons of the same two responses one is taken.
    """
    ranked = sorted(groups, key=lambda group: derive_seed(seed, "prompt", group.id))[:prompts]
    return [group if comparisons is None else _limit(group, comparisons, seed) for group in ranked]


def _limit(group: PreferenceGroup, most: int, seed: int) -> PreferenceGroup:
    order = sorted(range(len(group.comparisons)), key=lambda c: derive_seed(seed, "comparison", group.id, c))
    open_pairs: dict[frozenset[int], Comparison] = {}
    for comparison in (group.comparisons[c] for c in order):
        open_pairs.setdefault(frozenset((comparison.left, comparison.right)), comparison)
    kept: list[Comparison] = []
    needed: set[int] = set()
    while open_pairs and len(kept) < most:
        sides = min(open_pairs, key=lambda pair: len(pair - needed))
        needed |= sides
        kept.append(open_pairs.pop(sides))
    used = sorted(needed)
    at = {response: place for place, response in enumerate(used)}
    return build_group(
        id=group.id,
        prompt=group.prompt,
        responses=[group.responses[response] for response in used],
        comparisons=[dataclasses.replace(c, left=at[c.left], right=at[c.right]) for c in kept],
        metadata=group.metadata,
    )


def mark_styles(group: PreferenceGroup) -> PreferenceGroup:
    """Say of RM-Bench's responses (concise, detailed, detailed with markdown) which spurious attributes they have.

    The stratum of `cue` is then the benchmark's own: easy where the better answer has the richer style, hard where the
    other has, normal where both have the same. Of styles with equal texts the plainer counts.
    """
    responses = tuple(
        dataclasses.replace(
            response,
            metadata={
                **response.metadata,
                "detailed": response.metadata["style"] > 0,
                "markdown": response.metadata["style"] > 1,
            },
        )
        for response in group.responses
    )
    metadata = {**group.metadata, "spurious_attributes": "detailed, markdown"}
    return dataclasses.replace(group, responses=responses, metadata=metadata)


def prepare(
    read: Callable[[str], File], sample: Sample, seed: int
) -> tuple[dict[str, list[PreferenceGroup]], list[Taken]]:
    """Draw the training set, the validation set and every evaluation set; no prompt of the first is one of the last.

    Args:
        read: from a name below the data folder.

    Returns:
        Split to groups, and the account of every split and file.
    """
    splits: dict[str, list[PreferenceGroup]] = {}
    account: list[Taken] = []

    def take(split: str, file: File, groups: list[PreferenceGroup], asked: int = 0) -> None:
        splits.setdefault(split, []).extend(groups)
        comparisons = sum(len(group.comparisons) for group in groups)
        account.append(Taken(split, file.name, file.bad, file.too_long, asked, len(groups), comparisons))

    asked: set[str] = set()
    for split, which in EVALUATIONS.items():
        pairs = None if which.whole else sample.pairs
        for category, name in which.files.items():
            file = read(name)
            asked |= {_normal(group) for group in file.groups}
            drawn = draw(file.groups, pairs, None if pairs is None else 1, seed)
            drawn = [dataclasses.replace(g, metadata={**g.metadata, "category": category}) for g in drawn]
            take(split, file, [mark_styles(group) for group in drawn] if which.styled else drawn)
    file = read(TRAIN)
    new = [group for group in file.groups if _normal(group) not in asked]
    left_out = len(file.groups) - len(new)
    new = draw(new, None, sample.comparisons, seed)
    ends = sample.held_out, 2 * sample.held_out
    take(TRAINING, file, new[ends[1] :][: sample.prompts], left_out)
    take(VALIDATION, file, new[: ends[0]], left_out)
    take(HELD_OUT, file, new[ends[0] : ends[1]], left_out)
    return splits, account


def count_alone(groups: Sequence[PreferenceGroup], tokenizer: Tokenizer, shape: RowShape) -> float:
    """Return the tokens for each comparison, if both its sides were scored with a prompt of their own."""
    return tokens_alone(groups, tokenizer, shape) / sum(len(group.comparisons) for group in groups)


def steps_of_a_pass(
    groups: Sequence[PreferenceGroup], tokenizer: Tokenizer, shape: RowShape, rows_per_step: int
) -> int:
    """Return the optimizer steps in which each packed row is trained on once."""
    return -(-len(pack_groups(groups, tokenizer, shape)) // rows_per_step)


def check_data(data: Path) -> None:
    """Raise CromeError unless the folder holds every file that is read."""
    if not data.is_dir():
        raise CromeError(
            f"{data}: no such folder; the data sets are not part of the repository: name the folder that holds train/ "
            "and eval/ with --data"
        )
    wanted = [TRAIN, *(file for which in EVALUATIONS.values() for file in which.files.values())]
    missing = [file for file in wanted if not (data / file).is_file()]
    if missing:
        raise CromeError(f"{data}: lacks {', '.join(missing)}; name a folder that holds every file with --data")


def _normal(group: PreferenceGroup) -> str:
    return " ".join(prompt_text(group.prompt).casefold().split())
