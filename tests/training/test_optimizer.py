import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crome_jax.models.config import tiny
from crome_jax.models.weights import declare, init_params, is_weight
from crome_jax.training.optimizer import adamw, learning_rate_schedule, tunable


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.0),
        (5, 1.0),  # half of the ten steps of warm-up
        (10, 2.0),
        (55, 1.1),  # half way down the cosine: the mean of 2.0 and 0.2
        (99, 0.2 + 1.8 * (1 + np.cos(np.pi * 89 / 90)) / 2),
        (100, 0.2),
        (150, 0.2),
    ],
)
def test_the_rate_rises_linearly_and_falls_as_a_cosine(step, rate):
    schedule = learning_rate_schedule(100, peak=2.0, warmup_fraction=0.1, final_fraction=0.1)
    assert float(schedule(step)) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize(("steps", "warmup_fraction"), [(1, 0.1), (7, 0.3), (100, 0.05), (560, 0.1)])
def test_the_rate_is_that_of_optax(steps, warmup_fraction):
    ours = learning_rate_schedule(steps, 3e-4, warmup_fraction, 0.1)
    warmup = max(1, round(steps * warmup_fraction))
    theirs = optax.warmup_cosine_decay_schedule(0.0, 3e-4, warmup, max(steps, warmup + 1), 3e-5)
    counts = jnp.arange(steps + 2)
    np.testing.assert_allclose(jax.vmap(ours)(counts), jax.vmap(theirs)(counts), rtol=1e-5, atol=1e-10)


def test_one_compiled_update_serves_every_rate_and_length():
    params, grads = {"w": jnp.full((1, 2, 3), 3.0, jnp.float32)}, {"w": jnp.linspace(-1, 1, 6).reshape(1, 2, 3)}
    tuned = tunable(adamw)
    traces = []

    @jax.jit
    def update(state, steps, learning_rate):
        traces.append(steps)
        return tuned.update(grads, state, params, steps=steps, learning_rate=learning_rate)

    for steps, rate in ((10, 1e-2), (40, 1e-3)):
        fixed = adamw(steps=steps, learning_rate=rate)
        ours, theirs = tuned.init(params), fixed.init(params)
        for _ in range(3):
            moved, ours = update(ours, steps, rate)
            expected, theirs = fixed.update(grads, theirs, params)
            np.testing.assert_allclose(moved["w"], expected["w"], rtol=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 1.0])
def test_short_runs_have_a_rate_at_every_step(steps, warmup_fraction):
    schedule = learning_rate_schedule(steps, 1.0, warmup_fraction, 0.1)
    rates = np.array([schedule(step) for step in range(steps + 1)])
    assert (rates >= 0).all()
    assert rates.max() <= 1.0
    assert rates[1:].min() > 0


@pytest.mark.parametrize(("norm", "passed"), [(0.5, 0.5), (1.0, 1.0), (40.0, 1.0)])
def test_the_gradient_is_clipped_by_its_global_norm(norm, passed):
    params = {"a": jnp.zeros((3, 2, 2)), "b": jnp.zeros(4)}
    grads = jax.tree.map(lambda x: jnp.full(x.shape, norm / 4), params)  # 16 numbers
    optimizer = adamw(steps=10, clip_norm=1.0, beta1=0.75)
    _, state = optimizer.update(grads, optimizer.init(params), params)
    # The first moment after one step is (1 - beta1) times the gradient that came through.
    assert float(optax.tree.norm(state[1][0].mu)) == pytest.approx(0.25 * passed, rel=1e-6)


def test_one_step_by_hand():
    params, grads = {"w": jnp.full((1, 1, 1), 3.0)}, {"w": jnp.full((1, 1, 1), 0.5)}
    optimizer = adamw(steps=100, learning_rate=0.1, warmup_fraction=0.02, weight_decay=0.2)
    state = optimizer.init(params)
    first, state = optimizer.update(grads, state, params)
    second, _ = optimizer.update(grads, state, params)
    assert float(first["w"].item()) == 0  # warm-up starts at zero
    # Half of the rate, times the sign of a constant gradient plus decay: -0.05 (1 + 0.2 * 3).
    assert second["w"].item() == pytest.approx(-0.08, rel=1e-5)


def test_only_matrices_inside_layers_decay():
    cfg = tiny(qk_norm=True, post_norms=True)
    params = init_params(cfg, jax.random.key(0))
    params = jax.tree.map(jnp.ones_like, params)
    optimizer = adamw(steps=10, learning_rate=1.0, weight_decay=0.5)

    @jax.jit
    def second_update(params):
        grads = jax.tree.map(jnp.zeros_like, params)
        _, state = optimizer.update(grads, optimizer.init(params), params)  # at a rate of zero
        return optimizer.update(grads, state, params)[0]

    shrinking = jax.tree.map(lambda update: bool((update < 0).all()), second_update(params))
    matrices = jax.tree.map(lambda w: "layer" in w.axes and "norm" not in w.axes, declare(cfg), is_leaf=is_weight)
    assert shrinking == matrices
    assert not shrinking["embed"]
    assert not shrinking["head"]
