"""Rewards of every response of every group, by the packed, prompt-once path."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh
from jax.typing import DTypeLike

from crome_jax.batch import FIELDS
from crome_jax.data.cutting import common_beginning, cut_to
from crome_jax.data.loading import pack_groups, put, tokenize_groups
from crome_jax.data.packing import Rows, RowShape, TokenizedGroup, pack_tightly
from crome_jax.data.tokenizers import Tokenizer
from crome_jax.errors import CromeError, DataError
from crome_jax.evaluation.accuracy import check_rewards
from crome_jax.evaluation.distinct import distinct_prompts
from crome_jax.evaluation.score_journal import ScoreJournal
from crome_jax.groups import PreferenceGroup
from crome_jax.models.config import DecoderConfig
from crome_jax.models.decoder import rewards
from crome_jax.models.weights import Params
from crome_jax.training.mesh import Attention, execution_on, row_shards, rows_of_process
from crome_jax.training.progress import Progress

_SHORTEST_ROW = 256
"""Tokens of the shortest rows that are packed: each length of row is a compilation of its own."""

_CPU_TOKENS = 2048
"""Tokens of one call on a CPU: more are no faster there, and the last call of each length of row has more to fill."""

NO_REWARDS = (
    "a pairwise model says which of two answers is better, and gives none a reward of its own; give it to "
    "`crome evaluate`, `crome score --data`, `crome best_of_n` or `crome diagnose`, and here a reward model"
)


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

    @property
    def pairwise(self) -> bool:
        """Whether it says which of two responses is the better, and gives none a reward (see `pair_scoring`)."""
        return "pair_head" in self.params


@dataclasses.dataclass(frozen=True)
class Scores:
    """What scoring gave.

    Args:
        rewards: one float32 array [R] for each group, in nats; of a pairwise model log-odds [R, R] (see `leads`).
        truncated: responses that were cut to fit a row, each as often as it occurs.
        tokens: real tokens that were encoded: what all prompts begin with once in each row, the rest of each distinct
            prompt once, with what all of its responses begin with, and the rest of each distinct response once.
        padding: tokens besides that went through the model: rows that are not full, batches that are not.
        equal: comparisons whose answers are equal once cut, so that no model can tell them apart.
        cut: of each group [R], which responses were cut: of a pairwise model, in one of their pairs at least.
    """

    rewards: list[np.ndarray]
    truncated: int
    tokens: int
    padding: int
    equal: int
    cut: list[np.ndarray]


@functools.lru_cache(maxsize=8)  # One compilation, however often and from wherever a model is asked.
def make_scorer(
    cfg: DecoderConfig, mesh: Mesh, dtype: DTypeLike = jnp.float32, attention: Attention = "auto"
) -> Callable:
    """Build the jitted (params, batch) -> rewards [B, R], computed as the mesh does."""
    how = execution_on(mesh, attention, gradient=False)
    return jax.jit(lambda params, batch: rewards(params, batch, cfg, dtype, how))


def score_groups(
    model: RewardModel,
    groups: Sequence[PreferenceGroup],
    *,
    rows_at_once: int = 8,
    on_bad: Callable[[PreferenceGroup, DataError], None] | None = None,
    journal: ScoreJournal | None = None,
    name: str = "score",
) -> Scores:
    """Score every response of every group; each distinct prompt, and what its responses begin with, is encoded once.

    What all prompts begin with, a chat template's system turn say, is encoded once for each row.

    A reward is the same, to rounding, whatever it is computed with: 1e-5 in float32. Rows are of the model's size, its
    half, its quarter, ...: a group begins one of the shortest that hold its prompt with all its responses, as attention
    takes time in proportion to the length of a row, and smaller groups fill what it leaves.

    Args:
        rows_at_once: rows in one call of the model, over all devices; rounded up to what the mesh divides.
        on_bad: called with a group (without its comparisons) whose prompt leaves no room in a row; its rewards are NaN
            then. Without it the error is raised.
        journal: where batches are kept as they are done, and found by a run that resumes.
        name: of the job, which the line of progress begins with.

    Raises:
        CromeError: where the model is a pairwise one, or a reward is not finite.
        DataError: where a prompt leaves no room in a row, or there is nothing to score.
    """
    check_rewarding(model)
    distinct = distinct_prompts(groups)

    refuse = None if on_bad is None else distinct.pass_on(groups, on_bad)
    items: list[TokenizedGroup] = []
    same = [np.arange(len(group.responses)) for group in distinct.groups]
    cut = [np.zeros(len(group.responses), bool) for group in distinct.groups]
    for item in tokenize_groups(distinct.groups, model.tokenizer, model.shape, on_bad=refuse):
        lengths = np.array([len(ids) for ids in item.responses], np.int64)
        cut[item.index] = len(item.prompt) + lengths > model.shape.tokens
        same[item.index] = _equal_once_cut(item, cut[item.index], model.shape.tokens - len(item.prompt))
        items.append(item if cut[item.index].any() else share_beginning(item))
    packed = pack_tightly(items, row_shapes(model.shape))
    if not packed:
        raise DataError("holds nothing to score", fix="give records with responses, whose prompts fit a row")
    rewards = [np.full(len(group.responses), np.nan, np.float32) for group in distinct.groups]
    for rows, values in score_packed(model, packed, rows_at_once=rows_at_once, journal=journal, name=name):
        for row, slot in zip(*np.nonzero(rows.groups >= 0), strict=True):
            rewards[rows.groups[row, slot]][rows.responses[row, slot]] = values[row, slot]
    # What was refused is NaN, too: a model that gives it must not pass for that.
    check_rewards([distinct.groups[item.index] for item in items], [rewards[item.index] for item in items])
    flags = distinct.spread(cut)
    truncated = sum(int(some.sum()) for some in flags)
    equal = sum(
        int(as_cut[c.left] == as_cut[c.right])
        for group, as_cut in zip(groups, distinct.spread(same), strict=True)
        for c in group.comparisons
    )
    return Scores(distinct.spread(rewards), truncated, *count_tokens(model, packed, rows_at_once), equal, flags)


def share_beginning(item: TokenizedGroup) -> TokenizedGroup:
    """Move what all responses of a group begin with into its prompt: every token sees what it saw, at the same place.

    A last token of its own is left to each, which is the one that is scored. Edits and solutions begin alike.
    """
    if len(item.responses) < 2:
        return item
    same = common_beginning(item.responses, min(map(len, item.responses)) - 1)
    return dataclasses.replace(
        item, prompt=[*item.prompt, *item.responses[0][:same]], responses=[ids[same:] for ids in item.responses]
    )


def _equal_once_cut(item: TokenizedGroup, cut: np.ndarray, room: int) -> np.ndarray:
    """Return of each response the first that is the same as it once both are cut; itself where there is none."""
    first: dict[tuple[int, ...], int] = {}
    same = np.arange(len(item.responses))
    for r in np.flatnonzero(cut):
        same[r] = first.setdefault(tuple(cut_to(item.responses[r], room, item.ending)), int(r))
    return same


def check_rewarding(model: RewardModel) -> None:
    """Raise CromeError where a model gives no rewards."""
    if model.pairwise:
        raise CromeError(NO_REWARDS)


def score_packed(
    model: RewardModel, packed: Sequence[Rows], *, rows_at_once: int, journal: ScoreJournal | None, name: str
) -> Iterator[tuple[Rows, np.ndarray]]:
    """Run a model over rows of several shapes; yields each with its scores by slot, [N, R].

    Args:
        rows_at_once, journal, name: as of `score_groups`.
    """
    scorer = make_scorer(model.cfg, model.mesh, model.dtype)
    progress = Progress(name, sum(rows.batch.tokens.size for rows in packed), "token")
    for rows in packed:
        at_once = _rows_at_once(rows_at_once, rows, model.shape)
        yield (
            rows,
            score_rows(
                scorer,
                model.params,
                rows,
                model.mesh,
                rows_at_once=at_once,
                journal=journal,
                progress=progress,
            ),
        )
    progress.close()


def count_tokens(model: RewardModel, packed: Sequence[Rows], rows_at_once: int) -> tuple[int, int]:
    """Return how many real tokens `score_packed` encodes, and how many it computes besides."""
    real = sum(rows.real_tokens for rows in packed)
    computed = 0
    for rows in packed:
        n, length = rows.batch.tokens.shape
        size = _batch_size(_rows_at_once(rows_at_once, rows, model.shape), n, model.mesh)
        computed += math.ceil(n / size) * size * length
    return real, computed - real


def row_shapes(shape: RowShape) -> list[RowShape]:
    """Return the shapes of rows that are packed, the shortest first."""
    shapes = [shape]
    while shapes[0].tokens >= 2 * _SHORTEST_ROW:
        shapes.insert(0, dataclasses.replace(shapes[0], tokens=shapes[0].tokens // 2))
    return shapes


def _rows_at_once(rows_at_once: int, rows: Rows, shape: RowShape) -> int:
    """Return how many rows go into one call: accelerators get as many tokens whatever the length of rows."""
    length = rows.batch.tokens.shape[1]
    if jax.default_backend() == "cpu":
        return max(1, min(rows_at_once, _CPU_TOKENS // length))
    return rows_at_once * shape.tokens // length


def pack_for_scoring(
    groups: Sequence[PreferenceGroup],
    tokenizer: Tokenizer,
    shape: RowShape,
    *,
    on_bad: Callable[[PreferenceGroup, DataError], None] | None = None,
    name: str | None = None,
) -> Rows:
    """Pack groups so that every response is placed once; comparisons do not matter for it. The rest is pack_groups'.

    `equal` of the rows counts the comparisons whose answers are equal once cut, so that no model can tell them apart.
    """
    alone = [dataclasses.replace(group, comparisons=()) for group in groups]
    rows = pack_groups(alone, tokenizer, shape, every_response=True, on_bad=on_bad, name=name)
    return dataclasses.replace(rows, equal=_count_equal(rows, groups)) if rows.truncated else rows


def _count_equal(rows: Rows, groups: Sequence[PreferenceGroup]) -> int:
    """Count the comparisons of packed groups whose answers have the same tokens in their rows."""
    texts: dict[tuple[int, int], bytes] = {}
    for row, slot in zip(*np.nonzero(rows.groups >= 0), strict=True):
        tokens = rows.batch.tokens[row][rows.batch.response_ids[row] == slot + 1]
        texts[int(rows.groups[row, slot]), int(rows.responses[row, slot])] = tokens.tobytes()
    return sum(
        (g, c.left) in texts and texts[g, c.left] == texts[g, c.right]
        for g, group in enumerate(groups)
        for c in group.comparisons
    )


def score_rows(
    scorer: Callable,
    params: Params,
    rows: Rows,
    mesh: Mesh,
    *,
    rows_at_once: int = 8,
    hidden: np.ndarray | None = None,
    name: str = "score",
    journal: ScoreJournal | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Run the model over packed rows.

    Args:
        scorer: from make_scorer.
        rows_at_once: rows in one call of the model, at most, rounded up to what the mesh divides.
        hidden: [N, T, D]; what enters the first trained layer, where it was computed ahead.
        journal: where batches are kept as they are done, and found by a run that resumes.
        progress: that counts the tokens of rows of several shapes; None shows the rows of these.

    Returns:
        [N, R] rewards by slot, in nats.
    """
    n, length = rows.batch.tokens.shape
    rows_at_once = _batch_size(rows_at_once, n, mesh)
    values = np.zeros(rows.groups.shape, np.float32)
    own = Progress(name, n, "row") if progress is None else None
    for start in range(0, n, rows_at_once):
        # The last rows are scored again rather than compiling for a smaller batch.
        at = np.minimum(np.arange(start, start + rows_at_once), n - 1)
        key = _batch_key(rows, at) if journal else ""
        known = journal and journal.find(key)
        if known is None:
            batch = {field: getattr(rows.batch, field)[at] for field in FIELDS}
            if hidden is not None:
                batch["hidden"] = hidden[at]
            mine = rows_of_process(mesh, rows_at_once)
            scored = scorer(params, put({field: value[mine] for field, value in batch.items()}, mesh))
            known = np.asarray(scored if jax.process_count() == 1 else process_allgather(scored, tiled=True))
            if journal:
                journal.add(key, known)
        values[at] = known
        done = min(start + rows_at_once, n)
        if own:
            own.update(done)
        else:
            progress.advance((done - start) * length)
    if own:
        own.close()
    return values


