"""Attributes get numbers by how common they are; past the number that a step sums, they share one."""

import dataclasses

import numpy as np
from toy import ROWS, WordTokenizer, text_groups

from crome_jax.batch import ATTRIBUTES
from crome_jax.data.attributes import OTHERS, tell_commonest_apart
from crome_jax.data.loading import batches, fingerprint, pack_groups
from crome_jax.data.packing import RowShape, join_rows
from crome_jax.groups import Kind

SHAPE = RowShape(64, 8, 8)


def packed(names):
    """Pack a group for each name, its causal comparison along the attribute of that name."""
    groups = [
        dataclasses.replace(group, comparisons=tuple(dataclasses.replace(c, attribute=name) for c in group.comparisons))
        for group, name in zip(text_groups(len(names)), names, strict=True)
    ]
    return pack_groups(groups, WordTokenizer(), SHAPE)


def counted(rows, **most):
    """Return attribute -> causal comparisons that its number stands on."""
    told = tell_commonest_apart(rows, **most)
    names, numbers = told.attributes, told.batch.attribute
    assert not numbers[rows.batch.kind != Kind.CAUSAL].any()
    return {name: int((numbers == n).sum()) for n, name in enumerate(names, 1)}


def test_the_commonest_comes_first_and_comparisons_of_other_kinds_have_none():
    rows = packed(["order", "tone", "order", "a name / of any sort", "order", "tone"])
    assert list(counted(rows).items()) == [("order", 3), ("tone", 2), ("a name / of any sort", 1)]


def test_what_is_too_rare_for_a_number_shares_the_last():
    rows = packed(["order"] * 3 + ["tone"] * 2 + ["c", "b", "a"])
    assert counted(rows, most=3) == {"order": 3, "tone": 2, OTHERS: 3}
    assert counted(rows, most=5) == {"order": 3, "tone": 2, "a": 1, "b": 1, "c": 1}
    many = packed([f"attribute {n}" for n in range(ATTRIBUTES + 1)])
    assert counted(many)[OTHERS] == 2


def test_rows_of_several_data_sets_share_the_numbers():
    parts = [packed(names) for names in (["tone", "order", "order"], ["depth", "tone", "tone", "tone"])]
    together = join_rows([(rows, int(rows.groups.max()) + 1) for rows in parts])
    assert list(counted(together).items()) == [("tone", 4), ("order", 2), ("depth", 1)]


def test_batches_carry_them_where_there_are_any_and_a_run_is_the_same_run_without():
    told = tell_commonest_apart(ROWS)
    numbers = told.batch.attribute
    assert {*told.attributes} == {"order", "factuality"}
    batch = next(batches(told, rows_per_step=len(told), seed=0))
    order = [int(np.flatnonzero((ROWS.batch.tokens == row).all(axis=1))[0]) for row in batch["tokens"]]
    np.testing.assert_array_equal(batch["attribute"], numbers[order])
    # Nothing is learned from them: a run's data are what they were before there were any.
    without = packed([None] * 4)
    assert "attribute" not in next(batches(without, rows_per_step=1, seed=0))
    assert fingerprint(packed(["order"] * 4)) == fingerprint(without)
