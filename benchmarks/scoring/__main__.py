"""Score the pairs of a rebuilt RewardBench with SmolLM2-135M, by crome_jax and by transformers' sequence classifier.

  python -m benchmarks.scoring

Both get the same weights (the backbone with a head drawn at random), the same texts and two cores, in one process.
crome_jax scores everything twice, the first time to compile; transformers scores in between, its texts sorted by
length, with the batch size that is the fastest on a part of them. Writes pairs/s, tokens encoded, the ratio, and the
largest difference of two rewards to a page. Every 48th prompt is taken, of all in the order of their subsets and
lengths, each with all of its pairs; the tokens are also counted over the whole set.
"""

import argparse
import dataclasses
import datetime
import os
import platform
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

from benchmarks.pages import make_parser, table
from crome_jax.data.datasets.benchmarks.registry import read_benchmark
from crome_jax.data.loading import tokenize_groups
from crome_jax.data.packing import RowShape, pack_tightly
from crome_jax.errors import CromeError
from crome_jax.evaluation.distinct import distinct_prompts
from crome_jax.evaluation.scoring import RewardModel, row_shapes, score_groups, share_beginning
from crome_jax.files import whole_output
from crome_jax.groups import PreferenceGroup
from crome_jax.training.flops import step_flops
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
    """Score by both, and write the page.

    Raises:
        CromeError: where the data folder is absent, the two programs' rewards differ, or all rewards are the same.
    """
    args = _make_parser().parse_args(argv)
    groups = [group for group in read_benchmark("rewardbench", args.data, args.data) if group.comparisons]
    base = load_backbone("smollm2-135m", "head")
    rng = np.random.default_rng(args.seed)
    head = rng.normal(size=base.cfg.width) / np.sqrt(base.cfg.width)
    base = dataclasses.replace(base, heads={"head": head.astype(np.float32)})
    prompts = by_prompt(groups, base)
    drawn = draw(prompts, args.every)
    sample = [group for prompt in drawn for group in prompt.groups]
    with tempfile.TemporaryDirectory() as folder:
        theirs = Transformers(base, Path(folder) / "model")
        texts = [theirs.render(group, response.text) for group in sample for response in group.responses]
        model = load_ours(base, args.row_tokens)
        print("crome_jax, compiling", file=sys.stderr)
        cold, _ = time_ours(model, sample, args.rows_at_once)
        batch, tried = theirs.fastest(texts[:: args.try_every], args.batch)
        print(f"transformers, {len(texts)} texts, {batch} at once", file=sys.stderr)
        timing, theirs_rewards = theirs.time(texts, batch)
        print("crome_jax", file=sys.stderr)
        ours, ours_rewards = time_ours(model, sample, args.rows_at_once)
    same = same_tokens(base, theirs.tokenizer, sample, texts, args.row_tokens)
    apart = np.abs(np.concatenate(ours_rewards) - theirs_rewards)
    difference = float(apart[same].max())
    if not theirs_rewards.std() > TOLERANCE:
        raise CromeError("every text has the same reward: they cannot tell whether the two compute the same model")
    if not difference <= TOLERANCE:
        raise CromeError(f"rewards differ by {difference} nats: one of the two does not compute this model")
    shown = f"{len(sample):,} of {len(groups):,} pairs: every {args.every}th of {len(prompts):,} prompts"
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": f"`{shlex.join(['python', '-m', 'benchmarks.scoring', *_shown(argv)])}`",
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} at the end",
        "versions": ", ".join([f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES)]),
        "huge pages": "asked of malloc" if "hugetlb=1" in os.environ.get("GLIBC_TUNABLES", "") else "not asked for",
        "scored": shown if args.every > 1 else f"all {len(groups):,} pairs",
        "crome_jax": f"rows of up to {args.row_tokens} tokens, at most {args.rows_at_once} at once",
        "transformers": f"{batch} texts at once, sorted by length; tried on a part, tokens/s: "
        + ", ".join(f"{size}: {speed:.0f}" for size, speed in tried.items()),
    }
    agreement = (
        f"Of {int(same.sum())} of {len(same)} texts both make the same tokens; there the largest difference of two "
        f"rewards is {difference:.1e} nats, and their standard deviation {theirs_rewards.std():.2f}. The others begin "
        "with white space (code), which is encoded apart from the prompt here, or are cut to a row."
    )
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores + 1:
        agreement += (
            f"\n\nThe machine was busy with other work (load {load:.0f} on {cores} cores): the seconds are not those "
            "of the programs alone, the CPU seconds more nearly are."
        )
    work = count_work(model, sample, ours.tokens + ours.padding)
    page = render(facts, len(sample), {"compiling": cold, "": ours}, timing, agreement, drawn, prompts, work, peak())
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


