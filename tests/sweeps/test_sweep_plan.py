"""A sweep lays out every point with every cell of its grid and every seed, and refuses what contradicts itself."""

import pytest

from crome_jax.errors import CromeError
from crome_jax.sweeps.plan import numeric_axes, sweep


def test_a_grid_is_every_combination_with_every_seed():
    jobs = sweep(grid={"crome.causal_weight": [0.5, 1.0], "crome.neutral_weight": [0.0]}, seeds=(3, 4))
    assert [job.name for job in jobs] == [
        "causal_weight=0.5,neutral_weight=0.0,seed=3",
        "causal_weight=0.5,neutral_weight=0.0,seed=4",
        "causal_weight=1.0,neutral_weight=0.0,seed=3",
        "causal_weight=1.0,neutral_weight=0.0,seed=4",
    ]
    assert jobs[0].values == {"crome.causal_weight": "0.5", "crome.neutral_weight": "0.0"}
    assert jobs[0].point == jobs[1].point != jobs[2].point
    assert numeric_axes(jobs) == ["crome.causal_weight"]  # The other one stands still.


def test_points_keep_their_order_and_text_is_in_gins_syntax():
    points = {"all": {}, "few": {"crome/Method.kinds": ("human",), "DATA": "%OTHER", "train.dtype": "'bfloat16'"}}
    jobs = sweep(points=points, grid={"STEPS": [5, 7]})
    assert [job.point for job in jobs] == ["all,STEPS=5", "all,STEPS=7", "few,STEPS=5", "few,STEPS=7"]
    assert jobs[2].values == {
        "crome/Method.kinds": "('human',)",
        "DATA": "%OTHER",
        "train.dtype": "'bfloat16'",
        "STEPS": "5",
    }
    assert numeric_axes(jobs) == ["STEPS"]


def test_names_that_end_alike_are_told_apart():
    jobs = sweep(grid={"a/crome.margin": [1.0], "b/crome.margin": [2.0]})
    assert jobs[0].name == "a/crome.margin=1.0,b/crome.margin=2.0,seed=0"


def test_without_anything_it_is_the_run_as_configured():
    assert [(job.name, job.point, dict(job.values)) for job in sweep()] == [("seed=0", "as configured", {})]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"grid": [1, 2]}, r"sweep\.grid is \[1, 2\]; give names of bindings"),
        ({"grid": {"STEPS": 5}}, r"sweep\.grid\['STEPS'\] is 5; give a list of values"),
        ({"grid": {"STEPS": []}}, r"sweep\.grid\['STEPS'\] is \[\]; give a list of values"),
        ({"grid": {"STEPS": [5, 5]}}, r"2 jobs would be called 'STEPS=5,seed=0'"),
        ({"points": ["x"]}, r"sweep\.points is \['x'\]; give names of points"),
        ({"points": {"": {}}}, r"a point called ''; give it a name"),
        ({"points": {"x": 1}}, r"sweep\.points\['x'\] is 1; give names of bindings"),
        ({"points": {"x": {"STEPS": 5}}, "grid": {"STEPS": [6]}}, r"\['x'\] and sweep\.grid both bind STEPS; take it"),
        ({"seeds": ()}, r"sweep\.seeds is \(\)"),
        ({"seeds": (1, 1)}, r"sweep\.seeds is \(1, 1\); give a list of different whole numbers"),
        ({"seeds": (True,)}, r"sweep\.seeds is"),
    ],
)
def test_what_makes_no_sweep_is_named(given, message):
    with pytest.raises(CromeError, match=message):
        sweep(**given)
