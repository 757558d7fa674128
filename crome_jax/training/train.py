"""From a data set on disk to a trained reward model in a run folder."""

import dataclasses
import functools
import json
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from crome_jax.augment.card_files import read_making
from crome_jax.data.loading import batches, rows_of_step
from crome_jax.data.packing import Rows, RowShape
from crome_jax.data.pairs import REQUEST
from crome_jax.data.quarantine import Quarantine, list_beside
from crome_jax.data.readers import check_shards
from crome_jax.data.row_files import RowFiles
from crome_jax.data.training_data import open_training_data, read_training_data
from crome_jax.errors import CromeError
from crome_jax.evaluation.scoring import RewardModel
from crome_jax.files import check_writable, place, unwritable, whole_output
from crome_jax.models.config import DecoderConfig, Lora
from crome_jax.models.execution import Remat
from crome_jax.models.weights import (
    Head,
    Params,
    Trainable,
)
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.frozen import KnownHidden, make_trunk, precompute_hidden
from crome_jax.training.goodput import Goodput
from crome_jax.training.incidents import Incidents
from crome_jax.training.loop import UNLOGGED, Throughput, fit
from crome_jax.training.mesh import Attention, check_parts, execution_on, make_mesh
from crome_jax.training.method import Method, check_comparisons, check_method
from crome_jax.training.metrics import MetricsLog
from crome_jax.training.optimizer import adamw
from crome_jax.training.placing import place_params
from crome_jax.training.preemption import Preemption
from crome_jax.training.processes import first_goes_ahead, is_first
from crome_jax.training.progress import Progress
from crome_jax.training.replay import replay as replay_step
from crome_jax.training.replay import run_up_to
from crome_jax.training.run_cards import MAY_CHANGE, ModelCard, read_card, write_card, write_makings
from crome_jax.training.settings import check_settings
from crome_jax.training.step import init_state, make_train_step
from crome_jax.training.trace import Trace
from crome_jax.training.validation import SIGN, make_validation, rank
from crome_jax.weights.backbones import Backbone, check_backbone, load_backbone