class Prompt(NamedTuple):
    """A prompt with all the pairs that ask it.

    Args:
        subsets: that they are of.
        groups: the pairs.
        distinct: tokens with the prompt and each distinct response once.
        alone: tokens with every text by itself.
    """

    subsets: tuple[str, ...]
    groups: tuple[PreferenceGroup, ...]
    distinct: int
    alone: int


def by_prompt(groups: Sequence[PreferenceGroup], base: Backbone) -> list[Prompt]:
    """Gather the pairs of each prompt, and count their tokens."""
    found = distinct_prompts(groups)
    prompts = []
    for whole, members in zip(found.groups, found.members, strict=True):
        asking = tuple(groups[number] for number in members)
        prompt = len(base.tokenizer.encode_prompt(whole.prompt))
        ids = base.tokenizer.encode_responses(response.text for response in whole.responses)
        lengths = {response.text: len(tokens) for response, tokens in zip(whole.responses, ids, strict=True)}
        alone = sum(prompt + lengths[response.text] for group in asking for response in group.responses)
        subsets = tuple(sorted({str(group.metadata["subset"]) for group in asking}))
        prompts.append(Prompt(subsets, asking, prompt + sum(lengths.values()), alone))
    return prompts


def draw(prompts: Sequence[Prompt], every: int) -> list[Prompt]:
    """Draw every so manyth prompt of all in the order of their subsets and tokens: each subset, and each length of its
    prompts, has its share."""
    ordered = sorted(prompts, key=lambda prompt: (prompt.subsets, prompt.alone, prompt.groups[0].id))
    return ordered[every // 2 :: every]


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
    timing = Timing(time.monotonic() - clock, time.process_time() - cpu, scores.tokens, scores.padding)
    return timing, scores.rewards


class Work(NamedTuple):
    """What scoring by crome_jax has to compute, in FLOP.

    Args:
        weights: products with weights.
        attention: products of queries with keys and of their shares with values: of every token with all that is before
            it in its row, whether it may see it or not.
    """

    weights: float
    attention: float


def count_work(model: RewardModel, groups: Sequence[PreferenceGroup], computed: int) -> Work:
    """Count the FLOP of scoring, from the rows that are packed.

    Args:
        computed: tokens that went through the model: of rows that fill up a batch, each as often as it is computed.
    """
    tokenized = tokenize_groups(distinct_prompts(groups).groups, model.tokenizer, model.shape)
    packed = pack_tightly([share_beginning(item) for item in tokenized], row_shapes(model.shape))
    whole = attention = 0.0
    for rows in packed:
        n, tokens = rows.batch.tokens.shape
        whole += step_flops(model.cfg, "head", n, tokens, rows.groups.shape[1])
        # All layers but the last, which is asked for the scored tokens only.
        attention += n * 4.0 * model.cfg.heads * model.cfg.head_width * tokens**2 / 2 * (model.cfg.layers - 1)
    again = computed / sum(rows.batch.tokens.size for rows in packed)
    return Work(again * (whole - attention), again * attention)


def peak(size: int = 2048, tries: int = 5) -> float:
    """Return the FLOP/s of a product of two large float32 matrices, the best of several."""
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: a @ a)
    product(matrix).block_until_ready()
    seconds = []
    for _ in range(tries):
        clock = time.monotonic()
        product(matrix).block_until_ready()
        seconds.append(time.monotonic() - clock)
    return 2.0 * size**3 / min(seconds)


