"""Measure trained reward models on preference data: accuracy with intervals, and a report.

Prints a table. Writes OUT/report.html, one page to read, and OUT/report.json, which holds every figure of it
(`methods.<name>.splits.<data set>.accuracy`, `.interval`, `.comparisons`, ...).
"""

import argparse
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crome_jax.errors import CromeError, DataError
from crome_jax.groups import Origin, PreferenceGroup, to_json
from crome_jax.verbs.distributed import add_distributed, joined
from crome_jax.verbs.numbers import add_rows_at_once
from crome_jax.verbs.skip_bad import add_skip_bad, set_aside
from crome_jax.verbs.terms import say_terms

if TYPE_CHECKING:
    from crome_jax.data.quarantine import Quarantine
    from crome_jax.data.tokenizers import Tokenizer
    from crome_jax.evaluation.report import Report
    from crome_jax.evaluation.scoring import RewardModel, Scores


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
        type=Path,
        nargs="+",
        metavar="RUN",
        help="folders of `crome train` runs; of several the first is the baseline (required)",
    )
    parser.add_argument(
        "--data",
        required=True,
        type=data_set,
        nargs="+",
        metavar="[NAME=]PATH[@SPLIT]",
        help="preference data; NAME is what the report calls it (required; NAME's default: the split, or else the "
        "file's name)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the report (default: RUN/evaluation; needed for several RUN)"
    )
    add_rows_at_once(parser)
    add_skip_bad(parser)
    add_distributed(parser)


def data_set(text: str) -> DataSet:
    """Read `[NAME=]PATH[@SPLIT]`; a text that is the name of something on disk is all path."""
    name, equals, rest = text.partition("=")
    if not equals or Path(text).exists():
        name, rest = "", text
    path, at, split = rest.rpartition("@")
    if not at or Path(rest).exists():
        path, split = rest, ""
    place = Path(path)
    return DataSet(name or split or place.name.partition(".")[0] or path, place, split or None)


def run(args: argparse.Namespace) -> None:
    """Score every data set by every run; write the report and print its main table."""
    if args.distributed != "none" and args.skip_bad:
        raise CromeError("--skip-bad lists bad records from one process; evaluate with one, or mend the data")
    with joined(args):
        _measure(args)


def _measure(args: argparse.Namespace) -> None:
    from crome_jax.evaluation.report import build_report, write_report
    from crome_jax.evaluation.scoring import score_groups
    from crome_jax.training.checkpoints import read_card
    from crome_jax.training.metrics import read_curve
    from crome_jax.training.processes import is_first
    from crome_jax.training.train import load_run

    if args.out is None and len(args.checkpoint) > 1:
        raise CromeError("several runs make one report; say where it goes with --out")
    out = args.out or args.checkpoint[0] / "evaluation"
    _check_distinct([data.name for data in args.data], "data sets are called", "--data NAME=PATH")
    cards = {run: read_card(run) for run in args.checkpoint}
    methods = _method_names({run: card.method for run, card in cards.items()})
    with set_aside(out, args.skip_bad, inputs=[data.path for data in args.data]) as quarantine:
        groups = _read(args.data, quarantine)
        # One for all runs: a group that several have no room for is one bad record.
        refuse = {name: _refuse(name, some, quarantine) for name, some in groups.items()}
        scored: dict[str, dict[str, Scores]] = {}
        runs, packing = [], []
        for folder, method in methods.items():
            say_terms(cards[folder].backbone)
            model = load_run(folder)
            runs.append(_run_facts(folder, method, cards[folder], model))
            scored[method] = {}
            for name, some in groups.items():
                started = time.monotonic()
                scores = score_groups(model, some, rows_at_once=args.rows_at_once, on_bad=refuse[name])
                seconds = time.monotonic() - started
                scored[method][name] = scores
                packing.append(_packing_facts(method, name, some, scores, seconds, model.tokenizer))
    if not is_first():
        return
    evaluations, edited = _usable(groups, scored)
    report = build_report(
        evaluations,
        training={method: read_curve(folder) for folder, method in methods.items()},
        counterfactuals=edited,
        facts={
            "software": {
                "crome_jax": version("crome_jax"),
                "jax": version("jax"),
                "python": platform.python_version(),
                "machine": platform.machine(),
            },
            "runs": runs,
            "data": [_data_facts(data, groups[data.name]) for data in args.data],
            "scoring": packing,
        },
    )
    page, _ = write_report(report, out)
    print(_table(report, packing))
    print(f"report: {page}")


