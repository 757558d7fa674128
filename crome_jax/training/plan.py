"""What a training run would need and cost on chips that are not there: the real step, compiled ahead of time."""

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from crome_jax.data.packing import RowShape
from crome_jax.errors import CromeError
from crome_jax.models.config import DecoderConfig
from crome_jax.models.execution import Remat
from crome_jax.models.presets import PRESETS
from crome_jax.models.weights import Trainable, count, declare
from crome_jax.training.abstract import abstract_batch, abstract_params, abstract_state
from crome_jax.training.chips import CHIPS, Chip
from crome_jax.training.estimate import estimate_step
from crome_jax.training.flops import step_flops
from crome_jax.training.layouts import Layout, smallest_change
from crome_jax.training.mesh import Attention, check_parts, make_mesh, weight_shardings
from crome_jax.training.method import Method
from crome_jax.training.optimizer import adamw
from crome_jax.training.programs import Work, read_work
from crome_jax.training.settings import check_settings
from crome_jax.training.step import make_train_step
from crome_jax.training.topology import tpu_devices


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler said of a layout.

    Args:
        needed: bytes of a chip's memory.
        work: of one chip in one step; None where it was not compiled, or does not fit.
        seconds: lowering and compiling took.
    """

    needed: float
    work: Work | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """The figures of a plan, by name, and whether it fits."""

    fits: bool
    figures: Mapping[str, Any]


def plan(
    *,
    model: str,
    chip: str,
    topology: str,
    mesh: Callable[..., Mesh | AbstractMesh] = make_mesh,
    method: Method = Method(),  # noqa: B008
    layers: int | None = None,
    trainable: Trainable = "all",
    row_shape: RowShape = RowShape(tokens=2048, responses=32, comparisons=64),  # noqa: B008
    rows_per_step: int = 64,
    micro_batches: int = 1,
    optimizer: Callable[..., optax.GradientTransformation] = adamw,
    dtype: str = "bfloat16",
    attention: Attention = "auto",
    remat: Remat = "full",
    tokens_per_comparison: float = 535.4,
    padding: float = 0.05,
    dollars_per_chip_hour: float = 0.0,
    search: bool = True,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Plan:
    """Compile the training step for a slice of TPU chips, and say whether it fits, how fast it could be, and the cost.

    For a host of GPUs nothing can be compiled without one: its figures are estimated by formula, and say so.

    Args:
        model: a name of `models.presets.PRESETS`.
        chip: a name of `chips.CHIPS`.
        topology: how the chips lie, as "8x8"; of GPUs, how many.
        mesh: called with the slice's devices; of GPUs, with how many they are.
        layers: only so many; None takes the model's.
        method, trainable, row_shape, rows_per_step, micro_batches, dtype, attention, remat: as of `train`.
        optimizer: called with `steps`.
        tokens_per_comparison: real tokens that are encoded for one comparison, as packing reports it of the data.
        padding: part of the rows' tokens that is none, likewise.
        dollars_per_chip_hour: what a chip costs.
        search: where the step does not fit, look for the smallest change with which it does.
        on_progress: called with a line before each compilation.

    Raises:
        CromeError: where a name or a number makes no sense, rows or weights do not divide over the mesh, libtpu is
            missing, or there is no formula for what a GPU should do.
    """
    for name, given, known in (("model", model, PRESETS), ("chip", chip, CHIPS)):
        if given not in known:
            raise CromeError(f"plan.{name} is {given!r}; give one of {', '.join(known)}")
    cfg = PRESETS[model].cfg if layers is None else dataclasses.replace(PRESETS[model].cfg, layers=layers)
    spec = CHIPS[chip]
    check_settings(dtype, layers=cfg.layers, rows_per_step=rows_per_step, micro_batches=micro_batches)
    if tokens_per_comparison <= 0 or not 0 <= padding < 1 or dollars_per_chip_hour < 0:
        raise CromeError(
            f"plan.tokens_per_comparison is {tokens_per_comparison}, padding {padding}, dollars_per_chip_hour "
            f"{dollars_per_chip_hour}; give a number above 0, a part from 0 to below 1, and 0 or more"
        )
    if not spec.compiled and (trainable, dtype, attention, remat) != ("all", "bfloat16", "auto", "full"):
        raise CromeError(
            f"plan.chip is {chip!r}: the formula is for plan.trainable = 'all', dtype 'bfloat16', attention 'auto' and "
            "remat 'full'"
        )
    devices = _devices(chip, topology)
    on = mesh(devices=devices)
    check_parts(on, rows_per_step, micro_batches)
    try:
        declared = declare(cfg, trainable, method.head)
    except ValueError as e:
        raise CromeError(f"plan.{e}") from None
    weight_shardings(declared, on)
    analytic = step_flops(cfg, trainable, rows_per_step, row_shape.tokens, row_shape.responses)
    comparisons = rows_per_step * row_shape.tokens * (1 - padding) / tokens_per_comparison
    head = {
        "model": model,
        "parameters": count(declared),
        "step": f"{rows_per_step} rows of {row_shape.tokens} tokens, {round(comparisons)} comparisons",
    }
    # Slices, the first axis, hold copies as the second does.
    sizes = on.shape["replica"] * on.shape["data"], on.shape["fsdp"], on.shape["tensor"]

    def compile_(layout: Layout) -> Compiled:
        if not spec.compiled:
            needed, work = estimate_step(
                cfg, layout.mesh, rows_per_step, row_shape.tokens, row_shape.responses, layout.micro_batches
            )
            return Compiled(needed, work, 0.0)
        on_progress(f"{model} on {on.size} {chip}: compiling with {layout}")
        data, fsdp, tensor = layout.mesh
        laid_out = make_mesh(data, fsdp, tensor, devices=devices)
        return _compile(cfg, method, trainable, row_shape, rows_per_step, optimizer, dtype, attention, laid_out, layout)

    wanted = Layout(sizes, micro_batches, remat)
    compiled = compile_(wanted)
    fits = compiled.work is not None and compiled.needed <= spec.memory
    figures: dict[str, Any] = head | {
        "chips": f"{on.size} {chip} ({topology})",
        "layout": str(wanted),
        "memory needed, GB a chip": round(compiled.needed / 1e9, 2),
        "memory there, GB a chip": round(spec.memory / 1e9, 2),
        "fits": fits,
        "compilation, s": round(compiled.seconds, 1) if spec.compiled else "none: estimated by formula",
    }
    if fits:
        figures |= speed_and_cost(compiled.work, spec, on.size, analytic, comparisons, dollars_per_chip_hour)
    elif search:

        def would_fit(layout: Layout) -> bool:
            if _held_bytes(cfg, method, trainable, optimizer, layout) > spec.memory:
                return False  # Weights and moments alone are too much: there is nothing to compile for.
            tried = compile_(layout)
            return tried.work is not None and tried.needed <= spec.memory

        change = smallest_change(wanted, rows_per_step, declared, would_fit)
        figures["smallest change that fits"] = _more_chips(wanted, rows_per_step) if change is None else str(change)
    return Plan(fits, figures)


def _devices(chip: str, topology: str) -> Sequence[jax.Device] | int:
    if CHIPS[chip].compiled:
        return tpu_devices(f"{chip}:{topology}")
    if not re.fullmatch(r"[1-9]\d*", topology):
        raise CromeError(f"plan.topology is {topology!r}; of {chip} give how many there are, as '8'")
    return int(topology)


def _more_chips(layout: Layout, rows: int) -> str:
    """Say what to do where no change of a layout makes it fit."""
    data, fsdp, _ = layout.mesh
    alone = f", and as many times the rows ({rows} divide over {rows} at most, times make_mesh.tensor)"
    return f"none was found: take more chips{alone if rows == data * fsdp else ''}, or shorter rows"


def speed_and_cost(
    work: Work, chip: Chip, chips: int, analytic: float, comparisons: float, dollars_per_chip_hour: float
) -> dict[str, Any]:
    """Estimate a step by the roofline: of products, memory and links whichever takes longest, nothing waiting.

    It is a bound: no step is faster. MFU is the analytic FLOP over what the chips could do in that time.

    Args:
        work: of one chip.
        analytic: FLOP of the step over all chips.
        comparisons: of one step.
    """
    parts = {
        "products": work.flops / chip.flops,
        "memory": work.traffic / chip.bandwidth,
        "links": sum(work.moved.values()) / chip.links,
    }
    seconds = max(parts.values())
    hours = seconds / comparisons * 1e6 / 3600
    return {
        "FLOP of a step, needed": analytic,
        "FLOP of a step, done": work.flops * chips,
        "done / needed": round(work.flops * chips / analytic, 3),
        "bytes moved by a chip": {kind: n for kind, n in sorted(work.moved.items()) if n},
        "collectives": {kind: round(n) for kind, n in sorted(work.calls.items()) if n},
        "loops of unknown length": work.unbounded,
        "roofline, s": {name: round(value, 4) for name, value in parts.items()},
        "step, s at least": round(seconds, 4),
        "bound by": max(parts, key=parts.__getitem__),
        "MFU at most": round(analytic / (seconds * chips * chip.flops), 3),
        "dollars per million comparisons at least": round(hours * chips * dollars_per_chip_hour, 2),
    }


def _compile(
    cfg: DecoderConfig,
    method: Method,
    trainable: Trainable,
    shape: RowShape,
    rows: int,
    optimizer: Callable[..., optax.GradientTransformation],
    dtype: str,
    attention: Attention,
    mesh: Mesh,
    layout: Layout,
) -> Compiled:
    started = time.monotonic()
    trained, frozen = abstract_params(cfg, mesh, trainable, method.head)
    tuned = optimizer(steps=1000)
    step = make_train_step(
        cfg,
        method.objective,
        tuned,
        mesh,
        micro_batches=layout.micro_batches,
        dtype=jnp.dtype(dtype),
        attention=attention,
        remat=layout.remat,
    )
    state = abstract_state(trained, tuned)
    lowered = step.compiled(state).lower(state, frozen, abstract_batch(rows, shape, mesh), {})
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as e:
        if (needed := needed_bytes(str(e))) is None:
            raise
        return Compiled(needed, None, time.monotonic() - started)
    memory = compiled.memory_analysis()
    needed = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    return Compiled(needed, read_work(compiled.as_text()), time.monotonic() - started)


def _held_bytes(
    cfg: DecoderConfig,
    method: Method,
    trainable: Trainable,
    optimizer: Callable[..., optax.GradientTransformation],
    layout: Layout,
) -> int:
    """Count the bytes of weights and moments on one chip."""
    on = make_mesh(*layout.mesh, devices=math.prod(layout.mesh))
    trained, frozen = abstract_params(cfg, on, trainable, method.head)
    held = (frozen, abstract_state(trained, optimizer(steps=1000)))
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(held))


def needed_bytes(error: str) -> float | None:
    """Return how much memory XLA says it would need at least, where that is why it did not compile, else None.

    Which of two errors it raises depends on how far it came; the second leaves out what the step is given.
    """
    found = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", error) or re.search(
        r"memory required for HLO temporaries \(([\d.]+)([KMGT]?)\)", error
    )
    return None if found is None else float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")
