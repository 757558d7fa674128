"""The smallest change with which a step fits: against every layout there is, and by the formula for GPUs."""

import dataclasses
import functools
import math

import jax
import pytest

from crome_jax.data.packing import RowShape
from crome_jax.models.config import tiny
from crome_jax.models.execution import REMATS
from crome_jax.models.weights import declare
from crome_jax.training.layouts import Layout, smallest_change
from crome_jax.training.mesh import make_mesh
from crome_jax.training.plan import Compiled, plan

DECLARED = declare(tiny())  # Two heads of keys and values: tensor is 1 or 2.
ROWS = 32
WANTED = Layout((4, 2, 1), 1, "none")


def needed(layout: Layout, weights: float, activations: float) -> float:
    """Return what a step needs: weights, moments and gradients, their sum, and of a micro-batch what remat leaves."""
    data, fsdp, tensor = layout.mesh
    own = ROWS / (data * fsdp * layout.micro_batches)
    kept = {"none": 1.0, "projections": 0.6, "attention": 0.3, "full": 0.1}[layout.remat]
    return weights / (fsdp * tensor) * (4 if layout.micro_batches == 1 else 5) + own * kept * activations / tensor


REACHABLE = [
    Layout(mesh, parts, remat)
    for mesh in ((4, 2, 1), (2, 4, 1), (1, 8, 1), (2, 2, 2), (1, 4, 2))
    for parts in (1, 2, 4, 8)
    for remat in REMATS
    if ROWS % (mesh[0] * mesh[1] * parts) == 0
]


def how_far(layout: Layout) -> tuple[int, int, int]:
    """Return how far remat, micro-batches and the mesh are changed."""
    return REMATS.index(layout.remat), layout.micro_batches - 1, layout.mesh[1] - WANTED.mesh[1]


