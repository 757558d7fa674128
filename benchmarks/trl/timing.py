"""What a stretch of training took."""

from typing import NamedTuple


class Timing(NamedTuple):
    """What a stretch of training took, compilation apart.

    Args:
        seconds: on the clock.
        cpu: seconds that the process computed, over all cores: less moved by what else the machine does.
        pairs: comparisons that entered the loss.
        tokens: encoded; those of padding apart.
        padding: tokens of padding that went through the model.
    """

    seconds: float
    cpu: float
    pairs: int
    tokens: int
    padding: int
