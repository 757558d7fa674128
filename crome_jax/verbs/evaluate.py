"""Measure reward models on preference data and published benchmarks: accuracy with intervals, and a report.

Prints a table. Writes OUT/report.html, one page to read, OUT/report.json, which holds every figure of it
(`methods.<name>.splits.<data set>.accuracy`, `.interval`, `.comparisons`; `benchmarks.<name>.methods.<name>.score`),
OUT/outcomes.jsonl.gz, every comparison with its rewards and whether an answer was cut, and OUT/parts.json.gz, what
every example adds to a benchmark's scores, which `crome report` reads.
Benchmarks are read from
--manual_dir, or downloaded from the public hub; their scores are computed as their own code does. Run again after a
kill, the same command goes on from where it was.
"""

import argparse
import collections
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crome_jax.errors import CromeError, DataError
from crome_jax.files import check_writable, folder_here, is_remote, place
from crome_jax.groups import Origin, PreferenceGroup, to_json
from crome_jax.verbs.distributed import add_distributed, joined
from crome_jax.verbs.numbers import add_rows_at_once, at_least
from crome_jax.verbs.skip_bad import add_skip_bad, set_aside
from crome_jax.verbs.stdout import say
from crome_jax.verbs.terms import say_terms

if TYPE_CHECKING:
    from crome_jax.data.quarantine import Places, Quarantine
    from crome_jax.evaluation.scoring import RewardModel, Scores


BENCHMARK_NAMES = ("rewardbench", "rewardbench2", "rm_bench", "rewordbench", "judgebench", "llmbar", "pairs")
"""Those of datasets/benchmarks/registry.py, which imports what only a run needs."""


class DataSet(NamedTuple):
    """One data set to measure on.

    Args:
        name: as the report calls it.
        path: where it is read from.
        split: of a folder with several, else None.
    """

    name: str
    path: Path
    split: str | None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=place,
        nargs="+",
        metavar="RUN",
        help="folders of `crome train` runs, or Hugging Face folders of sequence classifiers; of several the first is "
        "the baseline (required)",
    )
    parser.add_argument(
        "--data",
        type=data_set,
        nargs="+",
        default=[],
        metavar="[NAME=]PATH[@SPLIT]",
        help="preference data; NAME is what the report calls it (default: none, where there is a --benchmark; NAME's "
        "default: the split, or else the file's name)",
    )
    add_benchmark_flags(parser)
    add_model_flags(parser)
    parser.add_argument(
        "--out",
        type=place,
        metavar="DIR",
        help="folder of the report (default: RUN/evaluation; needed for several RUN)",
    )
    add_ensemble(parser, "several RUN as one more method beside each of them")
    add_rows_at_once(parser)
    add_skip_bad(parser)
    add_distributed(parser)