def _check_distinct(names: Sequence[str], what: str, fix: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise CromeError(f"{names.count(name)} {what} {name!r}; tell them apart with {fix}")


def _method_names(methods: Mapping[Path, str]) -> dict[Path, str]:
    """Call each run by its method, and by its folder as well where several have that method."""
    given = list(methods.values())
    return {run: method if given.count(method) == 1 else f"{method} ({run})" for run, method in methods.items()}


def _read(data_sets: Sequence[DataSet], quarantine: "Quarantine | None") -> dict[str, list[PreferenceGroup]]:
    from crome_jax.data.readers import read_groups

    return {data.name: list(read_groups(data.path, split=data.split, quarantine=quarantine)) for data in data_sets}


def _refuse(
    name: str, groups: Sequence[PreferenceGroup], quarantine: "Quarantine | None"
) -> Callable[[PreferenceGroup, DataError], None] | None:
    """Return what becomes of a group that no row has room for: it is set aside the first time."""
    if quarantine is None:
        return None
    waiting = {group.id: group for group in groups}  # What is refused has lost its comparisons.

    def refuse(group: PreferenceGroup, error: DataError) -> None:
        if whole := waiting.pop(group.id, None):
            quarantine.add(error.at(f"group {group.id!r} of {name}"), to_json(whole))

    return refuse


def _usable(
    groups: Mapping[str, list[PreferenceGroup]], scored: Mapping[str, Mapping[str, "Scores"]]
) -> tuple[dict[str, dict[str, tuple]], tuple[list, dict[str, list]] | None]:
    """Line groups up with their rewards, leaving out the groups that some method has no room for.

    Returns:
        What build_report takes as `evaluations` and as `counterfactuals`.
    """
    import numpy as np

    evaluations: dict[str, dict[str, tuple]] = {method: {} for method in scored}
    edited: list[PreferenceGroup] = []
    edited_rewards: dict[str, list] = {method: [] for method in scored}
    for name, some in groups.items():
        kept = [
            g
            for g in range(len(some))
            if all(np.isfinite(by_data[name].rewards[g]).all() for by_data in scored.values())
        ]
        shown = [g for g in kept if any(r.origin is not Origin.ORIGINAL for r in some[g].responses)]
        edited += [some[g] for g in shown]
        for method, by_data in scored.items():
            rewards = by_data[name].rewards
            evaluations[method][name] = ([some[g] for g in kept], [rewards[g] for g in kept])
            edited_rewards[method] += [rewards[g] for g in shown]
    return evaluations, (edited, edited_rewards) if edited else None


def _run_facts(folder: Path, method: str, card: Any, model: "RewardModel") -> dict[str, Any]:
    return {
        "method": method,
        "run": str(folder),
        "backbone": card.backbone,
        "layers": model.cfg.layers,
        "trainable": card.trainable,
        "training data": card.data_fingerprint,
        "tokenizer and chat template": card.tokenizer_fingerprint,
    }


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
    method: str, name: str, groups: Sequence[PreferenceGroup], scores: "Scores", seconds: float, tokenizer: "Tokenizer"
) -> dict[str, Any]:
    comparisons = sum(len(group.comparisons) for group in groups)
    return {
        "method": method,
        "data": name,
        "responses cut": scores.truncated,
        "tokens encoded": scores.tokens,
        "tokens encoded for each comparison": round(scores.tokens / max(comparisons, 1), 1),
        "if every pair were encoded by itself": round(_tokens_alone(groups, tokenizer) / max(comparisons, 1), 1),
        "seconds, compilation included": round(seconds, 2),
        "tokens/s": round(scores.tokens / seconds),
    }


def _tokens_alone(groups: Sequence[PreferenceGroup], tokenizer: "Tokenizer") -> int:
    """Count the tokens that encoding both sides of every comparison with its own prompt would take."""
    total = 0
    for group in groups:
        prompt = len(tokenizer.encode_prompt(group.prompt))
        lengths = [len(ids) for ids in tokenizer.encode_responses(r.text for r in group.responses)]
        total += sum(2 * prompt + lengths[c.left] + lengths[c.right] for c in group.comparisons)
    return total


def _table(report: "Report", packing: Sequence[Mapping[str, Any]]) -> str:
    """Lay out accuracy with intervals, by data set and method."""
    rows = [("data", "method", "accuracy", "95% interval", "comparisons", "responses cut")]
    for fact in packing:
        figures = report.figures["methods"][fact["method"]]["splits"][fact["data"]]
        known = figures["accuracy"] is not None
        rows.append(
            (
                fact["data"],
                fact["method"],
                f"{figures['accuracy']:.1%}" if known else "-",
                " to ".join(f"{bound:.1%}" for bound in figures["interval"]) if known else "-",
                f"{figures['comparisons']:,}",
                f"{fact['responses cut']:,}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
