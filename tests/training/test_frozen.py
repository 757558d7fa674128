"""Computing the frozen layers ahead changes nothing but the work."""

import dataclasses
import functools
import shutil

import jax
import numpy as np
import pytest
from toy import CFG, ONE, ROWS, batch, mesh_of, start, step_on, token_groups

from crome_jax.data.packing import RowShape, pack
from crome_jax.errors import CromeError
from crome_jax.evaluation.scoring import make_scorer, score_rows
from crome_jax.training.frozen import KnownHidden, make_trunk, precompute_hidden
from crome_jax.training.train import above_trunk


def ahead(mesh, frozen, **options) -> np.ndarray:
    return precompute_hidden(ROWS, frozen, make_trunk(CFG), mesh, width=CFG.width, **options)[0]


def assert_close(ours, theirs):
    """Assert equality to fp32 rounding."""
    assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)


def test_rewards_and_training_are_the_same():
    mesh = mesh_of(*ONE)
    computed, frozen = start(mesh)
    given, _ = start(mesh)
    hidden = ahead(mesh, frozen)
    above = above_trunk(frozen)
    scorer = make_scorer(CFG)
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
    known, trunk = KnownHidden(), make_trunk(CFG)
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


def test_a_disk_too_small_is_told_before_anything_is_computed(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(CromeError, match=r"takes 0\.0 GB, 0\.0 GB are free; set TMPDIR"):
        ahead(mesh_of(*ONE), None)
