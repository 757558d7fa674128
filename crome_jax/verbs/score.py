"""Write the reward of every response: each record as it was, with `reward` (nats) added, in the order they came.

  crome score --checkpoint runs/x < prompt_response.jsonl > scored.jsonl

A record is {prompt, response}, the prompt as text or messages, or {messages} ending with the response. Rewards of
responses to one prompt can be compared; a `reward` that a record has already is replaced. A response that was cut to
fit a row has `cut`, true, besides. --data also takes preference data, Parquet, and folders, TFDS or of files: each
response of a pair or group is then written as {id, index, prompt, response, reward}, its group's id and its place there
first. Killed, a run with --data and --out goes on where it was when the same command is given again. Beside OUT stands
OUT.card.json: model, chat template, SHA-256 of the input, how many responses were scored and cut.

A pairwise model (PairPM) compares the responses of a pair or group from --data, each two in either order, and writes
in the place of `reward`, as means over the others, `tie_probability`: that neither of the two is the better, and
`win_probability`: that, where one is, it is this. A lone response is a bad record for it.
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
from crome_jax.verbs.evaluate import DataSet, add_ensemble, add_model_flags, check_models, data_set
from crome_jax.verbs.numbers import add_rows_at_once, at_least
from crome_jax.verbs.skip_bad import add_skip_bad, set_aside

if TYPE_CHECKING:
    import numpy as np

    from crome_jax.data.quarantine import Quarantine
    from crome_jax.evaluation.score_cards import HashedStream
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
        help="where they are written, whole or not at all; gzipped where it ends in .gz (default: standard output, as "
        "they are scored)",
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
    from crome_jax.augment.card_files import card_path
    from crome_jax.evaluation.reward_models import is_run, open_reward_model
    from crome_jax.evaluation.score_cards import HashedStream, input_sha256, score_card, score_card_output
    from crome_jax.evaluation.scored_file import ScoredFile, scored_output
    from crome_jax.files import check_not_read

    if (len(args.checkpoint) > 1) != (args.ensemble is not None):
        raise CromeError("several runs are scored with --ensemble mean or --ensemble worst, and one run without it")
    name = str(args.data.path) if args.data else "<stdin>"
    inputs = [args.data.path] if args.data else []
    if args.out is not None and args.overwrite:
        for output in (args.out, card_path(args.out, "json")):
            check_not_read(output, [*inputs, *args.checkpoint])
    why = "--ensemble is of rewards, and a pairwise model gives none; leave it out of --checkpoint"
    check_models(args.checkpoint, args.chat_template, why if args.ensemble else None)
    with contextlib.ExitStack() as stack:
        aside = set_aside(args.out or Path("scored"), args.skip_bad, inputs=inputs, overwrite=args.overwrite)
        quarantine = stack.enter_context(aside)
        write_card = args.out and stack.enter_context(score_card_output(args.out, overwrite=args.overwrite))
        hidden = args.out and stack.enter_context(
            scored_output(args.out, overwrite=args.overwrite, resumable=args.data is not None)
        )
        models = [
            open_reward_model(
                run, chat_template=None if is_run(run) else args.chat_template, row_tokens=args.row_tokens
            )
            for run in args.checkpoint
        ]
        compares = any(model.model.pairwise for model in models)
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

        stream = None if args.data else HashedStream(_standard_input())
        sums = input_sha256(args.data.path) if args.data and args.out else {}
        items = _read_stdin(stream, quarantine) if stream else _read_data(args.data, quarantine)
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
            rewards, flags = _combine(found, args.ensemble) if args.ensemble else found[0]
            lines = [
                _to_line(
                    item.record
                    | (given if compares else {"reward": given})
                    | ({"cut": was_cut} if was_cut or "cut" in item.record else {})
                )
                for item, given, was_cut in zip(chunk, rewards, flags, strict=True)
                if given is not None
            ]
            truncated = sum(flags)
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
        if write_card:
            write_card(
                score_card(
                    models,
                    ensemble=args.ensemble,
                    split=args.data and args.data.split,
                    sums={name: stream.sha256} if stream else sums,
                    responses=count,
                    cut=cut,
                    bad=quarantine.count if quarantine else 0,
                )
            )
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
    return job | {"split": args.data.split}


def score_items(
    model: "RewardModel",
    items: Sequence[Item],
    *,
    rows_at_once: int,
    on_bad: Callable[[Item, DataError], None],
    name: str = "score",
) -> tuple[list[float | None], list[bool]]:
    """Score records, each prompt encoded once.

    Args:
        rows_at_once: rows in one call of the model, over all devices.
        on_bad: called with a record whose prompt is too long for a row.
        name: of the job, which the line of progress begins with.

    Returns:
        One reward for each item (nats), None where it was bad; and whether its response was cut.
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
        return [None] * len(items), [False] * len(items)
    values = {
        (group.prompt, response.text): (reward, bool(was_cut))
        for group, rewards, flags in zip(groups, scores.rewards, scores.cut, strict=True)
        for response, reward, was_cut in zip(group.responses, rewards, flags, strict=True)
    }
    found = [None if item.prompt in bad else values[item.prompt, item.response] for item in items]
    return [value and _shortest(value[0]) for value in found], [bool(value and value[1]) for value in found]


