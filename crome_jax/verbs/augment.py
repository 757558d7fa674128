"""Add causal and neutral comparisons to preference data (Crome's stage one).

Reads JSON lines (plain or .gz), Parquet, TFDS folders and folders of such files, in the shapes preference data has:
{prompt, chosen, rejected} as text or messages, several ranked or scored responses, labelled pairs, crome_jax's own
groups. The same data and seed give the same bytes.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from crome_jax.augment.oracles import OfflineEditor, Oracle
from crome_jax.augment.recipe import Recipe
from crome_jax.groups import PreferenceGroup
from crome_jax.verbs.numbers import at_least
from crome_jax.verbs.skip_bad import add_skip_bad, set_aside

ORACLES: Mapping[str, Callable[[Sequence[PreferenceGroup]], Oracle]] = {
    "offline": OfflineEditor.of,
}
"""Who can be asked to rewrite the answers of a data set, by the name that --oracle takes."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--data", required=True, type=Path, metavar="PATH", help="preference data to read (required)")
    parser.add_argument(
        "--split",
        metavar="S",
        help="split of a TFDS folder, or how names of a folder's files begin (default: the only split, all files)",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="PATH",
        help="a name that ends in .jsonl or .jsonl.gz is a file of JSON lines; any other a TFDS folder (required)",
    )
    parser.add_argument(
        "--oracle", default="offline", choices=sorted(ORACLES), help="who rewrites answers (default: %(default)s)"
    )
    parser.add_argument(
        "--degrade-per-pair",
        type=at_least(0),
        default=2,
        metavar="N",
        help="lowered answers wanted for each human comparison (default: %(default)s)",
    )
    parser.add_argument(
        "--upgrade-per-pair",
        type=at_least(0),
        default=2,
        metavar="N",
        help="raised answers wanted for each human comparison (default: %(default)s)",
    )
    parser.add_argument(
        "--align-per-pair",
        type=int,
        choices=(0, 1),
        default=1,
        help="causally-aligned ties wanted for each human comparison (default: %(default)s)",
    )
    parser.add_argument(
        "--implied",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="add what such a tie implies: its new answer beats the one it was made from and the lowered ones "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--neutrals-per-group",
        type=at_least(0),
        default=2,
        metavar="N",
        help="ties under an unrelated prompt wanted for each group (default: %(default)s)",
    )
    parser.add_argument(
        "--permutations",
        type=at_least(0),
        default=0,
        metavar="N",
        help="pairs of other groups to put under each prompt, where its own answers beat them and they tie: RRM's "
        "recipe, which has 2; Method.origins keeps them apart from the rest (default: %(default)s)",
    )
    parser.add_argument(
        "--max-pairs-per-group",
        type=at_least(0),
        default=4,
        metavar="N",
        help="human comparisons of a group that are edited, at most; 0 is no limit (default: %(default)s)",
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
    from crome_jax.data.merging import merge_prompts
    from crome_jax.data.readers import read_groups
    from crome_jax.data.writers import write_groups

    account = Account()

    def augmented() -> Iterator[PreferenceGroup]:
        # A generator: nothing is read before the output was seen to be writable.
        groups = list(
            read_groups(args.data, split=args.split, quarantine=quarantine, max_record_bytes=args.max_record_bytes)
        )
        if args.merge_prompts:
            groups = merge_prompts(groups)
        yield from augment_groups(
            groups,
            oracle=ORACLES[args.oracle](groups),
            recipe=Recipe(
                degrade_per_pair=args.degrade_per_pair,
                upgrade_per_pair=args.upgrade_per_pair,
                align_per_pair=args.align_per_pair,
                implied=args.implied,
                neutrals_per_group=args.neutrals_per_group,
                permutations=args.permutations,
                max_pairs_per_group=args.max_pairs_per_group or None,
            ),
            seed=args.seed,
            account=account,
        )

    with set_aside(args.out, args.skip_bad, inputs=[args.data], overwrite=args.overwrite) as quarantine:
        write_groups(
            args.out,
            augmented(),
            description=f"{args.data} augmented by the {args.oracle} oracle, seed {args.seed}.",
            overwrite=args.overwrite,
        )
    print(account)
    print(f"written to {args.out}")
