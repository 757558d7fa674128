"""A group through TFDS's features and back is the same group, to the bit."""

import sys

import pytest
from hypothesis import example, given
from strategies import groups

from crome_jax.data.features import decode_group, encode_group, group_features
from crome_jax.groups import Comparison, Response, build_group

FEATURES = group_features()

EXACT = build_group(
    id="g",
    prompt="q",
    responses=[Response("a", attribute="", edit=None), Response("b", attribute=None, edit="")],
    comparisons=[Comparison(0, 1, target=0.1, weight=1 / 3, margin=5e-324)],
    metadata={"int": 1, "float": 1.0, "bool": True, "text": "1", "big": 10**30},
)


@given(groups())
@example(EXACT)
def test_decoding_undoes_encoding(group):
    assert decode_group(encode_group(group)) == group


@given(groups())
@example(EXACT)
def test_storing_as_bytes_loses_nothing(group):
    stored = FEATURES.serialize_example(encode_group(group))
    restored = decode_group(FEATURES.deserialize_example_np(stored))
    assert restored == group
    # 1 == 1.0 == True in Python, but not in a report.
    assert [type(v) for v in restored.metadata.values()] == [type(group.metadata[k]) for k in restored.metadata]


@pytest.mark.skipif("tensorflow" in sys.modules, reason="another test imported TensorFlow")
def test_features_need_no_tensorflow():
    FEATURES.deserialize_example_np(FEATURES.serialize_example(encode_group(EXACT)))
    assert "tensorflow" not in sys.modules
