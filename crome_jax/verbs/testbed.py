"""Write the causal testbed: English preference data whose causal graph is known.

Quality is decided by causal attributes. Spurious ones (length, bullets, ...) go along with it in the splits train,
validation and in_distribution; they are reversed in `reversed`, missing in `absent`, of other kinds in `unseen`.
`crome augment --data DIR --split train` and `crome evaluate --data DIR@reversed` read it.
"""

import argparse
import contextlib
import dataclasses
import io
import logging
import sys
from pathlib import Path

from crome_jax.errors import CromeError
from crome_jax.files import place
from crome_jax.verbs.numbers import at_least

CONFIGS = ("standard", "mild", "strong", "independent", "plain")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--out", required=True, type=place, metavar="DIR", help="TFDS folder to write, one split each (required)"
    )
    parser.add_argument(
        "--config",
        default="standard",
        choices=CONFIGS,
        help="how style goes along with quality in training: probability 0.7 (standard), 0.6 (mild), 0.85 (strong), "
        "0.5 (independent), or no style at all (plain) (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every draw (default: %(default)s)")
    for split, default in (("train", 600), ("validation", 150), ("test", 400)):
        whom = "each test split (half as many in absent)" if split == "test" else f"the split {split}"
        parser.add_argument(
            f"--{split}",
            type=at_least(2),
            default=default,
            metavar="N",
            help=f"pairs in {whom} (default: %(default)s)",
        )
    parser.add_argument("--overwrite", action="store_true", help="replace DIR (default: that it exists is an error)")


def run(args: argparse.Namespace) -> None:
    """Write the testbed, whole or not at all."""
    import tensorflow_datasets as tfds

    from crome_jax.data.datasets.causal_testbed import CausalTestbed
    from crome_jax.data.writers import explained
    from crome_jax.files import whole_output

    if args.overwrite and args.out.is_dir() and any(args.out.iterdir()) and not _is_tfds(args.out):
        raise CromeError(f"{args.out}: is a folder of something else than a data set; choose another name")
    named = CausalTestbed.builder_configs[args.config]
    sizes = {"train": args.train, "validation": args.validation, "absent": args.test // 2}
    sizes |= dict.fromkeys(("in_distribution", "reversed", "unseen"), args.test)
    config = dataclasses.replace(named, seed=args.seed, **sizes)
    if dataclasses.asdict(config) != dataclasses.asdict(named):
        # TFDS wants another name for other data.
        name = f"{args.config}_{args.train}_{args.validation}_{args.test}_seed{args.seed}"
        config = dataclasses.replace(config, name=name)
    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)  # It warns of every configuration that has no name of its own.
    # TFDS prints where it builds, which is not where the data set will be.
    with whole_output(args.out, overwrite=args.overwrite) as finished, contextlib.redirect_stdout(io.StringIO()):
        builder = CausalTestbed(config=config, data_dir=finished.with_name("building"), file_format="array_record")
        with explained(args.out):
            builder.download_and_prepare()
        Path(builder.data_dir).rename(finished)
    sizes = ", ".join(f"{split.num_examples} {name}" for name, split in builder.info.splits.items())
    print(f"{args.out}: {sizes}", file=sys.stderr)


def _is_tfds(folder: Path) -> bool:
    return (folder / "dataset_info.json").is_file()
