"""Which causal attributes metrics tell apart: an oracle may name any number of them, a compiled step sums so many."""

import dataclasses

import numpy as np

from crome_jax.batch import ATTRIBUTES
from crome_jax.data.packing import Rows

OTHERS = "other attributes"
"""What those are counted as that are too rare for a number of their own."""


def tell_commonest_apart(rows: Rows, most: int = ATTRIBUTES) -> Rows:
    """Number the attributes of packed rows from 1, the one that most comparisons move first.

    Where there are more than `most`, those past the first most - 1 share the last number.
    """
    counts = np.bincount(rows.batch.attribute.ravel(), minlength=len(rows.attributes) + 1)[1:]
    ranked = sorted(range(len(counts)), key=lambda a: (-counts[a], rows.attributes[a]))
    number = np.zeros(len(counts) + 1, np.int32)
    number[[a + 1 for a in ranked]] = np.minimum(np.arange(1, len(ranked) + 1), most)
    names = tuple(rows.attributes[a] for a in ranked)
    if len(names) > most:
        names = (*names[: most - 1], OTHERS)
    return dataclasses.replace(rows, batch=rows.batch.replace(attribute=number[rows.batch.attribute]), attributes=names)