class Transformers:
    """The model as transformers loads it, at its best: sorted texts, no cache of keys and values, no gradient.

    Args:
        base: the model.
        folder: where it is written.
    """

    def __init__(self, base: Backbone, folder: Path):
        import transformers

        write_folder(folder, base.params, base.cfg, base.tokenizer, context=8192, card="# SmolLM2 with a random head\n")
        self._model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def render(self, group: PreferenceGroup, response: str) -> str:
        """Return a conversation as transformers' chat template writes it."""
        turns = [
            *({"role": m.role, "content": m.content} for m in group.prompt),
            {"role": "assistant", "content": response},
        ]
        return self.tokenizer.apply_chat_template(turns, tokenize=False)

    def time(self, texts: Sequence[str], batch: int) -> tuple[Timing, np.ndarray]:
        """Score texts, so many at once; tokenizing and sorting are part of it."""
        import torch

        clock, cpu = time.monotonic(), time.process_time()
        ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
        rewards, padding = np.zeros(len(ids), np.float32), 0
        for start in range(0, len(order), batch):
            at = order[start : start + batch]
            encoded = self.tokenizer.pad({"input_ids": [ids[n] for n in at]}, return_tensors="pt")
            with torch.inference_mode():
                rewards[at] = self._model(**encoded, use_cache=False).logits[:, 0].float().numpy()
            padding += int((1 - encoded["attention_mask"]).sum())
        tokens = sum(map(len, ids))
        return Timing(time.monotonic() - clock, time.process_time() - cpu, tokens, padding), rewards

    def fastest(self, texts: Sequence[str], batches: Sequence[int]) -> tuple[int, dict[int, float]]:
        """Return which number of texts at once is the fastest, and the tokens/s of each."""
        self.time(texts[:1], 1)  # Once, so that none pays for the first call.
        speeds = {}
        for batch in batches:
            timing, _ = self.time(texts, batch)
            speeds[batch] = timing.tokens / timing.seconds
        return max(speeds, key=speeds.get), speeds


def same_tokens(
    base: Backbone, tokenizer, groups: Sequence[PreferenceGroup], texts: Sequence[str], most: int
) -> np.ndarray:
    """Tell of each text whether both programs encode the same tokens.

    crome_jax encodes a prompt once for all of its answers; an answer that begins with white space, as the code of
    HumanEvalPack does, is joined to the line break before it where the rendered text is encoded at once.

    Args:
        texts: of all responses of the groups, rendered.
        most: tokens of the longest row: what is longer is cut.
    """
    same, rendered = [], iter(texts)
    for group in groups:
        prompt = base.tokenizer.encode_prompt(group.prompt)
        for response in group.responses:
            ours = [*prompt, *base.tokenizer.encode_response(response.text)]
            theirs = tokenizer(next(rendered), add_special_tokens=False)["input_ids"]
            same.append(ours == theirs and len(ours) <= most)
    return np.array(same)


def render(
    facts: dict[str, str],
    pairs: int,
    ours: dict[str, Timing],
    theirs: Timing,
    agreement: str,
    drawn: Sequence[Prompt],
    prompts: Sequence[Prompt],
    work: Work,
    most: float,
) -> str:
    """Write the page as Markdown.

    Args:
        ours: what is said of a run of crome_jax to its timing; the last is what is compared.
        work: of such a run.
        most: FLOP/s that the machine reaches, of `peak`.
    """
    compared = list(ours.values())[-1]
    clock, cpu = theirs.seconds / compared.seconds, theirs.cpu / compared.cpu
    rows = [(f"crome_jax, {said}" if said else "crome_jax", *_cells(timing, pairs)) for said, timing in ours.items()]
    rows.append(("transformers", *_cells(theirs, pairs)))
    header = ("", "seconds", "CPU seconds", "pairs/s", "tokens encoded", "padding", "tokens/s")
    shared = {name: _shared(some) for name, some in (("whole", prompts), ("sample", drawn))}
    parts = [
        "# Scoring",
        "The pairs of a rebuilt RewardBench, scored with SmolLM2-135M in float32 by crome_jax and by transformers' "
        "`AutoModelForSequenceClassification`: same weights, same texts, same two cores, same process. Written by "
        "`python -m benchmarks.scoring`; what it does is in [README.md](README.md).",
        table(("", ""), facts.items()),
        f"crome_jax scores **{clock:.2f} times the pairs/s** ({cpu:.2f} times by CPU time, both cores together).",
        agreement,
        table(header, rows),
        "## Tokens",
        f"The whole set, {sum(len(prompt.groups) for prompt in prompts):,} pairs, takes "
        f"{sum(p.distinct for p in prompts):,} tokens with each distinct prompt and response once, and "
        f"{sum(p.alone for p in prompts):,} with every text by itself, padding not counted: {shared['whole']:.2f} "
        f"times as many. What was scored here takes {shared['sample']:.2f} times as many.",
        table(("subsets", "pairs", "of the whole", "tokens by themselves", "of the whole"), _by_subset(drawn, prompts)),
        "## What bounds it",
        bounds(compared, theirs, work, most, shared["sample"]),
    ]
    return "\n\n".join(parts) + "\n"


