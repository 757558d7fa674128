"""Scored records become a file of the kind that its name promises, and outlive a kill on their way there."""

import contextlib
import os
import shutil

import pytest

from crome_jax.data.records import read_records
from crome_jax.errors import CromeError
from crome_jax.evaluation.scored_file import ScoredFile, scored_output

LINES = [b'{"reward": 1.5}\n', b'{"reward": 2.0}\n', b'{"reward": 3.0}\n']


def write(out, lines=LINES):
    """Score one record a chunk, those that an earlier run has not; return how many that had."""
    with scored_output(out, overwrite=True, resumable=True) as folder:
        kept = ScoredFile(folder, {"input": "mine"})
        before = kept.taken
        for line in lines[before:]:
            kept.add([line], taken=1, cut=0, refused={})
    return before


def rewards(out):
    return [record.value["reward"] for record in read_records(out)]


@pytest.mark.parametrize("name", ["scored.jsonl", "scored.jsonl.gz"])
def test_a_scored_file_is_what_its_name_says(tmp_path, name):
    out = tmp_path / name
    assert write(out) == 0
    assert rewards(out) == [1.5, 2.0, 3.0]
    first = out.read_bytes()
    assert first.startswith(b"\x1f\x8b") == name.endswith(".gz")
    write(out)
    assert out.read_bytes() == first
    assert os.listdir(tmp_path) == [name]


def test_a_run_that_is_killed_while_it_packs_goes_on_where_it_was(tmp_path, monkeypatch):
    def kill(source, target, size):
        target.write(source.read(20))
        raise KeyboardInterrupt

    out = tmp_path / "scored.jsonl.gz"
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(shutil, "copyfileobj", kill)
        write(out, LINES[:2])
    assert not out.exists()
    assert write(out) == 2
    assert rewards(out) == [1.5, 2.0, 3.0]
    assert os.listdir(tmp_path) == [out.name]


def test_a_name_that_promises_parquet_is_refused(tmp_path):
    with pytest.raises(CromeError, match=r"a\.parquet: would hold JSON lines under that name; end it in \.jsonl"):
        write(tmp_path / "a.parquet")
    assert not os.listdir(tmp_path)
