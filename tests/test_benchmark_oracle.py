"""The benchmark of the chat oracle, on a few requests."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

pytest.importorskip("apache_beam", reason="apache-beam is not installed: ./launch/setup.sh beam")

from benchmarks.oracle.__main__ import run


@pytest.mark.slow
def test_the_page_has_every_figure(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])  # It starts itself anew to measure memory.
    run(["--requests", "128", "--groups", "40", "--table", str(tmp_path / "page.md")])
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", (tmp_path / "page.md").read_text(), re.MULTILINE))
    assert rows["requests"] == "128"
    assert 0 < float(rows["of the ideal rate"].split("%")[0]) <= 101
    alone = ("the openai client alone", "the same by its `create` over httpx")
    ours = "all of ours in one run: engine and client, no endpoint"
    for name in ("all of it", *alone, "all but the client", ours, "of a reply found in the cache"):
        assert 0 < float(rows[f"CPU, {name}"].split(" ")[0]) < 100
    # A group of this plan takes one request for its attributes and one rewrite.
    assert rows["planning 40 groups"].startswith("80 requests, ")