def train(
    *,
    data: str | Mapping[str, float],
    out: str,
    method: Method = Method(),  # noqa: B008
    backbone: str = "smollm2-135m",
    layers: int | None = None,
    new_head: bool = False,
    trainable: Trainable = 4,
    lora: Lora | None = None,
    row_shape: RowShape = RowShape(tokens=1024),  # noqa: B008
    steps: int = 500,
    rows_per_step: int = 8,
    micro_batches: int = 1,
    optimizer: Callable[..., optax.GradientTransformation] = adamw,
    mesh: Callable[..., Mesh] = make_mesh,
    dtype: str = "float32",
    attention: Attention = "auto",
    remat: Remat = "none",
    cache_frozen: bool = False,
    seed: int = 0,
    log_every: int = 10,
    checkpoint_every: int = 100,
    keep_checkpoints: int = 2,
    validation: str | None = None,
    keep_best: str | None = None,
    max_skipped: int = 5,
    trace_steps: Sequence[int] = (),
    replay: int | None = None,
    skip_bad: bool = False,
    launched: float | None = None,
    operative_config: Callable[[], str] = lambda: "",
    settings: Mapping[str, str] = types.MappingProxyType({}),
) -> Throughput | None:
    """Train a reward model; the same call again resumes a run that was cut off.

    Args:
        data: groups or preference records: a TFDS folder, .jsonl, .jsonl.gz or .parquet; or several with the weight of
            each: rows of them come in proportion to the weights, however large they are.
        out: the run's folder: model.json, checkpoints/, metrics.jsonl, events/, operative_config.gin, data_cards.json.
            It may be in a bucket (gs://bucket/run).
        method: data recipe, head and objective.
        backbone: name or path; see `load_backbone`.
        layers: use only the backbone's first layers; None uses all.
        new_head: start with a head of zeros also where the backbone, a run or a sequence classifier, has its own.
        trainable: "all", "head", or how many upper layers train.
        lora: train adapters beside the matrices of those layers, and the head, in their place; None trains the layers.
        row_shape: tokens, response and comparison slots of a packed row.
        steps: optimizer steps.
        rows_per_step: packed rows of one step, over all devices and hosts.
        micro_batches: parts that a step's rows are computed in, one after the other.
        optimizer: called with `steps`.
        mesh: called without arguments.
        dtype: of activations: "float32" or "bfloat16".
        attention: "xla", "dense", "blocks", "cpu", "tpu" or "gpu" (see `models.attention`); "auto" goes by the device.
        remat: "none", "projections", "attention" or "full": what is kept for the gradient (see `models.execution`).
        cache_frozen: compute the frozen layers once for all rows (4 x D bytes of disk for each token) instead of at
            every step.
        seed: of the data order, of heads and adapters that are drawn, of dropout, and of which answer stands first for
            a pairwise head.
        log_every, checkpoint_every: in steps.
        keep_checkpoints: how many of the newest stay.
        validation: held-out records, on which the run is measured whenever it is saved; None measures nothing.
        keep_best: "accuracy" or "loss", of `validation`: the checkpoint that is the best at it stays as well.
        max_skipped: steps in a row that may be skipped because loss or gradient is not finite; see `fit`.
        trace_steps: a first and a last step to record for XProf, in `out`/trace; others may be asked for while it runs,
            in `out`/trace.request (see `trace.Trace`).
        replay: train nothing: print what this step's batch gives, whole and row by row, as `replay.replay` does. The
            newest checkpoint before it is the start, and the steps in between are taken once more.
        skip_bad: set records aside that cannot be used, of `validation` too, in a file next to `out`, and go on.
        launched: when the process began, on time.monotonic's clock: since then time counts, of which goodput is the
            share that was of use. None for now.
        operative_config: called before the first step and after the last; its text is saved beside the checkpoint.
        settings: name -> value of what configured the call, such as the optimizer's numbers. A run is resumed only
            under the same, apart from MAY_CHANGE.

    Returns:
        Throughput, or None where the run was finished already, or a step was replayed.

    Raises:
        CromeError: where the data, the configuration or the folder cannot be used; nothing is lost then.
    """
    launched = time.monotonic() if launched is None else launched
    if lora is not None and trainable == "head":
        raise CromeError("trainable is 'head', which leaves adapters no layer; set it to 'all' or a number of layers")
    if cache_frozen and trainable == "all":
        raise CromeError("cache_frozen needs frozen layers; set trainable to 'head' or a number of layers")
    check_settings(
        dtype,
        steps=steps,
        rows_per_step=rows_per_step,
        micro_batches=micro_batches,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        keep_checkpoints=keep_checkpoints,
    )
    check_method(method, steps, trainable)
    if max_skipped < 0 or (replay is not None and not 1 <= replay <= steps):
        raise CromeError(f"max_skipped is {max_skipped}, replay {replay}; give 0 or more, and a step from 1 to {steps}")
    if keep_best is not None and (validation is None or keep_best not in SIGN):
        raise CromeError(
            f"keep_best is {keep_best!r}, of train.validation = {validation!r}; give records to measure on, and one of "
            f"{', '.join(SIGN)}"
        )
    run = _place_run(out)
    if replay is not None:
        read_card(run)  # Of a run that is not there nothing can be replayed.
    trace = Trace(run, trace_steps, log_every)
    sources = {data: 1.0} if isinstance(data, str) else dict(data)
    if not sources or min(sources.values()) <= 0:
        raise CromeError(f"data is {data}; give a path, or paths with a positive weight each")
    for source in sources if is_first() else ():  # Of several processes the others do not read it.
        check_shards(source)
    if validation is not None and replay is None:
        check_shards(validation)
    check_writable(run)
    devices = mesh()
    how = execution_on(devices, attention, remat)
    check_parts(devices, rows_per_step, micro_batches)
    if cache_frozen and jax.process_count() > 1:
        raise CromeError("cache_frozen keeps all rows in one process; leave it out where there are several")
    base = load_backbone(backbone, trainable, layers, new_head=new_head).with_adapters(lora)
    trained, frozen = place_params(base, trainable, devices, method.head, seed=seed)
    # Open until the card is written: a refused folder keeps the list of its own run. A replay reads no validation.
    aside = list_beside(run) if skip_bad and is_first() and replay is None else None
    several = jax.process_count() > 1
    packed = run / "rows"
    inputs = [*sources, *([validation] if validation is not None else [])]
    validate, measured_on = None, ""
    with Quarantine(aside, overwrite=True, inputs=inputs) as quarantine, first_goes_ahead("data") as first:
        # Of several processes one reads the data and packs it; all of them, it too, then read their rows alone.
        if first:
            trained_on = read_training_data(
                sources,
                method.kinds,
                method.origins,
                base.tokenizer,
                row_shape,
                pairs=method.pair_form(seed),
                quarantine=quarantine if skip_bad else None,
                kept=packed if several else None,
            )
            if isinstance(trained_on.rows, Rows):  # Those in files were looked at before they were written.
                check_comparisons(method, trained_on.rows.batch, steps, " + ".join(sources))
            seen = {} if trained_on.mixture else passes(steps, rows_per_step, trained_on.rows)
            say_packing(method.name, trained_on.packing | seen)
        else:
            trained_on = open_training_data(packed)
        if validation is not None and replay is None:
            model = RewardModel(frozen | trained, base.cfg, base.tokenizer, row_shape, devices, jnp.dtype(dtype))
            validate, measured_on = make_validation(validation, model, quarantine if skip_bad else None, attention)
        deciding = {name: value for name, value in settings.items() if not MAY_CHANGE.fullmatch(name)}
        deciding |= {"seed": str(seed), "rows_per_step": str(rows_per_step)}
        deciding |= {"mixture": str(trained_on.mixture)} if trained_on.mixture else {}
        card = make_card(base, trainable, row_shape, trained_on.fingerprint, method.name, dtype, deciding, method.head)
        _make_folder(run)
        write_card(run, card)
        if first and replay is None:
            write_makings(run, {source: read_making(source) for source in sources})
        if first and several:
            trained_on = trained_on.kept_in(packed)
    if method.head == "pairwise" and is_first() and not base.tokenizer.writes_pairs(REQUEST):
        print(
            f"{run}: the backbone's chat template writes the first of two answers otherwise than the last, so this "
            "pairwise model cannot be exported; here it is measured and scored as any other",
            file=sys.stderr,
        )
    if quarantine.count and aside:
        print(f"{quarantine.count} records set aside in {quarantine.path}", file=sys.stderr)
    ranked = functools.partial(rank, keep_best) if keep_best else None
    state = init_state(trained, optimizer(steps=steps))
    checkpoints = Checkpoints(run, keep_checkpoints, rank=ranked, measured_on=measured_on, read_only=replay is not None)
    if validate is not None and ranked and is_first() and (others := checkpoints.incomparable):
        steps_there = ", ".join(map(str, others))
        print(
            f"{run}: measured on other data than {validation} is now: step {steps_there}; left out where the best "
            f"{keep_best} is kept",
            file=sys.stderr,
        )
    finished = replay is None and checkpoints.latest is not None and checkpoints.latest >= steps
    finished = finished and checkpoints.is_whole(checkpoints.latest)
    if finished and not (validate is not None and checkpoints.owes(checkpoints.latest)):
        print(f"{run}: finished already, at step {checkpoints.latest}", file=sys.stderr)
        return None
    hidden = None
    if cache_frozen:
        run_trunk = make_trunk(base.cfg, devices, jnp.dtype(dtype), attention)
        hidden, _ = compute_hidden(trained_on.rows, frozen, run_trunk, devices, base.cfg.width)
        frozen = above_trunk(frozen)
    order = {"rows_per_step": rows_per_step, "seed": seed, "mixture": trained_on.mixture}
    iterator = batches(trained_on.rows, hidden=hidden, mesh=devices, **order)
    restored, unlogged = checkpoints.restore_newest(state, before=replay), None
    if restored is not None:
        state, iterator_state = restored
        unlogged = iterator_state.pop(UNLOGGED, None)
        iterator.set_state(iterator_state)
        print(f"{run}: resumed at step {int(state.step)}", file=sys.stderr)
    step = make_train_step(
        base.cfg,
        method.objective,
        optimizer(steps=steps),
        devices,
        micro_batches=micro_batches,
        dtype=jnp.dtype(dtype),
        attention=attention,
        remat=remat,
        seed=seed,
    )
    in_play = functools.partial(rows_of_step, rows=len(trained_on.rows), **order)
    if replay is not None:
        state = run_up_to(replay, state, frozen, step, iterator, devices)
        told = replay_step(
            state, frozen, trained_on.rows, in_play(replay), trained_on.records, method.objective, base.cfg, devices,
            how=how, micro_batches=micro_batches, dtype=jnp.dtype(dtype), hidden=hidden, seed=seed,
        )  # fmt: skip
        if is_first():
            print(json.dumps(told, indent=1))
        return None
    if is_first():
        _write_operative_config(run, operative_config())
    begun = int(state.step)
    owed = validate is not None and restored is not None and checkpoints.owes(begun)
    log = MetricsLog(run, resumed_at=begun, owed=owed) if is_first() else None
    flush = log.flush if log else lambda: None
    with trace, Preemption().listening() as preempted:
        state, throughput = fit(
            state,
            frozen,
            step,
            iterator,
            devices,
            steps=steps,
            log=log.write if log else lambda step, values: None,
            log_every=log_every,
            checkpoints=checkpoints,
            checkpoint_every=checkpoint_every,
            before_save=flush,
            validate=validate,
            max_skipped=max_skipped,
            preempted=preempted,
            trace=trace,
            unlogged=unlogged,
            goodput=Goodput(launched, log.latest if log else {}),
            attributes=trained_on.attributes,
            incidents=Incidents(
                run if is_first() else None,
                begun,
                lambda step: [record for row in in_play(step) for record in trained_on.records(row)],
                owed=owed,
            ),
        )
    if keep_best and is_first() and checkpoints.best is not None:  # Asked to end, a run may have measured nothing.
        value = checkpoints.measured(checkpoints.best)[keep_best]
        print(f"{run}: the best {keep_best}, {value:.4g}, is that of step {checkpoints.best}", file=sys.stderr)
    checkpoints.close()
    if isinstance(trained_on.rows, RowFiles):
        me = f"process {jax.process_index()} of {jax.process_count()}"
        print(f"{me}: read {trained_on.rows.rows_read} packed rows", file=sys.stderr)
    if log:
        log.close()
        _write_operative_config(run, operative_config())  # Again: the objective was called for the first time since.
    return throughput if begun < steps else None


