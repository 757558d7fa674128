"""Score the pairs of a rebuilt RewardBench with SmolLM2-135M, by crome_jax and by transformers' sequence classifier.

  python -m benchmarks.scoring

Both get the same weights (the backbone with a head drawn at random), the same texts and two cores, in one process, by
turns. Writes pairs/s, tokens encoded, the ratio, and the largest difference of two rewards to a page. A sample of
prompts is taken, each with all of its pairs, unless --full is given; the tokens are also counted over the whole set.
"""

import argparse
import datetime
import os
import platform
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from crome_jax.data.datasets.benchmarks.registry import read_benchmark
from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError
from crome_jax.evaluation.distinct import distinct_prompts
from crome_jax.evaluation.scoring import RewardModel, score_groups
from crome_jax.files import whole_output
from crome_jax.groups import PreferenceGroup
from crome_jax.training.mesh import make_mesh
from crome_jax.training.placing import place_params
from crome_jax.verbs.numbers import at_least
from crome_jax.weights.backbones import Backbone, load_backbone
from crome_jax.weights.export import write_folder

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("crome_jax", "jax", "torch", "transformers", "numpy")
TOLERANCE = 1e-3
"""Two programs add in another order, over thirty layers; rewards of this head are a few nats."""


class Timing(NamedTuple):
    """What one turn took.

    Args:
        seconds: on the clock.
        cpu: seconds that the process computed, over both cores: less moved by what else the machine does.
        tokens: encoded; those of padding apart.
        padding: tokens of padding that went through the model.
    """

    seconds: float
    cpu: float
    tokens: int
    padding: int


def run(argv: Sequence[str]) -> None:
    """Take turns, and write the page.

    Raises:
        CromeError: where the data folder is absent, or the two programs' rewards differ.
    """
    args = _make_parser().parse_args(argv)
    groups = [group for group in read_benchmark("rewardbench", args.data, args.data) if group.comparisons]
    sample = groups if args.full else draw(groups, args.subsets, args.prompts, args.seed)
    base = load_backbone("smollm2-135m", "head")
    rng = np.random.default_rng(args.seed)
    base.params["head"] = rng.normal(size=base.cfg.width).astype(np.float32) / np.sqrt(base.cfg.width)
    ours, ours_rewards, theirs, theirs_rewards = [], None, [], None
    with tempfile.TemporaryDirectory() as folder:
        theirs_score, tokenizer = load_transformers(base, Path(folder) / "model", args.batch)
        model = load_ours(base, args.row_tokens)
        score_groups(model, sample, rows_at_once=args.rows_at_once)  # Compiles; what a longer run does once.
        for turn in range(args.turns):
            print(f"turn {turn + 1} of {args.turns}", file=sys.stderr)
            timing, ours_rewards = time_ours(model, sample, args.rows_at_once)
            ours.append(timing)
            timing, theirs_rewards = theirs_score(sample)
            theirs.append(timing)
    same = same_tokens(base, tokenizer, sample)
    apart = np.abs(np.concatenate(ours_rewards) - np.concatenate(theirs_rewards))
    difference = float(apart[same].max())
    if difference > TOLERANCE:
        raise CromeError(f"rewards differ by {difference}: one of the two does not compute this model")
    spread = float(np.concatenate(theirs_rewards).std())
    whole = count_tokens(groups, base)
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": f"`{shlex.join(['python', '-m', 'benchmarks.scoring', *_shown(argv)])}`",
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} at the end",
        "versions": ", ".join([f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES)]),
        "scored": f"{len(sample):,} of {len(groups):,} pairs" + ("" if args.full else " (a sample; --full takes all)"),
        "at once": f"{args.rows_at_once} rows of up to {args.row_tokens} tokens; transformers: {args.batch} texts",
    }
    agreement = (
        f"Of {int(same.sum())} of {len(same)} texts both make the same tokens; there the largest difference of two "
        f"rewards is {difference:.1e} nats, and their standard deviation {spread:.2f}. The others begin with white "
        "space (code), which is encoded apart from the prompt here."
    )
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores + 1:
        agreement += (
            f"\n\nThe machine was busy with other work (load {load:.0f} on {cores} cores): the seconds are not those "
            "of the programs alone, the CPU seconds more nearly are."
        )
    page = render(facts, len(sample), ours, theirs, agreement, whole, len(groups))
    with whole_output(args.table, overwrite=True) as partial:
        partial.write_text(page)
    print(page)