@pytest.mark.parametrize("weights", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("activations", [0.1, 1.0, 10.0])
def test_what_is_advised_fits_and_nothing_smaller_does(weights, activations):
    need = functools.partial(needed, weights=weights, activations=activations)
    for memory in sorted({need(layout) for layout in REACHABLE if need(layout) < need(WANTED)}):
        advised = smallest_change(WANTED, ROWS, DECLARED, lambda layout, memory=memory: need(layout) <= memory)
        assert need(advised) <= memory
        kinds = [n > 0 for n in how_far(advised)]
        for other in REACHABLE:
            if other.mesh[2] > advised.mesh[2] or other == WANTED:
                continue
            fewer = other.mesh[2] < advised.mesh[2] or sum(n > 0 for n in how_far(other)) < sum(kinds)
            pairs = list(zip(how_far(other), how_far(advised), strict=True))
            less_far = all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
            if fewer or less_far:
                assert need(other) > memory, (advised, other)
    assert smallest_change(WANTED, ROWS, DECLARED, lambda layout: False) is None


def test_one_kind_of_change_is_tried_before_two():
    fits = lambda layout: layout.mesh == (1, 8, 1) or (layout.remat == "full" and layout.micro_batches >= 2)  # noqa: E731
    assert smallest_change(WANTED, ROWS, DECLARED, fits) == dataclasses.replace(WANTED, mesh=(1, 8, 1))


def test_of_two_that_change_the_one_that_costs_more_changes_less():
    fits = lambda layout: (layout.mesh[1] // 4) * layout.micro_batches >= 4  # noqa: E731
    # fsdp 4 with four parts would do as well: each part gathers the weights.
    assert smallest_change(WANTED, ROWS, DECLARED, fits) == Layout((1, 8, 1), 2, "none")


def test_micro_batches_are_left_alone_where_the_sum_of_their_gradients_is_what_does_not_fit():
    fits = lambda layout: layout.mesh == (1, 8, 1) and layout.micro_batches == 1  # noqa: E731
    assert smallest_change(WANTED, ROWS, DECLARED, fits) == dataclasses.replace(WANTED, mesh=(1, 8, 1))


def test_tensor_grows_last_and_by_sizes_that_divide_what_lies_on_it():
    wanted = Layout((1, 8, 1), 1, "full")
    asked = []

    def fits(layout):
        asked.append(layout)
        return layout.mesh[2] == 2 and layout.micro_batches >= 2

    # Of eight rows on eight chips there are no micro-batches; on four pairs of chips there are.
    assert smallest_change(wanted, 8, DECLARED, fits) == Layout((1, 4, 2), 2, "full")
    assert smallest_change(wanted, 8, DECLARED, lambda layout: layout.mesh[2] > 2) is None
    assert len(asked) == len({*asked})


def test_few_layouts_are_asked_of_where_none_fits():
    asked = []
    smallest_change(WANTED, ROWS, DECLARED, lambda layout: asked.append(layout))
    # With and without micro-batches everything else at its furthest, on each size of tensor.
    assert len(asked) == 4


def of_gpus(layout: Layout, rows: int, tokens: int):
    """Plan Gemma 2 9B for H100s that are laid out so."""
    chips = str(math.prod(layout.mesh))
    shape = RowShape(tokens, 32, 64)
    more = {"mesh": functools.partial(make_mesh, *layout.mesh), "micro_batches": layout.micro_batches}
    return plan(model="gemma2_9b", chip="h100", topology=chips, row_shape=shape, rows_per_step=rows, **more)


@pytest.mark.parametrize(
    ("layout", "rows", "tokens", "advised"),
    [
        # Weights and moments on one chip are 110 GB: what is between does not help, and the mesh changes alone.
        (Layout((8, 1, 1), 1, "full"), 64, 2048, Layout((2, 4, 1), 1, "full")),
        (Layout((1, 8, 1), 1, "full"), 64, 8192, Layout((1, 8, 1), 2, "full")),
        (Layout((8, 1, 1), 1, "full"), 64, 8192, Layout((2, 4, 1), 2, "full")),
        # A row on each chip: only two chips that share a row need less.
        (Layout((1, 8, 1), 1, "full"), 8, 65_536, Layout((1, 4, 2), 2, "full")),
    ],
)
def test_a_plan_tells_the_smallest_change_and_with_it_the_step_fits(layout, rows, tokens, advised):
    planned = of_gpus(layout, rows, tokens)
    assert not planned.fits
    assert planned.figures["smallest change that fits"] == str(advised)
    assert of_gpus(advised, rows, tokens).fits


def test_where_nothing_helps_the_plan_says_what_would():
    told = lambda *of: of_gpus(*of).figures["smallest change that fits"]  # noqa: E731
    more = "none was found: take more chips"
    assert told(Layout((1, 1, 1), 1, "full"), 64, 2048) == f"{more}, or shorter rows"
    alone = "and as many times the rows (8 divide over 8 at most, times make_mesh.tensor)"
    assert told(Layout((1, 8, 1), 1, "full"), 8, 131_072) == f"{more}, {alone}, or shorter rows"


def test_nothing_is_compiled_where_weights_and_moments_alone_are_too_much(monkeypatch):
    compiled = []

    def compile_(*arguments):
        compiled.append(arguments[-1])
        return Compiled(1e12, None, 0.0)

    monkeypatch.setattr("crome_jax.training.plan.tpu_devices", lambda topology: jax.devices())
    monkeypatch.setattr("crome_jax.training.plan._compile", compile_)
    plan(model="gemma2_9b", chip="v5e", topology="2x4", rows_per_step=16, remat="none")
    # 12 bytes of 9.24 billion weights are 111 GB, over all eight chips 14 of the 17 that one has.
    assert compiled.pop(0) == Layout((8, 1, 1), 1, "none")
    assert compiled
    assert all(layout.mesh[1] * layout.mesh[2] == 8 for layout in compiled)
