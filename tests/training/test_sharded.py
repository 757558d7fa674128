"""Sharded = unsharded: what every family learns on eight devices, however they are laid out, it learns on one."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from toy import ONE, OPTIMIZER, batch, mesh_of

from crome_jax.errors import CromeError
from crome_jax.models import weights
from crome_jax.models.presets import PRESETS
from crome_jax.objectives.crome import crome
from crome_jax.training.mesh import make_mesh, weight_shardings
from crome_jax.training.step import init_state, make_train_step


def shrink(cfg):
    """Return a published size's decoder, small: what distinguishes its family stays."""
    return dataclasses.replace(
        cfg,
        vocab_size=64,
        width=32,
        layers=3,
        pattern=cfg.pattern[-2:],
        heads=4,
        kv_heads=min(cfg.kv_heads, 2),
        head_width=8,
        ffn_width=64,
        window=cfg.window and 5,
        rope_base=1e4,
        norm_eps=1e-6,
        rope_factor=min(cfg.rope_factor, 8.0),
        rope_trained=cfg.rope_trained and 16,
        query_scale=cfg.query_scale and 12**-0.5,
        embedding_scale=cfg.embedding_scale if cfg.embedding_scale == 1 else 32**0.5,
    )


SMALL = {shrink(preset.cfg): name for name, preset in reversed(PRESETS.items())}
"""Every published size comes down to one of these; of equals the name is the first's."""

FAMILIES = {name: cfg for cfg, name in SMALL.items()}


@functools.cache
def host_params(name):
    params = jax.tree.map(np.asarray, weights.init_params(FAMILIES[name], jax.random.key(0)))
    rng = np.random.default_rng(1)
    # What starts at zero, or one, is drawn: a mistake in it would not show.
    return jax.tree.map(lambda w: w + rng.normal(size=w.shape).astype(np.float32) * 0.1, params)


@functools.cache
def train(name, sizes=ONE):
    """Return the weights after two steps, and each step's metrics."""
    cfg, mesh = FAMILIES[name], mesh_of(*sizes)
    shardings = weight_shardings(weights.declare(cfg), mesh)
    state = init_state(jax.tree.map(jax.device_put, host_params(name), shardings), OPTIMIZER)
    step = make_train_step(cfg, crome, OPTIMIZER, mesh)
    history = []
    for number in range(2):
        state, metrics = step(state, {}, batch(mesh, number))
        history.append(jax.device_get(metrics))
    return jax.device_get(state.trained), history


SHAPES = [(1, 4, 1, 2), (1, 2, 2, 2), (2, 2, 2, 1), (1, 8, 1, 1), (4, 2, 1, 1)]
"""data x fsdp x tensor x replica."""


def lies_on(name, sizes):
    """Tell whether a tensor axis of this size has key heads for each of its devices."""
    return FAMILIES[name].kv_heads % sizes[2] == 0


def shapes_of(name):
    """Return three shapes: with a tensor axis where there are heads for it, else others."""
    return [sizes for sizes in SHAPES if lies_on(name, sizes)][:3]


CASES = [
    pytest.param(name, sizes, marks=() if (name, sizes) == ("qwen3_0_6b", (1, 2, 2, 2)) else pytest.mark.slow)
    for name in FAMILIES
    for sizes in shapes_of(name)
]


def test_every_family_is_among_the_cases():
    assert {FAMILIES[name].family for name in FAMILIES} == {preset.cfg.family for preset in PRESETS.values()}


REFUSED = [(name, sizes) for name in FAMILIES for sizes in SHAPES if not lies_on(name, sizes)]


@pytest.mark.parametrize(("name", "sizes"), REFUSED)
def test_a_tensor_axis_without_a_key_head_for_each_device_is_refused_with_sizes_that_work(name, sizes):
    declared, kv_heads = weights.declare(FAMILIES[name]), FAMILIES[name].kv_heads
    refused = rf"kv_heads has {kv_heads} entries, not divisible by tensor = {sizes[2]}; use one of \[(.+)\]"
    with pytest.raises(CromeError, match=refused) as error:
        weight_shardings(declared, mesh_of(*sizes))
    for fit in re.search(refused, str(error.value))[1].split(", "):
        weight_shardings(declared, make_mesh(tensor=int(fit)))


def test_one_key_head_is_among_the_cases_and_meets_a_tensor_axis():
    alone = {name for name, cfg in FAMILIES.items() if cfg.kv_heads == 1}
    assert alone
    assert {name for name, _ in REFUSED} >= alone
    assert all(len(shapes_of(name)) == 3 for name in FAMILIES)


@pytest.mark.parametrize(("name", "sizes"), CASES)
def test_many_devices_equal_one(name, sizes):
    (trained, history), (alone, its_history) = train(name, sizes), train(name)
    started = host_params(name)
    for ours, theirs, before in zip(*map(jax.tree.leaves, (trained, alone, started)), strict=True):
        # Rounding of float32 additions in another order, against what the two steps changed; Adam divides by the
        # gradient's size, which enlarges it where that is next to nothing.
        assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs - before)
        assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)
    for ours, theirs in zip(history, its_history, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
