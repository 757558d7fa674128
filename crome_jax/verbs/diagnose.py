"""Say what a reward model rewards: causal effects of attributes on its reward, with intervals, and a report.

  crome diagnose --model PATH --data pairs.jsonl

PATH is a `crome train` run or the Hugging Face folder of a sequence classifier; the data are preference data in any
shape that is read. Responses are rewritten along causal attributes (by an oracle) and spurious ones (bullets, bold,
openings, padding, ...: by rule), once and back again (RATE). Of a pairwise model, which gives no rewards, effects are
those on the log-odds that it prefers one text to the other. Writes OUT/diagnosis.html and OUT/diagnosis.json: average
treatment effects, sensitivity against leakage, accuracy with length held equal, calibration, the worst stratum; prints
the main ones.

With a language model as oracle, asked as `crome augment` asks it (every reply is kept, and found again after a kill):

  crome diagnose ... --oracle chat --gin.MODEL="'NAME'" --gin.ChatSettings.base_url="'http://host/v1'"
"""

import argparse
import contextlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crome_jax.errors import CromeError
from crome_jax.files import place
from crome_jax.verbs.evaluate import add_model_flags, check_models, data_set
from crome_jax.verbs.gin_flags import add_gin_flags
from crome_jax.verbs.numbers import add_rows_at_once, at_least
from crome_jax.verbs.oracles import add_oracle, configured
from crome_jax.verbs.skip_bad import add_skip_bad, set_aside

if TYPE_CHECKING:
    from crome_jax.groups import PreferenceGroup

