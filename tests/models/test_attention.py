"""Attention: every implementation gives what the mask says, and remembers no more than it must."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crome_jax.batch import HEAD
from crome_jax.models.attention import attend, attend_all, attend_in_blocks, attend_some_in_blocks
from crome_jax.models.attention_gpu import attend_gpu
from crome_jax.models.attention_tpu import attend_tpu
from crome_jax.models.masks import Places, mask_to_bias, may_attend, may_meet, visits_of
from crome_jax.training.mesh import batch_sharding, execution_on, make_mesh
from crome_jax.training.topology import tpu_devices


def draw_places(rng: np.random.Generator, rows: int, tokens: int, longest: int, heads: tuple[int, ...] = ()) -> Places:
    """Draw rows of groups of several responses, padded at the end; the first have heads of so many tokens."""
    group, response, position = (np.zeros((rows, tokens), np.int32) for _ in range(3))
    for row in range(rows):
        t, number, slot = heads[row] if row < len(heads) else 0, 0, 0
        head = np.arange(t)
        group[row, head], position[row, head] = HEAD, head
        while t < 0.8 * tokens:
            number += 1
            prompt = int(rng.integers(1, longest))
            for r in range(int(rng.integers(2, 6))):
                length = prompt if r == 0 else int(rng.integers(1, longest))
                span = slice(t, min(t + length, tokens))
                group[row, span] = number
                position[row, span] = len(head) + (0 if r == 0 else prompt) + np.arange(span.stop - span.start)
                if r > 0:
                    slot += 1
                    response[row, span] = slot
                t = span.stop
    place = np.broadcast_to(np.arange(tokens, dtype=np.int32), group.shape)
    return Places(*(jnp.asarray(ids) for ids in (place, position, group, response)))


TOKENS = 300  # No multiple of any block's length.
PLACES = draw_places(np.random.default_rng(0), 2, TOKENS, 70, heads=(30,))
WAYS = {
    "dense": functools.partial(attend_all, implementation="dense"),
    "blocks": functools.partial(attend_in_blocks, block=64),
    "cpu": functools.partial(attend_all, implementation="cpu"),
    "tpu": functools.partial(attend_tpu, block=128, interpret=True),
    "gpu": functools.partial(attend_gpu, block=32, interpret=True),
}
SHAPES = {"plain": (4, 2, 16, None, None), "window_and_cap": (2, 1, 8, 40, 2.0)}


@functools.cache
def given(name: str):
    heads, kv_heads, width, _, _ = SHAPES[name]
    rng = np.random.default_rng(1)
    return tuple(
        jnp.asarray(rng.normal(size=(2, TOKENS, n, width)), jnp.float32) for n in (heads, kv_heads, kv_heads, heads)
    )


def result(name: str, way) -> tuple:
    """Return what was attended to, and the gradients of a weighted sum of it."""
    q, k, v, weights = given(name)
    _, _, _, window, cap = SHAPES[name]

    def weighted(q, k, v):
        y = way(q, k, v, PLACES, window, cap)
        return (y * weights).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(weighted, (0, 1, 2), has_aux=True))(q, k, v)
    return y, *gradients


@functools.cache
def expected(name: str) -> tuple:
    """Attend with the whole mask at once."""
    return result(
        name,
        lambda q, k, v, places, window, cap: attend(q, k, v, mask_to_bias(may_attend(places, places, window)), cap),
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_what_the_whole_mask_gives(way, shape):
    for ours, theirs in zip(result(shape, WAYS[way]), expected(shape), strict=True):
        # float32, sums over at most 300 keys in another order; measured 7e-7.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * float(jnp.abs(theirs).max()))


LONG = 1100  # Nine blocks of a CPU's, the last not whole.
LONG_PLACES = draw_places(np.random.default_rng(3), 3, LONG, 60, heads=(30, 200))  # A head longer than a block, too.


@pytest.mark.parametrize("rows", [slice(0, 1), slice(1, 2), slice(2, 3), slice(0, 3)])
def test_a_cpu_that_leaves_out_what_lies_before_its_groups_gives_what_the_whole_mask_gives(rows):
    q, k, v = (jnp.asarray(np.random.default_rng(4).normal(size=(3, LONG, n, 8)), jnp.float32)[rows] for n in (2, 1, 1))
    places = Places(*(ids[rows] for ids in LONG_PLACES))
    ours = jax.jit(functools.partial(attend_all, implementation="cpu"))(q, k, v, places)
    theirs = attend(q, k, v, mask_to_bias(may_attend(places, places)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * float(jnp.abs(theirs).max()))


def test_a_cpu_does_not_read_what_lies_before_the_groups_of_its_queries():
    group = jnp.repeat(jnp.arange(1, 9, dtype=jnp.int32), 128)[None]  # A group in each of eight blocks.
    place = jnp.arange(1024, dtype=jnp.int32)[None]
    places = Places(place, place % 128, group, jnp.zeros_like(group))
    q = jnp.ones((1, 1024, 1, 8))
    k = q.at[:, 128:512].set(jnp.nan)  # Of the second to the fourth block.
    y = jax.jit(functools.partial(attend_all, implementation="cpu"))(q, k, q, places)
    assert jnp.isnan(y[:, 128:512]).all()
    np.testing.assert_allclose(y[:, 640:], 1.0, rtol=1e-6)  # Two blocks are read: the fifth has the fourth before it.
    assert jnp.isnan(attend_all(q, k, q, places, implementation="dense")[:, 640:]).all()


def test_one_cpu_that_takes_no_gradient_leaves_out_what_it_can():
    one, several = make_mesh(devices=jax.devices()[:1]), make_mesh(devices=jax.devices()[:2])
    assert execution_on(one, gradient=False).attention == "cpu"
    assert execution_on(one).attention == execution_on(several, gradient=False).attention == "xla"
    assert execution_on(one, "dense", gradient=False).attention == "dense"


@pytest.mark.parametrize("shape", SHAPES)
def test_some_tokens_in_any_order_attend_in_blocks_as_with_their_whole_mask(shape):
    at = jnp.asarray(np.random.default_rng(2).integers(0, TOKENS, (2, 70)))  # No multiple of the block, some twice.
    asks = Places(*(jnp.take_along_axis(ids, at, axis=1) for ids in PLACES))
    asking = lambda q: jnp.take_along_axis(q, at[:, :, None, None], axis=1)  # noqa: E731
    back = lambda y: jnp.pad(y, ((0, 0), (0, TOKENS - at.shape[1]), (0, 0), (0, 0)))  # noqa: E731

    def in_blocks(q, k, v, places, window, cap):
        return back(attend_some_in_blocks(asking(q), k, v, asks, places, window, cap, block=32))

    def whole(q, k, v, places, window, cap):
        return back(attend(asking(q), k, v, mask_to_bias(may_attend(asks, places, window)), cap))

    for ours, theirs in zip(result(shape, in_blocks), result(shape, whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * float(jnp.abs(theirs).max()))


def test_all_but_padding_attend_to_the_rows_head():
    head, padding = HEAD, 0
    row = lambda *ids: jnp.array([ids], jnp.int32)  # noqa: E731
    places = Places(
        place=row(0, 1, 2, 3, 4, 5, 6),
        position=row(0, 1, 2, 3, 3, 2, 0),
        group=row(head, head, 1, 1, 1, 2, padding),
        response=row(0, 0, 0, 1, 2, 3, 0),
    )
    assert may_attend(places, places).astype(int).tolist() == [
        [
            [1, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0, 0],
            [1, 1, 1, 1, 0, 0, 0],
            [1, 1, 1, 0, 1, 0, 0],
            [1, 1, 0, 0, 0, 1, 0],
            [0, 0, 0, 0, 0, 0, 1],
        ]
    ]
    # A window of two, measured by position: the head's last token stands just before each prompt's first.
    assert may_attend(places, places, 2)[0, 5].tolist() == [False, True, False, False, False, True, False]


@pytest.mark.parametrize("heads", [(), (20, 32, 100)], ids=["no head", "heads"])
@pytest.mark.parametrize("window", [None, 25])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_meet_wherever_two_tokens_may(seed, window, heads):
    places = draw_places(np.random.default_rng(seed), 3, 512, 30, heads)
    pairs = np.asarray(may_attend(places, places, window)).reshape(3, 16, 32, 16, 32).any((2, 4))
    meet = np.asarray(may_meet(places, 32, window))
    assert not (pairs & ~meet).any()
    # Of those that the future alone would leave, most are skipped; few are visited for nothing.
    assert meet.sum() < 0.5 * 3 * 16 * 17 / 2
    assert meet.sum() <= 1.25 * pairs.sum()


def test_visits_are_the_blocks_met_in_order_then_the_last_again():
    meet = jnp.array([[[True, False, False, False], [False, True, False, True], [False] * 4]])
    visits = visits_of(meet)
    assert visits.counts.tolist() == [[1, 2, 0]]
    assert visits.blocks.tolist()[0][:2] == [[0, 0, 0, 0], [1, 3, 3, 3]]


def test_memory_in_blocks_grows_with_the_tokens():
    def temporary(tokens):
        array = lambda heads: jax.ShapeDtypeStruct((1, tokens, heads, 8), jnp.float32)  # noqa: E731
        ids = Places(*(jax.ShapeDtypeStruct((1, tokens), jnp.int32) for _ in range(4)))
        loss = lambda q, k, v, places: attend_in_blocks(q, k, v, places, 100, 5.0, block=128).sum()  # noqa: E731
        lowered = jax.jit(jax.grad(loss, (0, 1, 2))).lower(array(4), array(2), array(2), ids)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporary(4096) < 4.2 * temporary(1024)


@pytest.mark.parametrize(
    ("dtype", "width", "tokens", "heads", "kv_heads", "window", "cap"),
    [
        (jnp.bfloat16, 256, 2048, 8, 4, 1024, 50.0),  # Gemma 2
        (jnp.float32, 64, 704, 6, 2, None, None),  # SmolLM2
    ],
)
def test_the_kernel_compiles_for_a_tpu_and_is_run_on_each_ones_rows_and_heads(
    dtype, width, tokens, heads, kv_heads, window, cap
):
    pytest.importorskip("libtpu", reason="./launch/setup.sh plan compiles for TPU without one")
    mesh = make_mesh(data=2, tensor=2, devices=tpu_devices("v5e:2x2"))
    how = execution_on(mesh)
    assert how.attention == "tpu"
    rows = batch_sharding(mesh)
    array = lambda n: jax.ShapeDtypeStruct((2, tokens, n, width), dtype, sharding=rows)  # noqa: E731
    ids = [jax.ShapeDtypeStruct((2, tokens), jnp.int32, sharding=rows) for _ in range(4)]
    kernel = how.spread(lambda q, k, v, *ids: attend_tpu(q, k, v, Places(*ids), window, cap))
    loss = lambda *given: kernel(*given).astype(jnp.float32).sum()  # noqa: E731
    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(array(heads), array(kv_heads), array(kv_heads), *ids).compile()
    program = compiled.as_text()
    assert program.count('custom_call_target="tpu_custom_call"') == 3  # forward, and two gradients
    name = {jnp.bfloat16: "bf16", jnp.float32: "f32"}[dtype]
    assert f"{name}[1,{heads // 2}," in program


@pytest.mark.parametrize(
    ("dtype", "width", "window", "cap"),
    [(jnp.bfloat16, 256, 1024, 50.0), (jnp.bfloat16, 128, None, None), (jnp.float32, 72, None, None)],
)
def test_the_kernel_can_be_written_for_a_gpu_without_one(dtype, width, window, cap):
    array = lambda n: jax.ShapeDtypeStruct((2, 700, n, width), dtype)  # noqa: E731
    ids = [jax.ShapeDtypeStruct((2, 700), jnp.int32) for _ in range(4)]
    loss = lambda q, k, v, *ids: attend_gpu(q, k, v, Places(*ids), window, cap).astype(jnp.float32).sum()  # noqa: E731
    traced = jax.jit(jax.grad(loss, (0, 1, 2))).trace(array(6), array(2), array(2), *ids)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("__gpu$xla.gpu.triton") == 3  # forward, and two gradients
