"""Several methods on the same data: the same backbone, steps and search, and one report of what each learned."""

import dataclasses
import functools
import itertools
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from crome_jax.augment.card_files import read_making
from crome_jax.data.attributes import tell_commonest_apart
from crome_jax.data.loading import (
    batches,
    count_comparisons,
    fingerprint,
    fingerprint_groups,
    fitting_groups,
    pack_groups,
    select_kinds,
)
from crome_jax.data.merging import merge_prompts
from crome_jax.data.packing import Rows, RowShape, packing_facts
from crome_jax.data.quarantine import Places, Quarantine
from crome_jax.data.readers import check_shards, read_groups
from crome_jax.errors import CromeError, Diverged
from crome_jax.evaluation.accuracy import pairwise_outcomes
from crome_jax.evaluation.pair_scoring import BOTH, gather_pairs, pack_pairs
from crome_jax.evaluation.report import build_report, write_report
from crome_jax.evaluation.rewards_files import write_rewards
from crome_jax.evaluation.scoring import gather_rewards, make_scorer, pack_for_scoring, score_rows
from crome_jax.files import check_not_read, check_writable, whole_output
from crome_jax.groups import Origin, PreferenceGroup
from crome_jax.models.weights import HEADS, Params, Trainable
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.frozen import KnownHidden, make_trunk
from crome_jax.training.hidden_store import HiddenStore, check_store
from crome_jax.training.loop import Throughput, fit
from crome_jax.training.mesh import make_mesh
from crome_jax.training.method import Method, check_comparisons, check_method
from crome_jax.training.metrics import MetricsLog
from crome_jax.training.optimizer import adamw, tunable
from crome_jax.training.placing import place_head, place_params
from crome_jax.training.run_cards import write_card, write_makings
from crome_jax.training.step import TrainState, init_state, make_train_step
from crome_jax.training.train import (
    above_trunk,
    check_settings,
    compute_hidden,
    make_card,
    passes,
    say_packing,
)
from crome_jax.weights.backbones import Backbone, load_backbone
from crome_jax.weights.runs import MODEL_FILE


