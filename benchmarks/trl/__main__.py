"""Train a reward model with TRL's RewardTrainer and with crome_jax: same weights, same comparisons, same process.

  pip install -c requirements.txt -r benchmarks/trl/requirements.txt
  python -m benchmarks.trl

SmolLM2-135M in float32 on the CPU, on plain pairs with short prompts and on groups that the offline editor augmented.
Writes pairs/s, tokens encoded for each comparison, and what the input pipeline costs to a page.
"""

import argparse
import datetime
import os
import platform
import random
import shlex
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.packing.distinct import distinct_tokens
from benchmarks.pages import make_parser, table
from benchmarks.trl import ours
from benchmarks.trl.timing import Timing
from crome_jax.augment.augmentation import augment_groups
from crome_jax.augment.oracles.offline import OfflineEditor
from crome_jax.data.loading import tokenize
from crome_jax.data.packing import Rows, RowShape, TokenizedGroup, pack
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.readers import read_groups
from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.groups import Kind
from crome_jax.verbs.numbers import at_least
from crome_jax.weights.backbones import Backbone, load_backbone
from crome_jax.weights.export import write_folder

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("crome_jax", "jax", "torch", "transformers", "trl", "numpy")
PLAIN = "ultrafeedback_binarized_sample_train_clean.jsonl.gz"
AUGMENTED = "hh_rlhf_harmless_base_test.jsonl.gz"
SHORT = 64
"""Tokens of a short prompt, at most."""
TOLERANCE = 1e-3
"""Nats. Two programs add in another order, over thirty layers; the rewards of this head are a few nats."""


class Measured(NamedTuple):
    """One set of comparisons trained on.

    Args:
        data: what it is.
        trainable: layers that train.
        distinct: tokens of every prompt and every response that is compared, each once.
        difference: of the two programs' losses before any step, in nats.
        theirs, ours, held: what TRL took; crome_jax; and crome_jax on one batch that never changes.
    """

    data: str
    trainable: str
    distinct: int
    difference: float
    theirs: Timing
    ours: Timing
    held: Timing


def run(argv: Sequence[str]) -> None:
    """Train by turns, and write the page.

    Raises:
        CromeError: where a file is absent, or the two programs' losses differ.
    """
    args = _make_parser().parse_args(argv)
    try:
        from benchmarks.trl import trainer
    except ModuleNotFoundError as e:
        raise CromeError(
            f"{e.name} is missing; pip install -c requirements.txt -r benchmarks/trl/requirements.txt"
        ) from e
    measured = []
    for trainable in args.trainable:
        base = load_backbone("smollm2-135m", trainable)
        rng = np.random.default_rng(args.seed)
        base.heads["head"] = rng.normal(size=base.cfg.width).astype(np.float32) / np.sqrt(base.cfg.width)
        sets = {
            "plain pairs": _plain(args.data / PLAIN, base, args.pairs, args.seed),
            "augmented groups": _augmented(args.data / AUGMENTED, base, args.groups, args.seed),
        }
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "model"
            write_folder(folder, base.params, base.cfg, base.tokenizer, context=8192, card="# SmolLM2, random head\n")
            for name, drawn_groups in sets.items():
                groups = uncut(drawn_groups, args.row_tokens)
                left_out = len(drawn_groups) - len(groups)
                print(f"{name}, training {trainable}; {left_out} groups that a row cannot hold", file=sys.stderr)
                rows = pack(groups, RowShape(args.row_tokens))
                pairs = pairs_of(groups, rows)
                # An optimizer step sees about as many comparisons on either side.
                rows_per_step = min(len(rows), max(1, round(args.batch * len(rows) / len(pairs))))
                loss, drawn, held = ours.train(base, rows, trainable, rows_per_step)
                expected = trainer.loss_of(folder, pairs_of(groups, rows, rows_per_step))
                if abs(loss - expected) > TOLERANCE:
                    raise CromeError(f"{name}: a loss of {loss} and of {expected}: the two do not train the same model")
                trainer.train(folder, Path(work), _longest(pairs, args.batch), trainable, args.batch)  # Warms up.
                theirs = trainer.train(folder, Path(work), pairs, trainable, args.batch)
                measured.append(
                    Measured(name, str(trainable), distinct_tokens(groups), abs(loss - expected), theirs, drawn, held)
                )
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": f"`{shlex.join(['python', '-m', 'benchmarks.trl', *_shown(argv)])}`",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} at end",
        "versions": ", ".join([f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES)]),
        "at once": f"rows of {args.row_tokens} tokens; TRL: {args.batch} pairs, grouped by length",
    }
    page = render(facts, measured)
    with whole_output(args.table, overwrite=True) as partial:
        partial.write_text(page)
    print(page)