def _batch_size(rows_at_once: int, rows: int, mesh: Mesh) -> int:
    """Return how many of some rows go into one call: few are not filled up to a whole batch."""
    # To a power of two, so that few sizes are compiled.
    wanted = min(rows_at_once, 1 << (rows - 1).bit_length())
    return math.ceil(wanted / row_shards(mesh)) * row_shards(mesh)


def _batch_key(rows: Rows, at: np.ndarray) -> str:
    """Return what a batch is found by in a journal: what is computed, whatever else there is to score."""
    fields = (rows.batch.tokens, rows.batch.positions, rows.batch.group_ids, rows.batch.response_ids)
    content = hashlib.sha256()
    for field in (*fields, rows.batch.response_ends):
        content.update(np.ascontiguousarray(field[at]).tobytes())
    return f"{len(at)}x{fields[0].shape[1]}/{content.hexdigest()[:32]}"


def gather_rewards(rows: Rows, values: np.ndarray, groups: Sequence[PreferenceGroup]) -> list[np.ndarray]:
    """Bring rewards from row slots back to groups."""
    out = [np.full(len(group.responses), np.nan, np.float32) for group in groups]
    for row, slot in zip(*np.nonzero(rows.groups >= 0), strict=True):
        out[rows.groups[row, slot]][rows.responses[row, slot]] = values[row, slot]
    return out
