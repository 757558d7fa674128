"""Hidden states below the first trained layer, computed once and read ever after.

Frozen layers give the same output at every epoch, for every hyper-parameter and every method: on a small machine they
are most of the work of a step, and none of it need be done twice.
"""

import math
import shutil
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from crome_jax.batch import FIELDS
from crome_jax.data.loading import put
from crome_jax.data.packing import Rows
from crome_jax.errors import CromeError
from crome_jax.models.config import DecoderConfig
from crome_jax.models.decoder import trunk
from crome_jax.models.weights import Params
from crome_jax.training.mesh import row_shards


def make_trunk(cfg: DecoderConfig, dtype: DTypeLike = jnp.float32) -> Callable:
    """Build the jitted (frozen, batch) -> hidden states [B, T, D]."""
    return jax.jit(lambda frozen, batch: trunk(frozen, batch, cfg, dtype))


def precompute_hidden(
    rows: Rows,
    frozen: Params,
    run_trunk: Callable,
    mesh: Mesh,
    *,
    width: int,
    rows_at_once: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Run the frozen layers over every row.

    Args:
        run_trunk: from make_trunk.
        width: D.
        rows_at_once: rows in one call, rounded up to what the mesh divides.
        on_progress: called with (rows done, rows).

    Returns:
        [N, T, D] float32, mapped from a temporary file that vanishes with the process.

    Raises:
        CromeError: where the disk of temporary files has no room for it.
    """
    n, t = rows.batch.tokens.shape
    _check_room(4 * n * t * width)
    rows_at_once = math.ceil(rows_at_once / row_shards(mesh)) * row_shards(mesh)
    with tempfile.TemporaryFile(prefix="crome-hidden-") as file:  # The mapping outlives the file's handle.
        hidden = np.memmap(file, np.float32, "w+", shape=(n, t, width))
    for start in range(0, n, rows_at_once):
        # The last rows are computed again rather than compiling for a smaller batch.
        at = np.minimum(np.arange(start, start + rows_at_once), n - 1)
        batch = put({name: getattr(rows.batch, name)[at] for name in FIELDS}, mesh)
        part = np.asarray(run_trunk(frozen, batch), np.float32)
        hidden[at] = part
        on_progress(min(start + rows_at_once, n), n)
    return hidden


def _check_room(size: int) -> None:
    # Writing to a mapped file on a full disk is no error that could be caught: it kills the process.
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise CromeError(
            f"{folder}: the frozen layers' output takes {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; set TMPDIR "
            "to a folder with more room, or set cache_frozen to False"
        )
