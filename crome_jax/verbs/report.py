"""Put evaluated runs side by side: tables with intervals and paired tests, plots, and where models disagree most.

  crome report runs/plain runs/x --out runs/compared

A RUN is a folder of a `crome evaluate`, or one with `evaluation/` in it; the first is the baseline. Shown are also the
reports of `crome best_of_n` and `crome diagnose` on the models that were evaluated, where they lie in RUN or in a
model's own folder, or in best_of_n/ or diagnosis/ of either. Writes OUT/comparison.html, one page that needs no
network, OUT/comparison.md and OUT/comparison.json.
"""

import argparse
import json

from crome_jax.files import place


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("runs", type=place, nargs="+", metavar="RUN", help="folders of evaluations (required)")
    parser.add_argument("--out", required=True, type=place, metavar="DIR", help="folder of the report (required)")


def run(args: argparse.Namespace) -> None:
    """Read, compare, write, and print the Markdown."""
    from crome_jax.evaluation.comparison_markdown import render_markdown
    from crome_jax.evaluation.page import render_page
    from crome_jax.evaluation.report import plain_json
    from crome_jax.evaluation.run_comparison import compare_runs, read_evaluated
    from crome_jax.files import whole_output

    figures = plain_json(compare_runs([read_evaluated(folder) for folder in args.runs]))
    markdown = render_markdown(figures)
    texts = {
        "comparison.html": render_page(figures, []),
        "comparison.md": markdown,
        "comparison.json": json.dumps(figures, ensure_ascii=False, indent=1, allow_nan=False) + "\n",
    }
    for name, text in texts.items():
        with whole_output(args.out / name, overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    print(markdown)
    print(f"report: {args.out / 'comparison.html'}")
