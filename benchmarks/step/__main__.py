"""How fast a training step of a model's shape is on the accelerator that is here, and how near to its limit.

  python -m benchmarks.step --model qwen2_5_7b --layers 20

The weights are random, the rows full: groups of a prompt of 128 tokens and four responses of 96. Writes tokens/s,
pairs/s, FLOP/s and MFU (attention's past half, no vocabulary, nothing counted twice) to a page.
"""

import argparse
import dataclasses
import datetime
import functools
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.pages import make_parser, table
from crome_jax.batch import FIELDS
from crome_jax.data.loading import put
from crome_jax.data.packing import Rows, RowShape, TokenizedGroup, pack
from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.groups import Kind
from crome_jax.models.config import DecoderConfig
from crome_jax.models.execution import REMATS
from crome_jax.models.presets import PRESETS
from crome_jax.models.weights import Params, Trainable, count, declare, init_declared, partition
from crome_jax.objectives.crome import crome
from crome_jax.training.chips import CHIPS, Chip
from crome_jax.training.flops import step_flops
from crome_jax.training.mesh import make_mesh, weight_shardings
from crome_jax.training.optimizer import adamw
from crome_jax.training.settings import DTYPES
from crome_jax.training.step import init_state, make_train_step
from crome_jax.verbs.numbers import at_least

ROOT = Path(__file__).resolve().parents[2]
PROMPT, RESPONSES, RESPONSE = 128, 4, 96
"""Tokens of a prompt, responses to it, tokens of each: 512 tokens, three comparisons."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What steps took, all on the same batch, which lies on the device.

    Args:
        compiling: seconds of the first step.
        steps: seconds of each of the others.
        tokens, comparisons: of one step.
        flops: that it needs.
        product: FLOP/s of one large matrix product in the same type: what can be had here at best.
        memory: bytes of an accelerator in use at the peak; None where that is not told.
    """

    compiling: float
    steps: tuple[float, ...]
    tokens: int
    comparisons: int
    flops: float
    product: float
    memory: int | None

    @property
    def seconds(self) -> float:
        """Of a step, in the median."""
        return float(np.median(self.steps))


def run(argv: Sequence[str]) -> None:
    """Measure, and write the page.

    Raises:
        CromeError: where a choice cannot be used.
    """
    args = _make_parser().parse_args(argv)
    cfg = PRESETS[args.model].cfg
    if args.layers is not None:
        cfg = dataclasses.replace(cfg, layers=min(args.layers, cfg.layers))
    rows = full_rows(cfg, args.row_tokens, args.rows * args.micro_batches)
    measured = measure(
        cfg,
        args.trainable,
        rows,
        steps=args.steps,
        dtype=args.dtype,
        attention=args.attention,
        remat=args.remat,
        micro_batches=args.micro_batches,
    )
    device, devices = jax.devices()[0].device_kind, jax.device_count()
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": f"`{shlex.join(['python', '-m', 'benchmarks.step', *_shown(argv)])}`",
        "machine": f"{devices} x {device}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "versions": f"python {platform.python_version()}, jax {jax.__version__}, crome_jax {version('crome_jax')}",
        "model": f"{args.model}, {cfg.layers} of {PRESETS[args.model].cfg.layers} layers, "
        f"{count(declare(cfg, args.trainable)) / 1e9:.2f} billion parameters, random; {args.trainable} train",
        "step": f"{len(rows)} rows of {args.row_tokens} tokens in {args.micro_batches} parts, {args.dtype}, attention "
        f"{args.attention!r}, remat {args.remat!r}",
    }
    page = render(facts, measured, find_chip(device), devices)
    with whole_output(args.table, overwrite=True) as partial:
        partial.write_text(page)
    print(page)