def study(
    *,
    methods: Sequence[Method],
    data: str,
    groups: str,
    out: str,
    test_splits: Sequence[str] = ("in_distribution", "reversed", "unseen"),
    validation_split: str = "validation",
    backbone: str = "smollm2-135m",
    layers: int | None = None,
    trainable: Trainable = 4,
    row_shape: RowShape = RowShape(tokens=448),  # noqa: B008
    steps: int = 100,
    rows_per_step: int = 8,
    rows_at_once: int = 8,
    learning_rates: Sequence[float] = (2e-4, 5e-4),
    search_steps: int | None = None,
    optimizer: Callable[..., optax.GradientTransformation] = adamw,
    mesh: Callable[..., Mesh] = make_mesh,
    dtype: str = "float32",
    seed: int = 0,
    hidden_cache: str | None = None,
    hidden_cache_bytes: float = 8e9,
    quarantine: Quarantine | None = None,
    operative_config: Callable[[], str] = lambda: "",
) -> Path:
    """Train every method from the same backbone with the same steps and the same search, and report them together.

    Each method is tried once with each learning rate; that with the highest accuracy on the human comparisons of the
    validation split is taken (of equals, the one with the lower loss there). Where a trial is as long as a run, it is
    the run; where it is shorter, the run is made with its rate. It is written to `out/<method>` as `train` writes a
    run, and evaluated. The frozen layers are run once over each text, not once a trial or a method.

    Args:
        methods: the first is the baseline that the report compares with.
        data: groups with the splits named below; none of its test splits is looked at before the search is over.
        groups: the training groups, augmented; each method takes the kinds of comparison it names.
        out: folder of report.html, report.json and the methods' runs.
        test_splits, validation_split: of `data`.
        backbone: name or path; see `load_backbone`.
        layers: use only the backbone's first layers; None uses all.
        trainable: "head", or how many upper layers train.
        row_shape: of a packed row.
        steps: optimizer steps of a method's run.
        rows_per_step: packed rows of one step.
        rows_at_once: packed rows that the frozen layers encode, or a model scores, in one call.
        learning_rates: the search, the same for every method.
        search_steps: optimizer steps of each of its trials; None makes them as long as a run.
        optimizer: called with `steps` and `learning_rate`, traced numbers: one compiled step serves the whole search.
        mesh: called without arguments.
        dtype: of activations.
        seed: of the data order, of heads that are drawn, and of which answer stands first for a pairwise head.
        hidden_cache: folder in which the frozen layers' output is kept for other studies (4 x D bytes for each token);
            None keeps it for this one only. What is found there is the same to rounding.
        hidden_cache_bytes: that the folder may hold; what was not used for the longest time makes room.
        quarantine: where records go that cannot be used; None makes the first one an error.
        operative_config: called when a method's run is saved; its text is saved beside it.

    Returns:
        The path of report.html.

    Raises:
        CromeError: where the data or the configuration cannot be used.
    """
    if trainable == "all":
        raise CromeError("a study keeps the frozen layers' output; set trainable to 'head' or a number of layers")
    search_steps = steps if search_steps is None else search_steps
    check_settings(
        dtype, steps=steps, rows_per_step=rows_per_step, search_steps=search_steps, rows_at_once=rows_at_once
    )
    check_store(hidden_cache, hidden_cache_bytes)
    for method in methods:
        check_method(method, steps, trainable)
        _check_replaceable(Path(out) / method.name, inputs=(data, groups, backbone))
    check_writable(Path(out))
    check_shards(groups)
    for split in (validation_split, *test_splits):
        check_shards(data, split=split)
    started = time.monotonic()
    bench = _Bench.set_up(backbone, layers, trainable, row_shape, rows_at_once, mesh(), jnp.dtype(dtype))
    readings = list(dict.fromkeys(method.head == "pairwise" for method in methods))  # Of pairs, or of responses.
    read = functools.partial(bench.read, quarantine=quarantine, readings=readings)
    training_groups, making = read(groups), read_making(groups)
    store = None
    if hidden_cache is not None:
        store = HiddenStore(hidden_cache, bench.base, trainable, bench.dtype, hidden_cache_bytes)
    held_out = read(data, validation_split)
    # What is wrong with the data, for any method, shows before anything is encoded or compiled.
    chosen_for = {
        method.name: bench.pack_training(training_groups, groups, method, steps, rows_per_step, seed)
        for method in methods
    }
    measured_on = {pairs: bench.pack_scoring(held_out, data, pairs=pairs) for pairs in readings}
    validation = {pairs: bench.prepare(held_out, rows, store, pairs=pairs) for pairs, rows in measured_on.items()}
    folder = Path(out)
    best, search, packing = {}, [], []
    encoding = [prepared.facts(validation_split) for prepared in validation.values()]
    reads_pairs = {method.name: method.head == "pairwise" for method in methods}
    tuned = tunable(optimizer)
    in_training = store or KnownHidden()
    # That with the most comparisons first: what others train on is part of it.
    trained_on = {
        method.name: bench.prepare(*chosen_for[method.name], in_training, pairs=reads_pairs[method.name])
        for method in sorted(methods, key=lambda method: -len(method.kinds))
    }
    for method in methods:
        prepared = trained_on[method.name]
        seen = passes(steps, rows_per_step, prepared.rows)
        packing.append({"method": method.name, **packing_facts(prepared.rows), **seen})
        encoding.append(prepared.facts(f"training of {method.name}"))
        train = functools.partial(
            bench.run_trial,
            method,
            prepared,
            validation[reads_pairs[method.name]],
            tuned,
            make_train_step(bench.base.cfg, method.objective, tuned, bench.mesh, dtype=bench.dtype),
            rows_per_step=rows_per_step,
            seed=seed,
        )
        trials = []
        for rate in learning_rates:
            try:
                trials.append(train(rate, search_steps))
            except Diverged as e:
                search.append(_diverged(method.name, rate, search_steps, e))
        if not trials:
            raise CromeError(
                f"{method.name}: training diverged with every learning rate; lower study.learning_rates "
                f"({search[-1]['note']})"
            )
        chosen = min(trials, key=lambda trial: (-trial.accuracy, trial.loss))
        if search_steps != steps:
            chosen = train(chosen.learning_rate, steps)
            trials.append(chosen)
        best[method.name] = chosen
        search += [trial.facts(method.name, kept=trial is chosen) for trial in trials]
        bench.save(folder / method.name, method, prepared.rows, chosen, {groups: making}, operative_config)
    evaluations: dict[str, dict[str, tuple]] = {name: {} for name in best}
    tests = {split: read(data, split) for split in test_splits}
    merged = merge_prompts(itertools.chain(*tests.values()))
    known = store
    if False in readings and len(merged) < sum(map(len, tests.values())):
        # Splits that ask the same questions share the prompts; after this all of their texts are known.
        known = store or KnownHidden()
        encoding.append(bench.prepare_scoring(merged, data, known).facts("test splits together"))
    for split, asked in tests.items():
        print(f"{split}: {len(asked)} groups", file=sys.stderr)
        for pairs in readings:
            prepared = bench.prepare_scoring(asked, data, known, pairs=pairs)
            encoding.append(prepared.facts(split))
            for name, trial in best.items():
                if reads_pairs[name] == pairs:
                    evaluations[name][split] = (prepared.groups, bench.score(trial.state, prepared))
                    write_rewards(folder / name, *evaluations[name][split])
    counterfactuals = None
    if shown := _sample_augmented(training_groups):
        browsed = {pairs: bench.prepare_scoring(shown, groups, in_training, pairs=pairs) for pairs in readings}
        counterfactuals = (
            shown,
            {name: bench.score(trial.state, browsed[reads_pairs[name]]) for name, trial in best.items()},
        )
    report = build_report(
        evaluations,
        training={name: trial.curve for name, trial in best.items()},
        counterfactuals=counterfactuals,
        counterfactuals_from="the training data: methods that train on causal and neutral pairs have seen these",
        facts={
            "run": {
                "backbone": f"{backbone}, {bench.base.cfg.layers} layers, of which {trainable} train",
                "data": data,
                "groups": groups,
                "data fingerprint": fingerprint_groups(training_groups),
                "seed": seed,
                "optimizer steps of a run": steps,
                "packed rows of a step": rows_per_step,
                "minutes": round((time.monotonic() - started) / 60, 2),
                "peak memory, GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
                "jax": jax.__version__,
                "python": platform.python_version(),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.default_backend()}",
            },
            **({"how the groups were made": making} if making else {}),
            "search": search,
            "training comparisons": count_comparisons(training_groups),
            "packing": packing,
            "frozen layers": encoding,
        },
        title="Causally robust or fooled? Methods side by side",
    )
    page, _ = write_report(report, folder)
    return page


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """Groups, their rows, and the frozen layers' output, for so many tokens of which it took so many seconds.

    `pairs` says whether a row's slots hold pairs, or responses.
    """

    groups: Sequence[PreferenceGroup]
    rows: Rows
    hidden: np.ndarray
    computed: int
    seconds: float
    pairs: bool

    def facts(self, data: str) -> dict[str, Any]:
        """Return the row of the report's table of what the frozen layers encoded."""
        return {
            "data": f"{data}, pairs" if self.pairs else data,
            "rows": len(self.rows),
            "tokens encoded": self.rows.real_tokens,
            "not encoded before": self.computed,
            "responses cut": self.rows.truncated,
            "equal once cut": self.rows.equal,
            "seconds, compilation included": round(self.seconds, 1),
            "tokens/s": round(self.computed / self.seconds),
        }


