"""Add causal and neutral comparisons to preference data (Crome's stage one).

Reads JSON lines (plain or .gz), Parquet, TFDS folders and folders of such files, in the shapes preference data has:
{prompt, chosen, rejected} as text or messages, several ranked or scored responses, labelled pairs, crome_jax's own
groups. The same data and seed give the same bytes.

Beside OUT it writes a data card, OUT.card.html and OUT.card.json. With a language model as oracle:

  crome augment --oracle chat --gin.MODEL="'NAME'" --gin.ChatSettings.base_url="'http://host/v1'" ... --dry-run
  crome augment --gin_file=gin/augment/crome.gin ...    the paper's recipe
  crome augment --oracle local ...                      a small model, served by this machine
"""

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crome_jax.augment.card_files import card_path, check_card, write_card, written_card
from crome_jax.augment.oracles.choice import OFFLINE, Augmentation
from crome_jax.augment.recipe import Recipe
from crome_jax.errors import CromeError
from crome_jax.files import place
from crome_jax.groups import PreferenceGroup
from crome_jax.verbs.gin_flags import add_gin_flags
from crome_jax.verbs.numbers import at_least
from crome_jax.verbs.oracles import add_oracle, configured
from crome_jax.verbs.skip_bad import add_skip_bad, set_aside
from crome_jax.verbs.stdout import say
from crome_jax.verbs.terms import say_terms

if TYPE_CHECKING:
    from crome_jax.augment.account import Account
    from crome_jax.augment.card import Card

