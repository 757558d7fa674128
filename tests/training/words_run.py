"""A run of a toy model that reads words: a real vocabulary takes seconds. As a program it is one of two processes:

python words_run.py DATA RUN STEPS HELD_OUT [HOST:PORT I]

Without an address SLURM's environment says who takes part.
"""

import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]


def train_words(data: Path | str, run: Path | str, steps: int, **options: Any) -> None:
    """Train up to so many steps on two devices, be they of one process or of two, saving every second."""
    from toy import CFG, WordTokenizer, host_params, mesh_of  # It asks for a device, which only who joined may do.

    from crome_jax.data.packing import RowShape
    from crome_jax.training.train import train
    from crome_jax.weights.backbones import Backbone
    from crome_jax.weights.sources import HeldSource

    params = host_params(1)
    base = Backbone("tiny", CFG, 1, HeldSource(params), {"head": params["head"]}, WordTokenizer(), "words")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crome_jax.training.train.load_backbone", lambda *_, **__: base)
        train(
            data=str(data), out=str(run), backbone="tiny", trainable=1, row_shape=RowShape(48, 6, 6), steps=steps,
            rows_per_step=4, log_every=1, checkpoint_every=2, mesh=lambda: mesh_of(1, 2, 1), **options,
        )  # fmt: skip


if __name__ == "__main__":
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    from crome_jax.training.processes import Cluster, ends_with_the_others, join, wait_for_all

    data, run, last, held_out, *address = sys.argv[1:]
    if address:
        join("flags", cluster=Cluster(address[0], 2, int(address[1])))
    else:
        join("slurm")
    with ends_with_the_others():
        train_words(data, run, int(last), validation=held_out, keep_best="loss")
        wait_for_all("done")
