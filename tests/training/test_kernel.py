"""The kernel for TPU through the decoder and the step: the same rewards and gradients, run where and when it should."""

import functools

import jax
import jax.numpy as jnp
import pytest
from reference import relative
from toy import OPTIMIZER, mesh_of, token_groups

from crome_jax.batch import FIELDS, Batch
from crome_jax.data.packing import RowShape, pack
from crome_jax.evaluation.scoring import make_scorer
from crome_jax.models import attention_tpu, weights
from crome_jax.models.config import DecoderConfig, tiny
from crome_jax.models.decoder import rewards
from crome_jax.models.execution import Execution
from crome_jax.objectives.crome import crome
from crome_jax.training.abstract import abstract_batch, abstract_params, abstract_state
from crome_jax.training.frozen import make_trunk
from crome_jax.training.mesh import execution_on, make_mesh
from crome_jax.training.step import make_train_step
from crome_jax.training.topology import tpu_devices

LONG = pack(token_groups(48), RowShape(192, 32, 32))  # Two blocks to a row.


@pytest.fixture
def interpreted(monkeypatch):
    """Run the kernel step by step in XLA, in blocks of which a row has several, and count how often it is traced."""
    calls = []
    kernel = functools.partial(attention_tpu.attend_tpu, block=128, interpret=True)
    monkeypatch.setattr(attention_tpu, "attend_tpu", lambda *given: calls.append(1) or kernel(*given))
    return calls


@functools.cache
def params_of(cfg: DecoderConfig) -> weights.Params:
    params = weights.init_params(cfg, jax.random.key(0))
    return {**params, "head": jax.random.normal(jax.random.key(1), (cfg.width,))}


def rewards_and_gradient(cfg: DecoderConfig, how: Execution, dtype=jnp.float32) -> tuple[jax.Array, dict]:
    batch = Batch(**{name: jnp.asarray(getattr(LONG.batch, name)[:2]) for name in FIELDS})
    signs = jnp.where(jnp.arange(batch.response_ends.shape[1]) % 2, 1.0, -1.0)

    def loss(params):
        given = rewards(params, batch, cfg, dtype, how)
        return (given * signs[None]).sum(), given

    (_, given), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params_of(cfg))
    return given, gradient


GEMMA = {"layers": 3, "pattern": ("local", "global"), "window": 9, "attention_cap": 2.0}
WIDE = GEMMA | {"layers": 2, "pattern": ("local",), "heads": 1, "kv_heads": 1, "head_width": 256}


@pytest.mark.parametrize(
    ("changes", "sizes", "remat"),
    [pytest.param(GEMMA, (2, 1, 2), "attention", marks=pytest.mark.slow), (WIDE, None, "none")],
    ids=["window, cap, remat, four devices", "head width 256"],
)
def test_through_the_decoder_the_kernel_gives_what_the_whole_mask_gives(interpreted, changes, sizes, remat):
    cfg = tiny(vocab_size=64, **changes)
    spread = None if sizes is None else execution_on(mesh_of(*sizes)).spread
    ours = rewards_and_gradient(cfg, Execution("tpu", remat, 1, spread))
    assert interpreted
    theirs = rewards_and_gradient(cfg, Execution("dense"))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert relative(a, b) < 1e-5  # float32, sums in another order.


@pytest.mark.slow
def test_in_bfloat16_the_kernel_is_as_exact_as_products_of_the_whole_mask(interpreted):
    cfg = tiny(vocab_size=64, **WIDE)
    exact = rewards_and_gradient(cfg, Execution("dense"))
    dense = rewards_and_gradient(cfg, Execution("dense"), jnp.bfloat16)
    ours = rewards_and_gradient(cfg, Execution("tpu"), jnp.bfloat16)
    assert interpreted
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True):
        # 8 bits of precision, rounded by every product of two layers: measured 0.011 of rewards, 0.022 of gradients.
        assert relative(a, b) < 2**-5
    flat = lambda tree: jnp.concatenate([x.reshape(-1) for x in jax.tree.leaves(tree)])  # noqa: E731
    assert relative(flat(ours), flat(exact)) < 1.25 * relative(flat(dense), flat(exact))


@pytest.fixture(scope="module")
def chips():
    """Return a mesh of four TPU chips that are not there: data 2, tensor 2."""
    pytest.importorskip("libtpu", reason="pip install -e .[plan] compiles for TPU without one")
    return make_mesh(data=2, tensor=2, devices=tpu_devices("v5e:2x2"))


CALL = "tpu_custom_call"
SHAPE = RowShape(256)


def test_rewards_and_frozen_layers_are_computed_by_the_kernel_on_a_tpu(chips):
    cfg = tiny(layers=3)
    trained, frozen = abstract_params(cfg, chips, 1)
    batch = abstract_batch(2, SHAPE, chips)
    assert CALL in make_trunk(cfg, chips).lower(frozen, batch).as_text()
    assert CALL in make_scorer(cfg, chips).lower({**frozen, **trained}, batch).as_text()
    # As they were told, where the run was told.
    assert CALL not in make_trunk(cfg, chips, attention="xla").lower(frozen, batch).as_text()


@pytest.mark.slow
@pytest.mark.parametrize(("remat", "calls"), [("attention", 3), ("full", 4)])
def test_what_remat_keeps_of_the_kernel_is_not_computed_again(chips, remat, calls):
    """A scanned layer has three kernels, forward and two gradients; where nothing is kept, forward is there twice."""
    cfg = tiny(layers=3, head_width=128)
    trained, frozen = abstract_params(cfg, chips)
    state = abstract_state(trained, OPTIMIZER)
    step = make_train_step(cfg, crome, OPTIMIZER, chips, remat=remat)
    lowered = step.compiled(state).lower(state, frozen, abstract_batch(2, SHAPE, chips), {})
    assert lowered.compile().as_text().count(f'custom_call_target="{CALL}"') == calls
