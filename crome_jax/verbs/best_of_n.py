"""Measure what a reward model picks: best-of-N over N, by an unbiased estimator, and a report.

  crome best_of_n --model PATH --candidates candidates.jsonl --judge exact --out DIR

A record is {prompt, candidates[]} with what its judge reads: `answer` for exact (GSM8K), `harmful` and perhaps
`refused[]` for refusal (WildGuardTest), `baseline`, `preferences[]` and perhaps `instruction_difficulty` for preference
(AlpacaEval 2). --judge-by FILE.py:FUNCTION is a judge of your own, WildGuard behind a server, say: called as
FUNCTION(record, candidates), it returns for each candidate whether it is right (exact), whether it refuses (refusal),
or the probability that it is better than the baseline (preference).

With --endpoint the candidates come from an OpenAI-compatible server, asked as `crome augment --oracle chat` does: every
reply is kept in .cache/oracle, where the same command finds it again, and all of them are in OUT/candidates.jsonl; its
key, if it wants one, is in the environment variable of --endpoint-key. A pairwise model sets every two candidates of a
prompt against each other; it picks of N the one with the highest mean probability to beat another of all the prompt's
candidates. Writes OUT/best_of_n.html and OUT/best_of_n.json.
"""

import argparse
import json
from pathlib import Path

from crome_jax.errors import CromeError, DataError
from crome_jax.files import place, resolved
from crome_jax.verbs.evaluate import add_model_flags, check_models
from crome_jax.verbs.numbers import add_rows_at_once, at_least
from crome_jax.verbs.skip_bad import add_skip_bad, set_aside

JUDGE_NAMES = ("exact", "refusal", "preference")


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
        "--candidates",
        required=True,
        type=place,
        metavar="FILE",
        help="JSON lines or Parquet of prompts with candidates; with --endpoint, of prompts (required)",
    )
    parser.add_argument("--judge", required=True, choices=JUDGE_NAMES, help="what a candidate is worth (required)")
    parser.add_argument(
        "--judge-by",
        metavar="FILE.py:FUNCTION",
        help="your own function for the judge's verdicts; the file is run (default: a rule, or the records' fields)",
    )
    parser.add_argument("--out", required=True, type=place, metavar="DIR", help="folder of the report (required)")
    parser.add_argument(
        "--most", type=at_least(1), metavar="N", help="largest N (default: the fewest candidates of a prompt)"
    )
    parser.add_argument("--endpoint", metavar="URL", help="server that writes candidates, up to /v1 (default: none)")
    parser.add_argument(
        "--endpoint-key", metavar="VARIABLE", help="environment variable that holds its key (default: it gets none)"
    )
    parser.add_argument("--endpoint-model", default="default", metavar="NAME", help="its model (default: %(default)s)")
    parser.add_argument(
        "--samples",
        type=at_least(1),
        default=32,
        metavar="N",
        help="candidates it writes a prompt (default: %(default)s)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="X",
        help="at which it samples them (default: %(default)s)",
    )
    parser.add_argument(
        "--reply-tokens",
        type=at_least(1),
        default=1024,
        metavar="N",
        help="most tokens of one (default: %(default)s)",
    )
    add_model_flags(parser)
    add_rows_at_once(parser)
    add_skip_bad(parser)


def run(args: argparse.Namespace) -> None:
    """Get candidates, score and judge them, write the report and print the curve."""
    from crome_jax.evaluation.best_of_n_figures import best_of_n_figures
    from crome_jax.evaluation.best_of_n_page import render_best_of_n
    from crome_jax.evaluation.best_of_n_tests import picks_by_prompt
    from crome_jax.evaluation.bootstrap import Bootstrap
    from crome_jax.evaluation.candidate_judges import fingerprint_verdicts, judge_candidates, load_judge
    from crome_jax.evaluation.candidates import check_most, read_candidates
    from crome_jax.evaluation.report import plain_json
    from crome_jax.evaluation.reward_models import is_run, model_name, open_reward_model
    from crome_jax.evaluation.score_journal import journal_beside
    from crome_jax.files import check_writable, whole_output

    name = model_name(args.model)
    check_writable(args.out)
    if args.endpoint and args.most and args.most > args.samples:
        raise CromeError(f"--most {args.most} needs as many candidates; give --samples {args.most} or a smaller N")
    own = load_judge(args.judge_by) if args.judge_by else None
    aside = set_aside(args.out, args.skip_bad, inputs=[args.candidates], overwrite=True)
    with aside as quarantine, journal_beside(args.out) as journals:
        check_models([args.model], args.chat_template)
        path = _written(args, quarantine) if args.endpoint else args.candidates
        values = {}

        def judge(item) -> None:  # Before scoring, which takes longer than to find a bad record.
            values[item.id] = judge_candidates(args.judge, item, own)

        items = read_candidates(path, judge, quarantine)
        check_most(items, args.most)
        _check_difficulty(args.judge, items, path)
        found = open_reward_model(
            args.model,
            chat_template=None if is_run(args.model) else args.chat_template,
            row_tokens=args.row_tokens,
        )
        items, rewards, cut, tokens = _scored(args, found, items, path, quarantine, journals, name)
        worth = [values[item.id] for item in items]
        measured = best_of_n_figures(items, rewards, worth, args.judge, Bootstrap(), args.most)
        figures = plain_json(
            {
                **measured,
                "by_prompt": picks_by_prompt(items, rewards, worth, [point["n"] for point in measured["curve"]]),
                "title": f"Best of N by {name}",
                "cut": cut,
                "facts": {
                    "model": str(args.model),
                    "model sha256": found.fingerprint,
                    "candidates": str(path),
                    "sha256": _fingerprint([item.to_group() for item in items]),
                    "judged by": args.judge_by or f"the rule or the records' fields ({args.judge})",
                    "verdicts sha256": fingerprint_verdicts(items, worth),
                    "responses cut": sum(len(record["candidates"]) for record in cut),
                    "tokens encoded": tokens,
                    "scored token": found.facts["scored token"],
                    "chat template": found.model.tokenizer.chat_template,
                },
            }
        )
        for file, text in (
            ("best_of_n.html", render_best_of_n(figures)),
            ("best_of_n.json", json.dumps(figures, ensure_ascii=False, indent=1, allow_nan=False) + "\n"),
        ):
            with whole_output(args.out / file, overwrite=True) as partial:
                partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    for point in figures["curve"]:
        low, high = point["interval"]
        oracle, blind = 100 * point["oracle"], 100 * point["random"]
        said = f"best of {point['n']}: {100 * point['value']:.1f}% ({100 * low:.1f} to {100 * high:.1f})"
        print(f"{said}; an oracle {oracle:.1f}, blindly {blind:.1f}")
    print(f"report: {args.out / 'best_of_n.html'}")


