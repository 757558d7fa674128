"""Parameters, optimizer and data iterator, saved together and restored to the bit."""

import gc
import json
import logging
import math
import re
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from crome_jax.errors import CromeError
from crome_jax.files import is_remote, place
from crome_jax.models.weights import Params
from crome_jax.training.digests import (
    DigestedObjects,
    DigestedPath,
    add_digested,
    find_damage,
    move_aside,
    remove_unfinished,
)
from crome_jax.training.processes import first_goes_ahead, first_word, is_first, of_another
from crome_jax.training.step import TrainState

_AGAIN = "train again in another folder"

_MEASURED_ON = "measured_on"

OWED = "owed"
"""By this name it is kept beside the iterator's state that a step is still to be measured."""

# Orbax logs, with a traceback each, what its threads fail at, and what was still being written then finds their event
# loop closed; it raises all of it too, and that is told in one line.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
logging.getLogger("asyncio").addFilter(lambda record: "/orbax/" not in record.getMessage())
_told_elsewhere, _tell = "Event loop is closed", sys.unraisablehook
sys.unraisablehook = lambda what: None if str(what.exc_value) == _told_elsewhere else _tell(what)


class _Manager(ocp.CheckpointManager):
    """Orbax's, but for what is measured, which it reads of every step before it can be asked anything, and SIGTERM."""

    def metrics(self, step: int) -> Any:
        """Return what was measured; None where that is damaged, too, which the digests tell of whoever restores it."""
        try:
            return super().metrics(step)
        except (ValueError, RecursionError):
            return None

    def reached_preemption(self, step: int) -> bool:
        """Say that nothing was asked: JAX keeps the number of whoever asked last, which is to be a `Preemption`."""
        return False

    def _wait_for_checkpointers(self) -> None:
        """Wait for what is being written; where that fails here, for no other process after that.

        The others are waiting for this one, which is to end now, and they with it, not when Orbax gives up: in 20
        minutes.
        """
        try:
            super()._wait_for_checkpointers()
        except Exception:
            self._save_progress_tracker = types.SimpleNamespace(get=lambda: False, set=lambda value: None)
            raise


class DamagedCheckpoint(CromeError):
    """A checkpoint whose files are not as they were written; every process is told so together."""


