"""Write the reward of every response: each record as it was, with `reward` (nats) added, in the order they came.

  crome score --checkpoint runs/x < prompt_response.jsonl > scored.jsonl

A record is {prompt, response}, the prompt as text or messages, or {messages} ending with the response. Rewards of
responses to one prompt can be compared; a `reward` that a record has already is replaced. --data also takes preference
data, Parquet, and folders, TFDS or of files: each response of a pair or group is then written as {id, index, prompt,
response, reward}, its group's id and its place there first. Killed, a run with --data and --out goes on where it was
when the same command is given again.

A pairwise model (PairPM) compares the responses of a pair or group from --data, each two in either order, and writes
`win_probability` in the place of `reward`: the mean over the others of the probability to be the better. A lone
response is a bad record for it.
"""

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from crome_jax.errors import CromeError, DataError
from crome_jax.files import folder_here, place, stamp
from crome_jax.groups import Message, PreferenceGroup, Response
from crome_jax.verbs.evaluate import DataSet, add_ensemble, add_model_flags, data_set
from crome_jax.verbs.numbers import add_rows_at_once, at_least
from crome_jax.verbs.skip_bad import add_skip_bad, set_aside
from crome_jax.verbs.terms import say_terms

if TYPE_CHECKING:
    import numpy as np

    from crome_jax.data.quarantine import Quarantine
    from crome_jax.evaluation.scoring import RewardModel


class Item(NamedTuple):
    """One record to score.

    Args:
        file: that the record is in.
        number: of the record in its file, from 1.
        prompt: the conversation up to the response.
        response: the text to score.
        record: what the reward is added to.
        raw: what is set aside where the record is bad: all of it, which may have more responses.
    """

    file: str
    number: int
    prompt: tuple[Message, ...]
    response: str
    record: dict[str, Any]
    raw: Any


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=place,
        nargs="+",
        metavar="RUN",
        help="folder of a `crome train` run, or Hugging Face folder of a sequence classifier; several with --ensemble "
        "(required)",
    )
    add_ensemble(parser, "several RUN as one")
    parser.add_argument(
        "--data",
        type=data_set,
        metavar="PATH[@SPLIT]",
        help="what to score: JSON lines, plain or .gz, Parquet, a TFDS folder of groups, or a folder of such files "
        "(default: JSON lines from standard input)",
    )
    parser.add_argument(
        "--out",
        type=folder_here,
        metavar="FILE",
        help="where they are written, whole or not at all (default: standard output, as they are scored)",
    )
    parser.add_argument(
        "--chunk",
        type=at_least(1),
        default=512,
        metavar="N",
        help="records that are held and packed together (default: %(default)s)",
    )
    add_model_flags(parser)
    add_rows_at_once(parser)
    add_skip_bad(parser, "OUT.bad.jsonl (scored.bad.jsonl in the current folder for standard output)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT (default: that it exists is an error)")


