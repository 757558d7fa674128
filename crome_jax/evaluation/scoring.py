"""Rewards of every response of every group, by the packed, prompt-once path."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh
from jax.typing import DTypeLike

from crome_jax.batch import FIELDS
from crome_jax.data.loading import pack_groups, put
from crome_jax.data.packing import Rows, RowShape
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.errors import DataError
from crome_jax.groups import PreferenceGroup
from crome_jax.models.config import DecoderConfig
from crome_jax.models.decoder import rewards
from crome_jax.models.weights import Params
from crome_jax.training.mesh import row_shards, rows_of_process
from crome_jax.training.progress import Progress


@dataclasses.dataclass(frozen=True)
class RewardModel:
    """All it takes to score text.

    Args:
        params: frozen and trained ones together, on the mesh.
        cfg: the decoder's numbers.
        tokenizer: with its chat template.
        shape: of a packed row.
        mesh: where it runs.
        dtype: of activations.
    """

    params: Params
    cfg: DecoderConfig
    tokenizer: Tokenizer
    shape: RowShape
    mesh: Mesh
    dtype: DTypeLike = jnp.float32


@dataclasses.dataclass(frozen=True)
class Scores:
    """What scoring gave.

    Args:
        rewards: one float32 array [R] for each group, in nats.
        truncated: responses that were cut to fit a row.
        tokens: real tokens that were encoded.
    """

    rewards: list[np.ndarray]
    truncated: int
    tokens: int


@functools.lru_cache(maxsize=8)  # One compilation, however often and from wherever a model is asked.
def make_scorer(cfg: DecoderConfig, dtype: DTypeLike = jnp.float32) -> Callable:
    """Build the jitted (params, batch) -> rewards [B, R]."""
    return jax.jit(lambda params, batch: rewards(params, batch, cfg, dtype))


def score_groups(
    model: RewardModel,
    groups: Sequence[PreferenceGroup],
    *,
    rows_at_once: int = 8,
    on_bad: Callable[[PreferenceGroup, DataError], None] | None = None,
) -> Scores:
    """Score every response of every group once.

    Args:
        rows_at_once: rows in one call of the model, over all devices; rounded up to what the mesh divides.
        on_bad: called with a group (without its comparisons) whose prompt leaves no room in a row; its rewards are NaN
            then. Without it the error is raised.

    Raises:
        DataError: where a prompt leaves no room in a row.
    """
    rows = pack_for_scoring(groups, model.tokenizer, model.shape, on_bad=on_bad)
    values = score_rows(make_scorer(model.cfg, model.dtype), model.params, rows, model.mesh, rows_at_once=rows_at_once)
    return Scores(gather_rewards(rows, values, groups), rows.truncated, rows.real_tokens)


def pack_for_scoring(
    groups: Sequence[PreferenceGroup],
    tokenizer: Tokenizer,
    shape: RowShape,
    *,
    on_bad: Callable[[PreferenceGroup, DataError], None] | None = None,
) -> Rows:
    """Pack groups so that every response is placed once; comparisons do not matter for it. `on_bad` is pack_groups'."""
    alone = [dataclasses.replace(group, comparisons=()) for group in groups]
    return pack_groups(alone, tokenizer, shape, every_response=True, on_bad=on_bad)


def score_rows(
    scorer: Callable,
    params: Params,
    rows: Rows,
    mesh: Mesh,
    *,
    rows_at_once: int = 8,
    hidden: np.ndarray | None = None,
    name: str = "score",
) -> np.ndarray:
    """Run the model over packed rows.

    Args:
        scorer: from make_scorer.
        rows_at_once: rows in one call of the model, rounded up to what the mesh divides.
        hidden: [N, T, D]; what enters the first trained layer, where it was computed ahead.

    Returns:
        [N, R] rewards by slot, in nats.
    """
    n = len(rows)
    rows_at_once = math.ceil(rows_at_once / row_shards(mesh)) * row_shards(mesh)
    values = np.zeros(rows.groups.shape, np.float32)
    progress = Progress(name, n, "row")
    for start in range(0, n, rows_at_once):
        # The last rows are scored again rather than compiling for a smaller batch.
        at = np.minimum(np.arange(start, start + rows_at_once), n - 1)
        batch = {field: getattr(rows.batch, field)[at] for field in FIELDS}
        if hidden is not None:
            batch["hidden"] = hidden[at]
        mine = rows_of_process(mesh, rows_at_once)
        scored = scorer(params, put({field: value[mine] for field, value in batch.items()}, mesh))
        values[at] = np.asarray(scored if jax.process_count() == 1 else process_allgather(scored, tiled=True))
        progress.update(min(start + rows_at_once, n))
    progress.close()
    return values


def gather_rewards(rows: Rows, values: np.ndarray, groups: Sequence[PreferenceGroup]) -> list[np.ndarray]:
    """Bring rewards from row slots back to groups."""
    out = [np.full(len(group.responses), np.nan, np.float32) for group in groups]
    for row, slot in zip(*np.nonzero(rows.groups >= 0), strict=True):
        out[rows.groups[row, slot]][rows.responses[row, slot]] = values[row, slot]
    return out
