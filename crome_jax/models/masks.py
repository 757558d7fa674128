"""Who attends to whom: one law, for single tokens and for blocks of them."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from crome_jax.batch import HEAD, Batch

_PADDING = jnp.iinfo(jnp.int32).max


class Places(NamedTuple):
    """What the law reads of tokens.

    Args:
        place: index in the row.
        position: as in Batch, from which windows are measured.
        group, response: ids as in Batch.
    """

    place: Int[Array, "B N"]
    position: Int[Array, "B N"]
    group: Int[Array, "B N"]
    response: Int[Array, "B N"]


def places_of(batch: Batch, at: Int[Array, "B N"] | None = None) -> Places:
    """Take what the law reads from a batch, of the tokens `at` or of all."""
    place = jnp.broadcast_to(jnp.arange(batch.tokens.shape[1], dtype=jnp.int32), batch.tokens.shape)
    every = Places(place, batch.positions, batch.group_ids, batch.response_ids)
    return every if at is None else Places(*(jnp.take_along_axis(ids, at, axis=1) for ids in every))


def may_attend(asks: Places, answers: Places, window: int | None = None) -> Bool[Array, "B Q T"]:
    """Build the mask of who attends (second axis) to whom (third).

    All but padding attend to the row's head. Padding attends to padding that came before it, so that no row of the
    softmax is empty and nothing becomes NaN.

    Args:
        window: how many positions back may be seen, the token itself included; None for all.
    """
    return sees(Places(*(x[:, :, None] for x in asks)), Places(*(x[:, None, :] for x in answers)), window)


def sees(asks: Places, answers: Places, window: int | None = None) -> Bool[Array, "*N"]:
    """Write the law of `may_attend` for ids of any shapes, broadcast against each other: a kernel's blocks, say."""
    mask = asks.place >= answers.place
    mask &= (asks.group == answers.group) | ((asks.group != 0) & (answers.group == HEAD))
    mask &= (answers.response == 0) | (asks.response == answers.response)
    if window is not None:
        mask &= asks.position - answers.position < window
    return mask


def mask_to_bias(mask: Bool[Array, "B Q T"]) -> Float[Array, "B Q T"]:
    """Return what is added to the logits: 0 where one may attend, the lowest finite number elsewhere.

    Made once for all layers: on a CPU, choosing by a mask within each layer takes longer than the softmax.
    """
    return jnp.where(mask, 0.0, jnp.finfo(jnp.float32).min)


def may_meet(places: Places, block: int, window: int | None = None) -> Bool[Array, "B I J"]:
    """Return which blocks of keys (third axis) hold a token that some token of a block of queries (second) may see.

    Of a block only the least and the greatest of each id are looked at: whoever may attend is among those who meet;
    now and then two blocks meet for nothing. So what it costs grows with the blocks' square, not the tokens'.

    Args:
        places: of all tokens of the rows; their number is a multiple of `block`.
    """
    cut = lambda ids: ids.reshape(ids.shape[0], -1, block)  # noqa: E731
    # Padding is group 0 and comes last: as the highest group it keeps the span of a block that it shares narrow.
    group = cut(jnp.where(places.group == 0, _PADDING, places.group))
    response, position = cut(places.response), cut(places.position)
    own = lambda missing: jnp.where(response > 0, response, missing)  # noqa: E731
    asks = lambda ids: ids[:, :, None]  # noqa: E731
    answers = lambda ids: ids[:, None, :]  # noqa: E731
    n = group.shape[1]
    meet = (jnp.arange(n)[:, None] >= jnp.arange(n)[None])[None]
    together = asks(group.max(-1)) >= answers(group.min(-1))
    together &= asks(group.min(-1)) <= answers(group.max(-1))
    meet &= together | (asks(group.min(-1) < _PADDING) & answers((group == HEAD).any(-1)))
    sisters = asks(own(0).max(-1)) >= answers(own(_PADDING).min(-1))
    sisters &= asks(own(_PADDING).min(-1)) <= answers(own(0).max(-1))
    meet &= answers((response == 0).any(-1)) | sisters
    if window is not None:
        meet &= asks(position.min(-1)) - answers(position.max(-1)) < window
    return meet


class Visits(NamedTuple):
    """For each block the others that it has to visit, first to last.

    Args:
        blocks: numbers of those blocks; from `counts` on, the last of them again, so that nothing is fetched for what
            is skipped.
        counts: how many there are.
    """

    blocks: Int[Array, "B I J"]
    counts: Int[Array, "B I"]


def visits_of(meet: Bool[Array, "B I J"]) -> Visits:
    """List the blocks of the third axis that each of the second meets."""
    counts = meet.sum(-1, dtype=jnp.int32)
    order = jnp.argsort(~meet, axis=-1, stable=True).astype(jnp.int32)
    nth = jnp.minimum(jnp.arange(meet.shape[-1])[None, None], jnp.maximum(counts - 1, 0)[:, :, None])
    return Visits(jnp.take_along_axis(order, nth, axis=-1), counts)
