"""The benchmark on one long row, on a short one."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

from benchmarks.long_row import __main__ as long_row
from benchmarks.long_row.step import fill_row, measure


def test_the_row_is_full_and_has_as_many_slots_as_any_row_of_its_length():
    rows = fill_row(4096, 64)
    assert rows.batch.tokens.shape == (1, 4096)
    assert rows.real_tokens == 4 * 960
    assert rows.batch.response_ends.shape == (1, 256)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_a_step_says_what_it_took():
    taken = measure(1024, 1, "none", backbone="tiny")
    assert taken["tokens"] == 960
    assert taken["peak"] > taken["temporary"] > 0
    assert min(taken["compiling"], taken["step"], taken["loss"]) > 0
    compiled = measure(1024, 1, "none", backbone="tiny", run=False)
    assert compiled.keys() == {"compiling", "temporary", "peak"}
    assert compiled["temporary"] == taken["temporary"]


def test_the_page_has_every_figure():
    taken = {"compiling": 61.2, "step": 100.4, "loss": 0.7, "tokens": 5020.0, "peak": 3.21e9, "temporary": 2e9}
    page = long_row._render({"date": "today"}, [(8192, 4, "full", taken), (32768, "all", "full", taken)])
    assert "| 8,192 | the last 4 layers | full | **3.21** |  | 2.00 | 61 | 100 | 50 |" in page
    assert "| 32,768 | all | full | **3.21** | below 8 | 2.00 | 61 | 100 | 50 |" in page
    compiled = {name: taken[name] for name in ("compiling", "peak", "temporary")}
    page = long_row._render({"date": "today"}, [(32768, 4, "full", compiled)])
    assert "| 32,768 | the last 4 layers | full | **5.21** | below 8 | 2.00 | 61 | – | – |" in page
