"""A group through TFDS's features and back is the same group, to the bit."""

import subprocess
import sys

import pytest
from hypothesis import example, given
from strategies import groups
from tensorflow_datasets.proto import tf_example_pb2

from crome_jax.data.features import decode_group, encode_group, group_features, parse_group, same_bytes, serialize_group
from crome_jax.errors import DataError
from crome_jax.groups import Comparison, Response, build_group, to_json

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


@given(groups())
@example(EXACT)
def test_the_bytes_that_stand_for_a_group_are_those_of_tfds_and_read_like_any_other(group):
    stored = serialize_group(group)
    assert stored == same_bytes(FEATURES.serialize_example(encode_group(group)))
    assert to_json(parse_group(stored)) == to_json(group)
    assert decode_group(FEATURES.deserialize_example_np(stored)) == group


@pytest.mark.parametrize("damage", ["nothing", "no id", "too few", "not a number", "no protocol buffer"])
def test_bytes_that_are_no_group_are_refused(damage):
    example = tf_example_pb2.Example.FromString(b"" if damage == "nothing" else serialize_group(EXACT))
    if damage == "no id":
        del example.features.feature["id"]
    elif damage == "too few":
        del example.features.feature["responses/text"].bytes_list.value[1:]
    elif damage == "not a number":
        example.features.feature["comparisons/target"].bytes_list.value[0] = b"0.1"
    with pytest.raises(DataError, match="is no group"):
        parse_group(b"\xff\xff" if damage == "no protocol buffer" else example.SerializeToString())


def test_the_bytes_that_stand_for_a_group_are_the_same_in_every_process():
    code = (
        "from crome_jax.data.features import serialize_group\n"
        "from crome_jax.groups import from_json\n"
        f"print(serialize_group(from_json({to_json(EXACT)!r})).hex())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == serialize_group(EXACT).hex()


@pytest.mark.skipif("tensorflow" in sys.modules, reason="another test imported TensorFlow")
def test_features_need_no_tensorflow():
    FEATURES.deserialize_example_np(FEATURES.serialize_example(encode_group(EXACT)))
    assert "tensorflow" not in sys.modules