def bounds(ours: Timing, theirs: Timing, work: Work, most: float, shared: float) -> str:
    """Say how near the machine's speed crome_jax comes, what share attention has, and where the ratio is from.

    Args:
        shared: how many times as many tokens every text by itself takes.
    """
    whole = work.weights + work.attention
    padding = ours.padding / (ours.tokens + ours.padding)
    return (
        f"crome_jax computes {whole / 1e12:.2f} TFLOP, {work.attention / whole:.0%} of them in attention, which takes "
        "every token with all that is before it in its row (counted so; on one CPU most of what lies before its group "
        "is left out): "
        f"{whole / ours.seconds / 1e9:.0f} GFLOP/s ({work.weights / ours.seconds / 1e9:.0f} without attention) of the "
        f"{most / 1e9:.0f} that a product of two large matrices reaches on these cores. It encodes "
        f"{(ours.tokens + ours.padding) / ours.seconds:.0f} tokens/s with the padding, transformers "
        f"{(theirs.tokens + theirs.padding) / theirs.seconds:.0f}: the ratio is that of these, and what encoding "
        f"tokens once saves, {shared:.2f} times, less {padding:.0%} of padding."
    )


def _shared(prompts: Sequence[Prompt]) -> float:
    return sum(p.alone for p in prompts) / sum(p.distinct for p in prompts)


def _by_subset(drawn: Sequence[Prompt], prompts: Sequence[Prompt]) -> list[tuple[str, ...]]:
    """Return of each subset, or subsets that share prompts, what was drawn, and its share of what there is."""
    rows = []
    for subsets in sorted({prompt.subsets for prompt in drawn}):
        some, whole = ([p for p in of if p.subsets == subsets] for of in (drawn, prompts))
        counts = [(sum(len(p.groups) for p in of), sum(p.alone for p in of)) for of in (some, whole)]
        (pairs, tokens), (all_pairs, all_tokens) = counts
        rows.append(
            (", ".join(subsets), f"{pairs:,}", f"{pairs / all_pairs:.1%}", f"{tokens:,}", f"{tokens / all_tokens:.1%}")
        )
    return rows


def _cells(timing: Timing, pairs: int) -> tuple[str, ...]:
    return (
        f"{timing.seconds:.1f}",
        f"{timing.cpu:.1f}",
        f"{pairs / timing.seconds:.2f}",
        f"{timing.tokens:,}",
        f"{timing.padding:,}",
        f"{timing.tokens / timing.seconds:.0f}",
    )


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("scoring", __doc__)
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
        "--every": (48, "of so many prompts one is scored; 1 takes all, which is hours"),
        "--try-every": (16, "of so many texts one is taken to find the fastest batch of transformers"),
        "--rows-at-once": (8, "packed rows at once, at most"),
        "--row-tokens": (2048, "tokens of the longest packed row"),
    }
    for flag, (default, what) in counts.items():
        add(flag, type=at_least(1), default=default, metavar="N", help=f"{what} (default: %(default)s)")
    add(
        "--batch",
        type=at_least(1),
        nargs="+",
        default=[1, 4, 16],
        metavar="N",
        help="texts at once in transformers; of several the fastest (default: 1 4 16)",
    )
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