def run(args: argparse.Namespace) -> None:
    """Score as records come."""
    from crome_jax.evaluation.reward_models import is_run, open_reward_model
    from crome_jax.evaluation.scored_file import ScoredFile, scored_output
    from crome_jax.files import check_not_read
    from crome_jax.training.checkpoints import read_card

    if (len(args.checkpoint) > 1) != (args.ensemble is not None):
        raise CromeError("several runs are scored with --ensemble mean or --ensemble worst, and one run without it")
    name = str(args.data.path) if args.data else "<stdin>"
    inputs = [args.data.path] if args.data else []
    if args.out is not None and args.overwrite:
        check_not_read(args.out, [*inputs, *args.checkpoint])
    cards = {run: read_card(run) for run in args.checkpoint if is_run(run)}
    with contextlib.ExitStack() as stack:
        aside = set_aside(args.out or Path("scored"), args.skip_bad, inputs=inputs, overwrite=args.overwrite)
        quarantine = stack.enter_context(aside)
        hidden = args.out and stack.enter_context(scored_output(args.out, overwrite=args.overwrite))
        for backbone in dict.fromkeys(card.backbone for card in cards.values()):
            say_terms(backbone)
        models = [
            open_reward_model(
                run, chat_template=None if run in cards else args.chat_template, row_tokens=args.row_tokens
            )
            for run in args.checkpoint
        ]
        compares = any(model.model.pairwise for model in models)
        if compares and args.ensemble:
            raise CromeError("--ensemble is of rewards, and a pairwise model gives none; leave it out of --checkpoint")
        kept = hidden and ScoredFile(hidden, _job(args, [model.key for model in models]))
        refused: set[tuple[str, int]] = set()  # Each record once, however many its responses.
        count = cut = taken = 0

        def refuse(item: Item, error: DataError) -> None:
            placed = error.at(item.file, item.number)
            if quarantine is None:
                raise placed
            if (item.file, item.number) not in refused:
                refused.add((item.file, item.number))
                quarantine.add(placed, item.raw)

        items = _read_data(args.data, quarantine) if args.data else _read_stdin(quarantine)
        if kept and kept.taken:
            print(f"{args.out}: resumed after {kept.taken} records", file=sys.stderr)
            for number, item in enumerate(itertools.islice(items, kept.taken)):
                if number in kept.refused:
                    refuse(item, DataError(**kept.refused[number]))
            count, cut, taken = kept.count, kept.cut, kept.taken
        out = None if kept else stack.enter_context(_standard_output())
        chunks = _chunks(items, args.chunk, whole=compares)
        while chunk := next(chunks, None):
            here: dict[int, dict[str, Any]] = {}

            def refuse_here(item: Item, error: DataError, chunk=chunk, first=taken, here=here) -> None:
                refuse(item, error)
                at = first + next(n for n, other in enumerate(chunk) if other is item)
                here[at] = {"problem": error.problem, "field": error.field, "fix": error.fix}

            found = [
                (compare_items if compares else score_items)(
                    model.model,
                    chunk,
                    rows_at_once=args.rows_at_once,
                    on_bad=refuse_here,
                    name=f"score from record {taken + 1}",
                )
                for model in models
            ]
            rewards, truncated = _combine(found, args.ensemble) if args.ensemble else found[0]
            lines = [
                _to_line({**item.record, "win_probability" if compares else "reward": reward})
                for item, reward in zip(chunk, rewards, strict=True)
                if reward is not None
            ]
            if kept:
                kept.add(lines, taken=len(chunk), cut=truncated, refused=here)
            else:
                out.writelines(lines)
                out.flush()
            count, cut, taken = count + len(lines), cut + truncated, taken + len(chunk)
        if not count and quarantine is not None and quarantine.count:
            if quarantine.count == 1 and quarantine.first.record is None:
                raise quarantine.first  # Of the file as a whole: it has no record.
            problem = f"holds no record that can be scored; all {quarantine.count} are bad, the first because: "
            raise DataError(f"{problem}{quarantine.first}", file=name, fix="check that this is what was meant")
        if not count:
            raise DataError("holds no record that can be scored", file=name, fix="check how it was made")
    print(f"{count} responses scored, {cut} of them cut to fit a row", file=sys.stderr)


def _chunks(items: Iterator[Item], size: int, *, whole: bool) -> Iterator[list[Item]]:
    """Yield items, so many at a time; with `whole` the responses of a record stay together."""
    if not whole:
        yield from iter(lambda: list(itertools.islice(items, size)), [])
        return
    chunk: list[Item] = []
    for _, record in itertools.groupby(items, key=lambda item: (item.file, item.number)):
        chunk += record
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _job(args: argparse.Namespace, models: Sequence[str]) -> dict[str, Any]:
    """Return what must be the same for a run to go on where another was killed."""
    if not args.data:  # Standard input cannot be read again.
        return {"begun": time.time_ns()}
    path = args.data.path
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        stamps = [[str(file), *stamp(file)] for file in files]
    except OSError:  # Reading it will say why.
        stamps = []
    job = {"models": list(models), "ensemble": args.ensemble, "input": stamps}
    return job | {"split": args.data.split, "skip bad": args.skip_bad}


def score_items(
    model: "RewardModel",
    items: Sequence[Item],
    *,
    rows_at_once: int,
    on_bad: Callable[[Item, DataError], None],
    name: str = "score",
) -> tuple[list[float | None], int]:
    """Score records, each prompt encoded once.

    Args:
        rows_at_once: rows in one call of the model, over all devices.
        on_bad: called with a record whose prompt is too long for a row.
        name: of the job, which the line of progress begins with.

    Returns:
        One reward for each item (nats), None where it was bad; and how many responses were cut.
    """
    from crome_jax.evaluation.scoring import score_groups

    by_prompt: dict[tuple[Message, ...], list[Item]] = {}
    for item in items:
        by_prompt.setdefault(item.prompt, []).append(item)
    bad: dict[tuple[Message, ...], DataError] = {}

    def refuse(group: PreferenceGroup, error: DataError) -> None:
        bad[group.prompt] = error

    groups = []
    for prompt, same in by_prompt.items():
        texts = dict.fromkeys(item.response for item in same)
        groups.append(PreferenceGroup(f"record {same[0].number}", prompt, tuple(Response(text) for text in texts), ()))
    try:
        scores = score_groups(model, groups, rows_at_once=rows_at_once, on_bad=refuse, name=name)
    except DataError:  # Nothing was left to score, which is no error of its own.
        if len(bad) < len(groups):
            raise
        scores = None
    for prompt, error in bad.items():  # Out here, where what it raises is not taken for that error.
        for item in by_prompt[prompt]:
            on_bad(item, error)
    if scores is None:
        return [None] * len(items), 0
    rewards = {
        (group.prompt, response.text): reward
        for group, values in zip(groups, scores.rewards, strict=True)
        for response, reward in zip(group.responses, values, strict=True)
    }
    found = [None if item.prompt in bad else _shortest(rewards[item.prompt, item.response]) for item in items]
    return found, scores.truncated


