"""The benchmark on imports, on a checkpoint of a few thousand numbers."""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from toy import mesh_of

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

from benchmarks.imports import __main__ as imports
from benchmarks.imports.checkpoint import write_checkpoint
from benchmarks.imports.exported import Apart, compare_exported
from benchmarks.imports.first_reward import Metered
from benchmarks.imports.memory import peak, reset_peak, resident
from crome_jax.models.config import tiny
from crome_jax.training.placing import place_params
from crome_jax.weights.backbones import load_backbone

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from Linux's /proc")


@linux
def test_the_checkpoint_is_read_shard_by_shard(tmp_path):
    cfg = tiny(family="qwen3", vocab_size=300, qk_norm=True)
    size = write_checkpoint(tmp_path, cfg, shard_bytes=30_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    base = load_backbone(str(tmp_path), 1)
    assert base.cfg == cfg
    assert base.heads["head"].any()
    metered = Metered(base.source)
    trained, frozen = place_params(dataclasses.replace(base, source=metered), 1, mesh_of(1, 2, 2))
    metered.end_shard()
    placed = sum(bytes_ for bytes_, _ in metered.shards) + base.heads["head"].nbytes
    assert placed == size == sum(w.nbytes for w in jax.tree.leaves({**trained, **frozen}))
    assert metered.shards[0][0] == 4 * 300 * 32 // 4  # The embedding, cut in four.
    np.testing.assert_array_equal(frozen["embed"], base.params["embed"])


@linux
def test_memory_that_was_held_and_let_go_is_in_the_peak():
    reset_peak()
    before = resident()
    np.ones(20_000_000).sum()  # 160 MB
    assert peak() - before > 140e6
    reset_peak()
    assert peak() - before < 100e6


def test_of_several_imports_the_fastest_counts(monkeypatch):
    taken = iter([({"a": 3.0, "b": 1.0}, 9), ({"a": 1.0, "b": 2.0}, 7), ({"a": 2.0, "b": 2.0}, 8)])
    monkeypatch.setattr(imports, "_first_reward", lambda _: dict(zip(("seconds", "peak"), next(taken), strict=True)))
    assert imports._fastest("one") == {"seconds": {"a": 1.0, "b": 2.0}, "peak": 9}
    assert imports._speed(64) > 0


def test_an_exported_model_is_scored_by_transformers_as_here(tmp_path):
    apart = compare_exported("tiny", tmp_path / "out")
    assert apart.texts == 16
    assert apart.worst < 1e-4
    assert apart.spread > 1e-3


def test_the_page_has_every_figure():
    figures = {
        "seconds": {"a": 1.0, "b": 2.5}, "processor": {"a": 0.5, "b": 2.0}, "weights": 10**8, "peak": 2 * 10**8,
        "Python and JAX": 10**7, "imports": 2 * 10**7, "largest tensor": 4 * 10**7, "largest shard": 3 * 10**7,
        "shard and beside": 5 * 10**7, "beside the shard": 2 * 10**7,
    }  # fmt: skip
    found = {"one": figures, "smollm2-135m": figures}
    apart = {"one": Apart(16, 2.5e-5, 1.234)}
    page = imports._render(
        {"date": "today"}, found, {"1 x 1": figures}, 10**9, apart, [("one", "1e-6", "2e-6", "", "")]
    )
    assert "| one | 16 | **2.5e-05** | 1.23 |" in page
    assert "| one | 1.0 (0.5) | 2.5 (2.0) | **3.5** (2.5) |  |" in page
    assert "| smollm2-135m | 1.0 (0.5) | 2.5 (2.0) | **3.5** (2.5) | below 12 |" in page
    assert "| one | 100 | 200 | **2.00** | 10 | 20 |" in page
    assert "| 1 x 1 | 30 | 50 | 20 | 40 | **0.50** |" in page