@dataclasses.dataclass(frozen=True)
class _Trial:
    """One training run of the search: its accuracy and loss are those on the validation split."""

    learning_rate: float
    steps: int
    accuracy: float
    loss: float
    state: TrainState
    iterator_state: dict[str, Any]
    curve: list[dict[str, Any]]
    throughput: Throughput
    settings: dict[str, str]

    def facts(self, method: str, kept: bool) -> dict[str, Any]:
        """Return the row of the report's search table."""
        return {
            "method": method,
            "learning rate": self.learning_rate,
            "optimizer steps": self.steps,
            "validation accuracy": round(self.accuracy, 4),
            "validation loss, nats": round(self.loss, 4),
            "kept": kept,
            "tokens/s": round(self.throughput.tokens / self.throughput.seconds),
            "pairs/s": round(self.throughput.pairs / self.throughput.seconds, 1),
            "seconds": round(self.throughput.seconds, 1),
            "note": "",
        }


def _diverged(method: str, learning_rate: float, steps: int, error: Diverged) -> dict[str, Any]:
    """Return the row of the search table of a trial that diverged: one rate too high does not end the search."""
    print(f"{method}, learning rate {learning_rate:g}: {error}", file=sys.stderr)
    return {
        "method": method,
        "learning rate": learning_rate,
        "optimizer steps": steps,
        "validation accuracy": 0.0,
        "validation loss, nats": None,
        "kept": False,
        "tokens/s": None,
        "pairs/s": None,
        "seconds": None,
        "note": f"diverged: {error}",
    }


