"""Bad records are counted and kept as they were; their file appears whole, or not at all."""

import json
import os
from pathlib import Path

import pytest

from crome_jax.data.quarantine import Quarantine, list_beside
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
    with pytest.raises(CromeError, match="no list of bad records"), Quarantine(path, overwrite=True) as quarantine:
        quarantine.add(DataError("is bad"), b"")
    assert path.read_text() == "old"
    path.unlink()
    for raw in (b"first", b"second"):
        with Quarantine(path, overwrite=True) as quarantine:
            quarantine.add(DataError("is bad"), raw)
    assert json.loads(path.read_text())["raw"] == "second"
    with Quarantine(path, overwrite=True):
        pass
    assert json.loads(path.read_text())["raw"] == "second"


@pytest.mark.parametrize("folder", [False, True])
def test_an_input_is_never_replaced(tmp_path, folder):
    path = tmp_path / "bad.jsonl"
    with Quarantine(path) as quarantine:
        quarantine.add(DataError("is bad"), b"first")
    source = tmp_path if folder else path
    again = Quarantine(path, overwrite=True, inputs=[source])
    with pytest.raises(CromeError, match="is read"), again as quarantine:
        quarantine.add(DataError("is bad"), b"second")
    assert json.loads(path.read_text())["raw"] == "first"


@pytest.mark.parametrize("out", [".", "..", "a/..", "x", "a/x"])
def test_a_list_is_beside_its_output(tmp_path, monkeypatch, out):
    (tmp_path / "b" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "b")
    place, whole = list_beside(Path(out)).resolve(), Path(out).resolve()
    assert (place.parent, place.name) == (whole.parent, f"{whole.name}.bad.jsonl")


def test_nothing_is_beside_the_root():
    with pytest.raises(CromeError, match="name a folder"):
        list_beside(Path("/"))


def test_a_failed_run_leaves_no_quarantine(tmp_path):
    with pytest.raises(ZeroDivisionError), Quarantine(tmp_path / "bad.jsonl") as quarantine:
        quarantine.add(DataError("is bad"), b"") or 1 / 0
    assert os.listdir(tmp_path) == []
