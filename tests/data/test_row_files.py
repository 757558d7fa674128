"""Rows in files are the rows in memory, and a process reads those that its devices hold, and no others."""

import json

import numpy as np
import pytest
from toy import ROWS, WordTokenizer, holding, mesh_of, text_groups

from crome_jax.batch import FIELDS
from crome_jax.data import training_data
from crome_jax.data.loading import batches
from crome_jax.data.packing import RowShape
from crome_jax.data.quarantine import Quarantine
from crome_jax.data.row_files import INDEX_FILE, RowFiles, write_row_files
from crome_jax.data.training_data import open_training_data, read_training_data
from crome_jax.errors import CromeError
from crome_jax.groups import to_json

N = len(ROWS)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr("crome_jax.data.row_files.ROWS_OF_A_FILE", 7)
    return write_row_files(tmp_path / "rows", ROWS, lambda row: [f"record-{row}", "é"], {"packing": {"rows": N}})


def shards(folder):
    return sorted(folder.glob("*.array_record"))


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_rows_come_back_in_any_order_with_their_records(files, tmp_path):
    assert len(shards(tmp_path / "rows")) == -(-N // 7) > 2
    numbers = np.random.default_rng(0).permutation(N)
    for rows in (files, RowFiles(tmp_path / "rows")):
        assert len(rows) == N
        for name, values in rows.take(numbers).items():
            np.testing.assert_array_equal(values, getattr(ROWS.batch, name)[numbers])
            assert values.dtype == getattr(ROWS.batch, name).dtype
        assert rows.records(N - 1) == [f"record-{N - 1}", "é"]
        assert rows.facts == {"packing": {"rows": N}}
        assert rows.is_whole()


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 1, 2)])
def test_a_process_reads_only_the_rows_of_its_devices(files, tmp_path, sizes, monkeypatch):
    """Three quarters of the devices are another process's, as in the test of the rows in memory."""
    mesh, steps = mesh_of(*sizes), 3
    alone = batches(ROWS, rows_per_step=16, seed=0)
    expected = [next(alone) for _ in range(steps)]
    read = []
    for first in range(0, 8, 2):
        rows, asked = RowFiles(tmp_path / "rows"), []
        take = rows.take
        monkeypatch.setattr(
            rows, "take", lambda numbers, take=take, asked=asked: asked.append(numbers) or take(numbers)
        )
        with holding(mesh.devices.flat[first : first + 2]):
            iterator = batches(rows, rows_per_step=16, seed=0, mesh=mesh)
        share = [next(iterator) for _ in range(steps)]
        for step, part in zip(expected, share, strict=True):
            at = [step["tokens"].tolist().index(row) for row in part["tokens"].tolist()]
            for name in FIELDS:
                np.testing.assert_array_equal(part[name], step[name][at])
        # Each batch read, those read ahead too, is a quarter of a step's rows, or half where a tensor axis is shared.
        held = len(share[0]["tokens"])
        assert {len(numbers) for numbers in asked} == {held}
        assert rows.rows_read == held * len(asked)
        read.append(held)
    assert sum(read) == 16


def test_a_damaged_row_is_named_and_no_other_lost(files, tmp_path):
    path = shards(tmp_path / "rows")[1]
    flip(path, 600)  # Behind the file's header, far before its end, where it says what is in it.
    rows = RowFiles(tmp_path / "rows")
    assert not rows.is_whole()
    told = []
    for number in range(N):
        try:
            tokens = rows.take([number])["tokens"][0]
        except CromeError as e:
            told.append((number, str(e)))
        else:
            np.testing.assert_array_equal(tokens, ROWS.batch.tokens[number])
    assert told
    for number, message in told:
        assert 7 <= number < 14
        assert f"{path}: row {number - 6} is damaged (" in message
        assert "delete that folder: the same command writes it again" in message
    iterator = batches(rows, rows_per_step=N, seed=0)
    with pytest.raises(CromeError, match=r"rows-00001-of-.*array_record: row \d is damaged"):
        next(iterator)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: shards(folder)[-1].unlink(), r"array_record: is missing, of \d+ files; every host must see"),
        (lambda folder: shards(folder)[0].write_bytes(b"x"), r"array_record: has 1 bytes, not [\d,]+; delete"),
        # The header of the second block of 64 KB, where the file ends with what is in it.
        (lambda folder: flip(shards(folder)[0], 1 << 16), r"rows: is damaged \(.*; delete"),
        (lambda folder: (folder / INDEX_FILE).write_text("{}"), r"index.json: is no index of rows"),
        (lambda folder: (folder / INDEX_FILE).unlink(), r"index.json: cannot be read"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_read(files, tmp_path, harm, message):
    harm(tmp_path / "rows")
    with pytest.raises(CromeError, match=message):
        RowFiles(tmp_path / "rows")


SHAPE = RowShape(64, 8, 8)


def read(tmp_path, shape=SHAPE, **given):
    path = tmp_path / "toy.jsonl"
    path.write_text("".join(to_json(group) + "\n" for group in text_groups(9)))
    return read_training_data({str(path): 1.0}, ("human",), ("original", "upgraded"), WordTokenizer(), shape, **given)


def test_what_is_kept_is_what_was_packed_and_is_not_packed_again(tmp_path, monkeypatch):
    folder = tmp_path / "run" / "rows"
    packed = read(tmp_path, kept=folder)
    assert not folder.exists()
    kept = packed.kept_in(folder)
    again = open_training_data(folder)
    for name in ("mixture", "fingerprint", "source", "packing"):
        assert getattr(kept, name) == getattr(again, name) == getattr(packed, name)
    assert [again.records(row) for row in range(len(packed.rows))] == [*map(packed.records, range(len(packed.rows)))]
    assert {id for row in range(len(packed.rows)) for id in packed.records(row)} == {g.id for g in text_groups(9)}
    with monkeypatch.context() as patch:
        patch.setattr(training_data, "pack_groups", lambda *_, **__: pytest.fail("packed again"))
        assert isinstance(read(tmp_path, kept=folder).rows, RowFiles)
    # Of another shape, damaged, or with a list of bad records to be made, they are packed anew.
    assert not isinstance(read(tmp_path, RowShape(96, 8, 8), kept=folder).rows, RowFiles)
    with Quarantine() as quarantine:
        assert not isinstance(read(tmp_path, kept=folder, quarantine=quarantine).rows, RowFiles)
    flip(shards(folder)[0], 600)
    (folder.parent / ".rows.killed12.partial" / "finished").mkdir(parents=True)
    mended = read(tmp_path, kept=folder).kept_in(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["rows"]
    assert mended.rows.is_whole()
    assert mended.fingerprint == json.loads((folder / INDEX_FILE).read_text())["facts"]["fingerprint"]