def add_ensemble(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare --ensemble, the same for every verb that scores."""
    parser.add_argument(
        "--ensemble",
        choices=("mean", "worst"),
        help=f"take {what}: the mean of their rewards, or the lowest (default: no ensemble)",
    )


def add_benchmark_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what says which benchmarks are measured, and where their files are."""
    parser.add_argument(
        "--benchmark",
        nargs="+",
        choices=BENCHMARK_NAMES,
        default=[],
        metavar="NAME",
        help=f"published benchmarks: {', '.join(BENCHMARK_NAMES)} (default: none)",
    )
    parser.add_argument(
        "--manual_dir",
        type=manual_folder,
        nargs="+",
        default=[],
        metavar="[NAME=]DIR",
        help="folder with a benchmark's files: NAME=DIR of benchmark NAME; DIR of all others, DIR/NAME of each where "
        "that is there, else DIR itself (default: they are downloaded)",
    )
    parser.add_argument(
        "--data_dir",
        type=folder_here,
        default=Path("~/tensorflow_datasets"),
        metavar="DIR",
        help="where TFDS keeps what it downloads (default: %(default)s)",
    )
    parser.add_argument(
        "--accept-sha256",
        type=str.lower,
        nargs="+",
        default=[],
        metavar="SHA256",
        help="sums of downloaded files that you know to be right, where this program knows none (default: such files "
        "are not used; their sums are said)",
    )
    parser.add_argument(
        "--prior-sets",
        action="store_true",
        help="count RewardBench's prior sets in its overall score, at half a section's weight; they are downloaded "
        "too, or read from --manual_dir (default: they do not count)",
    )


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what a Hugging Face folder may need said."""
    parser.add_argument(
        "--chat-template",
        metavar="NAME|FILE",
        help="chat template of a Hugging Face folder: chatml, gemma, llama3, plain, or a Jinja file (default: its own)",
    )
    parser.add_argument(
        "--row-tokens",
        type=at_least(64),
        metavar="N",
        help="tokens of the longest packed row; what is longer is cut and counted (default: of a run those it was "
        "trained with, of a Hugging Face folder 2048)",
    )


def manual_folder(text: str) -> tuple[str | None, Path]:
    """Read `[NAME=]DIR`; what is no benchmark's name is part of the path."""
    name, equals, rest = text.partition("=")
    return (name, folder_here(rest)) if equals and name in BENCHMARK_NAMES else (None, folder_here(text))


def manual_folders(benchmarks: Sequence[str], given: Sequence[tuple[str | None, Path]]) -> dict[str, Path | None]:
    """Return the folder of each benchmark's files, None where they are downloaded.

    Args:
        given: what `--manual_dir` was given, as manual_folder reads it.

    Raises:
        CromeError: where a folder is of a benchmark that is not measured, or two are of the same.
    """
    names = [name for name, _ in given]
    for name in names:
        if name is not None and name not in benchmarks:
            raise CromeError(f"--manual_dir {name}=...: {name} is not measured; add --benchmark {name}")
        if names.count(name) > 1:
            raise CromeError(f"--manual_dir names {names.count(name)} folders for {name or 'all benchmarks'}; give one")
    folders = dict(given)
    whole = folders.get(None)
    found = {}
    for name in benchmarks:
        own = whole / name if whole is not None and (whole / name).is_dir() else whole
        found[name] = folders.get(name, own)
    return found


def data_set(text: str) -> DataSet:
    """Read `[NAME=]PATH[@SPLIT]`; a text that is the name of something on disk is all path."""
    name, equals, rest = text.partition("=")
    if not equals or is_remote(text) or Path(text).exists():
        name, rest = "", text
    path, at, split = rest.rpartition("@")
    if not at or place(rest).exists():
        path, split = rest, ""
    found = place(path)
    return DataSet(name or split or found.name.partition(".")[0] or path, found, split or None)


def run(args: argparse.Namespace) -> None:
    """Score every data set by every model; write the report and print its main tables."""
    if args.distributed != "none" and args.skip_bad:
        raise CromeError("--skip-bad lists bad records from one process; evaluate with one, or mend the data")
    with joined(args):
        _measure(args)


def _measure(args: argparse.Namespace) -> None:
    import jax

    from crome_jax.evaluation.accuracy import pairwise_outcomes
    from crome_jax.evaluation.benchmark_figures import benchmark_figures, benchmark_rows
    from crome_jax.evaluation.outcome_files import write_outcomes
    from crome_jax.evaluation.pair_scoring import judge_groups
    from crome_jax.evaluation.part_files import write_parts
    from crome_jax.evaluation.printed_tables import accuracy_table, benchmark_table
    from crome_jax.evaluation.report import build_report, write_report
    from crome_jax.evaluation.reward_models import model_name, open_reward_model, text_form
    from crome_jax.evaluation.room import check_texts
    from crome_jax.evaluation.score_journal import ScoreJournal, journal_beside
    from crome_jax.evaluation.trivial_scorers import score_constant
    from crome_jax.training.processes import is_first

    if not args.data and not args.benchmark:
        raise CromeError("there is nothing to measure on; name data with --data or a benchmark with --benchmark")
    if args.out is None and len(args.checkpoint) > 1:
        raise CromeError("several runs make one report; say where it goes with --out")
    out = args.out or args.checkpoint[0] / "evaluation"
    check_distinct([*(data.name for data in args.data), *args.benchmark], "data sets are called", "--data NAME=PATH")
    if args.prior_sets and "rewardbench" not in args.benchmark:
        raise CromeError("--prior-sets are RewardBench's; add --benchmark rewardbench")
    if args.ensemble and len(args.checkpoint) < 2:
        raise CromeError("--ensemble takes several runs; give more than one --checkpoint")
    methods = _method_names({folder: model_name(folder) for folder in args.checkpoint})
    check_writable(out)
    # A report replaces an earlier one, and so does its list of bad records; it appears after the report.
    folders = manual_folders(args.benchmark, args.manual_dir)
    inputs = [data.path for data in args.data] + [folder for folder in folders.values() if folder]
    with set_aside(out, args.skip_bad, inputs=inputs, overwrite=True) as quarantine, journal_beside(out) as journals:
        # Whatever can be seen to fail fails here, and not after hours of scoring.
        check_models(args.checkpoint, args.chat_template, _no_pairwise(args))
        places: dict[str, Places] = collections.defaultdict(dict)
        groups = _read(args.data, quarantine, places)
        of_benchmarks, bad = _read_benchmarks(args, folders, quarantine)
        groups |= of_benchmarks
        for some in groups.values():
            pairwise_outcomes(some, score_constant(some))  # Raises what the report would.
        # One for all runs: a group that several have no room for is one bad record.
        measured = [*args.data, *(DataSet(name, at or args.data_dir, None) for name, at in folders.items())]
        refuse = {data.name: _refuse(data.path, groups[data.name], quarantine, places[data.name]) for data in measured}
        data = [_data_facts(data, groups[data.name]) for data in measured]
        if len(methods) * len(groups) > 1:  # Of one, scoring looks at everything before it begins.
            check_texts(groups, (text_form(folder, **_reading(folder, args)) for folder in methods), refuse)
        scored: dict[str, dict[str, Scores]] = {}
        runs, packing, curves = [], [], {}
        several = jax.process_count() > 1  # Which go through the same batches together.
        for folder, method in methods.items():
            found = open_reward_model(folder, **_reading(folder, args))
            template = found.model.tokenizer.chat_template
            told = {"chat template": template, "model sha256": found.fingerprint}
            runs.append({"method": method, **found.facts, **told})
            curves[method] = found.curve
            scored[method] = {}
            for at, (name, some) in enumerate(groups.items()):
                started = time.monotonic()
                job = {"model": found.key, "data": data[at]["sha256"], "rows at once": args.rows_at_once}
                journal = None if several else ScoreJournal(journals, job)
                scores = judge_groups(
                    found.model,
                    some,
                    rows_at_once=args.rows_at_once,
                    on_bad=refuse[name],
                    journal=journal,
                    name=f"{method} on {name}",
                )
                seconds = time.monotonic() - started
                scored[method][name] = scores
                packing.append(_packing_facts(method, name, some, scores, seconds, found.model))
                if journal and journal.known:
                    packing[-1]["batches found done"] = journal.known
            del found
        if not is_first():
            return
        if args.ensemble:
            together = f"ensemble of {len(scored)} ({args.ensemble})"
            scored[together] = _combine(list(scored.values()), args.ensemble)
            unsaid = dict.fromkeys(packing[0])  # What is each member's own.
            packing += [
                unsaid
                | {"method": together, "data": name, "responses cut": scores.truncated, "equal once cut": scores.equal}
                | {"tokens encoded": scores.tokens, "tokens of padding": scores.padding}
                for name, scores in scored[together].items()
            ]
        evaluations, edited, cut = _usable(groups, scored)
        by_benchmark = {name: {method: evaluations[method][name] for method in evaluations} for name in args.benchmark}
        benchmarks = {
            name: benchmark_figures(
                name,
                some,
                left_out=len(groups[name]) - len(next(iter(some.values()))[0]),
                set_aside=bad[name],
                prior_sets=args.prior_sets,
            )
            for name, some in by_benchmark.items()
        }
        report = build_report(
            evaluations,
            training=curves,
            counterfactuals=edited,
            facts={
                "software": {
                    "crome_jax": version("crome_jax"),
                    "jax": version("jax"),
                    "python": platform.python_version(),
                    "machine": platform.machine(),
                },
                "runs": runs,
                "data": data,
                "scoring": packing,
            },
            benchmarks=benchmarks,
        )
        page, _ = write_report(report, out)
        write_outcomes(out, evaluations, cut)
        write_parts(
            out, {name: benchmark_rows(name, some, prior_sets=args.prior_sets) for name, some in by_benchmark.items()}
        )
    say(accuracy_table(report.figures, packing))
    if benchmarks:
        say(benchmark_table(benchmarks))
    say(f"report: {page}")


def check_models(folders: Sequence[Path], chat_template: str | None, no_pairwise: str | None = None) -> None:
    """Say the terms of models' backbones, and check all that is seen of them without reading their weights.

    Args:
        chat_template: of the Hugging Face folders among them.
        no_pairwise: why none of them may be a pairwise model, None where they may.

    Raises:
        CromeError: naming a folder that cannot be measured.
    """
    from crome_jax.evaluation.reward_models import check_reward_model, is_run
    from crome_jax.training.run_cards import read_card

    runs = [folder for folder in folders if is_run(folder)]
    given = set(folders) if len(runs) == len(folders) else set(folders) - set(runs)  # Of runs alone it is a mistake.
    for backbone in dict.fromkeys(read_card(run).backbone for run in runs):
        say_terms(backbone)
    for folder in folders:
        pairwise = check_reward_model(folder, chat_template=chat_template if folder in given else None)
        if pairwise and no_pairwise:
            raise CromeError(f"{folder}: {no_pairwise}")


def _no_pairwise(args: argparse.Namespace) -> str | None:
    """Return why no pairwise model can be measured so, None where one can."""
    from crome_jax.data.datasets.benchmarks.registry import BENCHMARKS

    if args.ensemble:
        return "--ensemble is of rewards, and a pairwise model gives none; leave it out"
    return next((why for name in args.benchmark if (why := BENCHMARKS[name].no_pairwise)), None)


def _reading(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return what the flags say of how a model takes its text; a run says itself which chat template is its own."""
    from crome_jax.evaluation.reward_models import is_run

    return {"chat_template": None if is_run(folder) else args.chat_template, "row_tokens": args.row_tokens}


def check_distinct(names: Sequence[str], what: str, fix: str) -> None:
    """Raise CromeError where two names are the same."""
    for name in names:
        if names.count(name) > 1:
            raise CromeError(f"{names.count(name)} {what} {name!r}; tell them apart with {fix}")


def _method_names(methods: Mapping[Path, str]) -> dict[Path, str]:
    """Call each run by its method, and by its folder as well where several have that method."""
    given = list(methods.values())
    return {run: method if given.count(method) == 1 else f"{method} ({run})" for run, method in methods.items()}


def _read(
    data_sets: Sequence[DataSet], quarantine: "Quarantine | None", places: Mapping[str, "Places"]
) -> dict[str, list[PreferenceGroup]]:
    from crome_jax.data.readers import read_groups

    return {
        data.name: list(read_groups(data.path, split=data.split, quarantine=quarantine, places=places[data.name]))
        for data in data_sets
    }


def _read_benchmarks(
    args: argparse.Namespace, folders: Mapping[str, Path | None], quarantine: "Quarantine | None"
) -> tuple[dict[str, list[PreferenceGroup]], dict[str, int]]:
    """Return of every benchmark its groups, and how many of its records were bad and set aside."""
    from crome_jax.data.datasets.benchmarks.registry import BENCHMARKS, read_benchmark
    from crome_jax.training.processes import first_goes_ahead

    data_dir = args.data_dir.expanduser()
    config = {"rewardbench": "prior_sets"} if args.prior_sets else {}
    found, bad = {}, {}
    with first_goes_ahead("benchmarks"):  # TFDS cannot build one in the same folder several times at once.
        for name, folder in folders.items():
            kind, before = config.get(name, "hub"), quarantine.count if quarantine else 0
            found[name] = read_benchmark(name, folder, data_dir, quarantine, kind, args.accept_sha256)
            bad[name] = quarantine.count - before if quarantine else 0
            if quarantine is None:  # What was set aside makes the rest no whole benchmark, as was asked for.
                BENCHMARKS[name].check(found[name])
    return found, bad


def _refuse(
    path: Path,
    groups: Sequence[PreferenceGroup],
    quarantine: "Quarantine | None",
    places: "Places",
) -> Callable[[PreferenceGroup, DataError], None]:
    """Return what becomes of a group that no row has room for: it is an error, or set aside the first time.

    Args:
        places: of groups that were read from files, which errors name; those of a benchmark have none.
    """
    waiting = {group.id: group for group in groups}  # What is refused has lost its comparisons.

    def refuse(group: PreferenceGroup, error: DataError) -> None:
        placed = error.at(*places.get(group.id, (f"group {group.id!r} of {path}",)))
        if quarantine is None:
            raise placed
        if whole := waiting.pop(group.id, None):
            quarantine.add(placed, to_json(whole))

    return refuse


def _combine(members: Sequence[Mapping[str, "Scores"]], how: str) -> dict[str, "Scores"]:
    """Return data set to the members' rewards combined; what any of them cut is cut, and all their tokens count."""
    import numpy as np

    from crome_jax.evaluation.ensembles import combine
    from crome_jax.evaluation.scoring import Scores

    return {
        name: Scores(
            [combine(same, how) for same in zip(*(member[name].rewards for member in members), strict=True)],
            max(member[name].truncated for member in members),
            sum(member[name].tokens for member in members),
            sum(member[name].padding for member in members),
            max(member[name].equal for member in members),
            [np.any(same, axis=0) for same in zip(*(member[name].cut for member in members), strict=True)],
        )
        for name in members[0]
    }


def _usable(
    groups: Mapping[str, list[PreferenceGroup]], scored: Mapping[str, Mapping[str, "Scores"]]
) -> tuple[dict[str, dict[str, tuple]], tuple[list, dict[str, list]] | None, dict[str, dict[str, list]]]:
    """Line groups up with their rewards, leaving out the groups that some method has no room for.

    Returns:
        What build_report takes as `evaluations` and as `counterfactuals`, and write_outcomes as `cut`.
    """
    from crome_jax.evaluation.leads import was_judged

    evaluations: dict[str, dict[str, tuple]] = {method: {} for method in scored}
    cut: dict[str, dict[str, list]] = {method: {} for method in scored}
    edited: list[PreferenceGroup] = []
    edited_rewards: dict[str, list] = {method: [] for method in scored}
    for name, some in groups.items():
        kept = [g for g in range(len(some)) if all(was_judged(by_data[name].rewards[g]) for by_data in scored.values())]
        shown = [g for g in kept if any(r.origin is not Origin.ORIGINAL for r in some[g].responses)]
        edited += [some[g] for g in shown]
        for method, by_data in scored.items():
            rewards = by_data[name].rewards
            evaluations[method][name] = ([some[g] for g in kept], [rewards[g] for g in kept])
            cut[method][name] = [by_data[name].cut[g] for g in kept]
            edited_rewards[method] += [rewards[g] for g in shown]
    return evaluations, (edited, edited_rewards) if edited else None, cut


def _data_facts(data: DataSet, groups: Sequence[PreferenceGroup]) -> dict[str, Any]:
    from crome_jax.data.loading import fingerprint_groups

    return {
        "data": data.name,
        "path": str(data.path),
        "split": data.split,
        "groups": len(groups),
        "responses": sum(len(group.responses) for group in groups),
        "comparisons": sum(len(group.comparisons) for group in groups),
        "sha256": fingerprint_groups(groups),
    }


def _packing_facts(
    method: str, name: str, groups: Sequence[PreferenceGroup], scores: "Scores", seconds: float, model: "RewardModel"
) -> dict[str, Any]:
    from crome_jax.evaluation.pair_scoring import tokens_alone

    alone = tokens_alone(groups, model.tokenizer, model.shape, pairwise=model.pairwise)
    comparisons = sum(len(group.comparisons) for group in groups)
    return {
        "method": method,
        "data": name,
        "responses cut": scores.truncated,
        "equal once cut": scores.equal,
        "tokens encoded": scores.tokens,
        "tokens of padding": scores.padding,
        "tokens encoded for each comparison": round(scores.tokens / max(comparisons, 1), 1),
        "if every pair were encoded by itself": round(alone / max(comparisons, 1), 1),
        "seconds, compilation included": round(seconds, 2),
        "tokens/s": round(scores.tokens / seconds),
    }
