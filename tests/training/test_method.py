"""A method whose choices do not go together is refused before anything is loaded, with the binding to change."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crome_jax.configuration import configure
from crome_jax.errors import CromeError
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.crome import crome
from crome_jax.objectives.davidson import davidson
from crome_jax.objectives.odin import odin
from crome_jax.objectives.schedules import linear
from crome_jax.training.mesh import make_mesh
from crome_jax.training.method import Method, check_method
from crome_jax.training.placing import place_head, place_params
from crome_jax.training.train import train
from crome_jax.weights.backbones import load_backbone

EVERY = ("human", "causal", "neutral")
LATE = functools.partial(linear, first=50, last=60)


@pytest.mark.parametrize(
    "method",
    [
        Method(),
        Method("crome", EVERY, objective=crome),
        Method("causal only", ("human", "causal"), objective=functools.partial(crome, neutral_weight=0.0)),
        Method("odin", head="odin", objective=odin),
        Method("davidson", ("human",), objective=davidson),  # Its comparisons are weighed by the data alone.
    ],
    ids=lambda method: method.name,
)
def test_choices_that_go_together(method):
    check_method(method, 100)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Method(head="three"), "head is 'three'; give one of scalar, odin"),
        (Method(objective=odin), r"reads a head for length, the model has none; set Method\.head to 'odin'"),
        (Method(head="odin"), r"reads no head for length; set Method\.head to 'scalar', or Method\.objective to @odin"),
        (Method(objective=functools.partial(bradley_terry, margin=-1.0)), "margin is -1.0"),
        (
            Method(kinds=("human", "causal"), objective=crome),
            r"crome\.neutral_weight is not 0, but Method\.kinds takes no neutral comparison; set "
            r"crome\.neutral_weight to 0, or add 'neutral' to Method\.kinds",
        ),
        (Method(kinds=("neutral",), objective=crome), r"crome\.causal_weight is not 0"),
        (
            Method(kinds=("human", "causal"), objective=functools.partial(crome, neutral_weight=LATE)),
            r"crome\.neutral_weight is not 0",
        ),
    ],
)
def test_choices_that_contradict_each_other_are_named(method, message):
    with pytest.raises(CromeError, match=f"^method bradley_terry: .*{message}"):
        check_method(method, 100)


def test_train_refuses_before_it_reads_anything(tmp_path):
    bindings = [("DATA", "'nowhere'"), ("OUT", f"'{tmp_path}/run'"), ("crome/Method.kinds", "('human', 'causal')")]
    configured = configure(train, ["gin/runs/crome.gin"], bindings)
    with pytest.raises(CromeError, match=r"method crome: crome\.neutral_weight is not 0"):
        configured()
    assert not list(tmp_path.iterdir())


def test_a_method_of_ones_own_is_tried_as_well():
    def mine(scored, batch):
        return scored.rewards.sum() + jnp.zeros(()) * batch.weight.sum(), {}

    check_method(Method("mine", objective=mine), 10)


def test_a_backbones_own_head_is_trained_on_and_the_missing_one_drawn():
    base = load_backbone("tiny", 1)
    scored = np.linspace(-1, 1, base.cfg.width, dtype=np.float32)
    classifier = dataclasses.replace(base, heads={"head": scored})
    mesh = make_mesh(devices=jax.devices()[:1])
    for head, names in (("scalar", {"head"}), ("odin", {"head", "length_head"})):
        trained, frozen = place_params(classifier, 1, mesh, head)
        placed = place_head(classifier, mesh, head)
        assert placed.keys() == names <= trained.keys()
        assert not names & frozen.keys()
        for name in names:
            np.testing.assert_array_equal(placed[name], trained[name])
        np.testing.assert_array_equal(trained["head"], scored)
    assert np.abs(trained["length_head"]).min() > 0