_RECIPE_FLAGS = tuple(field.name for field in dataclasses.fields(Recipe))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--data", required=True, type=place, metavar="PATH", help="preference data to read (required)")
    parser.add_argument(
        "--split",
        metavar="S",
        help="split of a TFDS folder, or how names of a folder's files begin (default: the only split, all files)",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=place,
        metavar="PATH",
        help="a name that ends in .jsonl or .jsonl.gz is a file of JSON lines; any other a TFDS folder (required)",
    )
    add_oracle(parser, "who rewrites answers")
    add_gin_flags(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say how many requests, tokens and dollars it takes; send and write nothing (default: do it)",
    )
    parser.add_argument(
        "--baseline",
        metavar="RUN",
        help="folder of a `crome train` run on the human comparisons: causal ones and permutations that it is sure of "
        "are dropped (default: what the gin file says, else none)",
    )
    parser.add_argument(
        "--beam",
        choices=("dataflow", "direct", "flink", "spark"),
        help="augment as an Apache Beam graph on this runner, range by range of a TFDS folder, with memory that does "
        "not grow; the same command goes on after a crash. Workers of one machine keep the budgets and limits of "
        "ChatSettings together; of several each machine has them, and a cache, to itself: give each its part "
        "(default: in this process, all in memory)",
    )
    parser.add_argument(
        "--beam-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="for Beam or the runner, as in --beam-option=--flink_master=HOST:PORT; may be given several times "
        "(default: none)",
    )
    parser.add_argument(
        "--groups-per-shard",
        type=at_least(1),
        default=8192,
        metavar="N",
        help="groups of one range, which borrow from each other, and of one file, with --beam (default: %(default)s)",
    )
    parser.add_argument(
        "--degrade-per-pair",
        type=at_least(0),
        default=argparse.SUPPRESS,
        metavar="N",
        help=f"lowered answers wanted for each human comparison (default: {Recipe.degrade_per_pair})",
    )
    parser.add_argument(
        "--upgrade-per-pair",
        type=at_least(0),
        default=argparse.SUPPRESS,
        metavar="N",
        help=f"raised answers wanted for each human comparison (default: {Recipe.upgrade_per_pair})",
    )
    parser.add_argument(
        "--align-per-pair",
        type=int,
        choices=(0, 1),
        default=argparse.SUPPRESS,
        help=f"causally-aligned ties wanted for each human comparison (default: {Recipe.align_per_pair})",
    )
    parser.add_argument(
        "--implied",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help="add what such a tie implies: its new answer beats the one it was made from and the lowered ones "
        f"(default: {Recipe.implied})",
    )
    parser.add_argument(
        "--neutrals-per-group",
        type=at_least(0),
        default=argparse.SUPPRESS,
        metavar="N",
        help=f"ties under an unrelated prompt wanted for each group (default: {Recipe.neutrals_per_group})",
    )
    parser.add_argument(
        "--permutations",
        type=at_least(0),
        default=argparse.SUPPRESS,
        metavar="N",
        help="pairs of other groups to put under each prompt, where its own answers beat them and they tie: RRM's "
        f"recipe, which has 2; Method.origins keeps them apart from the rest (default: {Recipe.permutations})",
    )
    parser.add_argument(
        "--max-pairs-per-group",
        type=at_least(0),
        default=argparse.SUPPRESS,
        metavar="N",
        help="human comparisons of a group that are edited, at most; 0 is no limit "
        f"(default: {Recipe.max_pairs_per_group})",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every draw (default: %(default)s)")
    parser.add_argument(
        "--max-record-bytes",
        type=at_least(1),
        default=4 << 20,
        metavar="N",
        help="size above which a record is bad, in bytes (default: %(default)s, 4 MiB)",
    )
    parser.add_argument(
        "--merge-prompts",
        action="store_true",
        help="make groups of one prompt one, so that it is encoded once (default: every record is its own group)",
    )
    add_skip_bad(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace OUT (default: that it exists is an error)")


def run(args: argparse.Namespace) -> None:
    """Augment, write, and print what was made and what was dropped."""
    from crome_jax.augment.account import Account
    from crome_jax.augment.augmentation import augment_groups
    from crome_jax.augment.card import Card
    from crome_jax.augment.oracles.facts import oracle_facts
    from crome_jax.data.merging import merge_prompts
    from crome_jax.data.readers import read_groups
    from crome_jax.data.writers import write_groups
    from crome_jax.files import absolute, check_not_read
    from crome_jax.training.progress import Progress

    chosen = _chosen(args)
    if chosen.baseline is not None:
        say_terms(chosen.baseline)
    account = Account()
    card, making = Card(account, args.seed), _making(args, chosen)
    facts: dict[str, Any] = {}

    def read() -> list[PreferenceGroup]:
        groups = list(
            read_groups(args.data, split=args.split, quarantine=quarantine, max_record_bytes=args.max_record_bytes)
        )
        return merge_prompts(groups) if args.merge_prompts else groups

    def augmented() -> Iterator[PreferenceGroup]:
        # A generator: nothing is read before the output was seen to be writable.
        groups = read()
        progress = Progress("augment", len(groups), "group")
        with chosen.open(groups, absolute(args.out)) as oracle, contextlib.closing(progress):
            made = augment_groups(
                groups,
                oracle=oracle,
                recipe=chosen.recipe,
                seed=args.seed,
                account=account,
                done=progress.advance,
            )
            if chosen.baseline is not None:
                made = _unsure(made, chosen, account)
            for group in made:
                card.add(group)
                yield group
            facts.update(oracle_facts(oracle))
        if account.groups:  # Else there is no output. Written here, so that where it cannot be, there is none either.
            cards.enter_context(written_card(args.out, card.figures(facts, making), card.sample))

    if args.beam is not None:
        _run_beam(args, chosen)
        return
    if args.dry_run:
        with set_aside(args.out, False, inputs=[args.data], overwrite=args.overwrite) as quarantine:
            say(_estimate(chosen, read(), args.seed))
        return
    if args.overwrite:
        check_not_read(args.out, [args.data])
    check_card(args.out)
    aside = set_aside(args.out, args.skip_bad, inputs=[args.data], overwrite=args.overwrite)
    with aside as quarantine, contextlib.ExitStack() as cards:
        write_groups(
            args.out,
            augmented(),
            description=f"{args.data} augmented by the {chosen.oracle} oracle, seed {args.seed}.",
            overwrite=args.overwrite,
        )
    _report(args.out, card, facts)
    chosen.finish(absolute(args.out))


def _run_beam(args: argparse.Namespace, chosen: Augmentation) -> None:
    """Do the same as a Beam graph."""
    try:
        from crome_jax.augment.job import Job
        from crome_jax.augment.pipeline import estimate_pipeline, run_pipeline
    except ModuleNotFoundError as e:
        if not (e.name or "").startswith("apache_beam"):
            raise
        raise CromeError("--beam wants apache-beam, which is not installed; ./launch/setup.sh beam") from None

    if args.merge_prompts or args.skip_bad or args.overwrite:
        raise CromeError("--merge-prompts, --skip-bad and --overwrite do not go with --beam; leave them out")
    job = Job(str(args.data), args.split or "train", str(args.out), chosen, args.seed, args.groups_per_shard)
    if args.dry_run:
        say(estimate_pipeline(job, options=args.beam_option))
        return
    check_card(args.out)
    card, facts = run_pipeline(
        job,
        runner=args.beam,
        options=args.beam_option,
        report=lambda card, facts: write_card(args.out, card.figures(facts, _making(args, chosen)), card.sample),
    )
    _report(args.out, card, facts)
    chosen.finish(job.run)


def _report(out: Path, card: "Card", facts: dict[str, Any]) -> None:
    say(card.account)
    if "requests sent" in facts:
        cost = f"${facts['dollars']:,.4f}" if "dollars" in facts else "no price given"
        failed = ", ".join(f"{count:,} {reason}" for reason, count in facts["attempts that failed"].items())
        failed = f" (failed: {failed})" if failed else ""
        say(f"{facts['requests sent']:,} requests{failed}, {facts['tokens']:,} tokens, {cost}")
    say(f"written to {out}, its card to {card_path(out, 'html')}")
    if lost := facts.get("requests without a reply"):
        # Last, where it is read: nothing else tells a gap in the data from what the oracle would not do.
        count, wanted = sum(lost.values()), facts["requests in all"]
        say(f"{count:,} of {wanted:,} answers never came ({count / wanted:.1%}), and what they were for is missing:")
        say("\n".join(f"{n:8d} {reason}" for reason, n in sorted(lost.items(), key=lambda row: (-row[1], row[0]))))


def _chosen(args: argparse.Namespace) -> Augmentation:
    """Return what the gin files say, and over it the flags."""
    given = {name: getattr(args, name) for name in _RECIPE_FLAGS if hasattr(args, name)}
    if given.get("max_pairs_per_group") == 0:
        given["max_pairs_per_group"] = None
    settings = configured(args)
    baseline = args.baseline if args.baseline is not None else settings.baseline
    return dataclasses.replace(settings, recipe=dataclasses.replace(settings.recipe, **given), baseline=baseline)


def _making(args: argparse.Namespace, chosen: Augmentation) -> dict[str, Any]:
    """Return what decides what is made, for the card."""
    split = {} if args.split is None else {"split": args.split}
    return {"data": str(args.data), **split, "seed": args.seed, **chosen.settings()}


def _unsure(groups: Iterator[PreferenceGroup], chosen: Augmentation, account: "Account") -> Iterator[PreferenceGroup]:
    from crome_jax.augment.baseline import keep_unsure

    return keep_unsure(groups, chosen.baseline, account=account, unsure=chosen.unsure, kinds=chosen.unsure_kinds)


def _estimate(chosen: Augmentation, groups: list[PreferenceGroup], seed: int) -> str:
    from crome_jax.augment.interventions import add_interventions
    from crome_jax.augment.oracles.chat.estimate import Estimate

    if chosen.oracle == OFFLINE:
        raise CromeError(
            "--dry-run counts requests to a model, and the offline oracle asks none; give another --oracle"
        )
    estimate = Estimate(chosen.chat)
    for _ in add_interventions(groups, oracle=estimate, recipe=chosen.recipe, seed=seed):
        pass
    return str(estimate)
