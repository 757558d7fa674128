"""A run that goes on elsewhere, on more hosts and then on fewer, trains on the same data in the same order."""

import pytest
from test_processes import curve, data, finish, start, start_all  # noqa: F401 (data is a fixture)


@pytest.mark.slow
def test_a_run_goes_on_on_more_hosts_and_then_on_fewer(data, tmp_path):  # noqa: F811
    stayed, moved = tmp_path / "stayed", tmp_path / "moved"
    finish(start(data, stayed, steps=6, devices=2))
    finish(start(data, moved, steps=2, devices=2))
    finish(*start_all(2, data, moved, steps=4, devices=2))
    finish(start(data, moved, steps=6, devices=2))
    ours, theirs = curve(moved), curve(stayed)
    assert [*ours] == [*theirs] == [*range(1, 7)]
    for step, loss in theirs.items():
        # Sums of float32 in another order, through six steps of Adam.
        assert ours[step] == pytest.approx(loss, rel=1e-4)
