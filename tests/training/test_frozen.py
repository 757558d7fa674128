"""Computing the frozen layers ahead changes nothing but the work."""

import shutil

import jax
import numpy as np
import pytest
from toy import CFG, ONE, ROWS, batch, mesh_of, start, step_on

from crome_jax.errors import CromeError
from crome_jax.evaluation.scoring import make_scorer, score_rows
from crome_jax.training.frozen import make_trunk, precompute_hidden
from crome_jax.training.train import above_trunk


def ahead(mesh, frozen, **options) -> np.ndarray:
    return precompute_hidden(ROWS, frozen, make_trunk(CFG), mesh, width=CFG.width, **options)


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


def test_a_disk_too_small_is_told_before_anything_is_computed(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(CromeError, match=r"takes 0\.0 GB, 0\.0 GB are free; set TMPDIR"):
        ahead(mesh_of(*ONE), None)