def _plain(path: Path, base: Backbone, pairs: int, seed: int) -> list[TokenizedGroup]:
    """Draw pairs whose prompts are short."""
    with Quarantine() as quarantine:
        groups = [
            tokenize(g, i, base.tokenizer) for i, g in enumerate(read_groups(_there(path), quarantine=quarantine))
        ]
    short = [group for group in groups if len(group.prompt) <= SHORT and len(group.left) == 1]
    return as_preferences(random.Random(seed).sample(short, min(pairs, len(short))))


def _augmented(path: Path, base: Backbone, groups: int, seed: int) -> list[TokenizedGroup]:
    """Draw records and augment them as `crome augment` does."""
    with Quarantine() as quarantine:
        read = list(read_groups(_there(path), quarantine=quarantine))
    drawn = random.Random(seed).sample(read, min(groups, len(read)))
    made = augment_groups(drawn, oracle=OfflineEditor.of(read), seed=seed)
    return as_preferences(tokenize(group, index, base.tokenizer) for index, group in enumerate(made))


def _there(path: Path) -> Path:
    if not path.is_file():
        raise CromeError(f"{path} is absent; name the folder that holds it with --data")
    return path


def as_preferences(groups: Iterable[TokenizedGroup]) -> list[TokenizedGroup]:
    """Take every comparison as one that a human made, a tie as a preference of its left side: TRL knows no other."""
    out = []
    for index, group in enumerate(groups):
        right_wins = group.target < 0.5
        ones = np.ones_like(group.target)
        out.append(
            TokenizedGroup(
                index,
                group.prompt,
                group.responses,
                np.where(right_wins, group.right, group.left),
                np.where(right_wins, group.left, group.right),
                np.full_like(group.kind, Kind.HUMAN),
                ones,
                ones,
                0 * ones,
            )
        )
    return out


def uncut(groups: Sequence[TokenizedGroup], tokens: int) -> list[TokenizedGroup]:
    """Leave out groups of which a row would cut a response: TRL would train on all of it."""

    def fits(group: TokenizedGroup) -> bool:
        lengths = [len(response) for response in group.responses]
        pairs = zip(group.left.tolist(), group.right.tolist(), strict=True)
        return all(len(group.prompt) + lengths[left] + lengths[right] <= tokens for left, right in pairs)

    return [group for group in groups if fits(group)]


def pairs_of(groups: Sequence[TokenizedGroup], rows: Rows, first: int | None = None) -> list[dict[str, list[int]]]:
    """Return the conversations that rows compare, or the first rows alone, as TRL wants them."""
    pairs = []
    for row in range(len(rows) if first is None else first):
        for c in np.flatnonzero(rows.batch.weight[row] > 0):
            left, right = rows.batch.left[row, c], rows.batch.right[row, c]
            group = groups[rows.groups[row, left]]
            chosen, rejected = ([*group.prompt, *group.responses[rows.responses[row, slot]]] for slot in (left, right))
            pairs.append({"chosen_ids": chosen, "rejected_ids": rejected})
    return pairs


def _longest(pairs: Sequence[dict[str, list[int]]], count: int) -> list[dict[str, list[int]]]:
    return sorted(pairs, key=lambda pair: max(map(len, pair.values())))[-count:]