def full_rows(cfg: DecoderConfig, tokens: int, rows: int) -> Rows:
    """Draw groups that fill rows to the last token.

    Raises:
        CromeError: where a row does not hold a whole number of them.
    """
    size = PROMPT + RESPONSES * RESPONSE
    if tokens % size:
        raise CromeError(f"--row-tokens {tokens}: give a multiple of {size}, which a group has")
    rng, ones = np.random.default_rng(0), np.ones(RESPONSES - 1, np.float32)

    def draw(length: int) -> list[int]:
        return rng.integers(3, cfg.vocab_size, length).tolist()

    groups = [
        TokenizedGroup(
            index=index,
            prompt=draw(PROMPT),
            responses=[draw(RESPONSE) for _ in range(RESPONSES)],
            left=np.zeros(RESPONSES - 1, np.int32),
            right=np.arange(1, RESPONSES, dtype=np.int32),
            kind=np.array([Kind.HUMAN, Kind.CAUSAL, Kind.NEUTRAL], np.int32),
            target=np.array([1.0, 1.0, 0.5], np.float32),
            weight=ones,
            margin=0 * ones,
        )
        for index in range(rows * tokens // size)
    ]
    return pack(groups, RowShape(tokens, tokens // size * RESPONSES, tokens // size * RESPONSES))


def measure(
    cfg: DecoderConfig,
    trainable: Trainable,
    rows: Rows,
    *,
    steps: int,
    dtype: str,
    attention: str = "auto",
    remat: str = "full",
    micro_batches: int = 1,
) -> Measured:
    """Take steps on one batch, one after another, and time each until its result is there."""
    mesh = make_mesh()
    place, constant = functools.partial(put, mesh=mesh), {name: getattr(rows.batch, name) for name in FIELDS}
    trained, frozen = _draw(cfg, trainable, mesh)
    optimizer = adamw(steps=steps + 1)
    state = init_state(trained, optimizer)
    step = make_train_step(
        cfg,
        crome,
        optimizer,
        mesh,
        micro_batches=micro_batches,
        dtype=jnp.dtype(dtype),
        attention=attention,
        remat=remat,
    )
    batch, seconds = place(constant), []
    for _ in range(steps + 1):
        started = time.monotonic()
        state, metrics = step(state, frozen, batch)
        jax.block_until_ready((state, metrics))
        seconds.append(time.monotonic() - started)
    told = jax.devices()[0].memory_stats()
    count_, length = rows.batch.tokens.shape
    return Measured(
        compiling=seconds[0],
        steps=tuple(seconds[1:]),
        tokens=rows.real_tokens,
        comparisons=int((rows.batch.weight > 0).sum()),
        flops=step_flops(cfg, trainable, count_, length, rows.batch.response_ends.shape[1]),
        product=product_rate(jnp.dtype(dtype)),
        memory=told["peak_bytes_in_use"] if told and "peak_bytes_in_use" in told else None,
    )


def _draw(cfg: DecoderConfig, trainable: Trainable, mesh: jax.sharding.Mesh) -> tuple[Params, Params]:
    """Draw the weights in their places on the mesh; the head, too: one of zeros hands no gradient down."""
    declared = declare(cfg, trainable)
    draw = jax.jit(lambda key: init_declared(declared, key), out_shardings=weight_shardings(declared, mesh))
    params = draw(jax.random.key(0))
    head = jax.random.normal(jax.random.key(1), params["head"].shape) / np.sqrt(cfg.width)
    return partition(params | {"head": jax.device_put(head, params["head"].sharding)}, trainable)


def product_rate(dtype: jnp.dtype, size: int | None = None, seconds: float = 2.0) -> float:
    """Return the FLOP/s of a square matrix product on one device, the fastest of several.

    Args:
        size: of a side; None takes 8192, on a CPU 2048.
        seconds: how long to try.
    """
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    a = jnp.ones((size, size), dtype)
    multiply: Callable = jax.jit(lambda a: a @ a)
    jax.block_until_ready(multiply(a))
    best, began = float("inf"), time.monotonic()
    while time.monotonic() - began < seconds:
        started = time.monotonic()
        jax.block_until_ready(multiply(a))
        best = min(best, time.monotonic() - started)
    return 2 * size**3 / best


def find_chip(device_kind: str) -> Chip | None:
    """Return what is known of an accelerator by the name that JAX gives it, as "NVIDIA H200" or "TPU v5p"."""
    words = re.findall(r"[a-z]+\d+[a-z]*", device_kind.lower().replace(" lite", "e"))
    names = ("v5p" if word == "v5" else word for word in words)
    return next((CHIPS[name] for name in names if name in CHIPS), None)


def render(facts: dict[str, str], measured: Measured, chip: Chip | None, devices: int) -> str:
    """Write the page as Markdown."""
    rate = measured.flops / measured.seconds
    figures: dict[str, Any] = {
        "seconds of a step, median": f"{measured.seconds:.3f}",
        "fastest and slowest": f"{min(measured.steps):.3f} and {max(measured.steps):.3f}",
        "compiling and the first step": f"{measured.compiling:.1f} s",
        "tokens/s": f"{measured.tokens / measured.seconds:,.0f}",
        "comparisons/s": f"{measured.comparisons / measured.seconds:,.1f}",
        "FLOP needed by a step": f"{measured.flops:.3e}",
        "FLOP/s, all devices": f"{rate:.3e}",
        "of a plain matrix product's": f"{rate / (devices * measured.product):.1%} of {measured.product:.3e} a device",
        "MFU": "not known: no figure of this device's maker is kept"
        if chip is None
        else f"{rate / (devices * chip.flops):.1%} of {chip.flops:.3e} a device, by its maker",
        "memory at the peak": "not told by the device"
        if measured.memory is None
        else f"{measured.memory / 1e9:.1f} GB",
    }
    parts = [
        "# A training step",
        "Written by `python -m benchmarks.step`; what it does is in [README.md](README.md).",
        table(("", ""), facts.items()),
        table(("", ""), figures.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _shown(argv: Sequence[str]) -> list[str]:
    """Return the arguments without the place of the page, which is one machine's."""
    places = [at for at, argument in enumerate(argv) if argument == "--table"]
    return [argument for at, argument in enumerate(argv) if at not in places and at - 1 not in places]


def _trainable(text: str) -> str | int:
    return text if text == "all" else at_least(1)(text)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("step", __doc__)
    add = parser.add_argument
    page = ROOT / "benchmarks" / "step.md"
    add("--table", type=Path, default=page, metavar="FILE", help="the page to write (default: benchmarks/step.md)")
    add(
        "--model",
        choices=sorted(PRESETS),
        default="qwen2_5_7b",
        metavar="NAME",
        help="whose shape (default: %(default)s)",
    )
    add("--layers", type=at_least(1), metavar="N", help="only so many of its layers (default: all)")
    help_ = "'all', or how many upper layers train (default: %(default)s)"
    add("--trainable", type=_trainable, default="all", metavar="N", help=help_)
    counts = {
        "--rows": (4, "rows of a micro-batch"),
        "--micro-batches": (1, "of a step"),
        "--row-tokens": (2048, "tokens of a row, a multiple of 512"),
        "--steps": (10, "steps that are timed"),
    }
    for flag, (default, what) in counts.items():
        add(flag, type=at_least(1), default=default, metavar="N", help=f"{what} (default: %(default)s)")
    add("--dtype", choices=DTYPES, default="bfloat16", help="of activations (default: %(default)s)")
    add("--attention", default="auto", help="as of crome train (default: %(default)s)")
    add("--remat", choices=REMATS, default="full", help="what is kept for the gradient (default: %(default)s)")
    return parser


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except CromeError as error:
        print(f"step: error: {error}", file=sys.stderr)
        sys.exit(2)
