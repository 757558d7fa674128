"""The benchmark on packing: what is counted, by hand, and what is said of it."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # The benchmarks are no part of the package.

from benchmarks.packing import __main__ as packing
from benchmarks.packing.distinct import distinct_tokens, distinct_tokens_as_cut
from crome_jax.data.packing import RowShape, TokenizedGroup, pack


def group(prompt: int, *responses: int) -> TokenizedGroup:
    """Make a group of so many tokens each, whose first response is compared with each other one."""
    right = np.arange(1, len(responses), dtype=np.int32)
    ones = np.ones(len(right), np.float32)
    numbers = [list(range(100 * r, 100 * r + length)) for r, length in enumerate(responses, 1)]
    same = np.zeros_like(right)
    return TokenizedGroup(0, list(range(prompt)), numbers, same, right, same, ones, ones, 0 * ones)


@pytest.mark.parametrize(
    ("given", "encoded", "distinct", "whole"),
    [
        (group(2, 5, 5, 5), 24, 17, 17),  # Two rows: prompt and first response twice.
        (group(4, 8, 8), 12, 12, 20),  # Both responses cut to four tokens.
    ],
    ids=["split", "cut"],
)
def test_a_response_counts_once_and_as_it_was_cut(given, encoded, distinct, whole):
    rows = pack([given], RowShape(12, 4, 4))
    assert rows.real_tokens == encoded
    assert distinct_tokens_as_cut([given], rows) == distinct
    assert distinct_tokens([given]) == whole


def test_rows_that_miss_what_is_wanted_are_named_with_the_reason():
    tokens = np.array([100, 3000, 5000, 9000])
    assert packing._missed("a", 8192, 0.049, 1.05, tokens) == []
    missed = packing._missed("a", 2048, 0.05, 1.2, tokens)
    assert missed == [
        "- a in rows of 2,048: padding 5.0%, encoded / distinct 1.200; 75% of the groups are larger than a row"
    ]
    assert missed[0] in packing._goals(missed)
    assert packing._goals([]).endswith("All rows keep to it.")
