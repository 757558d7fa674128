"""The benchmark of a training step: what it counts, and what it calls the limit."""

import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

from benchmarks.step.__main__ import Measured, find_chip, full_rows, measure, product_rate, render
from crome_jax.errors import CromeError
from crome_jax.models.config import tiny
from crome_jax.training.chips import CHIPS
from crome_jax.training.flops import step_flops


def test_rows_are_full_and_hold_every_comparison():
    rows = full_rows(tiny(), tokens=1024, rows=3)
    assert rows.batch.tokens.shape == (3, 1024)
    assert (rows.real_tokens, rows.truncated) == (3 * 1024, 0)
    assert (rows.batch.weight > 0).sum() == 3 * 2 * 3
    with pytest.raises(CromeError, match="--row-tokens 700: give a multiple of 512"):
        full_rows(tiny(), tokens=700, rows=1)


@pytest.mark.slow
def test_steps_are_timed_one_by_one():
    cfg = tiny()
    measured = measure(cfg, "all", full_rows(cfg, tokens=512, rows=8), steps=2, dtype="float32")
    assert len(measured.steps) == 2
    assert measured.compiling > measured.seconds > 0
    assert (measured.tokens, measured.comparisons) == (8 * 512, 8 * 3)
    assert measured.flops == step_flops(cfg, "all", rows=8, tokens=512, responses=4)


def test_a_products_rate_is_one_that_a_machine_can_have():
    assert 1e7 < product_rate(jnp.dtype("float32"), size=256, seconds=0.05) < 1e13


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v5p", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("cpu", None),
        ("NVIDIA A100-SXM4-40GB", None),
    ],
)
def test_accelerators_are_known_by_the_names_that_jax_gives_them(told, name):
    assert find_chip(told) == (CHIPS[name] if name else None)


def test_mfu_is_the_flop_that_are_needed_over_what_all_devices_could_do():
    measured = Measured(30.0, (2.0, 1.0, 4.0), 8192, 48, flops=989e12, product=700e12, memory=90_000_000_000)
    page = render({"date": "today"}, measured, CHIPS["h200"], devices=2)
    assert "| seconds of a step, median | 2.000 |" in page
    assert "| tokens/s | 4,096 |" in page
    assert "| comparisons/s | 24.0 |" in page
    assert "| MFU | 25.0% of 9.890e+14 a device, by its maker |" in page
    assert "| of a plain matrix product's | 35.3% of 7.000e+14 a device |" in page
    assert "| memory at the peak | 90.0 GB |" in page
    assert "| MFU | not known" in render({}, measured, None, devices=2)