def _shown(argv: Sequence[str]) -> list[str]:
    """Return the arguments without the places of files, which are those of one machine."""
    shown, skip = [], False
    for argument in argv:
        if not skip and argument not in ("--data", "--table"):
            shown.append(argument)
        skip = not skip and argument in ("--data", "--table")
    return shown


def draw(groups: Sequence[PreferenceGroup], subsets: Sequence[str], prompts: int, seed: int) -> list[PreferenceGroup]:
    """Draw so many prompts of each of some subsets, or of all where none is named, each with all of its pairs."""
    by_subset: dict[str, dict] = {}
    for group in groups:
        by_subset.setdefault(str(group.metadata["subset"]), {}).setdefault(group.prompt, []).append(group)
    drawn = []
    for subset, by_prompt in sorted(by_subset.items()):
        if subsets and subset not in subsets:
            continue
        asked = random.Random(f"{seed}/{subset}").sample(list(by_prompt), min(prompts, len(by_prompt)))
        drawn += [group for prompt in asked for group in by_prompt[prompt]]
    return drawn


def load_ours(base: Backbone, row_tokens: int) -> RewardModel:
    """Put the model on the device."""
    mesh = make_mesh()
    trained, frozen = place_params(base, "head", mesh)
    return RewardModel({**frozen, **trained}, base.cfg, base.tokenizer, RowShape(row_tokens, 64, 1), mesh)


def time_ours(
    model: RewardModel, groups: Sequence[PreferenceGroup], rows_at_once: int
) -> tuple[Timing, list[np.ndarray]]:
    """Score by crome_jax; tokenizing and packing are part of it."""
    clock, cpu = time.monotonic(), time.process_time()
    scores = score_groups(model, groups, rows_at_once=rows_at_once)
    timing = Timing(time.monotonic() - clock, time.process_time() - cpu, scores.tokens, 0)
    return timing, scores.rewards


def load_transformers(base: Backbone, folder: Path, batch: int):
    """Write the model as a Hugging Face folder, and return how transformers scores with it."""
    import torch
    import transformers

    write_folder(folder, base.params, base.cfg, base.tokenizer, context=8192, card="# SmolLM2 with a random head\n")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def score(groups: Sequence[PreferenceGroup]) -> tuple[Timing, list[np.ndarray]]:
        clock, cpu = time.monotonic(), time.process_time()
        texts = [render_text(tokenizer, group, response.text) for group in groups for response in group.responses]
        rewards, tokens, padding = [], 0, 0
        for start in range(0, len(texts), batch):
            encoded = tokenizer(
                texts[start : start + batch], padding=True, add_special_tokens=False, return_tensors="pt"
            )
            with torch.inference_mode():
                rewards.append(model(**encoded).logits[:, 0].float().numpy())
            tokens += int(encoded["attention_mask"].sum())
            padding += int((1 - encoded["attention_mask"]).sum())
        timing = Timing(time.monotonic() - clock, time.process_time() - cpu, tokens, padding)
        flat = np.concatenate(rewards)
        ends = np.cumsum([len(group.responses) for group in groups])
        return timing, np.split(flat, ends[:-1])

    return score, tokenizer


def render_text(tokenizer, group: PreferenceGroup, response: str) -> str:
    """Return a conversation as transformers' chat template writes it."""
    turns = [
        *({"role": m.role, "content": m.content} for m in group.prompt),
        {"role": "assistant", "content": response},
    ]
    return tokenizer.apply_chat_template(turns, tokenize=False)


def same_tokens(base: Backbone, tokenizer, groups: Sequence[PreferenceGroup]) -> np.ndarray:
    """Tell of each text whether both programs make the same tokens of it.

    crome_jax encodes a prompt once for all of its answers; an answer that begins with white space, as the code of
    HumanEvalPack does, is joined to the line break before it where the rendered text is encoded at once.
    """
    same = []
    for group in groups:
        prompt = base.tokenizer.encode_prompt(group.prompt)
        for response in group.responses:
            theirs = tokenizer(render_text(tokenizer, group, response.text), add_special_tokens=False)["input_ids"]
            same.append([*prompt, *base.tokenizer.encode_response(response.text)] == theirs)
    return np.array(same)


