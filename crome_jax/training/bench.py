"""What the methods of a study share: one backbone, the frozen layers' output, and the trials of the search."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from crome_jax.data.attributes import tell_commonest_apart
from crome_jax.data.loading import batches, fingerprint, fitting_groups, pack_groups, select_kinds
from crome_jax.data.packing import Rows, RowShape, packing_facts
from crome_jax.data.quarantine import Places, Quarantine
from crome_jax.data.readers import read_groups
from crome_jax.evaluation.accuracy import pairwise_outcomes
from crome_jax.evaluation.pair_scoring import BOTH, gather_pairs, pack_pairs
from crome_jax.evaluation.scoring import gather_rewards, make_scorer, pack_for_scoring, score_rows
from crome_jax.files import whole_output
from crome_jax.groups import PreferenceGroup
from crome_jax.models.weights import HEADS, Params, Trainable
from crome_jax.training.checkpoints import Checkpoints
from crome_jax.training.frozen import KnownHidden, make_trunk
from crome_jax.training.loop import Throughput, fit
from crome_jax.training.method import Method, check_comparisons
from crome_jax.training.metrics import MetricsLog
from crome_jax.training.placing import place_head, place_params
from crome_jax.training.run_cards import write_card, write_makings
from crome_jax.training.step import TrainState, init_state
from crome_jax.training.train import above_trunk, compute_hidden, make_card, passes, say_packing
from crome_jax.weights.backbones import Backbone, load_backbone


@dataclasses.dataclass(frozen=True)
class Prepared:
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
class Trial:
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


@dataclasses.dataclass(frozen=True)
class Bench:
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
    ) -> "Bench":
        """Load the backbone and place it."""
        base = load_backbone(backbone, trainable, layers)
        trained, frozen = place_params(base, trainable, mesh)
        trunk, scorer = make_trunk(base.cfg, mesh, dtype), make_scorer(base.cfg, mesh, dtype)
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
    ) -> Prepared:
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
        return Prepared(groups, rows, hidden, computed, time.monotonic() - started, pairs)

    def prepare_scoring(
        self, groups: Sequence[PreferenceGroup], name: str, known: KnownHidden | None = None, *, pairs: bool = False
    ) -> Prepared:
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

    def score(self, state: TrainState, on: Prepared) -> list[np.ndarray]:
        """Score every response, or pair, of prepared groups."""
        params = {**above_trunk(self.frozen), **state.trained}
        values = score_rows(self.scorer, params, on.rows, self.mesh, rows_at_once=self.rows_at_once, hidden=on.hidden)
        return (gather_pairs if on.pairs else gather_rewards)(on.rows, values, on.groups)

    def run_trial(
        self,
        method: Method,
        data: Prepared,
        validation: Prepared,
        optimizer: optax.GradientTransformationExtraArgs,
        step: Callable,
        learning_rate: float,
        steps: int,
        *,
        rows_per_step: int,
        seed: int,
    ) -> Trial:
        """Train once, and measure on the validation split's comparisons that prefer a side.

        Args:
            validation: the split's human comparisons alone, of which some prefer one.
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
        return Trial(
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
        trial: Trial,
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
