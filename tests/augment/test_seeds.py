from hypothesis import given
from hypothesis import strategies as st

from crome_jax.augment.seeds import derive_seed


def test_the_seed_is_the_same_in_every_process():
    # Pinned: another number would silently redraw every augmented data set.
    assert derive_seed(0, "pairs", "g1") == 1536006993207605874


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_neither_where_parts_end_nor_their_type_is_lost(parts):
    assert derive_seed(*parts, "") != derive_seed(*parts)
    assert derive_seed("".join(parts), "x") != derive_seed("".join(parts) + "x")
    assert derive_seed(1) != derive_seed("1")