def _scored(args, found, items, path, quarantine, place, name):
    """Return the records that could be scored, the rewards of each one's candidates, which were cut, and tokens."""
    import numpy as np

    from crome_jax.evaluation.pair_scoring import score_candidates
    from crome_jax.evaluation.score_journal import ScoreJournal
    from crome_jax.evaluation.scoring import score_groups

    groups = [item.to_group() for item in items]
    by_id = {item.id: item for item in items}
    refused = set()

    def refuse(group, error):
        placed = error.at(str(path), by_id[group.id].number)
        if quarantine is None:
            raise placed
        if group.id not in refused:
            refused.add(group.id)
            quarantine.add(placed, by_id[group.id].raw)

    job = {"model": found.key, "data": _fingerprint(groups), "rows at once": args.rows_at_once}
    score = score_candidates if found.model.pairwise else score_groups
    journal = ScoreJournal(place, job)
    scores = score(found.model, groups, rows_at_once=args.rows_at_once, on_bad=refuse, journal=journal, name=name)
    kept, rewards, cut = [], [], []
    for item, group, reward, flags in zip(items, groups, scores.rewards, scores.cut, strict=True):
        if item.id in refused:
            continue
        at = {response.text: r for r, response in enumerate(group.responses)}
        kept.append(item)
        rewards.append(np.array([reward[at[text]] for text in item.texts], np.float64))
        if flags.any():
            cut.append({"id": item.id, "candidates": [n for n, text in enumerate(item.texts) if flags[at[text]]]})
    return kept, rewards, cut, scores.tokens


def _written(args: argparse.Namespace, quarantine) -> Path:
    """Have the endpoint write candidates, and return the file that they are in."""
    from crome_jax.augment.oracles.chat.budget import finish_run
    from crome_jax.augment.oracles.chat.database import Database
    from crome_jax.augment.oracles.chat.settings import ChatSettings
    from crome_jax.evaluation.candidate_endpoint import ask_candidates
    from crome_jax.evaluation.candidate_judges import JUDGES
    from crome_jax.evaluation.candidates import read_prompts
    from crome_jax.files import absolute, whole_output
    from crome_jax.training.progress import Progress

    judge = JUDGES[args.judge]
    if judge.written and not args.judge_by:
        raise CromeError(
            f"--judge {args.judge} reads {judge.written!r} of candidates, and these are yet to be written; judge them "
            "with --judge-by FILE.py:FUNCTION, or write the candidates first and give them without --endpoint"
        )
    settings = ChatSettings(
        model=args.endpoint_model,
        base_url=args.endpoint,
        api_key_env=args.endpoint_key,
        structured="none",
        temperature=args.temperature,
        max_reply_tokens=args.reply_tokens,
        timeout_s=600.0,
    )
    path = args.out / "candidates.jsonl"
    if resolved(path) == resolved(args.candidates):
        raise CromeError(f"{path}: is where candidates go, and the prompts are read from it; name another --out")
    # What the judge needs is looked for before a candidate is paid for.
    items = read_prompts(args.candidates, lambda item: judge.check(item.facts), quarantine)
    _check_difficulty(args.judge, items, args.candidates)

    def refuse(item, error):
        quarantine.add(error.at(str(args.candidates), item.number), item.raw)

    progress = Progress("candidates", len(items) * args.samples, "answer")
    try:
        written = ask_candidates(
            items, settings, args.samples, progress.advance, refuse if quarantine else None, run=absolute(path)
        )
    except DataError as error:
        raise error.at(str(args.candidates), items[error.record - 1].number) from None
    finally:
        progress.close()
    with whole_output(path, overwrite=True) as partial:
        partial.write_text("".join(json.dumps(record) + "\n" for record in written), encoding="ascii")
    finish_run(Database(settings.cache), absolute(path))
    return path


def _check_difficulty(judge: str, items, path: Path) -> None:
    """Check, before anything is scored or paid for, that all records of preferences have a difficulty, or none."""
    from crome_jax.evaluation.candidates import read_difficulty

    try:
        if judge == "preference":
            read_difficulty(items)
    except DataError as error:
        raise error.at(str(path)) from None


def _fingerprint(groups) -> str:
    from crome_jax.data.loading import fingerprint_groups

    return fingerprint_groups(groups)
