"""Hypothesis strategies that several tests draw from."""

from hypothesis import strategies as st

from crome_jax.groups import Comparison, Kind, Message, Origin, PreferenceGroup, Response

_characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(_characters, max_size=12)
full_texts = texts.filter(str.strip)
finite = st.floats(min_value=0, max_value=1e9)
scalars = st.one_of(texts, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
metadata = st.dictionaries(texts, scalars, max_size=3)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=8,
)


@st.composite
def groups(draw) -> PreferenceGroup:
    """Draw any valid group: no responses, unicode, every optional field present or absent."""
    answers = draw(st.lists(full_texts, max_size=4, unique=True))
    index = st.integers(0, max(0, len(answers) - 1))
    responses = tuple(
        Response(
            text,
            origin=draw(st.sampled_from(Origin)),
            parent=draw(st.none() | index),
            attribute=draw(st.none() | texts),
            edit=draw(st.none() | texts),
            metadata=draw(metadata),
        )
        for text in answers
    )
    sides = st.lists(index, min_size=2, max_size=2, unique=True)
    comparisons = [
        Comparison(
            *draw(sides),
            target=draw(st.floats(0, 1)),
            kind=draw(st.sampled_from(Kind)),
            weight=draw(finite),
            margin=draw(finite),
            attribute=draw(st.none() | texts),
        )
        for _ in range(draw(st.integers(0, 3)) if len(answers) > 1 else 0)
    ]
    earlier = draw(st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts), max_size=2))
    prompt = (*earlier, Message("user", draw(full_texts)))
    return PreferenceGroup(draw(full_texts), prompt, responses, tuple(comparisons), draw(metadata))
