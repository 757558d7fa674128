"""Parameters, optimizer and data iterator, saved together and restored to the bit."""

import dataclasses
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from crome_jax.errors import CromeError
from crome_jax.files import whole_output
from crome_jax.models.config import DecoderConfig
from crome_jax.models.weights import Params
from crome_jax.training.processes import first_goes_ahead, on_any_process
from crome_jax.training.step import TrainState

MODEL_FILE = "model.json"


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a checkpoint cannot be read without, kept beside it as model.json.

    Args:
        backbone: name or path that the run started from; frozen weights and tokenizer are read from there again.
        backbone_fingerprint: sha256 of that file.
        tokenizer_fingerprint: of vocabulary and chat template.
        decoder: the decoder's numbers.
        trainable: "all", "head" or how many upper layers train.
        row_tokens, row_responses, row_comparisons: the shape of a packed row.
        data_fingerprint: sha256 of the packed training rows.
        method: name or description of the objective and the kinds of comparison.
        dtype: of activations.
        settings: name -> value of what else decides what is learned; a run is resumed under the same only.
        head: what reads rewards, "scalar" or "odin".

    Raises:
        TypeError: naming the field that is not of its type.
    """

    backbone: str
    backbone_fingerprint: str
    tokenizer_fingerprint: str
    decoder: dict
    trainable: str | int
    row_tokens: int
    row_responses: int
    row_comparisons: int
    data_fingerprint: str
    method: str
    dtype: str
    settings: dict
    head: str = "scalar"

    @property
    def config(self) -> DecoderConfig:
        """The decoder's numbers as their type."""
        return _decoder_config(self.decoder)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if not isinstance(getattr(self, field.name), field.type):
                raise TypeError(f"{field.name} is {getattr(self, field.name)!r}")
        if not all(isinstance(value, str) for value in self.settings.values()):
            raise TypeError(f"settings is {self.settings!r}")
        _decoder_config(self.decoder)


def _decoder_config(numbers: dict) -> DecoderConfig:
    try:
        return DecoderConfig(**{**numbers, "pattern": tuple(numbers["pattern"])})
    except (KeyError, TypeError, ValueError) as e:
        raise TypeError(f"decoder: {e}") from None


def write_card(run: Path, card: ModelCard) -> None:
    """Write model.json, or check that the one that is there says the same.

    Raises:
        CromeError: naming what differs between this command and the run that is in the folder.
    """
    path = run / MODEL_FILE
    text = json.dumps(dataclasses.asdict(card), indent=1)
    if path.exists():
        there, here = (_flat(card) for card in (dataclasses.asdict(read_card(run)), json.loads(text)))
        differing = [
            f"{k} was {there.get(k)!r}, is {here.get(k)!r}" for k in here | there if there.get(k) != here.get(k)
        ]
        if differing:
            what = "; ".join(differing)
            raise CromeError(f"{run}: holds another run ({what}); give another folder (--gin.OUT), or delete this one")
        return
    with whole_output(path) as partial:
        partial.write_text(text)


def _flat(card: dict) -> dict:
    settings = card.pop("settings")
    return card | settings


