"""Hidden states below the first trained layer, computed once and read ever after.

Frozen layers give the same output at every epoch, for every hyper-parameter and every method: on a small machine they
are most of the work of a step, and none of it need be done twice.
"""

import hashlib
import itertools
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from crome_jax.batch import FIELDS, Batch
from crome_jax.data.loading import put
from crome_jax.data.packing import Rows
from crome_jax.errors import CromeError
from crome_jax.files import unwritable
from crome_jax.models.config import DecoderConfig
from crome_jax.models.decoder import trunk
from crome_jax.models.weights import Params
from crome_jax.training.mesh import Attention, execution_on, row_shards


def make_trunk(
    cfg: DecoderConfig, mesh: Mesh, dtype: DTypeLike = jnp.float32, attention: Attention = "auto"
) -> Callable:
    """Build the jitted (frozen, batch) -> hidden states [B, T, D], computed as the mesh does."""
    how = execution_on(mesh, attention, gradient=False)
    return jax.jit(lambda frozen, batch: trunk(frozen, batch, cfg, dtype, how))


class KnownHidden:
    """What the frozen layers gave for texts before: the same, to rounding, in whatever row a text stands.

    A prompt's hidden states depend on the prompt alone, a response's on its prompt and itself. Methods that are
    compared train on the same prompts and answers, packed otherwise; they are encoded once.
    """

    def __init__(self):
        self._places: dict[bytes, tuple[np.ndarray, slice]] = {}

    def add(self, rows: Rows, hidden: np.ndarray, which: Iterable[int]) -> None:
        """Remember the output for every text of some of the rows."""
        for row in which:
            there = hidden[row]
            for text, span in texts_of(rows.batch, row):
                self._places.setdefault(text, (there, span))

    def fill(self, rows: Rows, row: int, into: np.ndarray) -> bool:
        """Write a row's hidden states [T, D], where all of its texts are known; return whether they are."""
        texts = list(texts_of(rows.batch, row))
        if not all(text in self._places for text, _ in texts):
            return False
        for text, span in texts:
            hidden, there = self._places[text]
            into[span] = hidden[there]
        return True


def texts_of(batch: Batch, row: int) -> Iterator[tuple[bytes, slice]]:
    """Yield every prompt, and every response under its prompt: the sha256 of its tokens, and where in the row it is."""
    tokens, groups, responses = batch.tokens[row], batch.group_ids[row], batch.response_ids[row]
    starts = np.flatnonzero(np.diff(groups, prepend=0) | np.diff(responses, prepend=0))
    prompt = b""
    for start, end in itertools.pairwise((*starts, len(tokens))):
        if not groups[start]:
            continue
        text = tokens[start:end].tobytes()
        if not responses[start]:
            prompt = text
        of = hashlib.sha256(len(prompt).to_bytes(8, "big") + prompt + (text if responses[start] else b""))
        yield of.digest(), slice(int(start), int(end))


def precompute_hidden(
    rows: Rows,
    frozen: Params,
    run_trunk: Callable,
    mesh: Mesh,
    *,
    width: int,
    rows_at_once: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    known: KnownHidden | None = None,
) -> tuple[np.ndarray, int]:
    """Run the frozen layers over every row.

    Args:
        run_trunk: from make_trunk.
        width: D.
        rows_at_once: rows in one call, rounded up to what the mesh divides.
        on_progress: called with (rows done, rows).
        known: rows that it can fill are not computed; what is computed is added to it.

    Returns:
        [N, T, D] float32, mapped from a temporary file that vanishes with the process, and how many tokens went through
        the layers. Padding of rows that were not computed is 0.

    Raises:
        CromeError: where the disk of temporary files has no room for it, or cannot be written.
    """
    n, t = rows.batch.tokens.shape
    _check_room(4 * n * t * width)
    rows_at_once = math.ceil(rows_at_once / row_shards(mesh)) * row_shards(mesh)
    try:
        with tempfile.TemporaryFile(prefix="crome-hidden-") as file:  # The mapping outlives the file's handle.
            hidden = np.memmap(file, np.float32, "w+", shape=(n, t, width))
    except OSError as e:
        raise unwritable(tempfile.gettempdir(), e) from None
    todo = np.array([row for row in range(n) if known is None or not known.fill(rows, row, hidden[row])], np.int32)
    for start in range(0, len(todo), rows_at_once):
        # The last rows are computed again rather than compiling for a smaller batch.
        at = todo[np.minimum(np.arange(start, start + rows_at_once), len(todo) - 1)]
        # No attributes, which only metrics read: rows with and without them would be compiled for apart.
        batch = put({name: getattr(rows.batch, name)[at] for name in FIELDS}, mesh)
        hidden[at] = np.asarray(run_trunk(frozen, batch), np.float32)
        if known is not None:
            known.add(rows, hidden, todo[start : start + rows_at_once])
        on_progress(n - max(len(todo) - start - rows_at_once, 0), n)
    return hidden, int((rows.batch.group_ids[todo] > 0).sum())


def _check_room(size: int) -> None:
    # Writing to a mapped file on a full disk is no error that could be caught: it kills the process.
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise CromeError(
            f"{folder}: the frozen layers' output takes {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; set TMPDIR "
            "to a folder with more room, or set cache_frozen to False"
        )
