"""The kernel for TPU through the decoder and the step: the same rewards and gradients, run where and when it should."""

import pytest

from crome_jax.data.packing import RowShape
from crome_jax.evaluation.scoring import make_scorer
from crome_jax.models.config import tiny
from crome_jax.training.abstract import abstract_batch, abstract_params
from crome_jax.training.frozen import make_trunk
from crome_jax.training.mesh import make_mesh
from crome_jax.training.topology import tpu_devices


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
