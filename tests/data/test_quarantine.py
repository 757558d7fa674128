"""Bad records are counted and kept as they were; their file appears whole, or not at all."""

import json
import os

import pytest

from crome_jax.data.quarantine import Quarantine
from crome_jax.errors import CromeError, DataError


def test_a_quarantine_appears_with_its_first_record(tmp_path):
    path = tmp_path / "bad.jsonl"
    with Quarantine(path) as quarantine:
        pass
    assert not path.exists()
    with Quarantine(path) as quarantine:
        quarantine.add(DataError("is bad", file="f", record=3), b"\xff{")
        quarantine.add(DataError("is bad", file="f", record=4), {"a": 1})
        assert not path.exists()
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["raw"].encode(errors="surrogateescape") == b"\xff{"
    assert json.loads(second["raw"]) == {"a": 1}
    assert (quarantine.count, quarantine.first.record) == (2, 3)


def test_a_quarantine_replaces_another_only_when_asked(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("old")
    with pytest.raises(CromeError, match="exists already"), Quarantine(path) as quarantine:
        quarantine.add(DataError("is bad"), b"")
    assert path.read_text() == "old"
    with Quarantine(path, overwrite=True):
        pass
    assert not path.exists()


def test_a_failed_run_leaves_no_quarantine(tmp_path):
    with pytest.raises(ZeroDivisionError), Quarantine(tmp_path / "bad.jsonl") as quarantine:
        quarantine.add(DataError("is bad"), b"") or 1 / 0
    assert os.listdir(tmp_path) == []
