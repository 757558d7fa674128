"""Take one training step on one row in a process of its own, and print what it took as JSON.

python -m benchmarks.long_row.step TOKENS TRAINABLE REMAT [--compile]
"""

import argparse
import json
import time
from typing import Any

import jax
import numpy as np

from benchmarks.imports.memory import peak
from crome_jax.batch import FIELDS
from crome_jax.data.loading import put
from crome_jax.data.packing import Rows, RowShape, TokenizedGroup, pack
from crome_jax.models.execution import Remat
from crome_jax.models.weights import Trainable
from crome_jax.objectives.crome import crome
from crome_jax.training.mesh import make_mesh
from crome_jax.training.optimizer import adamw
from crome_jax.training.placing import place_params
from crome_jax.training.step import init_state, make_train_step
from crome_jax.weights.backbones import load_backbone

_PART = 192
"""Tokens of a prompt and of each answer: a group of a prompt and four answers takes 960."""
_ANSWERS = 4


def measure(
    tokens: int, trainable: Trainable, remat: Remat, backbone: str = "smollm2-135m", *, run: bool = True
) -> dict[str, Any]:
    """Train on one row of so many tokens for one step, in float32.

    Args:
        run: False compiles it only.

    Returns:
        Seconds of compiling and of the step, the step's loss in nats, the row's real tokens, the most bytes that the
        process held, and those that XLA says the step takes beside what is given and returned. What only a run tells is
        left out where it is not run: the most bytes are then those before the step.
    """
    base = load_backbone(backbone, trainable)
    mesh = make_mesh(devices=jax.devices()[:1])
    trained, frozen = place_params(base, trainable, mesh)
    optimizer = adamw(steps=10)
    state = init_state(trained, optimizer)
    rows = fill_row(tokens, base.cfg.vocab_size)
    batch = put({name: getattr(rows.batch, name)[:1] for name in FIELDS}, mesh)
    started = time.monotonic()
    step = make_train_step(base.cfg, crome, optimizer, mesh, remat=remat)
    compiled = step.compiled(state).lower(state, frozen, batch, {}).compile()
    begun = time.monotonic()
    taken = {"compiling": begun - started, "temporary": compiled.memory_analysis().temp_size_in_bytes}
    if run:
        state, metrics = compiled(state, frozen, batch, {})
        taken |= {"loss": float(metrics["loss"]), "tokens": float(metrics["tokens"]), "step": time.monotonic() - begun}
    return taken | {"peak": peak()}


def fill_row(tokens: int, vocab_size: int) -> Rows:
    """Pack groups of tokens drawn at random into one row: what they say changes neither time nor memory."""
    rng = np.random.default_rng(0)
    drawn = lambda: rng.integers(0, vocab_size, _PART).tolist()  # noqa: E731
    right = np.arange(1, _ANSWERS, dtype=np.int32)
    ones = np.ones(len(right), np.float32)
    groups = [
        TokenizedGroup(
            index=index,
            prompt=drawn(),
            responses=[drawn() for _ in range(_ANSWERS)],
            left=np.zeros_like(right),
            right=right,
            kind=np.zeros_like(right),
            target=ones,
            weight=ones,
            margin=np.zeros_like(ones),
        )
        for index in range(tokens // (_PART * (1 + _ANSWERS)))
    ]
    return pack(groups, RowShape(tokens))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tokens", type=int)
    parser.add_argument("trainable", type=lambda text: int(text) if text.isdigit() else text)
    parser.add_argument("remat")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    print(json.dumps(measure(args.tokens, args.trainable, args.remat, run=not args.compile)))
