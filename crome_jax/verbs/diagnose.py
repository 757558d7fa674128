"""Say what a reward model rewards: causal effects of attributes on its reward, with intervals, and a report.

  crome diagnose --model PATH --data pairs.jsonl

PATH is a `crome train` run or the Hugging Face folder of a sequence classifier; the data are preference data in any
shape that is read. Responses are rewritten along causal attributes (by an oracle) and spurious ones (bullets, bold,
openings, padding, ...: by rule), once and back again (RATE). Writes OUT/diagnosis.html and OUT/diagnosis.json: average
treatment effects, sensitivity against leakage, accuracy with length held equal, calibration, the worst stratum.
"""

import argparse
import json
from pathlib import Path

from crome_jax.verbs.evaluate import add_model_flags, check_models, data_set
from crome_jax.verbs.numbers import add_rows_at_once, at_least
from crome_jax.verbs.skip_bad import add_skip_bad, set_aside

ORACLE_NAMES = ("offline", "none")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="PATH",
        help="folder of a `crome train` run, or Hugging Face folder of a sequence classifier (required)",
    )
    parser.add_argument(
        "--data", required=True, type=data_set, metavar="[NAME=]PATH[@SPLIT]", help="preference data (required)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the report (default: MODEL/diagnosis)")
    parser.add_argument(
        "--oracle",
        choices=ORACLE_NAMES,
        default="offline",
        help="who raises and lowers causal attributes; none measures the effects of spurious ones alone "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--prompts",
        type=at_least(1),
        metavar="N",
        help="prompts that are measured, drawn with the seed (default: all)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every draw (default: %(default)s)")
    add_model_flags(parser)
    add_rows_at_once(parser)
    add_skip_bad(parser)


def run(args: argparse.Namespace) -> None:
    """Rewrite, score, measure, write the report and print its summary."""
    from crome_jax.augment.seeds import derive_seed
    from crome_jax.data.loading import fingerprint_groups
    from crome_jax.data.readers import read_groups
    from crome_jax.evaluation.diagnosis import diagnose
    from crome_jax.evaluation.diagnosis_page import render_diagnosis
    from crome_jax.evaluation.report import plain_json
    from crome_jax.evaluation.reward_models import is_run, model_name, open_reward_model
    from crome_jax.evaluation.score_journal import ScoreJournal, journal_beside
    from crome_jax.evaluation.scoring import NO_REWARDS, score_groups
    from crome_jax.files import whole_output

    out = args.out or args.model / "diagnosis"
    name = model_name(args.model)
    aside = set_aside(out, args.skip_bad, inputs=[args.data.path], overwrite=True)
    with aside as quarantine, journal_beside(out) as journals:
        check_models([args.model], args.chat_template, NO_REWARDS)
        groups = list(read_groups(args.data.path, split=args.data.split, quarantine=quarantine))
        if args.prompts:
            groups = sorted(groups, key=lambda group: derive_seed(args.seed, "prompt", group.id))[: args.prompts]
        found = open_reward_model(
            args.model,
            chat_template=None if is_run(args.model) else args.chat_template,
            row_tokens=args.row_tokens,
        )
        groups = _fitting(groups, found.model, args.data.name, quarantine)
        counts = {}

        def score(extended):
            job = {"model": found.key, "data": fingerprint_groups(extended), "rows at once": args.rows_at_once}
            journal = ScoreJournal(journals, job)
            scores = score_groups(found.model, extended, rows_at_once=args.rows_at_once, journal=journal, name=name)
            counts.update({"responses scored": sum(len(group.responses) for group in extended)})
            counts.update({"responses cut": scores.truncated, "tokens encoded": scores.tokens})
            return scores.rewards

        oracle, attributes = _oracle(args.oracle, groups)
        figures = diagnose(groups, score, oracle=oracle, attributes=attributes, seed=args.seed)
        facts = {
            "model": str(args.model),
            "data": str(args.data.path),
            "data sha256": fingerprint_groups(groups),
            "prompts": len(groups),
            **counts,
            "oracle": args.oracle,
            "tokenizer and chat template": found.facts["tokenizer and chat template"],
            "chat template": found.model.tokenizer.chat_template,
        }
        figures = plain_json({**figures, "title": f"What {name} rewards", "facts": facts})
        for file, text in (
            ("diagnosis.html", render_diagnosis(figures)),
            ("diagnosis.json", json.dumps(figures, ensure_ascii=False, indent=1, allow_nan=False) + "\n"),
        ):
            with whole_output(out / file, overwrite=True) as partial:
                partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    print(_summary(figures))
    print(f"report: {out / 'diagnosis.html'}")


def _fitting(groups, model, name, quarantine):
    """Return the groups whose prompts leave room in a row; the others are set aside or an error."""
    from crome_jax.data.loading import tokenize_groups
    from crome_jax.groups import to_json

    refused = set()

    def refuse(group, error):
        refused.add(group.id)
        quarantine.add(error.at(f"group {group.id!r} of {name}"), to_json(group))

    for _ in tokenize_groups(groups, model.tokenizer, model.shape, on_bad=refuse if quarantine else None):
        pass
    return [group for group in groups if group.id not in refused]


def _oracle(name, groups):
    if name == "none":
        return None, ()
    from crome_jax.augment.oracles import OfflineEditor
    from crome_jax.augment.oracles.offline.editor import ATTRIBUTES

    return OfflineEditor.of(groups), tuple(ATTRIBUTES)


def _summary(figures) -> str:
    lines = []
    accuracy, control = figures["accuracy"], figures["length_control"]
    lines.append(f"accuracy {accuracy['accuracy']:.1%} of {accuracy['comparisons']:,} comparisons")
    if control["accuracy"] is not None:
        lines.append(f"accuracy with length held equal {control['accuracy']:.1%}")
    for kind, by_name in figures["effects"].items():
        for attribute, effect in by_name.items():
            double = effect["double"]
            if double["ate"] is not None:
                bounds = double["ate_interval"]
                said = f" ({bounds[0]:+.3f} to {bounds[1]:+.3f})" if bounds else ""
                lines.append(f"effect of {attribute} ({kind}) {double['ate']:+.3f} nats{said}")
    return "\n".join(lines)