def compare_items(
    model: "RewardModel",
    items: Sequence[Item],
    *,
    rows_at_once: int,
    on_bad: Callable[[Item, DataError], None],
    name: str = "score",
) -> tuple[list[dict[str, float] | None], list[bool]]:
    """Compare the responses of each record by a pairwise model; arguments and result are as of score_items.

    Returns:
        For each item its means over the others of its record: `win_probability` and `tie_probability` as `leads` has
        them.
    """
    import numpy as np

    from crome_jax.evaluation.leads import tie_probabilities, win_probabilities
    from crome_jax.evaluation.pair_scoring import score_pairs

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
            scores = score_pairs(model, compared, every_pair=True, rows_at_once=rows_at_once, on_bad=refuse, name=name)
    except DataError:  # Nothing was left to compare, which is no error of its own.
        if len(bad) < len(groups):
            raise
    for group, same in zip(groups, records.values(), strict=True):
        for item in same if group.id in bad else ():
            on_bad(item, bad[group.id])
    found = {} if scores is None else {g.id: n for n, g in enumerate(compared)}
    means = {"win_probability": win_probabilities, "tie_probability": tie_probabilities}
    given: dict[tuple[str, int, str], tuple[dict[str, float], bool]] = {}
    for group, record in zip(groups, records, strict=True):
        if group.id in found and group.id not in bad:
            leads, cut = scores.rewards[found[group.id]], scores.cut[found[group.id]]
            by_name = {name: mean(leads).astype(np.float32) for name, mean in means.items()}
            for n, response in enumerate(group.responses):
                said = {name: _shortest(values[n]) for name, values in by_name.items()}
                given[(*record, response.text)] = said, bool(cut[n])
    values = [given.get((item.file, item.number, item.response)) for item in items]
    return [value and value[0] for value in values], [bool(value and value[1]) for value in values]


def _shortest(value: "np.float32") -> float:
    """Return a number by way of text: the shortest decimal that is this float32, not all its digits as a float64."""
    return float(str(value))


def _combine(found: Sequence[tuple[list[float | None], list[bool]]], how: str) -> tuple[list[float | None], list[bool]]:
    """Combine what several models gave to the same records; one that any has no room for is bad, one it cuts is cut."""
    import numpy as np

    from crome_jax.evaluation.ensembles import combine

    members = [np.array([np.nan if reward is None else reward for reward in rewards]) for rewards, _ in found]
    rewards = [float(str(reward)) for reward in combine(members, how)]
    cut = [any(flags) for flags in zip(*(flags for _, flags in found), strict=True)]
    return [None if np.isnan(reward) else reward for reward in rewards], cut


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise CromeError("<stdin>: is closed; give records on it, or with --data")
    return sys.stdin.buffer


def _read_stdin(stream: "HashedStream", quarantine: "Quarantine | None") -> Iterator[Item]:
    from crome_jax.data.readers import read_prompt_responses

    records: Iterable = read_prompt_responses(stream, name="<stdin>", quarantine=quarantine)
    for number, prompt, response, record in records:
        yield Item("<stdin>", number, prompt, response, record, record)


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
        return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:  # A lone surrogate in a field that is not scored.
        return json.dumps(record, allow_nan=False).encode() + b"\n"
