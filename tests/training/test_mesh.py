"""Where arrays lie on the mesh, and what is said where they cannot."""

import re

import pytest
from toy import batch, holding, mesh_of

from crome_jax.errors import CromeError
from crome_jax.models.config import tiny
from crome_jax.models.presets import PRESETS
from crome_jax.models.weights import declare
from crome_jax.training.mesh import (
    batch_sharding,
    check_parts,
    make_mesh,
    row_shards,
    rows_of_process,
    weight_shardings,
)


def test_what_other_axes_leave_is_for_data():
    assert dict(make_mesh(fsdp=2, tensor=2).shape) == {"replica": 1, "data": 2, "fsdp": 2, "tensor": 2}
    assert dict(make_mesh(fsdp=2, replica=2).shape) == {"replica": 2, "data": 2, "fsdp": 2, "tensor": 1}


@pytest.mark.parametrize(
    "sizes", [(3, 1, 1), (-1, 3, 1), (-1, 0, 1), (-1, 16, 1), (8, -1, -1), (1, 1, 1), (4, 1, 1, 3)]
)
def test_sizes_that_do_not_use_every_device_are_an_error_that_names_those_that_do(sizes):
    with pytest.raises(CromeError, match=r"does not use 8 devices exactly; .* at one of 1, 2, 4, 8"):
        make_mesh(*sizes)


def test_of_several_slices_only_replicas_talk_between_them(monkeypatch):
    class Chip:
        platform, device_kind, process_index = "tpu", "TPU v5 lite", 0

        def __init__(self, number):
            self.id, self.slice_index, self.coords, self.core_on_chip = number, number // 4, (number % 4, 0, 0), 0

    # In an order in which the slices alternate.
    chips = [Chip(number) for number in (0, 4, 1, 5, 2, 6, 3, 7)]
    monkeypatch.setattr("crome_jax.training.mesh.Mesh", lambda devices, axes, axis_types: devices)
    laid_out = make_mesh(fsdp=2, replica=2, devices=chips)
    assert laid_out.shape == (2, 2, 2, 1)
    for number, one in enumerate(laid_out):
        assert {chip.slice_index for chip in one.flat} == {number}
    with pytest.raises(CromeError, match=r"make_mesh.replica is 1, .* of 2 slices, .*; use one of \[2, 4, 8\]"):
        make_mesh(devices=chips)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((2, 1, 4), r"kv_heads has 2 entries, not divisible by tensor = 4; use one of \[1, 2\]"),
        ((1, 3, 2), r"embed has 32 entries, not divisible by fsdp = 3; use one of \[1, 2\]"),
    ],
)
def test_an_axis_that_does_not_divide_is_told_with_sizes_that_do(sizes, message):
    with pytest.raises(CromeError, match=message):
        weight_shardings(declare(tiny()), mesh_of(*sizes))


def test_rows_that_do_not_divide_over_the_devices_are_an_error():
    with pytest.raises(
        CromeError, match="8 rows do not divide over replica x data x fsdp = 6 devices; take a multiple of 6"
    ):
        batch(mesh_of(3, 2, 1))


@pytest.mark.parametrize(
    ("sizes", "micro_batches", "fits", "works"),
    [
        ((2, 3, 1), 2, "make_mesh.tensor at one of [3, 6], or 4 devices", [((1, 2, 3), 2), ((2, 2, 1), 2)]),
        (
            (4, 1, 2),
            4,
            "micro_batches at one of [1, 2], or make_mesh.tensor at one of [4, 8], or 4 devices",
            [((4, 1, 2), 2), ((2, 1, 4), 4), ((1, 1, 8), 4), ((2, 1, 2), 4)],
        ),
        ((3, 1, 1), 3, None, []),
    ],
)
def test_rows_that_stay_are_told_the_devices_and_micro_batches_that_they_divide_over(sizes, micro_batches, fits, works):
    with pytest.raises(CromeError, match=r"rows_per_step is 8, .*; take a multiple of") as told:
        check_parts(mesh_of(*sizes), 8, micro_batches)
    assert str(told.value).partition("a run that goes on keeps, ")[2] == (fits or "")
    for sizes, micro_batches in works:
        check_parts(mesh_of(*sizes), 8, micro_batches)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 4, 2), (1, 2, 2, 2), (1, 1, 4, 2)])
def test_a_process_holds_the_rows_of_its_devices(sizes):
    mesh = mesh_of(*sizes)
    assert rows_of_process(mesh, 16).tolist() == [*range(16)]
    # As a process of half the devices would see it: two hosts of four devices.
    for half in (mesh.devices.flat[:4], mesh.devices.flat[4:]):
        with holding(half):
            mine = rows_of_process(mesh, 16).tolist()
        placed = batch_sharding(mesh).devices_indices_map((16,))
        assert mine == sorted({row for d in half for row in range(16)[placed[d][0]]})
        assert len(mine) == 16 * max(1, row_shards(mesh) // 2) // row_shards(mesh)


PRESET_MESHES = [(8, 1, 1), (1, 8, 1), (1, 4, 2), (1, 2, 4), (1, 1, 8), (2, 2, 1, 2)]


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_size_lies_on_a_mesh_or_the_error_names_sizes_that_do(name):
    declared = declare(PRESETS[name].cfg)
    for sizes in PRESET_MESHES:
        try:
            weight_shardings(declared, mesh_of(*sizes))
        except CromeError as e:
            axis, fits = re.search(r"divisible by (\w+) = \d+; use one of \[(.+)\]", str(e)).groups()
            for fit in map(int, fits.split(", ")):
                weight_shardings(declared, make_mesh(**{axis: fit}))
        else:
            cfg = PRESETS[name].cfg
            assert cfg.width % sizes[1] == cfg.kv_heads % sizes[2] == cfg.ffn_width % sizes[2] == 0
