"""Packed rows: everything the jitted step sees."""

from flax import struct
from jaxtyping import Array, Float, Int

ATTRIBUTES = 32
"""The most attributes that metrics tell apart: the same number for any data, so that one compiled step serves all."""


HEAD = -1
"""The group id of what all prompts of a row begin with, where it stands in the row once, before every group."""


@struct.dataclass
class Batch:
    """Rows of packed groups: B rows of T tokens, with R response and C comparison slots each.

    Token i attends to token j when j is not after i in the row, both are in the same group, and j belongs to the
    prompt or to i's own response. A row that is only scored may have a head: what all of its prompts begin with (a chat
    template's system turn), which tokens of every group attend to as well.

    Args:
        tokens: i32 [B, T].
        positions: i32 [B, T]; restart for every response at the length of its prompt, the row's head included.
        group_ids: i32 [B, T]; 0 = padding, HEAD = the row's head, else which group of the row, counted from 1.
        response_ids: i32 [B, T]; 0 = prompt token (shared), else which response of the row, counted from 1.
        response_ends: i32 [B, R]; index of the token whose hidden state is scored, -1 = empty slot.
        left, right: i32 [B, C]; response slots compared. A right of -1: the slot of left holds both answers, one after
            the other (see `data.pairs`), and left stands for the first of them.
        target: f32 [B, C]; probability that left is preferred, 0.5 for a tie.
        weight: f32 [B, C]; 0 = empty slot.
        margin: f32 [B, C]; how far the preferred reward should lead, in nats; of a tie it means nothing.
        kind: i32 [B, C]; a groups.Kind.
        hidden: [B, T, D] or None; the hidden states that enter the first trained layer, where they were computed
            ahead (the layers below are frozen, so they never change).
        attribute: i32 [B, C] or None; which attribute a causal comparison moves, from 1 to ATTRIBUTES, 0 = none. Only
            metrics read it: None where they are not wanted by attribute.
    """

    tokens: Int[Array, "B T"]
    positions: Int[Array, "B T"]
    group_ids: Int[Array, "B T"]
    response_ids: Int[Array, "B T"]
    response_ends: Int[Array, "B R"]
    left: Int[Array, "B C"]
    right: Int[Array, "B C"]
    target: Float[Array, "B C"]
    weight: Float[Array, "B C"]
    margin: Float[Array, "B C"]
    kind: Int[Array, "B C"]
    hidden: Float[Array, "B T D"] | None = None
    attribute: Int[Array, "B C"] | None = None


FIELDS = tuple(name for name in Batch.__dataclass_fields__ if name not in ("hidden", "attribute"))
"""The fields that decide what is learned and scored: every batch has them."""