def render(facts: dict[str, str], measured: Sequence[Measured]) -> str:
    """Write the page as Markdown."""
    header = (
        "data", "layers trained", "", "pairs/s", "seconds", "CPU seconds", "pairs", "tokens a comparison",
        "of the distinct ones", "padding",
    )  # fmt: skip
    rows = []
    for m in measured:
        distinct = m.distinct / m.theirs.pairs
        for name, t in (("TRL", m.theirs), ("crome_jax", m.ours)):
            each = t.tokens / t.pairs
            padding = f"{t.padding / (t.tokens + t.padding):.1%}"
            rows.append(
                (m.data, m.trainable, name, f"{t.pairs / t.seconds:.2f}", f"{t.seconds:.1f}", f"{t.cpu:.1f}",
                 t.pairs, f"{each:.0f}", f"{each / distinct:.2f}", padding)
            )  # fmt: skip
    said = []
    for m in measured:
        rate = (m.ours.pairs / m.ours.seconds) / (m.theirs.pairs / m.theirs.seconds)
        cpu = (m.ours.pairs / m.ours.cpu) / (m.theirs.pairs / m.theirs.cpu)
        tokens = (m.ours.tokens + m.ours.padding) / m.ours.seconds
        theirs = (m.theirs.tokens + m.theirs.padding) / m.theirs.seconds
        said.append(
            f"- {m.data}, training {m.trainable}: **{rate:.2f} times** TRL's pairs/s ({cpu:.2f} by CPU time); "
            f"{tokens:.0f} tokens/s against {theirs:.0f}, padding counted; the losses before any step differ by "
            f"{m.difference:.0e} nats; with one batch that never changes the same steps take "
            f"{m.held.seconds / m.ours.seconds:.3f} times as long as with batches that are drawn."
        )
    parts = [
        "# TRL",
        "A reward model is trained on the same comparisons by TRL's `RewardTrainer` and by crome_jax: SmolLM2-135M in "
        "float32, same weights, same cores, same process, both warm. Written by `python -m benchmarks.trl`; what it "
        "does is in [README.md](README.md).",
        table(("", ""), facts.items()),
        "\n".join(said),
        table(header, rows),
    ]
    return "\n\n".join(parts) + "\n"


def _shown(argv: Sequence[str]) -> list[str]:
    """Return the arguments without the places of files, which are those of one machine."""
    places = [at for at, argument in enumerate(argv) if argument in ("--data", "--table")]
    return [argument for at, argument in enumerate(argv) if at not in places and at - 1 not in places]


def _trainable(text: str) -> str | int:
    return text if text == "all" else at_least(1)(text)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("trl", __doc__)
    add = parser.add_argument
    data, page = ROOT.parent / "shared" / "data" / "train", ROOT / "benchmarks" / "trl.md"
    add("--data", type=Path, default=data, metavar="DIR", help=f"holds {PLAIN} and {AUGMENTED} (default: %(default)s)")
    add("--table", type=Path, default=page, metavar="FILE", help="the page to write (default: benchmarks/trl.md)")
    counts = {
        "--pairs": (64, "plain pairs"),
        "--groups": (20, "records that are augmented: about five comparisons each"),
        "--batch": (8, "pairs of an optimizer step in TRL; rows of about as many here"),
        "--row-tokens": (2048, "tokens of a packed row"),
    }
    for flag, (default, what) in counts.items():
        add(flag, type=at_least(1), default=default, metavar="N", help=f"{what} (default: %(default)s)")
    help_ = "'all', or how many upper layers train; one run for each (default: 4 all)"
    add("--trainable", nargs="+", type=_trainable, default=[4, "all"], metavar="N", help=help_)
    add("--seed", type=int, default=0, metavar="N", help="of every draw (default: %(default)s)")
    return parser


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    try:
        run(sys.argv[1:])
    except CromeError as error:
        print(f"trl: error: {error}", file=sys.stderr)
        sys.exit(2)