class Checkpoints:
    """The checkpoints of one run: written in the background, each whole or not there.

    Each holds the digests of its files, which are checked before anything is restored from it. What killed saves have
    left in the folder is removed when it is opened to be written to.

    Args:
        run: the run's folder.
        keep: how many of the newest stay.
        rank: of what is measured when a step is saved, the higher the better: the best stays, too.
        measured_on: fingerprint of what is measured on, kept with the figures; those of other data do not rank.
        read_only: whether nothing is to be saved: then nothing in the folder changes.

    Raises:
        CromeError: where a file is in the place of the folder of checkpoints, (read_only) nothing is, or what was left
            there cannot be removed.
    """

    def __init__(
        self,
        run: Path | str,
        keep: int = 2,
        *,
        rank: Callable[[dict[str, float]], float] | None = None,
        measured_on: str = "",
        read_only: bool = False,
    ):
        self._folder = (place(run) if is_remote(run) else Path(run).absolute()) / "checkpoints"
        if self._folder.exists() and not self._folder.is_dir():
            raise CromeError(f"{self._folder}: is no folder; move it away")
        if read_only and not self._folder.is_dir():
            raise self._none_whole()
        self._read_only = read_only
        if not read_only and is_first() and self._folder.exists():
            # Not by Orbax: in a bucket it would take every folder without its own last object for unfinished.
            try:
                remove_unfinished(self._folder)
            except OSError as e:
                raise self._not_saved(e) from e
        self._rank, self._measured_on = rank, measured_on
        self._manager = _Manager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=None if read_only else self._kept(keep),
                best_fn=self._place_of,  # With none, Orbax would not write what was measured.
                create=not read_only,
                read_only=read_only,
                enable_async_checkpointing=True,
                temporary_path_class=DigestedObjects if is_remote(run) else DigestedPath,
            ),
            # Named here, or a process that has not saved yet could not look at what is there.
            item_handlers={"state": ocp.StandardCheckpointHandler(), "data": ocp.JsonCheckpointHandler()},
        )

    @property
    def latest(self) -> int | None:
        """The newest step that was saved whole, None where there is none."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The step that ranks highest of those that are there and were measured, None where there is none."""
        step = self._manager.best_step()
        return None if step is None or self._place_of(self._manager.metrics(step)) == -math.inf else step

    @property
    def incomparable(self) -> list[int]:
        """The steps that were measured on other data, so that they do not rank."""
        found = {step: self._manager.metrics(step) for step in self._manager.all_steps()}
        return [step for step, kept in found.items() if kept and self._place_of(kept) == -math.inf]

    def measured(self, step: int) -> dict[str, float] | None:
        """Return what was measured of a step, on whatever data."""
        kept = self._manager.metrics(step)
        return kept and {name: value for name, value in kept.items() if name != _MEASURED_ON}

    def save(
        self,
        state: TrainState,
        iterator_state: dict[str, Any],
        measured: dict[str, float] | None = None,
        *,
        owed: bool = False,
    ) -> None:
        """Save a step; returns before it is on disk.

        Args:
            measured: kept with it, and what it is ranked by.
            owed: whether it is still to be measured, which whoever goes on from it then does.

        Raises:
            CromeError: where an earlier save failed (a full disk, say).
        """
        data = iterator_state | ({OWED: True} if owed else {})
        try:
            self._manager.save(
                int(state.step),
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data)),
                metrics=measured and self._with_data(measured),
            )
        except Exception as e:
            if of_another(e):
                raise
            raise self._not_saved(e) from e

    def add_measured(self, step: int, measured: dict[str, float]) -> None:
        """Keep with a step what was measured only after it was saved.

        Raises:
            CromeError: where it cannot be written.
        """
        with first_goes_ahead("measured") as first:
            if first:
                try:
                    add_digested(self._folder / str(step), "metrics/metrics", json.dumps(self._with_data(measured)))
                except Exception as e:
                    raise self._not_saved(e) from e
        self._manager.reload()

    def owes(self, step: int) -> bool:
        """Tell whether a step was to be measured when it was saved, and was not yet.

        Raises:
            CromeError: where it cannot be read now.
        """
        if self.measured(step) is not None:
            return False
        wanted = ocp.args.Composite(data=ocp.args.JsonRestore())
        return OWED in self._read(step, lambda: self._manager.restore(step, args=wanted))["data"]

    def newest(self) -> int:
        """Return the newest step that was saved whole.

        Raises:
            CromeError: where there is none.
        """
        if self.latest is None:
            raise self._none_whole()
        return self.latest

    def newest_before(self, step: int | None) -> int | None:
        """Return the newest step that was saved whole, before `step` where one is given; None where there is none."""
        return max((saved for saved in self._manager.all_steps() if step is None or saved < step), default=None)

    def restore(self, like: TrainState, step: int | None = None) -> tuple[TrainState, dict[str, Any]]:
        """Restore a step, the newest unless told which, onto the shardings of `like`.

        Raises:
            CromeError: where there is none, it is damaged, or it is of another architecture.
        """
        step = self.newest() if step is None else step
        self._check(step, like.trained)
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(_shapes(like)), data=ocp.args.JsonRestore())
        restored = self._read(step, lambda: self._manager.restore(step, args=wanted))
        restored["data"].pop(OWED, None)
        return restored["state"], restored["data"]

    def restore_newest(self, like: TrainState, before: int | None = None) -> tuple[TrainState, dict[str, Any]] | None:
        """Restore the newest step that is not damaged, before `before` where that is given; None where none was saved.

        One that is damaged is named on stderr and moved to `damaged/` in the run's folder (unless nothing there is to
        be changed), and the one before it taken: a run that was left to itself goes on, and what was damaged can be
        looked at.

        Raises:
            CromeError: where none is whole, one cannot be read now, or one is of another architecture.
        """
        while (step := self.newest_before(before)) is not None:
            try:
                return self.restore(like, step)
            except DamagedCheckpoint as e:
                if self.newest_before(step) is None:
                    raise
                problem = e
            if is_first():
                print(f"{problem}\nthe checkpoint before it is taken", file=sys.stderr)
            before = step
            if not self._read_only:
                self._move_aside(step)
        return None

    def is_whole(self, step: int) -> bool:
        """Tell whether the files of a step are those that were written; all processes ask, and are told the same.

        Raises:
            CromeError: where one cannot be read now.
        """
        return self._find_damage(step) is None

    def _move_aside(self, step: int) -> None:
        aside = self._folder.parent / "damaged" / f"{step}-{time.time_ns()}"
        with first_goes_ahead("damaged") as first:
            if first:
                move_aside(self._folder / str(step), aside)
                print(f"it was moved to {aside}", file=sys.stderr)
        self._manager.reload()

    def restore_trained(self, like: Params, step: int | None = None) -> tuple[Params, int]:
        """Restore only the trained parameters of a step, the newest unless told which, and its number.

        Raises:
            CromeError: as `restore` does, and where there is no such step.
        """
        step = self.newest() if step is None else step
        if step not in self._manager.all_steps():
            saved = ", ".join(map(str, self._manager.all_steps()))
            raise CromeError(f"{self._folder}: holds no step {step}; it holds {saved}")
        self._check(step, like)
        shapes = {"trained": _shapes(like)}
        wanted = ocp.args.PyTreeRestore(
            item=shapes, restore_args=ocp.checkpoint_utils.construct_restore_args(shapes), partial_restore=True
        )
        with ocp.PyTreeCheckpointer() as checkpointer:
            restored = self._read(step, lambda: checkpointer.restore(self._folder / str(step) / "state", args=wanted))
        return restored["trained"], step

    def open_trained(self, like: Any) -> tuple[Callable[[str], np.ndarray], int]:
        """Return a function that reads one trained parameter of the newest step to the host, and the step's number.

        Args:
            like: a tree whose leaves have the shapes of the trained parameters; a parameter's name is its path, as in
                "upper/q".

        Raises:
            CromeError: as `restore` does.
        """
        step = self.newest()
        self._check(step, like)

        def read(name: str) -> np.ndarray:
            item, args = _shape_of(like, name), ocp.RestoreArgs(restore_type=np.ndarray)
            for part in (*reversed(name.split("/")), "trained"):
                item, args = {part: item}, {part: args}
            wanted = ocp.args.PyTreeRestore(item=item, restore_args=args, partial_restore=True)
            with ocp.PyTreeCheckpointer() as checkpointer:
                found = self._read(step, lambda: checkpointer.restore(self._folder / str(step) / "state", args=wanted))
            return jax.tree.leaves(found)[0]

        return read, step

    def wait(self) -> None:
        """Wait until what was saved is on disk.

        Raises:
            CromeError: where it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as e:
            if of_another(e):
                raise
            raise self._not_saved(e) from e

    def close(self) -> None:
        """Wait, and let the folder go."""
        self.wait()
        self._manager.close()

    def _with_data(self, measured: dict[str, float]) -> dict[str, Any]:
        return measured | {_MEASURED_ON: self._measured_on}

    def _place_of(self, kept: dict[str, Any] | None) -> float:
        """Return the higher a number the better a step is; -inf for what cannot be compared with the others."""
        if self._rank is None or not kept or kept.get(_MEASURED_ON) != self._measured_on:
            return -math.inf
        return self._rank(kept)

    def _kept(self, keep: int) -> policies.PreservationPolicy:
        """Say which checkpoints stay: the newest and, where they are ranked, the best."""
        newest = policies.LatestN(keep)
        if self._rank is None:
            return newest
        best = policies.BestN(get_metric_fn=self._place_of, n=1, keep_checkpoints_without_metrics=False)
        return policies.AnyPreservationPolicy([newest, best])

    def _none_whole(self) -> CromeError:
        return CromeError(f"{self._folder}: holds no whole checkpoint; train first, or give another folder")

    def _check(self, step: int, wanted: Params) -> None:
        """Whoever reads a step comes by here: its files are those that were written, its parameters this model's."""
        if problem := self._find_damage(step):
            older = sorted((s for s in self._manager.all_steps() if s < step), reverse=True)
            whole = next((s for s in older if self.is_whole(s)), None)
            fix = _AGAIN if whole is None else f"delete it to go on from step {whole}, which is whole"
            raise DamagedCheckpoint(f"{self._folder}/{step}: damaged ({problem}); restore it from a copy, or {fix}")
        there = _by_name(self._read(step, lambda: self._manager.item_metadata(step)["state"]["trained"]))
        here = _by_name(wanted)
        for name in sorted(there.keys() | here.keys()):
            if there.get(name) != here.get(name):
                raise CromeError(
                    f"{self._folder}/{step}: parameter {name} is {there.get(name, 'absent')} there and "
                    f"{here.get(name, 'absent')} in this model; the checkpoint is of another architecture: give its "
                    "own backbone and trainable"
                )

    def _find_damage(self, step: int) -> str | None:
        """Each process reads its share of the files, and all say the same: one that went on alone would wait for ever.

        A file that cannot be read now may well be whole: nothing is told by it.
        """
        share = jax.process_index(), jax.process_count()
        return first_word(self._read(step, lambda: find_damage(self._folder / str(step), *share)))

    def _read(self, step: int, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception as e:  # Orbax, TensorStore and buckets raise whatever comes, bare Exceptions too.
            if of_another(e):
                raise
            problem = _first_line(e)
        # Past the handler nothing holds what Orbax began to read. Freed now, and silently: at exit, every array of it
        # would print a traceback of its own below the one line that the user needs.
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        gc.collect()
        sys.unraisablehook = hook
        raise CromeError(
            f"{self._folder}/{step}: cannot be read now ({problem}); nothing was changed: see to the cause and run the "
            "same command again"
        )

    def _not_saved(self, error: Exception) -> CromeError:
        return CromeError(
            f"{self._folder}: cannot be written ({_first_line(error)}); what was saved before is whole: make room and "
            "run the same command again"
        )


def _shape_of(tree: Any, name: str) -> jax.ShapeDtypeStruct:
    for part in name.split("/"):
        tree = tree[part]
    return jax.ShapeDtypeStruct(tree.shape, np.float32)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def _by_name(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if said := re.search(r": ([^:\[]+) \[os_error_code=", str(error)):  # TensorStore's, behind long paths.
        return said[1]
    return line.split(". See full TensorStore details")[0][:200]