def count_tokens(groups: Sequence[PreferenceGroup], base: Backbone) -> tuple[int, int]:
    """Count the tokens of the whole set: each distinct prompt and response once, and every text by itself."""

    def count(some: Sequence[PreferenceGroup], prompts: bool) -> int:
        total = 0
        for group in some:
            lengths = [len(ids) for ids in base.tokenizer.encode_responses(r.text for r in group.responses)]
            times = len(lengths) if prompts else 1
            total += times * len(base.tokenizer.encode_prompt(group.prompt)) + sum(lengths)
        return total

    return count(distinct_prompts(groups).groups, False), count(groups, True)


def render(
    facts: dict[str, str],
    pairs: int,
    ours: Sequence[Timing],
    theirs: Sequence[Timing],
    agreement: str,
    whole: tuple[int, int],
    all_pairs: int,
) -> str:
    """Write the page as Markdown."""
    rows = []
    for turn, (a, b) in enumerate(zip(ours, theirs, strict=True), 1):
        rows.append((turn, "crome_jax", *_cells(a, pairs), ""))
        ratio = f"{b.seconds / a.seconds:.2f} ({b.cpu / a.cpu:.2f})"
        rows.append((turn, "transformers", *_cells(b, pairs), ratio))
    header = ("turn", "", "seconds", "CPU seconds", "pairs/s", "tokens encoded", "padding", "ratio of time (CPU time)")
    clock = sum(t.seconds for t in theirs) / sum(t.seconds for t in ours)
    cpu = sum(t.cpu for t in theirs) / sum(t.cpu for t in ours)
    parts = [
        "# Scoring",
        "The pairs of a rebuilt RewardBench, scored with SmolLM2-135M in float32 by crome_jax and by transformers' "
        "`AutoModelForSequenceClassification`: same weights, same texts, same two cores, same process, by turns. "
        "Written by `python -m benchmarks.scoring`; what it does is in [README.md](README.md).",
        _table(("", ""), facts.items()),
        f"crome_jax scores **{clock:.2f} times the pairs/s** ({cpu:.2f} times by CPU time, both cores together).",
        agreement,
        _table(header, rows),
        "## Tokens of the whole set",
        f"The {all_pairs:,} pairs take {whole[0]:,} tokens with each distinct prompt and response once, and "
        f"{whole[1]:,} with every text by itself, padding not counted: {whole[1] / whole[0]:.2f} times as "
        f"many. In what was scored here it is {theirs[0].tokens / ours[0].tokens:.2f} times: where that is more, the "
        "ratio of time above is larger than the whole set's.",
    ]
    return "\n\n".join(parts) + "\n"


def _cells(timing: Timing, pairs: int) -> tuple[str, ...]:
    return (
        f"{timing.seconds:.1f}",
        f"{timing.cpu:.1f}",
        f"{pairs / timing.seconds:.2f}",
        f"{timing.tokens:,}",
        f"{timing.padding:,}",
    )


def _table(header, rows) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _make_parser() -> argparse.ArgumentParser:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scoring",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    data = ROOT.parent / "shared" / "data" / "eval" / "rewardbench_rebuilt"
    add("--data", type=Path, default=data, metavar="DIR", help="folder of RewardBench's files (default: %(default)s)")
    add(
        "--table",
        type=Path,
        default=ROOT / "benchmarks" / "scoring.md",
        metavar="FILE",
        help="the page to write (default: benchmarks/scoring.md)",
    )
    counts = {
        "--prompts": (2, "prompts of each subset"),
        "--turns": (2, "times that each program scores all of it"),
        "--batch": (8, "texts at once in transformers"),
        "--rows-at-once": (4, "packed rows at once"),
        "--row-tokens": (2048, "tokens of the longest packed row"),
    }
    for flag, (default, what) in counts.items():
        add(flag, type=at_least(1), default=default, metavar="N", help=f"{what} (default: %(default)s)")
    add("--subsets", nargs="+", default=[], metavar="NAME", help="subsets that are drawn from (default: all)")
    add("--full", action="store_true", help="score every pair: an hour and more (default: a sample)")
    add("--seed", type=int, default=0, metavar="N", help="of every draw (default: %(default)s)")
    return parser


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # Not Linux.
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    try:
        run(sys.argv[1:])
    except CromeError as error:
        print(f"scoring: error: {error}", file=sys.stderr)
        sys.exit(2)