def load_run(run: Path | str, mesh: Callable[..., Mesh] = make_mesh, *, step: int | None = None) -> RewardModel:
    """Load a checkpoint of a run, the newest unless told which, ready to score.

    Raises:
        CromeError: where the folder holds no run, the backbone's file is gone or has changed, or the checkpoint is
            damaged or of another architecture.
    """
    card = read_card(run)
    checkpoints = Checkpoints(run, read_only=True)  # Before the backbone is read, which takes a while.
    try:
        base = load_backbone(card.backbone, card.trainable, card.config.layers)
    except CromeError as e:
        raise CromeError(f"{run}: its backbone cannot be loaded: {e}") from None
    check_backbone(run, card, base)
    devices = mesh()
    base = base.with_adapters(card.config.lora)
    trained, frozen = place_params(base, card.trainable, devices, card.head)
    trained, _ = checkpoints.restore_trained(trained, step)
    shape = RowShape(card.row_tokens, card.row_responses, card.row_comparisons)
    return RewardModel({**frozen, **trained}, base.cfg, base.tokenizer, shape, devices, jnp.dtype(card.dtype))


def above_trunk(frozen: Params) -> Params:
    """Return the frozen weights that are still needed where the trunk's output was computed ahead."""
    return {name: value for name, value in frozen.items() if name not in ("embed", "lower")}


