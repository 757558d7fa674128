"""The benchmark against TRL: both programs get the same conversations, and the page says what was measured."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from toy import token_groups

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

from benchmarks.trl import ours
from benchmarks.trl.__main__ import Measured, as_preferences, pairs_of, render, uncut
from benchmarks.trl.timing import Timing
from crome_jax.data.packing import RowShape, pack
from crome_jax.groups import Kind
from crome_jax.weights.backbones import load_backbone


def conversations(groups):
    """Return what the groups compare: prompt and chosen, prompt and rejected."""
    out = []
    for group in groups:
        for left, right, target in zip(group.left, group.right, group.target, strict=True):
            pair = [[*group.prompt, *group.responses[r]] for r in (left, right)]
            out.append(pair if target >= 0.5 else pair[::-1])
    return sorted(out)


def test_both_programs_get_every_comparison_once_the_better_answer_first():
    groups = token_groups(12)
    groups[3:6] = [dataclasses.replace(group, target=0 * group.target) for group in groups[3:6]]  # The right side wins.
    made = as_preferences(groups)
    assert {float(target) for group in made for target in group.target} == {1.0}
    assert {int(kind) for group in made for kind in group.kind} == {Kind.HUMAN}
    rows = pack(made, RowShape(128))
    pairs = [[pair["chosen_ids"], pair["rejected_ids"]] for pair in pairs_of(made, rows)]
    assert sorted(pairs) == conversations(groups)
    first = pairs_of(made, rows, 1)
    assert len(first) == (rows.batch.weight[0] > 0).sum() < len(pairs)


def test_groups_that_a_row_would_cut_are_left_out():
    groups = as_preferences(token_groups(12))
    sizes = [
        len(group.prompt)
        + max(len(group.responses[a]) + len(group.responses[b]) for a, b in zip(group.left, group.right, strict=True))
        for group in groups
    ]
    room = sorted(sizes)[6]
    kept = uncut(groups, room)
    assert [group.index for group in kept] == [i for i, size in enumerate(sizes) if size <= room]
    assert 0 < len(kept) < len(groups)
    assert pack(kept, RowShape(room)).truncated == 0
    long = dataclasses.replace(groups[0], responses=[np.arange(1, room + 1).tolist()] * len(groups[0].responses))
    assert uncut([long], room) == []


@pytest.mark.slow
def test_ours_trains_on_every_comparison_and_counts_its_tokens():
    base = load_backbone("tiny", 1)
    rows = pack(as_preferences(token_groups(12)), RowShape(128))
    loss, drawn, held = ours.train(base, rows, 1, len(rows))
    assert loss == pytest.approx(np.log(2), abs=1e-5)  # Of a head of zeros.
    assert drawn.pairs == held.pairs == (rows.batch.weight > 0).sum()
    assert drawn.tokens == rows.real_tokens
    assert drawn.tokens + drawn.padding == rows.batch.tokens.size


def test_the_page_gives_ratios_of_pairs_a_second_and_of_tokens():
    theirs, mine, held = Timing(10.0, 20.0, 8, 800, 200), Timing(2.0, 5.0, 8, 200, 0), Timing(1.9, 4.9, 8, 200, 0)
    page = render({"date": "today"}, [Measured("plain pairs", "4", 160, 1e-5, theirs, mine, held)])
    assert (
        "- plain pairs, training 4: **5.00 times** TRL's pairs/s (4.00 by CPU time); 100 tokens/s against 100" in page
    )
    assert "0.950 times as long as with batches that are drawn" in page
    assert "| plain pairs | 4 | TRL | 0.80 | 10.0 | 20.0 | 8 | 100 | 5.00 | 20.0% |" in page
    assert "| plain pairs | 4 | crome_jax | 4.00 | 2.0 | 5.0 | 8 | 25 | 1.25 | 0.0% |" in page
