import pytest
from toy import batch, mesh_of

from crome_jax.errors import CromeError
from crome_jax.models.config import tiny
from crome_jax.models.weights import declare
from crome_jax.training.mesh import make_mesh, weight_shardings


def test_what_other_axes_leave_is_for_data():
    assert dict(make_mesh(fsdp=2, tensor=2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (-1, 0, 1), (-1, 16, 1), (8, -1, -1), (1, 1, 1)])
def test_sizes_that_do_not_use_every_device_are_an_error(sizes):
    with pytest.raises(CromeError, match="does not use 8 devices exactly"):
        make_mesh(*sizes)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((2, 1, 4), r"kv_heads has 2 entries, not divisible by tensor = 4; use one of \[1, 2\]"),
        ((1, 5, 1), r"embed has 32 entries, not divisible by fsdp = 5; use one of \[1, 2, 4\]"),
    ],
)
def test_an_axis_that_does_not_divide_is_told_with_sizes_that_do(sizes, message):
    with pytest.raises(CromeError, match=message):
        weight_shardings(declare(tiny()), mesh_of(*sizes))


def test_rows_that_do_not_divide_over_the_devices_are_an_error():
    with pytest.raises(CromeError, match="8 rows do not divide over data x fsdp = 6 devices; take a multiple of 6"):
        batch(mesh_of(3, 2, 1))
