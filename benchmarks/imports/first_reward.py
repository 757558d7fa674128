"""Import one backbone in a process of its own, score two answers, and print what it took as JSON.

python -m benchmarks.imports.first_reward BACKBONE [--mesh FSDP TENSOR]
"""

import time

_STARTED = time.monotonic()  # Before any import: they are part of what a user waits for.

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
from typing import Any  # noqa: E402

from benchmarks.imports.memory import peak, reset_peak, resident  # noqa: E402


@dataclasses.dataclass
class Stages:
    """Seconds of each stage, wall and processor."""

    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    processor: dict[str, float] = dataclasses.field(default_factory=dict)
    _wall: float = _STARTED
    _cpu: float = 0.0

    def end(self, name: str) -> None:
        """End a stage: the time since the one before it is this one's."""
        wall, cpu = time.monotonic(), time.process_time()
        self.seconds[name], self.processor[name] = wall - self._wall, cpu - self._cpu
        self._wall, self._cpu = wall, cpu


class Metered:
    """A source of weights that takes down how much memory placing them holds beside what was placed before.

    Args:
        source: what it reads from.

    Attributes:
        shards: for each, (its bytes, the most bytes that were held beside what was placed before it).
    """

    def __init__(self, source: Any):
        self._source, self._start, self._placed = source, resident(), 0
        self.shards: list[tuple[int, int]] = []

    def read(self, name: str, layers: range | None, shape: tuple[int, ...], index: tuple[slice, ...]) -> Any:
        """Return a part of a weight."""
        self.end_shard()
        reset_peak()
        part = self._source.read(name, layers, shape, index)
        self.shards.append((part.nbytes, 0))
        return part

    def end_shard(self) -> None:
        """Take down the peak since the last shard was asked for, its copy to the device included."""
        if self.shards:
            size, _ = self.shards[-1]
            self.shards[-1] = size, peak() - self._start - self._placed
            self._placed += size


def measure(backbone: str, fsdp: int, tensor: int) -> dict[str, Any]:
    """Import and score, stage by stage."""
    stages, most = Stages(), 0
    import jax

    jax.devices()
    stages.end("Python and JAX")
    base_memory = peak()

    from crome_jax.data.packing import RowShape
    from crome_jax.evaluation.scoring import RewardModel, score_groups
    from crome_jax.groups import Message, PreferenceGroup, Response
    from crome_jax.models.weights import count, declare
    from crome_jax.training.mesh import make_mesh
    from crome_jax.training.placing import place_params
    from crome_jax.weights.backbones import load_backbone

    stages.end("crome_jax")
    most, imported = peak(), resident()
    base = load_backbone(backbone, 4)
    stages.end("numbers, tokenizer, SHA-256")
    most, before = max(most, peak()), resident()
    metered = Metered(base.source)
    mesh = make_mesh(fsdp=fsdp, tensor=tensor)
    trained, frozen = place_params(dataclasses.replace(base, source=metered), 4, mesh)
    metered.end_shard()
    stages.end("weights onto the mesh")
    start = before
    for size, held in metered.shards:
        most, start = max(most, start + held), start + size
    reset_peak()
    model = RewardModel({**frozen, **trained}, base.cfg, base.tokenizer, RowShape(512, 8, 8), mesh)
    answers = (Response("Four."), Response("Five, I think."))
    score_groups(model, [PreferenceGroup("one", (Message("user", "What is two and two?"),), answers, ())])
    stages.end("first reward")
    most = max(most, peak())
    weights = 4 * count(declare(base.cfg))
    largest = 4 * max(base.cfg.vocab_size * base.cfg.width, base.cfg.ffn_width * base.cfg.width)
    return {
        "seconds": stages.seconds,
        "processor": stages.processor,
        "weights": weights,
        "peak": most,
        "Python and JAX": base_memory,
        "imports": imported,
        "largest tensor": largest,
        "largest shard": max(size for size, _ in metered.shards),
        "shard and beside": max(held for _, held in metered.shards),
        "beside the shard": max(held - size for size, held in metered.shards),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    parser.add_argument("--mesh", type=int, nargs=2, default=(1, 1), metavar=("FSDP", "TENSOR"))
    args = parser.parse_args()
    devices = args.mesh[0] * args.mesh[1]
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    print(json.dumps(measure(args.backbone, *args.mesh)))
