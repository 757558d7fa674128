"""What the model says of a batch: everything an objective may read."""

from flax import struct
from jaxtyping import Array, Float, Int


@struct.dataclass
class Scored:
    """The scores of a batch's response slots, and what they were made of.

    Most objectives read `rewards` alone. What none reads is never computed: the step is compiled with its objective.

    Args:
        rewards: f32 [B, R]; nats, 0 in empty slots. What scoring gives out. Of Method.head = 'pairwise' the log-odds
            that the first of a slot's two answers is the better.
        features: [B, R, D]; the normed hidden state of each scored token, which the heads read.
        lengths: f32 [B, R]; tokens of each response, its end-of-turn token included, 0 in empty slots.
        length_rewards: f32 [B, R]; of the second head of Method.head = 'odin', None where there is no such head.
        heads_cosine: f32 []; cosine of the angle between the weights of the two heads, None likewise.
        step: i32 []; optimizer steps done, which schedules read; None outside training, where they stand at step 0.
    """

    rewards: Float[Array, "B R"]
    features: Float[Array, "B R D"] | None = None
    lengths: Float[Array, "B R"] | None = None
    length_rewards: Float[Array, "B R"] | None = None
    heads_cosine: Float[Array, ""] | None = None
    step: Int[Array, ""] | None = None