def compare_items(
    model: "RewardModel",
    items: Sequence[Item],
    *,
    rows_at_once: int,
    on_bad: Callable[[Item, DataError], None],
    name: str = "score",
) -> tuple[list[float | None], int]:
    """Compare the responses of each record by a pairwise model; arguments and result are as of score_items.

    Returns:
        For each item the mean probability to be better than another of its record.
    """
    from crome_jax.evaluation.pair_scoring import score_candidates

    records: dict[tuple[str, int], list[Item]] = {}
    for item in items:
        records.setdefault((item.file, item.number), []).append(item)
    bad: dict[str, DataError] = {}
    groups = []
    for (file, number), same in records.items():
        texts = tuple(map(Response, dict.fromkeys(item.response for item in same)))
        group = PreferenceGroup(f"record {number} of {file}", same[0].prompt, texts, ())
        if len(texts) < 2:
            problem = "is the only one to its prompt, and a pairwise model says which of two is the better"
            fix = "give pairs or groups with --data, or score by a reward model"
            bad[group.id] = DataError(problem, field="response", fix=fix)
        groups.append(group)
    compared = [group for group in groups if group.id not in bad]

    def refuse(group: PreferenceGroup, error: DataError) -> None:
        bad[group.id] = error

    scores = None
    try:
        if compared:
            scores = score_candidates(model, compared, rows_at_once=rows_at_once, on_bad=refuse, name=name)
    except DataError:  # Nothing was left to compare, which is no error of its own.
        if len(bad) < len(groups):
            raise
    for group, same in zip(groups, records.values(), strict=True):
        for item in same if group.id in bad else ():
            on_bad(item, bad[group.id])
    found = {} if scores is None else dict(zip((group.id for group in compared), scores.rewards, strict=True))
    wins: dict[tuple[str, int, str], float] = {}
    for group, record in zip(groups, records, strict=True):
        if group.id in found and group.id not in bad:
            for response, win in zip(group.responses, found[group.id], strict=True):
                wins[(*record, response.text)] = _shortest(win)
    return [wins.get((item.file, item.number, item.response)) for item in items], scores.truncated if scores else 0


def _shortest(value: "np.float32") -> float:
    """Return a number by way of text: the shortest decimal that is this float32, not all its digits as a float64."""
    return float(str(value))


def _combine(found: Sequence[tuple[list[float | None], int]], how: str) -> tuple[list[float | None], int]:
    """Combine what several models gave to the same records; one that any of them has no room for is bad."""
    import numpy as np

    from crome_jax.evaluation.ensembles import combine

    members = [np.array([np.nan if reward is None else reward for reward in rewards]) for rewards, _ in found]
    rewards = [float(str(reward)) for reward in combine(members, how)]
    return [None if np.isnan(reward) else reward for reward in rewards], max(truncated for _, truncated in found)


def _read_stdin(quarantine: "Quarantine | None") -> Iterator[Item]:
    from crome_jax.data.readers import read_prompt_responses

    name = "<stdin>"
    if sys.stdin is None:
        raise CromeError(f"{name}: is closed; give records on it, or with --data")
    records: Iterable = read_prompt_responses(sys.stdin.buffer, name=name, quarantine=quarantine)
    for number, prompt, response, record in records:
        yield Item(name, number, prompt, response, record, record)


def _read_data(data: DataSet, quarantine: "Quarantine | None") -> Iterator[Item]:
    from crome_jax.data.readers import read_scorable

    for file, number, raw, prompt, responses in read_scorable(data.path, split=data.split, quarantine=quarantine):
        for text, record in responses:
            yield Item(str(file), number, prompt, text, record, raw)


@contextlib.contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    from crome_jax.files import unwritable

    if sys.stdout is None:
        raise CromeError("<stdout>: is closed; redirect it, or give --out")
    try:
        yield sys.stdout.buffer
    except BrokenPipeError:
        raise
    except OSError as e:
        raise unwritable("<stdout>", e) from None


def _to_line(record: dict[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # A lone surrogate in a field that is not scored.
        return json.dumps(record).encode() + b"\n"
