"""A base in few bits under adapters: its codes, its products and their gradients, and what it takes of memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import plain_batch, relative
from toy import mesh_of

from crome_jax.models import lora, weights
from crome_jax.models.config import LORA_TARGETS, Lora, tiny
from crome_jax.models.decoder import score
from crome_jax.models.quantized import block_of, dequantize, quantize, scales_shape, times
from crome_jax.training.mesh import weight_shardings
from crome_jax.weights.coded import place_base
from crome_jax.weights.sources import HeldSource

BASES = ("int8", "nf4")
ONE_QUICKLY = [pytest.param("int8", marks=pytest.mark.slow), "nf4"]
"""The base of four bits, which has all that the other has; both where there is time."""
BATCH = plain_batch(np.random.default_rng(0).integers(0, 64, (2, 11)))


def draw(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_int8_by_hand():
    # One block of two inputs for each output. A scale is the largest number over 127.5: 4 / 127.5 and 1 / 127.5.
    # 1 / (4 / 127.5) = 31.875 -> 32; -0.25 * 127.5 = -31.875 -> -32; the largest themselves are clipped to 127.
    found = quantize(jnp.array([[[4.0, -0.25], [1.0, 1.0]]]), "up", "int8")
    np.testing.assert_array_equal(found.codes, [[[127, -32], [32, 127]]])
    np.testing.assert_allclose(found.scales, [[[4 / 127.5, 1 / 127.5]]], rtol=1e-6)
    np.testing.assert_allclose(dequantize(found), [[[508 / 127.5, -32 / 127.5], [128 / 127.5, 127 / 127.5]]], rtol=1e-6)


def test_nf4_by_hand():
    # Its levels are those of the paper's appendix E, times the largest number of a block: -1, 0, 0.0796 and 1.
    found = quantize(jnp.array([[[2.0], [0.01], [0.15], [-2.0]]]), "up", "nf4")
    np.testing.assert_allclose(dequantize(found), [[[2.0], [0.0], [2 * 0.07958029955625534], [-2.0]]], rtol=1e-6)
    assert found.codes.dtype == jnp.uint4


@pytest.mark.parametrize(("base", "error"), [("int8", 0.007), ("nf4", 0.1)])
@pytest.mark.parametrize(("name", "shape"), [("up", (2, 128, 5)), ("q", (2, 96, 3, 8)), ("o", (2, 3, 80, 7))])
def test_a_block_of_inputs_has_a_scale_and_a_bounded_error(name, shape, base, error):
    matrix = draw(*shape)
    found = quantize(matrix, name, base)
    assert found.shape == shape
    assert found.scales.shape == scales_shape(name, shape)
    assert relative(dequantize(found), matrix) < error  # of normal numbers: 0.6% and 9%
    # A block that is 1024 times as large changes no other's codes.
    at, block = (2 if name == "o" else 1), block_of(shape[2 if name == "o" else 1])
    first = (slice(None),) * at + (slice(0, block),)
    larger = quantize(matrix.at[first].multiply(1024.0), name, base)
    np.testing.assert_array_equal(larger.codes, found.codes)


def test_blocks_divide_what_they_cut():
    assert [block_of(n) for n in (64, 576, 96, 7, 1, 127)] == [64, 64, 48, 7, 1, 1]


@pytest.mark.parametrize("base", BASES)
def test_a_product_and_its_gradient_are_those_of_what_the_codes_stand_for(base):
    matrix, x = quantize(draw(1, 64, 6), "up", base), draw(3, 64)
    one = jax.tree.map(lambda w: w[0], matrix)
    whole = dequantize(matrix)[0]
    np.testing.assert_allclose(times(x, one), x @ whole, rtol=1e-6)
    ours, theirs = (
        jax.grad(lambda x, f=f: jnp.sin(f(x)).sum())(x) for f in (lambda x: times(x, one), lambda x: x @ whole)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def over(base, trainable=2, **changes):
    cfg = tiny(vocab_size=64, lora=Lora(rank=3, alpha=5.0, base=base), **changes)
    params = weights.init_params(cfg, jax.random.key(0), trainable)
    adapters = jax.tree.map(lambda w: w + 0.1, params["adapters"])
    trained = {"adapters": adapters, "head": jax.random.normal(jax.random.key(1), (cfg.width,))}
    return cfg, params, trained


def placed(params, cfg, *mesh, trainable=2):
    declared = {k: v for k, v in weights.declare(cfg, trainable).items() if k not in ("adapters", "head")}
    mesh = mesh_of(*mesh)
    source = HeldSource({k: params[k] for k in declared})
    return place_base(declared, weights.layer_runs(cfg, trainable), source, weight_shardings(declared, mesh), cfg)


@pytest.mark.parametrize("base", ONE_QUICKLY)
def test_adapters_over_it_are_adapters_over_what_it_stands_for(base):
    cfg, params, trained = over(base)
    frozen = placed(params, cfg, 1, 1, 1)
    run = jax.jit(
        jax.value_and_grad(lambda trained, frozen, cfg: score({**frozen, **trained}, BATCH, cfg).rewards.sum()),
        static_argnums=2,
    )
    value, gradient = run(trained, frozen, cfg)
    stands_for = {k: jax.tree.map(dequantize, v, is_leaf=lambda x: not isinstance(x, dict)) for k, v in frozen.items()}
    expected, expected_gradient = run(trained, stands_for, cfg)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        assert relative(ours, theirs) < 1e-5
    merged, plain = lora.merge(frozen | trained, cfg)
    assert plain == dataclasses.replace(cfg, lora=None)
    np.testing.assert_allclose(score(merged, BATCH, plain).rewards.sum(), expected, rtol=1e-4)


@pytest.mark.parametrize("base", ONE_QUICKLY)
def test_codes_and_scales_are_the_same_on_every_mesh(base):
    cfg, params, _ = over(base)
    one, many = placed(params, cfg, 1, 1, 1), placed(params, cfg, 2, 2, 2)
    # Not the scales to the bit: a division compiled for other shapes may round otherwise.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=1e-6),
        one,
        many,
    )
    assert len(many["upper"]["up"].codes.sharding.device_set) == 8
    assert not many["upper"]["up"].codes.is_fully_replicated
    # Embedding and norms stay in float32; int8 takes a byte, NF4 half of one, and both 4 bytes for a block's scale.
    assert one["embed"].dtype == one["lower"]["ffn_norm"].dtype == jnp.float32
    for name in LORA_TARGETS:
        assert one["lower"][name].codes.dtype == {"int8": jnp.int8, "nf4": jnp.uint4}[base]


@pytest.mark.parametrize("base", ONE_QUICKLY)
def test_a_gradient_keeps_no_copy_of_the_base_in_float32(base):
    cfg, params, trained = over(base, "all", layers=8, width=64, ffn_width=512, head_width=16)
    loss = lambda trained, frozen: score({**frozen, **trained}, BATCH, cfg).rewards.sum()  # noqa: E731
    frozen = placed(params, cfg, 1, 1, 1, trainable="all")
    cfg_float = dataclasses.replace(cfg, lora=dataclasses.replace(cfg.lora, base="float32"))
    as_it_was = placed(params, cfg_float, 1, 1, 1, trainable="all")
    size = lambda tree: sum(w.size * w.dtype.itemsize for w in jax.tree.leaves(tree))  # noqa: E731
    matrices = size({name: as_it_was["upper"][name] for name in LORA_TARGETS})
    temporary = lambda frozen: (  # noqa: E731
        jax.jit(jax.grad(loss)).lower(trained, frozen).compile().memory_analysis().temp_size_in_bytes
    )
    assert temporary(frozen) - temporary(as_it_was) < matrices / 2


def test_a_base_that_is_none_is_named():
    with pytest.raises(ValueError, match="base is 'int4'; give one of float32, int8, nf4"):
        Lora(base="int4")
