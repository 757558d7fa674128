"""Pack groups as `crome augment` writes them into rows of several lengths, and say what is wasted.

  crome augment --data prefs.jsonl.gz --out groups.jsonl.gz
  python -m benchmarks.packing groups.jsonl.gz

Writes a page: padding, tokens encoded against those of each distinct prompt and response once, and how long it took.
"""

import argparse
import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.packing.distinct import distinct_tokens, distinct_tokens_as_cut
from benchmarks.pages import make_parser, table
from crome_jax.data.loading import tokenize
from crome_jax.data.packing import Rows, RowShape, pack
from crome_jax.data.readers import read_groups
from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.verbs.numbers import at_least
from crome_jax.weights.backbones import load_backbone

ROOT = Path(__file__).resolve().parents[2]
HEADER = (
    "groups",
    "tokens of a row",
    "rows",
    "padding",
    "encoded / distinct",
    "tokens a comparison",
    "cut",
    "groups/s",
)
MOST_PADDING, MOST_ENCODED = 0.05, 1.05
"""What is wanted: a smaller part of a row is padding, and no more is encoded, against the distinct tokens."""


def run(argv: Sequence[str]) -> None:
    """Pack, and write the page.

    Raises:
        CromeError: where a file cannot be read, or no prompt of it fits a row.
    """
    args = _make_parser().parse_args(argv)
    tokenizer = load_backbone("smollm2-135m", "head").tokenizer
    sizes, lines, missed = [], [], []
    for path in args.groups:
        name = path.name.partition(".")[0]
        groups = [tokenize(g, i, tokenizer) for i, g in enumerate(read_groups(path)) if g.comparisons]
        tokens = np.array([distinct_tokens([group]) for group in groups])
        tenth, half, most = np.percentile(tokens, [10, 50, 90]).astype(int)
        comparisons = sum(len(group.left) for group in groups)
        sizes.append((name, f"{len(groups):,}", f"{comparisons:,}", f"{tenth:,} / {half:,} / {most:,}"))
        for row_tokens in args.row_tokens:
            fitting = [group for group in groups if len(group.prompt) + 32 <= row_tokens]
            clock = time.process_time()
            rows = pack(fitting, RowShape(row_tokens))
            seconds = time.process_time() - clock
            distinct = distinct_tokens_as_cut(fitting, rows)
            lines.append((name, *_cells(rows, distinct, len(fitting) / seconds)))
            padding, encoded = 1 - rows.real_tokens / rows.batch.tokens.size, rows.real_tokens / distinct
            missed += _missed(name, row_tokens, padding, encoded, tokens)
    page = "\n\n".join(
        [
            "# Packing",
            "Groups of real preference data, augmented by the offline editor, packed into rows of several lengths. "
            f"Written by `python -m benchmarks.packing`, {datetime.date.today().isoformat()}; what it does is in "
            "[README.md](README.md). Tokens are SmolLM2's.",
            table(("groups", "number", "comparisons", "tokens: a tenth, half, nine tenths have fewer than"), sizes),
            table(HEADER, lines),
            "A group larger than a row is split, its prompt and some responses encoded in several rows: that is what "
            "`encoded / distinct` is above 1. The longer responses of a pair that no row holds are cut; on both sides "
            "of that figure they count as they were cut.",
            _goals(missed),
        ]
    )
    with whole_output(args.table, overwrite=True) as partial:
        partial.write_text(page + "\n")
    print(page)


def _missed(name: str, row_tokens: int, padding: float, encoded: float, tokens: np.ndarray) -> list[str]:
    """Return a line of what these rows miss of what is wanted, and why; none where they miss nothing.

    Args:
        padding, encoded: padding / tokens of the rows, tokens encoded / distinct ones.
        tokens: of each group.
    """
    figures = [f"padding {padding:.1%}"] if padding >= MOST_PADDING else []
    figures += [f"encoded / distinct {encoded:.3f}"] if encoded > MOST_ENCODED else []
    larger = (tokens > row_tokens).mean()
    why = f"{larger:.0%} of the groups are larger than a row" if larger else "few groups are left to fill the last rows"
    return [f"- {name} in rows of {row_tokens:,}: {', '.join(figures)}; {why}"] if figures else []


def _goals(missed: Sequence[str]) -> str:
    wanted = (
        f"Wanted are less than {MOST_PADDING:.0%} of padding, and at most {MOST_ENCODED} tokens encoded for a distinct "
        "one."
    )
    if not missed:
        return f"{wanted} All rows keep to it."
    cause = (
        "Every part of a split group repeats its prompt, and the answers that are compared in several parts; a part "
        "that needs most of a row leaves room that few others fit into. Longer rows miss less."
    )
    return "\n".join([f"{wanted} It is missed by", "", *missed, "", cause])


def _cells(rows: Rows, distinct: int, rate: float) -> tuple[str, ...]:
    size, comparisons = rows.batch.tokens.size, int((rows.batch.weight > 0).sum())
    return (
        f"{rows.batch.tokens.shape[1]:,}",
        f"{len(rows):,}",
        f"{1 - rows.real_tokens / size:.1%}",
        f"{rows.real_tokens / distinct:.3f}",
        f"{rows.real_tokens / comparisons:.0f}",
        f"{rows.truncated:,}",
        f"{rate:,.0f}",
    )


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("packing", __doc__)
    add = parser.add_argument
    add("groups", nargs="+", type=Path, metavar="GROUPS", help="what `crome augment` wrote")
    lengths = [704, 1024, 2048, 8192]
    help_ = "tokens of a row (default: 704 1024 2048 8192)"
    add("--row-tokens", nargs="+", type=at_least(64), default=lengths, metavar="N", help=help_)
    page = ROOT / "benchmarks" / "packing.md"
    add("--table", type=Path, default=page, metavar="FILE", help="the page to write (default: benchmarks/packing.md)")
    return parser


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except CromeError as error:
        print(f"packing: error: {error}", file=sys.stderr)
        sys.exit(2)