@dataclasses.dataclass(frozen=True)
class _Bench:
    """What all methods share: one backbone on one mesh, and the jitted functions over it."""

    base: Backbone
    trainable: Trainable
    shape: RowShape
    rows_at_once: int
    mesh: Mesh
    dtype: jnp.dtype
    trained: Params
    frozen: Params
    run_trunk: Callable
    scorer: Callable

    @classmethod
    def set_up(
        cls,
        backbone: str,
        layers: int | None,
        trainable: Trainable,
        shape: RowShape,
        rows_at_once: int,
        mesh: Mesh,
        dtype: jnp.dtype,
    ) -> "_Bench":
        """Load the backbone and place it."""
        base = load_backbone(backbone, trainable, layers)
        trained, frozen = place_params(base, trainable, mesh)
        trunk, scorer = make_trunk(base.cfg, dtype), make_scorer(base.cfg, dtype)
        return cls(base, trainable, shape, rows_at_once, mesh, dtype, trained, frozen, trunk, scorer)

    def read(
        self, path: str, split: str | None = None, *, quarantine: Quarantine | None, readings: Sequence[bool]
    ) -> list[PreferenceGroup]:
        """Read groups; what no row has room for is a bad record, too."""
        places: Places = {}
        groups = list(read_groups(path, split=split, quarantine=quarantine, places=places))
        forms = [BOTH if pairs else None for pairs in readings]
        return fitting_groups(groups, self.base.tokenizer, self.shape, quarantine, forms=forms, places=places)

    def prepare(
        self, groups: Sequence[PreferenceGroup], rows: Rows, known: KnownHidden | None, *, pairs: bool
    ) -> _Prepared:
        """Run the frozen layers over packed groups, save what is known already."""
        started = time.monotonic()
        hidden, computed = compute_hidden(
            rows,
            self.frozen,
            self.run_trunk,
            self.mesh,
            self.base.cfg.width,
            rows_at_once=self.rows_at_once,
            known=known,
        )
        return _Prepared(groups, rows, hidden, computed, time.monotonic() - started, pairs)

    def prepare_scoring(
        self, groups: Sequence[PreferenceGroup], name: str, known: KnownHidden | None = None, *, pairs: bool = False
    ) -> _Prepared:
        """Pack, and run the frozen layers over, every response, or with `pairs` every comparison, to be scored."""
        return self.prepare(groups, self.pack_scoring(groups, name, pairs=pairs), known, pairs=pairs)

    def pack_scoring(self, groups: Sequence[PreferenceGroup], name: str, *, pairs: bool) -> Rows:
        """Take every response, or with `pairs` every comparison, to be scored; errors call the data `name`."""
        pack = pack_pairs if pairs else pack_for_scoring
        return pack(groups, self.base.tokenizer, self.shape, name=name)

    def pack_training(
        self,
        groups: Sequence[PreferenceGroup],
        name: str,
        method: Method,
        steps: int,
        rows_per_step: int,
        seed: int,
    ) -> tuple[list[PreferenceGroup], Rows]:
        """Take the comparisons that a method trains on for so many steps; errors call the data `name`."""
        kept = select_kinds(groups, method.kinds, method.origins, name=name)
        packed = pack_groups(kept, self.base.tokenizer, self.shape, pairs=method.pair_form(seed), name=name)
        rows = tell_commonest_apart(packed)
        check_comparisons(method, rows.batch, steps, name)
        say_packing(method.name, packing_facts(rows) | passes(steps, rows_per_step, rows))
        return kept, rows

    def score(self, state: TrainState, on: _Prepared) -> list[np.ndarray]:
        """Score every response, or pair, of prepared groups."""
        params = {**above_trunk(self.frozen), **state.trained}
        values = score_rows(self.scorer, params, on.rows, self.mesh, rows_at_once=self.rows_at_once, hidden=on.hidden)
        return (gather_pairs if on.pairs else gather_rewards)(on.rows, values, on.groups)

    def run_trial(
        self,
        method: Method,
        data: _Prepared,
        validation: _Prepared,
        optimizer: optax.GradientTransformationExtraArgs,
        step: Callable,
        learning_rate: float,
        steps: int,
        *,
        rows_per_step: int,
        seed: int,
    ) -> _Trial:
        """Train once, and measure on the validation split's human comparisons.

        Args:
            optimizer, step: from tunable and make_train_step: compiled once for all trials of a method.

        Raises:
            Diverged: where the training, or what it gives the validation split, is not finite.
        """
        # A copy: the step reuses its state's memory, and the next trial starts from the same weights.
        layers = {name: weight for name, weight in self.trained.items() if name not in HEADS}
        trained = jax.tree.map(jnp.copy, layers) | place_head(self.base, self.mesh, method.head, seed=seed)
        state = init_state(trained, optimizer)
        iterator = batches(data.rows, rows_per_step=rows_per_step, seed=seed, hidden=data.hidden, mesh=self.mesh)
        curve: list[dict[str, Any]] = []
        state, throughput = fit(
            state,
            above_trunk(self.frozen),
            functools.partial(step, steps=steps, learning_rate=learning_rate),
            iterator,
            self.mesh,
            steps=steps,
            name=f"{method.name}, learning rate {learning_rate:g}",
            log=lambda at, values: curve.append({"step": at, **values}),
            attributes=data.rows.attributes,
        )
        outcomes = pairwise_outcomes(validation.groups, self.score(state, validation)).decided()
        return _Trial(
            learning_rate=learning_rate,
            steps=steps,
            accuracy=float(outcomes.correct.mean()),
            loss=float(-np.log(np.maximum(outcomes.probability, 1e-12)).mean()),
            state=state,
            iterator_state=iterator.get_state(),
            curve=curve,
            throughput=throughput,
            settings={
                "learning_rate": str(learning_rate),
                "steps": str(steps),
                "seed": str(seed),
                "rows_per_step": str(rows_per_step),
            },
        )

    def save(
        self,
        run: Path,
        method: Method,
        rows: Rows,
        trial: _Trial,
        makings: Mapping[str, Mapping[str, Any]],
        operative_config: Callable[[], str],
    ) -> None:
        """Write a trial as `train` writes a run, in the place of an earlier one."""
        with whole_output(run, overwrite=True) as folder:
            folder.mkdir()
            write_card(
                folder,
                make_card(
                    self.base,
                    self.trainable,
                    self.shape,
                    fingerprint(rows),
                    method.name,
                    str(self.dtype),
                    trial.settings,
                    method.head,
                ),
            )
            write_makings(folder, makings)
            (folder / "operative_config.gin").write_text(operative_config())
            log = MetricsLog(folder)
            for line in trial.curve:
                log.write(line["step"], {name: value for name, value in line.items() if name != "step"})
            log.close()
            checkpoints = Checkpoints(folder)
            checkpoints.save(trial.state, trial.iterator_state)
            checkpoints.close()


def _check_replaceable(run: Path, inputs: Sequence[str]) -> None:
    """Raise CromeError where a method's run would take the place of something else, before any work."""
    if run.exists() and not (run / MODEL_FILE).is_file() and not (run.is_dir() and not any(run.iterdir())):
        raise CromeError(f"{run}: is something else than a run, so it is not replaced; give another study.out")
    check_not_read(run, inputs)


def _sample_augmented(groups: Sequence[PreferenceGroup], count: int = 40) -> list[PreferenceGroup]:
    """Take groups with edited responses, evenly over the data: what the report lets one browse."""
    edited = [g for g in groups if any(r.origin in (Origin.UPGRADED, Origin.DEGRADED) for r in g.responses)]
    return edited[:: max(1, len(edited) // count)][:count]