def compute_hidden(
    rows: Rows,
    frozen: Params,
    run_trunk: Callable,
    mesh: Mesh,
    width: int,
    *,
    rows_at_once: int = 8,
    known: KnownHidden | None = None,
) -> tuple[np.ndarray, int]:
    """Run the frozen layers over all rows as `precompute_hidden` does, saying how far it is."""
    progress = Progress("frozen layers", len(rows), "row")
    hidden, computed = precompute_hidden(
        rows,
        frozen,
        run_trunk,
        mesh,
        width=width,
        rows_at_once=rows_at_once,
        on_progress=lambda done, _: progress.update(done),
        known=known,
    )
    progress.close()
    return hidden, computed


def make_card(
    base: Backbone,
    trainable: Trainable,
    shape: RowShape,
    data_fingerprint: str,
    method: str,
    dtype: str,
    settings: Mapping[str, str],
    head: Head = "scalar",
) -> ModelCard:
    """Gather what a checkpoint cannot be read without."""
    return ModelCard(
        backbone=base.name,
        backbone_fingerprint=base.fingerprint,
        tokenizer_fingerprint=base.tokenizer.fingerprint,
        decoder=_numbers(base.cfg),
        trainable=trainable,
        row_tokens=shape.tokens,
        row_responses=shape.responses,
        row_comparisons=shape.comparisons,
        data_fingerprint=data_fingerprint,
        method=method,
        dtype=dtype,
        settings=dict(settings),
        head=head,
    )


def _numbers(cfg: DecoderConfig) -> dict[str, Any]:
    """Return a decoder's numbers for the card; what is as it was before it could be set is left out.

    Older runs can then be resumed.
    """
    numbers = dataclasses.asdict(cfg)
    if cfg.lora is None:
        del numbers["lora"]
    elif cfg.lora.base == "float32":
        del numbers["lora"]["base"]
    return numbers


def passes(steps: int, rows_per_step: int, rows: Rows | RowFiles) -> dict[str, float]:
    """Return how often a run of so many steps sees its data, as a fact beside those of `packing_facts`."""
    return {"passes over the data": round(steps * rows_per_step / len(rows), 2)}


def say_packing(name: str, facts: Mapping[str, int | float]) -> None:
    """Print what packing did, as `packing_facts` says it."""
    print(f"{name}: " + ", ".join(f"{what} {n:,}" for what, n in facts.items()), file=sys.stderr)


def _write_operative_config(run: Path, text: str) -> None:
    with whole_output(run / "operative_config.gin", overwrite=True) as partial:
        partial.write_text(text)


def _place_run(out: str) -> Path:
    run = place(out)
    try:
        run.exists()
    except ImportError as e:
        raise CromeError(f"{out}: a bucket needs one package more; run ./launch/setup.sh gcs ({e})") from None
    return run


def _make_folder(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        probe = run / ".writable"
        probe.write_text("")
        probe.unlink(missing_ok=True)  # Several processes do this at a time.
    except OSError as e:
        raise unwritable(run, e) from None
