"""Adapters: merged and beside, by hand, and what trains with them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import plain_batch, relative

from crome_jax.models import lora, weights
from crome_jax.models.config import LORA_TARGETS, Lora, tiny
from crome_jax.models.decoder import hidden_states, rewards, score

BATCH = plain_batch(np.random.default_rng(0).integers(0, 64, (2, 11)))


def some_params(cfg, trainable="all"):
    """Draw weights, B and the head at random, too: at zero they would hide a mistake."""
    params = weights.init_params(cfg, jax.random.key(0), trainable)
    keys = iter(jax.random.split(jax.random.key(1), 100))
    adapters = jax.tree.map(lambda w: 0.3 * jax.random.normal(next(keys), w.shape), params["adapters"])
    return params | {"adapters": adapters, "head": jax.random.normal(next(keys), (cfg.width,))}


def config(targets=LORA_TARGETS, **changes):
    return tiny(vocab_size=64, lora=Lora(rank=3, alpha=5.0, targets=targets), **changes)


@pytest.mark.parametrize(
    ("cfg", "trainable"),
    [
        pytest.param(config(), "all", marks=pytest.mark.slow),
        pytest.param(config(), 2, marks=pytest.mark.slow),
        (config(("q", "v")), 1),
        (config(("o", "down"), qkv_bias=True), "all"),
        pytest.param(
            config(layers=7, pattern=("local", "local", "global"), window=4, post_norms=True, qk_norm=True),
            6,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_merged_is_beside(cfg, trainable):
    params = some_params(cfg, trainable)
    merged, plain = lora.merge(params, cfg)
    assert plain == dataclasses.replace(cfg, lora=None)
    assert jax.tree.structure(merged) == jax.tree.structure(weights.init_params(plain, jax.random.key(0), trainable))
    run = jax.jit(
        lambda params, cfg: (hidden_states(params, BATCH, cfg), rewards(params, BATCH, cfg)), static_argnums=1
    )
    for ours, theirs in zip(run(params, cfg), run(merged, plain), strict=True):
        assert relative(ours, theirs) < 1e-5
    without = {name: value for name, value in params.items() if name != "adapters"}
    assert relative(run(without, plain)[1], run(merged, plain)[1]) > 0.01


def test_one_adapter_by_hand():
    # x = (1, 2), A = (3, 4): A x = 11. B = (5, 6), alpha / rank = 2 / 1: 2 * 11 * (5, 6) = (110, 132).
    layer = {"up_a": jnp.array([[3.0], [4.0]]), "up_b": jnp.array([[5.0, 6.0]])}
    one = Lora(rank=1, alpha=2.0, targets=("up",))
    found = lora.adapt(layer, "up", jnp.array([[1.0, 2.0]]), one, jnp.float32)
    np.testing.assert_array_equal(found, [[110.0, 132.0]])
    stacked = jax.tree.map(lambda w: w[None], layer)
    # W gains 2 A B = 2 ((15, 18), (20, 24)).
    np.testing.assert_array_equal(lora.product(stacked, "up", one), [[[30.0, 36.0], [40.0, 48.0]]])


def test_adapters_start_without_effect_and_cost_what_they_are_declared_as():
    cfg = config()
    params = weights.init_params(cfg, jax.random.key(0), 2) | {"head": jnp.ones(cfg.width)}
    plain = dataclasses.replace(cfg, lora=None)
    without = {name: value for name, value in params.items() if name != "adapters"}
    np.testing.assert_array_equal(rewards(params, BATCH, cfg), rewards(without, BATCH, plain))
    # r (inputs + outputs) for each matrix: q, k, v, o, gate, up, down of the two upper layers.
    d, h, k, f = cfg.width, cfg.heads * cfg.head_width, cfg.kv_heads * cfg.head_width, cfg.ffn_width
    expected = 2 * 3 * ((d + h) + 2 * (d + k) + (h + d) + 3 * (d + f))
    assert weights.count(weights.declare_adapters(cfg, 2)) == expected
    trained, frozen = weights.partition(params, 2)
    assert set(trained) == {"adapters", "head"}
    assert set(frozen) == {"embed", "lower", "upper", "last", "final_norm"}


def test_dropout_is_right_on_average_and_off_without_a_key():
    cfg = dataclasses.replace(config(), lora=Lora(rank=3, alpha=5.0, dropout=0.4))
    layer = {"up_a": jnp.ones((50, 3)), "up_b": jnp.ones((3, 2)), "dropout_key": jax.random.key(0)}
    x = jnp.ones((2000, 50))
    dropped = lora.adapt(layer, "up", x, cfg.lora, jnp.float32)
    assert relative(dropped.mean(), jnp.array(3 * 50 * 5 / 3)) < 0.01  # 2000 x 50 draws: 0.3% off is one deviation
    assert float(dropped.std()) > 10
    params = some_params(cfg)
    run = jax.jit(lambda key: score(params, BATCH, cfg, dropout_key=key).rewards)
    with_key = [run(jax.random.key(i)) for i in (1, 1, 2)]
    np.testing.assert_array_equal(with_key[0], with_key[1])
    assert relative(with_key[2], with_key[0]) > 0.01
    np.testing.assert_allclose(score(params, BATCH, cfg).rewards, rewards(params, BATCH, config()), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"targets": ("q", "embed")}, "targets is .*give some of q, k, v, o"),
        ({"targets": ("q", "q")}, "each once"),
        ({"targets": ()}, "targets is"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_what_makes_no_sense_is_named(changes, problem):
    with pytest.raises(ValueError, match=problem):
        Lora(**changes)


def test_adapters_want_a_layer():
    with pytest.raises(ValueError, match="leaves adapters no layer"):
        weights.declare(config(), "head")
