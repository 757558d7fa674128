"""A method whose choices do not go together is refused before anything is loaded, with the binding to change."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import token_groups

from crome_jax.configuration import configure
from crome_jax.data.packing import RowShape, pack
from crome_jax.errors import CromeError
from crome_jax.groups import Kind
from crome_jax.models.config import Lora
from crome_jax.objectives.bradley_terry import bradley_terry
from crome_jax.objectives.bsr import bsr
from crome_jax.objectives.crome import crome
from crome_jax.objectives.davidson import davidson
from crome_jax.objectives.mmd import mmd
from crome_jax.objectives.odin import odin
from crome_jax.objectives.plackett_luce import plackett_luce
from crome_jax.objectives.schedules import linear
from crome_jax.training.mesh import make_mesh
from crome_jax.training.method import Method, check_comparisons, check_method
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
        Method("pairs", head="pairwise"),
        Method(
            "pairs, smoothed",
            head="pairwise",
            objective=functools.partial(bradley_terry, label_smoothing=0.1, margin=1.0),
        ),
        Method("centred", objective=functools.partial(bradley_terry, centring=0.01)),
        Method("pairs of every kind", EVERY, head="pairwise", objective=crome, pair_order="both"),
        Method("davidson of pairs", EVERY, head="pairwise", objective=davidson),
        Method("davidson", ("human",), objective=davidson),  # Its comparisons are weighed by the data alone.
    ],
    ids=lambda method: method.name,
)
def test_choices_that_go_together(method):
    check_method(method, 100, 4)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            Method(kinds=("human", "casual")),
            r"Method\.kinds is \('human', 'casual'\); give some of human, causal, neutral$",
        ),
        (Method(kinds=("Human",)), r"Method\.kinds is \('Human',\); give some of human, causal, neutral"),
        (Method(kinds=()), r"Method\.kinds is \(\); give some of human"),
        (
            Method(origins=("original", "upgrade")),
            r"Method\.origins is .*'upgrade'\); give some of original, upgraded, ",
        ),
        (Method(head="three"), "head is 'three'; give one of scalar, odin, pairwise"),
        (Method(objective=odin), r"reads a head for length, the model has none; set Method\.head to 'odin'"),
        (Method(head="odin"), r"reads no head for length; set Method\.head to 'scalar', or Method\.objective to @odin"),
        (Method(head="pairwise", objective=odin), r"reads a head for length, the model has none"),
        (Method(head="pairwise", objective=bsr), r"the objective bsr is about the rewards of single responses; set"),
        (Method(head="pairwise", objective=mmd), r"the objective mmd is about the rewards of single responses; set"),
        (
            Method(head="pairwise", objective=plackett_luce),
            r"the objective plackett_luce is about .* or Method\.head to 'scalar'",
        ),
        (
            Method(head="pairwise", objective=functools.partial(bradley_terry, centring=1e-4)),
            r"bradley_terry\.centring draws .* set bradley_terry\.centring to 0, or Method\.head to 'scalar'",
        ),
        (Method(head="pairwise", pair_order="first"), r"pair_order is 'first'; give one of random, both"),
        (Method(pair_order="both"), r"the head 'scalar' reads one answer at a time; set Method\.head to 'pairwise'"),
        (Method(head="pairwise", objective=crome), r"crome\.causal_weight is not 0, but Method\.kinds takes no causal"),
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
        (
            Method(kinds=("human", "causal")),
            r"Method\.kinds takes causal comparisons, of which bradley_terry reads none; take 'causal' out of "
            r"Method\.kinds, or set Method\.objective to one that does, such as @crome",
        ),
        (
            Method(kinds=EVERY, objective=plackett_luce),
            r"Method\.kinds takes neutral comparisons, of which plackett_luce reads none",
        ),
    ],
)
def test_choices_that_contradict_each_other_are_named(method, message):
    with pytest.raises(CromeError, match=f"^method bradley_terry: .*{message}"):
        check_method(method, 100, 4)


def test_what_regularises_hidden_states_needs_some_that_train():
    with pytest.raises(
        CromeError, match=r"mmd acts on hidden states, which stay .*; set trainable to 'all' or a number"
    ):
        check_method(Method(objective=mmd), 100, "head")
    for trainable in ("all", 1):
        check_method(Method(objective=mmd), 100, trainable)
    with pytest.raises(CromeError, match="mmd acts on hidden states"):
        check_method(Method(objective=functools.partial(mmd, conditional=True)), 100, "head")
    check_method(Method(objective=functools.partial(mmd, coefficient=0.0)), 100, "head")
    check_method(Method("odin", head="odin", objective=odin), 100, "head")


CROME = Method("crome", EVERY, objective=crome)
NO_TIES = Method("crome", EVERY, objective=functools.partial(crome, neutral_weight=0.0))


@pytest.mark.parametrize(
    ("method", "kind", "target", "weight", "message"),
    [
        (CROME, Kind.NEUTRAL, 0.5, 1.0, None),
        (Method(objective=davidson), Kind.HUMAN, 0.5, 1.0, None),
        (Method(objective=plackett_luce), Kind.HUMAN, 0.25, 1.0, None),
        (CROME, Kind.HUMAN, 1.0, 0.0, "^the data: every comparison has weight 0; give records with another weight"),
        (NO_TIES, Kind.NEUTRAL, 0.5, 1.0, "method crome: crome learns nothing from the data, which holds neutral"),
        (
            Method(objective=plackett_luce), Kind.HUMAN, 0.5, 2.0,
            "plackett_luce learns nothing from the data, which holds human ties; give other data, or change Method",
        ),
    ],
)  # fmt: skip
def test_data_that_an_objective_learns_nothing_from_are_refused(method, kind, target, weight, message):
    rows = pack(token_groups(3), RowShape(48, 8, 8)).batch
    fill = lambda like, value: np.full_like(like, value)  # noqa: E731
    batch = rows.replace(
        kind=fill(rows.kind, kind), target=fill(rows.target, target), weight=np.where(rows.weight > 0, weight, 0.0)
    )
    if message is None:
        check_comparisons(method, batch, 100, "the data")
    else:
        with pytest.raises(CromeError, match=message):
            check_comparisons(method, batch, 100, "the data")


def test_train_refuses_before_it_reads_anything(tmp_path):
    bindings = [("DATA", "'nowhere'"), ("OUT", f"'{tmp_path}/run'"), ("crome/Method.kinds", "('human', 'causal')")]
    configured = configure(train, ["gin/runs/crome.gin"], bindings)
    with pytest.raises(CromeError, match=r"method crome: crome\.neutral_weight is not 0"):
        configured()
    assert not list(tmp_path.iterdir())


def test_a_method_of_ones_own_is_tried_as_well():
    def mine(scored, batch):
        return scored.rewards.sum() + jnp.zeros(()) * batch.weight.sum(), {}

    check_method(Method("mine", objective=mine), 10, 4)


def test_a_backbones_own_head_is_trained_on_and_the_missing_one_drawn():
    base = load_backbone("tiny", 1)
    scored = np.linspace(-1, 1, base.cfg.width, dtype=np.float32)
    classifier = dataclasses.replace(base, heads={"head": scored})
    mesh = make_mesh(devices=jax.devices()[:1])
    pairwise, _ = place_params(classifier, 1, mesh, "pairwise")
    assert "head" not in pairwise
    assert not pairwise["pair_head"].any()  # What scores responses is no head for pairs.
    for head, names in (("scalar", {"head"}), ("odin", {"head", "length_head"})):
        trained, frozen = place_params(classifier, 1, mesh, head)
        placed = place_head(classifier, mesh, head)
        assert placed.keys() == names <= trained.keys()
        assert not names & frozen.keys()
        for name in names:
            np.testing.assert_array_equal(placed[name], trained[name])
        np.testing.assert_array_equal(trained["head"], scored)
    assert np.abs(trained["length_head"]).min() > 0


def test_what_is_drawn_follows_the_seed():
    base = load_backbone("tiny", 1).with_adapters(Lora(rank=2))
    mesh = make_mesh(devices=jax.devices()[:1])
    drawn = [place_params(base, 1, mesh, "odin", seed=seed)[0] for seed in (0, 0, 1)]
    for name in ("length_head", "adapters"):
        (a, same, other) = (jax.tree.leaves(of_seed[name]) for of_seed in drawn)
        assert all(np.array_equal(x, y) for x, y in zip(a, same, strict=True))
        assert not all(np.array_equal(x, y) for x, y in zip(a, other, strict=True))
