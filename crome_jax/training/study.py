"""Several methods on the same data: the same backbone, steps and search, and one report of what each learned."""

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
import optax
from jax.sharding import Mesh

from crome_jax.augment.card_files import read_making
from crome_jax.data.loading import count_comparisons, fingerprint_groups, select_kinds
from crome_jax.data.merging import merge_prompts
from crome_jax.data.packing import RowShape, packing_facts
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.readers import check_shards
from crome_jax.errors import CromeError, Diverged
from crome_jax.evaluation.report import build_report, write_report
from crome_jax.evaluation.rewards_files import write_rewards
from crome_jax.files import check_not_read, check_writable
from crome_jax.groups import Origin, PreferenceGroup
from crome_jax.models.weights import Trainable
from crome_jax.training.bench import Bench
from crome_jax.training.frozen import KnownHidden
from crome_jax.training.hidden_store import HiddenStore, check_store
from crome_jax.training.mesh import make_mesh
from crome_jax.training.method import Method, check_method
from crome_jax.training.optimizer import adamw, tunable
from crome_jax.training.settings import check_settings
from crome_jax.training.step import make_train_step
from crome_jax.training.train import passes
from crome_jax.training.validation import check_decided
from crome_jax.weights.runs import MODEL_FILE


def study(
    *,
    methods: Sequence[Method],
    data: str,
    groups: str,
    out: str,
    test_splits: Sequence[str] = ("in_distribution", "reversed", "unseen"),
    further_tests: Mapping[str, str] | None = None,
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
        further_tests: name -> other groups to measure on, such as held-out ones that were augmented; of a TFDS folder
            the one split.
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
    further_tests = dict(further_tests or {})
    if twice := further_tests.keys() & set(test_splits):
        raise CromeError(f"study.further_tests: {min(twice)!r} is one of test_splits, too; give it another name")
    for method in methods:
        check_method(method, steps, trainable)
        _check_replaceable(Path(out) / method.name, inputs=(data, groups, backbone, *further_tests.values()))
    check_writable(Path(out))
    check_shards(groups)
    for split in (validation_split, *test_splits):
        check_shards(data, split=split)
    for path in further_tests.values():
        check_shards(path)
    started = time.monotonic()
    bench = Bench.set_up(backbone, layers, trainable, row_shape, rows_at_once, mesh(), jnp.dtype(dtype))
    readings = list(dict.fromkeys(method.head == "pairwise" for method in methods))  # Of pairs, or of responses.
    read = functools.partial(bench.read, quarantine=quarantine, readings=readings)
    training_groups, making = read(groups), read_making(groups)
    store = None
    if hidden_cache is not None:
        store = HiddenStore(hidden_cache, bench.base, trainable, bench.dtype, hidden_cache_bytes)
    # Methods differ in which other comparisons they train on: those of people are what all of them are chosen by.
    held_out = select_kinds(read(data, validation_split), ("human",), complete=False)
    fix = "give study.validation_split another split"
    check_decided(held_out, f"{data}, split {validation_split!r}", "human comparison", fix=fix)
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
    tests |= {name: read(path) for name, path in further_tests.items()}
    merged = merge_prompts(itertools.chain(*tests.values()))
    known = store
    if False in readings and len(merged) < sum(map(len, tests.values())):
        # Splits that ask the same questions share the prompts; after this all of their texts are known.
        known = store or KnownHidden()
        encoding.append(bench.prepare_scoring(merged, data, known).facts("test splits together"))
    for split, asked in tests.items():
        print(f"{split}: {len(asked)} groups", file=sys.stderr)
        for pairs in readings:
            prepared = bench.prepare_scoring(asked, further_tests.get(split, data), known, pairs=pairs)
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
            **({"further tests": further_tests} if further_tests else {}),
            "search": search,
            "training comparisons": count_comparisons(training_groups),
            "packing": packing,
            "frozen layers": encoding,
        },
        title="Causally robust or fooled? Methods side by side",
    )
    page, _ = write_report(report, folder)
    return page


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


def _check_replaceable(run: Path, inputs: Sequence[str]) -> None:
    """Raise CromeError where a method's run would take the place of something else, before any work."""
    if run.exists() and not (run / MODEL_FILE).is_file() and not (run.is_dir() and not any(run.iterdir())):
        raise CromeError(f"{run}: is something else than a run, so it is not replaced; give another study.out")
    check_not_read(run, inputs)


def _sample_augmented(groups: Sequence[PreferenceGroup], count: int = 40) -> list[PreferenceGroup]:
    """Take groups with edited responses, evenly over the data: what the report lets one browse."""
    edited = [g for g in groups if any(r.origin in (Origin.UPGRADED, Origin.DEGRADED) for r in g.responses)]
    return edited[:: max(1, len(edited) // count)][:count]