def read_card(run: Path | str) -> ModelCard:
    """Read model.json.

    Raises:
        CromeError: where the folder holds no run, or the file is damaged.
    """
    path = Path(run) / MODEL_FILE
    try:
        return ModelCard(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise CromeError(f"{run}: no {MODEL_FILE}; give the folder (OUT) of a `crome train` run") from None
    except (TypeError, ValueError) as e:
        raise CromeError(f"{path}: damaged ({e}); restore it from a copy, or train again") from None


class DamagedCheckpoint(CromeError):
    """A checkpoint that cannot be read back."""


class Checkpoints:
    """The checkpoints of one run: written in the background, each whole or not there.

    Args:
        run: the run's folder.
        keep: how many of the newest stay.
    """

    def __init__(self, run: Path | str, keep: int = 2):
        self._folder = Path(run).absolute() / "checkpoints"
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True),
            # Named here, or a process that has not saved yet could not look at what is there.
            item_handlers={"state": ocp.StandardCheckpointHandler(), "data": ocp.JsonCheckpointHandler()},
        )

    @property
    def latest(self) -> int | None:
        """The newest step that was saved whole, None where there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, iterator_state: dict[str, Any]) -> None:
        """Save a step; returns before it is on disk.

        Raises:
            CromeError: where an earlier save failed (a full disk, say).
        """
        try:
            self._manager.save(
                int(state.step),
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(iterator_state)),
            )
        except Exception as e:
            raise self._not_saved(e) from e

    def newest_before(self, step: int | None) -> int | None:
        """Return the newest step that was saved whole, before `step` where one is given; None where there is none."""
        return max((saved for saved in self._manager.all_steps() if step is None or saved < step), default=None)

    def restore(self, like: TrainState, step: int | None = None) -> tuple[TrainState, dict[str, Any]]:
        """Restore a step, the newest unless told which, onto the shardings of `like`.

        Raises:
            CromeError: where there is none, it is damaged, or it is of another architecture.
        """
        step = self._newest() if step is None else step
        self._check_shapes(step, like.trained)
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(_shapes(like)), data=ocp.args.JsonRestore())
        restored = self._read(step, lambda: self._manager.restore(step, args=wanted))
        return restored["state"], restored["data"]

    def restore_newest(self, like: TrainState, before: int | None = None) -> tuple[TrainState, dict[str, Any]] | None:
        """Restore the newest step that is not damaged, before `before` where that is given; None where none was saved.

        One that is damaged is named on stderr and moved to `damaged/` in the run's folder, and the one before it taken:
        a run that was left to itself goes on, and what was damaged can be looked at.

        Raises:
            CromeError: where none is whole, or one is of another architecture.
        """
        while (step := self.newest_before(before)) is not None:
            problem = None
            try:
                restored = self.restore(like, step)
            except DamagedCheckpoint as e:
                problem = e
            # Each process reads its own part, and all must take the same step.
            if not on_any_process(problem is not None):
                return restored
            problem = problem or DamagedCheckpoint(f"{self._folder}/{step}: damaged on another host")
            if self.newest_before(step) is None:
                raise problem
            aside = self._folder.parent / "damaged" / f"{step}-{time.time_ns()}"
            with first_goes_ahead("damaged") as first:
                if first:
                    aside.parent.mkdir(exist_ok=True)
                    (self._folder / str(step)).rename(aside)
                    print(f"{problem}\nmoved to {aside}; the checkpoint before it is taken", file=sys.stderr)
            self._manager.reload()
        return None

    def restore_trained(self, like: Params) -> tuple[Params, int]:
        """Restore only the trained parameters of the newest step, and its number.

        Raises:
            CromeError: as `restore` does.
        """
        step = self._newest()
        self._check_shapes(step, like)
        shapes = {"trained": _shapes(like)}
        wanted = ocp.args.PyTreeRestore(
            item=shapes, restore_args=ocp.checkpoint_utils.construct_restore_args(shapes), partial_restore=True
        )
        with ocp.PyTreeCheckpointer() as checkpointer:
            restored = self._read(step, lambda: checkpointer.restore(self._folder / str(step) / "state", args=wanted))
        return restored["trained"], step

    def wait(self) -> None:
        """Wait until what was saved is on disk.

        Raises:
            CromeError: where it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as e:
            raise self._not_saved(e) from e

    def close(self) -> None:
        """Wait, and let the folder go."""
        self.wait()
        self._manager.close()

    def _newest(self) -> int:
        if self.latest is None:
            raise CromeError(f"{self._folder}: holds no whole checkpoint; train first, or give another folder")
        return self.latest

    def _check_shapes(self, step: int, wanted: Params) -> None:
        there = _by_name(self._read(step, lambda: self._manager.item_metadata(step)["state"]["trained"]))
        here = _by_name(wanted)
        for name in sorted(there.keys() | here.keys()):
            if there.get(name) != here.get(name):
                raise CromeError(
                    f"{self._folder}/{step}: parameter {name} is {there.get(name, 'absent')} there and "
                    f"{here.get(name, 'absent')} in this model; the checkpoint is of another architecture: give its "
                    "own backbone and trainable"
                )

    def _read(self, step: int, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception as e:  # Orbax and TensorStore raise whatever comes, bare Exceptions too.
            problem = _first_line(e)
        # Past the handler nothing holds what Orbax began to read. Freed now, and silently: at exit, every array of it
        # would print a traceback of its own below the one line that the user needs.
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        gc.collect()
        sys.unraisablehook = hook
        raise DamagedCheckpoint(
            f"{self._folder}/{step}: damaged ({problem}); restore it from a copy, or delete it to go on from the "
            "checkpoint before it"
        )

    def _not_saved(self, error: Exception) -> CromeError:
        return CromeError(
            f"{self._folder}: cannot be written ({_first_line(error)}); what was saved before is whole: make room and "
            "run the same command again"
        )


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def _by_name(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.split(". See full TensorStore details")[0][:200]