NONE = "none"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--model",
        required=True,
        type=place,
        metavar="PATH",
        help="folder of a `crome train` run, or Hugging Face folder of a sequence classifier (required)",
    )
    parser.add_argument(
        "--data", required=True, type=data_set, metavar="[NAME=]PATH[@SPLIT]", help="preference data (required)"
    )
    parser.add_argument("--out", type=place, metavar="DIR", help="folder of the report (default: MODEL/diagnosis)")
    add_oracle(
        parser, "who raises and lowers causal attributes; none measures the effects of spurious ones alone", NONE
    )
    add_gin_flags(parser)
    parser.add_argument(
        "--attributes",
        nargs="+",
        metavar="NAME",
        help="attributes whose effects are measured: causal ones, of which a model as oracle takes any name, and "
        "spurious ones (default: all that are known)",
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
    from crome_jax.augment.oracles.facts import oracle_facts
    from crome_jax.data.loading import fingerprint_groups, fitting_groups
    from crome_jax.data.readers import read_groups
    from crome_jax.evaluation.diagnosis import diagnose
    from crome_jax.evaluation.diagnosis_page import render_diagnosis
    from crome_jax.evaluation.pair_scoring import BOTH, judge_groups
    from crome_jax.evaluation.report import plain_json
    from crome_jax.evaluation.reward_models import is_run, model_name, open_reward_model
    from crome_jax.evaluation.score_journal import ScoreJournal, journal_beside
    from crome_jax.files import absolute, check_writable, whole_output

    out = args.out or args.model / "diagnosis"
    name, asking = model_name(args.model), absolute(out / "diagnosis.json")
    check_writable(out)
    chosen = None if args.oracle == NONE else configured(args)
    causal, spurious = _attributes(args.attributes, chosen and chosen.oracle)
    aside = set_aside(out, args.skip_bad, inputs=[args.data.path], overwrite=True)
    with aside as quarantine, journal_beside(out) as journals:
        check_models([args.model], args.chat_template)
        places = {}
        groups = list(read_groups(args.data.path, split=args.data.split, quarantine=quarantine, places=places))
        if args.prompts:
            groups = draw_prompts(groups, args.prompts, args.seed)
        found = open_reward_model(
            args.model,
            chat_template=None if is_run(args.model) else args.chat_template,
            row_tokens=args.row_tokens,
        )
        tokenizer, shape, form = found.model.tokenizer, found.model.shape, BOTH if found.model.pairwise else None
        groups = fitting_groups(groups, tokenizer, shape, quarantine, forms=[form], places=places)
        counts, cut = {}, []

        def score(extended):
            job = {"model": found.key, "data": fingerprint_groups(extended), "rows at once": args.rows_at_once}
            journal = ScoreJournal(journals, job)
            scores = judge_groups(found.model, extended, rows_at_once=args.rows_at_once, journal=journal, name=name)
            counts.update({"responses scored": sum(len(group.responses) for group in extended)})
            counts.update({"responses cut": scores.truncated, "tokens encoded": scores.tokens})
            counted = zip(extended, scores.cut, strict=True)
            cut.extend({"id": group.id, "responses": int(flags.sum())} for group, flags in counted if flags.any())
            return scores.rewards

        with contextlib.nullcontext() if chosen is None else chosen.open(groups, asking) as oracle:
            figures = diagnose(groups, score, oracle=oracle, attributes=causal, spurious=spurious, seed=args.seed)
            asked = {"oracle": NONE} if oracle is None else oracle_facts(oracle)
        facts = {
            "model": str(args.model),
            "model sha256": found.fingerprint,
            "data": str(args.data.path),
            "data sha256": fingerprint_groups(groups),
            "prompts": len({group.prompt for group in groups}),
            "records": len(groups),
            **counts,
            **asked,
            "tokenizer and chat template": found.facts["tokenizer and chat template"],
            "scored token": found.facts["scored token"],
            "chat template": found.model.tokenizer.chat_template,
        }
        figures = plain_json({**figures, "title": f"What {name} rewards", "facts": facts, "cut": cut})
        for file, text in (
            ("diagnosis.html", render_diagnosis(figures)),
            ("diagnosis.json", json.dumps(figures, ensure_ascii=False, indent=1, allow_nan=False) + "\n"),
        ):
            with whole_output(out / file, overwrite=True) as partial:
                partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    if chosen is not None:
        chosen.finish(asking)
    print(_summary(figures))
    print(f"report: {out / 'diagnosis.html'}")


def draw_prompts(groups: Sequence["PreferenceGroup"], count: int, seed: int) -> list["PreferenceGroup"]:
    """Return all groups of so many prompts, drawn with a seed, in the order of the draw."""
    from crome_jax.augment.seeds import derive_seed

    mixed = sorted(groups, key=lambda group: derive_seed(seed, "prompt", group.id))
    drawn = set(list(dict.fromkeys(group.prompt for group in mixed))[:count])
    return [group for group in mixed if group.prompt in drawn]


def _attributes(given: Sequence[str] | None, oracle: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the causal and the spurious attributes to measure.

    Args:
        given: names, None for all.
        oracle: who moves the causal ones, None for nobody.

    Raises:
        CromeError: where nobody can move one that is named.
    """
    from crome_jax.augment.oracles.choice import OFFLINE
    from crome_jax.augment.oracles.offline.editor import ATTRIBUTES as KNOWN
    from crome_jax.evaluation.style_attributes import ATTRIBUTES as STYLES

    styles = [style.name for style in STYLES]
    if given is None:
        return (tuple(KNOWN) if oracle else ()), tuple(styles)
    causal = tuple(name for name in given if name not in styles)
    movable = {None: (), OFFLINE: tuple(KNOWN)}.get(oracle, causal)
    if unmoved := [name for name in causal if name not in movable]:
        known = ", ".join((*movable, *styles))
        raise CromeError(
            f"--attributes {unmoved[0]}: --oracle {oracle or NONE} cannot move it; known are {known}, and a model as "
            "oracle (--oracle chat) takes any name"
        )
    return causal, tuple(name for name in styles if name in given)


def _summary(figures) -> str:
    """Return the main figures, a line for each."""
    accuracy, control, summary = figures["accuracy"], figures["length_control"], figures["summary"]
    lines = [f"accuracy {accuracy['accuracy']:.1%} of {accuracy['comparisons']:,} comparisons"]
    if control["accuracy"] is not None:
        lines.append(f"accuracy with length held equal {control['accuracy']:.1%}")
    for kind, by_name in figures["effects"].items():
        for attribute, effect in by_name.items():
            double = effect["double"]
            if double["ate"] is not None:
                bounds = double["ate_interval"]
                said = f" ({bounds[0]:+.3f} to {bounds[1]:+.3f})" if bounds else ""
                lines.append(f"effect of {attribute} ({kind}) {double['ate']:+.3f} nats{said}")
    for name, said in (("sensitivity", "along causal attributes"), ("leakage", "along spurious attributes")):
        if summary[name] is not None:
            lines.append(f"{name} {said} {summary[name]:.3f} of the spread of reward differences")
    if summary["selectivity"] is not None:
        lines.append(f"selectivity {summary['selectivity']:.1%}: the causal share of what moves the reward")
    if figures["calibration_scale"] is not None:
        lines.append(f"calibrated when rewards are multiplied by {figures['calibration_scale']:.2f}")
    if worst := figures["worst_stratum"]:
        place = f"{worst['family']} is {worst['stratum']}".replace("_", " ")
        lines.append(f"worst where {place}: {worst['accuracy']:.1%} of {worst['comparisons']:,} comparisons")
    if cut := figures["facts"]["responses cut"]:
        lines.append(f"{cut:,} responses were cut to fit a row; diagnosis.json names their prompts")
    return "\n".join(lines)
