"""A toy task and the tiny decoder that several tests train on it, as token ids and as text."""

import contextlib
import functools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding

from crome_jax.batch import FIELDS, Batch
from crome_jax.data.loading import put
from crome_jax.data.packing import RowShape, TokenizedGroup, pack
from crome_jax.errors import DataError
from crome_jax.groups import Comparison, Kind, Message, PreferenceGroup, Response
from crome_jax.models import weights
from crome_jax.models.config import tiny
from crome_jax.objectives.crome import crome
from crome_jax.training.mesh import make_mesh, weight_shardings
from crome_jax.training.optimizer import adamw
from crome_jax.training.preemption import Preemption
from crome_jax.training.step import TrainState, init_state, make_train_step


def token_groups(n: int, seed: int = 0) -> list[TokenizedGroup]:
    """Draw groups of two to four responses, the first preferred, in comparisons of all three kinds.

    What makes it preferred is that it ends with token 7.
    """
    rng = np.random.default_rng(seed)
    groups = []
    for index in range(n):
        responses = [rng.integers(10, 64, rng.integers(2, 9)).tolist() for _ in range(rng.integers(2, 5))]
        responses[0][-1] = 7
        right = np.arange(1, len(responses), dtype=np.int32)
        groups.append(
            TokenizedGroup(
                index=index,
                prompt=rng.integers(10, 64, rng.integers(2, 7)).tolist(),
                responses=responses,
                left=np.zeros_like(right),
                right=right,
                kind=right - 1,
                target=np.ones(len(right), np.float32),
                weight=rng.uniform(0.5, 2.0, len(right)).astype(np.float32),
                margin=np.zeros(len(right), np.float32),
                attributes=[("", ("factuality", "order")[index % 2], "")[k] for k in right - 1],
            )
        )
    return groups


def text_groups(n: int, seed: int = 0) -> list[PreferenceGroup]:
    """Draw groups of two to four responses of which the first is preferred to the second, as human and as causal."""
    rng = np.random.default_rng(seed)
    words = ["river", "stone", "lamp", "cloud", "paper", "wheel", "garden", "violin", "copper", "winter"]
    phrase = lambda low, high: " ".join(rng.choice(words, rng.integers(low, high)))  # noqa: E731
    return [
        PreferenceGroup(
            id=f"toy-{index}",
            prompt=(Message("user", f"Say {phrase(1, 4)}"),),
            responses=tuple(
                Response(f"{'Gladly' if r == 0 else 'No'} {r}: {phrase(2, 9)}.") for r in range(rng.integers(2, 5))
            ),
            comparisons=(Comparison(0, 1), Comparison(1, 0, target=0.0, kind=Kind.CAUSAL, weight=0.5)),
        )
        for index in range(n)
    ]


class WordTokenizer:
    """One token a word, of the 64 of the toy task: reading a real vocabulary takes seconds."""

    fingerprint = "words"
    ending = (6,)

    def encode_prompt(self, prompt: Sequence[Message]) -> list[int]:
        """Encode a prompt; refuse what a chat template might refuse."""
        if prompt[0].role == "assistant":
            raise DataError("starts with the assistant's turn", field="prompt")
        return [8, *self._encode(prompt[-1].content), 9]

    def encode_response(self, response: str) -> list[int]:
        """Encode a response, with a last token of its own."""
        return [*self._encode(response), 6]

    def encode_between(self, request: str) -> list[int]:
        """Encode what stands between two answers."""
        return [8, *self._encode(request), 9]

    def _encode(self, text: str) -> list[int]:
        return [10 + zlib.crc32(word.encode()) % 54 for word in text.split()]


CFG = tiny(layers=2, vocab_size=64)
ROWS = pack(token_groups(48), RowShape(48, 8, 8))
OPTIMIZER = adamw(steps=40, learning_rate=1e-2, weight_decay=0.0)
ONE = (1, 1, 1)


def mesh_of(*sizes: int) -> Mesh:
    """Make a mesh of the first devices."""
    return make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])


@contextlib.contextmanager
def holding(devices: Iterable[jax.Device]) -> Iterator[None]:
    """Make all devices but these another process's, as far as arrays are placed."""
    mine, whole = {*devices}, NamedSharding.addressable_devices_indices_map
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            NamedSharding,
            "addressable_devices_indices_map",
            lambda self, shape: {d: i for d, i in whole(self, shape).items() if d in mine},
        )
        yield


def batch(mesh: Mesh, first: int = 0, **changes: np.ndarray) -> Batch:
    """Place eight rows on the mesh."""
    at = np.arange(first, first + 8)
    return put({**{name: getattr(ROWS.batch, name)[at] for name in (*FIELDS, "attribute")}, **changes}, mesh)


@functools.cache
def host_params(trainable: weights.Trainable) -> weights.Params:
    """Draw weights, the head too, on the host."""
    params = jax.tree.map(np.asarray, weights.init_params(CFG, jax.random.key(0), trainable))
    return {**params, "head": np.random.default_rng(1).normal(size=CFG.width).astype(np.float32)}


def start(mesh: Mesh, trainable: weights.Trainable = 1, **changes: np.ndarray) -> tuple[TrainState, weights.Params]:
    """Return the state before the first step, and the frozen weights."""
    params = {**host_params(trainable), **changes}
    params = jax.tree.map(jax.device_put, params, weight_shardings(weights.declare(CFG, trainable), mesh))
    trained, frozen = weights.partition(params, trainable)
    return init_state(trained, OPTIMIZER), frozen


def step_on(sizes: tuple[int, ...] = ONE, trainable: weights.Trainable = 1, **options: Any) -> Callable:
    """Return the step for weights cut as `trainable` says, always the same one: compiling it takes seconds."""
    return _make_step(sizes, trainable, **options)


@functools.cache
def _make_step(sizes, trainable, **options):
    return make_train_step(CFG, crome, OPTIMIZER, mesh_of(*sizes), **options)


class AsksAt(Preemption):
    """Asks to end at one of its askings, and from then on."""

    def __init__(self, asking: int):
        super().__init__()
        self.left = asking

    def __call__(self) -> bool:
        self.left -= 1
        if self.left == 0:
            self._ask()
        return super().__call__()
