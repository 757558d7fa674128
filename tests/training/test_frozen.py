"""Computing the frozen layers ahead changes nothing but the work."""

import dataclasses
import functools
import os
import shutil

import jax
import numpy as np
import pytest
from toy import CFG, ONE, ROWS, batch, mesh_of, start, step_on, token_groups

from crome_jax.data.packing import RowShape, pack
from crome_jax.errors import CromeError
from crome_jax.evaluation.scoring import make_scorer, score_rows
from crome_jax.training.frozen import KnownHidden, make_trunk, precompute_hidden
from crome_jax.training.hidden_store import HiddenStore, check_store
from crome_jax.training.train import above_trunk
from crome_jax.weights.backbones import Backbone


def ahead(mesh, frozen, **options) -> np.ndarray:
    return precompute_hidden(ROWS, frozen, make_trunk(CFG, mesh), mesh, width=CFG.width, **options)[0]


def assert_close(ours, theirs):
    """Assert equality to fp32 rounding."""
    assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)


def test_rewards_and_training_are_the_same():
    mesh = mesh_of(*ONE)
    computed, frozen = start(mesh)
    given, _ = start(mesh)
    hidden = ahead(mesh, frozen)
    above = above_trunk(frozen)
    scorer = make_scorer(CFG, mesh)
    expected = score_rows(scorer, {**frozen, **computed.trained}, ROWS, mesh)
    assert_close(score_rows(scorer, {**above, **given.trained}, ROWS, mesh, hidden=hidden), expected)
    for number in range(3):
        computed, metrics = step_on()(computed, frozen, batch(mesh, number))
        given, same = step_on()(given, above, batch(mesh, number, hidden=hidden[number : number + 8]))
        np.testing.assert_allclose(same["loss"], metrics["loss"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(given.trained), jax.tree.leaves(computed.trained), strict=True):
        assert_close(a, b)


def test_any_number_of_rows_at_once_on_any_mesh_gives_the_same():
    one, many = mesh_of(*ONE), mesh_of(2, 1, 2)
    progress = []
    expected = ahead(one, start(one)[1], rows_at_once=len(ROWS))
    # Three do not divide over two devices: four are taken, and the last call repeats rows.
    hidden = ahead(many, start(many)[1], rows_at_once=3, on_progress=lambda *done: progress.append(done))
    assert_close(hidden, expected)
    assert [done for done, _ in progress] == [*range(4, len(ROWS), 4), len(ROWS)]


def test_texts_that_were_encoded_before_are_not_encoded_again_in_whatever_row_they_stand():
    mesh = mesh_of(*ONE)
    _, frozen = start(mesh)
    known, trunk = KnownHidden(), make_trunk(CFG, mesh)
    encode = functools.partial(precompute_hidden, frozen=frozen, run_trunk=trunk, mesh=mesh, width=CFG.width)
    _, computed = encode(ROWS, known=known)
    assert computed == ROWS.real_tokens
    groups = token_groups(48)
    # Other rows: in the reverse order, fewer responses of some groups.
    fewer = [dataclasses.replace(g, left=g.left[:1], right=g.right[:1], kind=g.kind[:1]) for g in groups[:10]]
    others = pack([*groups[:20:-1], *fewer], RowShape(56, 12, 8))
    again, computed = encode(others, known=known)
    assert computed == 0
    real = others.batch.group_ids > 0
    assert_close(again[real], encode(others)[0][real])
    # One group more that is new: its row alone is computed, and known from then on.
    new = dataclasses.replace(groups[0], prompt=[11, 12, 13])
    more = pack([*groups[30:], new], RowShape(64, 12, 12), lookahead=1)
    hidden, computed = encode(more, known=known)
    assert 0 < computed < more.real_tokens
    real = more.batch.group_ids > 0
    assert_close(hidden[real], encode(more)[0][real])
    assert encode(more, known=known)[1] == 0


class Stores:
    """Stores in one folder, of the toy backbone cut as a study would."""

    def __init__(self, folder, limit=1e9):
        self.folder, self.limit = folder, limit
        self.mesh = mesh_of(*ONE)
        self.frozen = start(self.mesh)[1]

    def open(self, fingerprint="a", trainable=1, dtype="float32"):
        base = Backbone("toy", CFG, trainable, None, {}, None, fingerprint)
        return HiddenStore(self.folder, base, trainable, dtype, self.limit)

    def encode(self, rows, known):
        trunk = make_trunk(CFG, self.mesh)
        return precompute_hidden(rows, self.frozen, trunk, self.mesh, width=CFG.width, known=known)

    def bytes(self):
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def test_what_one_process_computed_another_finds_and_nothing_else(tmp_path):
    stores = Stores(tmp_path)
    expected, computed = stores.encode(ROWS, stores.open())
    assert computed == ROWS.real_tokens
    written = stores.bytes()
    found, computed = stores.encode(ROWS, stores.open())
    assert (computed, stores.bytes()) == (0, written)
    real = ROWS.batch.group_ids > 0
    np.testing.assert_array_equal(found[real], expected[real])
    # Other bytes of weights, another cut, another dtype: nothing is known of them.
    for others in ({"fingerprint": "b"}, {"trainable": "head"}, {"dtype": "bfloat16"}):
        assert stores.encode(ROWS, stores.open(**others))[1] == ROWS.real_tokens
    # A group more: its row alone is computed and written.
    new = dataclasses.replace(token_groups(1)[0], prompt=[11, 12, 13])
    more = pack([*token_groups(48)[30:], new], RowShape(64, 12, 12), lookahead=1)
    assert 0 < stores.encode(more, stores.open())[1] < more.real_tokens
    assert stores.encode(more, stores.open())[1] == 0


def test_a_store_that_was_cut_off_or_damaged_computes_what_is_missing(tmp_path, capsys):
    stores = Stores(tmp_path)

    def stop(done, total):
        if done > 8:
            raise KeyboardInterrupt

    trunk = make_trunk(CFG, stores.mesh)
    encode = functools.partial(precompute_hidden, ROWS, stores.frozen, trunk, stores.mesh, width=CFG.width)
    with pytest.raises(KeyboardInterrupt):
        encode(known=stores.open(), on_progress=stop)
    _, computed = encode(known=stores.open())
    assert computed == int((ROWS.batch.group_ids[16:] > 0).sum())
    damaged = [*sorted(tmp_path.glob("*/*/hidden.f32"))[:1], *sorted(tmp_path.glob("*/*/index.npz"))[1:2]]
    for file in damaged:
        file.write_bytes(file.read_bytes()[:-100])
    expected, _ = encode()
    found, computed = encode(known=stores.open())
    assert 0 < computed < ROWS.real_tokens
    assert capsys.readouterr().err.count("not read") == 2
    real = ROWS.batch.group_ids > 0
    assert_close(found[real], expected[real])
    assert encode(known=stores.open())[1] == 0
    assert "not read" not in capsys.readouterr().err


def test_a_store_never_holds_more_than_it_may_and_forgets_what_was_not_used(tmp_path):
    stores = Stores(tmp_path)
    stores.encode(ROWS, stores.open())
    shards = sorted(tmp_path.glob("*/*"), key=lambda shard: shard.stat().st_mtime_ns)
    for age, shard in enumerate(shards):
        os.utime(shard, (1e9 - age, 1e9 - age))  # The last is the oldest now.
    stores.limit = stores.bytes() - 1
    store = stores.open("b")  # Of another backbone: what is there is not touched by opening.
    stores.encode(ROWS, store)
    assert stores.bytes() <= stores.limit
    assert not shards[-1].exists()
    # Deleted or not, what this process computed it still knows.
    assert stores.encode(ROWS, store)[1] == 0
    stores.limit = 100
    assert stores.encode(ROWS, stores.open("c"))[1] == ROWS.real_tokens
    with pytest.raises(CromeError, match="hidden_cache_bytes is 0; give a positive number"):
        check_store("x", 0)
    (tmp_path / "file").touch()
    with pytest.raises(CromeError, match="is no folder; give another hidden_cache"):
        check_store(str(tmp_path / "file"), 1)


def test_a_disk_too_small_is_told_before_anything_is_computed(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(CromeError, match=r"takes 0\.0 GB, 0\.0 GB are free; set TMPDIR"):
        ahead(mesh_of(*ONE), None)
